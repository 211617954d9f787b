"""The files, directories and the transport in memory behave like real ones, and record how they are used."""

from __future__ import annotations

import pytest

from ipfs_dataset_core import CID, Limits, ObjectNotFoundError
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.testing import (
    MemoryDirectory,
    MemoryFile,
    MemoryTransport,
    TransportContract,
)
from ipfs_dataset_core.testing.transports import example_blocks
from tests.support.builders import noise, tree

FILES = {"b.txt": b"b", "a/2": noise(3_000_000), "a/1": b"", "a-b/1": b"1"}


def test_a_file_of_bytes_records_the_spans_that_are_read():
    file = MemoryFile(b"0123456789")
    assert file.read_at(2, 3) == b"234"
    assert file.read_at(8, 5) == b"89"
    assert file.read_at(20, 1) == b""
    assert file.reads == [(2, 5), (8, 10), (10, 10)]
    assert file.bytes_read == 5


def test_a_file_of_a_function_computes_only_the_bytes_that_are_read():
    computed = []

    def compute(start, stop):
        computed.append((start, stop))
        return bytes(range(start, stop))

    file = MemoryFile(compute, size=100)
    assert file.read_at(97, 10) == b"abc"
    assert computed == [(97, 100)]


def test_a_file_of_a_function_needs_a_size():
    with pytest.raises(ValueError, match="give `size`"):
        MemoryFile(lambda start, stop: bytes(stop - start))


def test_a_file_records_prefetch_hints_without_reading():
    file = MemoryFile(b"0123456789")
    file.prefetch([(0, 2), (4, 6)])
    file.prefetch(iter([(8, 9)]))
    assert file.hints == [(0, 2), (4, 6), (8, 9)]
    assert file.reads == []


def test_a_directory_lists_paths_sorted_by_their_parts():
    directory = MemoryDirectory(FILES)
    assert directory.names() == ["a", "a-b", "b.txt"]
    assert list(directory.walk()) == ["a/1", "a/2", "a-b/1", "b.txt"]


def test_a_directory_contains_its_files_and_their_parents_only():
    directory = MemoryDirectory(FILES)
    assert all(directory.contains(path) for path in (*FILES, "a", "a-b"))
    assert not any(directory.contains(path) for path in ("a/", "a/3", "b", "b.txt/1"))


def test_the_declared_size_of_a_missing_file_is_unknown():
    sizes = MemoryDirectory(FILES).declared_sizes(["a/2", "a/3", "a/1"])
    assert list(sizes) == [3_000_000, None, 0]


def test_opening_a_missing_file_names_the_directory_and_the_path():
    with pytest.raises(ObjectNotFoundError, match=r"'data' has no 'a/3'"):
        MemoryDirectory(FILES, "data").open("a/3")


def test_files_of_a_directory_have_its_limits():
    limits = Limits(member_bytes=5)
    assert MemoryDirectory(FILES, limits=limits).open("b.txt").limits == limits


def test_a_file_that_was_closed_can_be_opened_again_and_keeps_its_record():
    directory = MemoryDirectory(FILES)
    with directory.open("b.txt") as file:
        file.read_at(0, 1)
    with directory.open("b.txt") as file:
        assert file.read() == b"b"
    assert directory.opened["b.txt"].reads == [(0, 1), (0, 1)]


def test_a_transport_returns_the_directory_of_a_root_with_all_contents():
    root, blocks = tree(FILES)
    transport = MemoryTransport()
    transport.blocks.update(blocks)
    for name in (root, str(root)):
        directory = transport.directory(name)
        assert directory.files == FILES
        assert directory.cid == root
        assert directory.name == f"ipfs://{root}"


def test_a_transport_records_what_is_stored_pinned_and_closed():
    transport = MemoryTransport()
    blocks = [(make_cid(data, RAW), data) for data in (b"12", b"345")]
    (first, _), (second, _) = blocks
    transport.put_blocks(iter(blocks))
    assert transport.put_bytes == [5]
    transport.pin(first, name="one")
    transport.pin_blocks([second])
    transport.pin(first, name="two")
    assert transport.pinned == [first, second, first]
    assert [(pin.cid, pin.name) for pin in transport.pins()] == [
        (first, "two"),
        (second, ""),
        (first, "two"),
    ]
    transport.unpin(first)
    assert transport.pinned == [second]
    with pytest.raises(ObjectNotFoundError, match=f"{first} is not pinned"):
        transport.unpin(first)
    transport.close()
    assert transport.closed


def test_blocks_are_found_by_both_versions_of_a_cid():
    root, blocks = example_blocks()
    transport = MemoryTransport()
    transport.put_blocks(blocks.items())
    assert transport.get_block(CID(0, root.codec, root.multihash)) == blocks[root]


class OpenedMemory(MemoryTransport):
    """A transport in memory that is opened by an address and has the blocks of the contract."""

    schemes = ("memory",)

    def __init__(self, *_):
        super().__init__()
        self.put_blocks(example_blocks()[1].items())


class TestMemoryTransport(TransportContract):
    @pytest.fixture
    def plugin(self):
        return OpenedMemory

    @pytest.fixture
    def address(self):
        return "memory://"
