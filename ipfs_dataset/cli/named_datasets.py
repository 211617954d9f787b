"""Opens datasets named on a command line: ``torchvision:CIFAR10?root=data``, ``package:object``, paths."""

from __future__ import annotations

import importlib
import json
import lzma
import os
import struct
import sys
import sysconfig
import tarfile
import traceback
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl

from ipfs_dataset_core.errors import AddressError, ExportError, FormatError, IPFSDatasetError
from ipfs_dataset_core.interfaces.encoded_file import EncodedFile

if TYPE_CHECKING:
    from collections.abc import Iterator

# Short names of packages, and the modules that contain their datasets.
_PACKAGES = {"torchvision": "torchvision.datasets", "torchaudio": "torchaudio.datasets"}
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
# Raised when a damaged archive is read; RuntimeError for encrypted members and unknown compression.
_DAMAGE = (
    *(OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile),
    *(zlib.error, lzma.LZMAError, struct.error),
)
_PIECE_BYTES = 1 << 20
# Files with these endings are archives, even if they are too damaged to be recognized.
_ZIP_NAMES = (".zip",)
_TAR_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_WORDS = {"true": True, "false": False, "none": None}


def named_dataset(name: str) -> Any:
    """Returns the dataset with a given name, importing it and calling it if it is a class or function.

    Args:
        name: ``torchvision:CIFAR10?root=data&train=true``, or ``package.module:object`` with optional
            arguments after a question mark. Values are true, false, none, numbers, JSON, or text.

    Raises:
        AddressError: The object cannot be imported.
        ExportError: The object cannot be called with these arguments.
    """
    target, _, query = name.partition("?")
    module, colon, path = target.partition(":")
    if not colon or not module or not path:
        raise AddressError(
            f"{name!r} is neither a path that exists nor a dataset: write torchvision:CIFAR10?root=data, or "
            "package.module:object"
        )
    found = _imported(_PACKAGES.get(module, module), path)
    arguments = {key: _value(text) for key, text in parse_qsl(query, keep_blank_values=True)}
    # An instance of a dataset may also be callable.
    if not isinstance(found, type) and (
        not callable(found) or hasattr(found, "__getitem__") or hasattr(found, "__iter__")
    ):
        if arguments:
            raise ExportError(f"{target!r} is an object and takes no arguments: {query!r}")
        return found
    try:
        return found(**arguments)
    except IPFSDatasetError:
        raise
    except (Exception, SystemExit) as error:
        raise ExportError(
            f"{target!r} cannot be created with {arguments}: {described(error)}"
        ) from error


def described(error: BaseException) -> str:
    """Returns an exception raised by the user's code, with the file and line that raised it."""
    if isinstance(error, SystemExit):
        text = f"it calls sys.exit({error.code!r})"
    else:
        text = f"{type(error).__name__}: {error}"
    named = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<")
    ]
    if not named or named[-1].filename.startswith((__file__, _STANDARD_LIBRARY)):
        return text
    return f"{text} ({named[-1].filename}, line {named[-1].lineno})"


def raised_by_dataset(error: BaseException) -> bool:
    """Returns whether an exception was raised by the code of a dataset while its samples were read.

    In that case, the last frame of this library in the traceback is the one that reads samples.
    """
    ours = [
        name
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if (name := frame.f_globals.get("__name__", "")).startswith(
            ("ipfs_dataset.", "ipfs_dataset_")
        )
    ]
    return ours[-1:] == ["ipfs_dataset_core.publishing.dataset_samples"]


def _imported(module: str, path: str) -> Any:
    # As with `python -m`, modules in the current folder can be imported.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise AddressError(f"{module!r} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:
        raise AddressError(f"{module!r} cannot be imported: {described(error)}") from error
    try:
        for part in path.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise AddressError(f"{module!r} has no {path!r}: {error}") from error
    return found


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text


class LocalSamples:
    """The files of a local path as samples: images as EncodedFile, all others as bytes.

    Args:
        path: A folder, an archive or a file. If all files of a folder are in subfolders, the top-level
            subfolders are their classes and samples are ``(data, class number)``; otherwise ``(data, name)``.

    Links are followed, as `ImageFolder` does.

    Raises:
        AddressError: There is no such file or folder.
        ExportError: A folder cannot be read, or something in it is neither a file nor a folder.
        FormatError: The archive cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.class_to_idx: dict[str, int] = {}
        if path.is_dir():
            self._names = sorted(_files_below(path))
            tops = {name.partition("/")[0] for name in self._names if "/" in name}
            if self._names and all("/" in name for name in self._names):
                self.class_to_idx = {name: number for number, name in enumerate(sorted(tops))}
        elif path.is_file():
            self._names = [path.name]
        else:
            raise AddressError(f"{str(path)!r} is neither a file nor a folder")
        self._archive = _archive_kind(path) if path.is_file() else None

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        if self._archive:
            for name, data in self._members():
                yield self._decoded(name, data), name
            return
        for name in self._names:
            path = self._path / name if self._path.is_dir() else self._path
            label = self.class_to_idx.get(name.partition("/")[0], name)
            if path.suffix.lower() in _IMAGES:
                yield EncodedFile(path), label
            else:
                yield path.read_bytes(), label

    def _members(self) -> Iterator[tuple[str, bytes]]:
        try:
            if self._archive == "zip":
                with zipfile.ZipFile(self._path) as archive:
                    for entry in archive.infolist():
                        if not entry.is_dir():
                            yield entry.filename, archive.read(entry)
                return
            # Not as a stream ("r|*"), for which tarfile does not check gzip checksums.
            with tarfile.open(self._path) as tar:
                for member in tar:
                    if member.isfile() and (file := tar.extractfile(member)) is not None:
                        yield member.name, file.read()
                # The checksum follows the end of the archive.
                while tar.fileobj is not None and tar.fileobj.read(_PIECE_BYTES):
                    pass
        except _DAMAGE as error:
            raise FormatError(f"{str(self._path)!r} cannot be read: {error}") from error

    def _decoded(self, name: str, data: bytes) -> Any:
        return EncodedFile(data) if name.lower().endswith(_IMAGES) else data


def _archive_kind(path: Path) -> Literal["zip", "tar"] | None:
    """Returns the kind of archive by its name, else by its content; None if the file is not an archive."""
    name = path.name.lower()
    if name.endswith(_ZIP_NAMES):
        return "zip"
    if name.endswith(_TAR_NAMES):
        return "tar"
    if zipfile.is_zipfile(path):
        return "zip"
    return "tar" if tarfile.is_tarfile(path) else None


def _files_below(folder: Path) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise ExportError(f"{error.filename!r} cannot be read: {error.strerror}") from error

    for place, below, names in os.walk(folder, onerror=refuse, followlinks=True):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in below:
            path = Path(place, name)
            if path.is_symlink() and Path(place).resolve().is_relative_to(path.resolve()):
                raise ExportError(f"{str(path)!r} is a link to a folder that it lies in")
        for name in names:
            path = Path(place, name)
            if name.startswith("."):
                continue
            if not path.is_file():
                raise ExportError(
                    f"{str(path)!r} is a link to nothing, or no file: remove it, or give it a name that "
                    "starts with a dot"
                )
            yield path.relative_to(folder).as_posix()
