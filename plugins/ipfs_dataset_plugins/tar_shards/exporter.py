"""Datasets published as a directory of TAR shards, which webdataset and the original library read too.

``manifest.json`` describes how samples are made of members, ``metadata.txt`` lists the shards for readers of
folders, ``shards/*.tar`` hold members named ``<position>.<field>.<extension>``, ``index/*.json`` where
each sample lies. Equal datasets give equal bytes and so equal CIDs: no times, no owners.
"""

from __future__ import annotations

import functools
import tarfile
from array import array
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import Exporter, ExportError, ObjectDirectory
from ipfs_dataset_plugins.tar_shards import codecs, manifest
from ipfs_dataset_plugins.tar_shards.manifest import OWN_SCHEMA, TRAILER
from ipfs_dataset_plugins.tar_shards.samples import TarShardSamples

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable

    from ipfs_dataset_core import ExporterOptions, FileSink, ObjectFile, PublishedSamples

NAME = "tar_shards"
MANIFEST = "manifest.json"


class TarShards(Exporter):
    """Writes and reads TAR shards; a shard is never in memory, a sample is."""

    def __init__(self, options: ExporterOptions) -> None:
        self._options = options
        self._codec = codecs.SampleCodec(options.codecs, allow_pickle=options.allow_pickle)

    def export(self, samples: Iterable[Any], sink: FileSink) -> None:
        writer = ShardWriter(sink, self._options.shard_bytes)
        common: codecs.Schema | None = None
        for position, (schema, members) in enumerate(self._codec.encode_all(samples)):
            if common is None:
                common = schema
            own = [] if schema is common else [_own_schema(schema)]
            writer.add(position, [*own, *members])
        shards = writer.finish()
        overview = manifest.Manifest(
            form=NAME,
            profile=self._options.profile,
            schema=common,
            shards=tuple(shards),
        )
        write_file(sink, "metadata.txt", "".join(f"{shard.path}\n" for shard in shards).encode())
        write_file(sink, MANIFEST, overview.to_bytes())

    def load(self, source: ObjectDirectory | ObjectFile) -> PublishedSamples | None:
        if not isinstance(source, ObjectDirectory) or not source.contains(MANIFEST):
            return None
        fields = manifest.read_json(source.open(MANIFEST))
        if not manifest.is_manifest(fields) or fields.get("form") != NAME:
            return None
        overview = manifest.parse_manifest(fields, f"{source.name}/{MANIFEST}", source.limits)
        return TarShardSamples(source, overview, self._codec)


def _own_schema(schema: codecs.Schema) -> tuple[str, bytes]:
    """Returns the member that a sample needs which is not put together like the first."""
    return OWN_SCHEMA, codecs.schema_text(schema).encode()


_RECORD = manifest.RECORD
_ZEROS = bytes(_RECORD)
# What the size field of a ustar header holds.
_MAX_MEMBER_BYTES = (8 << 30) - 1

# What all headers have behind the size and behind the checksum.
_BLANK = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
_TIME, _REST = _BLANK[135:148], _BLANK[154:]


def write_file(sink: FileSink, path: str, content: bytes) -> None:
    """Writes a whole file."""
    with sink.create(path) as file:
        file.write(content)


def member_header(number: bytes, suffix: str, size: int) -> bytes:
    """Returns the header of a member of a sample, whose number has ten digits."""
    if size > _MAX_MEMBER_BYTES:
        raise ExportError(
            f"Member '{number.decode()}.{suffix}' has {size} bytes, more than a TAR holds: split the sample"
        )
    middle, checksum = _behind_number(suffix, size)
    return b"%b%b%06o%b" % (number, middle, checksum + sum(number), _REST)


# Tensors mostly have few sizes.
@functools.lru_cache(maxsize=1024)
def _behind_number(suffix: str, size: int) -> tuple[bytes, int]:
    """Returns what is between number and checksum, and the checksum without that of the number."""
    start, checksum = _named_like(suffix)
    digits = b"%011o" % size
    return b"%b%b%b" % (start, digits, _TIME), checksum + sum(digits)


@functools.lru_cache(maxsize=1024)
def _named_like(suffix: str) -> tuple[bytes, int]:
    """Returns what is between number and size, and the checksum without those of number and size."""
    header = tarfile.TarInfo(f"{0:010d}.{suffix}").tobuf(tarfile.USTAR_FORMAT)
    return header[10:124], int(header[148:154], 8) - sum(header[:10]) - sum(header[124:135])


class ShardWriter:
    """Puts samples into shards; what would make a shard too large begins the next one.

    Args:
        sink: Where the shards go.
        shard_bytes: How large a shard may be; a larger sample is a shard of its own.
    """

    def __init__(self, sink: FileSink, shard_bytes: int) -> None:
        self._sink = sink
        self._room = shard_bytes - TRAILER
        self._shards: list[manifest.Shard] = []
        self._file: io.BufferedIOBase | None = None
        self._records = array("I")
        self._size = 0

    def add(self, position: int, members: list[tuple[str, bytes]]) -> None:
        """Writes the members of the sample at a position."""
        number = b"%010d" % position
        pieces: list[bytes] = []
        size = 0
        for suffix, payload in members:
            length = len(payload)
            padding = -length % _RECORD
            pieces += (member_header(number, suffix, length), payload, _ZEROS[:padding])
            size += _RECORD + length + padding
        full = self._size + size > self._room or len(self._records) >= manifest.MAX_SHARD_SAMPLES
        if self._records and full:
            self._close()
        if self._file is None:
            self._file = self._sink.create(self._path("shards", "tar"))
        self._file.writelines(pieces)
        self._records.append(size // _RECORD)
        self._size += size

    def finish(self) -> list[manifest.Shard]:
        """Ends the last shard and returns all of them."""
        if self._records:
            self._close()
        return self._shards

    def _path(self, folder: str, extension: str) -> str:
        return f"{folder}/{len(self._shards):05d}.{extension}"

    def _close(self) -> None:
        assert self._file is not None
        self._file.write(bytes(TRAILER))
        self._file.close()
        path, index = self._path("shards", "tar"), self._path("index", "json")
        write_file(self._sink, index, manifest.write_index(self._records))
        shard = manifest.Shard(
            path=path,
            cid=str(self._sink.cid_of(path)),
            size=self._size + TRAILER,
            samples=len(self._records),
            index=index,
        )
        self._shards.append(shard)
        self._file, self._records, self._size = None, array("I"), 0
