"""ZIP archives: one sample per file, in the order of the central directory.

The members are those that Python's `zipfile` lists, except directories and symbolic links.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, cast

from ipfs_dataset_core import FormatError, Reader, ReaderPlugin, hookimpl, index_of
from ipfs_dataset_plugins._forward import ForwardBytes, cut_off
from ipfs_dataset_plugins._zip_directory import LOCAL_HEADER, decoded_name
from ipfs_dataset_plugins._zip_index import ZipIndex, build_index
from ipfs_dataset_plugins._zip_methods import decompress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import Limits, MemberIndex, ObjectFile, Sample

_SIGNATURE = b"PK\3\4"
_ENCRYPTED_FLAGS = 1 << 0 | 1 << 6 | 1 << 13
_PATCH_FLAG = 1 << 5
# Larger members are read apart from their header: cutting them out of one piece would copy them.
_READ_IN_ONE_BYTES = 1 << 20


class ZipReader(Reader):
    """Reads ZIP archives; a member over ``limits.member_bytes`` is refused, for each is in memory whole."""

    cheap_index = True
    index_form = "zip 1"

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        index = cast("ZipIndex", index_of(self, source))
        archive = ForwardBytes(source)
        for position in range(len(index)):
            yield index.name(position), _content(archive, index, position, source.limits)

    def index(self, source: ObjectFile) -> ZipIndex:
        return build_index(source)

    def load_index(self, source: ObjectFile, data: bytes) -> ZipIndex:
        return ZipIndex.load(data, source.limits)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        archive = ForwardBytes(source, piece=0)
        index = cast("ZipIndex", index)
        return index.name(position), _content(archive, index, position, source.limits)


def _content(archive: ForwardBytes, index: ZipIndex, position: int, limits: Limits) -> bytes:
    what = f"member {index.name(position)!r} of {archive.name!r}"
    limits.check("member_bytes", index.content(position)[1], what)
    try:
        return _read_member(archive, index, position)
    except FormatError:
        raise
    except ValueError as error:
        raise FormatError(f"M{what[1:]} cannot be read: {error}.") from error


def _read_member(archive: ForwardBytes, index: ZipIndex, position: int) -> bytes:
    compressed, size, crc, method, flags = index.content(position)
    if flags & _ENCRYPTED_FLAGS:
        raise ValueError("it is encrypted; publish the archive without a password")
    if flags & _PATCH_FLAG:
        raise ValueError("it is a patch, which is not supported")
    start, stop = index.span(position)
    head = archive.read(start, min(stop - start, _READ_IN_ONE_BYTES))
    data_start = _check_header(head, index.name(position))
    if start + data_start + compressed > index.bound(position):
        raise ValueError("it overlaps what follows")
    data = head[data_start : data_start + compressed]
    if len(data) < compressed:
        data = archive.read(start + data_start, compressed)
    if len(data) < compressed:
        raise cut_off(archive.name, start + data_start + compressed)
    content = decompress(method, data, size)
    if len(content) != size:
        raise ValueError(f"it does not have the {size} bytes that the archive declares")
    if zlib.crc32(content) != crc:
        raise ValueError("its CRC does not match")
    return content


def _check_header(head: bytes, name: str) -> int:
    """Returns how far behind the start of a local header its member's data start."""
    if len(head) < LOCAL_HEADER.size or not head.startswith(_SIGNATURE):
        raise ValueError("it has no header where the directory says")
    _, _, flags, *_, name_bytes, extra_bytes = LOCAL_HEADER.unpack_from(head)
    local = decoded_name(head[LOCAL_HEADER.size : LOCAL_HEADER.size + name_bytes], flags)
    if local != name:
        raise ValueError(f"its own header calls it {local!r}")
    data_start: int = LOCAL_HEADER.size + name_bytes + extra_bytes
    return data_start


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares ``zip``."""
    return [
        ReaderPlugin(
            name="zip",
            summary="a ZIP archive: its files",
            factory="ipfs_dataset_plugins.zip:ZipReader",
            suffixes=(".zip",),
            magic=((0, b"PK\3\4"), (0, b"PK\5\6")),
            in_folders=True,
        )
    ]
