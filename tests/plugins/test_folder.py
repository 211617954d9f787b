from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import FormatError, LimitError, Limits, ObjectNotFoundError
from ipfs_dataset_core.testing import MemoryDirectory
from ipfs_dataset_plugins.folder import Folder, parse_listing

paths = st.lists(
    st.text(
        st.characters(exclude_characters="\0\r\n/\\:", exclude_categories=["Cs"]), min_size=1
    ).filter(lambda name: name.strip(" \t") not in ("", ".", "..") and name == name.rstrip(" \t")),
    min_size=1,
    max_size=3,
).map("/".join)


def listed(data: bytes) -> list[str]:
    return list(parse_listing(data, "folder/metadata.txt"))


def members(files) -> list[str]:
    return list(Folder().members(MemoryDirectory(files)))


@given(
    lines=st.lists(paths, max_size=10),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.sampled_from(["", "\ufeff"]),
    blank=st.sampled_from(["", "  ", "\t"]),
)
def test_every_path_is_read_back(lines, end, mark, blank):
    # A mark of its own in front of the first name cannot be told from the file's.
    lines = [line for line in lines if not line.startswith("\ufeff")]
    text = mark + end.join(part for line in lines for part in (line, blank))
    assert listed(text.encode()) == lines


@given(st.binary(max_size=300))
def test_any_bytes_are_a_listing_or_a_typed_error(data):
    try:
        result = listed(data)
    except FormatError:
        return
    for path in result:
        assert not path.startswith("/")
        assert ".." not in path.split("/")
        assert "\0" not in path


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("./a/b", "a/b"),
        ("././a", "a"),
        ("a//b", "a/b"),
        ("a b \t", "a b"),
        (" a", " a"),
        ("ą/ę/źł.txt", "ą/ę/źł.txt"),
        ("a\u2028b", "a\u2028b"),
        ("..a/b..", "..a/b.."),
        ("%2e%2e/a", "%2e%2e/a"),
        ("a:b", "a:b"),
    ],
)
def test_harmless_lines_are_paths(line, path):
    assert listed(line.encode()) == [path]


@pytest.mark.parametrize(
    "line",
    ["/etc/passwd", "../up", "a/../../b", "a/..", "..", "a\0b", "ipfs://Qm/a", "https://x/a",
     "C:\\a", "c:/a", "\\\\server\\a", "..\\a", "a\\..\\b", ".", "./"],
)  # fmt: skip
def test_lines_that_lead_elsewhere_are_refused_by_number(line):
    with pytest.raises(FormatError, match=r"Line 4 of 'folder/metadata.txt'"):
        listed(f"a\r\n\nb\r{line}\nc".encode())


def test_a_line_that_is_not_utf8_is_refused_by_number():
    with pytest.raises(FormatError, match=r"Line 2 .*is not UTF-8"):
        listed(b"a\n\xff\xfe\n")


def test_a_path_listed_twice_is_two_members():
    assert listed(b"a\nb\na\n") == ["a", "b", "a"]


def test_limits():
    assert listed(b"x" * 4096) == ["x" * 4096]
    with pytest.raises(LimitError, match="4096"):
        listed(b"x" * 4097)
    few = Limits(members=2, listing_bytes=3)
    assert list(parse_listing(b"a\nb", "listing", few)) == ["a", "b"]
    with pytest.raises(LimitError, match=r"limit of 2.*Limits\(members="):
        parse_listing(b"a\nb\nc", "listing", few)
    directory = MemoryDirectory({"metadata.txt": b"a\nb\n"}, limits=few)
    with pytest.raises(LimitError, match=r"folder/metadata\.txt.*4 bytes"):
        Folder().members(directory)


def test_the_listing_decides_what_the_members_are():
    assert members({"a": b"", "b": b"", "metadata.txt": b"b\n"}) == ["b"]


@pytest.mark.parametrize("content", [b"", b"\n \n\r\n", b"\xef\xbb\xbf"])
def test_a_blank_listing_means_no_members(content):
    assert members({"a": b"", "metadata.txt": content}) == []


def test_without_a_listing_every_real_file_is_a_member():
    files = ["b/metadata.txt", "a", ".DS_Store", "b/.DS_Store", "._a", "__MACOSX/a", "b/c", ".x"]
    assert members(dict.fromkeys(files, b"")) == [".x", "a", "b/c", "b/metadata.txt"]


def test_samples_are_paths_and_contents():
    directory = MemoryDirectory({"x/1": b"one", "2": b"two", "metadata.txt": b"2\n./x/1\n"})
    assert list(Folder().samples(directory)) == [("2", b"two"), ("x/1", b"one")]


def test_a_listed_file_that_is_missing_is_an_error():
    with pytest.raises(ObjectNotFoundError, match="gone"):
        list(Folder().samples(MemoryDirectory({"metadata.txt": b"gone\n"})))
