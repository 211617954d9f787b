"""Whatever several sources do wrong: exactly the samples where one is good, else at worst an error of ours.

Hypothesis composes the plans (see `tests.support.fault_plans`). ``IPFS_DATASET_TEST_PLANS`` asks for more of
them than CI runs, with seeds of their own.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import CID, IPFSDatasetError
from ipfs_dataset_core.ipld import FileBuilder, Profile, build_tree, verify
from tests.support.builders import (
    car_bytes,
    collector,
    depth_first,
    noise,
    one_file,
    tar_bytes,
    zip_bytes,
)
from tests.support.fault_plans import any_sources, good_sources, server_of
from tests.support.stores import blocks_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fault_plans import SourcePlan

PLANS = int(os.environ.get("IPFS_DATASET_TEST_PLANS", "520"))
SECONDS_OF_A_HANG = 60.0
SMALL = {
    "raw leaves": Profile(
        name="small",
        cid_version=1,
        raw_leaves=True,
        chunk_size=1000,
        file_links=5,
        hamt_size="links",
        hamt_threshold=300,
        hamt_fanout=8,
    ),
    "dag-pb leaves": Profile(
        name="old",
        cid_version=0,
        raw_leaves=False,
        chunk_size=1500,
        file_links=30,
        hamt_size="links",
    ),
}
SAMPLES = {f"{n:02}/{n}.bin": noise(n * n * 13, n) for n in range(12)}
BLOCKS, _emit = collector()


def _file(data: bytes, profile: Profile) -> Any:
    builder = FileBuilder(profile, _emit)
    builder.write(data)
    return builder.finish()


def _folder(profile: Profile) -> str:
    listed = {**SAMPLES, "metadata.txt": "".join(f"{name}\n" for name in SAMPLES).encode()}
    built = [(path, _file(data, profile)) for path, data in listed.items()]
    return str(build_tree(built, profile, _emit).cid)


def _objects(profile: Profile) -> list[tuple[IPFSObject, list[tuple[str, bytes]]]]:
    """Returns objects of each kind and their samples."""
    samples = list(SAMPLES.items())
    plain = str(_file(SAMPLES["11/11.bin"] * 4, profile).cid)
    return [
        (IPFSObject(str(_file(tar_bytes(SAMPLES), profile).cid), RemoteFileType.TAR), samples),
        (IPFSObject(str(_file(zip_bytes(SAMPLES), profile).cid), RemoteFileType.ZIP), samples),
        (IPFSObject(_folder(profile), RemoteFileType.FOLDER), samples),
        (IPFSObject(plain, RemoteFileType.PLAIN), [(plain, SAMPLES["11/11.bin"] * 4)]),
    ]


OBJECTS = [found for profile in SMALL.values() for found in _objects(profile)]
_other_root, _other_blocks = one_file(b"another file")
FOREIGN = [
    noise(1000, 11),
    b"",
    *(block for _, block in depth_first(_other_root, _other_blocks)),
    BLOCKS[CID.parse(OBJECTS[0][0].url).multihash],
    car_bytes(_other_root, _other_blocks),
    car_bytes(CID.parse(OBJECTS[1][0].url), BLOCKS),
]


def read_by_batches(dataset: Any, read: list[Any]) -> None:
    numbers = list(range(len(dataset)))
    for start in range(0, len(numbers), 5):
        read += dataset.__getitems__(numbers[start : start + 5])


def read_in_order(dataset: Any, read: list[Any]) -> None:
    for sample in dataset:  # one by one, for what came before an error counts too
        read.append(sample)  # noqa: PERF402


def read_backwards(dataset: Any, read: list[Any]) -> None:
    for number in range(len(dataset)):
        dataset[len(dataset) - 1 - number]
        read.append(dataset[number])


WAYS = [
    (IPFSDataset, read_by_batches),
    (IPFSIterableDataset, read_in_order),
    (IPFSDataset, read_backwards),
]


def addresses(servers: list[tuple[SourcePlan, Any]]) -> dict[str, Any]:
    """Returns the arguments that name the servers: the first API, and all gateways."""
    api = next((server.multiaddr for source, server in servers if source.is_api), None)
    return {
        "ipfs_api_address": api,
        "gateways": [server.url for source, server in servers if not source.is_api],
    }


def used(sources: list[SourcePlan]) -> list[SourcePlan]:
    """Returns the sources that a dataset can name: one API at the most."""
    apis = [source for source in sources if source.is_api][:1]
    return [source for source in sources if not source.is_api or source in apis]


def check(
    sources: list[Any],
    number: int,
    way: int,
    folder: Any,
    *,
    serve: Callable[[Any, Any], Any] = server_of,
    joined: bool = False,
) -> None:
    """Reads one object from sources that follow plans, and checks all that came.

    Args:
        sources: The plans.
        number: Of the object.
        way: How it is read.
        folder: For the cache, None for none.
        serve: Returns a server that does what a plan says.
        joined: Whether all of them are named in one address, which peers can be.
    """
    obj, samples = OBJECTS[number]
    kind, read_all = WAYS[way]
    good = any(source.good for source in sources)
    read: list[Any] = []
    with ExitStack() as stack:
        servers = [(s, stack.enter_context(serve(s, BLOCKS))) for s in sources]
        named = addresses(servers)
        if joined:
            named["gateways"] = ",".join(named["gateways"])
        options = {"timeout": 0.4, "retries": 5 if good else 1, "deadline": 30 if good else 5}
        dataset = kind(obj, **named, **options, cache_dir=folder)
        started, failure = time.monotonic(), None
        try:
            read_all(dataset, read)
        except IPFSDatasetError as error:
            failure = error
        finally:
            dataset.close()
        assert time.monotonic() - started < SECONDS_OF_A_HANG
        assert dataset.skipped == 0
    assert read == samples[: len(read)]
    if failure is None:
        assert len(read) == len(samples)
        assert not all(source.hopeless for source in sources)
    else:
        assert not good, f"one source is good, and yet: {failure}"
    if folder is not None:
        for cid, block in blocks_in(folder):
            verify(cid, block)


def plans(count: int) -> Any:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize="IPFS_DATASET_TEST_PLANS" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def with_a_good_source(draw: Any) -> list[SourcePlan]:
    others = draw(st.lists(any_sources(FOREIGN), max_size=3))
    place = draw(st.integers(0, len(others)))
    sources = [*others[:place], draw(good_sources(FOREIGN)), *others[place:]]
    named = used(sources)
    return named if any(s.good for s in named) else [s for s in sources if s.good or not s.is_api]


NUMBERS = st.integers(0, len(OBJECTS) - 1)
READING = st.integers(0, len(WAYS) - 1)


@pytest.mark.timeout(PLANS * 4)
@pytest.mark.parametrize("caches", [False, True])
def test_one_good_source_is_enough(tmp_path_factory, caches):
    @plans(PLANS // 4)
    @given(with_a_good_source(), NUMBERS, READING)
    def every_sample_comes(sources, number, way):
        check(sources, number, way, tmp_path_factory.mktemp("cache") if caches else None)

    every_sample_comes()


@pytest.mark.timeout(PLANS * 4)
@pytest.mark.parametrize("caches", [False, True])
def test_no_combination_of_faulty_sources_returns_wrong_bytes(tmp_path_factory, caches):
    @plans(PLANS // 4)
    @given(st.lists(any_sources(FOREIGN), min_size=1, max_size=4).map(used), NUMBERS, READING)
    def nothing_wrong_comes(sources, number, way):
        check(sources, number, way, tmp_path_factory.mktemp("cache") if caches else None)

    nothing_wrong_comes()
