"""A plugin that breaks its contract fails the test that is about it, with a message that helps."""

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
from ipfs_dataset_core.testing.readers import _terms as reader_terms
from ipfs_dataset_core.testing.transports import _terms as transport_terms
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
    """What pytest says about every wrong plugin of a kind, and about a right one."""
    template, wrong, page = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    for number, (what, (body, _, _)) in enumerate(wrong.items()):
        factory = "lambda *a: Wrong(*a)" if what == UNPICKLABLE else "Wrong"
        (folder / f"test_wrong_{number}.py").write_text(
            template % (body, factory), encoding="utf-8"
        )
    (folder / "test_good.py").write_text(template % ("    pass", "Good"), encoding="utf-8")
    (folder / "pytest.ini").touch()  # what is configured above the folder does not count
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
def test_each_wrong_plugin_fails_the_test_that_is_about_it(report):
    said, wrong, page = report
    missed = []
    for number, (what, (_, test, message)) in enumerate(wrong.items()):
        failures = re.findall(
            rf"^FAILED test_wrong_{number}\.py::\w+::{test} - (.*)$", said, re.MULTILINE
        )
        told = [
            f for f in failures if message in f and f.endswith(f"See docs/how-to/{page}.md#test-it")
        ]
        if not told:
            missed.append((what, test, failures or "passed"))
    assert missed == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_plugin_that_keeps_the_contract_passes(report):
    said, _, _ = report
    assert "test_good.py" not in said.split("short test summary")[-1]
    assert re.search(r"\b\d+ passed", said), said


@pytest.mark.parametrize("page", CONTRACTS)
def test_the_page_that_failures_name_says_what_each_test_asks(page):
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")
    section = text.split("\n## Test it\n")[1]
    tests = {name for name in vars(CONTRACTS[page]) if name.startswith("test_")}
    assert set(re.findall(r"^\| `(test_\w+)` \|", section, re.MULTILINE)) == tests


def test_every_failure_of_a_contract_has_a_message():
    for module in ("readers", "transports", "exporters"):
        path = ROOT / "ipfs_dataset_core" / "testing" / f"{module}.py"
        bare = [
            node.lineno
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Assert) and node.msg is None
            and not ast.unparse(node.test).startswith(("isinstance(", "assert", "found is not"))
        ]  # fmt: skip
        assert bare == [], module


def test_pages_named_by_failures_exist():
    for terms in (reader_terms, transport_terms):
        assert (ROOT / terms.page.partition("#")[0]).is_file()


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


class TestOfAReadersClass(ReaderContract):
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


def test_a_declaration_that_cannot_mean_anything_is_refused(tmp_path):
    (tmp_path / "test_declared.py").write_text(DECLARED)
    (tmp_path / "pytest.ini").touch()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "declaration", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "2000", "CI": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "'.LOUD'" in done.stdout
    assert "has to be a subclass of Reader or an object of ReaderPlugin, not <" in done.stdout
