"""Datasets exported through a real store and imported again, as the README promises."""

from __future__ import annotations

import io
import pickle
import re
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from ipfs_dataset_core.datasets.imported import ImportedDataset
from ipfs_dataset_core.errors import AddressError, ExportError, FormatError, TransportTimeoutError
from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.ipld import CID, get_profile
from ipfs_dataset_core.publishing.exporter import IPFSDatasetExporter
from ipfs_dataset_core.publishing.publish import TreeSink
from ipfs_dataset_plugins import declarations
from ipfs_dataset_plugins.tar_shards.codecs import ValueCodec
from ipfs_dataset_plugins.tar_shards.exporter import TarShards
from tests.plugins.test_original import SAMPLES as ORIGINAL_SAMPLES
from tests.plugins.test_original import shard_of
from tests.support.equality import same
from tests.support.http_server import FaultServer, Plan
from tests.support.threads_left import upload_threads

PROFILE = get_profile("unixfs-v1-2025")


class Pictures(Dataset[Any]):
    """Looks like CIFAR10 of torchvision; `__getitem__` never raises IndexError."""

    def __init__(self, size=30):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        pixels = np.random.default_rng(index).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        return Image.fromarray(pixels), index % 10


class Tensors(Dataset[Any]):
    def __len__(self):
        return 30

    def __getitem__(self, index):
        return torch.full((100,), float(index)), index


class Stream(IterableDataset[Any]):
    def __iter__(self):
        return iter(Tensors()[i] for i in range(30))


@pytest.fixture
def exporter(tmp_path):
    return IPFSDatasetExporter(str(tmp_path / "store"), shard_bytes=20_000)


def test_an_imported_dataset_is_a_dataset_of_torch():
    assert issubclass(ImportedDataset, Dataset)


def test_images_and_labels_of_the_readme_are_equal_after_import(exporter):
    cid = exporter.export_to_ipfs(Pictures())
    assert str(CID.parse(cid)) == cid
    imported = exporter.import_from_ipfs(f"ipfs://{cid}")
    expected = [Pictures()[i] for i in range(30)]
    assert len(imported) == 30
    assert same(list(imported), expected)
    assert same([imported[i] for i in range(30)], expected)
    imported.close()
    assert imported[3][1] == 3


def test_without_an_address_the_embedded_store_is_used():
    cid = IPFSDatasetExporter().export_to_ipfs(Tensors())
    assert same(list(IPFSDatasetExporter().import_from_ipfs(cid)), list(Stream()))


@pytest.mark.parametrize(
    "form", ["{}", "ipfs://{}", "ipfs://ipfs://{}", "/ipfs/{}", "https://gateway.invalid/ipfs/{}"]
)
def test_every_form_of_url_is_imported(exporter, form):
    cid = exporter.export_to_ipfs(Tensors())
    assert len(exporter.import_from_ipfs(form.format(cid))) == 30


def test_map_style_iterable_and_plain_datasets_have_the_same_cid(exporter):
    samples = [Tensors()[i] for i in range(30)]
    datasets = [Tensors(), Stream(), samples, tuple(samples), iter(samples)]
    assert len({exporter.export_to_ipfs(dataset) for dataset in datasets}) == 1


def test_the_profile_decides_on_the_cid(tmp_path):
    store = str(tmp_path / "store")
    v0 = IPFSDatasetExporter(store, profile="unixfs-v0-2015").export_to_ipfs(Tensors())
    assert v0.startswith("Qm")
    assert same(list(IPFSDatasetExporter(store).import_from_ipfs(v0)), list(Stream()))


def test_equal_datasets_make_equal_car_files(tmp_path):
    samples = [bytes([number]) * (1 << 20) for number in range(40)]  # several batches of blocks
    files = []
    for name in ("one.car", "two.car"):
        IPFSDatasetExporter(str(tmp_path / name)).export_to_ipfs(samples)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


def used_up():
    samples = (number for number in range(3))
    list(samples)
    return samples


class Nothing(IterableDataset[Any]):
    def __iter__(self):
        return iter(())


class NoSamples(Tensors):
    def __len__(self):
        return 0


EMPTY = [
    list,
    used_up,
    dict,
    NoSamples,
    Nothing,
    lambda: iter(()),
    lambda: zip(used_up(), range(3), strict=False),
    lambda: map(str, []),
    lambda: torch.empty(0, 3),
    lambda: np.empty((0, 3)),
]


@pytest.mark.parametrize("make", EMPTY)
def test_a_dataset_without_samples_is_published_only_if_allowed(exporter, tmp_path, make):
    with pytest.raises(ExportError, match=r"no samples|exhausted"):
        exporter.export_to_ipfs(make())
    assert not (tmp_path / "store" / "pins").exists()


def test_no_samples_are_a_dataset_of_length_zero(exporter):
    imported = exporter.import_from_ipfs(exporter.export_to_ipfs([], allow_empty=True))
    assert len(imported) == 0
    assert list(imported) == []


NO_DATASETS = [
    ("path/to/folder", "ipfs add -r"),
    (Path("path/to/folder"), "ipfs add -r"),
    (b"bytes", "one per byte"),
    (bytearray(b"bytes"), "one per byte"),
    (memoryview(b"bytes"), "one per byte"),
    (io.BytesIO(b"line\nline"), "its lines"),
    (Tensors, r"an instance of it, Tensors\(…\)"),
    (used_up, "a function"),
    ({"x": 1, "y": 2}, r"keys 'x', 'y' .*x.values\(\)"),
    ({1: "a", 2: "b"}, "keys 1, 2"),
    ({1, 2}, "no order"),
    (frozenset({1}), "no order"),
    (DataLoader(Tensors(), 4), r"loader\.dataset"),
    (3, "is not a dataset"),
    (None, "is not a dataset"),
    (np.array(3), "without dimensions"),
    (torch.tensor(3), "without dimensions"),
]


@pytest.mark.parametrize(("thing", "advice"), NO_DATASETS, ids=lambda value: type(value).__name__)
def test_values_that_are_not_datasets_are_refused_with_advice(exporter, tmp_path, thing, advice):
    with pytest.raises(ExportError, match=advice):
        exporter.export_to_ipfs(thing)
    assert not (tmp_path / "store").exists()


class TooLong(Tensors):
    def __getitem__(self, index):
        if index >= 20:
            raise IndexError(index)
        return index


class LongStream(Stream):
    def __len__(self):
        return 31


@pytest.mark.parametrize(
    ("dataset", "words"),
    [(TooLong(), "length 30, but its sample 20"), (LongStream(), "length 31, but yielded 30")],
)
def test_a_length_that_is_not_reached_is_an_error(exporter, tmp_path, dataset, words):
    with pytest.raises(ExportError, match=words):
        exporter.export_to_ipfs(dataset)
    assert not (tmp_path / "store" / "pins").exists()
    with closing(exporter.import_from_ipfs(exporter.export_to_ipfs(iter(Stream())))) as imported:
        assert len(imported) == 30


ONE_TO_FOUR: Any = [1, 2, 3, 4]


class Sized(Tensors):
    length: Any

    def __len__(self):
        return self.length


@pytest.mark.parametrize("length", [-1, 2.5, None, 1 << 70])
def test_a_length_that_is_none_is_an_error(exporter, length):
    dataset = Sized()
    dataset.length = length
    with pytest.raises(ExportError, match="Sized has no usable length"):
        exporter.export_to_ipfs(dataset)


class ShortStream(Stream):
    def __len__(self):
        return 29


def test_what_was_meant_is_exported(exporter):
    rows = torch.arange(6).reshape(3, 2)
    for dataset, samples in [
        (rows, [rows[0], rows[1], rows[2]]),
        (rows.numpy(), list(rows.numpy())),
        ({0: "a", 1: "b"}, ["a", "b"]),
        ({"a": 1, "b": 2}.items(), [("a", 1), ("b", 2)]),
        ({"a": 1, "b": 2}.keys(), ["a", "b"]),
        (["text"], ["text"]),
        (DataLoader(ONE_TO_FOUR, batch_size=None), [1, 2, 3, 4]),
        (ShortStream(), list(Stream())),
        (iter(DataLoader(ONE_TO_FOUR, 2)), [torch.tensor([1, 2]), torch.tensor([3, 4])]),
    ]:
        cid = exporter.export_to_ipfs(dataset)
        assert same(list(exporter.import_from_ipfs(cid)), samples)


def test_frames_of_an_animation_are_equal_to_those_of_the_iterator(exporter, tmp_path):
    frames = [Image.effect_noise((16, 16), 90).convert("P") for _ in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.gif") as opened:
        cid = exporter.export_to_ipfs(
            (frame, i) for i, frame in enumerate(ImageSequence.Iterator(opened))
        )
        expected = [(f.copy(), i) for i, f in enumerate(ImageSequence.Iterator(opened))]
    assert same(list(exporter.import_from_ipfs(cid)), expected)


def test_indices_count_from_both_ends_and_end(exporter):
    imported = exporter.import_from_ipfs(exporter.export_to_ipfs(Tensors()))
    assert imported[-1][1] == 29
    assert imported[np.int64(3)][1] == 3
    for index in (30, -31):
        with pytest.raises(IndexError, match=f"sample {index} of a dataset of 30"):
            imported[index]
    with pytest.raises(TypeError):
        imported["0"]


def test_batches_go_through_a_subclass_that_transforms(exporter):
    class Labels(ImportedDataset):
        def __getitem__(self, index):
            assert type(index) is int
            return super().__getitem__(index)[1]

    imported = exporter.import_from_ipfs(exporter.export_to_ipfs(Tensors()))
    labels = Labels(imported._published)
    for indices in ([3, -1, 0], [np.int64(3), torch.tensor(-1), 0]):
        assert labels.__getitems__(indices) == [3, 29, 0]
        assert [label for _, label in imported.__getitems__(indices)] == [3, 29, 0]
    assert list(labels) == list(range(30))


@pytest.mark.parametrize(("start", "used"), [("fork", False), ("fork", True), ("forkserver", True)])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_dataloader_workers_read_an_imported_dataset(exporter, start, used):
    imported = exporter.import_from_ipfs(exporter.export_to_ipfs(Tensors()))
    if used:
        assert imported[5][1] == 5
    loader = DataLoader(imported, 4, num_workers=2, multiprocessing_context=start)
    batches = list(loader)
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(30))
    assert torch.equal(batches[0][0][3], torch.full((100,), 3.0))


def test_a_used_dataset_pickles(exporter):
    imported = exporter.import_from_ipfs(exporter.export_to_ipfs(Tensors()))
    list(imported)
    assert same(list(pickle.loads(pickle.dumps(imported))), list(Stream()))


def test_a_codec_of_the_user_is_used_in_both_directions(tmp_path):
    ranges = ValueCodec(
        name="range",
        type=range,
        extension="txt",
        encode=lambda value: str(len(value)).encode(),
        decode=lambda data: range(int(data)),
    )
    store = str(tmp_path)
    cid = IPFSDatasetExporter(store, codecs=[ranges]).export_to_ipfs([range(3)])
    assert list(IPFSDatasetExporter(store, codecs=[ranges]).import_from_ipfs(cid)) == [range(3)]
    with pytest.raises(FormatError, match="codec 'range'"):
        IPFSDatasetExporter(store).import_from_ipfs(cid)[0]


def test_pickles_are_made_and_read_only_by_name(tmp_path):
    store = str(tmp_path)
    with pytest.raises(ExportError, match="sample 0 is of type range"):
        IPFSDatasetExporter(store).export_to_ipfs([range(3)])
    cid = IPFSDatasetExporter(store, allow_pickle=True).export_to_ipfs([range(3)])
    assert IPFSDatasetExporter(store, allow_pickle=True).import_from_ipfs(cid)[0] == range(3)
    with pytest.raises(FormatError, match="allow_pickle=True"):
        IPFSDatasetExporter(store).import_from_ipfs(cid)[0]


def test_a_dataset_of_the_original_library_is_imported(exporter, tmp_path):
    cid = _publish_original(exporter._address, [shard_of(ORIGINAL_SAMPLES)])
    (plugin,) = declarations.ORIGINAL.ipfs_dataset_exporters()
    imported = IPFSDatasetExporter(exporter._address, form=plugin).import_from_ipfs(f"ipfs://{cid}")
    assert same(list(imported), ORIGINAL_SAMPLES)
    assert same(pickle.loads(pickle.dumps(imported))[4], ORIGINAL_SAMPLES[4])


@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
@pytest.mark.parametrize(
    ("path", "part"),
    [("", False), ("shards", True), ("shards/00000.tar", True), ("manifest.json", True)],
)
def test_reading_the_files_of_a_published_dataset_warns_of_the_samples(exporter, kind, path, part):
    cid = exporter.export_to_ipfs(Tensors())
    with pytest.warns(UserWarning, match="published dataset.*import_from_ipfs") as caught:
        next(iter(kind(f"ipfs://{cid}/{path}", exporter._address)))
    assert len(caught) == 1
    assert f"import_from_ipfs('ipfs://{cid}')" in str(caught[0].message)
    assert ("is a part of" in str(caught[0].message)) == part


def test_reading_what_the_original_library_published_as_a_file_warns_too(exporter):
    cid = _publish_original(exporter._address, [shard_of(ORIGINAL_SAMPLES)])
    with pytest.warns(UserWarning, match=r"form 'original'.*import_from_ipfs"):
        assert len(IPFSDataset(cid, exporter._address)) == 1


@pytest.mark.filterwarnings("error")
def test_no_warning_if_the_type_is_named_or_other_files_are_read(exporter):
    cid = exporter.export_to_ipfs(Tensors())
    for url, kind in ((cid, "folder"), (f"{cid}/shards/00000.tar", "tar")):
        assert len(IPFSDataset(IPFSObject(url, kind), exporter._address)) > 3
    blocks: dict[CID, bytes] = {}
    sink = TreeSink(PROFILE, blocks.__setitem__)
    for name, content in {"manifest.json": b'{"name": "an app"}', "data/a.txt": b"text"}.items():
        with sink.create(name) as file:
            file.write(content)
    root = sink.finish()
    _store(exporter, blocks.items())
    for url, count in ((str(root), 2), (f"{root}/data", 1), (f"{root}/manifest.json", 1)):
        assert len(IPFSDataset(url, exporter._address)) == count


def test_a_slice_of_an_imported_dataset_is_a_list(exporter):
    imported = exporter.import_from_ipfs(exporter.export_to_ipfs(list(range(9))))
    assert imported[2:5] == [2, 3, 4]
    assert imported[::-4] == [8, 4, 0]
    assert imported[True] == 1
    assert imported[[0, -1]] == [0, 8]
    for index in (1.0, "0", None, [0.5], torch.tensor(1.0)):
        with pytest.raises(TypeError, match="must be an integer"):
            imported[index]

    class Labels(ImportedDataset):
        def __getitem__(self, index):
            return str(super().__getitem__(index))

    with pytest.raises(TypeError, match=r"range\(2, 5\)"):
        Labels(imported._published)[2:5]


def test_an_existing_car_file_is_replaced_only_if_requested(tmp_path):
    path = tmp_path / "my.car"
    first = IPFSDatasetExporter(path).export_to_ipfs([1, 2])
    before = path.read_bytes()
    with pytest.raises(AddressError, match=r"my\.car' exists, and.*overwrite=True.*a folder"):
        IPFSDatasetExporter(path).export_to_ipfs([3])
    again = IPFSDatasetExporter(path, overwrite=True)
    with pytest.raises(ExportError):
        again.export_to_ipfs([object()])
    assert path.read_bytes() == before
    assert list(again.import_from_ipfs(first)) == [1, 2]
    second = again.export_to_ipfs(again.import_from_ipfs(first)[:1])
    assert list(again.import_from_ipfs(second)) == [1]
    assert len(IPFSDataset(IPFSObject(second, "folder"), path, overwrite=True)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["my.car"]


def test_another_file_is_never_replaced(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(AddressError, match=r"is a file other than a \.car file"):
            IPFSDatasetExporter(path, overwrite=overwrite).export_to_ipfs([1])
    assert path.read_bytes() == b"mine"


def test_a_path_is_an_address_of_a_store_or_car_file(tmp_path):
    for path in (tmp_path / "store", tmp_path / "my.car"):
        exporter = IPFSDatasetExporter(path)
        cid = exporter.export_to_ipfs([1, 2])
        assert list(IPFSDatasetExporter(path).import_from_ipfs(cid)) == [1, 2]
    with pytest.raises(AddressError, match="not a single address"):
        IPFSDatasetExporter([tmp_path])  # type: ignore[arg-type]


def _publish_original(address, shards):
    import json

    from ipfs_dataset_core.ipld import FileBuilder
    from ipfs_dataset_core.options import Options
    from ipfs_dataset_core.reading.connections import connect_for_writing

    blocks = []

    def add(content):
        builder = FileBuilder(PROFILE, lambda cid, block: blocks.append((cid, block)))
        builder.write(content)
        return str(builder.finish().cid)

    fields = {"identifier": "ipfs-dataset", "version": "1.0", "list": [add(s) for s in shards]}
    root = add(json.dumps(fields).encode())
    connect_for_writing(address, Options()).put_blocks(blocks)
    return root


def test_the_error_for_an_unpublished_object_explains_the_forms(exporter):
    blocks: dict[CID, bytes] = {}
    sink = TreeSink(PROFILE, blocks.__setitem__)
    with sink.create("a.txt") as file:
        file.write(b"text")
    root = sink.finish()
    _store(exporter, blocks.items())
    with pytest.raises(FormatError, match=r"no|not a published dataset .*tar_shards"):
        exporter.import_from_ipfs(str(root))


def _store(exporter, blocks):
    from ipfs_dataset_core.reading.connections import connect_for_writing

    connect_for_writing(exporter._address, exporter._options).put_blocks(blocks)


class Broken(Dataset[Any]):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 2:
            raise ZeroDivisionError("of the user")
        return index


class Interrupted(Broken):
    def __getitem__(self, index):
        if index == 2:
            raise KeyboardInterrupt
        return bytes(20 << 20)


def test_an_error_of_the_dataset_arrives_unchanged_and_nothing_is_pinned(exporter, tmp_path):
    with pytest.raises(ZeroDivisionError, match="of the user"):
        exporter.export_to_ipfs(Broken())
    assert not (tmp_path / "store" / "pins").exists()


def test_an_interrupt_leaves_nothing_running(exporter):
    with pytest.raises(KeyboardInterrupt):
        exporter.export_to_ipfs(Interrupted())
    assert upload_threads() == []


def test_unusable_settings_are_refused_where_they_are_given():
    with pytest.raises(ValueError, match="shard_bytes"):
        IPFSDatasetExporter(shard_bytes=0)
    with pytest.raises(AddressError, match="unixfs-v1-2025"):
        IPFSDatasetExporter(profile="mine")
    with pytest.raises(TypeError, match="timeuot"):
        IPFSDatasetExporter(timeuot=3)  # type: ignore[call-arg]


def test_an_exporter_of_the_user_can_be_the_form(tmp_path):
    form = TarShards(ExporterOptions(shard_bytes=10_000))
    exporter = IPFSDatasetExporter(str(tmp_path), form=form)
    assert len(exporter.import_from_ipfs(exporter.export_to_ipfs(Tensors()))) == 30


@pytest.mark.parametrize("profile", ["unixfs-v1-2025", "unixfs-v0-2015"])
def test_a_node_takes_pins_and_returns_a_dataset(kubo, profile, tmp_path):
    exporter = IPFSDatasetExporter(kubo.api, shard_bytes=50_000, profile=profile)
    cid = exporter.export_to_ipfs(Pictures())
    imported = exporter.import_from_ipfs(f"ipfs://ipfs://{cid}")
    assert same(list(imported), [Pictures()[i] for i in range(30)])
    assert same(imported[-1], Pictures()[29])
    imported.close()
    gateway = IPFSDatasetExporter().import_from_ipfs(f"{kubo.gateway}/ipfs/{cid}")
    assert same(gateway.__getitems__([4, 17]), [Pictures()[4], Pictures()[17]])
    gateway.close()
    assert cid in kubo.cli("pin", "ls", "--type=recursive").decode()
    elsewhere = IPFSDatasetExporter(str(tmp_path), shard_bytes=50_000, profile=profile)
    assert elsewhere.export_to_ipfs(Pictures()) == cid


def test_an_export_ends_with_the_deadline_though_the_node_never_answers():
    with FaultServer(lambda _: Plan(delay=60)) as node:
        exporter = IPFSDatasetExporter(node.multiaddr, timeout=60, deadline=0.5)
        with pytest.raises(TransportTimeoutError, match="dag/import"):
            exporter.export_to_ipfs(["some", "samples"])


class _Broken:
    def __init__(self, error):
        self._error = error

    def __len__(self):
        return 5

    def __getitem__(self, index):
        if index == 3:
            raise self._error
        return index


def _broken_iterator(error):
    yield from range(3)
    raise error


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes from Python 3.11 on")
@pytest.mark.parametrize("make", [_Broken, _broken_iterator])
def test_errors_of_a_dataset_name_the_sample(make, tmp_path):
    error = RuntimeError("damaged file")
    with pytest.raises(RuntimeError, match="damaged file") as raised:
        IPFSDatasetExporter(tmp_path / "store").export_to_ipfs(make(error))
    assert raised.value is error
    (note,) = vars(error)["__notes__"]
    assert "for sample 3 of an export, so nothing is published" in note


class _BrokenAtLast(_Broken):
    """Fails at the last sample, behind 30 MB: more than batches that are still being filled."""

    def __len__(self):
        return 31

    def __getitem__(self, index):
        if index == 30:
            raise self._error
        return bytes([index]) * 1_000_000


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes from Python 3.11 on")
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (
            "store",
            r"[\d.]+ MB of the [\d.]+ MB made so far are stored, .*sends only what is missing then",
        ),
        (
            "file.car",
            r"nothing of the [\d.]+ MB made so far is kept: run .* again, which begins anew",
        ),
    ],
)
@pytest.mark.parametrize(
    "make", [lambda: RuntimeError("damaged file"), object], ids=["raised", "refused"]
)
def test_the_error_of_an_export_states_what_the_next_run_will_send(where, expected, make, tmp_path):
    error = make()

    class Refused(_BrokenAtLast):
        def __getitem__(self, index):
            return error if index == 30 else super().__getitem__(index)

    kind = _BrokenAtLast if isinstance(error, Exception) else Refused
    exporter = IPFSDatasetExporter(tmp_path / where)
    with pytest.raises((RuntimeError, ExportError)) as raised:
        exporter.export_to_ipfs(kind(error))
    notes = vars(raised.value)["__notes__"]
    assert re.search(expected, notes[-1])
    assert len(notes) == 1 + isinstance(error, Exception)
    kept = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    if where == "store":
        assert kept > 8_000_000
        sent = exporter.uploaded.sent_bytes
        assert abs(kept - sent) < 1_000_000
    else:
        assert kept == 0


def test_a_sample_that_stops_the_iteration_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ExportError, match=r"its sample 3 cannot be looked up \(StopIteration"):
        IPFSDatasetExporter(tmp_path / "store").export_to_ipfs(_Broken(StopIteration()))
