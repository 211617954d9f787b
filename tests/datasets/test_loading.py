"""`load`: whatever a CID names as a dataset; what datasets say about themselves."""

from __future__ import annotations

import pickle
import re
import sys

import pytest
import torch
from torch.utils.data import DataLoader

import ipfs_dataset
from ipfs_dataset import (
    IPFSDataset,
    IPFSDatasetExporter,
    IPFSIterableDataset,
    IPFSObject,
    ShuffleDataset,
    load,
)
from ipfs_dataset_core.datasets.imported import ImportedDataset
from ipfs_dataset_core.errors import AddressError, FormatError, ObjectNotFoundError, TransportError
from tests.support.builders import noise, one_file, tar_bytes, tree, zip_bytes
from tests.support.gateway_server import GatewayServer
from tests.support.stores import SMALL_LEAVES, Store, blocks_in, members

MEMBERS = members(5)
NOWHERE = "bafkreidy3i4km7levq7akk7rrswy7xpqneomvpbov2sewpizkktrihwnle"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


def published(store, samples):
    return IPFSDatasetExporter(store.address).export_to_ipfs(samples)


def test_a_published_dataset_is_loaded_as_its_samples(store):
    cid = published(store, [(torch.ones(3) * i, i) for i in range(7)])
    dataset = load(cid, store.address)
    assert isinstance(dataset, ImportedDataset)
    assert dataset.cid == cid
    assert dataset.schema == ("tensor", "int")
    assert [label for _, label in dataset] == list(range(7))
    images, labels = next(
        iter(DataLoader(load(cid, store.address, transform=double), batch_size=4))
    )
    assert images[1].tolist() == [2, 2, 2]
    assert labels.tolist() == [0, 1, 2, 3]


def double(value):
    return value * 2


# What only published datasets need, by form, and what only publishing needs.
OF_PUBLISHED = ("original.samples", "tar_shards.samples")
OF_PUBLISHING = ("tar_shards.dataset_writer", "tar_shards.page.html", "tar_shards.shard_writer")


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_loading_other_objects_imports_no_published_form(store, kind, monkeypatch):
    cid = store.tree(MEMBERS) if kind == "folder" else store.file(zip_bytes(MEMBERS))
    not_needed = [f"ipfs_dataset_plugins.{name}" for name in OF_PUBLISHED + OF_PUBLISHING]
    for name in not_needed:
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert dict(load(cid, store.address)) == MEMBERS
    assert not sys.modules.keys() & not_needed


@pytest.mark.parametrize("kind", [zip_bytes, tar_bytes])
def test_an_archive_is_loaded_as_its_members(store, kind):
    cid = store.file(kind(MEMBERS))
    dataset = load(f"ipfs://{cid}", store.address, transform=double)
    assert type(dataset) is IPFSDataset
    assert list(dataset) == [(name, data * 2) for name, data in MEMBERS.items()]
    assert dataset.cid == cid


def test_a_large_file_is_not_read_to_detect_its_format(tmp_path):
    store, cache = Store(tmp_path / "s"), tmp_path / "cache"
    files = {f"{number}.bin": noise(40_000, number) for number in range(30)}
    cid = store.file(zip_bytes(files, 0), SMALL_LEAVES)
    dataset = load(cid, store.address, cache_dir=cache)
    assert len(dataset) == 30
    dataset.close()
    assert sum(len(data) for _, data in blocks_in(cache)) < 600_000


def test_a_folder_is_loaded_as_its_files(store):
    cid = store.tree({**MEMBERS, "n/a.zip": zip_bytes(members(2, "z"))})
    dataset = load(cid, store.address)
    assert type(dataset) is IPFSDataset
    assert dict(dataset) == {**MEMBERS, **members(2, "z")}


def test_a_file_is_one_sample(store):
    cid = store.file(b"some text")
    assert list(load(cid, store.address)) == [(cid, b"some text")]


def test_an_object_without_random_access_is_loaded_as_a_stream(store):
    cid = store.file(tar_bytes(MEMBERS, "w:gz"))
    dataset = load(cid, store.address, transform=double)
    assert type(dataset) is IPFSIterableDataset
    assert list(dataset) == [(name, data * 2) for name, data in MEMBERS.items()]
    assert dataset.cid == cid
    assert sorted(pickle.loads(pickle.dumps(dataset))) == sorted(dataset)
    in_folder = store.tree({"a.tar.gz": tar_bytes(MEMBERS, "w:gz"), "b.txt": b"b"})
    assert type(load(in_folder, store.address)) is IPFSIterableDataset


def test_a_named_type_takes_precedence(store):
    cid = store.file(zip_bytes(MEMBERS))
    assert len(load(IPFSObject(cid, "plain"), store.address)) == 1
    cid = published(store, [1, 2, 3])
    files = load(IPFSObject(cid, "folder"), store.address)
    assert type(files) is IPFSDataset
    assert all(name.endswith((".cls", ".json")) for name, _ in files)


def test_options_are_passed_to_the_dataset(store):
    cid = store.file(zip_bytes(MEMBERS))
    dataset = load(cid, store.address, decoders={".txt": len}, handler="skip")
    assert dataset[0] == ("m000.txt", 3)
    pickled = IPFSDatasetExporter(store.address, allow_pickle=True).export_to_ipfs([{1, 2}])
    assert load(pickled, store.address, allow_pickle=True)[0] == {1, 2}
    with pytest.raises(FormatError, match="allow_pickle=True"):
        load(pickled, store.address)[0]
    with pytest.raises(TypeError, match="unknown option wrokers"):
        load(cid, store.address, wrokers=2)  # type: ignore[call-arg]


def test_without_an_address_data_published_on_this_machine_are_found():
    cid = IPFSDatasetExporter().export_to_ipfs(["a", "b"])
    assert list(load(cid)) == ["a", "b"]


def test_bad_names_are_typed_errors(store, tmp_path):
    with pytest.raises(AddressError, match="CID"):
        load("bafynonsense", store.address)
    with pytest.raises(AddressError, match="is a local path"):
        load(tmp_path, store.address)
    with pytest.raises(TransportError, match=NOWHERE):
        load(NOWHERE, store.address)
    cid = store.tree(MEMBERS)
    with pytest.raises(ObjectNotFoundError, match="no/such"):
        load(f"{cid}/no/such", store.address)


def test_loading_takes_few_requests():
    root, blocks = tree({**MEMBERS, "a.zip": zip_bytes(MEMBERS)})
    with GatewayServer(blocks) as gateway:
        dataset = load(str(root), gateways=[gateway.url])
        before = len(gateway.requests)
        repr(dataset)
        assert len(gateway.requests) == before
        assert len(dataset) == 10
        assert len(gateway.requests) <= 4


def test_a_damaged_published_dataset_is_not_loaded_as_files(store):

    cid = store.tree(
        {"manifest.json": b'{"identifier": "ipfs-dataset", "version": "2.0", "form": "tar_shards"}'}
    )
    with pytest.raises(FormatError, match="damaged"):
        load(cid, store.address)


def test_a_repr_describes_the_dataset(store):
    cid = published(store, [(torch.ones(3), i) for i in range(1500)])
    text = repr(load(cid, store.address, transform=double))
    head, _, tail = text.partition(" MB, ")
    assert re.fullmatch(r"<ImportedDataset 1,500 x \(tensor, int\), \d\.\d", head)
    assert tail == f"{cid} from store {store.address}, transform=double>"


def test_a_repr_of_files_makes_no_request_and_contains_no_secrets():
    root, blocks = one_file(zip_bytes(MEMBERS))
    with GatewayServer(blocks) as gateway:
        host = gateway.url.partition("://")[2]
        url = f"http://user:secret@{host}?token=secret"
        for kind in (IPFSDataset, IPFSIterableDataset):
            dataset = kind(str(root), gateways=[url])
            assert repr(dataset) == f"<{kind.__name__} {root} from gateway http://{host}>"
        assert gateway.requests == []
        dataset = IPFSDataset(f"http://user:secret@{host}/ipfs/{root}?token=secret")
        assert "secret" not in repr(dataset)
        assert f"from gateway http://{host}" in repr(dataset)
    many = IPFSDataset([str(root)] * 5, "/ip4/127.0.0.1/tcp/5001", gateways=["http://g.invalid"])
    assert repr(many) == (
        f"<IPFSDataset {root}, {root} and 3 more from API /ip4/127.0.0.1/tcp/5001, "
        "gateway http://g.invalid>"
    )
    assert repr(IPFSDataset([])).startswith("<IPFSDataset no objects from")


def test_a_repr_of_a_composition_names_its_datasets():
    root, _ = one_file(zip_bytes(MEMBERS))
    stream = IPFSIterableDataset(str(root), "/ip4/127.0.0.1/tcp/5001")
    shuffled = ShuffleDataset(stream, buffer_size=7, seed=3)
    assert repr(shuffled) == f"<ShuffleDataset buffer of 7, seed 3, of {stream!r}>"
    exporter = IPFSDatasetExporter("http://user:secret@127.0.0.1:5001")
    assert repr(exporter) == "<IPFSDatasetExporter to http://127.0.0.1:5001>"
    assert "this machine" in repr(IPFSDatasetExporter())


def test_completion_lists_the_public_methods(store):
    dataset = load(published(store, [1]), store.address)
    assert {"cid", "schema", "card", "classes", "info", "close", "skipped"} <= {*dir(dataset)}
    assert {"load", "IPFSDataset", "IPFSDatasetExporter"} <= {*dir(ipfs_dataset)}


def test_a_stream_has_exactly_the_given_options(store, monkeypatch):
    """With another memory, its blocks have another size; nothing is taken from the environment again."""
    cid = store.file(tar_bytes(MEMBERS, "w:gz"))
    monkeypatch.setenv("IPFS_DATASET_VERIFY", "0")  # which is a warning where it counts
    dataset = load(cid, store.address, verify=True, memory="8M")
    assert isinstance(dataset, IPFSIterableDataset)
    assert dataset._order.block == 1 << 20
    assert len(list(dataset)) == 5
