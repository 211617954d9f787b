"""Which plugins are imported for what: one that is slow to import slows down nobody who does not need it."""

from __future__ import annotations

import json

import pytest

from tests.support.distributions import Site

PLUGIN = """
import heavy_library_of_{name}
from ipfs_dataset_core import ReaderPlugin, TransportPlugin, hookimpl

@hookimpl
def ipfs_dataset_readers():
    return [
        ReaderPlugin(name="{name}", summary="", factory="no.such:R", suffixes=(".{name}", ".{name}.tar"),
                     magic=((0, b"{name}"),), in_folders=True),
        ReaderPlugin(name="{name}_rows", summary="", factory="no.such:R"),
    ]

@hookimpl
def ipfs_dataset_transports():
    return [TransportPlugin(name="{name}", summary="", factory="no.such:T", schemes=("{name}",))]
"""
NAMES = [f"plug{number}" for number in range(50)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    found = Site(tmp_path_factory.mktemp("site"))
    for name in NAMES:
        (found.folder / f"heavy_library_of_{name}.py").write_text("")
        found.install(name, PLUGIN.format(name=name))
    return found


QUESTIONS = {
    "reader('zip')": ("zip", []),
    "reader('plain_stream')": ("plain_stream", []),
    "transport('file')": ("store", []),
    "exporter('tar_shards')": ("tar_shards", []),
    "reader_for_suffix('folder.v1/photos.zip')": ("zip", []),
    "reader_for_suffix('photos.tar.gz', in_folders=True)": ("tar", []),
    "reader('plug7')": ("plug7", ["plug7"]),
    "transport('plug7')": ("plug7", ["plug7"]),
    # Whoever claims them: all have to be asked.
    "reader('plug7_rows')": ("plug7_rows", NAMES),
    "reader_for_suffix('photos.plug7')": ("plug7", NAMES),
    "reader_for_suffix('photos.plug7.tar')": ("plug7", NAMES),
    "reader_for_suffix('photos.v1.tar')": ("tar", NAMES),
    "reader_for_magic(b'plug7+')": ("plug7", NAMES),
}


@pytest.fixture(scope="module")
def answers(site):
    out = site.run(
        f"""
        import json, sys
        from ipfs_dataset_core.registry.lookup import Registry

        def imported():
            return [name for name in sys.modules if name.startswith(("heavy_library_of_", "plug"))]

        answers = {{}}
        for question in {list(QUESTIONS)!r}:
            for name in imported():
                del sys.modules[name]
            found = eval(f"Registry().{{question}}").name
            heavy = sorted(n.rpartition("_")[2] for n in imported() if n.startswith("heavy"))
            answers[question] = found, heavy
        assert not {{"torch", "numpy", "scipy", "h5py"}} & set(sys.modules)
        print(json.dumps(answers))
        """
    )
    return json.loads(out)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_imports_those_who_may_answer_it(answers, question):
    name, imported = QUESTIONS[question]
    assert answers[question] == [name, sorted(imported)]


def test_reading_and_publishing_what_is_built_in_imports_no_other_plugin(site, tmp_path):
    out = site.run(
        f"""
        import sys
        from pathlib import Path
        from ipfs_dataset.exporter import IPFSDatasetExporter
        from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
        from ipfs_dataset.types import IPFSObject, RemoteFileType
        from tests.support.builders import zip_bytes
        from tests.support.stores import Store

        store = Store(Path({str(tmp_path / "store")!r}))
        archive = store.file(zip_bytes({{"a.txt": b"1", "b.txt": b"2"}}))
        for obj in (IPFSObject(archive, RemoteFileType.ZIP), IPFSObject(archive, "plain")):
            print(len(IPFSDataset(obj, store.address)), len(list(IPFSIterableDataset(obj, store.address))))
        exporter = IPFSDatasetExporter(store.address)
        print(*exporter.import_from_ipfs(exporter.export_to_ipfs([1, 2])))
        assert not [name for name in sys.modules if name.startswith("heavy_library_of_")]
        """
    )
    assert out.split() == ["2", "2", "1", "1", "1", "2"]
