"""``publish``: files as they are and datasets, to stores, ``.car`` files and nodes."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from ipfs_dataset import load
from ipfs_dataset_core.publishing.pins import list_pins
from tests.support import builders
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.cli import run
from tests.support.stores import members

FILES = {"a.txt": b"a", "n/größe b.txt": b"b", "n/m/c.bin": bytes(300_000)}


@pytest.fixture
def folder(tmp_path):
    for name, data in FILES.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "source"


def test_a_folder_is_published_as_a_node_would_add_it(folder, tmp_path):
    store = tmp_path / "store"
    done = run("publish", folder, "--to", store, "--name", "mine")
    assert (done.status, done.err) == (0, "")
    cid = done.out.strip()
    assert cid == str(builders.tree(FILES)[0]) == run("cid", folder).out.strip()
    assert dict(load(cid, store)) == FILES
    assert [str(pin.cid) for pin in list_pins(store)] == [cid]
    again = json.loads(run("publish", folder, "--to", store, "--json").out)
    assert again["cid"] == cid
    assert again["sent"] == 0
    assert again["present"] == again["bytes"] > 300_000


def test_an_archive_and_a_file_are_one_file(tmp_path):
    for name, data in (("a.zip", zip_bytes(members(3))), ("b.txt", b"text")):
        (tmp_path / name).write_bytes(data)
        done = run("publish", tmp_path / name, "--to", tmp_path / "store")
        assert done.out.strip() == str(builders.one_file(data)[0])


def test_an_existing_car_file_is_kept_unless_overwriting_is_requested(folder, tmp_path):
    car = tmp_path / "out.car"
    cid = run("publish", folder, "--to", car).out.strip()
    assert dict(load(cid, car)) == FILES
    refused = run("publish", folder, "--to", car)
    assert refused.status == 1
    assert "exists, and" in refused.err
    assert run("publish", folder, "--to", car, "--overwrite").out.strip() == cid


def test_a_folder_of_classes_as_a_dataset_keeps_files_and_names(tmp_path):
    for name in ("cat", "dog"):
        for number in range(3):
            path = tmp_path / "pets" / name / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 10), (number, 0, 0)).save(path, quality=90)
    store = tmp_path / "store"
    done = run("publish", tmp_path / "pets", "--as", "dataset", "--to", store)
    assert (done.status, done.err) == (0, "")
    dataset = load(done.out.strip(), store)
    assert [label for _, label in dataset] == [0, 0, 0, 1, 1, 1]
    assert dataset[0][0].size == (20, 10)
    raw = dataset.files(0)  # type: ignore[union-attr]
    assert (tmp_path / "pets" / "cat" / "0.jpg").read_bytes() in raw.values()


@pytest.mark.parametrize("make", [zip_bytes, tar_bytes])
def test_an_archive_as_a_dataset_gives_bytes_and_names(tmp_path, make):
    (tmp_path / "a.bin").write_bytes(make(members(3)))
    done = run("publish", tmp_path / "a.bin", "--as", "dataset", "--to", tmp_path / "store")
    assert done.status == 0
    expected = [(data, name) for name, data in members(3).items()]
    assert list(load(done.out.strip(), tmp_path / "store")) == expected


MODULE = """
class Squares:
    def __init__(self, count=3, scale=1.0, name="x", flag=False):
        self.count, self.scale, self.flag = count, scale, flag
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        return index * index * self.scale, self.flag

here = [1, 2, 3]

def made(count):
    return list(range(count))

def fails(reason="unusable"):
    raise ValueError(reason)

def ends():
    raise SystemExit(0)

def breaks():
    yield 1
    yield 1 + None
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "datasets_of_a_user.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "datasets_of_a_user", raising=False)
    return "datasets_of_a_user"


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("Squares", [(0.0, False), (1.0, False), (4.0, False)]),
        ("Squares?count=2&scale=0.5&flag=true", [(0.0, True), (0.5, True)]),
        ("here", [1, 2, 3]),
        ("made?count=4", [0, 1, 2, 3]),
    ],
)
def test_an_object_of_a_module_is_published(module, tmp_path, name, samples):
    done = run("publish", f"{module}:{name}", "--to", tmp_path / "store")
    assert (done.status, done.err) == (0, "")
    assert list(load(done.out.strip(), tmp_path / "store")) == samples


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("{}:Nothing", "has no 'Nothing'"),
        ("{}:Squares?size=3", "cannot be created with"),
        ("{}:here?count=3", "takes no arguments"),
        ("{}:fails?reason=" + "x" * 300, "ValueError: xxx"),
        ("{}:fails", "ValueError: unusable"),
        ("{}:ends", "it calls sys.exit(0)"),
        # The first line of the text is empty.
        ("{}:breaks", "datasets_of_a_user.py, line 25)"),
        ("no_such_module_here:Dataset", "cannot be imported"),
        ("..:Dataset", "cannot be imported"),
        ("torchvision:NoSuchDataset", "has no 'NoSuchDataset'"),
        ("no-such-path", "neither a file nor a folder"),
    ],
)
def test_an_unpublishable_object_is_an_error_in_one_line(module, tmp_path, name, reason):
    done = run("publish", name.format(module), "--to", tmp_path / "store")
    assert (done.status, done.out) == (1, "")
    assert reason in done.err


def test_torchvision_datasets_have_a_short_name(tmp_path):
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    spec = "torchvision:FakeData?size=4&image_size=[3,8,8]&num_classes=2"
    done = run("publish", spec, "--to", tmp_path / "store", "--json")
    assert done.status == 0
    image, label = load(json.loads(done.out)["cid"], tmp_path / "store")[0]
    assert image.size == (8, 8)
    assert int(label) in (0, 1)
    assert isinstance(label, (int, torch.Tensor))


def test_a_card_is_published_and_shown(module, tmp_path):
    card = tmp_path / "README.md"
    card.write_text("---\npretty_name: Squares\nlicense: mit\n---\n# Squares\n\nNumbers.\n")
    done = run("publish", f"{module}:Squares", "--card", card, "--to", tmp_path / "store")
    assert (done.status, done.err) == (0, "")
    shown = run("info", done.out.strip(), "--from", tmp_path / "store")
    assert shown.status == 0
    assert "Squares" in shown.out
    assert "MIT" in shown.out
    card.write_text("---\npretty_name: Squares\nlicense: nobody's\n---\n")
    refused = run("publish", f"{module}:Squares", "--card", card, "--to", tmp_path / "store")
    assert (refused.status, refused.out) == (1, "")
    missing = run("publish", f"{module}:Squares", "--card", "no.md", "--to", tmp_path / "store")
    assert (missing.status, missing.out) == (1, "")


def test_wrong_combinations_of_arguments_have_status_two(folder, tmp_path):
    assert run("publish", folder, "--card", "x.md").status == 2
    assert run("publish", "module:object", "--as", "files").status == 2
    assert run("publish", folder, "--as", "both").status == 2
    assert run("publish").status == 2


def test_the_error_of_an_unreachable_node_names_it(folder):
    done = run("publish", folder, "--to", "/ip4/127.0.0.1/tcp/9")
    assert done.status == 1
    assert "no node is running at" in done.err


@pytest.mark.kubo
def test_published_data_are_pinned_on_the_node(kubo, folder):
    done = run("publish", folder, "--to", kubo.api, "--name", "from the command line")
    assert done.status == 0
    cid = done.out.strip()
    assert "from the command line" in [pin.name for pin in list_pins(kubo.api)]
    assert dict(load(cid, kubo.api)) == FILES


@pytest.mark.kubo
def test_the_latest_version_of_files_has_a_name_and_the_pin_keeps_its_own(kubo, folder):
    first = json.loads(
        run("publish", folder, "--to", kubo.api, "--ipns", "cli", "--name", "mine", "--json").out
    )
    (folder / "more.txt").write_bytes(b"more")
    second = json.loads(run("publish", folder, "--to", kubo.api, "--ipns", "cli", "--json").out)
    assert second["cid"] != first["cid"]
    assert second["ipns_name"] == first["ipns_name"]
    files = dict(load(f"ipns://{second['ipns_name']}", kubo.api, offline=False))
    assert files == {**FILES, "more.txt": b"more"}
    assert run("pin", "add", first["cid"], "--at", kubo.api).status == 0
    assert [pin.name for pin in list_pins(kubo.api) if str(pin.cid) == first["cid"]] == ["mine"]


def test_a_name_for_a_store_is_refused_before_anything_is_published(folder, tmp_path):
    done = run("publish", folder, "--to", tmp_path / "store", "--ipns", "mine")
    assert done.status == 1
    assert "has no keys" in done.err
    assert not (tmp_path / "store").exists()
