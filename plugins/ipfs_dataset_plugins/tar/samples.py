"""The samples of a TAR archive in order, from a position on, each byte of it read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core import IPFSDatasetError, Location, located
from ipfs_dataset_plugins.tar.headers import BLOCK, padded
from ipfs_dataset_plugins.tar.usual import usual_headers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import Sample
    from ipfs_dataset_plugins.archives.buffered import BufferedFile
    from ipfs_dataset_plugins.tar.contents import Contents
    from ipfs_dataset_plugins.tar.members import Scan


def samples(
    archive: BufferedFile, contents: Contents, scan: Scan, start: int, stop: float
) -> Iterator[Sample]:
    """Yields the samples of the members that start within a range.

    Args:
        archive: Is read front to back.
        contents: Tells what is a sample.
        scan: What came before `start` was read with it.
        start: Where a member starts.
        stop: Members that start there or later are left out.

    Raises:
        FormatError: The archive is damaged.
        LimitError: A member is too large.
    """
    scan.archive = archive
    limit = contents.limit
    while start < stop:
        if not scan.extended:
            piece, at = archive.window(start)
            base, end = start - at, len(piece)
            for header, name, size in usual_headers(piece, at):
                data = header + BLOCK
                if data + size > end or size > limit or base + header >= stop:
                    break
                yield name, piece[data : data + size]
                start = base + data + padded(size)
            if start >= stop:
                return
        member = scan.member(start)
        if member is None or member.start >= stop:  # behind an end mark that is ignored
            return
        try:
            content = contents.read(archive, member)
        except IPFSDatasetError as error:
            raise located(error, Location(member=member.name)) from error.__cause__
        if content is not None:
            yield member.name, content
        start = member.stop
