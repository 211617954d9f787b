"""``croissant.json`` through MLCommons' own package, over a real gateway: no warnings, and our records."""

from __future__ import annotations

import json
import logging
import urllib.request
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ipfs_dataset import DatasetCard, EncodedFile, IPFSDatasetExporter
from ipfs_dataset_plugins.tar_shards.page.croissant import GATEWAY
from tests.support.equality import same

# mlcroissant leaves files open, and stands on deprecated names.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

CARD = DatasetCard(
    name="Pets",
    description="Photos of pets.",
    licence="CC-BY-4.0",
    citation="@misc{pets, year = {2024}}",
    homepage="https://example.org/pets",
    creators=["Ann Example"],
    classes=["cat", "dog"],
)


def samples():
    generator = np.random.default_rng(0)
    for number in range(30):
        pixels = generator.integers(0, 255, (20, 16, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        yield {"image": image, "label": number % 2, "text": f"ä{number}" * 2000, "x": torch.rand(3)}


@pytest.fixture
def records(kubo, tmp_path, monkeypatch, caplog):
    """Publishes samples and returns what mlcroissant reads of each record set, and the dataset."""
    monkeypatch.setenv("CROISSANT_CACHE", str(tmp_path / "cache"))
    mlcroissant = pytest.importorskip(
        "mlcroissant",
        reason="NOT TESTED: mlcroissant, of the dependency group interop, is not installed",
    )
    constants = pytest.importorskip("mlcroissant._src.core.constants")
    for module in ("download", "extract"):
        operations = pytest.importorskip(f"mlcroissant._src.operation_graph.operations.{module}")
        if hasattr(operations, "EXTRACT_PATH"):
            monkeypatch.setattr(
                operations, "EXTRACT_PATH", type(operations.EXTRACT_PATH)(tmp_path / "extracted")
            )
    monkeypatch.setattr(
        constants, "DOWNLOAD_PATH", type(constants.DOWNLOAD_PATH)(tmp_path / "downloads")
    )

    def read(given, **options):
        exporter = IPFSDatasetExporter(kubo.api, progress=False, **options)
        cid = exporter.export_to_ipfs(given, card=CARD)
        with urllib.request.urlopen(f"{kubo.gateway}/ipfs/{cid}/croissant.json") as answer:
            fields = json.loads(answer.read().decode().replace(GATEWAY, f"{kubo.gateway}/ipfs/"))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            dataset = mlcroissant.Dataset(jsonld=fields)
        assert [record.getMessage() for record in caplog.records] == []
        assert not dataset.metadata.ctx.issues.errors
        assert not dataset.metadata.ctx.issues.warnings
        found = {
            records.id: list(dataset.records(records.id))
            for records in dataset.metadata.record_sets
        }
        return fields, found, exporter.import_from_ipfs(cid)

    return read


def test_records_of_mlcroissant_are_equal_to_the_samples(records):
    fields, found, dataset = records(samples(), shard_bytes=200_000)
    assert len([f for f in fields["distribution"] if f["@type"] == "cr:FileObject"]) > 1
    assert all(f["sameAs"].startswith("ipfs://") for f in fields["distribution"] if "sameAs" in f)
    values = {
        name: {record[f"{name}/key"]: record[f"{name}/value"] for record in found[name]}
        for name in ("image", "label", "text", "x")
    }
    keys = set(values["label"])
    assert len(keys) == 30
    assert all(set(members) == keys for members in values.values())
    by_text = {sample["text"]: sample for sample in dataset}
    for key in keys:
        sample = by_text[values["text"][key].decode()]
        assert values["label"][key] == sample["label"]
        assert same(values["image"][key].convert("RGB"), sample["image"])
        assert values["x"][key].startswith(b"\x93NUMPY")
    names = {
        record["dataset/classes/number"]: record["dataset/classes/name"]
        for record in found["dataset/classes"]
    }
    assert names == {0: "cat", 1: "dog"}


def test_images_of_several_formats_are_one_field(records, tmp_path):
    paths = []
    for number, extension in enumerate(("jpg", "png", "webp", "jpg")):
        paths.append(tmp_path / f"{number}.{extension}")
        Image.new("RGB", (10 + number, 10)).save(paths[-1])
    _, found, dataset = records([(EncodedFile(path), number) for number, path in enumerate(paths)])
    sizes = sorted(record["0/value"].size for record in found["0"])
    assert sizes == [(10, 10), (11, 10), (12, 10), (13, 10)] == [image.size for image, _ in dataset]


def test_samples_that_are_json_are_records_too(records):
    _, found, dataset = records([{"text": f"t{n}", "label": n} for n in range(5)])
    values = [json.loads(record["sample/value"]) for record in found["sample"]]
    assert sorted(values, key=lambda value: value["label"]) == list(dataset)


KINDS: dict[str, list[Any]] = {
    "text": ["one", "", "ä" * 3000],
    "bytes": [b"", b"\xff\x00", b"a" * 3000],
    "tensors": [torch.zeros(0), torch.arange(6).reshape(2, 3), torch.tensor(1.5)],
    "a tensor in each": [(torch.rand(3, 4), number) for number in range(3)],
    "nested": [{"a": {"b": [1, (torch.rand(2), "x")]}, "c": None} for _ in range(3)],
    "empty values": [("", b"", [], {}) for _ in range(3)],
    "names in Unicode": [
        {"größe": "x" * 2000, "标签": number, "\u202e": b"y"} for number in range(3)
    ],
    "difficult names": [
        {"a b.c/d": "x" * 2000, "key": 1, "value": 2, "sample": "s", "#": 3, "": torch.rand(2)}
        for _ in range(3)
    ],
    "names that differ in case": [{"A": b"x" * 2000, "a": b"y" * 2000} for _ in range(3)],
    "names of ours": [{"dataset": "x" * 2000, "classes": torch.rand(2)} for _ in range(3)],
    "numbers": [(1, 2.5, True, None, -(2**70), float("nan")) for _ in range(3)],
    "of several shapes": [(torch.rand(number + 1), "x" * number) for number in range(3)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_samples_is_described_without_warnings(records, kind):
    _, found, dataset = records(KINDS[kind])
    assert len(dataset) == len(KINDS[kind])
    found.pop("dataset/classes", None)
    assert found
    # A member of its own for each value of each sample, or one for the whole sample.
    assert all(len(members) <= len(dataset) for members in found.values())
    assert sum(map(len, found.values())) >= len(dataset)
    if kind in ("text", "bytes"):
        [members] = found.values()
        values = sorted(member["sample/value"] for member in members)
        assert values == sorted(
            sample.encode() if isinstance(sample, str) else sample for sample in KINDS[kind]
        )
