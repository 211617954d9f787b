"""The contract suites fail for broken plugins, each in the right test and with a helpful message."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ipfs_dataset_core import FormatError, Reader, SpanIndex
from ipfs_dataset_core.testing import (
    Example,
    ExporterContract,
    ReaderContract,
    TransportContract,
)
from ipfs_dataset_core.testing.exporters import _checks as exporter_checks
from ipfs_dataset_core.testing.readers import _checks as reader_checks
from ipfs_dataset_core.testing.transports import _checks as transport_checks
from tests.testing.wrong_plugins import (
    EXPORTER,
    READER,
    TRANSPORT,
    WRONG_EXPORTERS,
    WRONG_READERS,
    WRONG_TRANSPORTS,
)

ROOT = Path(__file__).parents[2]
UNPICKLABLE = "a factory that does not pickle"
KINDS = {
    "reader": (READER, WRONG_READERS, "add-a-format"),
    "transport": (TRANSPORT, WRONG_TRANSPORTS, "add-a-transport"),
    "exporter": (EXPORTER, WRONG_EXPORTERS, "add-an-exporter"),
}
CONTRACTS = {
    "add-a-format": ReaderContract,
    "add-a-transport": TransportContract,
    "add-an-exporter": ExporterContract,
}


@pytest.fixture(scope="module", params=KINDS)
def report(request, tmp_path_factory):
    """The output of pytest for every wrong plugin of a kind and for a correct one."""
    template, wrong, page = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    for number, (what, (body, _, _)) in enumerate(wrong.items()):
        factory = "lambda *a: Wrong(*a)" if what == UNPICKLABLE else "Wrong"
        (folder / f"test_wrong_{number}.py").write_text(
            template % (body, factory), encoding="utf-8"
        )
    (folder / "test_good.py").write_text(template % ("    pass", "Good"), encoding="utf-8")
    (folder / "pytest.ini").touch()  # so that settings of folders above are not used
    arguments = ("-q", "--tb=line", "-rfE", "--show-capture=no", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, folder],
        cwd=folder,
        env={**os.environ, "COLUMNS": "2000", "CI": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.stdout + done.stderr, wrong, page


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_wrong_plugin_fails_the_expected_test_with_the_expected_message(report):
    output, wrong, page = report
    missed = []
    for number, (what, (_, test, message)) in enumerate(wrong.items()):
        failures = re.findall(
            rf"^FAILED test_wrong_{number}\.py::\w+::{test} - (.*)$", output, re.MULTILINE
        )
        end = f". See docs/how-to/{page}.md#test-it"
        if not any(message in failure and failure.endswith(end) for failure in failures):
            missed.append((what, test, failures or "passed"))
    assert missed == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_correct_plugin_passes(report):
    output, _, _ = report
    assert "test_good.py" not in output.split("short test summary")[-1]
    assert re.search(r"\b\d+ passed", output), output


@pytest.mark.parametrize("page", CONTRACTS)
def test_the_documentation_lists_each_test_of_a_contract(page):
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")
    section = text.split("\n## Test it\n")[1]
    tests = {name for name in vars(CONTRACTS[page]) if name.startswith("test_")}
    assert set(re.findall(r"^\| `(test_\w+)` \|", section, re.MULTILINE)) == tests


def test_no_assertion_of_a_contract_lacks_a_message():
    for module in ("readers", "transports", "exporters"):
        path = ROOT / "ipfs_dataset_core" / "testing" / f"{module}.py"
        bare = [
            node.lineno
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Assert) and node.msg is None
        ]  # fmt: skip
        assert bare == [], module


def test_pages_named_by_failures_exist():
    for checks in (reader_checks, transport_checks, exporter_checks):
        assert (ROOT / checks.page.partition("#")[0]).is_file()


class Pairs(Reader):
    """Pairs of bytes."""

    suffixes = (".pairs",)
    cheap_index = True

    def index(self, source):
        if source.size % 2:
            raise FormatError(f"{source.name!r} ends in the middle of a pair")
        return SpanIndex(source.name, range(0, source.size, 2), range(2, source.size + 1, 2))

    def decode(self, data, index, position):
        return tuple(data)


class TestClassThatDeclaresItself(ReaderContract):
    @pytest.fixture
    def plugin(self):
        return Pairs

    @pytest.fixture
    def example(self):
        return Example(b"abcd", [("object:0", (97, 98)), ("object:1", (99, 100))])


DECLARED = """
import pytest
from ipfs_dataset_core import Reader
from ipfs_dataset_core.testing import ReaderContract

class Loud(Reader):
    suffixes = (".LOUD",)
    def samples(self, source):
        yield source.name, source.read()

class TestLoud(ReaderContract):
    @pytest.fixture
    def plugin(self):
        return Loud

class TestAnObject(ReaderContract):
    @pytest.fixture
    def plugin(self):
        return Loud()
"""


def test_invalid_declarations_fail_with_the_reason(tmp_path):
    (tmp_path / "test_declared.py").write_text(DECLARED)
    (tmp_path / "pytest.ini").touch()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-k",
            "declaration or suffixes",
            "-p",
            "no:cacheprovider",
        ],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "2000", "CI": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "'.LOUD'" in done.stdout
    assert (
        "must return a subclass of Reader or an instance of ReaderPlugin, but it returned <"
        in done.stdout
    )
