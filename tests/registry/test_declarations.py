"""A reader's class as its own plugin: as an entry point, registered, and as an object's type."""

from __future__ import annotations

import json
import lzma
import struct
import zipfile
import zlib
from typing import Any, ClassVar

import pytest
from PIL import Image
from torch.utils.data import DataLoader

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from ipfs_dataset_core import (
    AddressError,
    BytesFile,
    Exporter,
    ExporterOptions,
    ExporterPlugin,
    FilesIndex,
    FormatError,
    LimitError,
    Limits,
    ObjectDirectory,
    ObjectNotFoundError,
    Options,
    PluginError,
    PublishedSamples,
    Reader,
    ReaderPlugin,
    SpanIndex,
    Transport,
    TransportError,
    TransportPlugin,
    register,
)
from ipfs_dataset_core.registry.declarations import declaration_of
from ipfs_dataset_core.registry.guarded_readers import make_reader
from ipfs_dataset_core.registry.lookup import default_registry
from ipfs_dataset_core.registry.provenance import Origin
from ipfs_dataset_core.testing import MemoryDirectory
from tests.support.builders import zip_bytes
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


def test_the_attributes_of_a_class_are_its_declaration():
    plugin = declaration_of(Spectra)
    assert plugin == ReaderPlugin(
        name="spectra",
        summary="Spectra: a table of spans, then numbers.",
        factory=Spectra,
        suffixes=(".spx",),
        magic=((0, b"SPX1"),),
    )
    assert declaration_of(Whole, "num").name == "num"
    with pytest.raises(PluginError, match="the format Whole has no name: write name ="):
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
        (Spectra(), r"takes the class, not an instance of it: register\(Spectra\)"),
        (Whole, "has no name: write name ="),
        (Transport, "Transport is not a complete transport: it has no method 'get_block'"),
        ("pkg:Spectra", "subclass of Reader, Transport or Exporter, or a ReaderPlugin"),
        (len, "subclass of Reader"),
    ],
)
def test_the_error_for_an_invalid_registration_shows_what_to_write(own_registry, given, words):
    with pytest.raises(PluginError, match=words):
        register(given)


@pytest.mark.parametrize("given", [3, len, dict, Transport])
def test_the_error_for_an_invalid_format_lists_valid_ones(store, given):
    with pytest.raises(
        AddressError, match=r"filetype must be a RemoteFileType, .* a subclass of Reader"
    ):
        len(MapStyle(IPFSObject(store.file(b"x"), given), store.address))


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [("suffixes", ".spx", "tuple of texts"), ("suffixes", ("spx",), "must begin with a dot"),
     ("magic", (b"SPX",), "magic must be a tuple of pairs"), ("reads", "files", "reads must be 'file'")],
)  # fmt: skip
def test_invalid_attributes_are_refused(own_registry, attribute, value, words):
    kind = type("Odd", (Spectra,), {attribute: value})
    with pytest.raises(PluginError, match=words):
        register(kind)


def test_a_reader_without_samples_index_or_decode_is_no_format():
    class Nothing(Reader):
        def read(self, source, index, position):
            return "a", 1

    with pytest.raises(
        TypeError, match="Nothing is not a format yet: give it `samples`, or `decode`"
    ):
        Nothing()
    with pytest.raises(TypeError, match="Reader is not a format yet"):
        Reader()


def test_a_file_that_is_one_sample_needs_decode_alone():
    reader = Whole()
    assert reader.cheap_index
    assert list(reader.samples(BytesFile(b"12", "a.num"))) == [("a.num", 12)]
    index = reader.index(BytesFile(b"12", "a.num"))
    assert index is not None
    assert (len(index), index.span(0)) == (1, (0, 2))


def test_a_cheap_index_of_false_is_respected():
    class Dear(Whole):
        cheap_index = False

    assert not Dear.cheap_index


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (
            b"no number",
            FormatError,
            r"sample 0 of 'a', bytes 0 to 9, cannot be decoded by Whole.decode: ValueError: inv",
        ),
        (b"1" * 30, LimitError, r"sample 0 of 'a', bytes 0 to 30, .*member_bytes="),
    ],
)
def test_the_error_for_undecodable_bytes_names_file_sample_and_bytes(data, error, words):
    reader = make_reader(declaration_of(Whole, "num"), origin=Origin("mine", "1.0", "num"))
    with pytest.raises(error, match=words):
        list(reader.samples(BytesFile(data, "a", limits=Limits(member_bytes=20))))


def test_typed_errors_keep_their_type_and_bugs_name_the_plugin():
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


class Shelf(Transport):
    """Blocks of one process."""

    name = "shelf"
    schemes = ("shelf",)
    writable = True
    local = True
    blocks: ClassVar[dict[bytes, bytes]] = {}

    def __init__(self, address, options):
        self.timeout = options.timeout

    def get_block(self, cid):
        try:
            return self.blocks[cid.multihash]
        except KeyError:
            raise ObjectNotFoundError(f"{self.name}: has no block {cid}") from None

    def put_blocks(self, blocks):
        self.blocks.update((cid.multihash, data) for cid, data in blocks)

    def pin(self, cid, **how):
        self.get_block(cid)


class Texts(Exporter):
    """A text a sample."""

    name = "texts"

    def export(self, samples, sink):
        with sink.create("texts.json") as file:
            file.write(json.dumps([self.options.shard_bytes, *samples]).encode())

    def load(self, source):
        if not isinstance(source, ObjectDirectory) or not source.contains("texts.json"):
            return None
        with source.open("texts.json") as file:
            return Listed(json.loads(file.read())[1:])


class Listed(PublishedSamples):
    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def read(self, position):
        return self.values[position]


def test_the_class_of_a_transport_and_of_a_form_are_their_declarations():
    assert declaration_of(Shelf) == TransportPlugin(
        name="shelf", summary="Blocks of one process.", schemes=("shelf",), factory=Shelf
    )
    assert declaration_of(Texts) == ExporterPlugin(
        name="texts", summary="A text a sample.", factory=Texts
    )
    own = type("Own", (Shelf,), {"name": property(lambda self: "mine"), "summary": "More."})
    assert (declaration_of(own, "own").name, declaration_of(own, "own").summary) == ("own", "More.")
    assert declaration_of(type("Named", (Shelf,), {"name": "other"}), "own").name == "other"


@pytest.mark.parametrize("form", ["texts", Texts, Texts(ExporterOptions(shard_bytes=7))])
def test_registered_classes_publish_and_read(own_registry, form):
    register(Shelf)
    register(Texts)
    cid = IPFSDatasetExporter("shelf://a", form=form, shard_bytes=7).export_to_ipfs(["x", "y"])
    assert json.loads(next(b for b in Shelf.blocks.values() if b"[7" in b)) == [7, "x", "y"]
    found = IPFSDatasetExporter("shelf://a").import_from_ipfs(cid)
    assert [found[0], found[1]] == ["x", "y"]
    with pytest.raises(TransportError, match="shelf: has no block"):
        len(MapStyle("bafkreieqpjxlrwcgsjklxooypcfxyhklgehylkvq77zrj5ynbeklnr4c6a", "shelf://a"))


@pytest.mark.parametrize(
    ("base", "body", "words"),
    [
        (Shelf, {"name": ""}, "the transport Odd has no name: write name ="),
        (Shelf, {"schemes": ()}, "'shelf': schemes is empty"),
        (Shelf, {"schemes": "shelf"}, "'shelf': schemes must be a tuple of texts"),
        (Shelf, {"schemes": ("Shelf",)}, "'shelf': the scheme 'Shelf' would match no address"),
        (Shelf, {"name": 3}, "name must be a short text"),
        (
            Transport,
            {"get_block": len, "writeable": True},
            "Odd has an attribute 'writeable'.* a transport: 'writable'",
        ),
        (Shelf, {"serves_range": True}, "'serves_range'.*'serves_ranges' was probably meant"),
        (Transport, {"scheme": "s3", "get_block": len}, "'scheme'.*'schemes' was probably meant"),
        (
            Transport,
            {"name": "odd"},
            "Odd is not a complete transport: it has no method 'get_block'",
        ),
        (Texts, {"name": ""}, "the published form Odd has no name"),
        (
            Exporter,
            {"name": "odd", "export": len},
            "not a complete published form: it has no method 'load'",
        ),
    ],
)
def test_a_class_of_a_transport_or_form_that_cannot_be_used_is_explained(
    own_registry, base, body, words
):
    with pytest.raises(PluginError, match=words):
        register(type("Odd", (base,), body))


@pytest.mark.parametrize("given", [Shelf("shelf://a", Options()), Texts()])
def test_objects_of_these_classes_are_not_registered(own_registry, given):
    with pytest.raises(PluginError, match=r"the class, not an instance of it: register\("):
        register(given)


@pytest.mark.parametrize("form", [3, len, Spectra, Shelf])
def test_an_invalid_form_is_a_type_error_that_lists_valid_ones(form):
    with pytest.raises(TypeError, match="form is the name of a published form, a subclass of Exp"):
        IPFSDatasetExporter("shelf://a", form=form).export_to_ipfs(["x"])


PLUGIN = '''
"""A plugin of one class."""
from ipfs_dataset_core import Reader

class Spectra(Reader):
    """Numbers in text."""
    suffixes = (".spx",)
    def decode(self, data, index, position):
        return int(data)

made = Spectra()

from ipfs_dataset_core import Exporter, Transport

class Signed(Transport):
    "Signed requests."
    schemes = ("signed",)
    def get_block(self, cid):
        raise OSError("the mirror is closed")

class NoScheme(Transport):
    def get_block(self, cid):
        pass

class Lines(Exporter):
    "A line a sample."
    def export(self, samples, sink):
        pass
    def load(self, source):
        pass

class NoLoad(Exporter):
    def export(self, samples, sink):
        pass
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    found = Site(tmp_path_factory.mktemp("site"))
    classes = ("Spectra", "Signed", "NoScheme", "Lines", "NoLoad")
    points = {name.lower(): f"acme_spectra:{name}" for name in classes}
    points["made"] = "acme_spectra:made"
    found.install("acme-spectra", PLUGIN, version="1.2", points=points)
    return found


def test_an_entry_point_may_name_the_class(site):
    report = json.loads(site.call("-m", "ipfs_dataset", "plugins", "--json", status=1))
    mine = [p for p in report["plugins"] if p["distribution"] == "acme-spectra"]
    assert [(p["name"], p["kind"], p["summary"]) for p in mine] == [
        ("signed", "transport", "Signed requests."),
        ("spectra", "reader", "Numbers in text."),
        ("lines", "exporter", "A line a sample."),
    ]
    reasons = {failure["entry_point"]: failure["reason"] for failure in report["failures"]}
    assert "is an object: let the entry point name its class instead" in reasons["made"]
    assert "'noscheme': schemes is empty" in reasons["noscheme"]
    assert "NoLoad is not a complete published form: it has no method 'load'" in reasons["noload"]


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


class Labelled(Reader):
    """Files with a table of labels."""

    name = "labelled"
    reads = "directory"
    cheap_index = True
    index_form = "labelled 1"

    def index(self, source):
        with source.open("labels.txt") as table:
            rows = [line.decode().split() for line in table]
        return FilesIndex([path for path, _ in rows], labels=[int(label) for _, label in rows])

    def decode(self, data, index, position):
        return int(data), index.labels[position]


LABELLED = {"labels.txt": b"b/1 7\na 8\nb/1 9\n", "a": b"10", "b/1": b"11", "other": b"x"}
LABELS = [("b/1", (11, 7)), ("a", (10, 8)), ("b/1", (11, 9))]


@pytest.mark.parametrize("given", [Labelled, Labelled()])
def test_a_directory_needs_an_index_of_its_files_and_decode(store, tmp_path, given):
    folder = store.tree(LABELLED)
    for kind in (MapStyle, IPFSIterableDataset):
        for _ in range(2):  # the second time, the index is on disk
            dataset = kind(IPFSObject(folder, given), store.address, cache_dir=tmp_path / "cache")
            assert list(dataset) == LABELS
            dataset.close()
    dataset = MapStyle(IPFSObject(folder, given), store.address)
    assert [list(batch) for batch in [dataset.__getitems__([2, 0])]] == [[LABELS[2], LABELS[0]]]
    with pytest.raises(FormatError, match="is a file, but the format 'labelled' reads a directory"):
        len(MapStyle(IPFSObject(f"{folder}/a", given), store.address))


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"labels.txt": b"a 1 2\n"}, FormatError, r"is damaged.*Labelled\.index: ValueError: too many"),
        ({"labels.txt": b"a one\n"}, FormatError, r"is damaged.*Labelled\.index: ValueError: inv"),
        ({"labels.txt": b"away 1\n"}, ObjectNotFoundError, "away"),
        ({"a": b"ten"}, FormatError, r"sample 1 of .*, the file 'a', cannot be decoded by Labelled\.dec"),
    ],
)  # fmt: skip
def test_a_damaged_directory_names_file_class_and_method(store, changed, error, words):
    folder = store.tree({**LABELLED, **changed})
    for kind in (MapStyle, IPFSIterableDataset):
        with pytest.raises(error, match=words):
            list(kind(IPFSObject(folder, Labelled), store.address))


def test_files_of_a_directory_are_fetched_ahead():
    hinted = []

    class Hinted(MemoryDirectory):
        def prefetch(self, paths):
            hinted.extend(paths)

    names = [f"{number:03}" for number in range(200)]
    table = "".join(f"{name} 0\n" for name in names).encode()
    files = {"labels.txt": table, **dict.fromkeys(names, b"1")}
    for number, _ in enumerate(Labelled().samples(Hinted(files))):
        assert number < len(set(hinted)) <= number + 64
    assert sorted(set(hinted)) == names


def test_a_directory_without_an_index_and_a_file_with_one_of_a_directory_are_named(store):
    class NoIndex(Reader):
        reads = "directory"

        def decode(self, data, index, position):
            return data

    class OfFiles(Spectra):
        def index(self, source):
            return FilesIndex(["a"])

    with pytest.raises(PluginError, match=r"NoIndex only has `decode`.*`index` that returns a"):
        list(MapStyle(IPFSObject(store.tree(LABELLED), NoIndex), store.address))
    with pytest.raises(PluginError, match=r"OfFiles\.index` of .* FilesIndex is for directories"):
        list(MapStyle(IPFSObject(store.file(FILE), OfFiles), store.address))


@pytest.mark.parametrize("data", [b"", b"SPX", HEAD.pack(b"SPX1", 9)[:-1]])
def test_bytes_without_a_valid_index_are_a_format_error(store, data):
    words = r"is damaged.*no index can be made of it by Spectra\.index: error: unpack requires"
    for kind in (MapStyle, IPFSIterableDataset):
        with pytest.raises(FormatError, match=words):
            list(kind(IPFSObject(store.file(data), Spectra), store.address))
    with pytest.raises(FormatError, match=words):
        list(Spectra().samples(BytesFile(data, "a")))


@pytest.mark.parametrize(
    ("attribute", "value", "meant"),
    [
        ("suffix", ".spx", "suffixes"),
        ("extensions", (".spx",), "suffixes"),
        ("magic_bytes", b"SPX", "magic"),
        ("magics", ((0, b"SPX"),), "magic"),
        ("in_folder", True, "in_folders"),
        ("cheap_indexes", True, "cheap_index"),
    ],
)
def test_a_misspelt_attribute_is_refused(own_registry, attribute, value, meant):
    kind = type("Odd", (Whole,), {"name": "odd", "suffixes": (), attribute: value})
    if meant == "suffixes":
        kind = type("Odd", (Reader,), {"name": "odd", "decode": Whole.decode, attribute: value})
    with pytest.raises(PluginError, match=f"Odd has an attribute {attribute!r}.*{meant!r} was"):
        register(kind)


def test_other_attributes_of_a_class_are_allowed(own_registry):
    body = {"names": ("a", "b"), "suffixes": (".o",), "suffix": ".o", "_magics": b"", "width": 3}
    register(type("Own", (Whole,), {"name": "own", **body}))


@pytest.mark.parametrize("schemes", [("s3://",), ("S3",), ("",), ("a b",), ()])
def test_schemes_that_no_address_has_are_refused(own_registry, schemes):
    plugin = TransportPlugin(name="bucket", summary="", schemes=schemes, factory="a:b")
    with pytest.raises(PluginError, match=r"'bucket': (the scheme|schemes is empty).*'s3'"):
        register(plugin)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError("image file is truncated"), FormatError),
        (SyntaxError("broken PNG file"), FormatError),
        (EOFError(), FormatError),
        (zlib.error("incorrect header"), FormatError),
        (RecursionError("nested too deeply"), FormatError),
        (OverflowError("too large"), FormatError),
        (lzma.LZMAError("corrupt"), FormatError),
        (zipfile.BadZipFile("no ZIP file"), FormatError),
        (Image.DecompressionBombError("many pixels"), FormatError),
        (TimeoutError("a server"), PluginError),
        (FileNotFoundError(2, "No such file", "vocabulary.txt"), PluginError),
        (SyntaxError("invalid syntax", ("more.py", 1, 1, "x y")), PluginError),
        (KeyError("vector"), PluginError),
        (TransportError("gone"), TransportError),
    ],
)
def test_errors_of_parsers_mean_damage_and_others_are_bugs_of_the_plugin(store, error, kind):
    class Raises(Whole):
        def decode(self, data, index, position):
            raise error

    cid = store.file(b"1")
    with pytest.raises(kind) as caught:
        list(MapStyle(IPFSObject(cid, Raises), store.address))
    assert type(caught.value) is kind
    assert cid in str(caught.value)
    if kind is not TransportError:
        assert "Raises.decode" in str(caught.value)
    archive = IPFSObject(store.file(zip_bytes({"a.num": b"1"})), "zip")

    def decode(_):
        raise error

    with pytest.raises(kind) as caught:
        list(MapStyle(archive, store.address, decoders={".num": decode}))
    assert type(caught.value) is kind
    assert "'a.num'" in str(caught.value)
