"""Transports of others that fail or hang: the next source is asked, else an error names them."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.distributions import Site
from tests.support.stores import Store

PLUGIN = """
import threading
from ipfs_dataset_core import Transport, TransportPlugin, hookimpl

release = threading.Event()

class Base(Transport):
    def __init__(self, address, options):
        self.name = address

    def close(self):
        raise KeyError("already closed")

class Raises(Base):
    def get_block(self, cid):
        return {}[cid]

class Resets(Base):
    asked = 0
    def get_block(self, cid):
        Resets.asked += 1
        raise ConnectionResetError("by peer")

class Hangs(Base):
    asked = 0
    def get_block(self, cid):
        Hangs.asked += 1
        release.wait(100)
        raise KeyError

class Exits(Base):
    def get_block(self, cid):
        raise SystemExit(2)

class ReturnsText(Base):
    def get_block(self, cid):
        return "a block"

class BadStreams(Raises):
    serves_ranges = serves_cars = serves_paths = True
    def open_range(self, cid, start, stop):
        return Stream()
    open_path = open_range
    def path_size(self, path):
        raise KeyError("size")
    def read_car(self, cid, *, span=None):
        yield cid, b"not it"
        raise KeyError("car")

class Stream:
    def read(self, size):
        raise KeyError("stream")
    def close(self):
        pass

class NoName(Transport):
    def __init__(self, address, options): pass
    def get_block(self, cid): raise KeyError

class Unmade(Raises):
    def __init__(self, address, options):
        raise KeyError("no account")

KINDS = (Raises, Resets, Hangs, Exits, ReturnsText, BadStreams, NoName, Unmade)

@hookimpl
def ipfs_dataset_transports():
    return [
        TransportPlugin(
            name=k.__name__, summary="", factory=f"odd_sources:{k.__name__}", schemes=(k.__name__.lower(),)
        )
        for k in KINDS
    ]
"""
PROGRAM = """
import json, sys, time
from ipfs_dataset_core import CID, Options
from ipfs_dataset_core.reading.connections import Connections

CIDS, STORE = [CID.parse(text) for text in {cids!r}], {store!r}

def attempt(kind, *others, times=1, **options):
    chosen = Options(**{{"timeout": 0.2, "retries": 0, "gateways": others, **options}})
    connections = Connections(f"{{kind}}://somewhere", chosen)
    try:
        for cid in CIDS[:times]:
            block = connections.fetcher().block(cid)
    except Exception as error:
        return [type(error).__name__, str(error)]
    finally:
        connections.close()
    return ["", block.decode()]

results = {{call: eval(call) for call in {calls!r}}}
import odd_sources
results["asked"] = [odd_sources.Hangs.asked, odd_sources.Resets.asked]
odd_sources.release.set()
assert "torch" not in sys.modules
print(json.dumps(results))
"""
KINDS = {
    "raises": ("TransportError", "failed at block bafk.*: KeyError: CID"),
    "resets": ("TransportError", "failed at block bafk.*: ConnectionResetError: by peer"),
    "hangs": (
        "TransportTimeoutError",
        "did not return block bafk.* within 0.2 s. If it is only slow",
    ),
    "exits": ("TransportError", "failed at block bafk.*: SystemExit: 2"),
    "returnstext": ("TransportError", "returned 'a block' for block bafk.* instead of bytes"),
    "badstreams": ("TransportError", "failed at block bafk.*: KeyError"),
    "noname": ("PluginError", "failed at its own name: AttributeError"),
    "unmade": ("PluginError", "failed at the factory of 'Unmade': KeyError: 'no account'"),
}
FALLING_BACK = ["raises", "resets", "hangs", "exits", "returnstext"]
ALL_HANG = "attempt('hangs', times=3, max_requests=1)"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("site"))
    site.install("odd-sources", PLUGIN, version="3.1", points={"odd": "odd_sources"})
    store = Store(tmp_path_factory.mktemp("store") / "blocks")
    calls = [
        *(f"attempt({kind!r})" for kind in KINDS),
        *(f"attempt({kind!r}, STORE)" for kind in FALLING_BACK),
        "attempt('resets', retries=2)",
        "attempt('hangs', STORE, times=9, max_requests=2)",
    ]
    cids = [store.file(b"the data %d" % number) for number in range(9)]
    program = PROGRAM.format(cids=cids, store=store.address, calls=calls)
    return json.loads(site.run(program))


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_fails_is_named_with_what_to_do(results, kind):
    found, message = results[f"attempt({kind!r})"]
    expected, words = KINDS[kind]
    assert found == expected
    assert re.search(words, message), message
    assert "odd-sources 3.1 (odd)" in message
    assert "IPFS_DATASET_DISABLE_PLUGINS=odd-sources" in message


@pytest.mark.parametrize("kind", FALLING_BACK)
def test_the_next_source_is_asked(results, kind):
    assert results[f"attempt({kind!r}, STORE)"] == ["", "the data 0"]


def test_only_what_may_pass_is_tried_again(results):
    assert results["attempt('resets', retries=2)"][0] == "TransportError"
    assert results["asked"][1] == 1 + 1 + 3


def test_a_source_that_hangs_for_ever_does_not_use_up_all_threads(results):
    assert results["attempt('hangs', STORE, times=9, max_requests=2)"] == ["", "the data 8"]
    assert results["asked"][0] <= 1 + 1 + 2
