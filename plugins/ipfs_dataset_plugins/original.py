"""Datasets published by the original library: a JSON list of TAR shards of ``torch.save`` samples.

The JSON is ``{"identifier": "ipfs-dataset", "version": "1.0", "list": [CID, …]}``; each shard is a file of
its own, its members in the order of the samples. They are read with ``weights_only=True``; whole pickles
need ``allow_pickle=True`` by name.
"""

from __future__ import annotations

import io
import pickle
import tarfile
from array import array
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import (
    Exporter,
    ExportError,
    FormatError,
    IPFSDatasetError,
    ObjectFile,
    PublishedSamples,
)
from ipfs_dataset_plugins.tar_shards import manifest
from ipfs_dataset_plugins.tar_shards.samples import even_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core import ExporterOptions, FileSink, ObjectDirectory, Span

NAME = "original"
VERSION = "1.0"
_BUFFER_BYTES = 64 << 10


class Original(Exporter):
    """Reads what the original library published; it writes nothing."""

    def __init__(self, options: ExporterOptions) -> None:
        self._allow_pickle = options.allow_pickle

    def export(self, samples: Iterable[Any], sink: FileSink) -> None:
        raise ExportError(
            f"The form {NAME!r} is only read, for it consists of pickles: publish as 'tar_shards'"
        )

    def load(self, source: ObjectDirectory | ObjectFile) -> PublishedSamples | None:
        if not isinstance(source, ObjectFile):
            return None
        fields = manifest.read_json(source)
        if not manifest.is_manifest(fields) or "list" not in fields:
            return None
        shards = fields["list"]
        if fields.get("version") != VERSION:
            raise FormatError(
                f"{source.name!r} is of the unknown version {fields.get('version')!r:.40}: "
                f"the original library wrote {VERSION!r}"
            )
        if type(shards) is not list or not all(type(cid) is str for cid in shards):
            raise FormatError(f"{source.name!r} is damaged: its list is not one of CIDs")
        return OriginalSamples(source, tuple(shards), allow_pickle=self._allow_pickle)


class OriginalSamples(PublishedSamples):
    """The samples of such a dataset; its length is known only after the headers of all shards are read."""

    def __init__(self, source: ObjectFile, shards: tuple[str, ...], *, allow_pickle: bool) -> None:
        self._source = source
        self._shards = shards
        self._allow_pickle = allow_pickle
        self._index: list[tuple[array[int], array[int]]] | None = None
        self._files: dict[int, ObjectFile] = {}

    def __len__(self) -> int:
        return sum(len(starts) for starts, _ in self._indexed())

    def read(self, position: int) -> Any:
        number, start, stop = self._locate(position)
        file = self._file(number)
        data = file.read_at(start, stop - start)
        if len(data) != stop - start:
            raise FormatError(f"Shard {file.name!r} ends within sample {position}")
        what = f"sample {position} of {self._source.name!r} (shard {self._shards[number]})"
        return load_sample(data, what, allow_pickle=self._allow_pickle)

    def iterate(self, start: int, stop: int) -> Iterator[Any]:
        return map(self.read, range(start, stop))

    def prefetch(self, positions: Sequence[int]) -> None:
        for file, spans in self._spans(positions):
            file.prefetch(spans)

    def costs(self, positions: Iterable[int]) -> Iterator[int]:
        for file, spans in self._spans(positions):
            yield from file.costs(spans)

    def block_stops(self, size: int) -> Sequence[int]:
        shards = self._indexed()
        return even_blocks(((len(starts), stops[-1]) for starts, stops in shards if stops), size)

    def _indexed(self) -> list[tuple[array[int], array[int]]]:
        if self._index is None:
            self._index = [index_members(self._file(n)) for n in range(len(self._shards))]
        return self._index

    def _spans(self, positions: Iterable[int]) -> Iterator[tuple[ObjectFile, Iterator[Span]]]:
        """Yields each shard that has some of the samples, in order, and where in it they are."""
        for number, group in groupby(map(self._locate, positions), itemgetter(0)):
            yield self._file(number), ((start, stop) for _, start, stop in group)

    def _locate(self, position: int) -> tuple[int, int, int]:
        local = position
        for number, (starts, stops) in enumerate(self._indexed()):
            if local < len(starts):
                return number, starts[local], stops[local]
            local -= len(starts)
        raise IndexError(f"{self._source.name!r} has no sample {position}")

    def _file(self, number: int) -> ObjectFile:
        if number not in self._files:
            self._files[number] = self._source.open_cid(self._shards[number])
        return self._files[number]


def index_members(file: ObjectFile) -> tuple[array[int], array[int]]:
    """Returns where the content of each regular member of a TAR archive starts and stops.

    Raises:
        FormatError: It is no TAR archive, or empty.
    """
    if not file.size:
        raise FormatError(
            f"Shard {file.name!r} is empty: the original library uploaded every shard so. "
            "The samples are not in IPFS: export the dataset again"
        )
    starts, stops = array("Q"), array("Q")
    buffered = io.BufferedReader(file, _BUFFER_BYTES)
    try:
        with tarfile.open(fileobj=buffered, mode="r:") as archive:
            # Not next(): before Python 3.11 it seeks to -1 in an archive without members.
            for member in archive:
                # What it remembers of a million members would not fit.
                archive.members.clear()  # type: ignore[attr-defined]
                if member.isreg():
                    starts.append(member.offset_data)
                    stops.append(member.offset_data + member.size)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        if isinstance(error, IPFSDatasetError):
            raise
        raise FormatError(f"Shard {file.name!r} is no TAR archive, or damaged: {error}") from error
    finally:
        buffered.detach()
    return starts, stops


def load_sample(data: bytes, what: str, *, allow_pickle: bool) -> Any:
    """Returns what ``torch.save`` wrote.

    Args:
        data: The content of a member.
        what: What errors call it.
        allow_pickle: Run whatever the pickle says, not only what makes tensors and plain containers.

    Raises:
        FormatError: It cannot be read, or not without `allow_pickle`.
    """
    import torch  # noqa: PLC0415 - plugins are listed without torch

    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=not allow_pickle)
    except Exception as error:
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        if allow_pickle or not isinstance(error, pickle.UnpicklingError):
            raise FormatError(f"{what} cannot be loaded: {reason}") from error
        raise FormatError(
            f"{what} is not made of tensors and plain values alone: torch.load(weights_only=True) "
            f"refuses it ({reason}). Reading it would run the pickle, and with it any code that the "
            "author of the dataset wrote into it; if you trust that author, pass allow_pickle=True"
        ) from error
