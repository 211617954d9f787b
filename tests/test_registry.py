"""Looking declarations up: strict where two claim the same, helpful where nobody does."""

from __future__ import annotations

import pytest

import ipfs_dataset_core
from ipfs_dataset_core import ExporterPlugin, ReaderPlugin, TransportPlugin
from ipfs_dataset_core.errors import (
    MissingDependencyError,
    PluginConflictError,
    PluginError,
    UnknownPluginError,
)
from ipfs_dataset_core.manager import Discovery, Failure, Loaded, Origin
from ipfs_dataset_core.registry import Registry, default_registry, open_reader, resolve_factory
from ipfs_dataset_core.testing import MemoryFile


def reader(name, *suffixes, magic=(), in_folders=False, factory="a:b"):
    return ReaderPlugin(
        name=name,
        summary="",
        factory=factory,
        suffixes=suffixes,
        magic=magic,
        in_folders=in_folders,
    )


def registry(*declarations, failures=()):
    """Returns a registry where each declaration is of a distribution of its own."""
    loaded = [
        Loaded(item, Origin(f"dist-{number}", "1.0", item.name))
        for number, item in enumerate(declarations)
    ]
    return Registry(Discovery(tuple(loaded), tuple(failures)))


def test_a_declaration_is_found_by_what_it_declares():
    store = TransportPlugin(name="store", summary="", schemes=("file", "car"), factory="a:b")
    shards = ExporterPlugin(name="shards", summary="", factory="a:b")
    lines = reader("lines", ".txt")
    found = registry(store, shards, lines)
    assert found.transport("file") is found.transport("car") is store
    assert found.exporter("shards") is shards
    assert found.reader("lines") is lines
    assert [item.name for item, _ in found.all(ReaderPlugin)] == ["lines"]


def test_the_longest_suffix_wins_whatever_the_case():
    found = registry(reader("gz", ".gz"), reader("tar", ".tar", ".tar.gz"))
    assert found.reader_for_suffix("A.TAR.GZ").name == "tar"
    assert found.reader_for_suffix("a.gz").name == "gz"
    assert found.reader_for_suffix("guitar") is None
    assert found.reader_for_suffix("dir.tar/a") is None


def test_folders_only_parse_members_of_formats_that_ask_for_it():
    found = registry(reader("tar", ".tar", in_folders=True), reader("lines", ".txt"))
    assert found.reader_for_suffix("a.tar", in_folders=True).name == "tar"
    assert found.reader_for_suffix("a.txt", in_folders=True) is None


def test_the_longest_magic_wins():
    found = registry(
        reader("short", magic=((0, b"AB"),)),
        reader("long", magic=((0, b"ABCD"), (4, b"xyz"))),
    )
    assert found.reader_for_magic(b"ABCD").name == "long"
    assert found.reader_for_magic(b"ABC").name == "short"
    assert found.reader_for_magic(b"....xyz").name == "long"
    assert found.reader_for_magic(b"") is None


def test_two_claims_raise_at_use_and_name_both():
    found = registry(reader("a", ".x"), reader("a", ".y"), reader("b", ".x"), reader("c", ".z"))
    assert found.reader("c").name == "c"
    for look, key in (
        (found.reader, "a"),
        (found.reader_for_suffix, "f.x"),
    ):
        with pytest.raises(PluginConflictError, match=r"dist-0 1\.0 \(a\) and dist-\d 1\.0") as e:
            look(key)
        assert "IPFS_DATASET_DISABLE_PLUGINS" in str(e.value)


def test_an_unknown_format_says_what_there_is_what_failed_and_what_to_do():
    failure = Failure(Origin("ipfs-dataset-mat", "0.3", "mat"), "ImportError: no scipy")
    found = registry(reader("zip"), reader("tar"), failures=[failure])
    with pytest.raises(UnknownPluginError) as caught:
        found.reader("mat")
    message = str(caught.value)
    assert "Unknown format 'mat'. Installed: tar, zip." in message
    assert "ipfs-dataset-mat 0.3 (mat) could not be loaded: ImportError: no scipy" in message
    assert "pip install ipfs-dataset-mat" in message
    assert isinstance(caught.value, LookupError)


def test_nothing_at_all_installed_is_said_too():
    with pytest.raises(UnknownPluginError, match=r"Unknown address scheme 's3'. Installed: none"):
        registry().transport("s3")


def test_registering_a_taken_name_says_who_has_it():
    found = registry(reader("zip"))
    with pytest.raises(PluginConflictError, match=r"'zip' is taken by dist-0 1\.0 \(zip\)"):
        found.register(reader("zip"))
    # Another kind of plugin is another name space.
    found.register(TransportPlugin(name="zip", summary="", schemes=("zip",), factory="a:b"))
    found.register(reader("mine"))
    with pytest.raises(PluginConflictError, match=r"taken by \(registered\) \(mine\)"):
        found.register(reader("mine"))
    assert [item.name for item in found.registered] == ["zip", "mine"]


def test_what_another_process_registered_is_adopted_once():
    found = registry(reader("zip"))
    for _ in range(2):
        found.adopt([reader("mine"), reader("zip", ".other")])
    assert [item.name for item in found.registered] == ["mine"]
    assert found.reader("zip").suffixes == ()


def test_registering_for_the_process_is_one_call(monkeypatch):
    monkeypatch.setattr(default_registry(), "_registered", [])
    ipfs_dataset_core.register(reader("mine", ".mine"))
    assert default_registry().reader("mine").suffixes == (".mine",)


def test_discovery_runs_at_first_use_and_once(monkeypatch):
    calls = []

    def discover():
        calls.append(1)
        return Discovery((), ())

    monkeypatch.setattr("ipfs_dataset_core.registry.discover", discover)
    found = Registry()
    assert not calls
    assert not found.all(ReaderPlugin)
    assert not found.all(TransportPlugin)
    assert calls == [1]


def test_a_factory_is_a_callable_or_its_name():
    assert resolve_factory(reader("x", factory=list)) is list
    assert resolve_factory(reader("x", factory="collections:OrderedDict")).__name__ == "OrderedDict"


@pytest.mark.parametrize(
    ("factory", "error", "message"),
    [
        ("no_such_package.reader:R", MissingDependencyError, "'x' needs 'no_such_package'.*pip"),
        ("collections:NoSuch", PluginError, "'collections:NoSuch' of 'x'.*NoSuch"),
        ("collections", PluginError, "'collections' of 'x'"),
        ("", PluginError, "'' of 'x'"),
    ],
)
def test_a_factory_that_cannot_be_imported_names_the_plugin(factory, error, message):
    with pytest.raises(error, match=message):
        resolve_factory(reader("x", factory=factory))


def test_formats_build_on_others_by_name():
    file = MemoryFile(b"whole", "a file")
    assert list(open_reader("plain").samples(file)) == [("a file", b"whole")]
    with pytest.raises(UnknownPluginError, match="Unknown format 'nothing'"):
        open_reader("nothing")
