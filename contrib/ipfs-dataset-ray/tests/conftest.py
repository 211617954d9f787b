"""Fixtures: a cluster of Ray on this machine, and a store that its workers read."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.support.interop import ROOT
from tests.support.stores import Store

# Ray reads them when it is imported or started. On a busy machine, the agents of a node and its first worker
# need more time to start than the default, after which the node ends. No usage is reported, and without
# "clusters" Ray uses only the loopback interface, which other machines cannot reach.
SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_worker_niceness": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
}
os.environ.update(SETTINGS)


@pytest.fixture(scope="session")
def ray():
    """Ray, connected to a new cluster; all of its processes end with the fixture."""
    module = importlib.import_module("ray")
    # The folder of pytest is too long: names of sockets have at most 107 characters.
    folder = tempfile.mkdtemp(prefix="ray-")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    started = module.init(
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=128 << 20,
        _temp_dir=folder,
        logging_level="warning",
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths, "HOME": folder}},
    )
    try:
        assert started["node_ip_address"] == "127.0.0.1"
        context = module.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        yield module
    finally:
        module.shutdown()
        left = processes_with(folder)
        shutil.rmtree(folder, ignore_errors=True)
        assert left == []


def processes_with(text):
    """Returns the command lines of processes that contain a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        if text in line:
            found.append(line)
    return found


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))
