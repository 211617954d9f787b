"""A reader's class as its own plugin: as an entry point, registered, and as an object's type."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from torch.utils.data import DataLoader

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from ipfs_dataset_core import (
    AddressError,
    BytesFile,
    FormatError,
    LimitError,
    Limits,
    PluginError,
    Reader,
    ReaderPlugin,
    SpanIndex,
    Transport,
    register,
)
from ipfs_dataset_core.registry.declarations import declaration_of
from ipfs_dataset_core.registry.guarded_readers import make_reader
from ipfs_dataset_core.registry.lookup import default_registry
from ipfs_dataset_core.registry.provenance import Origin
from tests.support.distributions import Site
from tests.support.stores import Store
from tests.support.workers import as_it_is

# Iterated by number, which its type does not tell.
MapStyle: Any = IPFSDataset
HEAD = struct.Struct("<4sI")
ENTRY = struct.Struct("<QI")


class Spectra(Reader):
    """Spectra: a table of spans, then numbers.

    More about them.
    """

    name = "spectra"
    suffixes = (".spx",)
    magic = ((0, b"SPX1"),)
    cheap_index = True

    def index(self, source):
        _, count = HEAD.unpack(source.read_at(0, HEAD.size))
        table = source.read_at(HEAD.size, count * ENTRY.size)
        spans = list(ENTRY.iter_unpack(table))
        starts = [start for start, _ in spans]
        return SpanIndex(source.name, starts, [start + size for start, size in spans], scale=2)

    def decode(self, data, index, position):
        return [value * index.scale for value in struct.unpack(f"<{len(data) // 4}i", data)]


class Whole(Reader):
    """A file is a sample."""

    suffixes = (".num",)

    def decode(self, data, index, position):
        return int(data)


def spectra(*rows):
    start = HEAD.size + len(rows) * ENTRY.size
    table, body = b"", b""
    for row in rows:
        data = struct.pack(f"<{len(row)}i", *row)
        table += ENTRY.pack(start + len(body), len(data))
        body += data
    return HEAD.pack(b"SPX1", len(rows)) + table + body


ROWS = [[1, 2, 3], [], [4], [5, 6]]
FILE = spectra(*ROWS)


def values(name):
    return [(f"{name}:{n}", [2 * value for value in row]) for n, row in enumerate(ROWS)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(default_registry(), "_registered", [])


def test_its_attributes_are_its_declaration():
    plugin = declaration_of(Spectra)
    assert plugin == ReaderPlugin(
        name="spectra",
        summary="Spectra: a table of spans, then numbers.",
        factory=Spectra,
        suffixes=(".spx",),
        magic=((0, b"SPX1"),),
    )
    assert declaration_of(Whole, "num").name == "num"
    with pytest.raises(PluginError, match="the format that Whole reads has no name: write name ="):
        declaration_of(Whole)


@pytest.mark.parametrize("given", [Spectra, Spectra()])
def test_an_object_takes_the_class_or_an_object_of_it(store, given):
    cid = store.file(FILE)
    for kind in (MapStyle, IPFSIterableDataset):
        assert list(kind(IPFSObject(cid, given), store.address)) == values(cid)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_registered_class_is_found_by_name_suffix_and_first_bytes(store, own_registry, method):
    register(Spectra)
    folder = store.tree({"a.spx": FILE, "b": FILE})
    for obj in (f"{folder}/a.spx", f"{folder}/b", IPFSObject(f"{folder}/b", "spectra")):
        dataset = MapStyle(obj, store.address)
        name = obj if isinstance(obj, str) else obj.url
        assert [dataset[n] for n in range(4)] == values(name)
    loader = DataLoader(
        IPFSIterableDataset(f"{folder}/a.spx", store.address),
        batch_size=None,
        num_workers=1,
        multiprocessing_context=method,
        collate_fn=as_it_is,
    )
    assert list(loader) == values(f"{folder}/a.spx")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Spectra(), r"takes the class and not an object of it: register\(Spectra\)"),
        (Whole, "has no name: write name ="),
        (Transport, r"TransportPlugin\(name=…, summary=…, schemes=…, factory=Transport\)"),
        ("pkg:Spectra", "subclass of Reader, or a ReaderPlugin"),
        (len, "subclass of Reader"),
    ],
)
def test_what_cannot_be_registered_says_what_to_write(own_registry, given, words):
    with pytest.raises(PluginError, match=words):
        register(given)


@pytest.mark.parametrize("given", [3, len, dict, Transport])
def test_what_is_no_format_of_an_object_says_what_is(store, given):
    with pytest.raises(
        AddressError, match=r"filetype is a RemoteFileType, .* a subclass of Reader"
    ):
        len(MapStyle(IPFSObject(store.file(b"x"), given), store.address))


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [("suffixes", ".spx", "tuple of texts"), ("suffixes", ("spx",), "begins with a dot"),
     ("magic", (b"SPX",), "magic is a tuple of pairs"), ("reads", "files", "reads is 'file'")],
)  # fmt: skip
def test_attributes_that_cannot_mean_anything_are_refused(own_registry, attribute, value, words):
    kind = type("Odd", (Spectra,), {attribute: value})
    with pytest.raises(PluginError, match=words):
        register(kind)


def test_what_reads_nothing_is_no_format():
    class Nothing(Reader):
        def read(self, source, index, position):
            return "a", 1

    with pytest.raises(TypeError, match="Nothing is no format yet: give it `samples`, or `decode`"):
        Nothing()
    with pytest.raises(TypeError, match="Reader is no format yet"):
        Reader()


def test_a_file_that_is_one_sample_needs_decode_alone():
    reader = Whole()
    assert reader.cheap_index
    assert list(reader.samples(BytesFile(b"12", "a.num"))) == [("a.num", 12)]
    index = reader.index(BytesFile(b"12", "a.num"))
    assert index is not None
    assert (len(index), index.span(0)) == (1, (0, 2))


def test_who_says_that_an_index_is_not_cheap_is_believed():
    class Dear(Whole):
        cheap_index = False

    assert not Dear.cheap_index


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (
            b"no number",
            FormatError,
            r"sample 0 of 'a', bytes 0 to 9, cannot be decoded: ValueError: inv",
        ),
        (b"1" * 30, LimitError, r"sample 0 of 'a', bytes 0 to 30, .*member_bytes="),
    ],
)
def test_what_cannot_be_decoded_names_file_sample_and_bytes(data, error, words):
    reader = make_reader(declaration_of(Whole, "num"), origin=Origin("mine", "1.0", "num"))
    with pytest.raises(error, match=words):
        list(reader.samples(BytesFile(data, "a", limits=Limits(member_bytes=20))))


def test_errors_of_ours_keep_their_kind_and_a_mistake_names_the_plugin():
    class Says(Whole):
        def decode(self, data, index, position):
            if data == b"limit":
                raise LimitError("too much")
            if data == b"format":
                raise FormatError("no magic")
            raise KeyError(data)

    reader = make_reader(Says(), origin=Origin("mine", "1.0", "num"))
    with pytest.raises(LimitError, match=r"sample 0 of 'a', .* cannot be decoded: too much"):
        list(reader.samples(BytesFile(b"limit", "a")))
    with pytest.raises(FormatError, match=r"sample 0 of 'a', .* cannot be decoded: no magic"):
        list(reader.samples(BytesFile(b"format", "a")))
    with pytest.raises(
        PluginError, match=r"Plugin mine 1.0 \(num\) failed at sample 0 of 'a': KeyError"
    ):
        list(reader.samples(BytesFile(b"x", "a")))


def test_a_cut_file_is_refused_before_anything_is_fetched(store):
    cut = FILE[:-3]
    with pytest.raises(FormatError, match=r"has \d+ bytes, and its sample 3 would be bytes"):
        len(MapStyle(IPFSObject(store.file(cut), Spectra), store.address))
    with pytest.raises(FormatError, match=r"sample 3 of 'a', .* outside of the file"):
        list(Spectra().samples(BytesFile(cut, "a")))


def test_an_index_of_spans_is_kept_on_disk_without_another_line(store, tmp_path):
    made = []

    class Kept(Spectra):
        index_form = "spectra 1"

        def index(self, source):
            made.append(source.name)
            return super().index(source)

    folder = store.tree({"a.spx": FILE, "b.spx": FILE})
    for name in ("a.spx", "b.spx", "a.spx"):
        url = f"{folder}/{name}"
        dataset = MapStyle(IPFSObject(url, Kept), store.address, cache_dir=tmp_path / "cache")
        assert [dataset[n] for n in range(4)] == values(url)
        dataset.close()
        del dataset
    assert len(made) <= 2  # the disk may be written a moment later


PLUGIN = '''
"""A plugin of one class."""
from ipfs_dataset_core import Reader

class Spectra(Reader):
    """Numbers in text."""
    suffixes = (".spx",)
    def decode(self, data, index, position):
        return int(data)

made = Spectra()
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    found = Site(tmp_path_factory.mktemp("site"))
    points = {"spectra": "acme_spectra:Spectra", "made": "acme_spectra:made"}
    found.install("acme-spectra", PLUGIN, version="1.2", points=points)
    return found


def test_an_entry_point_may_name_the_class(site):
    report = json.loads(site.call("-m", "ipfs_dataset", "plugins", "--json", status=1))
    [mine] = [p for p in report["plugins"] if p["distribution"] == "acme-spectra"]
    assert (mine["name"], mine["kind"], mine["summary"]) == (
        "spectra",
        "reader",
        "Numbers in text.",
    )
    [failure] = report["failures"]
    assert "is an object: let the entry point name its class instead" in failure["reason"]


@pytest.mark.slow
def test_an_installed_class_reads_files_folders_and_members_of_archives(site, store):
    from tests.support.builders import tar_bytes, zip_bytes

    files = {"a.spx": b"1", "b.spx": b"2", "readme.txt": b"text"}
    folder, tar, zipped = (
        store.tree(files),
        store.file(tar_bytes(files)),
        store.file(zip_bytes(files)),
    )
    out = site.run(f"""
        import json
        from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
        from ipfs_dataset.types import IPFSObject
        def read(obj, **options):
            kinds = (IPFSDataset, IPFSIterableDataset)
            samples = [kind(obj, {store.address!r}, **options) for kind in kinds]
            lists = [[v if isinstance(v, int) else v.decode() for _, v in one] for one in samples]
            assert lists[0] == lists[1]
            return lists[0]
        decoders = {{".spx": "spectra"}}
        print(json.dumps([
            read("{folder}/a.spx"), read(IPFSObject("{folder}", "spectra")), read("{folder}"),
            read("{folder}", decoders=decoders), read(IPFSObject("{tar}", "tar"), decoders=decoders),
            read(IPFSObject("{zipped}", "zip"), decoders=decoders),
        ]))
    """)
    found: Any = json.loads(out)
    decoded = [1, 2, "text"]
    assert found == [[1], [1, 2], ["1", "2", "text"], decoded, decoded, decoded]
