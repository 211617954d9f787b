"""Formats that fail while they read: the error names plugin, object and sample, and comes out of workers."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.distributions import Site
from tests.support.stores import Store

pytestmark = pytest.mark.slow

PLUGIN = """
from ipfs_dataset_core import MemberIndex, Reader, ReaderPlugin, hookimpl

class Lines(Reader):
    def samples(self, source):
        for number, line in enumerate(source):
            yield f"{number}", self.parsed(line)

    def parsed(self, line):
        return int(line)

class Index(MemberIndex):
    def __init__(self, lines): self.lines = lines
    def __len__(self): return len(self.lines)
    def name(self, position): return str(position)
    def span(self, position):
        return 0, 1

class NoSpans(Index):
    def span(self, position):
        raise LookupError("no span")

class Indexed(Lines):
    cheap_index = True
    def index(self, source):
        return Index(source.read_at(0, source.size).splitlines())
    def read(self, source, index, position):
        assert isinstance(index, Index)
        return str(position), self.parsed(index.lines[position])

class WithoutSpans(Indexed):
    def index(self, source):
        return NoSpans([b"1", b"2"])

class NoIndex(Lines):
    def index(self, source):
        return 1 / 0

class NeedsMore(Lines):
    def parsed(self, line):
        import no_such_library
        return line

class Unprintable(Lines):
    def parsed(self, line):
        class Odd(Exception):
            def __str__(self):
                raise ValueError
        raise Odd

class ForgotYield(Reader):
    def samples(self, source):
        pass

class WantsArgument(Reader):
    def __init__(self, path): pass
    def samples(self, source): yield

class NoReader:
    pass

KINDS = (Lines, Indexed, NoIndex, WithoutSpans, NeedsMore, Unprintable, ForgotYield, WantsArgument, NoReader)

@hookimpl
def ipfs_dataset_readers():
    made = [ReaderPlugin(name=k.__name__, summary="", factory=f"odd_lines:{k.__name__}") for k in KINDS]
    return [
        *made,
        ReaderPlugin(name="Gone", summary="", factory="odd_lines:Gone"),
        ReaderPlugin(name="Far", summary="", factory="no_such_library.reader:R"),
        ReaderPlugin(name="Exits", summary="", factory="ends_process:R"),
    ]
"""
TEXT = b"0\n1\n2\nthree\n4\n5\n"
PROGRAM = """
import json, sys
from torch.utils.data import DataLoader
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from tests.support.workers import as_it_is

CID, STORE = {cid!r}, {store!r}

def attempt(kind, name, workers=0, method=None, **options):
    seen = []
    try:
        dataset = kind(IPFSObject(CID, name), STORE, **options)
        loader = DataLoader(
            dataset, batch_size=2 if kind is IPFSDataset else None, num_workers=workers,
            multiprocessing_context=method, collate_fn=as_it_is,
        )
        for item in loader:
            seen += item if kind is IPFSDataset else [item]
    except Exception as error:
        return [type(error).__name__, str(error), seen, dataset.skipped]
    return ["", "", seen, dataset.skipped]

if __name__ == "__main__":
    print(json.dumps({{call: eval(call) for call in {calls!r}}}))
"""

# One process for all of them: what takes time is to import torch, which each spawned worker does again.
RAISING = [
    "attempt(IPFSIterableDataset, 'Lines')",
    "attempt(IPFSIterableDataset, 'Lines', 1, 'fork')",
    "attempt(IPFSIterableDataset, 'Lines', 1, 'spawn')",
    "attempt(IPFSDataset, 'Indexed')",
    "attempt(IPFSDataset, 'Indexed', 1, 'spawn')",
]
SKIPPING = [
    "attempt(IPFSDataset, 'Indexed', handler='skip')",
    "attempt(IPFSDataset, 'Indexed', 2, 'fork', handler='skip')",
    "attempt(IPFSIterableDataset, 'Indexed', handler='skip')",
]
CUT = "attempt(IPFSIterableDataset, 'Lines', handler='skip')"
LIMITED = "attempt(IPFSIterableDataset, 'Lines', handler='skip', max_failures=1)"
IN_MANY_WAYS = {
    "NeedsMore": (
        "MissingDependencyError",
        "It needs 'no_such_library', which comes with: pip install -U",
    ),
    "Unprintable": ("PluginError", "failed at sample 0 of"),
    "ForgotYield": ("PluginError", "failed at sample 0 of .* 'NoneType' object is not iterable"),
    "WantsArgument": ("PluginError", "failed at the factory of 'WantsArgument': TypeError"),
    "NoReader": ("PluginError", "the factory of 'NoReader' made .*, which is no Reader"),
    "Gone": (
        "PluginError",
        "'odd_lines:Gone', the factory of 'Gone', names 'Gone', which the module 'odd_lines' does not have",
    ),
    "Far": ("MissingDependencyError", "It needs 'no_such_library'"),
    "Exits": (
        "PluginError",
        "the import of 'ends_process:R', the factory of 'Exits': SystemExit: no licence",
    ),
}
BY_NUMBER = {
    "NoIndex": "failed at the index of .*: ZeroDivisionError",
    "WithoutSpans": "failed at the span of sample 0 of .*: LookupError: no span",
}
CALLS = [
    *RAISING,
    *SKIPPING,
    CUT,
    LIMITED,
    *(f"attempt(IPFSIterableDataset, {name!r})" for name in IN_MANY_WAYS),
    "attempt(IPFSIterableDataset, 'Far', 1, 'spawn')",
    *(f"attempt(IPFSDataset, {name!r})" for name in BY_NUMBER),
]
WHO = "Odd.Lines 3.1 (odd)"
CURE = "pip install -U Odd.Lines, or leave it out with IPFS_DATASET_DISABLE_PLUGINS=Odd.Lines"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("site"))
    site.install("Odd.Lines", PLUGIN, version="3.1", points={"odd": "odd_lines"})
    (site.folder / "ends_process.py").write_text("raise SystemExit('no licence')")
    store = Store(tmp_path_factory.mktemp("store") / "blocks")
    out = site.run(PROGRAM.format(cid=store.file(TEXT), store=store.address, calls=CALLS))
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("call", RAISING)
def test_a_reader_that_raises_in_the_middle_names_itself_object_and_sample(results, call):
    kind, message, seen, _ = results[call]
    assert kind == "PluginError"
    assert re.search(
        re.escape(f"Plugin {WHO} failed at sample 3 of '") + r"\w+': ValueError", message
    )
    assert CURE in message
    assert len(seen) in (2, 3)  # the batch that broke is lost


@pytest.mark.parametrize("call", SKIPPING)
def test_the_users_handler_skips_such_samples_and_counts_them(results, call):
    kind, _, seen, skipped = results[call]
    assert kind == ""
    assert sorted(value for _, value in seen) == [0, 1, 2, 4, 5]
    assert skipped == 1


def test_without_an_index_the_rest_is_skipped_up_to_a_limit(results):
    _, _, seen, skipped = results[CUT]
    assert [value for _, value in seen] == [0, 1, 2]
    assert skipped == 1
    kind, message, *_ = results[LIMITED]
    assert kind == "PluginError"
    assert "max_failures allows fewer" in message


@pytest.mark.parametrize("name", IN_MANY_WAYS)
def test_whatever_is_wrong_is_ours_and_says_whose(results, name):
    kind, words = IN_MANY_WAYS[name]
    found, message, *_ = results[f"attempt(IPFSIterableDataset, {name!r})"]
    assert found == kind
    assert WHO in message
    assert re.search(words, message), message


def test_a_spawned_worker_knows_whose_it_is(results):
    kind, message, *_ = results["attempt(IPFSIterableDataset, 'Far', 1, 'spawn')"]
    assert kind == "MissingDependencyError"
    assert WHO in message


@pytest.mark.parametrize("name", BY_NUMBER)
def test_an_index_that_fails_is_named_as_well(results, name):
    kind, message, *_ = results[f"attempt(IPFSDataset, {name!r})"]
    assert kind == "PluginError"
    assert re.search(BY_NUMBER[name], message), message
