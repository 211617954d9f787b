"""Publishes samples: writes an exporter's files as blocks, uploads those that are new, and pins the root."""

from __future__ import annotations

import logging
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ipfs_dataset_core.errors import ExportError, ObjectNotFoundError, TransportError
from ipfs_dataset_core.interfaces import FileSink, SinkFile, pin_arguments
from ipfs_dataset_core.interfaces.transports import check_pin_name
from ipfs_dataset_core.ipld import FileBuilder, build_tree
from ipfs_dataset_core.publishing import buzhash
from ipfs_dataset_core.publishing.upload import MOST_LOSSES, BlockUpload, UploadCount, with_advice
from ipfs_dataset_core.sources.retry import with_retries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.ipld import CID, Built, Profile


log = logging.getLogger(__name__)

Pin: TypeAlias = Literal["recursive", "direct"] | None


def publish(
    write: Callable[[Iterable[Any], FileSink], object],
    samples: Iterable[Any],
    transport: Transport,
    profile: Profile,
    *,
    retries: int = 0,
    deadline: float = math.inf,
    name: str = "",
    count: UploadCount | None = None,
    again: Callable[[], Iterable[Any]] | None = None,
    pin: Pin = "recursive",
) -> CID:
    """Stores and pins the files that a function writes from samples; returns the CID of their directory.

    Only blocks that the transport lacks are sent. The final pin fails unless all blocks are present, so if a
    store removes blocks in the meantime, they are uploaded again or an error is raised; a dataset is never
    published incomplete.

    Args:
        write: Writes the samples into a directory, as `Exporter.export` does; called again if blocks were
            lost.
        samples: The samples to publish.
        transport: Stores the blocks.
        profile: How files and directories become blocks.
        retries: How often a request that failed temporarily is repeated.
        deadline: Seconds for one batch of blocks, including retries.
        name: Name of the pin, if the transport supports names.
        count: Counts the blocks while they are made and sent.
        again: Returns the samples once more, in case blocks were lost; None if they cannot be read twice.
        pin: ``"recursive"`` pins everything below the root; ``"direct"`` pins the blocks that were written,
            but not the blocks to which these link; None pins nothing.

    Raises:
        AddressError: A pin cannot have this name.
        ExportError: A sample cannot be exported.
        TransportError: The blocks could not be stored or pinned.
    """
    check_pin_name(name)
    count = UploadCount() if count is None else count
    for left in reversed(range(MOST_LOSSES)):
        upload = BlockUpload(transport, retries=retries, deadline=deadline, count=count)
        try:
            with closing(upload), ThreadPoolExecutor(1, "ipfs-dataset-hash") as hashing:
                blocks: list[CID] = []
                emit = _noting(upload.emit, blocks) if pin == "direct" else upload.emit
                sink = TreeSink(profile, emit, hashing)
                write(samples, sink)
                root = sink.finish()
                upload.finish()
        except Exception as error:
            # Upload errors already carry the advice; this is an error of the dataset, or of a sample.
            if error is not upload.error and count.bytes and sys.version_info >= (3, 11):
                error.add_note(count.outlook("published", transport))
            raise
        try:
            with_retries(partial(_pin, transport, root, blocks, pin, name), retries)
            break
        except ObjectNotFoundError as error:
            if not left or again is None:
                raise with_advice(
                    error, "Blocks were removed while they were published: run the export again"
                ) from error
            log.warning(
                "%s: blocks were removed while %s was published: %s", transport.name, root, error
            )
            samples = again()
            count.restart()
        except TransportError as error:
            raise count.advise(error, "pinned", transport) from error
    log.info("Published %s to %s: %s", root, transport.name, count)
    return root


def _noting(emit: Callable[[CID, bytes], None], blocks: list[CID]) -> Callable[[CID, bytes], None]:
    """Returns a function that records the CIDs of blocks and passes the blocks on."""

    def noted(cid: CID, block: bytes) -> None:
        blocks.append(cid)
        emit(cid, block)

    return noted


def _pin(transport: Transport, root: CID, blocks: list[CID], pin: Pin, name: str) -> None:
    if pin == "recursive":
        transport.pin(root, **pin_arguments(transport, name=name))
    elif pin == "direct":
        # The root, which comes last, is pinned first: it is the root of a `.car`.
        try:
            transport.pin_blocks(list(dict.fromkeys(reversed(blocks))))
        except NotImplementedError:
            raise TransportError(
                f"{transport.name}: cannot pin blocks without what they link to; give pin=None"
            ) from None


class TreeSink(FileSink):
    """A directory that is chunked, hashed and emitted while it is written, file by file, in bounded memory.

    Args:
        profile: The import profile.
        emit: Called with each block and its CID.
        hashing: A single-threaded executor, which computes the SHA-256 of each file while the file is
            written; None computes it in the calling thread.
    """

    def __init__(
        self,
        profile: Profile,
        emit: Callable[[CID, bytes], None],
        hashing: Executor | None = None,
    ) -> None:
        self._profile = profile
        self._emit = emit
        self._hashing = hashing
        self._built: dict[str, Built] = {}
        self._digests: dict[str, bytes] = {}
        self._open: str | None = None

    def create(self, path: str) -> SinkFile:
        if self._open is not None:
            raise ExportError(f"{self._open!r} is still open: close it before {path!r} is created")
        if path in self._built:
            raise ExportError(f"{path!r} was written already")
        self._open = path
        builder = FileBuilder(
            self._profile, self._emit, self._hashing, buzhash.cut, with_digest=True
        )
        return _TreeFile(builder, self._closed)

    def cid_of(self, path: str) -> CID:
        return self.built(path).cid

    def sha256_of(self, path: str) -> str:
        self.built(path)
        if path not in self._digests:
            raise ExportError(f"{path!r} was not written here: its SHA-256 is not known")
        return self._digests[path].hex()

    def built(self, path: str) -> Built:
        try:
            return self._built[path]
        except KeyError:
            raise ExportError(f"{path!r} was not written, or is not closed yet") from None

    def add(self, path: str, file: Built) -> None:
        if path in self._built or path == self._open:
            raise ExportError(f"{path!r} was written already")
        self._built[path] = file

    def finish(self) -> CID:
        """Emits the directories and returns the CID of the topmost one."""
        if self._open is not None:
            raise ExportError(f"{self._open!r} was never closed")
        return build_tree(self._built.items(), self._profile, self._emit).cid

    def _closed(self, builder: FileBuilder) -> None:
        assert self._open is not None
        self._built[self._open] = builder.finish()
        self._digests[self._open] = builder.digest
        self._open = None


class _TreeFile(SinkFile):
    def __init__(self, builder: FileBuilder, closed: Callable[[FileBuilder], None]) -> None:
        self._builder = builder
        self._on_close = closed

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        before = self.tell()
        self.writelines((data,))
        return self.tell() - before

    def writelines(self, lines: Iterable[Any]) -> None:
        if self.closed:
            raise ValueError("write to a closed file")
        self._builder.extend(lines)

    def end_leaf(self) -> None:
        self._builder.end_leaf()

    def tell(self) -> int:
        return self._builder.size

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._on_close(self._builder)

    def __del__(self) -> None:
        """Discards a file that was never closed; `io` would close it, and so publish an incomplete file.

        The garbage collector may run this at any point of any thread, even while the upload holds its locks.
        """
