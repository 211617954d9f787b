"""Parts of a dataset, exported one by one and put together without their bytes."""

from __future__ import annotations

import copy
import json
import multiprocessing
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset_core.errors import (
    ExportError,
    FormatError,
    IPFSDatasetError,
    ObjectNotFoundError,
)
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.publishing.parts import Ledger
from ipfs_dataset_plugins.store import CarStore, FolderStore
from tests.support.equality import same

SAMPLES = [(torch.full((700,), float(n)), n, {"name": f"sample {n}"}) for n in range(90)]
PARTS = [SAMPLES[:40], SAMPLES[40:41], [], SAMPLES[41:]]


def exporter(path, **options):
    return IPFSDatasetExporter(path, shard_bytes=40_000, **options)


def exported(path, parts=PARTS, **options):
    return [
        exporter(path, **options).export_part(samples, part=number)
        for number, samples in enumerate(parts)
    ]


def test_parts_make_the_whole_dataset_in_their_order(tmp_path):
    records = exported(tmp_path)
    cid = exporter(tmp_path).assemble(reversed(records))
    imported = exporter(tmp_path).import_from_ipfs(cid)
    assert same(list(imported), SAMPLES)
    assert same(
        [imported[n] for n in (0, 39, 40, 41, 89)], [SAMPLES[n] for n in (0, 39, 40, 41, 89)]
    )
    assert exporter(tmp_path).assemble(records) == cid


def test_a_record_is_small_json_with_what_is_known_of_each_shard(tmp_path):
    record = exporter(tmp_path).export_part(SAMPLES, part=17)
    again = json.loads(json.dumps(record))
    assert again == record
    assert (record["part"], record["samples"]) == (17, 90)
    assert len(record["shards"]) > 3
    assert record["bytes"] == sum(shard["size"] for shard in record["shards"])
    assert len(json.dumps(record)) < 5000 + 400 * len(record["shards"])
    for shard in record["shards"]:
        for file in (shard, shard["index"]):
            assert file["tsize"] >= file["size"] > 0
            FolderStore(tmp_path).get_block(CID.parse(file["cid"]))


def test_the_cids_are_known_before_anything_is_uploaded(tmp_path):
    before = exporter(tmp_path).export_part(SAMPLES, part=3, upload=False)
    assert list(tmp_path.iterdir()) == []
    assert exporter(tmp_path).export_part(iter(SAMPLES), part=3) == before


def test_no_byte_of_a_shard_is_moved_and_the_root_is_pinned_alone(tmp_path):
    records = [
        exporter(tmp_path / str(number)).export_part(samples, part=number)
        for number, samples in enumerate(PARTS)
    ]
    root = exporter(tmp_path / "root")
    with pytest.raises(ObjectNotFoundError, match="pin='direct'"):
        root.assemble(records)
    cid = root.assemble(records, pin="direct")
    assert root.uploaded.bytes < 60_000
    store = FolderStore(tmp_path / "root")
    store.get_block(CID.parse(cid))
    for shard in (shard for record in records for shard in record["shards"]):
        with pytest.raises(ObjectNotFoundError):
            store.get_block(CID.parse(shard["cid"]))
    # Where the blocks of all are together, it is a dataset.
    for number in range(len(PARTS)):
        shutil.copytree(tmp_path / str(number), tmp_path / "root", dirs_exist_ok=True)
    assert same(list(exporter(tmp_path / "root").import_from_ipfs(cid)), SAMPLES)


def test_nothing_is_pinned_if_requested(tmp_path):
    records = exported(tmp_path / "parts")
    cid = exporter(tmp_path / "root").assemble(records, pin=None)
    assert cid == exporter(tmp_path / "parts").assemble(records)
    pins = tmp_path / "root" / "pins"
    assert list(pins.iterdir()) == []


def test_a_car_file_contains_only_the_directory(tmp_path):
    records = exported(tmp_path / "parts")
    cid = exporter(tmp_path / "root.car").assemble(records, pin="direct")
    CarStore(tmp_path / "root.car").get_block(CID.parse(cid))
    assert (tmp_path / "root.car").stat().st_size < 60_000


class Interrupted:
    """Samples whose reading ends in the middle, as with a process that is stopped."""

    def __len__(self):
        return len(SAMPLES)

    def __getitem__(self, index):
        if index == 60:
            raise KeyboardInterrupt
        return SAMPLES[index]


def test_a_part_that_was_interrupted_is_exported_again_with_the_same_record(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    with pytest.raises(KeyboardInterrupt):
        exporter(tmp_path / "store").export_part(Interrupted(), part=0, ledger=ledger)
    assert not ledger.exists()
    record = exporter(tmp_path / "store").export_part(SAMPLES, part=0, ledger=ledger)
    assert record == exporter(tmp_path / "other").export_part(SAMPLES, part=0)


def untouched():
    yield from ()
    raise AssertionError("a finished part is read again")


def test_the_ledger_names_finished_parts(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    records = [
        exporter(tmp_path / "store").export_part(samples, part=number, ledger=ledger)
        for number, samples in enumerate(PARTS)
    ]
    assert len(ledger.read_text().split("\n{")) == len(PARTS)
    for number, record in enumerate(records):
        again = exporter(tmp_path / "store").export_part(untouched(), part=number, ledger=ledger)
        assert again == record
    cid = exporter(tmp_path / "store").assemble(records)
    assert exporter(tmp_path / "store").assemble(ledger) == cid
    assert exporter(tmp_path / "store").assemble(str(ledger)) == cid
    halves = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for half, some in zip(halves, (records[:2], records[1:]), strict=True):
        for record in some:
            Ledger(half).add(record)
    with pytest.raises(ExportError, match="Part 1 occurs twice"):
        exporter(tmp_path / "store").assemble(halves)
    assert exporter(tmp_path / "store").assemble([halves[0], *records[2:]]) == cid


def test_a_part_in_the_ledger_with_other_options_is_an_error(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    exporter(tmp_path / "store").export_part(SAMPLES, part=0, ledger=ledger)
    with pytest.raises(ExportError, match=r"Part 0 was exported with profile='unixfs-v1-2025'"):
        exporter(tmp_path / "store", profile="kubo-cidv1").export_part(
            SAMPLES, part=0, ledger=ledger
        )


def test_a_truncated_line_of_the_ledger_is_ignored(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    export = exporter(tmp_path / "store").export_part
    first = export(PARTS[0], part=0, ledger=ledger)
    whole = ledger.read_bytes()
    second = export(PARTS[1], part=1, ledger=ledger)
    for cut in (len(whole) + 2, len(whole) + 100, ledger.stat().st_size - 3):
        torn = tmp_path / "torn.jsonl"
        torn.write_bytes(ledger.read_bytes()[:cut])
        assert Ledger(torn).records() == [first]
        assert export(PARTS[1], part=1, ledger=torn) == second
        assert Ledger(torn).records() == [first, second]


def add_records(path, first):
    for number in range(first, first + 50):
        Ledger(path).add(
            {"identifier": "ipfs-dataset-part", "part": number, "root": "x", "text": "y" * 5000}
        )


def test_several_processes_add_to_one_ledger(tmp_path):
    path = tmp_path / "ledger.jsonl"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_records, args=(path, n * 50)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(record["part"] for record in Ledger(path).records()) == list(range(150))


@pytest.mark.parametrize(
    "line",
    ["[]", "{}", "3", '{"identifier": "ipfs-dataset-part"}', '{"identifier": "ipfs-dataset"}'],
)
def test_a_file_that_is_no_ledger_is_an_error(tmp_path, line):
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text(f"{line}\n")
    for use in (
        lambda: exporter(tmp_path / "store").assemble(ledger),
        lambda: exporter(tmp_path / "store").export_part(SAMPLES, part=0, ledger=ledger),
    ):
        with pytest.raises(FormatError, match="Line 1 of"):
            use()


def test_a_missing_ledger_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        exporter(tmp_path / "store").assemble(tmp_path / "no.jsonl")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("parts"))


WRONG = [
    (lambda r: r[1:], ExportError, "1 of the parts 0 to 3 are missing: 0"),
    (lambda r: [r[0], r[3]], ExportError, "2 of the parts 0 to 3 are missing: 1, 2"),
    (
        lambda r: [*r, {**r[3], "part": (1 << 32) - 1}],
        ExportError,
        "4294967291 of the parts 0 to 4294967295 are missing: 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, …",
    ),
    (lambda r: [*r, r[1]], ExportError, "Part 1 occurs twice"),
    (lambda r: [*r, {**r[1], "root": "other"}], ExportError, "Part 1 occurs twice"),
    (lambda r: r[0], ExportError, "a list of the records that export_part returned"),
    (lambda r: [*r[:3], {**r[3], "profile": "kubo-cidv1"}], ExportError, "Part 3 .*profile"),
    (lambda r: [*r[:3], {**r[3], "form": "other"}], ExportError, "Part 3 .*form"),
    (lambda r: [*r[:3], {**r[3], "chunker": "rabin"}], ExportError, "Part 3 .*chunker"),
    (lambda r: [*r[:3], {**r[3], "codec": "members-9"}], ExportError, "Part 3 .*members-9"),
    (lambda r: [*r[:3], {**r[3], "version": "3.7"}], ExportError, "Part 3 .*3.7"),
    (
        lambda r: [*r[:3], {**r[3], "schema": {"codec": "str", "member": "sample.txt"}}],
        ExportError,
        "part 3 have a different structure than those of part 0",
    ),
    (lambda r: [*r[:3], {**r[3], "schema": None}], FormatError, "part 3 .*no schema"),
    (lambda r: [*r[:3], {**r[3], "samples": 3}], FormatError, "part 3 claims 3 samples"),
    (lambda r: [*r[:3], {**r[3], "samples": 49.0}], FormatError, "part 3 claims 49.0 samples"),
    (lambda r: [*r[:3], {**r[3], "part": -1}], FormatError, "number -1"),
    (lambda r: [*r[:3], {**r[3], "part": True}], FormatError, "number True"),
    (lambda _: [3], FormatError, "not a record returned by export_part"),
    (lambda _: [None], FormatError, "not a record returned by export_part"),
    (lambda _: [], ExportError, "allow_empty=True"),
]


@pytest.mark.parametrize(("change", "kind", "words"), WRONG)
def test_wrong_parts_are_refused_with_the_reason(tmp_path, records, change, kind, words):
    with pytest.raises(kind, match=words):
        exporter(tmp_path).assemble(change(records), pin="direct")
    assert not (tmp_path / "pins").exists() or list((tmp_path / "pins").iterdir()) == []


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(["bafkqaaa", "bafyreig6", "../x", 1 << 70, -1]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
)


def places(value, path=()):
    """Yields the path of everything in a value of JSON."""
    yield path
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_change_to_a_record_makes_a_dataset_or_a_typed_error(tmp_path_factory, records, data):
    changed = copy.deepcopy(records)
    target = data.draw(st.sampled_from([path for path in places(changed) if len(path) > 1]))
    inner = changed
    for key in target[:-1]:
        inner = inner[key]
    inner[target[-1]] = data.draw(JSON)
    store = tmp_path_factory.getbasetemp() / "any"
    try:
        cid = exporter(store).assemble(changed, pin="direct")
    except IPFSDatasetError:
        return
    assert len(exporter(store).import_from_ipfs(cid)) == 90


def test_parts_with_different_samples_are_assembled_if_allowed(tmp_path):
    row = torch.arange(3)
    samples = [(row, None), (row, "two"), (row, 3), {"x": row}, {"x": b"y" * 5000}]
    records = exported(tmp_path, [samples[:1], samples[1:3], samples[3:]])
    with pytest.raises(ExportError, match="mixed=True"):
        exporter(tmp_path).assemble(records)
    cid = exporter(tmp_path).assemble(records, mixed=True)
    imported = exporter(tmp_path).import_from_ipfs(cid)
    assert same(list(imported), samples)
    assert same(imported.__getitems__([4, 0, 2, 1, 3]), [samples[n] for n in (4, 0, 2, 1, 3)])


def test_parts_without_samples_are_assembled_only_if_allowed(tmp_path):
    records = exported(tmp_path, [[], []])
    with pytest.raises(ExportError, match="no samples"):
        exporter(tmp_path).assemble(records)
    cid = exporter(tmp_path).assemble(records, allow_empty=True)
    assert len(exporter(tmp_path).import_from_ipfs(cid)) == 0


@pytest.mark.parametrize("part", [-1, 1 << 32, True, "0", 1.0, None])
def test_the_number_of_a_part_is_a_number(tmp_path, part):
    with pytest.raises((ValueError, TypeError)):
        exporter(tmp_path).export_part(SAMPLES, part=part)


def test_a_form_without_parts_is_an_error(tmp_path):
    with pytest.raises(ExportError, match="does not write datasets in parts"):
        IPFSDatasetExporter(Path(tmp_path), form="original").export_part([1], part=0)
