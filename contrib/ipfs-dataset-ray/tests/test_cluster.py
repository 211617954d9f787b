"""Reading and publishing on a cluster: order, trainers, errors, and workers that are killed."""

from __future__ import annotations

import os
import pickle
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from ipfs_dataset import IPFSDatasetExporter
from ipfs_dataset_core import VerificationError
from tests.support.builders import noise, zip_bytes
from tests.support.interop import library
from tests.support.stores import SMALL_LEAVES, Store

library("ray")
ipfs_dataset_ray = library("ipfs_dataset_ray")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

FILES = {f"{number:02}.bin": noise(20_000, number) for number in range(50)}
COUNT = 500


@pytest.fixture(scope="module")
def archive(store):
    return store.file(zip_bytes(FILES, 0), SMALL_LEAVES)


@pytest.fixture(scope="module")
def published(store):
    exporter = IPFSDatasetExporter(store.address, shard_bytes=200_000, progress=False)
    return exporter.export_to_ipfs([(torch.full((4, 4), float(n)), n) for n in range(COUNT)])


@pytest.fixture
def digits(ray, store, published):
    source = ipfs_dataset_ray.IPFSDatasource(
        published, store.address, split_bytes="200K", columns=["image", "label"]
    )
    assert len(source.splits) > 3
    return ray.data.read_datasource(source)


def test_rows_are_in_order_and_counted_without_reading(ray, store, archive):
    source = ipfs_dataset_ray.IPFSDatasource(archive, store.address, split_bytes="200K")
    dataset = ray.data.read_datasource(source)
    assert dataset.count() == 50
    assert dataset.size_bytes() == source.estimate_inmemory_data_size()
    assert dataset.take_all() == [{"name": name, "bytes": data} for name, data in FILES.items()]


def test_batches_of_tensors_are_in_order(digits):
    labels = []
    for batch in digits.iter_torch_batches(batch_size=64):
        assert torch.equal(batch["image"][:, 1, 1], batch["label"].float())
        labels += batch["label"].tolist()
    assert labels == list(range(COUNT))


def test_trainers_get_equal_streams(ray, digits):
    def consume(shard):
        return [int(n) for batch in shard.iter_batches(batch_size=50) for n in batch["label"]]

    with ThreadPoolExecutor(2) as trainers:
        one, other = trainers.map(consume, digits.streaming_split(2, equal=True))
    assert len(one) == len(other) == COUNT // 2
    assert sorted(one + other) == list(range(COUNT))


def test_ray_train_reads_every_sample(ray, digits, tmp_path):
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    def loop(config):
        import ray.train

        shard = ray.train.get_dataset_shard("train")
        found = [n for b in shard.iter_torch_batches(batch_size=50) for n in b["label"].tolist()]
        Path(config["folder"], str(ray.train.get_context().get_world_rank())).write_text(str(found))

    trainer = TorchTrainer(
        loop,
        train_loop_config={"folder": str(tmp_path)},
        datasets={"train": digits},
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(storage_path=str(tmp_path / "run")),
    )
    trainer.fit()
    assert sorted(eval((tmp_path / "0").read_text())) == list(range(COUNT))


def test_samplers_and_streams_divide_samples_among_ray_train_workers(
    ray, store, published, tmp_path
):
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    def loop(config):
        import ray.train
        from ray.train.torch import prepare_data_loader
        from torch.utils.data import DataLoader

        from ipfs_dataset import BlockShuffleSampler, ShuffleDataset, load

        dataset = load(config["cid"], config["address"])
        sampler = BlockShuffleSampler(dataset, batch_size=10)
        sampled = prepare_data_loader(DataLoader(dataset, 10, sampler=sampler))
        orders = []
        for epoch in range(2):
            sampled.sampler.set_epoch(epoch)
            orders.append([n for _, labels in sampled for n in labels.tolist()])
        streamed = prepare_data_loader(DataLoader(ShuffleDataset(dataset, 20, batch_size=10), 10))
        orders.append([n for _, labels in streamed for n in labels.tolist()])
        Path(config["folder"], str(ray.train.get_context().get_world_rank())).write_text(
            str(orders)
        )

    trainer = TorchTrainer(
        loop,
        train_loop_config={"folder": str(tmp_path), "cid": published, "address": store.address},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(storage_path=str(tmp_path / "run")),
    )
    trainer.fit()
    one, other = (eval((tmp_path / rank).read_text()) for rank in "01")
    for mine, theirs in zip(one, other, strict=True):
        assert len(mine) == len(theirs)
        assert set(mine) | set(theirs) == set(range(COUNT))
    assert one[0] != one[1]  # the epoch reached the sampler


# --------------------------------------------------------------------------- publishing


def test_a_published_dataset_is_equal_after_import(ray, store, digits):
    sink = ipfs_dataset_ray.IPFSDatasink(
        store.address, columns=["image", "label"], shard_bytes=50_000
    )
    assert sink.cid is None
    digits.write_datasink(sink)
    imported = IPFSDatasetExporter(store.address).import_from_ipfs(sink.cid)
    assert [label for _, label in imported] == list(range(COUNT))
    assert imported[7][0].tolist() == [[7.0] * 4] * 4
    again = ipfs_dataset_ray.IPFSDatasink(
        store.address, columns=["image", "label"], shard_bytes=50_000
    )
    digits.write_datasink(again)
    assert again.cid == sink.cid


def test_tasks_write_to_several_nodes_and_the_first_has_the_root(ray, tmp_path, digits):
    addresses = [str(tmp_path / name) for name in ("one", "two")]
    sink = ipfs_dataset_ray.IPFSDatasink(addresses)
    digits.write_datasink(sink)
    stores = [Store(Path(address)) for address in addresses]
    sizes = [
        sum(p.stat().st_size for p in Path(s.address).rglob("*") if p.is_file()) for s in stores
    ]
    assert min(sizes) > max(sizes) / 10
    imported = IPFSDatasetExporter(addresses[0], gateways=[addresses[1]]).import_from_ipfs(sink.cid)
    assert [sample["label"] for sample in imported] == list(range(COUNT))


# --------------------------------------------------------------------------- failures


def test_rows_of_a_task_whose_worker_is_killed_are_read_once(ray, store, published, tmp_path):
    marker = str(tmp_path / "killed")

    def transform(tensor):
        if float(tensor[0, 0]) == 250.0:
            try:
                with Path(marker).open("x"):
                    os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return tensor

    source = ipfs_dataset_ray.IPFSDatasource(
        published,
        store.address,
        split_bytes="200K",
        columns=["image", "label"],
        transform=transform,
    )
    dataset = ray.data.read_datasource(source)
    assert [row["label"] for row in dataset.take_all()] == list(range(COUNT))
    assert Path(marker).exists()


def test_a_part_whose_worker_is_killed_is_published_once(ray, store, digits, tmp_path):
    marker = str(tmp_path / "killed")

    class Killing(ipfs_dataset_ray.IPFSDatasink):
        def write(self, blocks, ctx):
            record = super().write(blocks, ctx)
            if ctx.task_idx == 1:
                try:
                    with Path(marker).open("x"):
                        os.kill(os.getpid(), signal.SIGKILL)
                except FileExistsError:
                    pass
            return record

    sink = Killing(store.address)
    digits.write_datasink(sink)
    assert Path(marker).exists()
    imported = IPFSDatasetExporter(store.address).import_from_ipfs(sink.cid)
    assert [sample["label"] for sample in imported] == list(range(COUNT))


def test_an_error_reaches_the_driver_with_its_type(ray, tmp_path):
    store = Store(tmp_path / "damaged")
    data = zip_bytes(FILES, 0)
    cid = store.file(data, SMALL_LEAVES)
    for path in (tmp_path / "damaged" / "blocks").rglob("*"):
        if path.is_file() and data[524_288:786_432] in path.read_bytes():
            path.chmod(0o644)
            path.write_bytes(b"x" * 262_144)
    source = ipfs_dataset_ray.IPFSDatasource(cid, store.address, split_bytes="200K", retries=0)
    with pytest.raises(VerificationError, match=r"'26\.bin' \(sample 26\)") as caught:
        ray.data.read_datasource(source).take_all()
    error = pickle.loads(pickle.dumps(caught.value.cause))
    assert type(error) is VerificationError
    assert error.location.sample == 26
    skipping = ipfs_dataset_ray.IPFSDatasource(
        cid, store.address, split_bytes="200K", retries=0, handler="skip", max_failures=100
    )
    assert 30 < len(ray.data.read_datasource(skipping).take_all()) < 50
