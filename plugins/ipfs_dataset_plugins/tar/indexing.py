"""Finds the samples of a TAR archive by its headers: hops over large members, reads on over small ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_plugins.archives.buffered import BufferedFile
from ipfs_dataset_plugins.tar.headers import BLOCK, padded
from ipfs_dataset_plugins.tar.index import TarIndex
from ipfs_dataset_plugins.tar.repeated_blocks import RepeatedBlocks
from ipfs_dataset_plugins.tar.usual import usual_headers

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectFile
    from ipfs_dataset_plugins.tar.contents import Contents
    from ipfs_dataset_plugins.tar.members import Scan

# Holds the headers of several small members.
_PIECE_BYTES = 64 << 10


def build_index(source: ObjectFile, contents: Contents, scan: Scan) -> TarIndex:
    """Finds all samples by the headers alone; of large members nothing else is read.

    Args:
        source: The archive.
        contents: Tells what is a sample.
        scan: Reads nowhere but where it is told to.

    Raises:
        FormatError: The archive is damaged.
    """
    index, start = TarIndex(source.limits), 0
    near, far = BufferedFile(source, _PIECE_BYTES), BufferedFile(source)
    archive = near
    repeated = RepeatedBlocks(source)
    while (member := scan.member(start)) is not None:
        content = contents.find(member)
        if content is not None:
            index.append(member.name, content)
        start = member.stop
        repeated.check(len(index), member.start)
        if member.stop - member.start < _PIECE_BYTES // 4 and not scan.extended:
            piece, at = archive.window(start)
            base = start - at
            found = list(usual_headers(piece, at))
            if found:
                starts = [base + header + BLOCK for header, _, _ in found]
                sizes = [size for _, _, size in found]
                index.extend([name for _, name, _ in found], starts, sizes)
                start = starts[-1] + padded(sizes[-1])
            # Where all in it were small, what follows will be, too: it costs less in large pieces.
            archive = far if start >= base + len(piece) - BLOCK else near
    return index
