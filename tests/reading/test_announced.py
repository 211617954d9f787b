"""Files that will be opened: each is asked for once, in order, and not more of them than memory holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.ipld.directory import DirectoryEntry
from ipfs_dataset_core.reading.announced import PrefetchQueue


def entry(number, size):
    return DirectoryEntry(f"{number}", make_cid(b"%d" % number, RAW), size)


@given(
    st.lists(st.integers(0, 100), max_size=40),
    st.integers(0, 300),
    st.integers(1, 9),
    st.integers(1, 9),
    st.data(),
)
def test_all_come_in_order_as_those_before_are_opened(sizes, budget, step, most, data):
    announced = PrefetchQueue(budget)
    entries = [entry(number, size) for number, size in enumerate(sizes)]
    asked = []
    for position, each in enumerate(entries):
        if position % step == 0:
            announced.add((e.name, e) for e in entries[position : position + step])
            asked += announced.next_batch(most)
        assert each.name in announced
        assert announced.take(each.name) == each
        asked += announced.next_batch(most)
        underway = sum(e.tsize for e in asked[position + 1 :])
        assert underway <= budget + max(sizes)
        assert len(asked) - position - 1 <= most
    assert asked == entries
    assert announced.take(data.draw(st.sampled_from(["0", "other"]))) is None


def test_a_reader_that_has_gone_elsewhere_is_forgotten():
    announced, most = PrefetchQueue(1000), 9
    announced.add((f"a{number}", entry(number, 900)) for number in range(5000))
    assert len(announced.next_batch(most)) == 2
    announced.add([("b", entry(1, 5))])
    assert "a1" not in announced
    assert announced.take("a1") is None
    assert [found.tsize for found in announced.next_batch(most)] == [5]
    assert announced.take("b") == entry(1, 5)
