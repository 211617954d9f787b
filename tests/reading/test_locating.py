"""From what a user wrote to an open object."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipfs_dataset_core import ObjectFile, TransportPlugin
from ipfs_dataset_core.addressing.object_url import parse_object_url
from ipfs_dataset_core.errors import (
    AddressError,
    ObjectNotFoundError,
    TransportError,
)
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.reading.connections import Connections
from ipfs_dataset_core.reading.objects import open_object, resolve_root
from ipfs_dataset_core.registry.lookup import default_registry
from ipfs_dataset_plugins.store import FolderStore
from tests.support.stores import Store


class NamingStore(FolderStore):
    """A store that also knows names."""

    resolves_names = True
    targets: dict[str, str] = {}  # noqa: RUF012 - set anew by each test

    def resolve_name(self, name):
        return self.targets[name]


def open_naming_store(address, options):
    return NamingStore(Path(address.removeprefix("naming://")))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def connections(store):
    made = Connections(store.address, Options())
    yield made
    made.close()


@pytest.fixture
def naming(store, monkeypatch):
    monkeypatch.setattr(default_registry(), "_registered", [])
    default_registry().register(
        TransportPlugin(name="naming", summary="", schemes=("naming",), factory=open_naming_store)
    )
    made = Connections(f"naming://{store.address}", Options())
    yield made
    made.close()


def names(monkeypatch, **targets):
    monkeypatch.setattr(
        NamingStore, "targets", {k.replace("_", "."): v for k, v in targets.items()}
    )


def test_a_path_is_walked_from_its_root(store, connections):
    root = store.tree({"a/b.txt": b"content"})
    for url in (
        f"ipfs://{root}/a/b.txt",
        f"{root}/a/b.txt",
        f"/ipfs/{root}/a/b.txt/",
        f"ipfs://ipfs://{root}/a/b.txt",
    ):
        file = open_object(url, connections)
        assert isinstance(file, ObjectFile)
        assert (file.name, file.read_at(0, 99)) == (url, b"content")


def test_a_malformed_cid_is_quoted_with_the_reason(connections):
    cid = "QmdPw1vze5nwVM1fsCjygXCs8WyzDsf3hn4uq3MpMLvw9ww"
    with pytest.raises(AddressError, match=rf"{cid}.*46 letters"):
        resolve_root(parse_object_url(cid), connections)


def test_a_path_that_does_not_exist_is_proven_absent(store, connections):
    root = store.tree({"a": b""})
    with pytest.raises(ObjectNotFoundError, match=rf"/ipfs/{root}/b.*no entry named 'b'"):
        resolve_root(parse_object_url(f"{root}/b"), connections)


def test_names_are_followed_through_other_names_and_paths(store, naming, monkeypatch):
    root = store.tree({"v1/data/a.txt": b"found"})
    names(monkeypatch, example_org="/ipns/other.org/v1", other_org=f"/ipfs/{root}")
    file = open_object("ipns://example.org/data/a.txt", naming)
    assert isinstance(file, ObjectFile)
    assert file.read_at(0, 9) == b"found"


def test_circular_names_end_with_an_error(naming, monkeypatch):
    names(monkeypatch, a_org="/ipns/b.org", b_org="/ipns/a.org")
    with pytest.raises(TransportError, match=r"more than 16 other names"):
        open_object("/ipns/a.org", naming)


@pytest.mark.parametrize("target", ["", "/ipfs", "/ipfs/", "/", "/ipfs/../..", "javascript://x"])
def test_a_name_without_a_target_is_a_typed_error(naming, monkeypatch, target):
    names(monkeypatch, a_org=target)
    with pytest.raises(AddressError):
        open_object("/ipns/a.org", naming)


def test_a_name_needs_a_source_that_resolves_names(connections):
    with pytest.raises(TransportError, match=r"resolves the name 'example.org'"):
        open_object("ipns://example.org", connections)


@pytest.mark.parametrize("path", ["photos/a.zip", "photos.zip", "data.tar.gz", "here"])
def test_the_error_for_a_relative_path_calls_it_a_local_path(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(AddressError, match=r"Not a CID.*is a local path.*ipfs add"):
        resolve_root(parse_object_url(path), Connections(tmp_path, Options()))


def test_a_misspelt_cid_is_not_taken_for_a_path(tmp_path):
    for text in ("bafkqaaaz0", "QmFoo", "notacid/a.zip/b"):
        with pytest.raises(AddressError) as caught:
            resolve_root(parse_object_url(text), Connections(tmp_path, Options()))
        assert "local path" not in str(caught.value)
