"""The contract of transports as a test suite; see docs/how-to/add-a-transport.md."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

import pytest

from ipfs_dataset_core.addressing.sources import address_scheme
from ipfs_dataset_core.errors import ObjectNotFoundError, TransportError
from ipfs_dataset_core.interfaces import Transport, TransportPlugin
from ipfs_dataset_core.ipld import CID, RAW, FileBuilder, get_profile, make_cid, verify
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.registry.lookup import resolve_factory
from ipfs_dataset_core.testing.checks import Checks, described

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE = bytes(range(256)) * 4096 * 5
_ABSENT = make_cid(b"a block that is stored nowhere", RAW)
_checks = Checks("docs/how-to/add-a-transport.md#test-it")


def example_blocks() -> tuple[CID, dict[CID, bytes]]:
    """Returns the CID and the blocks of a file of 5 MiB, which a transport under test must serve."""
    starts = range(0, len(_FILE), 1 << 20)
    return _file_of(b"".join(_FILE[at : at + (1 << 20)] + at.to_bytes(4, "big") for at in starts))


def _file_of(data: bytes) -> tuple[CID, dict[CID, bytes]]:
    blocks: dict[CID, bytes] = {}
    builder = FileBuilder(get_profile("unixfs-v1-2025"), blocks.__setitem__)
    builder.write(data)
    return builder.finish().cid, blocks


class TransportContract:
    """The contract of a transport. Inherit from it, and override the fixtures `plugin` and `address`.

    Attributes:
        options: Options with which the transport is created.
    """

    options: ClassVar[Options] = Options(timeout=10)

    @pytest.fixture
    def plugin(self) -> TransportPlugin | type[Transport]:
        """The transport's declaration: a TransportPlugin, or the class if that declares itself."""
        raise NotImplementedError(
            "override the fixture `plugin`: return your subclass of Transport, or your TransportPlugin"
        )

    @pytest.fixture
    def declared(self, plugin: TransportPlugin | type[Transport]) -> TransportPlugin:
        """The declaration given by `plugin`."""
        return _checks.declaration(plugin, Transport, TransportPlugin)

    @pytest.fixture
    def address(self) -> str:
        """The address of a source that has the blocks of `example_blocks`."""
        raise NotImplementedError(
            "override the fixture `address`: return the address of a source with the blocks of "
            "example_blocks()"
        )

    @pytest.fixture
    def transport(self, declared: TransportPlugin, address: str) -> Iterator[Transport]:
        """The transport for the address."""
        transport: object = resolve_factory(declared)(address, self.options)
        if not isinstance(transport, Transport):
            _checks.fail(
                f"The factory must return an ipfs_dataset_core.Transport, but it returned {transport!r:.200}"
            )
        yield transport
        transport.close()

    def test_declaration_can_be_pickled(self, declared: TransportPlugin) -> None:
        _checks.declaration_can_be_pickled(declared)

    def test_schemes_contain_the_scheme_of_the_address(
        self, declared: TransportPlugin, address: str
    ) -> None:
        scheme = address_scheme(address)
        _checks.require(
            scheme in declared.schemes,
            f"`schemes` must contain {scheme!r}, the scheme of {address!r}, but it is {declared.schemes}",
        )

    def test_name_and_concurrency_are_valid(self, transport: Transport) -> None:
        name = getattr(transport, "name", None)
        _checks.require(
            name and isinstance(name, str),
            f"`name` must be a text that is not empty, but it is {name!r}",
        )
        _checks.require(
            transport.concurrency >= 1,
            f"`concurrency` must be at least 1, but it is {transport.concurrency!r}",
        )

    def test_facts_are_texts_and_parts_are_transports(self, transport: Transport) -> None:
        with _checks.raises_nothing("`facts` and `parts`"):
            facts, parts = dict(transport.facts()), list(transport.parts())
        texts = [*facts, *facts.values()]
        _checks.require(
            all(isinstance(text, str) for text in texts),
            f"`facts` must return texts by label, but it returned {facts!r:.200}",
        )
        _checks.require(
            all(isinstance(part, Transport) for part in parts),
            f"`parts` must return transports, but it returned {parts!r:.200}",
        )

    def test_get_block_returns_the_block_of_the_cid(self, transport: Transport) -> None:
        self._require_blocks(transport, example_blocks()[1])

    def test_a_missing_block_raises_object_not_found(self, transport: Transport) -> None:
        required = "`get_block` of a missing block must raise ObjectNotFoundError"
        try:
            block = transport.get_block(_ABSENT)
        except ObjectNotFoundError as error:
            _checks.require(
                str(_ABSENT) in str(error),
                f"{required} with the CID {_ABSENT} in its message, but the message was {str(error)!r}",
            )
        except Exception as error:  # noqa: BLE001 - any error of a plugin
            _checks.fail(f"{required}, but it raised {described(error)}", error)
        else:
            _checks.fail(f"{required}, but it returned {block!r:.200}")

    def test_get_blocks_yields_each_block_once(self, transport: Transport) -> None:
        root, blocks = example_blocks()
        wanted = [*blocks, _ABSENT, CID(0, root.codec, root.multihash)]
        with _checks.raises_nothing("`get_blocks` of several blocks, one of which is missing,"):
            found = list(transport.get_blocks(wanted))
        cids = [cid for cid, _ in found]
        foreign = [cid for cid in cids if cid not in wanted]
        _checks.require(
            not foreign,
            "`get_blocks` must yield blocks with the CIDs that it was called with, also those of version 0, "
            f"but it yielded one with the CID {foreign and foreign[0]}",
        )
        _checks.require(
            len(set(cids)) == len(cids),
            f"`get_blocks` must yield each block once, but it yielded {len(cids)} blocks for "
            f"{len(set(cids))} CIDs",
        )
        _checks.require(
            set(cids) == set(wanted) - {_ABSENT},
            f"`get_blocks` must yield all {len(wanted) - 1} blocks that exist and leave out the missing one, "
            f"{_ABSENT}, but it yielded {len(cids)} blocks"
            f"{', with the missing one' if _ABSENT in cids else ''}",
        )
        for cid, block in found:
            expected = blocks[CID(1, cid.codec, cid.multihash)]
            _checks.require(
                block == expected,
                f"`get_blocks` must yield the block of {len(expected)} bytes for {cid}, but it yielded "
                f"{len(block)} bytes, {block!r:.40}",
            )

    def test_get_blocks_can_be_closed_early(self, transport: Transport) -> None:
        _, blocks = example_blocks()
        found = []
        with _checks.raises_nothing("`get_blocks`, closed after its first block and called again,"):
            for _ in range(3):
                batch = transport.get_blocks(list(blocks))
                found.append(next(iter(batch)))
                if (close := getattr(batch, "close", None)) is not None:
                    close()
            rest = list(transport.get_blocks([]))
        for cid, block in found:
            _checks.require(
                block == blocks.get(cid),
                f"`get_blocks` must yield the block of each CID, but it yielded another one for {cid}",
            )
        _checks.require(
            not rest, f"`get_blocks([])` must yield nothing, but it yielded {len(rest)} blocks"
        )
        self._require_blocks(transport, blocks)

    def test_threads_can_share_a_transport(self, transport: Transport) -> None:
        _, blocks = example_blocks()
        errors: list[Exception] = []

        def use(number: int) -> None:
            data = b"%d" % number * 100_000
            own = {make_cid(data, RAW): data}
            try:
                if transport.writable and transport.concurrency > 1:
                    transport.put_blocks(own.items())
                    self._require_blocks(transport, own)
                self._require_blocks(transport, blocks)
                batch = dict(transport.get_blocks(list(blocks)))
                _checks.require(
                    batch == blocks,
                    f"`get_blocks` must yield all {len(blocks)} blocks, but it yielded {len(batch)} or "
                    "blocks of other CIDs",
                )
            except Exception as error:  # noqa: BLE001 - reported below, in the test's own thread
                errors.append(error)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in errors:
            if isinstance(error, AssertionError):
                raise error
            _checks.fail(
                "`get_block`, `get_blocks` and `put_blocks` must work in several threads at the same time, "
                f"but one thread raised {described(error)}",
                error,
            )

    def test_open_range_returns_bytes_of_the_file(self, transport: Transport) -> None:
        if not transport.serves_ranges:
            pytest.skip("the transport has no `serves_ranges`")
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
            _checks.require(
                found == whole[start:stop],
                f"`open_range(cid, {start}, {stop})` must give those {stop - start} bytes of the file, but "
                f"it gave {len(found)} bytes, {found!r:.40}",
            )

    def test_read_car_yields_all_blocks_of_the_dag(self, transport: Transport) -> None:
        if not transport.serves_cars:
            pytest.skip("the transport has no `serves_cars`")
        root, blocks = example_blocks()
        found = dict(transport.read_car(root))
        for cid, block in found.items():
            with _checks.raises_nothing("Verifying a block of `read_car`"):
                verify(cid, block)
        _checks.require(
            found == blocks,
            f"`read_car` must yield the {len(blocks)} blocks of the DAG, but of these it yielded "
            f"{len(found.keys() & blocks.keys())}, and {len(found.keys() - blocks.keys())} others",
        )

    def test_stored_blocks_can_be_read_and_pinned(self, transport: Transport) -> None:
        self._need_writable(transport)
        blocks = {make_cid(data, RAW): data for data in (b"one", b"two" * 1000)}
        with _checks.raises_nothing("`put_blocks` of new blocks, and of the same blocks again,"):
            transport.put_blocks(iter(blocks.items()))
            transport.put_blocks(list(blocks.items()))
        self._require_blocks(transport, blocks)
        with _checks.raises_nothing("`pin` of stored blocks, and of the same blocks again,"):
            for cid in (*blocks, *blocks):
                transport.pin(cid)

    def test_lacking_returns_blocks_that_are_not_stored(self, transport: Transport) -> None:
        self._need_writable(transport)
        blocks = [(make_cid(data, RAW), data) for data in (b"stored", b"new", b"also new")]
        transport.put_blocks(blocks[:1])
        with _checks.raises_nothing("`lacking`"):
            found = list(transport.lacking(blocks))
        _checks.require(
            found in (blocks, blocks[1:]),
            "`lacking(blocks)` must return the pairs whose blocks are not stored yet, in the same order, but "
            f"for {blocks!r}, of which the first is stored, it returned {found!r:.500}",
        )

    def test_an_incomplete_dag_cannot_be_pinned(self, transport: Transport) -> None:
        self._need_writable(transport)
        root, blocks = _file_of(b"a file of which a part is missing" * 100_000)
        del blocks[next(cid for cid in blocks if cid.codec == RAW)]
        transport.put_blocks(blocks.items())
        for cid, what in (
            (_ABSENT, "a missing block"),
            (root, "a DAG with a missing block"),
        ):
            required = f"`pin` of {what} must raise TransportError"
            try:
                transport.pin(cid)
            except TransportError:
                continue
            except Exception as error:  # noqa: BLE001 - any error of a plugin
                _checks.fail(f"{required}, but it raised {described(error)}", error)
            _checks.fail(f"{required}, but it raised nothing")

    def test_pin_blocks_pins_single_blocks(self, transport: Transport) -> None:
        self._need_writable(transport)
        root, blocks = _file_of(b"a file of which only the root is stored" * 100_000)
        transport.put_blocks([(root, blocks[root])])
        try:
            with _checks.raises_nothing("`pin_blocks` of a block whose links are missing"):
                transport.pin_blocks([root])
        except AssertionError as error:
            if isinstance(error.__cause__, NotImplementedError):
                pytest.skip("the transport has no `pin_blocks`")
            raise
        with suppress(NotImplementedError):
            pinned = {cid.multihash for cid in transport.pinned_blocks()}
            _checks.require(
                root.multihash in pinned,
                f"`pinned_blocks` must yield {root} after `pin_blocks`, but it did not",
            )
            transport.unpin_blocks([root])
            pinned = {cid.multihash for cid in transport.pinned_blocks()}
            _checks.require(
                root.multihash not in pinned,
                f"`pinned_blocks` must not yield {root} after `unpin_blocks`, but it did",
            )

    def test_close_can_be_called_twice(self, declared: TransportPlugin, address: str) -> None:
        transport = resolve_factory(declared)(address, self.options)
        with _checks.raises_nothing("`close`, called twice,"):
            transport.close()
            transport.close()

    def _need_writable(self, transport: Transport) -> None:
        if not transport.writable:
            pytest.skip("the transport is not `writable`")

    def _require_blocks(self, transport: Transport, blocks: dict[CID, bytes]) -> None:
        for cid, wanted in blocks.items():
            block = transport.get_block(cid)
            _checks.require(
                block == wanted,
                f"`get_block({cid})` must return that block of {len(wanted)} bytes, but it returned "
                f"{len(block)} bytes, {block!r:.40}",
            )
