"""The contract of transports, as tests; see docs/how-to/add-a-transport.md."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ClassVar

import pytest

from ipfs_dataset_core.addressing.sources import address_scheme
from ipfs_dataset_core.errors import ObjectNotFoundError, TransportError
from ipfs_dataset_core.interfaces import Transport, TransportPlugin
from ipfs_dataset_core.ipld import CID, RAW, FileBuilder, get_profile, make_cid, verify
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.registry.lookup import resolve_factory
from ipfs_dataset_core.testing.terms import Terms, said

if TYPE_CHECKING:
    from collections.abc import Iterator


_FILE = bytes(range(256)) * 4096 * 5
_ABSENT = make_cid(b"a block that nobody has", RAW)
_terms = Terms("docs/how-to/add-a-transport.md#test-it")


def example_blocks() -> tuple[CID, dict[CID, bytes]]:
    """Returns a file of 5 MiB and all its blocks, which a transport under test must serve."""
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
        """The transport's declaration: a TransportPlugin, or the class where that declares itself."""
        raise NotImplementedError(
            "override the fixture `plugin`: return your subclass of Transport, or your TransportPlugin"
        )

    @pytest.fixture
    def declared(self, plugin: TransportPlugin | type[Transport]) -> TransportPlugin:
        """The declaration that `plugin` is or stands for."""
        return _terms.declared(plugin, Transport, TransportPlugin)

    @pytest.fixture
    def address(self) -> str:
        """The address of a source that has the blocks of `example_blocks`."""
        raise NotImplementedError("override the fixture `address`: serve example_blocks() there")

    @pytest.fixture
    def transport(self, declared: TransportPlugin, address: str) -> Iterator[Transport]:
        """The transport at the address."""
        transport = resolve_factory(declared)(address, self.options)
        _terms.must(
            isinstance(transport, Transport),
            f"The factory has to make an ipfs_dataset_core.Transport; it made {transport!r:.200}",
        )
        yield transport
        transport.close()

    def test_the_declaration_travels_to_workers(
        self, declared: TransportPlugin, address: str
    ) -> None:
        again = _terms.travelled(
            declared,
            "A TransportPlugin, whose factory is a 'module:attribute' string or top-level class,",
        )
        _terms.must(again == declared, f"A TransportPlugin has to stay equal; it became {again!r}")
        scheme = address_scheme(address)
        _terms.must(
            scheme in declared.schemes,
            f"The address {address!r} has the scheme {scheme!r}, which is not one of {declared.schemes}",
        )

    def test_it_has_a_name_for_messages(self, transport: Transport) -> None:
        name = getattr(transport, "name", None)
        _terms.must(name and isinstance(name, str), f"`name` has to be a text, not {name!r}")
        _terms.must(transport.concurrency >= 1, "`concurrency` is at least 1")

    def test_what_it_tells_about_itself_is_text(self, transport: Transport) -> None:
        with self._no_error("Telling what the source is"):
            facts, parts = dict(transport.facts()), list(transport.parts())
        texts = [*facts, *facts.values()]
        _terms.must(
            all(isinstance(text, str) for text in texts),
            f"`facts` has to be texts by label, not {facts!r:.200}",
        )
        _terms.must(
            all(isinstance(part, Transport) for part in parts),
            f"`parts` has to be transports, not {parts!r:.200}",
        )

    def test_blocks_are_those_of_their_cids(self, transport: Transport) -> None:
        self._assert_blocks(transport, example_blocks()[1])

    def test_a_block_that_is_not_there_is_not_found(self, transport: Transport) -> None:
        wanted = f"`get_block` of a block that is not there has to raise ObjectNotFoundError naming {_ABSENT}"
        try:
            block = transport.get_block(_ABSENT)
        except ObjectNotFoundError as error:
            _terms.must(str(_ABSENT) in str(error), f"{wanted}; its message was {error}")
        except Exception as error:
            raise AssertionError(f"{wanted}, not {said(error)}. See {_terms.page}") from error
        else:
            _terms.must(False, f"{wanted}; it returned {block!r:.200}")  # noqa: FBT003 - it never holds

    def test_many_blocks_arrive_together(self, transport: Transport) -> None:
        root, blocks = example_blocks()
        wanted = [*blocks, _ABSENT, CID(0, root.codec, root.multihash)]
        with self._no_error("Getting many blocks, of which one is not there,"):
            found = list(transport.get_blocks(wanted))
        cids = [cid for cid, _ in found]
        _terms.must(
            len(set(cids)) == len(cids) and set(cids) <= set(wanted),
            "`get_blocks` has to yield each of the CIDs as it was given, and at most once; of "
            f"{len(wanted)} it yielded {len(cids)}, {len(set(cids))} different ones",
        )
        _terms.must(
            set(cids) == set(wanted) - {_ABSENT},
            f"`get_blocks` has to yield every block that is there and to leave out {_ABSENT}; of "
            f"{len(wanted)} it yielded {len(cids)}",
        )
        for cid, block in found:
            _terms.must(
                block == blocks[CID(1, cid.codec, cid.multihash)],
                f"`get_blocks` has to yield the block of each CID; for {cid} it yielded {len(block)} bytes, "
                f"{block!r:.40}",
            )

    def test_a_batch_may_be_left_early(self, transport: Transport) -> None:
        _, blocks = example_blocks()
        with self._no_error("Leaving a batch after its first block, and getting another one,"):
            for _ in range(3):
                batch = transport.get_blocks(list(blocks))
                cid, block = next(iter(batch))
                _terms.must(block == blocks[cid], f"`get_blocks` yielded another block for {cid}")
                if (close := getattr(batch, "close", None)) is not None:
                    close()
            _terms.must(not list(transport.get_blocks([])), "A batch of no blocks has none")
        self._assert_blocks(transport, blocks)

    def test_threads_share_it(self, transport: Transport) -> None:
        _, blocks = example_blocks()
        errors: list[Exception] = []

        def use(number: int) -> None:
            data = b"%d" % number * 100_000
            own = {make_cid(data, RAW): data}
            try:
                if transport.writable and transport.concurrency > 1:
                    transport.put_blocks(own.items())
                    self._assert_blocks(transport, own)
                self._assert_blocks(transport, blocks)
                batch = dict(transport.get_blocks(list(blocks)))
                _terms.must(
                    batch == blocks, f"A batch has all blocks that are there, not {len(batch)}"
                )
            except Exception as error:  # noqa: BLE001 - reported below, in the test's own thread
                errors.append(error)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _terms.must(
            not errors,
            f"Threads share a transport; in one it ended in {errors and said(errors[0])}",
        )

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
            _terms.must(
                found == whole[start:stop],
                f"`open_range(cid, {start}, {stop})` has to give those {stop - start} bytes of the file; "
                f"it gave {len(found)}, {found!r:.40}",
            )

    def test_cars_hold_the_blocks_of_the_dag(self, transport: Transport) -> None:
        if not transport.serves_cars:
            pytest.skip("it serves no CARs")
        root, blocks = example_blocks()
        found = dict(transport.read_car(root))
        for cid, block in found.items():
            verify(cid, block)
        _terms.must(
            found == blocks,
            f"`read_car` has to yield the {len(blocks)} blocks of the DAG; it yielded {len(found)}",
        )

    def test_what_is_put_can_be_read_and_pinned(self, transport: Transport) -> None:
        self._need_writable(transport)
        blocks = {make_cid(data, RAW): data for data in (b"one", b"two" * 1000)}
        with self._no_error("Storing blocks, and storing them again,"):
            transport.put_blocks(iter(blocks.items()))
            transport.put_blocks(list(blocks.items()))
        self._assert_blocks(transport, blocks)
        with self._no_error("Pinning what is there, and pinning it again,"):
            for cid in (*blocks, *blocks):
                transport.pin(cid)

    def test_it_tells_which_blocks_it_lacks(self, transport: Transport) -> None:
        self._need_writable(transport)
        blocks = [(make_cid(data, RAW), data) for data in (b"there", b"new", b"also new")]
        transport.put_blocks(blocks[:1])
        with self._no_error("Asking which blocks are lacking"):
            found = list(transport.lacking(blocks))
        _terms.must(
            found in (blocks, blocks[1:]),
            "`lacking(blocks)` has to return those pairs that are not stored yet, in their order; of one "
            f"that is and two that are not it returned {found!r:.200}",
        )

    def test_nothing_incomplete_is_pinned(self, transport: Transport) -> None:
        self._need_writable(transport)
        root, blocks = _file_of(b"a file of which a part is missing" * 100_000)
        del blocks[next(cid for cid in blocks if cid.codec == RAW)]
        transport.put_blocks(blocks.items())
        for cid, what in (
            (_ABSENT, "a block that is not there"),
            (root, "a DAG that lacks a block"),
        ):
            wanted = f"`pin` of {what} has to raise TransportError"
            try:
                transport.pin(cid)
            except TransportError:
                continue
            except Exception as error:
                raise AssertionError(f"{wanted}, not {said(error)}. See {_terms.page}") from error
            _terms.must(False, f"{wanted}; it raised nothing")  # noqa: FBT003 - it never holds

    def test_blocks_are_pinned_without_what_they_link_to(self, transport: Transport) -> None:
        self._need_writable(transport)
        root, blocks = _file_of(b"a file of which only the root is here" * 100_000)
        transport.put_blocks([(root, blocks[root])])
        try:
            with self._no_error("Pinning a block without what it links to"):
                transport.pin_blocks([root])
        except AssertionError as error:
            if isinstance(error.__cause__, NotImplementedError):
                pytest.skip("it does not pin single blocks")
            raise
        with suppress(NotImplementedError):
            pinned = {cid.multihash for cid in transport.pinned_blocks()}
            _terms.must(
                root.multihash in pinned, "`pinned_blocks()` has to yield what `pin_blocks` pinned"
            )
            transport.unpin_blocks([root])
            pinned = {cid.multihash for cid in transport.pinned_blocks()}
            _terms.must(
                root.multihash not in pinned,
                "after `unpin_blocks` of a block `pinned_blocks()` must not yield it",
            )

    def test_closing_twice_is_no_error(self, declared: TransportPlugin, address: str) -> None:
        transport = resolve_factory(declared)(address, self.options)
        with self._no_error("Closing a transport twice"):
            transport.close()
            transport.close()

    def _need_writable(self, transport: Transport) -> None:
        if not transport.writable:
            pytest.skip("it only reads")

    @contextmanager
    def _no_error(self, what: str) -> Iterator[None]:
        __tracebackhide__ = True
        try:
            yield
        except Exception as error:
            raise AssertionError(
                f"{what} is no error, not {said(error)}. See {_terms.page}"
            ) from error

    def _assert_blocks(self, transport: Transport, blocks: dict[CID, bytes]) -> None:
        for cid, wanted in blocks.items():
            block = transport.get_block(cid)
            _terms.must(
                block == wanted,
                f"`get_block({cid})` has to return that block of {len(wanted)} bytes; it returned "
                f"{len(block)} bytes, {block!r:.40}",
            )
