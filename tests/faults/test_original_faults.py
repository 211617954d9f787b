"""What the original library promised and did not keep, where it concerns datasets: one test each."""

from __future__ import annotations

import inspect
import random

import pytest
import torch
from torch.utils.data import DataLoader

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset, ShuffleDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import Options
from ipfs_dataset_core.errors import AddressError, FormatError, TransportError
from tests.support.builders import noise, tar_bytes, zip_bytes
from tests.support.stores import SMALL_LEAVES, Store, members
from tests.support.workers import Transformed, TransformedStream, as_it_is, upper


def everything(dataset: IPFSDataset):
    return [dataset[index] for index in range(len(dataset))]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


def zip_object(store, files):
    return IPFSObject(f"ipfs://{store.file(zip_bytes(files))}", RemoteFileType.ZIP)


def test_the_readmes_super_call_reaches_a_getitem(store):
    """``super(IPFSDataset, self).__getitem__`` skipped the class that had it: NotImplementedError."""
    objects = [zip_object(store, members(3)), zip_object(store, members(2, "n"))]
    dataset = Transformed(objects, store.address, transform=upper)
    assert dataset[0] == (b"M 0", "m000.txt")

    class Plainly(IPFSDataset):
        def __getitem__(self, index):
            return super().__getitem__(index)[0]

    assert Plainly(objects, store.address)[-1] == "n001.txt"


def test_an_item_of_a_zip_is_a_member_and_the_length_counts_members(store):
    """An item was the whole ZIP, the length the number of objects."""
    objects = [zip_object(store, members(3)), zip_object(store, members(2, "n"))]
    dataset = IPFSDataset(objects, store.address)
    assert len(dataset) == 5
    assert dataset[3] == ("n000.txt", b"n 0")


def test_each_member_of_a_zip_is_streamed_once_and_junk_not_at_all(store):
    """Every member came twice, folders and what macOS adds among them."""
    files = {
        "a/": b"",
        "a/b.txt": b"b",
        "__MACOSX/a/._b.txt": b"junk",
        "._c.txt": b"junk",
        "c.txt": b"c",
    }
    dataset = IPFSIterableDataset([zip_object(store, files)], store.address)
    assert list(dataset) == [("a/b.txt", b"b"), ("c.txt", b"c")]
    assert list(DataLoader(dataset, batch_size=None, collate_fn=as_it_is)) == list(dataset)


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_damaged_archive_is_an_error_and_prints_nothing(store, capfd, cut):
    """It printed "Error:" and yielded nothing."""
    archive = zip_bytes({"a": noise(5000), "b": noise(5000, 1)}, 0)
    damaged = store.file(archive[: int(len(archive) * cut)])
    flipped = bytearray(archive)
    flipped[100] ^= 1
    for cid in (damaged, store.file(bytes(flipped))):
        with pytest.raises(FormatError, match=cid):
            list(IPFSIterableDataset(IPFSObject(cid, RemoteFileType.ZIP), store.address))
    assert capfd.readouterr() == ("", "")


def test_an_iterable_subclass_without_super_init_iterates_and_has_no_length(store):
    """``list``, ``DataLoader`` and ``len`` all raised AttributeError."""
    dataset = TransformedStream([zip_object(store, members(3))], store.address, False)
    expected = [(data, name) for name, data in members(3).items()]
    assert list(dataset) == expected
    assert list(DataLoader(dataset, batch_size=None, collate_fn=as_it_is)) == expected
    with pytest.raises(TypeError):
        len(dataset)
    assert list(ShuffleDataset(dataset, buffer_size=1)) == expected


def test_the_readmes_mistyped_cid_fails_at_first_use_with_the_reason(store):
    """The README lists a CID with a letter too many; naming it must do no harm yet."""
    bad = "ipfs://QmdPw1vze5nwVM1fsCjygXCs8WyzDsf3hn4uq3MpMLvw9ww"
    objects = [zip_object(store, members(2)), IPFSObject(bad, RemoteFileType.ZIP)]
    stream = iter(IPFSIterableDataset(objects, store.address))
    assert [next(stream)[0], next(stream)[0]] == list(members(2))
    with pytest.raises(AddressError, match="QmdPw1vze5nwVM1fsCjygXCs8WyzDsf3hn4uq3MpMLvw9ww"):
        next(stream)
    with pytest.raises(AddressError, match="not a CID"):
        len(IPFSDataset(objects, store.address))


def test_names_that_only_end_in_the_letters_tar_are_no_archives(store):
    """The last three letters of a name decided."""
    tar = tar_bytes(members(2))
    root = store.folder({"guitar": b"strings", "a.tar": tar, "b/star": b"light"})
    expected = [("guitar", b"strings"), *members(2).items(), ("b/star", b"light")]
    folder = IPFSObject(root, RemoteFileType.FOLDER)
    assert list(IPFSIterableDataset(folder, store.address)) == expected
    assert everything(IPFSDataset(folder, store.address)) == expected


def test_a_folder_without_metadata_is_listed(store):
    """It was None, then a TypeError."""
    root = store.tree({"b.txt": b"b", "a/c.txt": b"c", ".DS_Store": b"junk"})
    dataset = IPFSDataset(IPFSObject(root, RemoteFileType.FOLDER), store.address)
    assert everything(dataset) == [("a/c.txt", b"c"), ("b.txt", b"b")]


def test_metadata_may_be_written_by_any_editor(store):
    """Carriage returns, a byte order mark, blank lines, nested and non-ASCII names."""
    listing = "\ufeffb.txt\r\n\r\nsub/größe 1.txt\r\na.txt".encode()
    files = {"a.txt": b"a", "b.txt": b"b", "sub/größe 1.txt": b"s", "unlisted": b"u"}
    root = store.tree({**files, "metadata.txt": listing})
    names = [name for name, _ in everything(IPFSDataset(root, store.address))]
    assert names == ["b.txt", "sub/größe 1.txt", "a.txt"]


@pytest.mark.parametrize("line", ["/etc/passwd", "../secret", "a/../../b", "C:\\x", "http://x/y"])
def test_metadata_never_leads_out_of_the_folder(store, line):
    root = store.tree({"metadata.txt": f"ok\n{line}\n".encode(), "ok": b""})
    with pytest.raises(FormatError, match="Line 2"):
        len(IPFSDataset(root, store.address))


def test_shuffling_leaves_the_users_random_numbers_alone(store):
    """``random.seed(epoch)`` reseeded the user's own generator."""
    random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), torch.get_rng_state().tolist()
    objects = [zip_object(store, members(2, prefix)) for prefix in "abc"]
    dataset = IPFSIterableDataset(objects, store.address, shuffle_urls=True)
    dataset.set_epoch(2)
    list(ShuffleDataset(dataset, 2))
    assert (random.getstate(), torch.get_rng_state().tolist()) == before


def test_a_shuffled_order_is_reproducible_and_the_buffer_stays_full(store):
    """ShuffleDataset had no seed, and kept the smaller size of the last epoch for ever."""
    dataset = ShuffleDataset(IPFSDataset(zip_object(store, members(9)), store.address), 1000)
    again = ShuffleDataset(IPFSDataset(zip_object(store, members(9)), store.address), 1000)
    first = list(dataset)
    assert first == list(again)
    assert sorted(first) == list(members(9).items())
    for _ in range(2):
        dataset.set_epoch(1)
        again.set_epoch(1)
        assert list(dataset) == list(again) != first


def test_the_rank_is_read_when_iterating(store, monkeypatch):
    """It was read in the constructor, before the job was set up."""
    dataset = IPFSIterableDataset(zip_object(store, members(4)), store.address)
    found = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        found.append([name for name, _ in dataset])
    assert found == [list(members(4))[:2], list(members(4))[2:]]


def test_time_outs_are_finite_and_failures_are_retried():
    """The timeout was infinite, and nothing was tried again."""
    assert 0 < Options().timeout <= 60
    assert Options().retries > 0
    with pytest.raises(ValueError, match="finite"):
        Options(timeout=float("inf"))


def test_a_missing_object_is_no_file_exists_error(store):
    """Every failure was a FileExistsError."""
    missing = "ipfs://QmdPw1vze5nwVM1fsCjygXCs8WyzDsf3hn4uq3MpMLvw9w"
    with pytest.raises(TransportError, match="No source delivered") as caught:
        len(IPFSDataset(missing, store.address, retries=0))
    assert not isinstance(caught.value, FileExistsError)
    assert isinstance(caught.value, OSError)


def test_an_archive_larger_than_the_memory_allowed_streams_through(store):
    """Objects were read whole before the first sample."""
    files = {f"{number}.bin": noise(200_000, number) for number in range(30)}
    for archive in (tar_bytes(files), zip_bytes(files, 0)):
        cid = store.file(archive, SMALL_LEAVES)
        dataset = IPFSIterableDataset(cid, store.address, memory=1 << 20)
        assert list(dataset) == list(files.items())
        assert dataset._connections.fetcher()._flights._used <= 1 << 20


def test_plain_stream_is_still_a_name():
    assert RemoteFileType.PLAIN_STREAM.value == "plain_stream"
    assert "shuffle_urls" in inspect.signature(IPFSIterableDataset).parameters
