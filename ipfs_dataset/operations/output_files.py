"""Files that a user asked for: complete or absent, with errors that contain their path and advice."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import IPFSDatasetError
from ipfs_dataset_core.toolkit.shared_folder import Directory

if TYPE_CHECKING:
    from collections.abc import Iterator

_ADVICE = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT), "Free some space there and try again, or name another place"
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "Name a place in which you can write"
    ),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
        "Name another place",
    ),
}


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Returns a context manager that adds a path, and advice, to errors of the system.

    The system's error for a full disk contains no path, and others may contain that of a temporary file.

    Args:
        path: The path that the user gave.

    Raises:
        OSError: The error, with the path as `filename`.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, IPFSDatasetError) or error.errno is None:
            raise
        advice = _ADVICE.get(error.errno)
        reason = f"{error.strerror}. {advice}" if advice else error.strerror
        raise OSError(error.errno, reason, str(path)) from error


def write_file(path: Path, data: bytes) -> None:
    """Writes a file, and creates its folder; an existing file is replaced once the new one is complete.

    Args:
        path: The file; a link is followed.
        data: Its content.

    Raises:
        OSError: It cannot be written, or is not a regular file; the error contains `path`.
    """
    with named_errors(path):
        place = Path(os.path.realpath(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        with Directory.open(place.parent) as folder:
            folder.write(place.name, data)
