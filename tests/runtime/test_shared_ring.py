"""The ring between processes: what arrives is what was written, whatever the order and the room."""

from __future__ import annotations

import errno
import gc
import os
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.runtime import shared_ring
from ipfs_dataset_core.runtime.shared_ring import RingWriter, open_ring, read_message

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create"), reason="rings need memfd_create, which Linux has"
)


@pytest.fixture(autouse=True, scope="module")
def _closed():
    yield
    shared_ring._close_all(dead_only=False)


def through(ring: RingWriter, parts: list[bytes]) -> list[bytes]:
    """Returns the parts of a message as they arrive."""
    start = ring.write(parts)
    assert start is not None
    return read_message(ring.address, start, [len(part) for part in parts])


@pytest.fixture
def ring():
    return RingWriter(10_000)


def test_a_message_arrives_in_its_parts(ring):
    parts = [b"one", b"", b"three"]
    assert through(ring, parts) == parts


def test_a_message_of_large_parts_arrives():
    ring = RingWriter(1 << 20)
    parts = [os.urandom(100_000), os.urandom(200_001)]
    assert through(ring, parts) == parts


def test_a_message_of_more_parts_than_a_system_call_takes_arrives():
    ring = RingWriter(1 << 20)
    parts = [b"%d" % number for number in range(5000)]
    assert through(ring, parts) == parts


def test_a_full_ring_has_no_room_until_messages_are_read(ring):
    first, second = ring.write([b"a" * 4000]), ring.write([b"b" * 4000])
    assert ring.write([b"c" * 4000]) is None
    read_message(ring.address, first, [4000])
    third = ring.write([b"c" * 3000])
    assert third is not None
    assert read_message(ring.address, second, [4000]) == [b"b" * 4000]
    assert read_message(ring.address, third, [3000]) == [b"c" * 3000]


def test_what_is_larger_than_the_ring_is_not_written(ring):
    assert ring.write([b"a" * 10_000]) is None
    assert ring.write([b"a"]) is not None


def test_messages_may_be_read_in_any_order(ring):
    starts = [ring.write([b"%d" % number * 100]) for number in range(9)]
    for number in (4, 0, 8, 1, 2, 3, 7, 5, 6):
        assert read_message(ring.address, starts[number], [100]) == [b"%d" % number * 100]


@given(
    st.lists(st.one_of(st.integers(0, 400), st.just("read"), st.just("read last")), max_size=60),
    st.integers(300, 1200),
)
def test_nothing_unread_is_ever_overwritten(steps, capacity):
    ring = RingWriter(capacity)
    unread: deque[tuple[int, bytes]] = deque()
    for number, step in enumerate(steps):
        if isinstance(step, int):
            data = bytes([number]) * step
            start = ring.write([data])
            if start is not None:
                unread.append((start, data))
            elif not unread:
                assert step + 64 > capacity
        elif unread:
            start, data = unread.popleft() if step == "read" else unread.pop()
            assert read_message(ring.address, start, [len(data)]) == [data]
    for start, data in unread:
        assert read_message(ring.address, start, [len(data)]) == [data]


def test_the_writer_is_notified_that_the_ring_was_opened(ring):
    assert not ring.is_open
    assert open_ring(ring.address)
    assert ring.is_open


def test_another_file_under_the_same_number_is_not_opened(ring):
    process, descriptor, _ = ring.address
    assert not open_ring((process, descriptor, b"another identity"))
    assert not open_ring((process, 10_000, b"no file at all.."))


def test_a_ring_whose_process_has_ended_cannot_be_read():
    with os.fdopen(os.dup(0)) as other:
        gone = (2**22 + 1, other.fileno(), bytes(16))
    assert not open_ring(gone)
    with pytest.raises(ConnectionResetError, match="process 4194305 ended before"):
        read_message(gone, 4096, [5])


def test_a_ring_has_no_room_if_memory_is_exhausted(ring, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    assert ring.write([b"abc"]) is None
    monkeypatch.undo()
    assert through(ring, [b"abc"]) == [b"abc"]


def test_partial_writes_are_completed(ring, monkeypatch):
    whole = os.pwritev
    monkeypatch.setattr(
        os, "pwritev", lambda file, parts, at: whole(file, [b"".join(parts)[:70]], at)
    )
    parts = [b"abcdefghij", b"klm"]
    assert through(ring, parts) == parts


def test_closing_a_ring_frees_its_memory():
    ring = RingWriter(1 << 20)
    ring.write([bytes(500_000)])
    assert open_ring(ring.address)
    file = shared_ring._file(ring.address)
    assert os.fstat(file).st_size > 500_000
    del ring
    gc.collect()
    assert os.fstat(file).st_size == 0
