"""The cache against a plain model of least-recently-used."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.reading.single_flight import BytesCache

BUDGET = 20
keys = st.integers(0, 6).map(lambda number: bytes([number]))
operations = st.lists(
    st.one_of(
        st.tuples(st.just("get"), keys),
        st.tuples(st.just("put"), keys, st.integers(0, BUDGET + 3)),
    ),
    max_size=60,
)


class Model:
    """The oldest first, in a list."""

    def __init__(self):
        self.pairs = []

    def get(self, key):
        for pair in self.pairs:
            if pair[0] == key:
                self.pairs.remove(pair)
                self.pairs.append(pair)
                return pair[1]
        return None

    def put(self, key, value):
        if len(value) > BUDGET:
            return
        self.pairs = [pair for pair in self.pairs if pair[0] != key]
        self.pairs.append((key, value))
        while sum(len(value) for _, value in self.pairs) > BUDGET:
            del self.pairs[0]


@given(operations)
def test_the_values_used_last_are_kept_within_the_budget(steps):
    cache, model = BytesCache(BUDGET), Model()
    for number, (action, key, *size) in enumerate(steps):
        if action == "get":
            assert cache.get(key) == model.get(key)
        else:
            value = bytes([number]) * size[0]
            cache.put(key, value)
            model.put(key, value)
        kept = dict(model.pairs)
        assert len(cache) == len(kept)
        assert all((key in cache) == (key in kept) for key in map(bytes, zip(range(7))))
        assert cache._used == sum(map(len, kept.values())) <= BUDGET


def test_an_empty_value_is_a_value():
    cache = BytesCache(1)
    cache.put(b"k", b"")
    assert cache.get(b"k") == b""


def test_threads_do_not_confuse_its_budget():
    cache = BytesCache(100)

    def work(seed):
        for step in range(2000):
            cache.put(bytes([seed * step % 31]), bytes(step % 40))
            cache.get(bytes([step % 31]))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache._used == sum(map(len, cache._values.values())) <= 100
