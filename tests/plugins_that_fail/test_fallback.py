"""A plugin that cannot be loaded changes the type of no data unseen: bytes come with a visible warning."""

from __future__ import annotations

import json

import pytest

from tests.support.distributions import Site
from tests.support.stores import Store

pytestmark = pytest.mark.slow

PROGRAM = """
import json, warnings
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from ipfs_dataset_core import PluginWarning

FILE, FOLDER, PLAIN_FOLDER, STORE = {arguments!r}

def attempt(obj, kind=IPFSDataset):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            found = [type(value).__name__ for _, value in kind(obj, STORE)]
        except Exception as error:
            found = [type(error).__name__, str(error)]
    return [found, [str(w.message) for w in caught if w.category is PluginWarning]]

results = {{
    "by name": attempt(IPFSObject(FILE, "spectra")),
    "said to be plain": attempt(IPFSObject(FILE, "plain")),
    "without suffixes": attempt(IPFSObject(PLAIN_FOLDER)),
    "as an error": None,
}}
with warnings.catch_warnings():
    warnings.simplefilter("error", PluginWarning)
    try:
        list(IPFSIterableDataset(FILE, STORE))
    except PluginWarning as warning:
        results["as an error"] = str(warning)
results["folder"] = attempt(IPFSObject(FOLDER))
results["again"] = attempt(IPFSObject(FILE))
print(json.dumps(results))
"""
BROKEN = "from json import no_such_name"
FILES = {"a.bin": b"1", "r1.spx": b"2"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store") / "blocks")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    found = Site(tmp_path_factory.mktemp("site"))
    found.install("acme-spectra", BROKEN, version="1.2", points={"spectra": "acme_spectra"})
    return found


@pytest.fixture(scope="module")
def results(store, site):
    folder = store.tree(FILES)
    without = store.tree({"a": b"1", "b": b"2"})
    arguments = f"{folder}/r1.spx", folder, without, store.address
    return json.loads(site.run(PROGRAM.format(arguments=arguments)))


WHO = "plugin acme-spectra 1.2 (spectra)"
CURE = (
    "Update it with: pip install -U acme-spectra, or leave it out with IPFS_DATASET_DISABLE_PLUGINS"
)


def test_a_folders_members_are_bytes_with_a_warning_that_names_plugin_reason_and_remedy(results):
    found, [warning] = results["folder"]
    assert found == ["bytes", "bytes"]
    for words in (
        WHO,
        "ImportError: cannot import name 'no_such_name'",
        CURE,
        "in folder",
        "'.bin'",
    ):
        assert words in warning


def test_the_same_cause_is_said_once(results):
    assert results["again"] == [["bytes"], []]


def test_with_the_warning_as_an_error_a_file_is_not_read(results):
    assert WHO in results["as an error"]
    assert "r1.spx" in results["as an error"]


def test_whoever_says_plain_is_not_warned(results):
    assert results["said to be plain"] == [["bytes"], []]


def test_members_that_no_plugin_could_claim_are_no_reason_to_warn(results):
    assert results["without suffixes"] == [["bytes", "bytes"], []]


def test_asked_for_by_name_it_raises_with_the_plugins_own_reason(results):
    (kind, message), _ = results["by name"]
    assert kind == "UnknownPluginError"
    assert f"Unknown format 'spectra'. P{WHO[1:]} could not be loaded: ImportError" in message


def test_the_warning_is_on_standard_error_without_any_setting(store, site):
    file = store.tree(FILES) + "/r1.spx"
    code = f"""
        import sys
        sys.stderr = sys.stdout
        from ipfs_dataset.ipfs_dataset import IPFSIterableDataset
        print(list(IPFSIterableDataset({file!r}, {store.address!r})))
    """
    out = site.run(code)
    assert f"PluginWarning: {file!r} is read as plain bytes" in out.replace("ipfs://", "")
    assert WHO in out
    assert WHO not in site.run(code, IPFS_DATASET_DISABLE_PLUGINS="acme-spectra")
