"""What is new of a new version of a dataset: the blocks that the version before does not have."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.ipld import RAW, get_profile
from ipfs_dataset_core.publishing.publish import TreeSink
from ipfs_dataset_plugins.tar_shards.exporter import TarShards

if TYPE_CHECKING:
    from ipfs_dataset_core.ipld import CID

USUAL = get_profile("unixfs-v1-2025")
MIB = 1 << 20


def blocks_of(samples, shard_bytes=256 * MIB, chunker="samples"):
    """Returns the blocks of a dataset by CID, and what its manifest says of the shards."""
    blocks: dict[CID, bytes] = {}
    sink = TreeSink(USUAL.with_chunker(chunker), blocks.__setitem__)
    options = ExporterOptions(shard_bytes=shard_bytes, chunker=chunker)
    TarShards(options).export(iter(samples), sink)
    manifest = json.loads(blocks[sink.cid_of("manifest.json")])
    sink.finish()
    return blocks, manifest["shards"]


def sample(number, size):
    data = bytearray(random.Random(number).randbytes(size))
    return torch.frombuffer(data, dtype=torch.uint8) if size else torch.empty(0), number


# Number of samples and bytes of each, some 16 MiB of the archive.
SIZES = [(7000, 100), (3500, 3000), (160, 100_000), (7, 2_500_000)]


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size[1]}-bytes")
def dataset(request):
    count, size = request.param
    samples = [sample(number, size) for number in range(count)]
    return samples, blocks_of(samples)[0], size


def new_bytes(dataset, samples):
    """Returns how many bytes of blocks are new, and how many all have."""
    _, before, _ = dataset
    after, _ = blocks_of(samples)
    return (
        sum(len(block) for cid, block in after.items() if cid not in before),
        sum(map(len, after.values())),
    )


def test_an_equal_dataset_has_no_new_block(dataset):
    assert new_bytes(dataset, list(dataset[0]))[0] == 0


EDITS = {
    "one in front": lambda samples, size: [sample(-1, size), *samples],
    "one in the middle": lambda samples, size: [
        *samples[: len(samples) // 2],
        sample(-1, size),
        *samples[len(samples) // 2 :],
    ],
    "the first removed": lambda samples, _: samples[1:],
    "some appended": lambda samples, size: [
        *samples,
        *(sample(-n, size) for n in range(1, 2 + len(samples) // 100)),
    ],
    "one in a hundred, together": lambda samples, size: [
        *samples[: len(samples) // 3],
        *(sample(-n, size) for n in range(1, 2 + len(samples) // 100)),
        *samples[len(samples) // 3 + 1 + len(samples) // 100 :],
    ],
    "two exchanged": lambda samples, _: [samples[1], samples[0], *samples[2:]],
}


@pytest.mark.parametrize("edit", EDITS)
def test_new_blocks_are_little_larger_than_the_changes(dataset, edit):
    samples, _, size = dataset
    edited = EDITS[edit](samples, size)
    changed = sum(size + 2048 for _, number in edited if number < 0)
    new, whole = new_bytes(dataset, edited)
    # Beside that, the leaves at both ends of the change, the end of the archive, the index, the manifest.
    assert new - changed < 0.1 * whole


def test_scattered_changes_only_change_the_leaves_that_contain_them(dataset):
    samples, before, _ = dataset
    chosen = random.Random(7).sample(range(len(samples)), max(1, len(samples) // 100))
    edited = list(samples)
    for number in chosen:
        edited[number] = samples[number][0].flip(0), number
    after, _ = blocks_of(edited)
    fresh = [block for cid, block in after.items() if cid.codec == RAW and cid not in before]
    having = [leaf for leaf in fresh if any(_in(leaf, edited[number]) for number in chosen)]
    assert len(having) >= 1
    # A cut that was in a changed sample is gone, so the leaves behind it end elsewhere; and the index.
    assert len(fresh) - len(having) <= 0.25 * len(having) + 4


@pytest.mark.parametrize(("count", "size"), [(7000, 100), (3500, 3000)])
def test_smaller_leaves_reduce_the_new_bytes_of_a_version(count, size):
    samples = [sample(number, size) for number in range(count)]
    some = count // 100
    together = [*(sample(-n, size) for n in range(1, some + 1)), *samples[some:]]
    scattered = list(samples)
    for number in random.Random(7).sample(range(count), some):
        scattered[number] = sample(-number, size)
    shares = []
    for chunker in ("samples", "samples-262144", "samples-65536"):
        before, _ = blocks_of(samples, chunker=chunker)
        assert max(map(len, before.values())) <= int(chunker.partition("-")[2] or MIB)
        found = []
        for version in (together, scattered):
            after, _ = blocks_of(version, chunker=chunker)
            new = sum(len(block) for cid, block in after.items() if cid not in before)
            found.append(new / sum(map(len, after.values())))
        shares.append(found)
    usual, smaller, smallest = shares
    assert smallest[0] < 0.04
    assert smallest[1] < smaller[1] < usual[1]
    assert smallest[1] < 0.5


def _in(leaf, sample):
    """Tells whether some of a sample is in a leaf."""
    data = sample[0].numpy().tobytes()
    return any(data[at : at + 20] in leaf for at in (*range(0, len(data), 50_000), len(data) - 20))


def plain(number):
    """Returns a sample of zeros and a label: to a chunker that looks at bytes, there are ends everywhere."""
    return torch.zeros(28, 28), number


def test_an_insertion_changes_few_blocks_for_plain_bytes_too():
    samples = [plain(number) for number in range(3000)]
    before, _ = blocks_of(samples)
    after, _ = blocks_of([*samples[:5], plain(-1), *samples[5:]])
    new = sum(len(block) for cid, block in after.items() if cid not in before)
    assert new < 0.2 * sum(map(len, after.values()))


def test_equal_samples_are_a_dataset_too():
    before, _ = blocks_of([plain(1)] * 3000)
    after, _ = blocks_of([plain(1)] * 3001)
    new = sum(len(block) for cid, block in after.items() if cid not in before)
    assert new < 0.3 * sum(map(len, after.values()))


def test_leaves_are_neither_small_nor_large(dataset):
    _, before, _ = dataset
    sizes = [len(block) for cid, block in before.items() if cid.codec == RAW]
    large = [size for size in sizes if size >= MIB // 8]
    assert max(sizes) <= MIB
    # Beside the last one, the index, the manifest and the metadata, and what is between two large samples.
    assert len(sizes) - len(large) <= 12
    assert sum(large) / len(large) > 0.25 * MIB


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(0, 3000), min_size=30, max_size=120),
    st.integers(0, 30),
    st.sampled_from([10_000, 30_000, 100_000]),
)
def test_shards_after_an_insertion_are_soon_the_same_again(sizes, at, shard_bytes):
    samples = [sample(number, size) for number, size in enumerate(sizes)]
    edited = [*samples[:at], sample(-1, 500), *samples[at:]]
    (_, before), (_, after) = blocks_of(samples, shard_bytes), blocks_of(edited, shard_bytes)
    for shards in (before, after):
        assert all(shard["size"] <= shard_bytes for shard in shards)
        assert all(shard["size"] >= shard_bytes // 2 - 4096 for shard in shards[:-1])
    assert blocks_of(samples, shard_bytes) == blocks_of(list(samples), shard_bytes)


def test_shards_of_many_samples_are_the_same_after_an_insertion():
    samples = [sample(number, 700) for number in range(6000)]
    edited = [sample(-1, 700), *samples]
    (_, before), (_, after) = blocks_of(samples, 200_000), blocks_of(edited, 200_000)
    assert len(before) > 60
    old = {shard["cid"] for shard in before}
    assert sum(shard["cid"] not in old for shard in after) <= 20
    sizes = [shard["size"] for shard in before]
    assert 0.5 < sum(sizes) / len(sizes) / 200_000 < 0.75
