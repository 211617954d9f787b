"""The examples, run as users run them: as programs, on the embedded store and on Kubo."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.builders import tar_bytes, zip_bytes
from tests.support.cifar import cifar_files
from tests.support.places import NodePlace
from tests.support.stores import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.kubo import KuboNode

ROOT = Path(__file__).parents[2]
CID = r"\bbafy[a-z2-7]{55}\b"
TINY = ("--epochs", "1", "--batch-size", "16")
# Where an environment is new and the machine slow, matplotlib announces that it looks for fonts.
FONTS = "Matplotlib is building the font cache; this may take a moment.\n"


@pytest.fixture(scope="module", autouse=True)
def _fonts_are_looked_for_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib")))
        yield


def run(example: str, *arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / example, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Bars are for terminals.
    assert done.stderr.replace(FONTS, "") == ""
    return done.stdout


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def node(kubo: KuboNode, tmp_path: Path) -> NodePlace:
    return NodePlace(kubo, tmp_path / "added")


def check_quickstart(out: Path, *arguments: str) -> str:
    said = run("quickstart.py", "--out", str(out), *arguments)
    found = re.search(r"test accuracy ([\d.]+)%", said)
    assert found
    assert float(found[1]) >= 95
    assert re.search(CID, said)
    assert re.search(r"publishing 1797 images to .+\npublished as ipfs://\w+ in [\d.]+ s\n", said)
    page = out / "index.html"
    assert f"its page is {page.resolve()}" in said
    assert b'<h1 dir="auto">Handwritten digits</h1>' in page.read_bytes()
    epochs = re.findall(r"epoch (\d+) of 10, step (\d+) of 450: mean loss [\d.]+, [\d.]+ s\n", said)
    assert epochs == [(str(number), str(45 * number)) for number in range(1, 11)]
    picture = out / "digits.png"
    assert str(picture) in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    return said


@pytest.mark.slow
def test_quickstart_learns_from_the_embedded_store(tmp_path):
    said = check_quickstart(tmp_path)
    assert str(tmp_path / "store") in said
    assert (tmp_path / "store" / "blocks").is_dir()


@pytest.mark.slow
def test_quickstart_learns_through_the_api(kubo, tmp_path):
    check_quickstart(tmp_path, "--api", kubo.api)
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_quickstart_learns_through_a_gateway(kubo, tmp_path):
    said = check_quickstart(tmp_path, "--api", kubo.api, "--gateway", kubo.gateway)
    assert f"samples from gateway+{kubo.gateway}" in said


def test_quickstart_help_names_its_options(tmp_path):
    said = run("quickstart.py", "--help")
    assert all(option in said for option in ("--api", "--gateway", "--out"))


def check_training(place: Store | NodePlace, *arguments: str) -> None:
    train = place.file(zip_bytes(cifar_files(60)))
    more = place.file(tar_bytes(cifar_files(20, seed=1)))
    test = place.folder(cifar_files(20, seed=2))
    urls = ("--train", f"ipfs://{train}", f"ipfs://{more}", "--test", f"ipfs://{test}")
    said = run("cifar10_train.py", *urls, *TINY, *arguments)
    assert "epoch 0: mean loss" in said
    assert re.search(r"test accuracy [\d.]+%: \d+ of 20 images", said)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--iterable",)], ids=["map", "iterable"])
def test_cifar10_trains_from_the_embedded_store(store, arguments):
    check_training(store, "--api", store.address, *arguments)


@pytest.mark.slow
def test_cifar10_trains_through_the_api(node):
    check_training(node, "--api", node.address)


@pytest.mark.slow
def test_cifar10_streams_through_a_gateway(node):
    check_training(node, "--gateway", node.gateway, "--iterable")


@pytest.mark.slow
def test_cifar10_trains_from_gateway_urls_alone(node):
    train, test = (node.file(zip_bytes(cifar_files(20, seed=seed))) for seed in (3, 4))
    urls = [f"{node.gateway}/ipfs/{cid}" for cid in (train, test)]
    said = run("cifar10_train.py", "--train", urls[0], "--test", urls[1], *TINY, "--workers", "0")
    assert "of 20 images" in said


def check_export_and_import(address: str, *source: str) -> None:
    cid = run("cifar10_export.py", "--fake", "50", "--api", address).strip()
    assert re.fullmatch(CID, cid)
    said = run("cifar10_import.py", f"ipfs://{cid}", "--batch-size", "16", *source)
    assert said.startswith("50 samples, the first: (<PIL.")
    assert "images (16, 3, 32, 32) of torch.float32" in said
    counts = re.search(r"samples per label: \{(.*)\}", said)
    assert counts
    assert sum(int(count) for count in re.findall(r": (\d+)", counts[1])) == 50


@pytest.mark.slow
def test_cifar10_is_exported_to_and_imported_from_the_embedded_store(store):
    check_export_and_import(store.address, "--api", store.address)


@pytest.mark.slow
def test_cifar10_is_exported_to_and_imported_from_a_car_file(tmp_path):
    address = str(tmp_path / "cifar10.car")
    check_export_and_import(address, "--api", address)


@pytest.mark.slow
def test_cifar10_is_exported_through_the_api_and_imported_through_a_gateway(node):
    check_export_and_import(node.address, "--gateway", node.gateway)


@pytest.mark.slow
def test_a_file_without_a_class_in_its_name_is_refused_by_name(store):
    cid = store.file(zip_bytes({"banana_1.png": cifar_files(1)["airplane_some_s_000000.png"]}))
    done = subprocess.run(
        [
            *(sys.executable, ROOT / "examples" / "cifar10_train.py", "--workers", "0"),
            *("--train", cid, "--test", cid, "--api", store.address),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1
    assert "'banana_1.png' starts with none of the classes airplane" in done.stderr
