"""Tables of names against the lists that they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import LimitError, Limits, NameTable

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
