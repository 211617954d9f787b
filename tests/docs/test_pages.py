"""docs/: its examples run as they stand, and its reference lacks nothing."""

from __future__ import annotations

import importlib
import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import ipfs_dataset_core
from ipfs_dataset import load
from ipfs_dataset.cli import COMMANDS
from ipfs_dataset_core import errors
from ipfs_dataset_core.interfaces import ExporterPlugin, ReaderPlugin, TransportPlugin, hookspecs
from ipfs_dataset_core.options import VARIABLES
from ipfs_dataset_core.registry.discovery import HOOKS
from ipfs_dataset_core.registry.lookup import Registry, resolve_factory
from tests.docs.conftest import (
    API,
    INDEX,
    RECORDS,
    RECORDS_CID,
    SAMPLES_CID,
    SHARDS_CID,
    samples_archive,
    webdataset_shards,
)
from tests.support.builders import one_file, tree
from tests.support.markdown import blocks, run_python

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
REFERENCE = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))


TABLES = runpy.run_path(str(DOCS / "tables.py"))["SUBSTITUTIONS"]


# The blocks of format-plugin are files of a project: see test_format_plugin.
EXAMPLES = [p for p in PAGES if blocks(p, "python") and p.stem != "format-plugin"]


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.stem)
def test_examples_run_as_written(page, place, replacements, workplace):
    if page.stem == "come-from-another-library":
        replacements[SHARDS_CID] = place.folder(webdataset_shards(page))
    names = run_python(page, replacements)
    if page.stem == "work-in-notebooks":
        # The page shows what a notebook shows of the dataset, with a CID that is cut short.
        (shown,) = blocks(page, "text")
        size, _, _ = shown.code.partition(", bafy")
        names["dataset"].close()
        assert repr(load(names["cid"], replacements[API])).startswith(f"{size}, {names['cid']}")
    if page.stem == "add-a-format":
        assert Path("four.cifar").read_bytes() == RECORDS
        assert str(one_file(RECORDS)[0]) == RECORDS_CID


def test_the_shards_that_the_page_makes_have_the_cid_that_it_names(workplace):
    page = DOCS / "how-to" / "come-from-another-library.md"
    cid, _ = tree(webdataset_shards(page))
    text = page.read_text(encoding="utf-8")
    assert f"prints {SHARDS_CID}\n" in text
    assert set(re.findall(r"bafy\w+", text)) == {SHARDS_CID}
    assert str(cid) == SHARDS_CID


def test_the_archive_of_the_examples_has_the_cid_that_the_pages_name(tmp_path):
    cid, _ = one_file(samples_archive(tmp_path / "samples.zip"))
    assert f"prints {cid}\n" in INDEX.read_text(encoding="utf-8")
    assert str(cid) == SAMPLES_CID
    naming = [page for page in PAGES if SAMPLES_CID in page.read_text(encoding="utf-8")]
    assert len(naming) >= 8
    for page in (page for page in naming if page.parent.name == "how-to"):
        assert "](../index.md#to-run-the-examples)" in page.read_text(encoding="utf-8")


def test_modules_and_classes_that_the_explanations_name_exist():
    folders = (ROOT / "ipfs_dataset_core", ROOT / "plugins" / "ipfs_dataset_plugins")
    packages = {path.name for folder in folders for path in folder.iterdir() if path.is_dir()}
    module = re.compile(rf"(?:^|[\s`])((?:{'|'.join(sorted(packages))})[./][a-z_]+)", re.MULTILINE)
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in sources)
    named, missing = 0, []
    for page in sorted((DOCS / "explanation").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for name in module.findall(text):
            parts = name.replace("/", ".").split(".")
            paths = [folder.joinpath(*parts) for folder in folders]
            found = any(path.is_dir() or path.with_suffix(".py").is_file() for path in paths)
            missing += [] if found else [(page.stem, name)]
            named += 1
        for name in re.findall(r"`([A-Z][a-z]+[A-Z]\w+)`", text):
            found = f"class {name}" in code or name.endswith("DataLoader")
            missing += [] if found else [(page.stem, name)]
    assert missing == []
    assert named > 20


def test_pages_that_should_have_examples_have_them():
    with_examples = {path.stem for path in PAGES if blocks(path, "python")}
    assert with_examples >= {"first-dataset", *(p.stem for p in (DOCS / "how-to").glob("*.md"))}


@pytest.mark.slow
@pytest.mark.parametrize("page", ["add-a-format", "add-a-transport", "add-an-exporter"])
@pytest.mark.parametrize("place", ["store"], indirect=True)
def test_the_plugins_of_the_how_to_pages_pass_the_contract_tests_there(
    page, replacements, workplace
):
    path = DOCS / "how-to" / f"{page}.md"
    code = "\n".join(block.substituted(replacements).code for block in blocks(path, "python"))
    # A module that can be imported, for the contracts pickle what is in it.
    (workplace / "test_page.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_page.py"],
        cwd=workplace,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b\d+ passed", done.stdout)


CONTRIB = sorted((ROOT / "contrib").glob("*/pyproject.toml"))


@pytest.mark.parametrize("project", CONTRIB, ids=lambda path: path.parent.name)
def test_every_contributed_distribution_has_a_page_with_its_formats_and_their_options(project):
    page = DOCS / "formats" / f"{project.parent.name.removeprefix('ipfs-dataset-')}.md"
    text = page.read_text(encoding="utf-8")
    readme = f"../../contrib/{project.parent.name}/README.md"
    assert f"{{include}} {readme}" in text
    text += (page.parent / readme).read_text(encoding="utf-8")
    index = (DOCS / "formats" / "index.md").read_text(encoding="utf-8")
    assert f"]({page.name})" in index
    declared = [
        item
        for item, origin in Registry().all(ReaderPlugin)
        if origin.distribution == project.parent.name
    ]
    for plugin in declared:
        assert f"| `{plugin.name}` |" in text
        kind = type(resolve_factory(plugin)())
        # Of the base, which takes anything, a class without options has the method.
        options = inspect.signature(kind.__init__).parameters if _has_options(kind) else {}
        for option in [name for name in options if name != "self"]:
            assert re.search(rf"{kind.__name__}\([^`]*\b{option}\b", text), option
    if declared:
        assert blocks(page, "python")


def _has_options(kind):
    return kind.__init__ is not object.__init__


def test_no_page_or_template_needs_a_newer_pip_than_that_of_python_3_11():
    templates = ROOT / "ipfs_dataset" / "cli" / "scaffolding"
    pages = [ROOT / "README.md", *PAGES, *(ROOT / "contrib").rglob("*.md")]
    shown = [*pages, *templates.rglob("*.tmpl"), ROOT / "ipfs_dataset" / "cli" / "new_plugin.py"]
    assert len(shown) > 30
    newer = re.compile(r"pip install[^\n]*--(?:group|dependency-group)")
    assert [path for path in shown if newer.search(path.read_text(encoding="utf-8"))] == []


def test_error_classes_are_all_in_the_reference():
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, (errors.IPFSDatasetError, errors.IPFSDatasetWarning))
    }
    listed = set(re.findall(r"autoexception:: ipfs_dataset_core\.(\w+)", REFERENCE))
    assert listed == classes


def test_hooks_are_all_in_the_reference_with_their_contracts():
    listed = set(
        re.findall(r"autofunction:: ipfs_dataset_core\.interfaces\.hookspecs\.(\w+)", REFERENCE)
    )
    assert listed == set(HOOKS)
    assert all(getattr(hookspecs, hook).__doc__ for hook in HOOKS)


def test_all_names_for_plugins_are_in_the_reference():
    named = r"(?:auto(?:class|function|exception|module)|py:class|py:data):: ([\w.]+)"
    listed = {name.rpartition(".")[2] for name in re.findall(named, REFERENCE)}
    assert set(ipfs_dataset_core.__all__) - listed == set()


def test_names_in_the_reference_exist():
    named = re.findall(r"auto(?:class|function|exception):: ([\w.]+)", REFERENCE)
    assert len(named) > 40
    for name in named:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_generated_tables_have_every_plugin_option_and_command():
    registry = Registry()
    for table, declared in (
        ("formats", registry.all(ReaderPlugin)),
        ("transports", registry.all(TransportPlugin)),
        ("exporters", registry.all(ExporterPlugin)),
    ):
        ours = [item.name for item, origin in declared if origin.distribution == "ipfs-dataset"]
        assert ours
        assert [name for name in ours if f"| `{name}` |" not in TABLES[table]] == []
    assert [name for name in VARIABLES.values() if name not in TABLES["options"]] == []
    assert TABLES["commands"].count("usage: ipfs-dataset") == 1 + len(COMMANDS)


def test_every_generated_table_is_on_a_page():
    used = re.findall(r"\{\{ (\w+) \}\}", REFERENCE)
    assert sorted(used) == sorted(TABLES)


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="the group `docs` is not installed")
    done = subprocess.run(
        [sys.executable, DOCS / "build.py", tmp_path / "site"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "reference" / "errors.html").is_file()
