"""Directories walked block by verified block, small ones and sharded ones."""

from __future__ import annotations

import logging
from itertools import islice

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core.errors import (
    AddressError,
    FormatError,
    LimitError,
    ObjectNotFoundError,
    TransportError,
    VerificationError,
)
from ipfs_dataset_core.interfaces import ObjectDirectory, ObjectFile, Transport
from ipfs_dataset_core.ipld import (
    RAW,
    Built,
    build_directory,
    build_symlink,
    get_profile,
    hamt,
    make_cid,
)
from ipfs_dataset_core.ipld.cid import DAG_CBOR
from ipfs_dataset_core.ipld.dag_cbor import LinkBytes, encode
from ipfs_dataset_core.options import Limits, Options
from ipfs_dataset_core.reading.fetcher import Fetcher
from ipfs_dataset_core.reading.objects import (
    VerifiedDirectory,
    open_file,
    open_node,
    resolve_path,
)
from ipfs_dataset_core.sources.failover import SourcePool
from tests.support.builders import PROFILE, collector, noise, one_file, tree


class Memory(Transport):
    """Blocks in a dictionary, by multihash."""

    name = "memory"

    def __init__(self, blocks):
        self.blocks = blocks
        self.asked = []

    def get_block(self, cid):
        self.asked.append(cid)
        if cid.multihash not in self.blocks:
            raise ObjectNotFoundError(f"memory: has no block {cid}")
        return self.blocks[cid.multihash]


@pytest.fixture
def fetchers():
    """Makes fetchers over blocks, and closes them."""
    made = []

    def make(blocks):
        made.append(Fetcher(SourcePool([Memory(blocks)], Options(retries=0)), Options()))
        return made[-1]

    yield make
    for fetcher in made:
        fetcher.close()


FILES = {
    "b.txt": b"b",
    "a/deep/er.bin": noise(300_000),
    "a/x": b"",
    "größe/ä b": b"umlauts",
    "%20": b"literal",
}


def test_a_directory_lists_walks_and_opens_its_files(fetchers):
    root, blocks = tree(FILES)
    directory = open_node(fetchers(blocks), root, "here")
    assert isinstance(directory, ObjectDirectory)
    assert directory.names() == ["%20", "a", "b.txt", "größe"]
    assert list(directory.walk()) == ["%20", "a/deep/er.bin", "a/x", "b.txt", "größe/ä b"]
    for path, data in FILES.items():
        with directory.open(path) as file:
            assert (file.name, file.read()) == (path, data)
    assert directory.contains("a/deep")
    assert directory.contains("%20")
    assert not directory.contains("a/none")
    assert not directory.contains("b.txt/below")
    assert not directory.contains("../x")


def test_a_file_in_a_directory_can_be_read(fetchers):
    root, blocks = one_file(b"abc")
    file = open_node(fetchers(blocks), root, "here")
    assert isinstance(file, ObjectFile)
    assert (file.name, file.size, file.cid, file.read()) == ("here", 3, root, b"abc")


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=6)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(names.filter(lambda n: n not in (".", "..")), st.binary(max_size=4)))
def test_any_names_are_listed(files):
    root, blocks = tree(files)
    fetcher = Fetcher(SourcePool([Memory(blocks)], Options()), Options())
    directory = VerifiedDirectory(fetcher, root, "here")
    assert directory.names() == list(directory.walk()) == sorted(files, key=str.encode)
    for name, data in files.items():
        assert directory.open(name).read() == data
    fetcher.close()


def sharded(count):
    """Returns a directory of many names, small slots so that it is sharded."""
    blocks, emit = collector()
    profile = attrs.evolve(get_profile(PROFILE), hamt_threshold=200)
    files = {f"file-{number:04}": b"%d" % number for number in range(count)}
    built = []
    for name, data in files.items():
        cid, more = one_file(data)
        blocks.update(more)
        built.append((name, Built(cid, len(data), len(data))))
    return build_directory(built, profile, emit).cid, blocks, files


def test_a_listed_file_is_not_looked_up_again(fetchers, monkeypatch):
    root, blocks, files = sharded(600)
    directory = open_node(fetchers(blocks), root, "here")
    assert isinstance(directory, VerifiedDirectory)
    group = list(islice(directory.walk(), 64))
    parsed = []
    parse = hamt.parse_shard

    def parse_and_count(*args):
        parsed.append(args)
        return parse(*args)

    monkeypatch.setattr(hamt, "parse_shard", parse_and_count)
    directory.read_ahead(group)
    assert [directory.open(path).read() for path in group] == [files[path] for path in group]
    assert not parsed
    assert directory.open("file-0599").read() == b"599"
    assert parsed


def test_a_sharded_directory_is_like_any_other(fetchers):
    root, blocks, files = sharded(600)
    directory = open_node(fetchers(blocks), root, "here")
    assert isinstance(directory, ObjectDirectory)
    assert directory.names() == sorted(files)
    assert list(directory.walk()) == sorted(files)
    assert directory.open("file-0123").read() == b"123"
    with pytest.raises(ObjectNotFoundError, match="no entry named 'file-9999'"):
        directory.open("file-9999")


def test_one_name_of_a_sharded_directory_needs_few_blocks():
    root, blocks, _ = sharded(600)
    memory = Memory(blocks)
    fetcher = Fetcher(SourcePool([memory], Options()), Options())
    resolve_path(fetcher, root, ["file-0123"], "here")
    assert len(memory.asked) <= 4
    fetcher.close()


def test_the_error_for_a_missing_path_names_the_missing_part_and_its_directory(fetchers):
    root, blocks = tree(FILES)
    with pytest.raises(ObjectNotFoundError, match=r"'here'.*no entry named 'none'") as caught:
        resolve_path(fetchers(blocks), root, ["a", "none"], "here")
    assert isinstance(caught.value, FileNotFoundError)


def test_the_error_of_a_path_through_a_file_names_the_file(fetchers):
    root, blocks = tree(FILES)
    with pytest.raises(FormatError, match=r"'here': 'b.txt' is a file, not a directory"):
        resolve_path(fetchers(blocks), root, ["b.txt", "x"], "here")


@pytest.mark.parametrize("path", ["../x", "a/../b.txt", "/b.txt", "", "a//x", "b.txt\0"])
def test_paths_out_of_the_directory_are_refused(fetchers, path):
    root, blocks = tree(FILES)
    with pytest.raises((AddressError, FormatError)):
        VerifiedDirectory(fetchers(blocks), root, "here").open(path)


def test_a_directory_is_no_file(fetchers):
    root, blocks = tree(FILES)
    fetcher = fetchers(blocks)
    with pytest.raises(FormatError, match="is a directory, not a file"):
        open_file(fetcher, root, "here")
    with pytest.raises(FormatError, match="is a directory, not a file"):
        VerifiedDirectory(fetcher, root, "here").open("a")


def test_symlinks_are_never_followed_and_left_out_with_a_warning(fetchers, caplog):
    blocks, emit = collector()
    profile = get_profile(PROFILE)
    link = build_symlink("../../etc/passwd", profile, emit)
    file, more = one_file(b"x")
    blocks.update(more)
    root = build_directory([("link", link), ("real", Built(file, 1, 1))], profile, emit).cid
    directory = VerifiedDirectory(fetchers(blocks), root, "here")
    with caplog.at_level(logging.WARNING, "ipfs_dataset_core"):
        assert list(directory.walk()) == ["real"]
    assert "'here': 'link' is a symlink, skipped" in caplog.text
    with pytest.raises(FormatError, match="never followed"):
        directory.open("link")


def test_endlessly_nested_directories_are_refused(fetchers):
    root, blocks = tree({"/".join("d" for _ in range(Limits().directory_depth + 2)): b"x"})
    with pytest.raises(LimitError, match="deeper than"):
        list(VerifiedDirectory(fetchers(blocks), root, "here").walk())


def test_a_wrong_block_is_detected(fetchers):
    root, blocks = tree(FILES)
    blocks[root.multihash] = tree({"other": b"x"})[1][tree({"other": b"x"})[0].multihash]
    with pytest.raises(VerificationError, match=str(root)):
        open_node(fetchers(blocks), root, "here")


def test_a_missing_block_is_not_a_missing_name(fetchers):
    root, blocks = tree(FILES)
    del blocks[root.multihash]
    with pytest.raises(TransportError, match=str(root)) as caught:
        open_node(fetchers(blocks), root, "here")
    assert not isinstance(caught.value, ObjectNotFoundError)


def test_other_codecs_are_named(fetchers):
    data = b"\xa0"
    cid = make_cid(data, DAG_CBOR)
    with pytest.raises(FormatError, match="dag-cbor"):
        open_node(fetchers({cid.multihash: data}), cid, "here")


def data(value):
    """Returns a DAG-CBOR block with links, and its CID."""
    block = encode(value)
    return make_cid(block, DAG_CBOR), block


def link(cid):
    return LinkBytes(cid.to_bytes())


def test_a_path_leads_through_data_to_a_file(fetchers):
    folder, blocks = tree(FILES)
    inner, inner_block = data([0, {"photos": link(folder)}])
    outer, outer_block = data({"a": {"b": link(inner)}, "n": 1})
    alone, alone_block = data(link(outer))
    more = {inner.multihash: inner_block, outer.multihash: outer_block}
    fetcher = fetchers({**blocks, **more, alone.multihash: alone_block})
    for root in (outer, alone):
        path = ["a", "b", "1", "photos", "b.txt"]
        assert open_file(fetcher, resolve_path(fetcher, root, path, "o"), "o").read() == b"b"
        assert resolve_path(fetcher, root, path[:-1], "o") == folder
    with pytest.raises(ObjectNotFoundError, match="no entry named 'c'"):
        resolve_path(fetcher, outer, ["a", "c"], "o")
    with pytest.raises(FormatError, match="a number in dag-cbor data, not a link"):
        resolve_path(fetcher, outer, ["n"], "o")
    with pytest.raises(FormatError, match="name the path in it"):
        open_node(fetcher, outer, "o")


def test_wrong_data_are_detected(fetchers):
    folder, blocks = tree(FILES)
    root, _ = data({"a": link(folder)})
    _, lie = data({"a": link(make_cid(b"x", RAW))})
    with pytest.raises(VerificationError, match=str(root)):
        resolve_path(fetchers({**blocks, root.multihash: lie}), root, ["a"], "o")


def test_chains_of_links_are_limited(fetchers):
    folder, blocks = tree(FILES)
    cid = folder
    for _ in range(40):
        cid, block = data(link(cid))
        blocks[cid.multihash] = block
    with pytest.raises(LimitError, match="nothing but a link"):
        resolve_path(fetchers(blocks), cid, ["b.txt"], "o")


def test_prefetching_a_missing_path_raises_nothing(fetchers):
    root, blocks = tree(FILES)
    directory = VerifiedDirectory(fetchers(blocks), root, "here")
    directory.prefetch(["none", "b.txt", "../x", "b.txt/x"])
    assert directory.open("b.txt").read() == b"b"


def test_files_named_by_cid_are_read_from_the_same_sources(fetchers):
    root, blocks = tree(FILES)
    other, more = one_file(b"elsewhere")
    directory = VerifiedDirectory(fetchers({**blocks, **more}), root, "here")
    assert directory.open_cid(str(other)).read() == b"elsewhere"
    assert other.codec == RAW
    with pytest.raises(AddressError):
        directory.open_cid("no cid")


def test_the_error_of_a_path_into_a_file_names_the_root(fetchers):
    root, blocks = one_file(b"content")
    with pytest.raises(FormatError, match=f"'here': its root {root} is a file, not a directory"):
        resolve_path(fetchers(blocks), root, ["x"], "here")
