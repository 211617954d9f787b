"""What users write, with types: this has to pass under the strictest settings of mypy and pyright."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from typing_extensions import assert_type, override

from ipfs_dataset import load
from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset, ShuffleDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import (
    CID,
    Exporter,
    ExporterOptions,
    ExporterPlugin,
    FileSink,
    IPFSDatasetError,
    MemberIndex,
    ObjectDirectory,
    ObjectFile,
    ObjectNotFoundError,
    Options,
    PublishedSamples,
    RateLimitedError,
    Reader,
    ReaderPlugin,
    Sample,
    Span,
    SpanIndex,
    Transport,
    TransportError,
    TransportPlugin,
    WrapperTransport,
    ValueCodec,
    hookimpl,
    open_reader,
    register,
)


class Numbers(IPFSDataset):
    """A subclass that makes tensors of what is read."""

    def __init__(self, objects: Sequence[IPFSObject], address: str | None = None) -> None:
        super().__init__(
            objects, address, handler="skip", memory="64M", gateways=["https://one.example"]
        )

    @override
    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        name, data = super().__getitem__(index)
        assert_type(data, Any)
        return torch.frombuffer(data, dtype=torch.uint8), name


class NumbersInOrder(IPFSIterableDataset):
    """A subclass that makes tensors of what is streamed."""

    @override
    def __iter__(self) -> Iterator[torch.Tensor]:
        for _, data in super().__iter__():
            yield torch.frombuffer(data, dtype=torch.uint8)


class Lines(Reader):
    """The least that a format needs."""

    @override
    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        for number, line in enumerate(source):
            yield f"{source.name}:{number}", line


class Positions(MemberIndex):
    """Where lines of one length lie."""

    def __init__(self, size: int, length: int) -> None:
        self._size, self._length = size, length

    @override
    def __len__(self) -> int:
        return self._size // self._length

    @override
    def name(self, position: int) -> str:
        return str(position)

    @override
    def span(self, position: int) -> Span:
        return position * self._length, (position + 1) * self._length


class Records(Lines):
    """A format with random access."""

    cheap_index = True
    index_form = "records 1"

    @override
    def index(self, source: ObjectFile) -> Positions:
        return Positions(source.size, 16)

    @override
    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        start, stop = index.span(position)
        assert_type(start, int)
        return index.name(position), source.read_at(start, stop - start)


class Spectra(Reader):
    """A format as a class that declares itself."""

    name = "spectra"
    suffixes = (".spx",)
    magic = ((0, b"SPX"),)

    @override
    def index(self, source: ObjectFile) -> SpanIndex:
        return SpanIndex(source.name, [0], [source.size], scale=[2.0], channels=3)

    @override
    def decode(self, data: bytes, index: SpanIndex, position: int) -> bytes:
        return data * int(index.channels)


class Memory(Transport):
    """The least that a source of blocks needs."""

    def __init__(self, address: str, options: Options) -> None:
        self.name = address
        self.patience: float = options.timeout

    @override
    def get_block(self, cid: CID) -> bytes:
        raise ObjectNotFoundError(f"{self.name}: no block {cid}")


class Words(Exporter):
    """The least that a published form needs."""

    def __init__(self, options: ExporterOptions) -> None:
        assert_type(options.shard_bytes, int)

    @override
    def export(self, samples: Any, sink: FileSink) -> None:
        with sink.create("words.txt") as file:
            file.writelines(samples)
        assert_type(sink.cid_of("words.txt"), CID)

    @override
    def load(self, source: ObjectDirectory | ObjectFile) -> PublishedSamples | None:
        return None


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares a format as an installed plugin does."""
    return [
        ReaderPlugin(name="lines", summary="lines", factory=Lines, suffixes=(".txt",)),
        ReaderPlugin(
            name="records", summary="records", factory="good:Records", magic=((0, b"REC"),)
        ),
    ]


class Counting(WrapperTransport):
    """Counts the blocks that are requested from another transport."""

    requests = 0

    def get_block(self, cid: CID) -> bytes:
        self.requests += 1
        return super().get_block(cid)


@hookimpl
def ipfs_dataset_transports() -> list[TransportPlugin]:
    """Declares a transport."""
    return [TransportPlugin(name="memory", summary="memory", schemes=("memory",), factory=Memory)]


@hookimpl
def ipfs_dataset_exporters() -> list[ExporterPlugin]:
    """Declares a published form."""
    return [ExporterPlugin(name="words", summary="words", factory=Words)]


def train(address: str) -> None:
    """Uses all of it."""
    register(Spectra)
    objects = [IPFSObject("ipfs://x", Spectra), IPFSObject("ipfs://x", Spectra())]
    IPFSDataset(objects, decoders={".txt": bytes.decode, ".spx": Spectra, ".mat": "mat"})
    IPFSIterableDataset(objects, decoders={".n": int})
    register(ReaderPlugin(name="my-lines", summary="one sample a line", factory=Lines))
    objects = [
        IPFSObject("ipfs://bafy", RemoteFileType.ZIP),
        IPFSObject("ipfs://bafy", "my-lines"),
        IPFSObject("ipfs://bafy", Lines()),
    ]
    dataset = Numbers(objects, address)
    assert_type(len(dataset), int)
    assert_type(dataset[0], tuple[torch.Tensor, str])
    assert_type(dataset.skipped, int)
    stream = NumbersInOrder(
        objects, address, shuffle_urls=True, seed=3, distribution="drop", retries=2
    )
    stream.set_epoch(1)
    shuffled = ShuffleDataset(stream, buffer_size=100, seed=1)
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=2, shuffle=True, num_workers=1)
    for batch in loader:
        print(batch)
    for batch in DataLoader(shuffled, batch_size=2):
        print(batch)
    dataset.close()


def publish(samples: Sequence[object]) -> str:
    """Exports and imports."""
    codec = ValueCodec(
        name="number", type=complex, extension="txt", encode=repr_bytes, decode=complex_of
    )
    exporter = IPFSDatasetExporter("store", codecs=[codec], form="words", timeout=3.0)
    cid = exporter.export_to_ipfs(samples)
    assert_type(cid, str)
    imported = exporter.import_from_ipfs(f"ipfs://{cid}")
    loaded = load(cid, "store", transform=len, target_transform=str, allow_pickle=False, retries=2)
    assert_type(loaded.cid, str)
    assert_type(len(loaded), int)
    assert_type(len(imported), int)
    imported.close()
    record = exporter.export_part(samples, part=0, ledger="parts.jsonl", upload=False)
    assert_type(record, dict[str, Any])
    assert_type(exporter.assemble([record], pin="direct", mixed=True), str)
    exporter.assemble("parts.jsonl", pin=None)
    return cid


def repr_bytes(value: complex) -> bytes:
    """Encodes a number."""
    return repr(value).encode()


def complex_of(data: bytes) -> complex:
    """Decodes a number."""
    return complex(data.decode())


def careful(objects: list[str]) -> int:
    """Tells errors apart, and configures."""
    options = Options(timeout=5, handler=lambda error: isinstance(error, TransportError))
    assert_type(options.deadline, float)
    assert_type(options.gateways, tuple[str, ...])
    assert_type(open_reader("plain"), Reader)
    try:
        return len(IPFSDataset(objects, deadline=10.0, limits=options.limits, offline=True))
    except RateLimitedError as error:
        assert_type(error.retry_after, float | None)
    except TransportError as error:
        assert_type(error.retryable, bool)
    except (IPFSDatasetError, FileNotFoundError):
        pass
    return 0
