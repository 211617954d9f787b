"""Reads samples from TAR shards, individually or in order in large pieces."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from ipfs_dataset_core import DatasetInfo, FormatError, IPFSDatasetError, PublishedSamples
from ipfs_dataset_plugins.archives.buffered import RandomAccessFile
from ipfs_dataset_plugins.tar_shards import MANIFEST, NAME, codecs, manifest
from ipfs_dataset_plugins.tar_shards.manifest import OWN_SCHEMA, TRAILER
from ipfs_dataset_plugins.tar_shards.shard_writer import shard_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core import ExporterOptions, ObjectDirectory, ObjectFile, Span

PIECE_BYTES = 4 << 20
# Bytes fetched ahead must still be in the cache when they are read.
PREFETCH_BYTES = 32 << 20
_RECORD = manifest.RECORD
_KEY = re.compile(r"[0-9a-f]{16}(-[1-9][0-9]{0,6})?\.")
_KEY_BYTES = re.compile(_KEY.pattern.encode())
# Number of bytes in a header that hold the name.
_NAME = 100


def open_samples(source: ObjectDirectory, options: ExporterOptions) -> TarShardSamples | None:
    """Opens the samples of a directory; returns None if its manifest is not of this form.

    Args:
        source: The directory, which has a manifest.
        options: `codecs` and `allow_pickle` are used.

    Raises:
        FormatError: The manifest is damaged.
        LimitError: It is too large.
    """
    # The folders of shards and of their indexes are needed next.
    source.prefetch([MANIFEST, *(path.partition("/")[0] for path in shard_paths(0))])
    fields = manifest.read_json(source.open(MANIFEST))
    if not manifest.is_manifest(fields) or fields.get("form") != NAME:
        return None
    overview = manifest.parse_manifest(fields, f"{source.name}/{MANIFEST}", source.limits)
    codec = codecs.SampleCodec(options.codecs, allow_pickle=options.allow_pickle)
    return TarShardSamples(source, overview, codec)


class _OpenShard(NamedTuple):
    file: ObjectFile
    starts: array[int]
    decoder: _UsualSamples | None

    def span(self, first: int, last: int) -> Span:
        return self.starts[first] * _RECORD, self.starts[last] * _RECORD

    def read(self, first: int, last: int) -> bytes:
        start, stop = self.span(first, last)
        data = self.file.read_at(start, stop - start)
        self.check(stop, len(data), stop - start)
        return data

    def check(self, stop: int, found: int, size: int) -> None:
        if found < size:
            raise FormatError(f"{self.file.name!r} ends before byte {stop}, which its index names")


class TarShardSamples(PublishedSamples):
    """The samples of a published directory; the index of a shard is read on first use."""

    def __init__(
        self, source: ObjectDirectory, overview: manifest.Manifest, codec: codecs.SampleCodec
    ) -> None:
        self._source = source
        self._overview = overview
        self._schemas = [shard.schema or overview.schema for shard in overview.shards]
        self._numbered = overview.numbered
        self._shards = overview.shards
        self._codec = codec
        self._starts = array("Q", accumulate((s.samples for s in overview.shards), initial=0))
        self._open: dict[int, _OpenShard] = {}
        # Keyed by the identity of schemas, which live as long.
        self._usual: dict[int, _UsualSamples | None] = {}

    def __len__(self) -> int:
        return self._starts[-1]

    def info(self) -> DatasetInfo:
        overview = self._overview
        same = all(schema in (None, overview.schema) for schema in self._schemas)
        schema = codecs.outline(overview.schema) if overview.schema is not None and same else None
        size = sum(shard.size for shard in self._shards)
        return DatasetInfo(
            samples=len(self),
            schema=schema,
            size=size,
            card=overview.card,
            classes=overview.classes,
        )

    def files(self, position: int) -> dict[str, bytes]:
        number, local = self._locate(position)
        data = self._opened(number).read(local, local + 1)
        found = self._members(
            memoryview(data), position, f"sample {position} of {self._source.name!r}"
        )
        found.pop(OWN_SCHEMA, None)
        return found

    def sizes(self, start: int, stop: int) -> Iterator[int | None]:
        wanted = [
            (number, max(start - first, 0), min(stop - first, shard.samples))
            for number, (first, shard) in enumerate(zip(self._starts, self._shards, strict=False))
            if first < stop and start < first + shard.samples
        ]
        # Fetched together, because there may be hundreds of small ones.
        self._source.read_ahead([self._shards[number].index for number, _, _ in wanted])
        for number, first, last in wanted:
            starts = self._index(number)
            for local in range(first, last):
                yield (starts[local + 1] - starts[local]) * _RECORD

    def read(self, position: int) -> Any:
        number, local = self._locate(position)
        shard = self._opened(number)
        data = shard.read(local, local + 1)
        return self._sample(shard, (data, 0, len(data)), number, position)

    def read_each(self, positions: Iterable[int]) -> Iterator[Any]:
        for number, inside in self._by_shard(positions):
            shard, first = self._opened(number), self._starts[number]
            archive, starts = RandomAccessFile(shard.file), shard.starts
            for local in inside:
                start, stop = starts[local] * _RECORD, starts[local + 1] * _RECORD
                # Neighbouring samples come from the same block.
                piece, at = archive.window(start, stop - start)
                shard.check(stop, len(piece) - at, stop - start)
                yield self._sample(shard, (piece, at, at + stop - start), number, first + local)

    def prefetch(self, positions: Sequence[int]) -> None:
        room = PREFETCH_BYTES
        for file, spans in self._spans(positions):
            fitting = []
            for start, stop in spans:
                room -= stop - start
                if room < 0:
                    break
                fitting.append((start, stop))
            file.prefetch(fitting)
            if room < 0:
                return

    def is_cached(self, positions: Sequence[int]) -> bool:
        # The indexes of shards that were not read yet would have to be fetched.
        return all(
            (shard := self._open.get(number)) is not None
            and shard.file.is_cached(shard.span(local, local + 1) for local in inside)
            for number, inside in self._by_shard(positions)
        )

    def fetch_bytes(self, positions: Iterable[int]) -> Iterator[int]:
        for file, spans in self._spans(positions):
            yield from file.fetch_bytes(spans)

    def block_stops(self, size: int) -> Sequence[int]:
        return even_blocks(((shard.samples, shard.size) for shard in self._shards), size)

    def shard_sizes(self) -> Sequence[tuple[int, int]]:
        return [(shard.samples, shard.size) for shard in self._shards]

    def shard_cids(self) -> Sequence[str]:
        return [shard.cid for shard in self._shards]

    def span(self, position: int) -> tuple[ObjectFile, int, int]:
        number, local = self._locate(position)
        shard = self._opened(number)
        return shard.file, *shard.span(local, local + 1)

    def iterate(self, start: int, stop: int) -> Iterator[Any]:
        for number, shard in enumerate(self._shards):
            offset = self._starts[number]
            first, last = max(start - offset, 0), min(stop - offset, shard.samples)
            if first < last:
                # Not cached, because an epoch would accumulate the index of every shard.
                opened = self._open.get(number) or self._open_shard(number)
                yield from self._iterate_shard(opened, number, first, last)

    def _iterate_shard(
        self, shard: _OpenShard, number: int, first: int, last: int
    ) -> Iterator[Any]:
        offset = self._starts[number]
        while first < last:
            limit = shard.starts[first] + PIECE_BYTES // _RECORD
            end = max(first + 1, bisect_right(shard.starts, limit, first, last + 1) - 1)
            base, _ = shard.span(first, end)
            try:
                piece = shard.read(first, end)
            except IPFSDatasetError as error:
                # The samples before an unreadable one are still yielded, unless the source is unreachable,
                # which was waited for already.
                if getattr(error, "retryable", False) or end - first == 1:
                    raise
                for local in range(first, end):
                    data = shard.read(local, local + 1)
                    yield self._sample(shard, (data, 0, len(data)), number, offset + local)
            else:
                for local in range(first, end):
                    start, stop = shard.span(local, local + 1)
                    where = piece, start - base, stop - base
                    yield self._sample(shard, where, number, offset + local)
            first = end

    def _spans(self, positions: Iterable[int]) -> Iterator[tuple[ObjectFile, Iterator[Span]]]:
        """Yields each shard that contains some of the samples, in order, with their spans in it."""
        for number, inside in self._by_shard(positions):
            shard = self._opened(number)
            yield shard.file, (shard.span(local, local + 1) for local in inside)

    def _by_shard(self, positions: Iterable[int]) -> Iterator[tuple[int, list[int]]]:
        """Yields each shard that contains some of the samples, in order, with their numbers in it."""
        number, first, end = 0, 0, 0
        inside: list[int] = []
        for position in positions:
            if not first <= position < end:
                if inside:
                    yield number, inside
                number, local = self._locate(position)
                first, end = position - local, self._starts[number + 1]
                inside = []
            inside.append(position - first)
        if inside:
            yield number, inside

    def _locate(self, position: int) -> tuple[int, int]:
        number = bisect_right(self._starts, position) - 1
        return number, position - self._starts[number]

    def _opened(self, number: int) -> _OpenShard:
        if number not in self._open:
            self._open[number] = self._open_shard(number)
        return self._open[number]

    def _open_shard(self, number: int) -> _OpenShard:
        shard = self._shards[number]
        self._source.prefetch([shard.index, shard.path])
        starts = self._index(number)
        file = self._source.open(shard.path)
        if file.size != shard.size:
            raise FormatError(
                f"{file.name!r} has {file.size} bytes, but {shard.size} in the manifest: the dataset is "
                "damaged"
            )
        return _OpenShard(file, starts, self._usual_samples(number))

    def _usual_samples(self, number: int) -> _UsualSamples | None:
        """Returns a decoder for the samples of a shard that have its schema, one for each schema."""
        schema = self._schemas[number]
        if schema is None:
            return None
        if id(schema) not in self._usual:
            decoder = self._codec.decoder(schema)
            self._usual[id(schema)] = (
                None if decoder is None else _UsualSamples(decoder, numbered=self._numbered)
            )
        return self._usual[id(schema)]

    def _index(self, number: int) -> array[int]:
        shard = self._shards[number]
        index = manifest.read_limited(self._source.open(shard.index), manifest.MAX_INDEX_BYTES)
        return manifest.parse_index(index, shard, trailer=TRAILER)

    def _members(self, data: memoryview, position: int, what: str) -> dict[str, bytes]:
        return _members(data, f"{position:010d}." if self._numbered else None, what)

    def _sample(
        self, shard: _OpenShard, where: tuple[bytes, int, int], number: int, position: int
    ) -> Any:
        """Decodes the sample between two offsets of a piece."""
        if shard.decoder is not None:
            # Unusual or damaged samples are decoded step by step, which raises the error.
            with suppress(Exception):
                return shard.decoder.decode(*where, position)
        piece, start, stop = where
        return self._decode(memoryview(piece)[start:stop], number, position)

    def _decode(self, data: memoryview, shard: int, position: int) -> Any:
        what = f"sample {position} of {self._source.name!r}"
        members = self._members(data, position, what)
        own = members.pop(OWN_SCHEMA, None)
        schema = (
            self._schemas[shard]
            if own is None
            else codecs.parse_schema(own, f"the schema of {what}")
        )
        if schema is None:
            raise FormatError(f"{what} has no schema")
        return self._codec.decode(schema, members, what)


class _UsualSamples:
    """Decodes samples whose members are those of a schema, in order; that is most samples.

    Args:
        decoder: The decoder of the schema.
        numbered: Whether the keys of samples are their numbers.
    """

    def __init__(self, decoder: codecs.SampleDecoder, *, numbered: bool) -> None:
        suffixes = (suffix.encode() for suffix in decoder.suffixes)
        self._members = list(zip(suffixes, decoder.decoders, strict=True))
        self._build = decoder.build
        self._numbered = numbered

    def decode(self, piece: bytes, at: int, stop: int, position: int) -> Any:
        """Decodes the sample in the bytes of a piece from `at` to `stop`.

        Raises:
            Exception: Any, if the sample is unusual or damaged.
        """
        key = piece[at : piece.index(b".", at, at + _NAME) + 1]
        if key != b"%010d." % position if self._numbered else not _KEY_BYTES.fullmatch(key):
            raise ValueError("another key")
        values = []
        for suffix, decode in self._members:
            data = at + _RECORD
            digits = piece[at + 124 : at + 135]
            if piece[at : piece.index(b"\0", at, at + _NAME)] != key + suffix:
                raise ValueError("another member")
            if not digits.isdigit() or piece[at + 135] not in b"\0 ":
                raise ValueError("another form of the size")
            size = int(digits, 8)
            at = data + size + -size % _RECORD
            if at > stop:
                raise ValueError("cut off")
            values.append(decode(piece[data : data + size]))
        if at != stop:
            raise ValueError("more members")
        return self._build(values)


def even_blocks(shards: Iterable[tuple[int, int]], size: int) -> array[int]:
    """Returns the ends of blocks of about `size` bytes, estimated from the totals of each shard."""
    stops, first = array("Q"), 0
    for samples, total in shards:
        step = max(1, samples * size // max(1, total))
        stops.extend(range(first + step, first + samples, step))
        first += samples
        if samples:
            stops.append(first)
    return stops


def _members(data: memoryview, key: str | None, what: str) -> dict[str, bytes]:
    """Returns the members of one sample by suffix; headers not written by this library count as damage.

    Args:
        data: The records of the sample.
        key: The beginning of all names, up to the first dot; None is that of the first name.
        what: Name of the sample in messages.
    """
    found: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        header = bytes(data[position : position + _RECORD])
        name, size = _parse_header(header, what)
        payload = bytes(data[position + _RECORD : position + _RECORD + size])
        if key is None:
            key = name[: name.find(".") + 1]
            if not _KEY.fullmatch(key):
                raise FormatError(
                    f"{what} is damaged: {name!r} does not start with the key of a sample"
                )
        if len(payload) != size or not name.startswith(key):
            raise FormatError(f"{what} is damaged: it has a member {name!r} of {size} bytes")
        if name[len(key) :] in found:
            raise FormatError(f"{what} is damaged: it has the member {name!r} twice")
        found[name[len(key) :]] = payload
        position += _RECORD + size + -size % _RECORD
    return found


def _parse_header(header: bytes, what: str) -> tuple[str, int]:
    size = header[124:136].rstrip(b"\0 ")
    try:
        if not size.isdigit():
            raise ValueError(f"its size is {size!r}")  # noqa: TRY301
        return header[:100].partition(b"\0")[0].decode(), int(size, 8)
    except ValueError as error:
        raise FormatError(f"{what} is damaged: bytes that are no TAR header: {error}") from error
