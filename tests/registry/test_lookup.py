"""Looking declarations up: strict where two claim the same, helpful where nobody does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import ipfs_dataset_core
from ipfs_dataset_core import ExporterPlugin, ReaderPlugin, TransportPlugin
from ipfs_dataset_core.errors import (
    MissingDependencyError,
    PluginConflictError,
    PluginError,
    UnknownPluginError,
)
from ipfs_dataset_core.registry.discovery import Discovery, Loaded
from ipfs_dataset_core.registry.lookup import (
    Registry,
    default_registry,
    open_reader,
    resolve_factory,
)
from ipfs_dataset_core.registry.provenance import Failure, Origin
from ipfs_dataset_core.runtime.suggestions import CONTRIBUTED, CONTRIBUTED_SCHEMES
from ipfs_dataset_core.testing import MemoryFile


def reader(name, *suffixes, magic=(), in_folders=False, factory="a:b", recognize=None):
    return ReaderPlugin(
        name=name,
        summary="",
        factory=factory,
        suffixes=suffixes,
        magic=magic,
        recognize=recognize,
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


def test_members_of_folders_are_only_parsed_by_formats_with_in_folders():
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


def inner(source):
    return source.read_at(0, 9).endswith(b"inner")


def broken(source):
    raise KeyError(source.name)


@pytest.mark.parametrize("recognize", [inner, f"{__name__}:inner"])
def test_a_recognizer_precedes_magic_bytes(recognize):
    found = registry(reader("m", magic=((0, b"ABCD"),)), reader("r", recognize=recognize))
    assert found.reader_for_content(MemoryFile(b"ABCDinner")).name == "r"
    assert found.reader_for_content(MemoryFile(b"ABCDother")).name == "m"
    assert found.reader_for_content(MemoryFile(b"other")) is None


def test_two_plugins_that_recognize_a_file_are_a_conflict():
    found = registry(reader("a", recognize=inner), reader("b", recognize=inner))
    with pytest.raises(
        PluginConflictError, match=r"dist-0.*dist-1.*both claim the object 'object'"
    ):
        found.reader_for_content(MemoryFile(b"inner"))


def test_three_plugins_that_recognize_a_file_are_all_named():
    found = registry(*(reader(name, recognize=inner) for name in "abc"))
    message = (
        r"dist-0[^,]*, [^,]*dist-1[^,]* and [^,]*dist-2.* all claim the .*: give the object "
        "filetype='a' or 'b' or 'c', or uninstall all but one"
    )
    with pytest.raises(PluginConflictError, match=message):
        found.reader_for_content(MemoryFile(b"inner"))


@pytest.mark.parametrize("recognize", [broken, f"{__name__}:missing", "no_such_module:f"])
def test_a_plugin_that_fails_to_recognize_is_named(recognize):
    found = registry(reader("a", recognize=recognize))
    with pytest.raises(PluginError, match="dist-0"):
        found.reader_for_content(MemoryFile(b"inner"))


def test_a_name_declared_twice_raises_at_use_and_names_both():
    found = registry(reader("a", ".x"), reader("a", ".y"), reader("b", ".x"), reader("c", ".z"))
    assert found.reader("c").name == "c"
    for look, key in (
        (found.reader, "a"),
        (found.reader_for_suffix, "f.x"),
    ):
        with pytest.raises(PluginConflictError, match=r"dist-\d 1\.0 \(a\) and dist-\d 1\.0") as e:
            look(key)
        assert "IPFS_DATASET_DISABLE_PLUGINS" in str(e.value)


def test_the_error_for_an_unknown_format_lists_formats_failures_and_advice():
    failure = Failure(Origin("ipfs-dataset-mat", "0.3", "mat"), "ImportError: no scipy")
    found = registry(reader("zip"), reader("tar"), failures=[failure])
    with pytest.raises(UnknownPluginError) as caught:
        found.reader("mat")
    message = str(caught.value)
    assert message.startswith(
        "Unknown format 'mat'. Plugin ipfs-dataset-mat 0.3 (mat) could not be loaded: ImportError: no scipy."
    )
    assert "Installed: tar, zip." in message
    assert "pip install" not in message  # it is installed
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("spctra", "spectra"),
        ("ZIP", "zip"),
        ("Spectra", "spectra"),
        (".zip", "zip"),
        ("tarr", "tar"),
    ],
)
def test_the_error_for_a_misspelt_format_suggests_the_name_and_no_package(asked, meant):
    found = registry(reader("zip"), reader("spectra"), reader("tar"))
    with pytest.raises(UnknownPluginError) as caught:
        found.reader(asked)
    message = str(caught.value)
    assert message.startswith(f"Unknown format {asked!r}. Did you mean {meant!r}?")
    assert "pip install" not in message


@pytest.mark.parametrize(
    ("asked", "package"),
    [("mat", "ipfs-dataset-mat"), ("MAT", "ipfs-dataset-mat"), ("csv", "ipfs-dataset-text")],
)
def test_the_error_for_a_contributed_format_names_its_package(asked, package):
    with pytest.raises(UnknownPluginError, match=rf"comes with: pip install {package}\."):
        registry(reader("zip")).reader(asked)


def test_nothing_else_is_ever_suggested_for_installation():
    for name in ("spctra", "requests", "s3", "ipfs-dataset", "matrix_of_mine"):
        with pytest.raises(UnknownPluginError) as caught:
            registry(reader("zip")).reader(name)
        assert "pip install" not in str(caught.value)
    with pytest.raises(UnknownPluginError) as caught:
        registry(reader("zip")).transport("mat")
    assert "pip install" not in str(caught.value)


def test_the_plugin_of_that_very_name_is_quoted_before_others():
    failures = [
        Failure(Origin("another", "1.0", "other"), "ImportError: other"),
        Failure(Origin("IPFS_dataset.Spectra", "1.0", "reader"), "ImportError: the reason"),
    ]
    with pytest.raises(UnknownPluginError) as caught:
        registry(reader("spectral"), failures=failures).reader("spectra")
    message = str(caught.value)
    assert message.startswith("Unknown format 'spectra'. Plugin IPFS_dataset.Spectra 1.0 (reader)")
    assert "Did you mean" not in message
    assert "ImportError: other" in message


def test_the_lists_of_what_is_contributed_are_those_of_the_declarations():
    formats, schemes = {}, {}
    for folder in (Path(__file__).parents[2] / "contrib").iterdir():
        for module in folder.glob("src/*/*.py"):
            text = module.read_text()
            # In a declaration, or in the class of a reader.
            pattern = r'ReaderPlugin\(\s*name="(\w+)",|^    name = "(\w+)"$'
            for declared, of_class in re.findall(pattern, text, re.MULTILINE):
                formats[declared or of_class] = folder.name
            for declared in re.findall(r"TransportPlugin\(.*?schemes=\((.*?)\)", text, re.DOTALL):
                schemes.update(dict.fromkeys(re.findall(r'"(\w+)"', declared), folder.name))
    assert formats == CONTRIBUTED
    assert schemes.items() <= CONTRIBUTED_SCHEMES.items()


def test_the_error_says_that_no_formats_are_installed():
    with pytest.raises(UnknownPluginError, match=r"Unknown address scheme 's3'. Installed: none"):
        registry().transport("s3")


def test_the_error_for_a_taken_name_names_its_owner():
    found = registry(reader("zip"))
    with pytest.raises(PluginConflictError, match=r"'zip' is taken by dist-0 1\.0 \(zip\)"):
        found.register(reader("zip"))
    # Another kind of plugin is another name space.
    found.register(TransportPlugin(name="zip", summary="", schemes=("zip",), factory="a:b"))
    found.register(reader("mine"))
    assert [item.name for item in found.registered] == ["zip", "mine"]


def test_what_is_registered_again_replaces_what_this_process_registered():
    found = registry(reader("zip"))
    found.register(reader("mine", ".one"))
    found.register(reader("other", ".other"))
    assert found.reader_for_suffix("a.one").name == "mine"
    second = reader("mine", ".two", in_folders=True)
    found.register(second)
    assert found.reader("mine") is second
    assert found.reader_for_suffix("a.one") is None
    assert found.reader_for_suffix("a.two", in_folders=True) is second
    assert found.conflicts() == []
    assert {item.name for item in found.registered} == {"mine", "other"}
    # Another kind of the same name stays.
    found.register(ExporterPlugin(name="mine", summary="", factory="a:b"))
    assert found.reader("mine") is second


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


def test_built_in_formats_take_precedence_over_other_plugins():
    """Whoever else claims it: a user of ZIP archives gets ours, and the claim is listed."""
    ours = Loaded(reader("zip", ".zip", magic=((0, b"PK"),)), Origin("ipfs-dataset", "0.1", "zip"))
    theirs = Loaded(reader("zip", ".zip", magic=((0, b"PK"),)), Origin("fast", "2.0", "zip"))
    found = Registry(Discovery((theirs, ours), ()))
    assert found.reader("zip") is ours.declaration
    assert found.reader_for_suffix("a.ZIP") is ours.declaration
    assert found.reader_for_magic(b"PK..") is ours.declaration
    both = "fast 2.0 (zip) and ipfs-dataset 0.1 (zip) both claim "
    assert found.conflicts() == [
        f"{both}{what}: it is that of ipfs-dataset 0.1 (zip)"
        for what in ("the format 'zip'", "the suffix '.zip'", "files with b'PK' at byte 0")
    ]


def test_a_longer_suffix_goes_before_a_built_in_one():
    ours = Loaded(reader("tar", ".tar"), Origin("ipfs-dataset", "0.1", "tar"))
    theirs = Loaded(reader("shards", ".wds.tar"), Origin("wds", "2.0", "wds"))
    found: Any = Registry(Discovery((ours, theirs), ()))
    assert found.reader_for_suffix("a.b.wds.tar").name == "shards"
    assert found.reader_for_suffix("a.wds/b.tar").name == "tar"
    assert found.reader_for_suffix("a.b.tar").name == "tar"


def test_an_entry_point_of_that_name_goes_before_others():
    """It is imported alone where its name is asked for, so it must not matter who else was imported."""
    named = Loaded(reader("mat"), Origin("mat-dist", "1.0", "mat"))
    other = Loaded(reader("mat"), Origin("other-dist", "1.0", "everything"))
    found = Registry(Discovery((other, named), ()))
    assert found.reader("mat") is named.declaration
    [sentence] = found.conflicts()
    assert sentence.endswith("it is that of mat-dist 1.0 (mat)")


def test_equal_first_bytes_are_a_conflict_and_a_longer_one_is_none():
    found = registry(
        reader("a", magic=((0, b"ABCD"),)),
        reader("b", magic=((0, b"ABCD"), (4, b"EFGH"))),
        reader("c", magic=((0, b"ABCDEF"),)),
    )
    assert found.reader_for_magic(b"ABCDEF").name == "c"
    assert found.reader_for_magic(b"....EFGH").name == "b"
    with pytest.raises(PluginConflictError, match=r"dist-0 .* and dist-1 .* files with b'ABCD' at"):
        found.reader_for_magic(b"ABCD")


def test_one_format_found_by_two_criteria_is_no_conflict():
    found = registry(reader("a", magic=((0, b"AB"), (2, b"CD"))))
    assert found.reader_for_magic(b"ABCD").name == "a"


def test_what_is_registered_later_is_found_by_suffix():
    found = registry(reader("a", ".a"))
    assert found.reader_for_suffix("x.b") is None
    found.register(reader("b", ".b", in_folders=True))
    assert found.reader_for_suffix("x.b").name == "b"
    assert found.reader_for_suffix("x.b", in_folders=True).name == "b"


def test_the_origin_of_a_declaration_is_known():
    given = reader("mine")
    found = registry(reader("a"))
    assert str(found.origin(reader("a"))) == "dist-0 1.0 (a)"
    assert str(found.origin(given)) == "(given) (mine)"
    found.register(given)
    assert str(found.origin(given)) == "(registered) (mine)"


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        (reader("x", "mat"), "suffix 'mat' would match no name"),
        (reader("x", ".MAT"), "lower case"),
        (ReaderPlugin(name="x", summary="", factory="a:b", suffixes=".mat"), "tuple of texts"),  # type: ignore[arg-type]
        (reader("x", magic=((0, "text"),)), "magic must be a tuple of pairs"),
        (reader("x", recognize=5), "recognize must be a callable or text"),
        (reader("x", magic=(b"MAT",)), "magic must be a tuple of pairs"),
        (reader("x", magic=((-1, b"MAT"),)), "magic must be a tuple of pairs"),
        (reader("x", magic=((0, b""),)), "magic must be a tuple of pairs"),
        (reader(""), "name must be a short text"),
        (reader("x", factory=None), "factory must be a callable or text"),
        (reader("x", factory="pkg.Reader"), "write 'pkg:Reader', with a colon"),
        (reader("x", factory="pkg"), "is not of the form"),
        (TransportPlugin(name="x", summary="", schemes="s3", factory="a:b"), "must be a tuple"),  # type: ignore[arg-type]
        (ReaderPlugin(name="x", summary="", factory="a:b", reads="files"), "reads must be 'file'"),  # type: ignore[arg-type]
    ],
)
def test_an_invalid_declaration_is_refused(declaration, message):
    with pytest.raises(PluginError, match=message):
        registry().register(declaration)


def test_a_factory_is_a_callable_or_its_name():
    assert resolve_factory(reader("x", factory=list)) is list
    assert resolve_factory(reader("x", factory="collections:OrderedDict")).__name__ == "OrderedDict"


@pytest.mark.parametrize(
    ("factory", "error", "message"),
    [
        (
            "no_such_package.reader:R",
            MissingDependencyError,
            "needs the module 'no_such_package': install the package that provides it",
        ),
        (
            "tests.suport.workers:Lines",
            PluginError,
            "module 'tests.suport', which the package 'tests' does not have: .* mean 'tests.support'",
        ),
        (
            "tests.support.wrokers:Lines",
            PluginError,
            "does not have: did you mean 'tests.support.workers'",
        ),
        (
            "tests.support.workers:Line",
            PluginError,
            "'Line', which the module .* does not have: did you mean 'tests.support.workers:Lines'",
        ),
        ("tests.support.workers.Lines", PluginError, "'tests.support.workers:Lines', with a colon"),
        ("tests.support.workers:Lines:x", PluginError, "not of the form 'package.module:Reader'"),
        ("collections:NoSuch", PluginError, "'collections:NoSuch', the factory of 'x'.*NoSuch"),
        ("collections", PluginError, "'collections', the factory of 'x'"),
        ("", PluginError, "'', the factory of 'x'"),
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
