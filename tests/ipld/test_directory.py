import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import FormatError, LimitError, VerificationError
from ipfs_dataset_core.ipld import (
    CID,
    DAG_PB,
    RAW,
    DirectoryEntry,
    build_directory,
    build_symlink,
    dag_pb,
    entries,
    finder,
    is_directory,
    lookup,
    make_cid,
    parse_directory,
)
from ipfs_dataset_core.ipld.directory import differing_entries
from tests.ipld.blocks import CIDV1, Blocks, child

CHILD = make_cid(b"child", RAW)


def directory(blocks: Blocks, *names: bytes, cid: bytes = CHILD.to_bytes()) -> CID:
    block = dag_pb.encode(b"\x08\x01", [(cid, name, 5) for name in names])
    made = make_cid(block, DAG_PB)
    blocks.emit(made, block)
    return made


def test_entries_and_lookups_of_a_single_block():
    blocks = Blocks()
    names = ["b", "a", "ü", "a.b", "with space", "..."]
    files = [(name, blocks.add(name.encode())) for name in names]
    built = build_directory(files, CIDV1, blocks.emit)
    listed = list(entries(built.cid, blocks.load))
    assert [entry.name for entry in listed] == sorted(names, key=str.encode)
    assert parse_directory(built.cid, blocks[built.cid]) == listed
    assert is_directory(built.cid, blocks[built.cid])
    for name, file in files:
        found = lookup(built.cid, name, blocks.load)
        assert found == DirectoryEntry(name, file.cid, file.tsize)
    assert lookup(built.cid, "A", blocks.load) is None
    find = finder(built.cid, blocks.load)
    assert [find(name) for name in ("a", "A")] == [lookup(built.cid, "a", blocks.load), None]


def test_an_empty_directory_has_no_entries():
    blocks = Blocks()
    built = build_directory([], CIDV1, blocks.emit)
    assert list(entries(built.cid, blocks.load)) == []
    assert lookup(built.cid, "a", blocks.load) is None


def test_names_that_are_not_utf8_are_kept():
    blocks = Blocks()
    cid = directory(blocks, b"\xff\xfe.bin")
    (entry,) = entries(cid, blocks.load)
    assert entry.name == "\udcff\udcfe.bin"
    assert lookup(cid, entry.name, blocks.load) == entry


@pytest.mark.parametrize("name", [b"", b".", b"..", b"../evil", b"/abs", b"a\0b"])
def test_unusable_names_are_refused_only_when_they_are_reached(name):
    blocks = Blocks()
    cid = directory(blocks, b"good", name)
    assert lookup(cid, "good", blocks.load) == DirectoryEntry("good", CHILD, 5)
    with pytest.raises(FormatError, match="not a valid name") as caught:
        list(entries(cid, blocks.load))
    assert str(cid) in str(caught.value)
    assert repr(name) in str(caught.value)
    with pytest.raises(FormatError, match="cannot be the name of an entry"):
        lookup(cid, name.decode(), blocks.load)


def test_a_name_that_cannot_be_encoded_is_refused():
    blocks = Blocks()
    with pytest.raises(FormatError, match="cannot be the name of an entry"):
        lookup(directory(blocks), "\ud800", blocks.load)


def test_duplicate_names_are_refused():
    blocks = Blocks()
    cid = directory(blocks, b"a", b"b", b"b")
    assert lookup(cid, "a", blocks.load) is not None
    for use in (lambda: lookup(cid, "b", blocks.load), lambda: list(entries(cid, blocks.load))):
        with pytest.raises(VerificationError, match="'b' twice"):
            use()


def test_a_malformed_cid_is_named_with_its_entry():
    blocks = Blocks()
    cid = directory(blocks, b"bad", cid=b"\x05junk")
    for use in (lambda: lookup(cid, "bad", blocks.load), lambda: list(entries(cid, blocks.load))):
        with pytest.raises(VerificationError, match=f"Entry b'bad' of directory {cid}"):
            use()


def test_files_and_symlinks_are_no_directories():
    blocks = Blocks()
    file = blocks.add(b"hello")
    link = build_symlink("../hello", CIDV1, blocks.emit)
    for built in (file, link):
        assert not is_directory(built.cid, blocks[built.cid])
        with pytest.raises(FormatError, match="not a directory"):
            lookup(built.cid, "a", blocks.load)
        with pytest.raises(FormatError, match="not a"):
            list(entries(built.cid, blocks.load))


def test_the_number_of_entries_is_limited():
    blocks = Blocks()
    cid = directory(blocks, b"a", b"b", b"c")
    assert len(list(entries(cid, blocks.load, limit=3))) == 3
    with pytest.raises(LimitError, match="more than 2"):
        list(entries(cid, blocks.load, limit=2))


def test_entries_of_a_single_block_are_sorted_in_any_case():
    blocks = Blocks()
    cid = directory(blocks, b"a", b"b")
    assert list(entries(cid, blocks.load, in_order=False)) == list(entries(cid, blocks.load))
    twice = directory(blocks, b"b", b"a", b"b")
    with pytest.raises(VerificationError, match="'b' twice"):
        list(entries(twice, blocks.load, in_order=False))


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.binary(max_size=8), max_size=12))
def test_what_is_built_can_be_listed_and_looked_up(files):
    usable = {
        name: data
        for name, data in files.items()
        if name not in (".", "..") and not set("/\0") & set(name) and name.isprintable()
    }
    blocks = Blocks()
    built = {name: blocks.add(data) for name, data in usable.items()}
    cid = build_directory(built.items(), CIDV1, blocks.emit).cid
    assert {e.name: e.cid for e in entries(cid, blocks.load)} == {
        n: b.cid for n, b in built.items()
    }
    for name in built:
        assert blocks.load(child(cid, name, blocks.load)) == usable[name]


def test_differing_entries_of_single_blocks_are_those_with_different_targets():
    blocks = Blocks()
    one, two, same = (blocks.add(data) for data in (b"one", b"two", b"same"))

    def made(**files):
        return build_directory(files.items(), CIDV1, blocks.emit).cid

    before, after = made(a=one, gone=two, same=same), made(a=two, new=one, same=same)
    loads = (blocks.load, blocks.load)
    changed = [("a", one.cid, two.cid), ("gone", two.cid, None), ("new", None, one.cid)]
    assert differing_entries((before, after), loads) == changed
    assert differing_entries((before, before), loads) == []
    assert differing_entries((None, made(a=one)), loads) == [("a", None, one.cid)]
    assert differing_entries((made(a=one), None), loads) == [("a", one.cid, None)]
