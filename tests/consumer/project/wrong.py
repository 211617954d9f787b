"""What users get wrong: mypy and pyright have to report each line that is marked, and no other."""

from __future__ import annotations

from collections.abc import Iterator

from ipfs_dataset import load
from ipfs_dataset.exporter import IPFSDatasetExporter, Exporter  # error: not exported from there
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset, ShuffleDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import IPFSDatasetReader  # error: no such name
from ipfs_dataset_core import (
    CID,
    Options,
    Reader,
    ReaderPlugin,
    Sample,
    Transport,
    ValueCodec,
    register,
)

DATASET = IPFSDataset("ipfs://bafy")
EXPORTER = IPFSDatasetExporter()

IPFSDataset(3)  # error: neither an object nor a URL
IPFSDataset("ipfs://bafy", 5001)  # error: an address is text
IPFSDataset("ipfs://bafy", verfy=False)  # error: a misspelt option
IPFSDataset("ipfs://bafy", timeout="soon")  # error: an option of the wrong type
IPFSDataset("ipfs://bafy", handler="ignore")  # error: no such policy
IPFSDataset("ipfs://bafy", handler=lambda: True)  # error: a handler takes the error
IPFSIterableDataset("ipfs://bafy", None, "yes")  # error: shuffle_urls is a bool
IPFSIterableDataset("ipfs://bafy", distribution="even")  # error: no such distribution
IPFSIterableDataset("ipfs://bafy", None, True, 3)  # error: seed is by keyword
ShuffleDataset(DATASET, "1000")  # error: a number
ShuffleDataset([1, 2, 3])  # error: no dataset
IPFSObject(3)  # error: a URL is text
IPFSObject("ipfs://bafy", 3)  # error: no format
IPFSObject("ipfs://bafy").url = "other"  # error: frozen
RemoteFileType.RAR  # error: no such format
DATASET.skipped = 3  # error: read only
DATASET.will_read([1])  # error: no such method
EXPORTER.export_to_ipfs()  # error: nothing to export
load("x", transform="resize")  # error: a transform is a function
load("x", wrokers=2)  # error: there is no such option
EXPORTER.import_from_ipfs(3)  # error: a URL is text
IPFSDatasetExporter("store", shards=3)  # error: no such option
IPFSDatasetExporter("store", codecs=[repr])  # error: no codec
int(EXPORTER.export_to_ipfs([])) + "x"  # error: a number and text
Options(3)  # error: by keyword
Options(retries="many")  # error: a number
Options().timeout = 3  # error: frozen
Options(limits=3)  # error: of its own type
register(IPFSObject)  # error: no format's class
register(IPFSObject("x"))  # error: no declaration
ReaderPlugin(name="x", summary="x")  # error: no factory
ReaderPlugin(name="x", summary="x", factory=IPFSObject)  # error: makes no reader
ReaderPlugin(name="x", summary="x", factory="a:b", suffixes=".x")  # error: a tuple
ReaderPlugin(name="x", summary="x", factory="a:b", magic=((0, "x"),))  # error: bytes
ReaderPlugin(name="x", summary="x", factory="a:b", reads="folder")  # error: file or directory
CID("bafy")  # error: parsed, and not constructed
CID.parse(b"bafy")  # error: text
ValueCodec(name="x", type=int, extension="x", encode=str, decode=bytes)  # error: no bytes


class Pairs(Reader):
    """Yields what is no sample."""

    def samples(self, source: object) -> Iterator[bytes]:  # error: names and values
        yield b""

    def index(self, source: object) -> list[int]:  # error: no index
        return []


class Texts(Transport):
    """Returns text in place of bytes."""

    def get_block(self, cid: str) -> bytes:  # error: a CID is no text
        return b""

    def put_blocks(self, blocks: dict[str, bytes]) -> None:  # error: pairs
        """Stores nothing."""


def sample() -> Sample:
    """Returns what is no sample."""
    return b"name", b"value"  # error: the name is text
