"""Published forms of others that fail: they are named, and what the user's dataset raises passes as it is."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.distributions import Site

pytestmark = pytest.mark.slow

PLUGIN = """
from ipfs_dataset_core import Exporter, ExporterPlugin, PublishedSamples, hookimpl

class Numbers(Exporter):
    def __init__(self, options): pass
    def export(self, samples, sink):
        with sink.create("numbers.bin") as file:
            for sample in samples:
                file.write(bytes([sample]))
    def load(self, source):
        return Loaded(source.open("numbers.bin").read()) if source.contains("numbers.bin") else None

class Loaded(PublishedSamples):
    def __init__(self, data): self.data = data
    def __len__(self): return len(self.data)
    def read(self, position): return 1 // self.data[position]
    def iterate(self, start, stop): return map(self.read, range(start, stop))

class LoadFails(Numbers):
    def load(self, source): raise KeyError("no manifest")

class WithoutLength(Numbers):
    def load(self, source): return object()

@hookimpl
def ipfs_dataset_exporters():
    kinds = (Numbers, LoadFails, WithoutLength)
    return [ExporterPlugin(name=k.__name__, summary="", factory=f"odd_forms:{k.__name__}") for k in kinds]
"""
PROGRAM = """
import json
from torch.utils.data import DataLoader
from ipfs_dataset.exporter import IPFSDatasetExporter

def attempt(work):
    try:
        return ["", work()]
    except Exception as error:
        return [type(error).__name__, str(error)]

def endless_trouble():
    yield 1
    raise ZeroDivisionError("of the user")

def exporter(form, **options):
    return IPFSDatasetExporter("store", form=form, **options)

def read(form="Numbers", workers=0, **options):
    dataset = exporter(form, **options).import_from_ipfs(cid)
    return [item.tolist() for item in DataLoader(dataset, batch_size=2, num_workers=workers)], dataset.skipped

if __name__ == "__main__":
    cid = exporter("Numbers").export_to_ipfs([1, 1, 0, 1])
    print(json.dumps({
        "wrong sample": attempt(lambda: exporter("Numbers").export_to_ipfs([1, "two"])),
        "the user's": attempt(lambda: exporter("Numbers").export_to_ipfs(endless_trouble())),
        "reading": attempt(read),
        "in a worker": attempt(lambda: read(workers=1)),
        "skipping": attempt(lambda: read(handler="skip")),
        "opening": attempt(lambda: read("LoadFails")),
        "counting": attempt(lambda: read("WithoutLength")),
    }))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("site"))
    site.install("odd-forms", PLUGIN, version="3.1", points={"odd": "odd_forms"})
    return json.loads(site.run(PROGRAM).splitlines()[-1])


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("wrong sample", r"failed at the export of sample 1: TypeError"),
        ("reading", r"failed at sample 2 of '.*': ZeroDivisionError"),
        ("in a worker", r"failed at sample 2 of '.*': ZeroDivisionError"),
        ("opening", r"failed at opening '.*': KeyError: 'no manifest'"),
        ("counting", r"`WithoutLength.load` of '.*' returned .* requires PublishedSamples"),
    ],
)
def test_a_form_that_fails_is_named(results, what, words):
    kind, message = results[what]
    assert kind == "PluginError"
    assert "Plugin odd-forms 3.1 (odd)" in message
    assert "pip install -U odd-forms" in message
    assert re.search(words, message), message


def test_what_the_users_dataset_raises_passes_as_it_is(results):
    assert results["the user's"] == ["ZeroDivisionError", "of the user"]


def test_the_users_handler_skips_such_samples(results):
    assert results["skipping"] == ["", [[[1, 1], [1]], 1]]
