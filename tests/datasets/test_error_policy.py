"""Samples that cannot be read: raised, or by the user's word skipped and counted."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from ipfs_dataset_core.datasets.error_policy import ErrorPolicy, Replacement
from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.datasets.map_style import IPFSDataset
from ipfs_dataset_core.errors import (
    CacheFolderError,
    FormatError,
    IPFSDatasetError,
    LimitError,
    TransportError,
)
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from ipfs_dataset_core.options import Options
from tests.support.builders import noise, tar_bytes, zip_bytes
from tests.support.stores import Store

MEMBERS = {f"{n:02}.bin": noise(2_000 + n, n) for n in range(30)}
BROKEN = (3, 4, 17)


def damaged_zip():
    data = bytearray(zip_bytes(MEMBERS, compression=0))
    for number in BROKEN:
        place = bytes(data).index(MEMBERS[f"{number:02}.bin"])
        data[place + 1000] ^= 1
    return bytes(data)


GOOD = [item for n, item in enumerate(MEMBERS.items()) if n not in BROKEN]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def archive(store):
    return IPFSObject(f"ipfs://{store.file(damaged_zip())}", RemoteFileType.ZIP)


@pytest.mark.parametrize("workers", [0, 2])
def test_by_default_a_bad_sample_is_raised(store, archive, workers):
    loader = DataLoader(
        IPFSIterableDataset(archive, store.address),
        batch_size=None,
        collate_fn=tuple,
        num_workers=workers,
    )
    with pytest.raises(FormatError, match=r"(03|17)\.bin"):
        list(loader)


@pytest.mark.parametrize(("policy", "level"), [("warn", logging.WARNING), ("skip", logging.INFO)])
def test_bad_samples_are_skipped_counted_and_logged(store, archive, policy, level, caplog):
    caplog.set_level(logging.INFO, "ipfs_dataset_core.datasets.error_policy")
    dataset = IPFSIterableDataset(archive, store.address, handler=policy)
    assert list(dataset) == GOOD
    assert dataset.skipped == len(BROKEN)
    assert [record.levelno for record in caplog.records] == [level] * len(BROKEN)
    assert "04.bin" in caplog.text


def test_a_callable_decides(store, archive):
    seen = []

    def skip_some(error):
        seen.append(error)
        return "17.bin" not in str(error)

    dataset = IPFSIterableDataset(archive, store.address, handler=skip_some)
    with pytest.raises(FormatError, match=r"17\.bin"):
        list(dataset)
    assert len(seen) == len(BROKEN)
    assert dataset.skipped == 2


def test_too_many_consecutive_failures_are_raised(store, archive):
    dataset = IPFSIterableDataset(archive, store.address, handler="skip", max_failures=2)
    with pytest.raises(FormatError, match=r"04\.bin.*failure number 2 in a row"):
        list(dataset)


@pytest.mark.parametrize(
    "handler", ["skip", lambda error: not isinstance(error, LimitError)], ids=["skip", "callable"]
)
def test_an_error_that_is_not_skipped_is_raised_where_the_replacement_fails_too(handler):
    """A cache that is refused would make every sample unreadable, without a word."""
    error = CacheFolderError if handler == "skip" else LimitError
    read = []

    def failing(number):
        read.append(number)
        raise error("no cache here") if number == 5 else FormatError("damaged")

    policy = ErrorPolicy(Options(handler=handler, max_failures=10))
    replacement = Replacement(failing, 1000, policy)
    with pytest.raises(error, match="no cache here"):
        policy.read(failing, 3, replacement)
    assert read == [3, 4, 5]
    with pytest.raises(FormatError):
        replacement.of(6, FormatError("damaged"))
    assert len(read) == 3 + 10


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_samples_skipped_by_workers_are_counted_in_the_parent(store, archive, method):
    dataset = IPFSIterableDataset(archive, store.address, handler="skip")
    loader = DataLoader(
        dataset, batch_size=None, collate_fn=tuple, num_workers=2, multiprocessing_context=method
    )
    assert sorted(loader) == GOOD
    assert dataset.skipped == len(BROKEN)


def test_a_batch_leaves_out_its_bad_samples(store, archive):
    dataset = IPFSDataset(archive, store.address, handler="skip")
    loader = DataLoader(dataset, batch_size=6, collate_fn=list)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [4, 6, 5, 6, 6]
    assert [sample for batch in batches for sample in batch] == GOOD
    assert dataset.skipped == len(BROKEN)


def test_reading_one_sample_by_number_raises_whatever_the_policy(store, archive):
    dataset = IPFSDataset(archive, store.address, handler="skip")
    with pytest.raises(FormatError):
        dataset[3]
    assert dataset.skipped == 0


def test_an_object_that_cannot_be_opened_is_skipped_whole(store):
    missing = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvykz"
    absent = "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"
    good = store.file(zip_bytes(MEMBERS))
    urls = [f"ipfs://{absent}", f"ipfs://{good}", f"ipfs://{missing}x"]
    objects = [IPFSObject(url, RemoteFileType.ZIP) for url in urls]
    dataset = IPFSIterableDataset(objects, store.address, handler="skip", retries=0)
    assert list(dataset) == list(MEMBERS.items())
    assert dataset.skipped == 2
    with pytest.raises(TransportError):
        list(IPFSIterableDataset(objects, store.address, retries=0))


def test_the_rest_of_an_object_is_lost_where_the_next_sample_cannot_be_found(store):
    data = bytearray(tar_bytes(MEMBERS))
    data[bytes(data).index(b"10.bin") + 150] ^= 1  # the checksum of a header
    damaged = IPFSObject(f"ipfs://{store.file(bytes(data))}", RemoteFileType.TAR)
    whole = IPFSObject(f"ipfs://{store.file(tar_bytes(MEMBERS))}", RemoteFileType.TAR)
    dataset = IPFSIterableDataset([damaged, whole], store.address, handler="skip")
    assert list(dataset) == [*list(MEMBERS.items())[:10], *MEMBERS.items()]
    assert dataset.skipped == 1


def test_exceptions_of_other_classes_are_not_skipped(store, archive):
    class Own(IPFSDataset):
        def __getitem__(self, index):
            raise RuntimeError("a bug in a transform")

    with pytest.raises(RuntimeError):
        Own(archive, store.address, handler="skip").__getitems__([0])


def test_an_unknown_policy_is_refused_by_the_constructor(archive):
    with pytest.raises(ValueError, match="handler"):
        IPFSDataset(archive, handler="ignore")  # type: ignore[arg-type]
    assert issubclass(FormatError, IPFSDatasetError)


def test_datasets_that_raise_hold_no_shared_memory(store, archive):
    # Each counter of skipped samples holds a file descriptor, of which a process has about a thousand.
    before = len(list(Path("/dev/fd").iterdir()))
    datasets = [IPFSDataset(archive, store.address) for _ in range(20)]
    assert len(list(Path("/dev/fd").iterdir())) - before < len(datasets)
    assert {dataset.skipped for dataset in datasets} == {0}
