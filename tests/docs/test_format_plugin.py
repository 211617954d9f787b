"""docs/tutorial/format-plugin.md: its blocks, run in order, build the plugin and print what it says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.markdown import blocks
from tests.support.plugin_projects import Installed, install

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "format-plugin.md"
FILE = re.compile(r"# (?P<path>[\w/.]+)(?P<more>, continued)?\n")
INSTALL = "pip install -e . --group test\n"


class Reader:
    """Somebody who does what the page says, in a folder of their own.

    Attributes:
        said: What the last commands printed.
    """

    def __init__(self, folder, variables):
        self._folder = self._at = folder
        self._variables = variables
        self._installed = Installed(folder / "none", folder / "none")
        self.said = ""

    def set(self, variable, value):
        self._variables[variable] = value

    def do(self, block):
        getattr(self, f"_{block.language}")(block.code)

    def _python(self, code):
        match = FILE.match(code)
        assert match, f"which file is this: {code:.60}"
        path = self._at / match["path"]
        if match["more"]:
            path.write_text(path.read_text() + "\n\n" + code[match.end() :])
        else:
            path.write_text(code[match.end() :])

    def _sh(self, code):
        self.said = ""
        before, installs, after = code.partition(INSTALL)
        self._run(before)
        if installs:
            self._installed = install(self._at, self._folder / "installed")
            self._run(after)

    def _text(self, expected):
        said = " ".join(self.said.split())
        for line in expected.splitlines():
            assert " ".join(line.split()) in said

    def _run(self, code):
        where = self._folder / "where"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f'{code}\npwd > "{where}"'],
            cwd=self._at,
            env={**self._installed.environment(), **self._variables},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, code + done.stdout + done.stderr
        self._at = Path(where.read_text().strip())
        self.said += done.stdout


def all_blocks():
    found = [block for language in ("python", "sh", "text") for block in blocks(PAGE, language)]
    return sorted(found, key=lambda block: block.line)


def first_line_with_a_node():
    return PAGE.read_text().split("\n## From a node\n")[0].count("\n")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """Somebody who has read the page as far as it needs no node."""
    reader = Reader(tmp_path_factory.mktemp("reader"), {})
    for block in all_blocks():
        if block.line < first_line_with_a_node():
            reader.do(block)
    return reader


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_plugin_is_built_and_streams_without_a_node(reader):
    assert "streamed: 40" in reader.said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_plugin_streams_from_a_node(reader, kubo):
    reader.set("IPFS_PATH", str(kubo.repo))
    rest = [block for block in all_blocks() if block.line > first_line_with_a_node()]
    assert rest
    for block in rest:
        reader.do(block.substituted({"/ip4/127.0.0.1/tcp/5001": kubo.api}))


def test_every_block_of_the_page_is_run():
    fences = re.findall(r"^```(\w+)$", PAGE.read_text(), re.MULTILINE)
    assert len(fences) == len(all_blocks())
    assert fences.count("sh") >= 5
