"""Names of ZIP members as the tools write them that people use."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from ipfs_dataset_core import FormatError
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins.zip import ZipReader
from tests.support.zip_records import UTF8, Entry, archive, unicode_path

JAPANESE, GERMAN = "日本/猫é.txt", "Ölfässer.txt"
NAMES = [JAPANESE, GERMAN, "плащ.txt", "plain.txt", "naïve café/ß", "😀.png"]


def names(data: bytes, encoding: str | None = None) -> list[str]:
    """Returns the names, read in all ways that there are."""
    file, reader = MemoryFile(data), ZipReader(encoding=encoding)
    index = reader.load_index(file, reader.index(file).dump())
    samples = list(reader.samples(file))
    assert [reader.read(file, index, position) for position in range(len(index))] == samples
    assert list(reader.read_each(file, index, range(len(index)))) == samples
    return [name for name, _ in samples]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("flags", [0, UTF8])
def test_utf_8_is_read_with_the_flag_and_without_it(name, flags):
    """Without is what Info-ZIP on Unix and the Archive Utility of macOS write."""
    assert names(archive(Entry(name.encode(), b"1", flags))) == [name]


@pytest.mark.parametrize("raw", [GERMAN.encode("cp437"), b"lfsser.txt", b"__.txt"])
@pytest.mark.parametrize("local_extra", [None, b""])
def test_the_unicode_path_comes_first(raw, local_extra):
    """WinZip and Info-ZIP on Windows write it, beside the name in the system's own code page."""
    entry = Entry(raw, b"1", extra=unicode_path(GERMAN, raw), local_extra=local_extra, system=0)
    time = b"UT\5\0\1abcd"
    assert names(archive(entry)) == [GERMAN]
    with_time = Entry(raw, b"1", extra=time + unicode_path(GERMAN, raw), local_extra=local_extra)
    assert names(archive(with_time)) == [GERMAN]


def test_a_unicode_path_of_another_name_does_not_count():
    """Who renamed the member did not know of the field; its checksum shows that."""
    for extra in (unicode_path("old.txt", b"before"), unicode_path("x", b"new.txt", version=2)):
        assert names(archive(Entry(b"new.txt", b"1", extra=extra))) == ["new.txt"]


def test_a_unicode_path_may_not_lead_out_of_the_folder():
    entry = Entry(b"x", b"1", extra=unicode_path("../../etc", b"x"))
    with pytest.raises(FormatError, match="Repack"):
        names(archive(entry))


@pytest.mark.parametrize("length", range(9))
def test_a_unicode_path_that_is_cut_off_is_no_crash(length):
    field = unicode_path("名", b"x")[4:][:length]
    extra = b"up" + len(field).to_bytes(2, "little") + field
    try:
        assert names(archive(Entry(b"x", b"1", extra=extra)))
    except FormatError as error:
        assert "central directory" in str(error)  # noqa: PT017 - either is right


@pytest.mark.parametrize("name", [GERMAN, "Übergröße", "½ñ"])
def test_what_is_no_utf_8_is_of_code_page_437(name):
    assert names(archive(Entry(name.encode("cp437"), b"1"))) == [name]


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("cp932", "日本語ソ表.txt"), ("Shift-JIS", "猫"), ("gbk", "中文.txt"), ("cp866", "Привет"),
     ("iso2022_jp", "日本語"), ("latin-1", "Ölfässer"), ("utf-8", JAPANESE)],
)  # fmt: skip
def test_another_encoding_is_read_where_it_is_given(encoding, name):
    data = archive(Entry(name.encode(encoding), b"1"), Entry(b"ascii", b"2"))
    assert names(data, encoding) == [name, "ascii"]
    flagged = Entry(GERMAN.encode(), b"1", UTF8)
    raw = "ソ".encode("cp932")
    extra = Entry(raw, b"2", extra=unicode_path("ソ", raw))
    assert names(archive(flagged, extra), encoding) == [GERMAN, "ソ"]


def test_a_name_that_is_not_of_the_given_encoding_is_refused():
    with pytest.raises(FormatError, match=r"'object'.*not valid in the encoding ascii"):
        names(archive(Entry("é".encode(), b"1")), "ascii")


def test_a_name_that_is_marked_as_utf_8_and_is_not_names_the_option():
    data = archive(Entry("猫".encode("cp932"), b"1", UTF8))
    with pytest.raises(FormatError, match=r"marked as UTF-8.*ZipReader\(encoding="):
        names(data)
    assert names(data, "cp932") == ["猫"]


def test_encodings_are_checked_when_they_are_given():
    for wrong in ("no-such-encoding", "base64"):
        with pytest.raises(LookupError, match=wrong):
            ZipReader(encoding=wrong)
    assert ZipReader(encoding="Shift-JIS").index_form == ZipReader(encoding="sjis").index_form
    assert ZipReader(encoding="cp932").index_form != ZipReader().index_form


def test_backslashes_of_dos_are_separators_as_for_unzip():
    """.NET wrote them; on Unix a file may be called so."""
    assert names(archive(Entry(b"a\\b\\c.txt", b"1", system=0))) == ["a/b/c.txt"]
    assert names(archive(Entry(b"a\\b.txt", b"1", system=3))) == ["a\\b.txt"]
    assert names(archive(Entry(b"a\\", system=0), Entry(b"a\\b", b"1", system=0))) == ["a/b"]
    # A second byte of Shift-JIS may be a backslash.
    assert names(archive(Entry("ソ.txt".encode("cp932"), b"1", system=0)), "cp932") == ["ソ.txt"]
    with pytest.raises(FormatError, match="Repack"):
        names(archive(Entry(b"..\\x", b"1", system=0)))


def test_a_header_with_another_name_is_still_refused():
    with pytest.raises(FormatError, match="the name in its own header is 'other'"):
        names(archive(Entry("é".encode(), b"1", local_name=b"other")))


PACK = {
    "zip": ["zip", "-q", "-r", "../x.zip", "."],
    "bsdtar": ["bsdtar", "--format=zip", "-cf", "../x.zip", "."],
    "7z": ["7z", "a", "-bd", "-tzip", "../x.zip", "."],
}


@pytest.mark.parametrize("tool", PACK)
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_what_tools_pack_has_its_names(tool, locale, tmp_path):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    source = tmp_path / "data"
    for name in NAMES:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    environment = {"LC_ALL": locale, "PATH": "/usr/local/bin:/usr/bin:/bin"}
    subprocess.run(PACK[tool], cwd=source, env=environment, capture_output=True, check=True)
    file = MemoryFile((tmp_path / "x.zip").read_bytes())
    found = {name.removeprefix("./"): data.decode() for name, data in ZipReader().samples(file)}
    assert found == {name: name for name in NAMES}
