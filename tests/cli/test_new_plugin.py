"""A new plugin's project is what its author needs: installed, listed, read with, tested and checked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset.cli import main, new_plugin
from ipfs_dataset.cli.scaffolding import KINDS, PluginName, project_files, write_project
from ipfs_dataset.cli.scaffolding.project import requirement
from ipfs_dataset_core.errors import PluginConflictError, PluginError
from ipfs_dataset_core.interfaces import ReaderPlugin
from ipfs_dataset_core.registry.discovery import Discovery, Loaded
from ipfs_dataset_core.registry.provenance import Failure, Origin
from tests.support.places import NodePlace, StorePlace
from tests.support.plugin_projects import install

ROOT = Path(__file__).parents[2]
NOTHING = Discovery((), ())
LONGEST = "a-name-of-thirty-characters-xx"


def discovered(name, **fields):
    plugin = ReaderPlugin(name=name, summary="", factory="a:B", **fields)
    return Discovery((Loaded(plugin, Origin("somebody", "1.0", "point")),), ())


@pytest.fixture(scope="module", params=KINDS)
def installed(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("new")
    project = folder / "project"
    arguments = ["new-plugin", "Sensor.Log", "--kind", request.param, "--directory", str(project)]
    assert main(arguments) == 0
    return install(project, folder / "target")


@pytest.fixture(params=["store", pytest.param("kubo", marks=pytest.mark.kubo)])
def place(request, tmp_path):
    if request.param == "kubo":
        yield NodePlace(request.getfixturevalue("kubo"), tmp_path / "added")
    else:
        with StorePlace(tmp_path / "store") as store:
            yield store


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_is_listed_and_its_own_tests_pass(installed):
    listed = json.loads(installed.run("-m", "ipfs_dataset", "plugins", "--json"))
    (found,) = (p for p in listed["plugins"] if p["distribution"] == "ipfs-dataset-sensor-log")
    assert found["name"] == "sensor_log"
    assert listed["failures"] == []
    (metadata,) = installed.target.glob("*.dist-info/METADATA")
    assert {"Provides-Extra: test", "Provides-Extra: lint"} <= set(
        metadata.read_text().splitlines()
    )
    said = installed.run("-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert " passed" in said
    assert " failed" not in said


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("installed", ["reader"], indirect=True)
def test_its_format_streams_through_workers_of_a_new_process(installed, place, tmp_path):
    magic = b"\x89sensor_log\n"
    records = [bytes([number]) * 5000 for number in range(200)]
    cid = place.file(magic + (5000).to_bytes(4, "little") + b"".join(records))
    script = tmp_path / "train.py"
    script.write_text(READING)
    said = installed.run(script, f"ipfs://{cid}", place.address, cwd=tmp_path)
    by_number, in_order = map(json.loads, said.splitlines())
    assert by_number == in_order == [[number, 5000] for number in range(200)]


READING = """
import json
import multiprocessing
import sys

from torch.utils.data import DataLoader

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset


def facts(batch):
    return [[int(name.rpartition(":")[2]), data.count(data[:1])] for name, data in batch]


if __name__ == "__main__":
    url, address = sys.argv[1:]
    # The workers start with PyTorch, and import all else anew, as spawned ones do.
    multiprocessing.set_forkserver_preload(["torch"])
    for kind in (IPFSDataset, IPFSIterableDataset):
        loader = DataLoader(kind(url, address), batch_size=16, num_workers=2, collate_fn=facts,
                            multiprocessing_context="forkserver")
        print(json.dumps(sorted(fact for batch in loader for fact in batch)))
"""


@pytest.fixture
def projects(tmp_path):
    """One project of each kind and of the shortest and longest name, by kind and name."""
    found = {(kind, name): tmp_path / kind / name for kind in KINDS for name in ("x", LONGEST)}
    for (kind, name), project in found.items():
        project.parent.mkdir(exist_ok=True)
        write_project(project, project_files(PluginName.parse(name), kind))
    return found


def check(project, *arguments):
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "plugins")))
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=project,
        env={**os.environ, "MYPYPATH": paths},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_passes_its_own_style_checks(projects):
    pytest.importorskip("ruff", reason="the group `lint` is not installed")
    for project in projects.values():
        check(project, "ruff", "check", "--no-cache", ".")
        check(project, "ruff", "format", "--no-cache", "--check", ".")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_passes_its_own_type_checks(projects, tmp_path):
    pytest.importorskip("mypy", reason="the group `lint` is not installed")
    for kind in KINDS:
        check(projects[kind, LONGEST], "mypy", "--cache-dir", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_place_of_a_template_is_filled(kind):
    files = project_files(PluginName.parse("sensor-log"), kind)
    assert {"pyproject.toml", "README.md", ".gitignore", "tests/test_contract.py"} <= set(files)
    assert {
        f"src/ipfs_dataset_sensor_log/{f}" for f in ("__init__.py", f"{kind}.py", "py.typed")
    } <= set(files)
    assert [path for path, text in files.items() if "__package__" in path or "${" in text] == []


@pytest.mark.parametrize(
    ("kind", "point"),
    [
        ("reader", 'sensor_log = "ipfs_dataset_sensor_log"'),
        ("transport", 'sensor-log = "ipfs_dataset_sensor_log.transport:SqliteTransport"'),
        ("exporter", 'sensor_log = "ipfs_dataset_sensor_log.exporter:JsonLinesExporter"'),
    ],
)
def test_its_entry_point_has_the_name_that_users_write(kind, point):
    project = project_files(PluginName.parse("sensor-log"), kind)["pyproject.toml"]
    assert f"\n[project.entry-points.ipfs_dataset]\n{point}\n" in project


def test_the_command_offers_every_kind():
    assert new_plugin.KINDS == KINDS


def test_an_unknown_kind_is_refused():
    with pytest.raises(PluginError, match="'codec' is not a kind of plugin: give one of reader"):
        project_files(PluginName.parse("x"), "codec")


@pytest.mark.parametrize(
    ("version", "wanted"),
    [("0.1.0", ">=0.1,<0.2"), ("0.12.dev3", ">=0.12,<0.13"), ("2.3.1", ">=2.3,<3")],
)
def test_it_depends_on_the_versions_that_keep_its_interface(version, wanted):
    assert requirement(version) == f"ipfs-dataset{wanted}"


@given(text=st.text(max_size=40) | st.from_regex(r"[a-zA-Z0-9._-]{1,32}", fullmatch=True))
def test_any_text_is_a_valid_name_or_refused(text):
    try:
        name = PluginName.parse(text)
    except PluginError as error:
        assert repr(text) in str(error)  # noqa: PT017 - any text
    else:
        assert name.package.isidentifier()
        assert name.name.isidentifier()
        assert PluginName.parse(name.distribution) == name


@pytest.mark.parametrize("text", ["-", "1x", "class", "a b", "a/b", "..", "größe", "x" * 31])
def test_names_that_are_invalid_for_packages_are_refused(text, capsys):
    assert main(["new-plugin", "--", text]) == 1
    assert repr(text) in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["zip", "ZIP", "ipfs-dataset-tar", "plain.stream", "gateway", "core"]
)
def test_names_of_existing_plugins_are_refused(text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", text]) == 1
    assert "choose another name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_named_after_the_distribution(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", "Sensor_Log", "--kind", "transport"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["ipfs-dataset-sensor-log"]
    assert "src/ipfs_dataset_sensor_log/transport.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    "discovery",
    [
        discovered("sensor_log"),
        discovered("other", suffixes=(".sensorlog",)),
        Discovery((), (Failure(Origin("somebody", "1.0", "sensor_log"), "ImportError: x"),)),
    ],
)
def test_the_error_of_a_taken_name_names_its_owner(discovery):
    with pytest.raises(PluginConflictError, match=r"is taken by somebody 1\.0"):
        PluginName.parse("sensor-log").check_free(discovery)
    PluginName.parse("another").check_free(discovery)


def test_the_name_of_an_installed_distribution_is_refused():
    with pytest.raises(PluginConflictError, match=r"'ipfs-dataset-core' is installed already"):
        PluginName.parse("core").check_free(NOTHING)


def test_existing_files_are_not_overwritten(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    for name in ("full", "file", "link", "no/such/parent"):
        with pytest.raises(PluginError, match=r"--directory"):
            write_project(tmp_path / name, {"a": "text", "b/c": "text"})
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_folder_is_filled_and_stays_itself(tmp_path):
    inode = tmp_path.stat().st_ino
    write_project(tmp_path, {"a": "text", "b/c": "more"})
    assert tmp_path.stat().st_ino == inode
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    assert (tmp_path / "b" / "c").read_text() == "more"


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("failing", ["write_text", "rename"])
def test_a_failure_leaves_no_partial_files(tmp_path, monkeypatch, exists, failing):
    folder = tmp_path / "project"
    if exists:
        folder.mkdir()
    real, calls = getattr(Path, failing), []

    def full_disk(self, *arguments, **options):
        calls.append(self)
        if len(calls) == (2 if exists or failing == "write_text" else 1):
            raise OSError(28, "No space left on device")
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, failing, full_disk)
    with pytest.raises(PluginError, match=r"'.*project': No space left on device"):
        write_project(folder, {"a": "text", "b/c": "text", "d": "text"})
    monkeypatch.undo()
    assert list(tmp_path.rglob("*")) == ([folder] if exists else [])


def test_the_folder_has_the_permissions_of_any_new_folder(tmp_path):
    write_project(tmp_path / "project", {"a": "text"})
    (tmp_path / "other").mkdir()
    assert (tmp_path / "project").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_the_templates_are_in_the_wheel(tmp_path):
    for name in (
        "ipfs_dataset",
        "ipfs_dataset_core",
        "plugins",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    ):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    found = install(tmp_path, tmp_path / "target").target
    kinds = {path.name for path in (found / "ipfs_dataset/cli/scaffolding/templates").iterdir()}
    assert kinds == {"common", *KINDS}
    assert list(found.rglob(".gitignore.tmpl"))


def test_the_written_files_are_printed_as_json(tmp_path, capsys):
    folder = tmp_path / "new"
    assert main(["new-plugin", "sensor-log", "--directory", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == str(folder)
    assert found["kind"] == "reader"
    assert (folder / found["source"]).is_file()
    assert all((folder / name).is_file() for name in found["files"])
