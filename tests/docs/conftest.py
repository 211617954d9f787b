"""Where the documentation's examples run: in a folder of their own, against a store or a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipfs_dataset_core.registry.lookup import Registry
from tests.support.builders import zip_bytes
from tests.support.cifar import cifar_files, install_small_cifar10
from tests.support.markdown import blocks
from tests.support.places import NodePlace, StorePlace

TEXT = b"the first line\nthe second line\n"
INDEX = Path(__file__).parents[2] / "docs" / "index.md"
# What docs/how-to/add-a-format.md writes to a file and publishes.
RECORDS = b"".join(bytes([label]) * (1 + 3 * 32 * 32) for label in range(4))
RECORDS_CID = "bafkreieqpjxlrwcgsjklxooypcfxyhklgehylkvq77zrj5ynbeklnr4c6a"


API = "/ip4/127.0.0.1/tcp/5001"
# The archive that the pages under docs/ read.
SAMPLES_CID = "bafkreia33pzocp6sgjmgdzgdpruvwpipcsgo6wvg2egzwommlhghpcfwdy"


# The folder of shards that docs/how-to/come-from-another-library.md makes.
SHARDS_CID = "bafybeichxcx7reow72aif3vkwqfp2tgukvpcnzmktbwvzursp5gqbonvrm"


def webdataset_shards(page):
    """Returns the shards that the first example of a page makes in the working folder, by name."""
    blocks(page, "python")[0].run({})
    return {path.name: path.read_bytes() for path in sorted(Path("shards").iterdir())}


def samples_archive(path):
    """Returns the archive that docs/index.md makes, which is written to a path."""
    (block,) = blocks(INDEX, "python")
    block.substituted({"samples.zip": str(path)}).run({})
    return path.read_bytes()


@pytest.fixture(params=["store", pytest.param("kubo", marks=pytest.mark.kubo)])
def place(request, tmp_path):
    """Where the examples publish and read."""
    if request.param == "kubo":
        yield NodePlace(request.getfixturevalue("kubo"), tmp_path / "added")
    else:
        with StorePlace(tmp_path / "store") as store:
            yield store


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working folder with CIFAR-10 in it, and a registry that no other test sees."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("ipfs_dataset_core.registry.lookup._default", Registry())
    install_small_cifar10(folder / "data", 30, monkeypatch)
    return folder


@pytest.fixture
def replacements(place, tmp_path):
    """What stands for the addresses and CIDs that the documentation shows."""
    return {
        API: place.address,
        "http://127.0.0.1:8080": place.gateway,
        "QmdPw1vze5nwVM1fsCjygXCs8WyzDsf3hn4uq3MpMLvw9w": place.file(zip_bytes(cifar_files(40))),
        SAMPLES_CID: place.file(samples_archive(tmp_path / "samples.zip")),
        "QmUXbPZvz4NuM3StmxLJdSjoGWTJLxF2iTe3Afd4uLhPa1": place.file(
            zip_bytes(cifar_files(10, seed=1))
        ),
        "QmdeFFimPStrc4JZ1Lk1AiDCdRF14DSwvwutY3Pk3ivLru": place.folder(cifar_files(5, seed=2)),
        "bafkreieq5jui4j25lacwomsqgjeswwl3y5zcdrresptwgmfylxo2depppq": place.file(TEXT),
        RECORDS_CID: place.file(RECORDS),
    }
