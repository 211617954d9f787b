"""Arrows point down only: façade to core, plugins to the core's public names, the core to nothing."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ipfs_dataset
import ipfs_dataset_core
from ipfs_dataset_core import ipld
from tests.architecture.source_tree import ROOT, imports, modules, parsed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CORE = "ipfs_dataset_core"
PLUGINS = "ipfs_dataset_plugins"
FACADE = "ipfs_dataset"
# From the lowest up; docs/explanation/layers.md draws them.
FLOORS = (
    "errors", "runtime", "ipld", "addressing", "options", "order", "interfaces",
    "toolkit", "registry", "sources", "reading", "datasets", "publishing", "testing",
)  # fmt: skip
CONTRIB = {
    path.parent.name: str(path.parent.parent.relative_to(ROOT))
    for path in ROOT.glob("contrib/*/src/*/__init__.py")
}
OUTSIDE_WORLD = (
    "asyncio", "ftplib", "glob", "http", "logging", "mmap", "multiprocessing", "numpy", "os",
    "pathlib", "random", "requests", "secrets", "select", "shutil", "socket", "socketserver",
    "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "torch", "urllib",
)  # fmt: skip
HEAVY = (
    "torch", "numpy", "PIL", "scipy", "h5py", "pandas", "pyarrow", "certifi", "requests", "urllib3",
)  # fmt: skip
PURE_FUNCTIONS_ONLY = {"open", "print", "input", "exec", "eval"}


def every_import(*folders):
    found = [one for path in modules(*folders) for one in imports(path)]
    assert found, f"there is nothing in {folders}"
    return found


def violations(found, allowed):
    return [str(one) for one in found if not allowed(one)]


def the_facade():
    """Returns the modules that users import, without the command line and what it is built on."""
    others = {"cli", "operations", "__main__.py"}
    return [p for p in modules(FACADE) if not others & {*p.relative_to(ROOT).parts}]


def test_the_facade_builds_on_the_core_alone():
    ours = [one for path in the_facade() for one in imports(path)]
    ours = [one for one in ours if not one.is_of("__future__", "typing", "importlib")]
    assert violations(ours, lambda one: one.is_of(CORE, FACADE)) == []


def test_operations_do_not_import_the_command_line():
    ours = every_import(f"{FACADE}/operations")
    assert violations(ours, lambda one: not one.is_of(f"{FACADE}.cli")) == []


def test_the_facade_only_re_exports():
    nodes = [(path.name, node) for path in the_facade() for node in ast.walk(parsed(path))]
    defining = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = {node.name for _, node in nodes if isinstance(node, defining)}
    assert defined == {"__getattr__", "__dir__"}, "those of lazy imports are all that is allowed"


def package_of(module):
    """Returns the package of the core that a module is in: its floor."""
    return module.split(".")[1] if module.count(".") else "__init__"


def imported_modules(path):
    """Yields the modules that a file of the core imports, submodules by their own name."""
    for one in imports(path):
        if one.is_of(CORE):
            yield from ((one, module) for module in modules_of(one, ROOT))


def modules_of(one, top):
    """Returns the modules that an import names; `top` is the folder that its package is in."""
    folder = top.joinpath(*one.module.split("."))
    names = [n for n in one.names if (folder / n).is_dir() or (folder / f"{n}.py").is_file()]
    return [f"{one.module}.{name}" for name in names] or [one.module]


def name_of(path, top=ROOT):
    return ".".join(path.relative_to(top).with_suffix("").parts).removesuffix(".__init__")


def test_the_packages_of_the_core_import_only_from_layers_below_their_own():
    found = []
    for path in modules(CORE):
        parts = path.relative_to(ROOT / CORE).with_suffix("").parts
        if parts == ("__init__",):
            continue  # the public names, from every floor
        for one, module in imported_modules(path):
            floor, below = FLOORS.index(parts[0]), FLOORS.index(package_of(module))
            if below > floor or (below == floor and len(parts) == 1):
                found.append(str(one))
    assert found == []


def test_the_table_in_the_documentation_is_that_of_the_code():
    page = (ROOT / "docs" / "explanation" / "layers.md").read_text(encoding="utf-8")
    table = page.split("## The packages of the core")[1].split("## ")[0]
    written = {
        name: {other for other in others.split(", ") if other}
        for name, others in re.findall(
            r"^\| `(\w+)` \|.*\|\s*([\w, ]*?)\s*\|$", table, re.MULTILINE
        )
    }
    found: dict[str, set[str]] = {floor: set() for floor in FLOORS}
    for path in modules(CORE):
        floor = path.relative_to(ROOT / CORE).with_suffix("").parts[0]
        if floor != "__init__":
            found[floor] |= {package_of(module) for _, module in imported_modules(path)} - {floor}
    assert written == found
    assert list(written) == list(reversed(FLOORS))


@pytest.mark.parametrize("folder", [CORE, FACADE, f"plugins/{PLUGINS}", *CONTRIB.values()])
def test_no_module_is_in_a_circle(folder):
    """Also not by imports for type checking or within functions: a reader would go round in it."""
    top = (ROOT / folder) if folder in CONTRIB.values() else (ROOT / folder).parent
    above = {
        name_of(path, top): {module for one in imports(path) for module in modules_of(one, top)}
        - {name_of(path, top)}
        for path in modules(folder)
    }
    graph = TopologicalSorter(above)
    graph.prepare()  # raises CycleError, which names the modules


def test_every_package_of_the_core_has_a_layer():
    there = {
        path.stem for path in (ROOT / CORE).iterdir() if path.stem not in ("py", "__pycache__")
    }
    assert there - {"__init__"} == set(FLOORS)


def test_the_core_imports_nothing_above_it():
    above = (FACADE, PLUGINS, "plugins", "tests", *CONTRIB)
    assert violations(every_import(CORE), lambda one: not one.is_of(*above)) == []


@pytest.mark.parametrize("folder", ["plugins", *CONTRIB.values()])
def test_plugins_import_only_public_names_of_the_core(folder):
    public = {CORE: set(ipfs_dataset_core.__all__), f"{CORE}.ipld": set(ipld.__all__)}

    def allowed(one):
        return one.names and set(one.names) <= public.get(one.module, set())

    of_core = [one for one in every_import(folder) if one.is_of(CORE)]
    assert violations(of_core, allowed) == []


def test_plugins_import_neither_the_facade_nor_other_distributions():
    others = (FACADE, "tests", *CONTRIB)
    assert violations(every_import("plugins"), lambda one: not one.is_of(*others)) == []


def test_ipld_imports_only_itself_and_the_errors():
    ours = [one for one in every_import(f"{CORE}/ipld") if one.is_of(CORE)]
    allowed = (f"{CORE}.ipld", f"{CORE}.errors")
    assert violations(ours, lambda one: one.is_of(*allowed)) == []


def test_ipld_does_no_input_or_output():
    found = every_import(f"{CORE}/ipld")
    assert violations(found, lambda one: not one.is_of(*OUTSIDE_WORLD)) == []
    for path in modules(f"{CORE}/ipld"):
        calls = [node.func for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        assert not names & PURE_FUNCTIONS_ONLY, path


@pytest.mark.parametrize(
    "program",
    [
        "import ipfs_dataset_core",
        "import ipfs_dataset.cli, ipfs_dataset",
        "from ipfs_dataset.cli import main; main(['plugins'])",
        "import ipfs_dataset_plugins.api.transport, ipfs_dataset_plugins.routing.transport",
    ],
)
def test_discovery_imports_nothing_heavy(program):
    ending = f"""
import atexit, sys
atexit.register(lambda: print("HEAVY", sorted(set(sys.modules) & set({HEAVY!r}))))
{program}
"""
    done = subprocess.run(
        [sys.executable, "-c", ending], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize("face", [ipfs_dataset, ipfs_dataset_core, ipld])
def test_every_public_name_is_there(face):
    assert [name for name in face.__all__ if not hasattr(face, name)] == []
    assert len(set(face.__all__)) == len(face.__all__)


@pytest.mark.parametrize("face", [ipfs_dataset, ipfs_dataset_core])
def test_type_checkers_and_run_time_have_the_same_names(face):
    """They cannot follow an import at first use, so the names are written for them as well."""
    [block] = [
        node
        for node in parsed(Path(face.__file__)).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    there = {name: f"{module}.{name}" for name, module in face._MODULE_OF.items()}
    assert seen == there


@pytest.mark.parametrize("group", ["ipfs_dataset", "console_scripts"])
def test_installed_entry_points_are_those_of_pyproject(group):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    written = {"console_scripts": project["scripts"], **project["entry-points"]}[group]
    distribution = importlib.metadata.distribution("ipfs-dataset")
    installed = {point.name: point.value for point in distribution.entry_points.select(group=group)}
    assert installed == written, "pyproject.toml has changed since: run make again"
