"""Every command that may wait, against servers that never answer: a signal ends it soon and quietly."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import NamedTuple

import pytest

from tests.support import builders
from tests.support.commands import start
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import FaultServer, Plan
from tests.support.stores import Store

if sys.platform == "win32":
    pytest.skip("signals as POSIX has them", allow_module_level=True)

_WAIT = 60
ARCHIVE = builders.zip_bytes({f"m{number}": os.urandom(300_000) for number in range(4)})
ROOT, BLOCKS = builders.one_file(ARCHIVE)
READ = (ROOT, "--gateway", "{url}")


class Case(NamedTuple):
    """A command, the server it waits for, and what may be left: what the next run continues with."""

    arguments: tuple[object, ...]
    server: str = "silent"
    number: int = signal.SIGINT
    may_leave: str = "no such name"
    err: bytes = b""


CASES = {
    "info": Case(("info", *READ)),
    "ls": Case(("ls", *READ)),
    "head": Case(("head", *READ, "--picture", "head.png")),
    "get": Case(("get", *READ, "-o", "out")),
    "get-half": Case(("get", ROOT, "--raw", *READ[1:]), "half", may_leave=".ipfs-part"),
    "cat": Case(("cat", *READ)),
    "cat-half": Case(("cat", *READ, "-o", "out"), "half", may_leave="out.ipfs-part"),
    "verify": Case(("verify", *READ)),
    "verify-half": Case(("verify", *READ, "--json"), "half"),
    "diff": Case(("diff", ROOT, builders.one_file(b"x")[0], *READ[1:])),
    "prefetch": Case(("prefetch", *READ, "--cache", "cache"), may_leave="CACHEDIR.TAG"),
    "doctor": Case(("doctor", *READ, "--timeout", "50")),
    "bench": Case(("bench", *READ)),
    "publish": Case(("publish", __file__, "--to", "{url}")),
    "publish-dataset": Case(("publish", __file__, "--as", "dataset", "--to", "{url}")),
    "publish-car": Case(("publish", "{sparse}", "--to", "out.car"), "none"),
    "publish-store": Case(("publish", "{sparse}", "--to", "store"), "none", may_leave="store/"),
    "cid": Case(("cid", "{sparse}"), "none"),
    "pin ls": Case(("pin", "ls", "--at", "{url}")),
    "pin add": Case(("pin", "add", ROOT, "--at", "{url}")),
    "pin rm": Case(("pin", "rm", ROOT, "--at", "{url}")),
    "serve": Case(
        ("serve", "{store}", "--port", "0", "--cid", ROOT), "none", err=b"serves until Ctrl-C\n"
    ),
    "serve-silent": Case(("serve", "{url}", "--port", "0", "--cid", ROOT)),
    "info, SIGTERM": Case(("info", *READ), number=signal.SIGTERM),
    "ls, SIGHUP": Case(("ls", *READ), number=signal.SIGHUP),
    "publish-car, SIGTERM": Case(
        ("publish", "{sparse}", "--to", "out.car"), "none", number=signal.SIGTERM
    ),
}


def _half(_, plan):
    """Lets the small inner nodes through, and half of a large body."""
    body = plan.body if isinstance(plan.body, bytes) else b"".join(plan.body)
    if len(body) < 200_000:
        return plan
    return Plan(status=plan.status, headers=plan.headers, body=body, stall_at=150_000)


def _server(kind):
    if kind == "half":
        return GatewayServer(BLOCKS, fault=_half)
    return FaultServer(lambda _: Plan(delay=600))


def _is_ready(case, server, started):
    if case.server == "none":
        # What publishes has begun to write; of the others there is no sign.
        written = started.left() or "publish" not in case.arguments
        return bool(written and (started.err or not case.err))
    enough = 2 if case.server == "half" else 1
    return len(server.requests) >= enough


def test_every_interrupted_command_ends_quietly_and_leaves_no_partial_files(tmp_path):
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 42)
    store = Store(tmp_path / "stored")
    assert store.file(ARCHIVE) == str(ROOT)
    running = {}
    with contextlib.ExitStack() as stack:
        for name, case in CASES.items():
            server = stack.enter_context(_server(case.server))
            words = [
                str(one).format(url=server.url, sparse=sparse, store=store.address)
                for one in case.arguments
            ]
            started = start(tmp_path / name.replace(" ", "-"), words)
            stack.callback(started.process.kill)
            running[name] = (case, server, started)
        until = time.monotonic() + _WAIT
        for name, (case, server, started) in running.items():
            while not _is_ready(case, server, started):
                assert started.process.is_alive(), (name, started.err, started.out)
                assert time.monotonic() < until, name
                time.sleep(0.02)
        for case, _, started in running.values():
            started.send(case.number)
        for name, (case, _, started) in running.items():
            started.process.join(_WAIT)
            assert (name, started.process.exitcode) == (name, 128 + case.number)
            assert started.err.endswith(case.err)
            assert started.err.count(b"\n") == case.err.count(b"\n"), (name, started.err)
            left = [path for path in started.left() if case.may_leave not in path]
            assert (name, left) == (name, [])
