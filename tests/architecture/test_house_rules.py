"""Rules that no tool checks: sizes, errors that survive a process boundary, nothing of this machine."""

from __future__ import annotations

import ast
import os
import pickle
import pwd
import re
import statistics
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

import ipfs_dataset_core
from ipfs_dataset_core import errors
from tests.architecture.source_tree import ROOT, modules, parsed, shipped, tracked

MODULE_LINES = 300
# A test module follows its source; what it mirrors sets its length.
TEST_MODULE_LINES = 450
FUNCTION_LINES = 50
TYPICAL_MODULE = 100
TYPICAL_FUNCTION = 8
LONG_FUNCTION = 25

ERRORS = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.IPFSDatasetError)
]

# Put together here, so that this file does not name what it looks for.
REGISTRIES = [
    "".join(parts)
    for parts in (
        ("py", "pi.org"),
        ("python", "hosted.org"),
        ("npm", "js.org"),
        ("yarn", "pkg.com"),
        ("download.py", "torch.org"),
        ("proxy.go", "lang.org"),
        ("conda.ana", "conda.org"),
        ("static.crates", ".io"),
    )
]
MACHINE_PATH = re.compile(r"(?<![\w./:~-])/(?:root|work|farm|opt)/\w")


def everything():
    return [*shipped(), *modules("tests", "examples", "benchmarks", ".ci")]


def functions(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(parsed(path)) if isinstance(node, kinds)]


def length(function):
    """Returns the lines of a function, without its decorators and docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
    return lines


def lines_of(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_module_is_too_long():
    found = {str(path.relative_to(ROOT)): lines_of(path) for path in everything()}

    def allowed(name: str) -> int:
        return TEST_MODULE_LINES if name.startswith("tests/") else MODULE_LINES

    assert {name: lines for name, lines in found.items() if lines > allowed(name)} == {}


def test_no_function_is_too_long():
    found = {
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}": length(function)
        for path in everything()
        for function in functions(path)
    }
    assert {name: lines for name, lines in found.items() if lines > FUNCTION_LINES} == {}


def test_modules_and_functions_are_typically_short():
    paths = shipped()
    lengths = [length(function) for path in paths for function in functions(path)]
    assert statistics.median(map(lines_of, paths)) <= TYPICAL_MODULE
    assert statistics.median(lengths) <= TYPICAL_FUNCTION
    assert statistics.quantiles(lengths, n=10)[-1] <= LONG_FUNCTION


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_is_made_from_one_string_and_survives_pickling(error):
    made = error("what was asked, what happened, what to do")
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is error
    assert str(again) == str(made) == "what was asked, what happened, what to do"
    assert vars(again) == vars(made)
    assert again.args == made.args


def test_what_an_error_knows_besides_its_message_survives_pickling():
    made = errors.RateLimitedError("slower", retryable=False, retry_after=7.5)
    again = pickle.loads(pickle.dumps(made))
    assert (again.retryable, again.retry_after) == (False, 7.5)


def test_every_error_is_public():
    assert {error.__name__ for error in ERRORS} <= set(ipfs_dataset_core.__all__)


def test_the_tree_in_the_docstring_is_that_of_the_classes():
    drawn = re.findall(r"\w+Error", (errors.__doc__ or "").split("::")[1].split("Each takes")[0])
    built_in = {"LookupError", "ValueError", "ImportError", "OSError", "FileNotFoundError",
                "TimeoutError"}  # fmt: skip
    assert [name for name in drawn if name not in built_in] == [e.__name__ for e in ERRORS]


def test_no_file_names_a_registry_or_a_path_of_this_machine():
    hosts = re.compile("|".join(map(re.escape, {*REGISTRIES, *configured_hosts()})))
    places = [re.escape(f"{place}/") for place in (ROOT, real_home()) if len(str(place)) > 1]
    machine = re.compile("|".join([MACHINE_PATH.pattern, *places]))
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if hosts.search(line) or machine.search(line)
    ]
    assert found == []


def text_of(path):
    data = path.read_bytes()
    return "" if b"\0" in data else data.decode("utf-8", "replace")


def real_home():
    return pwd.getpwuid(os.getuid()).pw_dir  # HOME is another one while tests run


def configured_hosts():
    """Returns the hosts that pip and uv are told to install from on this machine."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        env={**os.environ, "HOME": real_home()},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    addresses = re.findall(r"https?://[^\s'\"]+", listed)
    addresses += [value for name, value in os.environ.items() if "INDEX" in name and "//" in value]
    hosts = {urlsplit(address).hostname for address in addresses}
    return {host for host in hosts if host and "." in host and not host.startswith("127.")}
