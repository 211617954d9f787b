"""Archives that consist of the same blocks again and again are refused; all others are read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ipfs_dataset_core import LimitError, Limits, TransportTimeoutError
from ipfs_dataset_core.runtime.deadlines import working
from ipfs_dataset_plugins.archives.repetition import RepetitionCheck

# The number of entries after which a block is looked at.
PROBE = 4096


def check_of(block_at, **limits):
    return RepetitionCheck(SimpleNamespace(name="x.tar", block_at=block_at), Limits(**limits))


def add_probes(check, count):
    for number in range(count):
        check.add(PROBE, number)


def test_an_archive_of_different_blocks_is_read_whatever_its_size():
    add_probes(check_of(lambda position: b"%d" % position, repeated_entries=1), 5000)


def test_a_file_with_unknown_blocks_is_read():
    add_probes(check_of(lambda position: None, repeated_entries=1), 5000)


@pytest.mark.parametrize("probes", [1, 10, 1000])
def test_entries_in_a_block_with_earlier_ones_are_allowed_up_to_the_limit(probes):
    check = check_of(lambda position: b"same", repeated_entries=max(16, probes) * PROBE)
    add_probes(check, max(16, probes) + 1)
    with pytest.raises(LimitError) as caught:
        add_probes(check, 1)
    message = str(caught.value)
    assert "'x.tar' consists of the same blocks" in message
    assert f"more than the limit of {max(16, probes) * PROBE}" in message
    assert "limits=Limits(repeated_entries=…)" in message


def test_the_message_counts_members_and_repeated_ones():
    check = check_of(lambda position: b"same", repeated_entries=20 * PROBE)
    with pytest.raises(LimitError, match=f"about {21 * PROBE} of its first {22 * PROBE} members"):
        add_probes(check, 30)


@pytest.mark.parametrize(("distinct_every", "refused"), [(15, False), (16, False), (17, True)])
def test_one_new_block_in_sixteen_probes_is_enough(distinct_every, refused):
    check = check_of(lambda position: b"%d" % (position // distinct_every), repeated_entries=1)
    if refused:
        with pytest.raises(LimitError):
            add_probes(check, 1000)
    else:
        add_probes(check, 1000)


def test_blocks_are_looked_at_once_in_4096_entries_however_they_are_counted():
    looked = []

    def block_at(position):
        looked.append(position)
        return b"%d" % position

    check = check_of(block_at)
    for position in range(3 * PROBE):
        check.add(1, position)
    assert looked == [PROBE - 1, 2 * PROBE - 1, 3 * PROBE - 1]
    check.add(10 * PROBE, 1_000_000)
    assert looked[3:] == [1_000_000]
    check.add(PROBE - 1, 1_000_001)
    assert looked[4:] == []
    check.add(1, 1_000_002)
    assert looked[4:] == [1_000_002]


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds that deadlines use, which a test sets."""
    now = SimpleNamespace(seconds=0.0)
    fake = SimpleNamespace(monotonic=lambda: now.seconds)
    monkeypatch.setattr("ipfs_dataset_core.runtime.deadlines.time", fake)
    return now


def test_repeated_blocks_end_with_the_deadline(clock):
    check = check_of(lambda position: b"same")
    with working(60, "'x.tar'"):
        add_probes(check, 1)
        clock.seconds = 59
        add_probes(check, 1)
        clock.seconds = 61
        with pytest.raises(TransportTimeoutError, match="without reaching new data"):
            add_probes(check, 1)


def test_a_new_block_starts_the_deadline_again(clock):
    blocks = iter([b"1", b"2", b"2", b"2"])
    check = check_of(lambda position: next(blocks))
    with working(60, "'x.tar'"):
        add_probes(check, 1)
        clock.seconds = 100
        add_probes(check, 1)
        clock.seconds = 159
        add_probes(check, 1)
        clock.seconds = 161
        with pytest.raises(TransportTimeoutError):
            add_probes(check, 1)
