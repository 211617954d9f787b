"""Publishes files and folders of this machine as they are, like a node's ``add``."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.addressing.sources import address_scheme, file_path, given_address
from ipfs_dataset_core.errors import (
    AddressError,
    ExportError,
    IPFSDatasetError,
    ObjectNotFoundError,
    TransportError,
)
from ipfs_dataset_core.interfaces import pin_arguments
from ipfs_dataset_core.interfaces.transports import check_pin_name
from ipfs_dataset_core.ipld import FileBuilder, build_directory, build_symlink, get_profile
from ipfs_dataset_core.ipld.builder import MAX_DEPTH
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.publishing.names import find_key, publish_new_version
from ipfs_dataset_core.publishing.upload import MOST_LOSSES, BlockUpload, UploadCount, with_advice
from ipfs_dataset_core.reading.connections import connect_for_writing, write_address
from ipfs_dataset_core.sources.retry import with_retries

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from ipfs_dataset_core.ipld import CID, Built, Profile
    from ipfs_dataset_core.options import OptionArguments

_PIECE_BYTES = 1 << 20


@attrs.frozen
class PublishedFiles:
    """The result of `publish_path`.

    Attributes:
        cid: The root.
        uploaded: Counts of the blocks that were made, already present, and sent.
        published_name: The IPNS name ``k51…`` that points to the root; None if no key was given.
    """

    cid: str
    uploaded: UploadCount
    published_name: str | None = None


def publish_path(
    path: str | os.PathLike[str],
    address: str | os.PathLike[str] | None = None,
    *,
    profile: str = "unixfs-v1-2025",
    hidden: bool = False,
    name: str = "",
    progress: Callable[[int], object] | None = None,
    ipns: str | None = None,
    create_key: bool = False,
    **options: Unpack[OptionArguments],
) -> PublishedFiles:
    """Publishes a file or folder as it is and pins it, sending only blocks that are not stored yet.

    Args:
        path: The file or folder.
        address: Where to publish, as for `IPFSDatasetExporter`.
        profile: Name of an import profile, which determines how files are split into blocks, and therefore
            the CID.
        hidden: Whether to include files in folders whose names start with a dot.
        name: Name of the pin.
        progress: Called with the number of bytes read from files since the last call.
        ipns: Name of a key of the node; the IPNS name of that key is updated to point to the root.
        create_key: Whether the node creates the key if it has none of that name.
        **options: See `Options`.

    Raises:
        AddressError: The path is neither a file, a folder nor a symlink, or the address is not writable or
            lies in the folder.
        ExportError: A file cannot be read.
        TransportError: The node or store did not accept the blocks, or has no such key.
    """
    how, chosen, place = get_profile(profile), Options.from_arguments(options), Path(path)
    count = UploadCount()
    check_pin_name(name)
    check_outside(place, given_address(address), hidden=hidden)
    with closing(connect_for_writing(given_address(address), chosen)) as transport:
        if ipns is not None:
            find_key(transport, ipns, create=create_key)
        for left in reversed(range(MOST_LOSSES)):
            with closing(
                BlockUpload(
                    transport, retries=chosen.retries, deadline=chosen.deadline, count=count
                )
            ) as upload:
                root = build_path(place, how, upload.emit, hidden=hidden, progress=progress).cid
                upload.finish()
            pin = pin_arguments(transport, name=name, fetch=False)
            try:
                with_retries(lambda: transport.pin(root, **pin), chosen.retries)  # noqa: B023
                break
            except ObjectNotFoundError as error:
                if not left:
                    advice = "Blocks were removed while they were published: publish again"
                    raise with_advice(error, advice) from error
                count.restart()
            except TransportError as error:
                raise count.advise(error, "pinned", transport) from error
        found = None if ipns is None else publish_new_version(transport, root, ipns)
    return PublishedFiles(str(root), count, found)


def check_outside(path: Path, address: str | None, *, hidden: bool = False) -> None:
    """Checks that a store or `.car` file is not made inside of the folder that is published to it.

    The next run would publish it as well, under another CID.

    Args:
        path: What is published.
        address: Where to, None for discovery.
        hidden: Whether files whose names start with a dot are published.

    Raises:
        AddressError: It lies in the folder.
    """
    chosen = write_address(address)
    if address_scheme(chosen) != "file" or path.is_symlink() or not path.is_dir():
        return
    target = Path(os.path.realpath(file_path(chosen)))
    folder = Path(os.path.realpath(path))
    if not target.is_relative_to(folder):
        return
    below = target.relative_to(folder).parts
    if hidden or not any(part.startswith(".") for part in below):
        raise AddressError(
            f"{chosen!r} lies in the folder {str(path)!r}, and would be published with it the next time: "
            "name a place outside of it"
        )


def build_path(
    path: Path,
    profile: Profile,
    emit: Callable[[CID, bytes], None],
    *,
    hidden: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Built:
    """Splits a path of this machine into blocks.

    Args:
        path: A file, folder or symlink.
        profile: The import profile.
        emit: Called with each block.
        hidden: Whether to include files in folders whose names start with a dot.
        progress: Called with the number of bytes read from files since the last call.

    Raises:
        AddressError: The path is neither a file, a folder nor a symlink.
        ExportError: It cannot be read, or its folders are nested more than `MAX_DEPTH` deep.
    """
    return _build_path(path, profile, emit, hidden=hidden, progress=progress, depth=0)


def _build_path(
    path: Path,
    profile: Profile,
    emit: Callable[[CID, bytes], None],
    *,
    hidden: bool,
    progress: Callable[[int], object] | None,
    depth: int,
) -> Built:
    if depth > MAX_DEPTH:
        raise ExportError(f"{str(path)[:200]!r}… is more than {MAX_DEPTH} folders deep")
    try:
        mode = _mode_of(path)
        if stat.S_ISLNK(mode):
            return build_symlink(os.readlink(path), profile, emit)  # noqa: PTH115 - verbatim, not a Path
        if stat.S_ISDIR(mode):
            names = sorted(name for name in os.listdir(path) if hidden or not name.startswith("."))  # noqa: PTH208 - names alone
            build = partial(
                _build_path,
                profile=profile,
                emit=emit,
                hidden=hidden,
                progress=progress,
                depth=depth + 1,
            )
            return build_directory(((name, build(path / name)) for name in names), profile, emit)
        if stat.S_ISREG(mode):
            return _build_file(path, profile, emit, progress)
    except OSError as error:
        if isinstance(error, IPFSDatasetError):  # of a source, or of a file below this one
            raise
        raise ExportError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    raise AddressError(f"{str(path)!r} is neither a file nor a folder")


def _mode_of(path: Path) -> int:
    """Returns the mode of the file at a path; 0 if there is none. Takes one system call for a file."""
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return 0


def path_bytes(path: Path, *, hidden: bool = False) -> int:
    """Returns the total size of the files below a path, for a progress bar; unreadable ones count as 0."""
    total = _file_bytes(path)
    for folder, below, names in os.walk(path):
        below[:] = [name for name in below if hidden or not name.startswith(".")]
        shown = (name for name in names if hidden or not name.startswith("."))
        total += sum(_file_bytes(Path(folder, name)) for name in shown)
    return total


def _file_bytes(path: Path) -> int:
    try:
        found = path.lstat()
    except (OSError, ValueError):  # removed in the meantime, or no possible name
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _build_file(
    path: Path,
    profile: Profile,
    emit: Callable[[CID, bytes], None],
    progress: Callable[[int], object] | None,
) -> Built:
    builder = FileBuilder(profile, emit)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            builder.write(piece)
            if progress is not None:
                progress(len(piece))
    return builder.finish()
