from __future__ import annotations

import pickle

from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins import declarations
from ipfs_dataset_plugins.plain import PlainReader, PlainStreamReader


def test_a_plain_file_is_one_sample():
    file = MemoryFile(b"content", "ipfs://object")
    reader = PlainReader()
    file.seek(3)
    assert list(reader.samples(file)) == [("ipfs://object", b"content")]
    index = pickle.loads(pickle.dumps(reader.index(file)))
    assert (len(index), index.name(0), index.span(0)) == (1, "ipfs://object", (0, 7))
    assert reader.read(file, index, 0) == ("ipfs://object", b"content")


def test_a_plain_stream_is_the_open_file_itself():
    file = MemoryFile(b"content", "object")
    reader = PlainStreamReader()
    file.seek(3)
    [(name, stream)] = reader.samples(file)
    assert (name, file.reads) == ("object", [])
    assert stream.read(4) == b"cont"
    assert stream.seek(-2, 2) == 5
    assert stream.read() == b"nt"
    name, again = reader.read(file, reader.index(file), 0)
    assert again.read() == b"content"
    assert reader.index(file).span(0) == (0, 0)


def test_plain_claims_no_file_of_another_format():
    declared = declarations.PLAIN.ipfs_dataset_readers()
    assert [plugin.name for plugin in declared] == ["plain", "plain_stream"]
    assert not any(plugin.suffixes or plugin.magic for plugin in declared)
