"""Archives: TAR, compressed TAR and ZIP, with members of given sizes."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from benchmarks.data.noise import compressible, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABEL_BYTES = 3


def member_name(number: int) -> str:
    """Returns the name of a member or file in each archive and folder."""
    return f"{number:07}.bin"


def plain(path: Path, size: int) -> dict[str, Any]:
    """Writes a file."""
    with path.open("wb") as file:
        file.writelines(pieces(1, size))
    return {"bytes": size}


def tar(path: Path, members: int, size: int, seed: int = 3) -> dict[str, Any]:
    """Writes a TAR of members of equal size."""
    with path.open("wb") as file:
        _write_tar(file, _members(seed, members, size))
    return {"members": members, "member_bytes": size, "bytes": members * size}


def tar_pairs(path: Path, samples: int, size: int) -> dict[str, Any]:
    """Writes a TAR of samples of two members each, as in WebDataset: data and a label."""
    with path.open("wb") as file:
        _write_tar(file, _pairs(samples, size))
    return _pair_facts(samples, size)


def tar_gz(path: Path, samples: int, size: int) -> dict[str, Any]:
    """Writes such a TAR compressed with gzip; its data can be compressed."""
    with gzip.GzipFile(path, "wb", compresslevel=6, mtime=0) as file:
        _write_tar(cast("BinaryIO", file), _pairs(samples, size, squeezable=True))
    return _pair_facts(samples, size)


def zip_pairs(path: Path, samples: int, size: int, method: int) -> dict[str, Any]:
    """Writes the same members as a ZIP, stored or deflated."""
    _write_zip(path, _pairs(samples, size, squeezable=method != zipfile.ZIP_STORED), method)
    return _pair_facts(samples, size)


def zip_stored(path: Path, members: int, size: int) -> dict[str, Any]:
    """Writes a ZIP of members of equal size, stored."""
    _write_zip(path, _members(3, members, size), zipfile.ZIP_STORED)
    return {"members": members, "member_bytes": size, "bytes": members * size}


def _members(seed: int, members: int, size: int) -> Iterator[tuple[str, bytes]]:
    for number, data in enumerate(pieces(seed, members * size, size)):
        yield member_name(number), data


def _pairs(samples: int, size: int, *, squeezable: bool = False) -> Iterator[tuple[str, bytes]]:
    for number, data in enumerate(pieces(4, samples * size, size)):
        yield member_name(number), compressible(data) if squeezable else data
        yield f"{number:07}.cls", b"%03d" % (number % 1000)


def _pair_facts(samples: int, size: int) -> dict[str, Any]:
    members = {"members": 2 * samples, "samples": samples, "member_bytes": size}
    return {**members, "bytes": samples * (size + LABEL_BYTES)}


def _write_tar(file: BinaryIO, members: Iterator[tuple[str, bytes]]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def _write_zip(path: Path, members: Iterator[tuple[str, bytes]], method: int) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
