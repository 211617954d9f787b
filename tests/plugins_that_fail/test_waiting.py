"""Plugins that hang: nothing can interrupt them, but a warning and the log name them and the line."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.distributions import Site

WAITS = """
import gate
from ipfs_dataset_core import Exporter, MemberIndex, Reader, ReaderPlugin, hookimpl

gate.wait("{name}")

class Slow(Reader):
    def samples(self, source):
        yield "first", 1
        gate.wait("reader")
        yield "second", 2

@hookimpl
def ipfs_dataset_readers():
    gate.wait("hook")
    return [ReaderPlugin(name="slow", summary="", factory="slow_one:Slow")]
"""
PROGRAM = """
import json, logging, threading, types, sys, warnings

said = []
changed = threading.Condition()

class Handler(logging.Handler):
    def emit(self, record):
        with changed:
            said.append(record.getMessage())
            changed.notify_all()

# Opens with the message that has its line: on a busy machine there are others before it, and it comes again.
gate = types.ModuleType("gate")
def wait(what):
    line = f'gate.wait("{what}")'
    with changed:
        warned = changed.wait_for(lambda: any(line in one for one in said), 60)
    assert warned, f"nobody warned of {what}"
gate.wait = wait
sys.modules["gate"] = gate
logging.getLogger("ipfs_dataset_core").addHandler(Handler())

shown = []
def show(message, category, *rest):
    shown.append([category.__name__, str(message)])
warnings.showwarning = show

# What the plugin imports takes time, too, and is not what is to be seen.
from ipfs_dataset_core import Exporter, MemberIndex, Reader, ReaderPlugin, hookimpl
from ipfs_dataset_core.registry import discovery, guard
guard.TICK_SECONDS = 0.01
discovery.IMPORT_PATIENCE_SECONDS = guard.PATIENCE_SECONDS = 0.1

from ipfs_dataset_core.registry.guarded_readers import make_reader
from ipfs_dataset_core.registry.lookup import default_registry
from ipfs_dataset_core.testing import MemoryFile

plugin = default_registry().reader("slow")
origin = default_registry().origin(plugin)
reader = make_reader(plugin, origin=origin)
samples = reader.samples(MemoryFile(b"", "an object"))
print(json.dumps([list(samples), said, shown]))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("site"))
    site.install(
        "slow-one", WAITS.format(name="import"), version="0.3", points={"slow": "slow_one"}
    )
    return json.loads(site.run(PROGRAM))


def test_all_is_done_in_the_end(results):
    assert results[0] == [["first", 1], ["second", 2]]


def test_the_log_names_the_plugin_and_the_line_it_is_at(results):
    imported, hooked, reading = (
        next(one for one in results[1] if f'gate.wait("{what}")' in one)
        for what in ("import", "hook", "reader")
    )
    assert re.match(
        r"Plugin slow-one 0\.3 \(slow\) has been at its import for \d+ s\. Update it", imported
    )
    assert "IPFS_DATASET_DISABLE_PLUGINS=slow-one" in imported
    assert hooked.startswith("Plugin slow-one 0.3 (slow) has been at ")
    assert "slow-one 0.3 (slow) has been at sample 1 of 'an object'" in reading


def test_one_that_hangs_is_a_visible_warning_once_for_its_import_and_once_for_its_samples(results):
    loads, reads = results[2]
    assert loads[0] == reads[0] == "PluginWarning"
    assert re.match(r"Plugin slow-one 0\.3 \(slow\) has been at its import for \d+ s", loads[1])
    assert re.match(r"Plugin slow-one 0\.3 \(slow\) has been at sample 1 of 'an object' ", reads[1])
    assert "IPFS_DATASET_DISABLE_PLUGINS=slow-one" in loads[1]


def test_nothing_watches_when_nothing_is_done():
    import threading
    import time

    from ipfs_dataset_core.registry.guard import TICK_SECONDS, Watch
    from ipfs_dataset_core.registry.provenance import Origin

    watch = Watch(Origin("a", "1", "a"), "nothing", patience=100)
    watch.enter()
    assert any(thread.name == "ipfs-dataset-watch" for thread in threading.enumerate())
    watch.leave()
    end = time.monotonic() + 60
    while any(thread.name == "ipfs-dataset-watch" for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(TICK_SECONDS / 4)
