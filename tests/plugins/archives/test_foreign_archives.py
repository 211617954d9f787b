"""Archives that other projects test theirs with: the standard library's result, or a refusal."""

from __future__ import annotations

import base64
import importlib.util
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ipfs_dataset_core import FormatError, LimitError, Limits
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins.tar.reader import TarReader
from ipfs_dataset_plugins.zip.reader import ZipReader
from tests.support.archives import by_tarfile, by_zipfile, outcome

# Some of them stand for gigabytes of zeros.
LIMIT = 64 << 20
LIMITS = Limits(member_bytes=LIMIT)
# Damage makes many more of these: none of the small archives has a member of this size otherwise.
LIMITS_OF_DAMAGED = Limits(member_bytes=1 << 20)


def _go_folders() -> list[Path]:
    go = shutil.which("go")
    if go is None:
        return []
    root = subprocess.run([go, "env", "GOROOT"], capture_output=True, text=True, check=False)
    source = Path(root.stdout.strip()) / "src" / "archive"
    return [source / "tar" / "testdata", source / "zip" / "testdata"]


def _archives(*wanted: str) -> list[Path]:
    tests = importlib.util.find_spec("test")  # CPython's own, which distributions may leave out
    python = [Path(folder) for folder in (tests and tests.submodule_search_locations) or ()]
    folders = [*python, *(folder / "archivetestdata" for folder in python), *_go_folders()]
    return [
        path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.name.split(".")[0] and any(f".{part}" in path.name for part in wanted)
    ]


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return base64.b64decode(data) if path.suffix == ".base64" else data


def _name(path: Path) -> str:
    return f"{path.parent.parent.name}-{path.name}"


def _reference(read, data: bytes):
    try:
        return read(data)
    except Exception as error:
        return error


TARS = _archives("tar")
ZIPS = _archives("zip")


def _agrees(ours, read, data: bytes) -> None:
    """The standard library is asked only where we read all: it unpacks whatever it is given."""
    if isinstance(ours, (FormatError, LimitError)):
        assert "object" in str(ours)
    else:
        assert ours == _reference(read, data)


@pytest.mark.skipif(not TARS, reason="neither CPython's tests nor Go are installed")
@pytest.mark.parametrize("path", TARS, ids=_name)
def test_a_foreign_tar_gives_what_tarfile_gives_or_an_error(path):
    data = _content(path)
    ours = outcome(TarReader().samples, MemoryFile(data, limits=LIMITS))
    if path.name in SIZED_SPARSE:
        assert ours == SIZED_SPARSE[path.name]
    else:
        _agrees(ours, by_tarfile, data)


@pytest.mark.skipif(not TARS, reason="neither CPython's tests nor Go are installed")
@pytest.mark.parametrize("path", TARS, ids=_name)
def test_a_foreign_tar_reads_the_same_by_index(path):
    file = MemoryFile(_content(path))
    reader = TarReader()
    if not reader.sliceable(file):
        with pytest.raises(FormatError, match=r"plain .tar or a .zip"):
            reader.index(file)
        return
    streamed = outcome(reader.samples, file)
    indexed = outcome(_by_index, reader, file)
    if isinstance(streamed, Exception):
        assert isinstance(indexed, (FormatError, LimitError))
    else:
        assert indexed == streamed


@pytest.mark.skipif(not ZIPS, reason="neither CPython's tests nor Go are installed")
@pytest.mark.parametrize("path", ZIPS, ids=_name)
def test_a_foreign_zip_gives_what_zipfile_gives_or_an_error(path):
    data = _content(path)
    ours = outcome(ZipReader().samples, MemoryFile(data, limits=LIMITS))
    _agrees(ours, by_zipfile, data)


@pytest.mark.parametrize(
    "name",
    ["testtar.tar", "gnu.tar", "pax.tar", "star.tar", "v7.tar", "ustar.tar", "sparse-formats.tar",
     "hardlink.tar", "gnu-utf8.tar", "gnu-not-utf8.tar", "pax-records.tar", "testtar.tar.xz",
     "pax-global-records.tar", "gnu-multi-hdrs.tar", "pax-multi-hdrs.tar", "xattrs.tar"],
)  # fmt: skip
def test_sound_foreign_tars_are_read_not_refused(name):
    paths = [path for path in TARS if path.name == name]
    if not paths:
        pytest.skip(f"{name} is not installed")
    data = _content(paths[0])
    assert outcome(TarReader().samples, MemoryFile(data)) == by_tarfile(data)


@pytest.mark.parametrize(
    "name",
    ["zipdir.zip", "zip_cp437_header.zip", "dd.zip", "test.zip", "test-prefix.zip", "zip64.zip",
     "test-trailing-junk.zip", "go-with-datadesc-sig.zip", "unix.zip", "winxp.zip", "symlink.zip",
     "utf8-infozip.zip", "time-7zip.zip", "readme.zip", "subdir.zip", "zip64-2.zip"],
)  # fmt: skip
def test_sound_foreign_zips_are_read_not_refused(name):
    paths = [path for path in ZIPS if path.name == name]
    if not paths:
        pytest.skip(f"{name} is not installed")
    data = _content(paths[0])
    assert outcome(ZipReader().samples, MemoryFile(data)) == by_zipfile(data)


def _by_index(reader, file):
    index = reader.index(file)
    return [reader.read(file, index, position) for position in range(len(index))]


def _has_content_in_a_link(data):
    """Tells whether a hard link has content, which GNU tar and bsdtar read, and `tarfile` does not."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            return any(member.islnk() and member.size for member in archive)
    except Exception:
        return False


@st.composite
def _damaged(draw, paths):
    data = bytearray(_content(draw(st.sampled_from(paths))))
    for _ in range(draw(st.integers(0, 3))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


# Sparse, with a size of their own, which `tarfile` takes for that of the content. The list is that of Go.
SIZED_SPARSE = {
    "pax-nil-sparse-data.tar": [("sparse.db", b"0123456789" * 100)],
    "pax-nil-sparse-hole.tar": [("sparse.db", bytes(1000))],
}
SMALL_TARS = [
    path
    for path in TARS
    if path.stat().st_size < 100_000 and "xz" not in path.name and path.name not in SIZED_SPARSE
]


@pytest.mark.filterwarnings("ignore:.*has bytes after its")
@pytest.mark.skipif(not SMALL_TARS, reason="neither CPython's tests nor Go are installed")
@settings(max_examples=400, deadline=None)
@given(data=_damaged(SMALL_TARS))
def test_a_damaged_foreign_tar_never_gives_another_list_than_tarfile(data):
    assume(not _has_content_in_a_link(data))
    ours = outcome(TarReader().samples, MemoryFile(data, limits=LIMITS_OF_DAMAGED))
    _agrees(ours, by_tarfile, data)


@pytest.mark.skipif(not ZIPS, reason="neither CPython's tests nor Go are installed")
@settings(max_examples=400, deadline=None)
@given(data=_damaged(ZIPS))
def test_a_damaged_foreign_zip_never_gives_another_list_than_zipfile(data):
    ours = outcome(ZipReader().samples, MemoryFile(data, limits=LIMITS_OF_DAMAGED))
    _agrees(ours, by_zipfile, data)
