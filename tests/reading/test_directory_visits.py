"""The limits of a walk: entries of every path count, and repeated directories count as repeated."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import LimitError
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.reading.directory_visits import KnownEntry, Visits

MANY = 10**15
# Entries that a walk may have in addition to two for each member.
MORE = 1024
# Entries of directories that are kept, and of the largest directory that is.
KEPT = 1 << 16
LARGEST_KEPT = KEPT // 8


def walk(visits, directories, number=0):
    """Walks directories as `Directory` does: each has a number of files and a list of directories."""
    files, below = directories[number]
    visits.enter(number, files + len(below))
    for child in below:
        walk(visits, directories, child)
    visits.leave(number)


def entries_of_all_paths(directories):
    @cache
    def entries(number):
        files, below = directories[number]
        return files + len(below) + sum(map(entries, below))

    return entries(0)


def entries_of_reachable(directories):
    reachable, waiting = {0}, [0]
    while waiting:
        for child in directories[waiting.pop()][1]:
            if child not in reachable:
                reachable.add(child)
                waiting.append(child)
    return sum(directories[number][0] + len(directories[number][1]) for number in reachable)


@st.composite
def acyclic(draw):
    """Draws up to seven directories that only contain later ones, as CIDs require."""
    size = draw(st.integers(1, 7))
    return [
        (
            draw(st.integers(0, 2000)),
            draw(st.lists(st.integers(number + 1, size - 1), max_size=3))
            if number + 1 < size
            else [],
        )
        for number in range(size)
    ]


@given(acyclic())
def test_entries_are_counted_once_for_each_path_that_leads_to_them(directories):
    paths = entries_of_all_paths(directories)
    allowed = max(1, -(-(paths - MORE) // 2))
    walk(Visits(Limits(members=allowed, repeated_entries=MANY), "x"), directories)
    if allowed > 1:
        too_few = Visits(Limits(members=allowed - 1, repeated_entries=MANY), "x")
        with pytest.raises(LimitError, match="too many for the limit of"):
            walk(too_few, directories)


@given(acyclic())
def test_entries_below_a_directory_count_as_repeated_on_each_further_visit(directories):
    distinct = entries_of_reachable(directories)
    repeated = entries_of_all_paths(directories) - distinct
    walk(Visits(Limits(members=MANY, repeated_entries=max(1, repeated)), "x"), directories)
    # Sixteen repeated entries per distinct one are allowed in any case.
    if repeated > 16 * distinct:
        visits = Visits(Limits(members=MANY, repeated_entries=repeated - 1), "x")
        with pytest.raises(LimitError, match="again and again"):
            walk(visits, directories)


def test_few_directories_with_more_paths_than_can_be_walked_are_refused():
    directories = [(0, [number + 1] * 2) for number in range(60)] + [(1, [])]
    entered = 0

    class Counting(Visits):
        def enter(self, directory, entries):
            nonlocal entered
            entered += 1
            return super().enter(directory, entries)

    limits = Limits(repeated_entries=10_000)
    with pytest.raises(LimitError, match="again and again") as caught:
        walk(Counting(limits, "ipfs://x"), directories)
    assert "'ipfs://x'" in str(caught.value)
    assert "limits=Limits(repeated_entries=…)" in str(caught.value)
    assert entered < 100_000


@pytest.mark.parametrize(("repeats", "refused"), [(16, False), (17, True)])
def test_sixteen_repeated_entries_for_each_distinct_one_are_always_allowed(repeats, refused):
    visits = Visits(Limits(members=MANY, repeated_entries=1), "x")
    visits.enter("root", 0)
    visits.enter("a", 100)
    visits.leave("a")
    for _ in range(16):
        visits.enter("a", 100)
        visits.leave("a")
    if refused:
        with pytest.raises(LimitError, match="1700 entries are below directories"):
            visits.enter("a", 100)


def test_more_repeated_entries_are_allowed_up_to_the_limit():
    visits = Visits(Limits(members=MANY, repeated_entries=2000), "x")
    visits.enter("root", 0)
    for _ in range(21):
        visits.enter("a", 100)
        visits.leave("a")
    with pytest.raises(LimitError, match=r"2100 entries .*, and the limit is 2000"):
        visits.enter("a", 100)


def test_enter_returns_whether_a_directory_is_new():
    visits = Visits(Limits(), "x")
    assert visits.enter("root", 2)
    assert visits.enter("a", 1)
    visits.leave("a")
    assert not visits.enter("a", 1)
    visits.leave("a")
    visits.leave("root")


def test_a_new_directory_after_a_repeated_one_is_counted_again():
    visits = Visits(Limits(members=1), "x")
    visits.enter("root", 0)
    visits.enter("a", 1)
    visits.leave("a")
    visits.enter("a", 1)
    visits.leave("a")
    visits.enter("b", MORE)
    visits.leave("b")
    with pytest.raises(LimitError, match="more than 1026 entries"):
        visits.enter("c", 1)


def test_entries_of_a_large_directory_are_counted_while_they_are_listed():
    visits = Visits(Limits(members=10), "x")
    visits.enter("root", 0)
    listed = visits.counted(iter(range(MANY)))
    for number in range(2 * 10 + MORE):
        assert next(listed) == number
    with pytest.raises(LimitError, match="too many for the limit of 10 members"):
        next(listed)


def test_entries_that_were_counted_while_listed_are_repeated_on_the_next_visit():
    visits = Visits(Limits(members=MANY, repeated_entries=1), "x")
    visits.enter("root", 0)
    visits.enter("large", 0)
    list(visits.counted(range(100)))
    visits.leave("large")
    for _ in range(16):
        visits.enter("large", 0)
        visits.leave("large")
    with pytest.raises(LimitError, match="1700 entries are below directories"):
        visits.enter("large", 0)


def test_the_characters_of_all_paths_are_limited_together():
    visits = Visits(Limits(name_bytes=10), "x")
    visits.path("a/bcd")
    visits.path("efghi")
    with pytest.raises(LimitError, match="name_bytes"):
        visits.path("j")


def entries_named(name, count):
    return [KnownEntry(f"{name}{n}", make_cid(b"", RAW), "file", 0) for n in range(count)]


def directory(number):
    return make_cid(b"%d" % number, RAW)


def test_entries_of_a_directory_are_kept():
    visits = Visits(Limits(), "x")
    entries = entries_named("a", 3)
    assert visits.known(directory(0)) is None
    visits.keep(directory(0), entries)
    assert visits.known(directory(0)) == entries
    assert visits.known(directory(1)) is None


def test_a_directory_with_too_many_entries_is_not_kept():
    visits = Visits(Limits(), "x")
    for number, count in enumerate((LARGEST_KEPT, LARGEST_KEPT + 1)):
        visits.keep(directory(number), entries_named("a", count))
    assert visits.known(directory(0)) is not None
    assert visits.known(directory(1)) is None


def test_the_directory_that_was_needed_last_is_kept_longest():
    visits = Visits(Limits(), "x")
    size = LARGEST_KEPT - 1  # one more is counted for each directory
    for number in range(8):
        visits.keep(directory(number), entries_named("a", size))
    assert all(visits.known(directory(number)) for number in range(8))
    assert visits.known(directory(0))
    visits.keep(directory(8), entries_named("a", size))
    assert visits.known(directory(1)) is None
    assert all(visits.known(directory(number)) for number in (0, 2, 3, 4, 5, 6, 7, 8))


def test_keeping_a_directory_twice_takes_no_more_room():
    visits = Visits(Limits(), "x")
    for _ in range(20):
        visits.keep(directory(0), entries_named("a", LARGEST_KEPT))
    visits.keep(directory(1), entries_named("b", LARGEST_KEPT))
    assert visits.known(directory(0))
    assert visits.known(directory(1))


def test_empty_directories_take_room_too():
    visits = Visits(Limits(), "x")
    for number in range(KEPT + 1):
        visits.keep(directory(number), [])
    assert visits.known(directory(0)) is None
    assert visits.known(directory(1)) == []
