"""Every dialect of TAR as GNU tar and bsdtar read it; `tarfile` is wrong about some."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from ipfs_dataset_core import FormatError, LimitError, Limits
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins.tar.reader import TarReader
from tests.support.archives import by_tarfile
from tests.support.tar_headers import END, GNU, USTAR, V7, header, member, pax

TIMES = b"15302700315\0" * 2


def both(data: bytes, **limits):
    """Returns what is read front to back, which has to be what is read by number."""
    file, reader = MemoryFile(data, limits=Limits(**limits)), TarReader()
    index = reader.load_index(file, reader.index(file).dump())
    numbered = [reader.read(file, index, position) for position in range(len(index))]
    assert list(reader.samples(file)) == numbered
    assert list(reader.read_each(file, index, range(len(index)))) == numbered
    return numbered


@pytest.mark.parametrize(
    ("magic", "at345", "expected"),
    [
        (GNU, TIMES, "f"),  # tar -g in the format that Debian's has by default
        (GNU, b"\x80" + bytes(7) + b"\0\1\2\3" + TIMES[:12], "f"),
        (GNU, b"aaa/bbb", "aaa/bbb/f"),  # Go before 1.8
        (GNU, "café".encode(), "f"),
        (USTAR, b"aaa/bbb", "aaa/bbb/f"),
        (USTAR, b"p" * 155, "p" * 155 + "/f"),
        (V7, b"anything", "f"),
        (V7, TIMES, "f"),
    ],
)
def test_only_dialects_that_have_a_prefix_have_one(magic, at345, expected):
    assert both(member(b"f", b"x", magic=magic, at345=at345) + END) == [(expected, b"x")]


def test_stars_times_behind_its_prefix_are_no_part_of_it():
    data = member(b"f", b"x", at345=b"d", at476=TIMES, at508=b"tar\0")
    assert both(data + END) == [("d/f", b"x")]


@pytest.mark.parametrize("kind", [b"0", b"\0", b"7", b"Q", b"E", b"Z"])
def test_unknown_kinds_are_regular_files_as_posix_wants(kind):
    assert both(member(b"f", b"content", kind) + END) == [("f", b"content")]


@pytest.mark.parametrize("kind", [b"2", b"3", b"4", b"5", b"6", b"A", b"D", b"I", b"V"])
def test_what_is_no_file_is_left_out(kind):
    data = b"" if kind.isdigit() else b"a list of names\0"
    assert both(member(b"f", data, kind) + member(b"g", b"1") + END) == [("g", b"1")]


def test_a_header_of_the_old_format_with_bytes_where_others_have_devices_is_sound():
    assert both(member(b"f", b"x", magic=V7, at329=b"garbage!garbage!") + END) == [("f", b"x")]


@pytest.mark.parametrize(
    "data",
    [
        member(b"f", b"the rest", b"M", GNU),
        pax(b"g", GNU__volume__filename="f", GNU__volume__offset="512") + member(b"f", b"rest"),
    ],
)
def test_a_file_that_began_in_another_volume_is_refused(data):
    with pytest.raises(FormatError, match=r"one volume of several.*'f'"):
        list(TarReader().samples(MemoryFile(data + END)))
    with pytest.raises(FormatError, match="one piece"):
        TarReader().index(MemoryFile(data + END))


def numbers(*values: int) -> bytes:
    return b"".join(b"%011o\0" % value for value in values)


CONTENT = bytes(1000) + b"abc" + bytes(997) + b"de" + bytes(998)
PAIRS = (1000, 3, 2000, 2)
MAP_1 = b"2\n1000\n3\n2000\n2\n".ljust(512, b"\0")


def pax_0_0() -> bytes:
    """Returns records of which some are there several times, in their order."""
    pairs = [("size", 3000), ("offset", 1000), ("numbytes", 3), ("offset", 2000), ("numbytes", 2)]
    lines = [b" GNU.sparse.%s=%d\n" % (key.encode(), value) for key, value in pairs]
    return member(b"pax", b"".join(b"%d" % (len(line) + 2) + line for line in lines), b"x")


SPARSE = {
    "old GNU": member(b"f", b"abcde", b"S", GNU, at386=numbers(*PAIRS), at483=numbers(3000)),
    "old GNU, continued": header(
        b"f", 5, b"S", GNU, at386=numbers(1000, 3), at482=b"\1", at483=numbers(3000)
    )
    + (numbers(2000, 2) + bytes(480)).ljust(512, b"\0")
    + b"abcde".ljust(512, b"\0"),
    "star": member(
        b"f", b"abcde", b"S", at356=numbers(*PAIRS), at452=numbers(3000), at508=b"tar\0"
    ),
    "pax 0.0": pax_0_0() + member(b"f", b"abcde"),
    "pax 0.1": pax(GNU__sparse__size="3000", GNU__sparse__map="1000,3,2000,2")
    + member(b"f", b"abcde"),
    "pax 0.1 with a size": pax(GNU__sparse__size="3000", GNU__sparse__map="1000,3,2000,2", size="5")
    + member(b"f", b"abcde"),
    "pax 1.0": pax(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize="3000")
    + member(b"f", MAP_1 + b"abcde"),
    "pax 1.0 with a size": pax(
        GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize="3000", size="517"
    )
    + header(b"f", 0)
    + (MAP_1 + b"abcde").ljust(1024, b"\0"),
}


@pytest.mark.parametrize("form", SPARSE)
def test_sparse_members_of_every_form(form):
    assert both(SPARSE[form] + member(b"g", b"1") + END) == [("f", CONTENT), ("g", b"1")]


def test_hard_links_to_sparse_members_have_their_content():
    data = SPARSE["old GNU"] + header(b"h", 0, b"1", at157=b"f") + END
    assert both(data) == [("f", CONTENT), ("h", CONTENT)]


@pytest.mark.parametrize("size", [0, 7])
def test_a_hard_link_with_a_size_and_no_content_is_what_it_points_to(size):
    data = member(b"f", b"content") + header(b"h", size, b"1", at157=b"f")
    expected = [("f", b"content"), ("h", b"content")]
    assert both(data + END) == both(data) == expected
    assert both(data + member(b"g", b"1") + END) == [*expected, ("g", b"1")]


def test_a_hard_link_with_its_own_content_has_that():
    """POSIX allows it since 2001; libarchive reads it."""
    data = member(b"f", b"content") + member(b"h", b"content", b"1", at157=b"f")
    expected = [("f", b"content"), ("h", b"content"), ("g", b"1")]
    assert both(data + member(b"g", b"1") + END) == expected


def test_a_sparse_member_may_not_stand_for_gigabytes_of_zeros():
    data = pax(GNU__sparse__size=f"{2 << 30}", GNU__sparse__map="0,1") + member(b"f", b"x") + END
    with pytest.raises(LimitError, match=r"'f'.*2147483648.*expansion_ratio"):
        both(data)
    small = pax(GNU__sparse__size="3000000", GNU__sparse__map="0,1") + member(b"f", b"x") + END
    assert both(small) == [("f", b"x".ljust(3_000_000, b"\0"))]
    with pytest.raises(LimitError, match="expansion_bytes"):
        both(small, expansion_bytes=1000)
    assert len(both(small, expansion_bytes=1000, expansion_ratio=3_000_000)[0][1]) == 3_000_000


def _gnu_tar() -> str | None:
    tar = shutil.which("tar")
    if tar is None:
        return None
    run = subprocess.run([tar, "--version"], capture_output=True, text=True, check=False)
    return tar if "GNU tar" in run.stdout else None


TOOLS = {"GNU tar": _gnu_tar(), "bsdtar": shutil.which("bsdtar")}
OPTIONS = {
    "GNU tar": {
        "v7": ["--format=v7"],
        "oldgnu": ["--format=oldgnu", "-S"],
        "gnu": ["--format=gnu", "-S"],
        "ustar": ["--format=ustar"],
        "posix": ["--format=posix"],
        "sparse 0.0": ["--format=posix", "-S", "--sparse-version=0.0"],
        "sparse 0.1": ["--format=posix", "-S", "--sparse-version=0.1"],
        "sparse 1.0": ["--format=posix", "-S", "--sparse-version=1.0"],
        "incremental gnu": ["--format=gnu", "-g", "snapshot"],
        "incremental oldgnu": ["--format=oldgnu", "-g", "snapshot"],
        "incremental posix": ["--format=posix", "-g", "snapshot"],
        "label": ["--format=gnu", "-V", "LABEL"],
    },
    "bsdtar": {name: [f"--format={name}"] for name in ("v7tar", "ustar", "gnutar", "pax")},
}


@pytest.mark.parametrize(
    ("tool", "options"), [(tool, name) for tool, names in OPTIONS.items() for name in names]
)
def test_what_tools_pack_is_read_as_they_extract_it(tool, options, tmp_path):
    program = TOOLS[tool]
    if program is None:
        pytest.skip(f"{tool} is not installed")
    source, out = tmp_path / "data", tmp_path / "out"
    (source / "sub").mkdir(parents=True)
    out.mkdir()
    (source / "a.txt").write_bytes(b"a")
    (source / "sub" / "link.txt").hardlink_to(source / "a.txt")
    (source / "soft").symlink_to("a.txt")
    with (source / "sparse").open("wb") as sparse:
        for place in range(7):
            sparse.seek(place * 50_000)
            sparse.write(b"%d" % place)
    if "v7" not in options:
        deep = source / ("d" * 60) / ("e" * 60)
        deep.mkdir(parents=True)
        (deep / "long").write_bytes(b"long")
    if "v7" not in options and "ustar" not in options:
        (source / ("n" * 170)).write_bytes(b"name")
    command = [program, *OPTIONS[tool][options], "-cf", "x.tar", "data"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    unpack = [program, "-xf", "../x.tar", *(["-g", "/dev/null"] if "incr" in options else [])]
    subprocess.run(unpack, cwd=out, check=True, capture_output=True)
    expected = {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert dict(both((tmp_path / "x.tar").read_bytes())) == expected
    assert len(expected) >= 3


def test_where_tarfile_takes_times_for_a_folder_we_do_not():
    data = member(b"f", b"x", magic=GNU, at345=TIMES) + END
    assert both(data) == [("f", b"x")]
    if sys.version_info < (3, 15):
        assert by_tarfile(data) != [("f", b"x")]
