"""Installed plugins that are broken: each is named, with its version and what to do, and harms no other."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.distributions import Site

GOOD = """
from ipfs_dataset_core import ReaderPlugin, hookimpl

@hookimpl
def ipfs_dataset_readers():
    return [ReaderPlugin(name={name!r}, summary="", factory="a:B", suffixes=({name!r}.join([".", ""]),))]
"""
HOOK = """
from ipfs_dataset_core import ReaderPlugin, hookimpl

@hookimpl
def {hook}({arguments}):
    {body}
"""


def hook(body, name="ipfs_dataset_readers", arguments=""):
    return HOOK.format(hook=name, arguments=arguments, body=body)


CURE = "Update it with: pip install -U {0}, or leave it out with IPFS_DATASET_DISABLE_PLUGINS={0}"
BROKEN = {
    "import-error": ("from json import no_such_name", "ImportError: cannot import name"),
    "syntax-error": ("def broken(:\n", "SyntaxError: invalid syntax"),
    "exits": ("import sys\nsys.exit('no licence')", "SystemExit: no licence"),
    "raises": ("1 / 0", "ZeroDivisionError: division by zero"),
    "no-message": (
        "class E(Exception):\n    __str__ = None\nraise E()",
        r"^E \(in no_message.<module>, line 3\)\. ",
    ),
    "wrong-arguments": (hook("return []", arguments="config"), r"Argument\(s\) {'config'}"),
    "misspelt": (
        hook("return []", "ipfs_dataset_raeders"),
        "no hook 'ipfs_dataset_raeders', did you mean 'ipfs_dataset_readers'?",
    ),
    "no-hook": ("x = 1", "implements none of the hooks"),
    "returns-none": (hook("pass"), "must return a list of ReaderPlugin, not None"),
    "wrong-type": (hook("return ['lines']"), r"list of ReaderPlugin, not \['lines'\]"),
    "hook-raises": (hook("raise KeyError('x')"), "KeyError: 'x'"),
    "hook-exits": (hook("raise SystemExit(3)"), "SystemExit: 3"),
    "suffix-as-text": (
        hook("return [ReaderPlugin(name='x', summary='', factory='a:b', suffixes='.mat')]"),
        "'x': suffixes must be a tuple of texts",
    ),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    found = Site(tmp_path_factory.mktemp("site"))
    for name, (code, _) in BROKEN.items():
        found.install(name, code, version="2.5")
    found.install("needs-more", "import no_such_library.linalg", version="2.5")
    found.install("too-old", "raise AssertionError('imported')", requires=["ipfs-dataset<0.1"])
    found.install("too-new", "raise AssertionError('imported')", requires=["IPFS.dataset (>=7)"])
    found.install("Good.One", "print('no JSON')\n" + GOOD.format(name="good"))
    found.install("lines-one", GOOD.format(name="lines"))
    found.install("lines-two", GOOD.format(name="lines"))
    odd = found.folder / "no_metadata-1.0.dist-info"
    odd.mkdir()
    (odd / "entry_points.txt").write_text("[ipfs_dataset]\nodd = no_such_module\n")
    return found


@pytest.fixture(scope="module")
def report(site):
    return json.loads(site.call("-m", "ipfs_dataset", "plugins", "--json", status=1))


@pytest.fixture
def failures(report):
    return {item["distribution"]: item for item in report["failures"]}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_named_with_its_version_the_reason_and_what_to_do(failures, name):
    failure = failures[name]
    assert failure["version"] == "2.5"
    assert re.search(BROKEN[name][1], failure["reason"]), failure["reason"]
    assert failure["reason"].endswith(CURE.format(name))
    assert "Traceback" in failure["traceback"]


def test_a_missing_dependency_is_named_with_what_brings_it(failures):
    assert failures["needs-more"]["reason"] == (
        "ModuleNotFoundError: No module named 'no_such_library'. It needs 'no_such_library', which comes "
        "with: pip install -U needs-more"
    )


@pytest.mark.parametrize(
    ("name", "requirement"), [("too-old", "ipfs-dataset<0.1"), ("too-new", "IPFS.dataset (>=7)")]
)
def test_a_plugin_for_another_version_is_refused_unseen(failures, name, requirement):
    reason = failures[name]["reason"]
    assert f"it was built for {requirement}, but " in reason
    assert "is installed" in reason
    assert "imported" not in reason
    assert f"pip install -U {name}" in reason


def test_a_distribution_without_metadata_can_be_left_out_by_its_entry_point(failures):
    assert "No module named 'no_such_module'" in failures["(unknown)"]["reason"]


def test_none_of_them_harms_another(report):
    names = {plugin["name"] for plugin in report["plugins"]}
    assert {"good", "zip", "tar", "plain", "api", "store"} <= names
    assert len(report["failures"]) == len(BROKEN) + 4


def test_what_a_plugin_prints_is_not_in_what_the_command_prints(report, site):
    assert "good" in {plugin["name"] for plugin in report["plugins"]}  # it is JSON
    assert "no JSON" in site.run("import good_one")


def test_conflicts_are_listed_with_both(report):
    both = "lines-one 1.0 (lines-one) and lines-two 1.0 (lines-two) both claim"
    assert f"{both} the format 'lines'" in report["conflicts"][0]
    assert f"{both} the suffix '.lines'" in report["conflicts"][1]
    assert "IPFS_DATASET_DISABLE_PLUGINS" in report["conflicts"][0]


def test_verbose_shows_tracebacks_and_the_table_does_not(site):
    short = site.call("-m", "ipfs_dataset", "plugins", status=1)
    assert "failed: raises 2.5 (raises): ZeroDivisionError" in short
    assert "conflict: lines-one 1.0" in short
    assert "Traceback" not in short
    long = site.call("-m", "ipfs_dataset", "plugins", "--verbose", status=1)
    assert "raises.py" in long
    assert long.count("Traceback") >= len(BROKEN)


@pytest.mark.parametrize("listed", ["Good.One", "good_one", "GOOD-ONE", "lines-one, good-one"])
def test_distributions_are_left_out_however_their_name_is_written(site, listed):
    out = site.call("-m", "ipfs_dataset", "plugins", status=1, IPFS_DATASET_DISABLE_PLUGINS=listed)
    assert "disabled: Good.One 1.0 (Good.One)" in out
    assert "[.good]" not in out


def test_an_unknown_format_quotes_all_of_that(site):
    out = site.run(
        """
        from ipfs_dataset_core.registry.lookup import default_registry
        for name in ("matlab", "lines"):
            try:
                default_registry().reader(name)
            except (LookupError, ValueError) as error:
                print(type(error).__name__, error)
        """,
        IPFS_DATASET_DISABLE_PLUGINS="exits",
    )
    *_, unknown, conflict = out.splitlines()
    assert unknown.startswith("UnknownPluginError Unknown format 'matlab'. ")
    assert "Plugin raises 2.5 (raises) could not be loaded: ZeroDivisionError" in unknown
    assert "Plugin exits 2.5 (exits) is left out by IPFS_DATASET_DISABLE_PLUGINS." in unknown
    assert conflict.startswith("PluginConflictError lines-one 1.0 (lines-one) and lines-two")
