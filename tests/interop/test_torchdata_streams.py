"""torchdata's StatefulDataLoader goes on exactly over our streams, without reading anything again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ipfs_dataset.ipfs_dataset import IPFSIterableDataset, ShuffleDataset
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.stores import Store, members
from tests.support.workers import TransformedStream, as_it_is

pytest.importorskip("torchdata", reason="torchdata is in the dependency group interop")

from torchdata.stateful_dataloader import StatefulDataLoader

pytestmark = [
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    files = [store.file(zip_bytes(members(40, "z"))), store.file(tar_bytes(members(23, "t")))]
    return files, store.address


KINDS: dict[str, Any] = {
    "in order": lambda files, address: IPFSIterableDataset(files, address, batch_size=4),
    "in parts": IPFSIterableDataset,
    "zip in parts": lambda files, address: IPFSIterableDataset(files[0], address),
    "blocks": lambda files, address: IPFSIterableDataset(files, address, shuffle_blocks=True),
    "batched blocks": lambda files, address: IPFSIterableDataset(
        files, address, shuffle_blocks=True, batch_size=4
    ),
    "buffer": lambda files, address: ShuffleDataset(
        IPFSIterableDataset(files, address), 10, batch_size=4
    ),
    "wrapping": TransformedStream,
    "buffer of a stream": lambda files, address: ShuffleDataset(
        TransformedStream(files, address), 10
    ),
}


def loader(dataset, workers):
    return StatefulDataLoader(
        dataset,
        batch_size=4,
        num_workers=workers,
        collate_fn=as_it_is,
        multiprocessing_context="fork" if workers else None,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_resumes_exactly(objects, kind, workers):
    whole = list(loader(KINDS[kind](*objects), workers))
    first = loader(KINDS[kind](*objects), workers)
    seen = []
    for batch in first:
        seen.append(batch)
        if len(seen) == 5:
            state = json.loads(json.dumps(first.state_dict()))
            break
    again = loader(KINDS[kind](*objects), workers)
    again.load_state_dict(state)
    rest = list(again)
    assert seen + rest == whole
    if kind != "in order" and "parts" not in kind and kind != "wrapping":
        assert list(again) != whole  # the next epoch


@pytest.mark.parametrize("workers", [0, 2])
def test_the_state_at_the_end_of_an_epoch_starts_the_next_one(objects, workers):
    made = loader(KINDS["batched blocks"](*objects), workers)
    first, second = list(made), list(made)
    assert first != second
    other = loader(KINDS["batched blocks"](*objects), workers)
    assert list(other) == first
    state = other.state_dict()
    later = loader(KINDS["batched blocks"](*objects), workers)
    later.load_state_dict(state)
    assert list(later) == second
