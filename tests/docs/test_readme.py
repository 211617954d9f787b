"""README.md: what it shows runs as it stands, but for CIDs and addresses, and what it lists exists."""

from __future__ import annotations

import re
import shlex
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipfs_dataset.cli import main
from ipfs_dataset_core.interfaces import ExporterPlugin, ReaderPlugin, TransportPlugin
from ipfs_dataset_core.interfaces.ipfs_object import RemoteFileType
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.registry.lookup import Registry
from tests.support.builders import noise, zip_bytes
from tests.support.cifar import cifar_files
from tests.support.markdown import blocks, run_python

if TYPE_CHECKING:
    from ipfs_dataset_core.registry.provenance import Origin

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def test_python_blocks_run_as_written(replacements, workplace, capsys):
    names = run_python(README, replacements)

    image, label = names["dataset"][0], names["label"]
    assert label == 0
    assert names["image"].size == (32, 32)
    assert len(names["cifar10"]) == 50
    assert image[0].endswith(".png")
    images, image_names = names["images"], names["names"]
    assert images.shape[1:] == (3, 32, 32)
    assert len(image_names) == len(images) == 50 % 32
    said = capsys.readouterr().out
    assert "50 torch.Size([3, 32, 32]) truck_some_s_000009.png" in said
    assert ":1 b'the second line'" in said


def test_streamed_samples_are_complete_and_shuffled(place, replacements, workplace):
    names = run_python(README, replacements)
    names["shuffled"].set_epoch(2)
    in_order = [name for _, name in names["streamed"]]
    names["shuffled"].set_epoch(3)
    shuffled = [name for _, name in names["shuffled"]]
    assert sorted(in_order) == sorted(shuffled) == sorted([*cifar_files(40), *cifar_files(10)])
    assert shuffled != in_order


def test_the_folder_of_the_readme_is_read(place, replacements, workplace):
    names = run_python(README, replacements)
    photos = names["IPFSDataset"](names["photos"], place.address)
    assert [name for name, _ in photos] == list(cifar_files(5))


def commands():
    return [
        shlex.split(line, comments=True)
        for block in blocks(README, "bash")
        for line in block.code.splitlines()
    ]


def add_commands():
    """Returns the options of the ``ipfs add`` in each comment, by the file that it is about."""
    text = "".join(block.code for block in blocks(README, "bash"))
    found = re.findall(r"cid (\S+) .*# that of: ipfs add (.+)", text)
    return {path: shlex.split(options) for path, options in found}


@pytest.fixture
def files_to_add(workplace):
    (workplace / "dataset.zip").write_bytes(
        zip_bytes({"noise": noise(3 << 20)}, zipfile.ZIP_STORED)
    )
    (workplace / "photos" / "more").mkdir(parents=True)
    (workplace / "photos" / "more" / "noise").write_bytes(noise(1 << 20))
    (workplace / "photos" / "metadata.txt").write_text("more/noise\n")
    return workplace


def run_commands(capsys):
    for program, *arguments in commands():
        assert program == "ipfs-dataset"
        assert main(arguments) == 0
    return capsys.readouterr().out.splitlines()


def test_commands_run_as_written(files_to_add, capsys):
    said = run_commands(capsys)
    assert [CID.parse(cid).version for cid in said[:2]] == [1, 0]
    assert any(line.startswith("reader") for line in said[2:])


def test_commands_print_the_cids_that_the_ipfs_command_gives(kubo, files_to_add, capsys):
    said = run_commands(capsys)
    added = [
        kubo.cli("add", "-Q", *options, str(files_to_add / path)).decode().strip()
        for path, options in add_commands().items()
    ]
    assert said[: len(added)] == added
    assert len(added) == 2


def test_make_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"`?make (\w+)", README.read_text())
    assert {"demo", "test", "docs"} <= set(targets)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_links_have_existing_targets():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text())
    assert len(targets) >= 5
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_format_and_transport_of_ours_is_listed():
    text = README.read_text()
    registry = Registry()
    declared: tuple[tuple[Any, Origin], ...] = (
        *registry.all(TransportPlugin),
        *registry.all(ReaderPlugin),
        *registry.all(ExporterPlugin),
    )
    ours = [item.name for item, origin in declared if origin.distribution == "ipfs-dataset"]
    assert len(ours) >= 9
    assert [name for name in ours if f"`{name}`" not in text] == []
    assert [kind for kind in RemoteFileType if f"`{kind.name}`" not in text] == []
