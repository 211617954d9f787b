"""Published datasets are recognised by their form, and reading their files instead causes a warning."""

from __future__ import annotations

import pickle
import warnings
from contextlib import closing

import pytest

from ipfs_dataset import IPFSDataset, IPFSDatasetExporter, IPFSObject, RemoteFileType
from ipfs_dataset_core import (
    Exporter,
    ExporterPlugin,
    FormatError,
    ObjectDirectory,
    Options,
    PublishedSamples,
    UnknownPluginError,
)
from ipfs_dataset_core.datasets.published import (
    NotPublishedError,
    exporters_of,
    find_published,
    named_exporter,
    recognise,
)
from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.reading.connections import Connections
from ipfs_dataset_core.registry.lookup import default_registry
from ipfs_dataset_core.testing import MemoryDirectory, MemoryFile
from tests.support.builders import tree
from tests.support.gateway_server import GatewayServer
from tests.support.stores import Store

SAMPLES = [(number, f"text {number}") for number in range(100)]


class Texts(PublishedSamples):
    def __init__(self, file):
        self.lines = file.read().decode().splitlines()

    def __len__(self):
        return len(self.lines)

    def read(self, position):
        return self.lines[position]


class Lines(Exporter):
    """A line of text for each sample, in a folder with one file."""

    name = "lines"

    def export(self, samples, sink):
        with sink.create("lines.txt") as file:
            for sample in samples:
                file.write(f"{sample}\n".encode())

    def load(self, source):
        if not isinstance(source, ObjectDirectory) or not source.contains("lines.txt"):
            return None
        return Texts(source.open("lines.txt"))


class OneFile(Lines):
    """The same in one file, which contains an identifier."""

    name = "one_file"

    def load(self, source):
        if isinstance(source, ObjectDirectory) or b'"ipfs-dataset"' not in source.read():
            return None
        return Texts(source)


class Broken(Exporter):
    """A form whose exporter cannot load anything."""

    name = "broken"

    def export(self, samples, sink):
        raise NotImplementedError

    def load(self, source):
        raise ValueError("bug")


@pytest.fixture
def published(tmp_path):
    """The address of a store and the CID of a dataset in it, in two shards."""
    exporter = IPFSDatasetExporter(tmp_path / "store", shard_bytes=20_000, progress=False)
    return str(tmp_path / "store"), exporter.export_to_ipfs(SAMPLES)


@pytest.fixture
def registered(monkeypatch):
    """Registers plugins for one test."""
    registry = default_registry()
    monkeypatch.setattr(registry, "_registered", [])
    return registry.register


@pytest.fixture
def connections(published):
    made = Connections(published[0], Options())
    yield made
    made.close()


def read_files(url, address):
    """Reads an object as files; returns the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with closing(IPFSDataset(url, address)) as dataset:
            dataset[0]
    return [str(warning.message) for warning in caught if "published" in str(warning.message)]


@pytest.mark.parametrize("form", [Lines, Lines(ExporterOptions()), "lines"])
def test_a_form_can_be_given_by_class_object_or_name(registered, form):
    registered(Lines)
    name, exporter = named_exporter(form, ExporterOptions())
    assert name == "lines"
    found = exporter.load(MemoryDirectory({"lines.txt": b"a\nb\n"}))
    assert found is not None
    assert list(found.iterate(0, 2)) == ["a", "b"]


def test_a_form_can_be_given_by_its_declaration():
    declared = ExporterPlugin(name="mine", summary="", factory=Lines)
    assert named_exporter(declared, ExporterOptions())[0] == "mine"


def test_an_unknown_form_is_named():
    with pytest.raises(UnknownPluginError, match="'lines'"):
        named_exporter("lines", ExporterOptions())


@pytest.mark.parametrize("form", [None, 5, PublishedSamples, object()])
def test_other_values_are_no_form(form):
    with pytest.raises(TypeError, match="form is the name of a published form"):
        named_exporter(form, ExporterOptions())


def test_the_options_of_the_user_reach_the_exporter():
    given = []

    class Recording(Lines):
        def __init__(self, options):
            given.append(options)

    options = ExporterOptions(shard_bytes=12_345)
    named_exporter(Recording, options)
    assert given == [options]


def test_the_given_form_is_tried_first_and_then_each_other_once(registered):
    registered(Lines)
    names = [name for name, _ in exporters_of("lines", ExporterOptions())]
    assert names[0] == "lines"
    assert sorted(names) == ["lines", "original", "tar_shards"]


def test_the_first_exporter_that_reads_an_object_is_used():
    exporters = [("one_file", OneFile(ExporterOptions())), ("lines", Lines(ExporterOptions()))]
    exporter, samples = recognise(MemoryDirectory({"lines.txt": b"a\n"}), exporters)
    assert exporter is exporters[1][1]
    assert len(samples) == 1


def test_the_error_for_other_objects_names_the_forms_that_were_tried():
    exporters = [("one_file", OneFile(ExporterOptions())), ("lines", Lines(ExporterOptions()))]
    message = r"'x' is not a published dataset in any known form \(one_file, lines\)"
    with pytest.raises(NotPublishedError, match=message):
        recognise(MemoryDirectory({"a.txt": b""}, "x"), exporters)


def test_a_published_dataset_is_found_with_its_info_and_its_form(published, connections):
    _, cid = published
    forms = exporters_of("tar_shards", ExporterOptions())
    found = find_published(f"ipfs://{cid}", connections, forms)
    assert found.info is not None
    assert found.info.samples == len(SAMPLES)
    assert cid in found.content_id()
    assert list(found.load().iterate(0, len(SAMPLES))) == SAMPLES
    copy = pickle.loads(pickle.dumps(found))
    assert list(copy.load().iterate(98, 100)) == SAMPLES[98:]


def test_a_file_that_is_no_published_dataset_is_closed(tmp_path):
    store, opened = Store(tmp_path), []

    class Watching(Lines):
        def load(self, source):
            opened.append(source)

    connections = Connections(store.address, Options())
    with pytest.raises(NotPublishedError):
        find_published(store.file(b"text"), connections, [("w", Watching(ExporterOptions()))])
    assert opened[0].closed
    connections.close()


def test_errors_of_a_missing_dataset_name_its_url(tmp_path):
    connections = Connections(Store(tmp_path).address, Options(retries=0))
    missing = "ipfs://QmdPw1vze5nwVM1fsCjygXCs8WyzDsf3hn4uq3MpMLvw9w"
    with pytest.raises(OSError, match=missing):
        find_published(missing, connections, [])
    connections.close()


@pytest.mark.parametrize("prefix", ["", "ipfs://", "/ipfs/"])
def test_reading_the_files_of_a_published_dataset_is_warned_of_with_what_to_write(
    published, prefix
):
    address, cid = published
    (message,) = read_files(f"{prefix}{cid}", address)
    assert (
        "is a published dataset (form 'tar_shards'), but its files are read as they are" in message
    )
    assert f"import_from_ipfs('ipfs://{cid}')" in message


@pytest.mark.parametrize("path", ["shards/00000.tar", "shards", "index.html"])
def test_reading_a_part_of_a_published_dataset_is_warned_of_with_its_root(published, path):
    address, cid = published
    (message,) = read_files(f"ipfs://{cid}/{path}", address)
    assert f"/ipfs/{cid}/{path} is a part of /ipfs/{cid}, a published dataset" in message
    assert f"import_from_ipfs('ipfs://{cid}')" in message


def test_a_named_type_is_read_without_a_warning(published):
    address, cid = published
    assert read_files(IPFSObject(f"ipfs://{cid}", RemoteFileType.FOLDER), address) == []


@pytest.mark.parametrize(
    "files",
    [
        {"a.txt": b"a"},
        {"one/two/three/lines.txt": b"a\n", "one/two/three/b/c/d/e.txt": b"b"},
        {"manifest.json": b'{"format": "other"}'},
    ],
)
def test_other_folders_are_read_without_a_warning(tmp_path, registered, files):
    registered(Lines)
    store = Store(tmp_path)
    assert read_files(store.tree(files), store.address) == []


def test_a_published_dataset_two_levels_above_is_noticed_and_three_levels_is_not(
    tmp_path, registered
):
    registered(Lines)
    store = Store(tmp_path)
    cid = store.tree({"lines.txt": b"a\n", "a/b/c/d.txt": b"d"})
    for path, count in (("a", 1), ("a/b", 1), ("a/b/c", 0)):
        assert len(read_files(f"ipfs://{cid}/{path}", store.address)) == count


def test_a_published_dataset_in_one_file_is_recognised_by_its_first_bytes(tmp_path, registered):
    registered(OneFile)
    store = Store(tmp_path)
    data = b'"ipfs-dataset"\ntext\n'
    (message,) = read_files(store.file(data), store.address)
    assert "form 'one_file'" in message
    assert read_files(store.file(b"x" * 512 + data), store.address) == []
    assert read_files(store.file(b"text"), store.address) == []


def test_a_dataset_that_two_forms_recognise_is_warned_of_once(tmp_path, registered):
    class Same(Lines):
        name = "same"

    registered(Lines)
    registered(Same)
    store = Store(tmp_path)
    (message,) = read_files(store.tree({"lines.txt": b"a\n"}), store.address)
    assert "form 'lines'" in message


def test_a_form_that_fails_does_not_stop_reading_files(published, registered):
    registered(Broken)
    address, cid = published
    (message,) = read_files(f"ipfs://{cid}", address)
    assert "form 'tar_shards'" in message


def test_no_request_is_made_to_find_out_that_a_file_is_not_published():
    root, blocks = tree({"a/b.bin": bytes(10)})
    counts = []
    for filetype in (RemoteFileType.PLAIN, None):
        with GatewayServer(blocks) as server:
            obj = IPFSObject(f"ipfs://{root}/a/b.bin", filetype)
            with closing(IPFSDataset(obj, gateways=server.url)) as dataset:
                assert dataset[0][1] == bytes(10)
            counts.append(len(server.requests))
    assert counts[0] == counts[1]


def test_a_damaged_published_dataset_is_a_format_error(tmp_path):
    store = Store(tmp_path)
    connections = Connections(store.address, Options())

    class Strict(Lines):
        def load(self, source):
            raise FormatError(f"{source.name!r} is damaged")

    with pytest.raises(FormatError, match="damaged") as caught:
        find_published(store.file(b"x"), connections, [("strict", Strict(ExporterOptions()))])
    assert not isinstance(caught.value, NotPublishedError)
    connections.close()


def test_a_memory_file_is_not_mistaken_for_a_directory():
    with pytest.raises(NotPublishedError):
        recognise(MemoryFile(b"lines.txt"), [("lines", Lines(ExporterOptions()))])
