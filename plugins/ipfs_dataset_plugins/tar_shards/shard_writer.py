"""Writes samples into TAR shards, as members named after the content of their sample.

A member is named ``<key>.<field>.<extension>``. The key of a sample is 16 hexadecimal digits: the CRC-32 and
the Adler-32 of its members, concatenated. Each member contributes its name without the key, its size in
decimal and its content, with a NUL byte after the first two. If several samples of a shard have the same
digits, the second gets the suffix ``-1``, the third ``-2``, and so on, so that names are unique. Unlike
running numbers, such keys do not change the headers of other samples when one is inserted or removed. Keys
need not be hard to forge, because the CIDs prove the content.

The content determines where shards end: once a shard has half of its maximum size, it ends after a sample
whose checksum is small for its size, which happens on average once per eighth of the maximum. After an
insertion, shards therefore soon end in the same places as before, and are the same.

Leaves within a shard end after samples chosen by their checksums in the same way: a leaf has at least an
eighth of its maximum size, and on average three eighths more. A sample longer than that begins and ends with
a leaf. Chunkers that only look at the bytes would not do: Kubo's cuts in any run of equal bytes, and the
headers of TAR and NPY, like much data, have such runs.
"""

from __future__ import annotations

import functools
import tarfile
import zlib
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core import ExportError
from ipfs_dataset_plugins.tar_shards import manifest
from ipfs_dataset_plugins.tar_shards.manifest import TRAILER

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipfs_dataset_core import FileSink, SinkFile

    Checksum = Callable[[bytes | memoryview, int], int]

_RECORD = manifest.RECORD
_ZEROS = bytes(_RECORD)
# Maximum value of the size field of a ustar header.
_MAX_MEMBER_BYTES = (8 << 30) - 1
_KEY_DIGITS = 16
# For samples smaller than this, checksums are computed over a joined copy.
_SMALL = 8 << 10
# Pieces smaller than this are copied into one, which is faster than passing them on individually.
_COPIED = 4 << 10
# Samples are written once this many bytes have accumulated.
_MOST_WAITING = 64 << 10
# A shard has half of its maximum size before it may end, then an eighth more on average.
_LEAST_SHARE, _LAST_SHARE = 2, 8
_CHECKSUMS = 1 << 32
_LAST_CHECKSUM = _CHECKSUMS - 1
# An odd number near 2^32 divided by the golden ratio, as in Knuth's multiplicative hashing.
_SPREAD = 0x9E3779B1

# The parts of all headers after the name, after the size and after the checksum.
_BLANK = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
_OWNER, _TIME, _REST = _BLANK[100:124], _BLANK[135:148], _BLANK[154:]
# A longer name does not fit into its field, and is split into two.
_NAME = 100
# Without the contribution of the digits of the size.
_BLANK_CHECKSUM = int(_BLANK[148:154], 8) - sum(_BLANK[124:135])


# The package isal computes the same values in a tenth of the time, but takes longer to start an Adler-32.
_crc32: Checksum = zlib.crc32
_short_adler32: Checksum = zlib.adler32
_adler32: Checksum = zlib.adler32
_SHORT = 512
# For longer data, both functions release the GIL, and getting it back takes longer than the checksums.
# Data that is not much longer is therefore processed in parts.
_HELD, _MOST_HELD = 5 << 10, 128 << 10
with suppress(ImportError):
    from isal import isal_zlib

    _crc32, _adler32 = isal_zlib.crc32, isal_zlib.adler32


def write_file(sink: FileSink, path: str, content: bytes) -> None:
    """Writes a whole file."""
    with sink.create(path) as file:
        file.write(content)


def shard_paths(number: int) -> tuple[str, str]:
    """Returns the paths of a shard and its index in the published directory."""
    return f"shards/{number:05d}.tar", f"index/{number:05d}.json"


# The data shared by all members of a suffix and size: the bytes that precede the content in the checksums of
# a sample, the size of the member in the shard, the header between key and checksum, the checksum without the
# digits of the key, and the zeros after the content.
_Frame = tuple[bytes, int, bytes, int, bytes]


def new_member_frame(suffix: str, size: int, mark: str = ".") -> _Frame:
    """Returns the data shared by all members of a suffix and size.

    Args:
        suffix: End of the member's name.
        size: Size of its content in bytes.
        mark: Text between the key and the suffix.
    """
    start, checksum = _named_like(mark + suffix)
    digits = b"%011o" % size
    padding = _ZEROS[: -size % _RECORD]
    return (
        b"%b\0%d\0" % (suffix.encode(), size),
        _RECORD + size + len(padding),
        b"%b%b%b" % (start, digits, _TIME),
        checksum + sum(digits),
        padding,
    )


# Tensors mostly have few sizes.
member_frame = functools.lru_cache(maxsize=2048)(new_member_frame)


@functools.lru_cache(maxsize=1024)
def header_end(checksum: int) -> bytes:
    """Returns the part of a header from its checksum on."""
    return b"%06o%b" % (checksum, _REST)


@functools.lru_cache(maxsize=1024)
def _named_like(suffix: str) -> tuple[bytes, int]:
    """Returns the header between key and size, and the checksum without those of key and size."""
    if len(suffix) <= _NAME - _KEY_DIGITS and suffix.isascii():
        name = suffix.encode().ljust(_NAME - _KEY_DIGITS, b"\0")
        return name + _OWNER, _BLANK_CHECKSUM + sum(name)
    key = "0" * _KEY_DIGITS
    header = tarfile.TarInfo(key + suffix).tobuf(tarfile.USTAR_FORMAT)
    counted = sum(header[:_KEY_DIGITS]) + sum(header[124:135])
    return header[_KEY_DIGITS:124], int(header[148:154], 8) - counted


def _check_sizes(members: list[tuple[str, bytes]], key: bytes) -> None:
    for suffix, payload in members:
        if len(payload) > _MAX_MEMBER_BYTES:
            raise ExportError(
                f"Member '{key.decode()}.{suffix}' has {len(payload)} bytes, more than a TAR holds: split "
                "the sample"
            )


def _checksums(pieces: list[bytes], size: int) -> tuple[int, int]:
    """Returns the CRC-32 and the Adler-32 of the names and contents of a sample of `size` bytes."""
    if size <= _SMALL:
        pieces = [b"".join(pieces)]
    crc, adler = 0, 1
    for piece in pieces:
        length = len(piece)
        if length <= _HELD or length > _MOST_HELD:
            crc = _crc32(piece, crc)
            adler = (_short_adler32 if length < _SHORT else _adler32)(piece, adler)
            continue
        view = memoryview(piece)
        for start in range(0, length, _HELD):
            part = view[start : start + _HELD]
            crc, adler = _crc32(part, crc), _adler32(part, adler)
    return crc, adler


class ShardWriter:
    """Writes samples into shards, which end at content-defined boundaries or when they are full.

    Args:
        sink: Where the shards are written.
        shard_bytes: Maximum size of a shard; a larger sample is a shard of its own.
        leaf_bytes: Maximum size of a leaf.
    """

    def __init__(self, sink: FileSink, shard_bytes: int, leaf_bytes: int) -> None:
        self._sink = sink
        self._room = shard_bytes - TRAILER
        self._least = self._room // _LEAST_SHARE
        # Multiplied by the size of a sample: the bounds below which its checksum ends a shard, or a leaf.
        self._rate = _CHECKSUMS * _LAST_SHARE // max(1, self._room)
        self._least_leaf = leaf_bytes // 8
        self._usual_leaf = max(1, leaf_bytes * 3 // 8)
        self._leaf_rate = _CHECKSUMS // self._usual_leaf
        # The end of the last leaf that ended with a sample.
        self._leaf_start = 0
        self._shards: list[manifest.Shard] = []
        self._file: SinkFile | None = None
        self._records = array("I")
        self._size = 0
        # Samples that are waiting to be written together.
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        # Number of occurrences of each key in the shard.
        self._keys: dict[bytes, int] = {}

    def add(self, members: list[tuple[str, bytes]]) -> None:
        """Writes the members of the next sample.

        Raises:
            ExportError: A member is larger than a TAR can hold.
        """
        size = 0
        frames: list[_Frame] = []
        named: list[bytes] = []
        for suffix, payload in members:
            frame = member_frame(suffix, len(payload))
            frames.append(frame)
            named += (frame[0], payload)
            size += frame[1]
        crc, adler = _checksums(named, size)
        key = (crc << 32 | adler).to_bytes(8, "big").hex().encode()
        if size > _MAX_MEMBER_BYTES:
            _check_sizes(members, key)
        records = self._records
        if records and (
            self._size + size > self._room or len(records) >= manifest.MAX_SHARD_SAMPLES
        ):
            self._close()
            records = self._records
        if size >= self._usual_leaf:
            self._end_leaf()
        repeated = self._keys.get(key, 0)
        self._keys[key] = repeated + 1
        if repeated:
            frames = [
                new_member_frame(suffix, len(payload), f"-{repeated}.")
                for suffix, payload in members
            ]
        self._append(key, members, frames, size)
        records.append(size // _RECORD)
        self._size = filled = self._size + size
        # Similar samples may have similar checksums; multiplication spreads them.
        spread = crc * _SPREAD & _LAST_CHECKSUM
        if filled >= self._least and spread < size * self._rate:
            self._close()
        # Uses other digits than the test for the end of a shard.
        elif (
            filled - self._leaf_start >= self._least_leaf
            and spread * _SPREAD & _LAST_CHECKSUM < size * self._leaf_rate
        ):
            self._end_leaf()

    def _append(
        self, key: bytes, members: list[tuple[str, bytes]], frames: list[_Frame], size: int
    ) -> None:
        """Adds a sample to the data that waits to be written."""
        share = sum(key)
        waiting = self._waiting
        small: list[bytes] = []
        for (_, payload), (_, _, middle, checksum, padding) in zip(members, frames, strict=True):
            small += (key, middle, header_end(checksum + share))
            if len(payload) > _COPIED:
                # Copies only buffers that are not bytes, which might be changed before they are written.
                waiting += (b"".join(small), bytes(payload))
                small = [padding]
            else:
                small += (payload, padding)
        waiting.append(b"".join(small))
        self._waiting_bytes += size
        if self._waiting_bytes >= _MOST_WAITING:
            self._write()

    def _write(self) -> None:
        """Writes the waiting data into the shard, creating the shard if there is none."""
        if self._file is None:
            self._file = self._sink.create(shard_paths(len(self._shards))[0])
        self._file.writelines(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0

    def _end_leaf(self) -> None:
        self._write()
        assert self._file is not None
        self._file.end_leaf()
        self._leaf_start = self._size

    def finish(self) -> list[manifest.Shard]:
        """Ends the last shard; returns all shards."""
        if self._records:
            self._close()
        # Only now, because digests are computed in parallel with the writing.
        return [
            attrs.evolve(shard, sha256=self._sink.sha256_of(shard.path)) for shard in self._shards
        ]

    def _close(self) -> None:
        self._write()
        assert self._file is not None
        self._file.write(bytes(TRAILER))
        self._file.close()
        path, index = shard_paths(len(self._shards))
        write_file(self._sink, index, manifest.write_index(self._records))
        shard = manifest.Shard(
            path=path,
            cid=str(self._sink.cid_of(path)),
            size=self._size + TRAILER,
            samples=len(self._records),
            index=index,
        )
        self._shards.append(shard)
        self._file, self._records, self._size, self._leaf_start = None, array("I"), 0, 0
        self._keys.clear()
