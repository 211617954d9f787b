"""The embedded store: blocks in a folder, or in a `.car` file that is read in place.

Blocks are files named by their multihash, ``blocks/<last two letters>/<base32>``, written aside, flushed
and renamed: any number of processes may write at once, and a crash leaves nothing half-written under a
block's name.
"""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from ipfs_dataset_core import (
    CID,
    RAW,
    AddressError,
    FormatError,
    ObjectNotFoundError,
    Transport,
    TransportError,
    TransportPlugin,
    car_header,
    car_section,
    file_path,
    hookimpl,
    index_car,
    links,
    make_cid,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ipfs_dataset_core import Options


def open_store(address: str, options: Options) -> Transport:
    """Returns the store at a path: a folder, a `.car` file to read, or one to write."""
    path = file_path(address)
    if path.is_dir():
        return FolderStore(path)
    if path.is_file():
        return CarStore(path)
    if path.exists():
        raise AddressError(f"{str(path)!r} is neither a folder nor a .car file")
    return CarWriter(path) if path.suffix.lower() == ".car" else FolderStore(path)


class FolderStore(Transport):
    """Blocks in a folder, made at the first write.

    Args:
        path: The folder.
    """

    concurrency = 2
    writable = True

    def __init__(self, path: Path) -> None:
        self.name = f"store {path}"
        self._path = path

    def get_block(self, cid: CID) -> bytes:
        path = self._block_path(cid)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise ObjectNotFoundError(f"{self.name}: has no block {cid}") from None
        except OSError as error:
            raise TransportError(f"{self.name}: {error}") from error

    def put_blocks(self, blocks: Iterable[tuple[CID, bytes]]) -> None:
        for cid, block in blocks:
            path = self._block_path(cid)
            if not _holds(path, block):
                self._write(path, block)

    def pin(self, cid: CID) -> None:
        """Checks that the whole DAG is here, and records its root in ``pins/``."""
        waiting, seen = [cid], {cid.multihash}
        while waiting:
            current = waiting.pop()
            if current.codec == RAW and not current.is_identity:
                if not self._block_path(current).is_file():
                    raise ObjectNotFoundError(
                        f"{self.name}: cannot pin {cid}, it lacks block {current}"
                    )
            elif not current.is_identity:
                for link in links(current, self.get_block(current)):
                    if link.multihash not in seen:
                        seen.add(link.multihash)
                        waiting.append(link)
        self._write(self._path / "pins" / str(cid), b"")

    def _block_path(self, cid: CID) -> Path:
        # The multihash as a raw CID v1, so that one block has one name, whatever the version and codec.
        name = str(CID(1, RAW, cid.multihash))
        return self._path / "blocks" / name[-2:] / name

    def _write(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(path, data)
        except OSError as error:
            raise TransportError(f"{self.name}: cannot write {path.name}: {error}") from error


def _holds(path: Path, block: bytes) -> bool:
    """Tells whether the block is there and intact; a damaged one is written again."""
    try:
        return path.stat().st_size == len(block) and path.read_bytes() == block
    except OSError:
        return False


def _write_atomically(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 - the handle is what mkstemp made
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 - both are plain strings here
    except BaseException:
        with suppress(OSError):
            os.unlink(name)  # noqa: PTH108
        raise


class CarStore(Transport):
    """The blocks of a `.car` file, found through an index of their places.

    Args:
        path: The file, CAR v1 or v2.

    Raises:
        FormatError: It is no CAR.
    """

    concurrency = 2

    def __init__(self, path: Path) -> None:
        self.name = f"CAR {path}"
        self._file = path.open("rb")
        self._lock = threading.Lock()
        try:
            self._index = index_car(self._file)
        except FormatError as error:
            self._file.close()
            raise FormatError(f"{str(path)!r} is no usable CAR file: {error}") from error

    def get_block(self, cid: CID) -> bytes:
        place = self._index.get(cid.multihash)
        if place is None:
            raise ObjectNotFoundError(f"{self.name}: has no block {cid}")
        offset, size = place
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)

    def close(self) -> None:
        self._file.close()


class CarWriter(Transport):
    """A `.car` file being written: blocks first, then the root by pinning it, which completes the file.

    Args:
        path: The file, which does not exist yet.
    """

    writable = True

    def __init__(self, path: Path) -> None:
        self.name = f"CAR {path}"
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._seen: set[bytes] = set()
        # The root comes last but stands first: room is left for a CID of its length.
        self._placeholder = car_header([make_cid(b"", RAW)])

    def get_block(self, cid: CID) -> bytes:
        raise ObjectNotFoundError(
            f"{self.name}: is being written, block {cid} cannot be read from it"
        )

    def put_blocks(self, blocks: Iterable[tuple[CID, bytes]]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._seen:
                self._part.write_bytes(self._placeholder)
            with self._part.open("ab") as file:
                for cid, block in blocks:
                    if cid.multihash not in self._seen:
                        self._seen.add(cid.multihash)
                        file.write(car_section(cid, block))
        except OSError as error:
            raise TransportError(f"{self.name}: {error}") from error

    def pin(self, cid: CID) -> None:
        header = car_header([cid.to_v1()])
        if len(header) != len(self._placeholder):
            raise TransportError(f"{self.name}: the root {cid} does not fit the header")
        try:
            with self._part.open("r+b") as file:
                file.write(header)
                file.flush()
                os.fsync(file.fileno())
            self._part.replace(self._path)
        except OSError as error:
            raise TransportError(f"{self.name}: {error}") from error


@hookimpl
def ipfs_dataset_transports() -> list[TransportPlugin]:
    """Declares the embedded store."""
    return [
        TransportPlugin(
            name="store",
            summary="the embedded store: a folder of blocks, or a .car file",
            schemes=("file",),
            factory="ipfs_dataset_plugins.store:open_store",
        )
    ]
