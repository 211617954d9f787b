"""Finds the samples of a TAR archive by its headers: hops over large members, reads on over small ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_plugins._forward import ForwardBytes
from ipfs_dataset_plugins._tar_headers import BLOCK, padded
from ipfs_dataset_plugins._tar_index import TarIndex
from ipfs_dataset_plugins._tar_members import Scan
from ipfs_dataset_plugins._tar_usual import usual_headers

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectFile
    from ipfs_dataset_plugins._tar_contents import Contents

# Holds the headers of several small members.
_PIECE_BYTES = 64 << 10


def build_index(source: ObjectFile, contents: Contents) -> TarIndex:
    """Finds all samples by the headers alone; of large members nothing else is read.

    Raises:
        FormatError: The archive is damaged.
    """
    index, start = TarIndex(source.limits), 0
    scan = Scan(ForwardBytes(source, piece=0))
    archive = ForwardBytes(source, _PIECE_BYTES)
    while (member := scan.member(start)) is not None:
        content = contents.find(member)
        if content is not None:
            index.append(member.name, content)
        start = member.stop
        if member.stop - member.start < _PIECE_BYTES // 4 and not scan.extended:
            piece, at = archive.window(start)
            base = start - at
            for header, name, size in usual_headers(piece, at):
                data = base + header + BLOCK
                index.append_bytes(name, data, size)
                start = data + padded(size)
    return index
