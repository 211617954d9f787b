"""Indexes in little memory: what they give and refuse, and that they come back from disk."""

from __future__ import annotations

import pickle
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import (
    Extents,
    FilesIndex,
    FormatError,
    LimitError,
    Limits,
    NameTable,
    RowsIndex,
    SpanIndex,
    WholeFileIndex,
)
from ipfs_dataset_core.testing import MemoryFile


def facts(index):
    spans = [(index.name(p), index.span(p)) for p in range(len(index))]
    assert list(index.spans_at(range(len(index)))) == [span for _, span in spans]
    return spans, {name: getattr(index, name) for name in ("a", "b", "c", "d")}


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
            st.integers(0, 2**40),
            st.integers(0, 2**40),
            st.integers(0, 2**64 - 1),
            st.integers(-(2**63), 2**63 - 1),
            st.floats(allow_nan=False),
        ),
        max_size=9,
    ),
    st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
def test_dumped_names_are_loaded_equal(rows, constant, one_name):
    names, starts, sizes, a, b, c = ([row[n] for row in rows] for n in range(6))
    stops = [start + size for start, size in zip(starts, sizes, strict=True)]
    columns: Any = {"a": a, "b": b, "c": c, "d": constant}
    index = SpanIndex("file" if one_name else names, starts, stops, **columns)
    expected = [f"file:{n}" for n in range(len(rows))] if one_name else names
    spans, found = facts(index)
    assert spans == list(zip(expected, zip(starts, stops, strict=True), strict=True))
    assert {k: list(v) if k != "d" else v for k, v in found.items()} == columns
    assert facts(SpanIndex.load(index.dump())) == facts(index)
    assert facts(pickle.loads(pickle.dumps(index))) == facts(index)


@given(st.binary(max_size=60), st.integers(0, 200), st.binary(max_size=3))
def test_other_bytes_are_at_most_a_value_error(noise, at, change):
    whole = SpanIndex(["a", "b"], [0, 1], [1, 2], kind=[3, 4]).dump()
    for data in (noise, whole[:at], whole[:at] + change + whole[at + len(change) :]):
        try:
            SpanIndex.load(data)
        except (ValueError, LimitError):
            continue


@pytest.mark.parametrize(
    ("starts", "stops", "columns", "words"),
    [
        ([0, 1], [1], {}, "2 starts of samples and 1 stops"),
        ([0], [1], {"x": [1, 2]}, "1 starts of samples and 2 x"),
        ([0, 9], [1, 8], {}, "sample 1 ends at byte 8, before it starts at 9"),
        ([-1], [1], {}, "not negative"),
    ],
)
def test_spans_that_cannot_be_are_a_format_error(starts, stops, columns, words):
    with pytest.raises(FormatError, match=words):
        SpanIndex("f", starts, stops, **columns)


def test_names_have_to_be_as_many():
    with pytest.raises(FormatError, match="1 starts of samples and 2 names"):
        SpanIndex(["a", "b"], [0], [1])


def test_a_column_cannot_hide_a_method():
    with pytest.raises(TypeError, match="'name' cannot be a column"):
        SpanIndex("f", [0], [1], name=[1])
    with pytest.raises(AttributeError, match="no 'colour'"):
        SpanIndex("f", [0], [1]).colour  # noqa: B018


def test_a_file_that_is_too_short_is_named():
    index = SpanIndex("f", [0, 5], [5, 20])
    index.check(MemoryFile(bytes(20)))
    with pytest.raises(
        FormatError, match=r"'object' has 19 bytes, and its sample 1 .* bytes 5 to 20"
    ):
        index.check(MemoryFile(bytes(19)))
    with pytest.raises(LimitError):
        index.check(MemoryFile(bytes(20), limits=Limits(members=1)))


def test_samples_that_are_called_as_their_file_are_renamed_with_it():
    index = SpanIndex("f", [0], [1], x=[7])
    other = index.renamed("g")
    assert (index.name(0), other.name(0), other.x[0]) == ("f:0", "g:0", 7)
    named = SpanIndex(["a"], [0], [1])
    assert named.renamed("g") is named


def test_arrays_are_taken_as_they_are():
    starts = array("Q", [0, 1])
    index = SpanIndex("f", starts, array("Q", [1, 2]))
    assert index._starts is starts
    with pytest.raises(IndexError):
        index.name(2)


CHUNKED = Extents(array("Q", [100, 300]), array("Q", [200, 350]), step=4)
FOLLOWING = Extents(array("Q", [1000]), array("Q", [1008]), width=8)


def test_a_whole_file():
    index = WholeFileIndex("a.h5", 77)
    assert (len(index), index.name(0), index.span(0)) == (1, "a.h5", (0, 77))
    with pytest.raises(IndexError):
        index.name(1)


def test_rows_that_share_a_chunk_that_follow_each_other_and_that_lie_anywhere():
    assert [CHUNKED.span(row) for row in (0, 3, 4, 7, 9)] == [(100, 200)] * 2 + [(300, 350)] * 3
    assert [FOLLOWING.span(row) for row in (0, 5)] == [(1000, 1008), (1040, 1048)]
    assert Extents().span(12) == (0, 0)


def test_rows_of_several_arrays():
    made = RowsIndex("a.h5", 9, {"x": FOLLOWING, "y": CHUNKED, "z": Extents()}, step=4)
    for index in (made, pickle.loads(pickle.dumps(made))):
        assert (len(index), index.step, index.arrays) == (9, 4, ["x", "y", "z"])
        assert index.name(8) == "a.h5:8"
        assert index.span(8) == (300, 350)
        with pytest.raises(IndexError):
            index.name(9)
    assert RowsIndex("a.h5", 0, {}, step=1).span(0) == (0, 0)


# Also what is not Unicode, as old archives have it.
names = st.lists(st.binary(max_size=6).map(lambda raw: raw.decode("utf-8", "surrogateescape")))


@given(names, st.data())
def test_a_table_is_the_list_of_its_names(listed, data):
    table = NameTable(listed)
    together = NameTable()
    together.extend_encoded([name.encode("utf-8", "surrogateescape") for name in listed])
    some = data.draw(st.lists(st.integers(0, len(listed) - 1))) if listed else []
    part = data.draw(st.slices(len(listed)))
    for same in (table, together):
        assert len(same) == len(listed)
        assert list(same) == listed
        assert list(same.at(some)) == [listed[position] for position in some]
        encoded = [len(listed[at].encode("utf-8", "surrogateescape")) for at in some]
        assert [same.encoded_size(position) for position in some] == encoded
        assert same[part] == listed[part]
        assert [same[-1 - position] for position in some] == [listed[-1 - at] for at in some]
        with pytest.raises(IndexError, match=f"of {len(listed)}"):
            same[len(listed)]


def test_too_many_names_are_refused():
    with pytest.raises(LimitError, match="3"):
        NameTable(["a", "b", "c"], limits=Limits(members=2))
    with pytest.raises(LimitError, match="6"):
        NameTable(limits=Limits(name_bytes=5)).extend_encoded([b"abc", b"def"])


def test_a_column_cannot_hide_a_method_of_a_base_class():
    class Own(SpanIndex):
        """An index of a format."""

    with pytest.raises(TypeError, match="'renamed' cannot be a column"):
        Own("f", [0], [1], renamed=1)


@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), st.integers(0, 9)),
        max_size=9,
    )
)
def test_files_of_a_directory_come_back_with_their_columns(rows):
    paths, labels = [path for path, _ in rows], [label for _, label in rows]
    made = FilesIndex(paths, labels=array("B", labels), width=3.5)
    for index in (made, FilesIndex.load(made.dump()), pickle.loads(pickle.dumps(made))):
        assert [index.name(p) for p in range(len(index))] == paths
        assert (list(index.labels), index.width) == (labels, 3.5)
        assert set(index.spans_at(range(len(index)))) <= {(0, 0)}
    part = made.part(1, len(rows))
    assert [part.name(p) for p in range(len(part))] == paths[1:]
    assert list(part.labels) == labels[1:]


@given(st.binary(max_size=60), st.integers(0, 200), st.binary(max_size=3))
def test_other_bytes_than_of_files_are_at_most_a_value_error(noise, at, change):
    whole = FilesIndex(["a", "b"], kind=[3, 4]).dump()
    for data in (noise, whole[:at], whole[:at] + change + whole[at + len(change) :]):
        try:
            FilesIndex.load(data)
        except (ValueError, LimitError):
            continue


def wrong(value: Any) -> Any:
    """Returns a value of a type that a type checker would refuse."""
    return value


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: FilesIndex(["a"], labels=[1, 2]), FormatError, "1 paths and 2 labels"),
        (lambda: FilesIndex("a.png"), TypeError, "a list of paths, not the text 'a.png'"),
        (lambda: FilesIndex(["a"], dump=[1]), TypeError, "'dump' cannot be a column"),
        (lambda: FilesIndex(["a"], kind=wrong(["cat"])), TypeError, "'kind' must be numbers"),
        (lambda: FilesIndex(["a"], kind=wrong(None)), TypeError, "'kind' must be numbers"),
        (lambda: FilesIndex(["a"], kind=[2**64]), FormatError, "'kind' has numbers of more"),
        (lambda: SpanIndex("f", wrong([0.5]), [1]), TypeError, "the starts of samples must be positions"),
        (lambda: SpanIndex("f", [0], wrong(["1"])), TypeError, "the stops of samples must be positions"),
        (lambda: SpanIndex("f", [0], [2**64]), FormatError, "stops of samples must be byte"),
    ],
)  # fmt: skip
def test_what_is_no_index_is_named(make, error, words):
    with pytest.raises(error, match=words):
        make()
