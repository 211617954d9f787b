"""The records of parts of a dataset in TAR shards: their content and validation.

A record lists the shards with the CIDs and sizes of their files, so that their directory can be built without
reading the shards.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core import CID, ExportError, FormatError, IPFSDatasetError, class_numbers
from ipfs_dataset_core.ipld import DAG_PB, RAW, Built
from ipfs_dataset_plugins.tar_shards import manifest
from ipfs_dataset_plugins.tar_shards.codecs import schema, schema_text
from ipfs_dataset_plugins.tar_shards.codecs.scalars import shown
from ipfs_dataset_plugins.tar_shards.page.statistics import statistics_from_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ipfs_dataset_core import FileSink
    from ipfs_dataset_plugins.tar_shards.page.statistics import Statistics

_MAX_BYTES = 1 << 60


@attrs.frozen
class PartShard:
    """A shard of a part.

    Args:
        file: The shard.
        index: Its index.
        samples: The number of its samples.
        sha256: The SHA-256 of its bytes.
    """

    file: Built
    index: Built
    samples: int
    sha256: str


@attrs.frozen
class Part:
    """A part of a dataset.

    Args:
        number: Number of the part.
        schema: Structure of its samples; None if it has no samples.
        shards: Its shards, in order.
        statistics: Statistics of its samples.
        classes: The number of each class, by name; empty if the classes have no names.
    """

    number: int
    schema: schema.Schema | None
    shards: tuple[PartShard, ...]
    statistics: Statistics
    classes: Mapping[str, int]


def part_content(
    common: schema.Schema | None,
    shards: Sequence[manifest.Shard],
    statistics: Statistics,
    sink: FileSink,
    classes: Mapping[str, int],
) -> dict[str, Any]:
    """Returns the record of a part that was written into a sink."""
    return {
        "version": f"{manifest.MAJOR}.{manifest.MINOR}",
        "codec": manifest.CODEC,
        "samples": sum(shard.samples for shard in shards),
        "bytes": sum(shard.size for shard in shards),
        "schema": None if common is None else schema.to_json(common),
        "classes": dict(classes),
        "statistics": statistics.to_json(),
        "shards": [
            {
                **_file_fields(sink.built(shard.path)),
                "samples": shard.samples,
                "sha256": shard.sha256,
                "index": _file_fields(sink.built(shard.index)),
            }
            for shard in shards
        ],
    }


def _file_fields(file: Built) -> dict[str, Any]:
    return {"cid": str(file.cid), "size": file.size, "tsize": file.tsize}


def parse_part(record: Mapping[str, Any]) -> Part:
    """Parses the record of a part.

    Raises:
        ExportError: The part was written in another version of the form.
        FormatError: The record is damaged.
    """
    number = record["part"]
    _check_version(record, number)
    what = f"the record of part {number}"
    try:
        own, shards = record["schema"], record["shards"]
        if type(shards) is not list:
            raise FormatError(f"its shards are {shown(shards)}, not a list")
        common = None if own is None else schema.from_json(own, f"the schema of part {number}")
        part = Part(
            number,
            common,
            tuple(map(_shard, shards)),
            statistics_from_json(record["statistics"], common),
            class_numbers(record["classes"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(f"{what} is damaged: {error}") from error
    claimed = (record.get("samples"), record.get("bytes"))
    found = (
        sum(shard.samples for shard in part.shards),
        sum(shard.file.size for shard in part.shards),
    )
    if claimed != found or any(type(count) is not int for count in claimed):
        raise FormatError(
            f"{what} claims {shown(claimed[0])} samples in {shown(claimed[1])} bytes, and its shards "
            f"{found[0]} in {found[1]}"
        )
    if part.shards and part.schema is None:
        raise FormatError(f"{what} is damaged: it has samples but no schema")
    return part


def _check_version(record: Mapping[str, Any], number: int) -> None:
    version, codec = record.get("version"), record.get("codec")
    if version != f"{manifest.MAJOR}.{manifest.MINOR}" or codec != manifest.CODEC:
        raise ExportError(
            f"Part {number} is of version {shown(version)} with the codec {shown(codec)}, but this "
            f"release writes {manifest.MAJOR}.{manifest.MINOR} with {manifest.CODEC!r}: export and "
            "assemble all parts with the same release of ipfs-dataset"
        )


def _shard(fields: Any) -> PartShard:
    if type(fields) is not dict:
        raise FormatError(f"a shard is {shown(fields)}, not an object")
    shard = PartShard(_file(fields), _file(fields["index"]), fields["samples"], fields["sha256"])
    if shard.sha256 is None:
        raise FormatError("a shard has no SHA-256")
    # The same checks as when the manifest is read.
    manifest.Shard(
        path="shards/0.tar",
        cid=str(shard.file.cid),
        size=shard.file.size,
        samples=shard.samples,
        index="index/0.json",
        sha256=shard.sha256,
    ).check()
    if shard.index.size > manifest.MAX_INDEX_BYTES:
        raise FormatError(f"the index of a shard has {shard.index.size} bytes")
    return shard


def _file(fields: Any) -> Built:
    if type(fields) is not dict:
        raise FormatError(f"a file is {shown(fields)}, not an object")
    text, size, tsize = fields["cid"], fields["size"], fields["tsize"]
    if type(text) is not str:
        raise FormatError(f"a CID is {shown(text)}")
    try:
        cid = CID.parse(text)
    except IPFSDatasetError as error:
        raise FormatError(str(error)) from error
    if cid.codec not in (RAW, DAG_PB):
        raise FormatError(f"{text} is not the CID of a file")
    for value in (size, tsize):
        if type(value) is not int or not 0 <= value < _MAX_BYTES:
            raise FormatError(f"the size of {text} is {shown(value)}")
    return Built(cid, size, tsize)


def common_schema(parts: Sequence[Part], *, mixed: bool) -> schema.Schema | None:
    """Returns the schema of the first part that has samples.

    Args:
        parts: The parts.
        mixed: Whether the others may have a different schema.

    Raises:
        ExportError: Others have a different schema, and `mixed` is false.
    """
    first: Part | None = None
    for part in parts:
        if part.schema is None:
            continue
        if first is None or first.schema is None:
            first = part
        elif not mixed and schema_text(part.schema) != schema_text(first.schema):
            raise ExportError(
                f"The samples of part {part.number} have a different structure than those of part "
                f"{first.number}: {_short(part.schema)} and {_short(first.schema)}. Are both of the same "
                "dataset? If its samples differ in structure, pass mixed=True"
            )
    return None if first is None else first.schema


def _short(of: schema.Schema) -> str:
    text = json.dumps(schema.to_json(of))
    return text if len(text) <= 300 else f"{text[:300]}…"  # noqa: PLR2004 - of a message


def common_classes(parts: Sequence[Part]) -> Mapping[str, int]:
    """Returns the class names of the parts; none if the parts differ in them."""
    named = [part.classes for part in parts if part.classes]
    return named[0] if named and all(classes == named[0] for classes in named) else {}
