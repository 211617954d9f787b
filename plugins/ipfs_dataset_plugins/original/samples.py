"""Samples of datasets of the original library: a JSON list of TAR shards of ``torch.save`` samples.

The JSON is ``{"identifier": "ipfs-dataset", "version": "1.0", "list": [CID, …]}``. Each shard is a file,
whose members are in the order of the samples. They are read with ``weights_only=True``; other pickles need
the option ``allow_pickle=True``.
"""

from __future__ import annotations

import io
import pickle
from array import array
from bisect import bisect_right
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from ipfs_dataset_core import (
    FormatError,
    Limits,
    PublishedSamples,
)
from ipfs_dataset_plugins.tar.reader import TarReader
from ipfs_dataset_plugins.tar_shards.codecs.scalars import shown
from ipfs_dataset_plugins.tar_shards.samples import even_blocks
from ipfs_dataset_plugins.torch_files import check_torch_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ipfs_dataset_core import MemberIndex, ObjectFile, Span

VERSION = "1.0"
_DEFAULT_LIMITS = Limits()


def open_samples(
    source: ObjectFile, fields: Mapping[str, Any], *, allow_pickle: bool
) -> OriginalSamples:
    """Returns the samples of a dataset.

    Args:
        source: The JSON file.
        fields: The fields of the JSON object.
        allow_pickle: As for `load_sample`.

    Raises:
        FormatError: It is damaged, or of another version.
    """
    shards = fields["list"]
    if fields.get("version") != VERSION:
        raise FormatError(
            f"{source.name!r} has an unknown version, {shown(fields.get('version'))}: "
            f"the original library wrote {VERSION!r}"
        )
    if type(shards) is not list or not all(type(cid) is str for cid in shards):
        raise FormatError(f"{source.name!r} is damaged: its list is not one of CIDs")
    return OriginalSamples(source, tuple(shards), allow_pickle=allow_pickle)


class _Shard(NamedTuple):
    file: ObjectFile
    members: MemberIndex


class OriginalSamples(PublishedSamples):
    """The samples of a dataset, whose length is known after the headers of all shards have been read."""

    def __init__(self, source: ObjectFile, shards: tuple[str, ...], *, allow_pickle: bool) -> None:
        self._source = source
        self._shards = shards
        self._allow_pickle = allow_pickle
        self._reader = TarReader()
        self._stops: array[int] | None = None
        # By CID, because a shard may be listed more than once.
        self._open: dict[str, _Shard] = {}

    def __len__(self) -> int:
        stops = self._counted()
        return stops[-1] if stops else 0

    def read(self, position: int) -> Any:
        number, local = self._locate(position)
        shard = self._opened(number)
        if shard.members.span(local)[1] > shard.file.size:
            raise FormatError(f"Shard {shard.file.name!r} ends within sample {position}")
        what = f"sample {position} of {self._source.name!r} (shard {self._shards[number]})"
        _, data = self._reader.read(shard.file, shard.members, local)
        limits = shard.file.limits
        return load_sample(data, what, allow_pickle=self._allow_pickle, limits=limits)

    def iterate(self, start: int, stop: int) -> Iterator[Any]:
        return map(self.read, range(start, stop))

    def prefetch(self, positions: Sequence[int]) -> None:
        for file, spans in self._spans(positions):
            file.prefetch(spans)

    def is_cached(self, positions: Sequence[int]) -> bool:
        return all(file.is_cached(spans) for file, spans in self._spans(positions))

    def fetch_bytes(self, positions: Iterable[int]) -> Iterator[int]:
        for file, spans in self._spans(positions):
            yield from file.fetch_bytes(spans)

    def block_stops(self, size: int) -> Sequence[int]:
        return even_blocks(self.shard_sizes(), size)

    def shard_sizes(self) -> Sequence[tuple[int, int]]:
        self._counted()
        shards = map(self._opened, range(len(self._shards)))
        return [(len(shard.members), shard.file.size) for shard in shards]

    def _counted(self) -> array[int]:
        """Returns, for each shard, the number of samples up to its end."""
        if self._stops is None:
            stops, count = array("Q"), 0
            for number, _ in enumerate(self._shards):
                count += len(self._opened(number).members)
                self._source.limits.check("members", count, repr(self._source.name))
                stops.append(count)
            self._stops = stops
        return self._stops

    def _spans(self, positions: Iterable[int]) -> Iterator[tuple[ObjectFile, Iterator[Span]]]:
        """Yields the shards of the samples, in order, and the spans of the samples in each."""
        for number, group in groupby(map(self._locate, positions), itemgetter(0)):
            file, members = self._opened(number)
            yield file, (members.span(local) for _, local in group)

    def _locate(self, position: int) -> tuple[int, int]:
        """Returns the number of a sample's shard, and the position of the sample in it."""
        stops = self._counted()
        number = bisect_right(stops, position)
        if number == len(stops):
            raise IndexError(f"{self._source.name!r} has no sample {position}")
        return number, position - (stops[number - 1] if number else 0)

    def _opened(self, number: int) -> _Shard:
        cid = self._shards[number]
        if cid not in self._open:
            file = self._source.open_cid(cid)
            self._open[cid] = _Shard(file, index_members(file, self._reader))
        return self._open[cid]


def index_members(file: ObjectFile, reader: TarReader) -> MemberIndex:
    """Returns the index of a TAR archive.

    Raises:
        FormatError: It is not a TAR archive, or it is empty.
        LimitError: It has too many members.
    """
    if not file.size:
        raise FormatError(
            f"Shard {file.name!r} is empty, like every shard uploaded by the original library. "
            "The samples are not in IPFS: export the dataset again"
        )
    try:
        return reader.index(file)
    except FormatError as error:
        raise FormatError(
            f"Shard {file.name!r} is not a TAR archive, or damaged: {error}"
        ) from error


def load_sample(
    data: bytes, what: str, *, allow_pickle: bool, limits: Limits = _DEFAULT_LIMITS
) -> Any:
    """Loads the sample written by ``torch.save``.

    Args:
        data: The content of a member.
        what: The name of the sample in error messages.
        allow_pickle: Whether to execute any pickle, and not only those of tensors and plain containers.
        limits: The limit for the size of a sample in proportion to its file.

    Raises:
        FormatError: It cannot be read, or not without `allow_pickle`.
        LimitError: The sample is too large in proportion to its file.
    """
    import torch  # noqa: PLC0415 - plugins are listed without torch

    check_torch_file(data, what, limits, allow_pickle=allow_pickle)
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=not allow_pickle)
    except Exception as error:
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        if allow_pickle or not isinstance(error, pickle.UnpicklingError):
            raise FormatError(f"{what} cannot be loaded: {reason}") from error
        raise FormatError(
            f"{what} does not only consist of tensors and plain values: torch.load(weights_only=True) "
            f"refuses it ({reason}). Reading it would run the pickle, and thereby any code that the "
            "author of the dataset put into it; if you trust that author, pass allow_pickle=True"
        ) from error
