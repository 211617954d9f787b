"""Fixtures for all tests: a home of their own, and real nodes where there are any.

A test that uses a node has its marker. Without Kubo such tests are skipped, and the header and the
end of the report name the reason; so are those with js-ipfs, but where ``CI`` is set these fail.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support.jsipfs import VARIABLE, JsIpfsNode, why_no_jsipfs
from tests.support.kubo import KuboNode, path_without_kubo, why_no_kubo

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_configure() -> None:
    """Prepares signals, multiprocessing, and Hypothesis for machines of any speed.

    A shell starts its background jobs with SIGINT ignored, which child processes inherit: those that tests
    interrupt would go on.

    The fork server imports PyTorch once, which takes seconds, for all processes that it starts. What
    tests send to these is pickled as for spawned ones, and they have imported nothing of ours; so tests
    spawn only where they are about the start of a process itself.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.set_forkserver_preload(["torch"])
    # Hypothesis by default fails an example that takes 200 ms, or is slow to make: a slow or busy machine
    # is no fault of the code.
    slow = [HealthCheck.too_slow]
    # Its parent is the profile that Hypothesis has loaded: there is one for CI.
    settings.register_profile("slow", settings(), deadline=None, suppress_health_check=slow)
    settings.load_profile("slow")


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true"}


def missing_nodes() -> dict[str, str]:
    """Returns why tests with a marker are to be skipped, by marker."""
    reasons = {"kubo": why_no_kubo(), "jsipfs": None if in_ci() else why_no_jsipfs()}
    return {marker: reason for marker, reason in reasons.items() if reason is not None}


def skip_without(marker: str) -> None:
    """Skips a test that requests a node at run time, of which its collection had no sign."""
    reason = missing_nodes().get(marker)
    if reason is not None:
        pytest.skip(reason)


def pytest_xdist_auto_num_workers() -> int:
    """Returns how many processes ``-n auto`` means.

    Two even on one core, because tests wait for servers and new processes more than they compute; not
    more than eight, because each imports PyTorch and starts nodes of its own.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(8, max(2, cores or 1))


def pytest_report_header() -> list[str]:
    reasons = {"Kubo": why_no_kubo(), "js-ipfs": why_no_jsipfs()}
    return [f"{name}: {reason or 'tested against'}" for name, reason in reasons.items()]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = missing_nodes()
    for item in items:
        for node in ("kubo", "jsipfs"):
            if node in getattr(item, "fixturenames", ()):
                item.add_marker(node)
            if node in missing and item.get_closest_marker(node):
                item.add_marker(pytest.mark.skip(reason=missing[node]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    for reason in missing_nodes().values():
        count = sum(reason in str(report.longrepr) for report in skipped)
        if count:
            terminalreporter.write_line(f"NOT TESTED, {count} tests: {reason}", red=True, bold=True)


@pytest.fixture(scope="session")
def _path_without_kubo(tmp_path_factory: pytest.TempPathFactory) -> str:
    return path_without_kubo(tmp_path_factory.mktemp("programs"))


@pytest.fixture(autouse=True)
def _own_home(
    request: pytest.FixtureRequest,
    _path_without_kubo: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Keeps the user's node, gateways, store and cache out of the tests.

    Only tests that are marked as those with Kubo find ``ipfs`` on PATH, so the others prove everywhere that
    nothing else needs it.
    """
    if request.node.get_closest_marker("kubo") is None:
        monkeypatch.setenv("PATH", _path_without_kubo)
    for name in list(os.environ):
        if name.startswith(("IPFS_", "XDG_")) and name != VARIABLE:
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("IPFS_PATH", str(home / ".ipfs"))


@pytest.fixture(scope="session")
def kubo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KuboNode]:
    """A running Kubo that all tests share: add to it, do not stop or configure it."""
    skip_without("kubo")
    with KuboNode(tmp_path_factory.mktemp("kubo") / "repo") as node:
        yield node


@pytest.fixture(scope="session")
def jsipfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JsIpfsNode]:
    """A running js-ipfs that all tests share: add to it, do not stop or configure it."""
    skip_without("jsipfs")
    with JsIpfsNode(tmp_path_factory.mktemp("jsipfs") / "repo") as node:
        yield node
