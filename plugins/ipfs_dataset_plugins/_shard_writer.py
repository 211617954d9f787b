"""Writes samples into TAR shards, member by member, with an index beside each shard."""

from __future__ import annotations

import tarfile
from array import array
from typing import TYPE_CHECKING

from ipfs_dataset_core import ExportError, manifest

if TYPE_CHECKING:
    import io

    from ipfs_dataset_core import FileSink

# The two empty records that end a TAR archive.
TRAILER = 2 * manifest.RECORD
# The member with the schema of a sample that is not put together like the others.
OWN_SCHEMA = "schema.json"
_RECORD = manifest.RECORD
# What the size field of a ustar header holds.
_MAX_MEMBER_BYTES = (8 << 30) - 1


def write_file(sink: FileSink, path: str, content: bytes) -> None:
    """Writes a whole file."""
    with sink.create(path) as file:
        file.write(content)


def _header(name: str, size: int) -> bytes:
    if size > _MAX_MEMBER_BYTES:
        raise ExportError(
            f"Member {name!r} has {size} bytes, more than a TAR holds: split the sample"
        )
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


class ShardWriter:
    """Puts samples into shards; what would make a shard too large begins the next one.

    Args:
        sink: Where the shards go.
        shard_bytes: How large a shard may be; a larger sample is a shard of its own.
    """

    def __init__(self, sink: FileSink, shard_bytes: int) -> None:
        self._sink = sink
        self._room = shard_bytes - TRAILER
        self._shards: list[manifest.Shard] = []
        self._file: io.BufferedIOBase | None = None
        self._records = array("I")
        self._size = 0

    def add(self, position: int, members: list[tuple[str, bytes]]) -> None:
        """Writes the members of the sample at a position."""
        pieces = []
        for suffix, payload in members:
            header = _header(f"{position:010d}.{suffix}", len(payload))
            pieces += [header, payload, bytes(-len(payload) % _RECORD)]
        size = sum(map(len, pieces))
        full = self._size + size > self._room or len(self._records) >= manifest.MAX_SHARD_SAMPLES
        if self._records and full:
            self._close()
        if self._file is None:
            self._file = self._sink.create(self._path("shards", "tar"))
        for piece in pieces:
            self._file.write(piece)
        self._records.append(size // _RECORD)
        self._size += size

    def finish(self) -> list[manifest.Shard]:
        """Ends the last shard and returns all of them."""
        if self._records:
            self._close()
        return self._shards

    def _path(self, folder: str, extension: str) -> str:
        return f"{folder}/{len(self._shards):05d}.{extension}"

    def _close(self) -> None:
        assert self._file is not None
        self._file.write(bytes(TRAILER))
        self._file.close()
        path, index = self._path("shards", "tar"), self._path("index", "json")
        write_file(self._sink, index, manifest.write_index(self._records))
        shard = manifest.Shard(
            path=path,
            cid=str(self._sink.cid_of(path)),
            size=self._size + TRAILER,
            samples=len(self._records),
            index=index,
        )
        self._shards.append(shard)
        self._file, self._records, self._size = None, array("I"), 0
