"""What every transport has to do, as tests; see docs/how-to/add-a-transport.md."""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING, ClassVar

import pytest

from ipfs_dataset_core.addresses import address_scheme
from ipfs_dataset_core.content import RAW, FileBuilder, get_profile, make_cid, verify
from ipfs_dataset_core.errors import ObjectNotFoundError, TransportError
from ipfs_dataset_core.interfaces import Transport
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.registry import resolve_factory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core.content import CID
    from ipfs_dataset_core.interfaces import TransportPlugin

_FILE = bytes(range(256)) * 4096 * 5
_ABSENT = make_cid(b"a block that nobody has", RAW)


def example_blocks() -> tuple[CID, dict[CID, bytes]]:
    """Returns a file of 5 MiB and all its blocks: what a transport under test has to serve."""
    blocks: dict[CID, bytes] = {}
    builder = FileBuilder(get_profile("unixfs-v1-2025"), blocks.__setitem__)
    for start in range(0, len(_FILE), 1 << 20):
        builder.write(_FILE[start : start + (1 << 20)] + start.to_bytes(4, "big"))
    return builder.finish().cid, blocks


class TransportContract:
    """The contract of a transport. Inherit it, and override the fixtures `plugin` and `address`.

    Attributes:
        options: What the transport is made with.
    """

    options: ClassVar[Options] = Options(timeout=10)

    @pytest.fixture
    def plugin(self) -> TransportPlugin:
        """The transport's declaration."""
        raise NotImplementedError("override the fixture `plugin`: return your TransportPlugin")

    @pytest.fixture
    def address(self) -> str:
        """The address of a source that has the blocks of `example_blocks`."""
        raise NotImplementedError("override the fixture `address`: serve example_blocks() there")

    @pytest.fixture
    def transport(self, plugin: TransportPlugin, address: str) -> Iterator[Transport]:
        """The transport at the address."""
        transport = resolve_factory(plugin)(address, self.options)
        assert isinstance(transport, Transport), "the factory makes a Transport"
        yield transport
        transport.close()

    def test_the_declaration_travels_to_workers(
        self, plugin: TransportPlugin, address: str
    ) -> None:
        assert pickle.loads(pickle.dumps(plugin)) == plugin  # noqa: S301 - our own bytes
        assert address_scheme(address) in plugin.schemes

    def test_it_has_a_name_for_messages(self, transport: Transport) -> None:
        assert transport.name
        assert transport.concurrency >= 1

    def test_blocks_are_those_of_their_cids(self, transport: Transport) -> None:
        _, blocks = example_blocks()
        for cid, block in blocks.items():
            assert transport.get_block(cid) == block

    def test_a_block_that_is_not_there_is_not_found(self, transport: Transport) -> None:
        with pytest.raises(ObjectNotFoundError, match=str(_ABSENT)):
            transport.get_block(_ABSENT)

    def test_threads_share_it(self, transport: Transport) -> None:
        _, blocks = example_blocks()
        wrong: list[CID] = []

        def read() -> None:
            wrong.extend(cid for cid, block in blocks.items() if transport.get_block(cid) != block)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_ranges_are_plain_bytes_of_the_file(self, transport: Transport) -> None:
        if not transport.serves_ranges:
            pytest.skip("it serves no ranges")
        root, blocks = example_blocks()
        whole = b"".join(block for cid, block in blocks.items() if cid.codec == RAW)
        for start, stop in (
            (0, 1),
            (0, len(whole)),
            (1_000_000, 3_000_000),
            (len(whole) - 1, len(whole)),
        ):
            stream = transport.open_range(root, start, stop)
            try:
                found = b"".join(iter(lambda: stream.read(300_000), b""))  # noqa: B023 - used at once
            finally:
                stream.close()
            assert found == whole[start:stop]

    def test_cars_hold_the_blocks_of_the_dag(self, transport: Transport) -> None:
        if not transport.serves_cars:
            pytest.skip("it serves no CARs")
        root, blocks = example_blocks()
        found = {}
        for cid, block in transport.read_car(root):
            verify(cid, block)
            found[cid] = block
        assert found == blocks

    def test_what_is_put_can_be_read_and_pinned(self, transport: Transport) -> None:
        if not transport.writable:
            pytest.skip("it only reads")
        blocks = [(make_cid(data, RAW), data) for data in (b"one", b"two" * 1000)]
        transport.put_blocks(iter(blocks))
        transport.put_blocks(blocks)
        for cid, block in blocks:
            assert transport.get_block(cid) == block
            transport.pin(cid)
            transport.pin(cid)

    def test_nothing_incomplete_is_pinned(self, transport: Transport) -> None:
        if not transport.writable:
            pytest.skip("it only reads")
        with pytest.raises(TransportError):
            transport.pin(_ABSENT)

    def test_closing_twice_is_no_error(self, plugin: TransportPlugin, address: str) -> None:
        transport = resolve_factory(plugin)(address, self.options)
        transport.close()
        transport.close()
