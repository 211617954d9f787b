"""However large a file is, reading it takes a bounded amount of memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ipfs_dataset_core.ipld import FileBuilder, get_profile
from tests.support.builders import noise
from tests.support.http_server import FaultServer, Plan

CHUNK = 1 << 20
CHUNKS = 1024
BASE = noise(CHUNK)


def chunk(number):
    """Returns a chunk that no other equals, so that no cache helps."""
    return number.to_bytes(8, "big") + BASE[8:]


def gigabyte():
    """Returns the root of the file and its blocks but for the leaves."""
    inner = {}

    def emit(cid, block):
        if len(block) != CHUNK:
            inner[str(cid)] = block

    builder = FileBuilder(get_profile("unixfs-v1-2025"), emit)
    for number in range(CHUNKS):
        builder.write(chunk(number))
    return str(builder.finish().cid), inner


def answer(request, inner):
    cid = request.path.rpartition("/")[2]
    if request.query.get("format") == "raw" and cid in inner:
        return Plan(body=inner[cid], headers={"Content-Type": "application/vnd.ipld.raw"})
    if "range" not in request.headers:
        return Plan(status=404)
    start, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
    assert start % CHUNK == (last + 1) % CHUNK == 0
    return Plan(
        status=206,
        headers={"Content-Range": f"bytes {start}-{last}/{CHUNK * CHUNKS}"},
        body=(chunk(number) for number in range(start // CHUNK, (last + 1) // CHUNK)),
    )


STREAM = """
    import sys
    from ipfs_dataset_core import Options
    from ipfs_dataset_core.reading.connections import Connections
    from ipfs_dataset_core.reading.objects import open_object
    from tests.support.peak import peak_kib

    connections = Connections(sys.argv[1], Options(memory=64 << 20))
    file = open_object("ipfs://" + sys.argv[2], connections)
    before = peak_kib()
    size = 0
    while piece := file.read(8 << 20):
        size += len(piece)
    after = peak_kib()
    print(size, (after - before) >> 10)
"""


@pytest.mark.slow
def test_memory_stays_within_its_budget_while_a_gigabyte_streams():
    root, inner = gigabyte()
    path = Path(__file__).parents[2]
    with FaultServer(lambda request: answer(request, inner)) as server:
        ran = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(STREAM), f"gateway+{server.url}", root],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=path,
            env={"PYTHONPATH": f"{path}:{path / 'plugins'}"},
        )
    assert ran.returncode == 0, ran.stderr
    size, grown = map(int, ran.stdout.split())
    assert size == CHUNK * CHUNKS
    # The cache, what is under way before it gets there, the piece that is read, and the allocator's slack.
    assert 0 < grown < 160
