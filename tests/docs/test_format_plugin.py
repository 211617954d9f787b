"""docs/tutorial/format-plugin.md: its blocks, run in order, build the plugin and print what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.markdown import blocks
from tests.support.plugin_projects import Installed, install
from tests.support.tutorial import Follower

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "format-plugin.md"


def all_blocks():
    found = [block for language in ("python", "sh", "text") for block in blocks(PAGE, language)]
    return sorted(found, key=lambda block: block.line)


def first_line_with_a_node():
    return PAGE.read_text().split("\n## Read it from a node\n")[0].count("\n")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """Somebody who has followed the page as far as it needs no node; see .ci/follow_tutorials.py for pip."""
    folder = tmp_path_factory.mktemp("reader")
    nothing = Installed(folder / "none", folder / "none").environment()

    def installed(project):
        return install(project, folder / "installed").environment()

    reader = Follower(folder, nothing, installed)
    for block in all_blocks():
        if block.line < first_line_with_a_node():
            reader.do(block)
    return reader


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_plugin_is_built_and_streams_without_a_node(reader):
    assert "streamed: 40" in reader.printed


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
