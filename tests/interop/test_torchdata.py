"""StatefulDataLoader: it keeps the states of samplers, streams and mixtures, and goes on exactly."""

from __future__ import annotations

import json
from itertools import chain

import pytest

from ipfs_dataset import (
    BlockShuffleSampler,
    IPFSDataset,
    IPFSIterableDataset,
    MixedDataset,
    ShuffleDataset,
)
from tests.support.interop import SAMPLES, library, numbers

stateful = library("torchdata.stateful_dataloader")

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
BATCH = 4


def sampled(url, address):
    dataset = IPFSDataset(url, address)
    return dataset, {"sampler": BlockShuffleSampler(dataset, batch_size=BATCH)}


KINDS = {
    "sampler": sampled,
    "stream": lambda url, address: (IPFSIterableDataset(url, address, batch_size=BATCH), {}),
    "blocks": lambda url, address: (
        IPFSIterableDataset(url, address, shuffle_blocks=True, batch_size=BATCH),
        {},
    ),
    "shuffled": lambda url, address: (
        ShuffleDataset(IPFSDataset(url, address), 20, batch_size=BATCH),
        {},
    ),
    "mixed": lambda url, address: (
        MixedDataset(
            {"a": (IPFSDataset(url, address), 1), "b": (IPFSIterableDataset(url, address), 2)},
            batch_size=BATCH,
        ),
        {},
    ),
}


def loader(kind, archive, workers):
    dataset, options = KINDS[kind](archive[1], archive[0])
    if workers:
        options["multiprocessing_context"] = "fork"
    return stateful.StatefulDataLoader(
        dataset, batch_size=BATCH, num_workers=workers, collate_fn=numbers, **options
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loader_resumes_in_the_middle_of_an_epoch_without_repeated_samples(
    archive, kind, workers
):
    whole = [batch.tolist() for batch in loader(kind, archive, workers)]
    first = loader(kind, archive, workers)
    before = []
    for batch in first:
        before.append(batch.tolist())
        if len(before) == 9:
            state = json.loads(json.dumps(first.state_dict(), default=repr))
            break
    rest = loader(kind, archive, workers)
    rest.load_state_dict(state)
    assert before + [batch.tolist() for batch in rest] == whole
    if kind != "mixed":
        assert sorted(chain.from_iterable(whole)) == list(range(SAMPLES))


@pytest.mark.parametrize("prefetch", [False, True], ids=["plain", "prefetched"])
def test_nodes_keep_the_state_of_a_sampler(archive, prefetch):
    nodes = library("torchdata.nodes")
    address, url = archive

    def made():
        dataset = IPFSDataset(url, address)
        node = nodes.MapStyleWrapper(dataset, BlockShuffleSampler(dataset))
        node = nodes.Batcher(node, BATCH, drop_last=False)
        return nodes.Loader(nodes.Prefetcher(node, 3) if prefetch else node)

    whole = [numbers(batch).tolist() for batch in made()]
    first, seen = made(), []
    for batch in first:
        seen.append(numbers(batch).tolist())
        if len(seen) == 9:
            state = json.loads(json.dumps(first.state_dict()))
            break
    rest = made()
    rest.load_state_dict(state)
    assert seen + [numbers(batch).tolist() for batch in rest] == whole
    assert sorted(chain.from_iterable(whole)) == list(range(SAMPLES))
    following = [numbers(batch).tolist() for batch in rest]
    assert sorted(chain.from_iterable(following)) == list(range(SAMPLES))
    assert following != whole
