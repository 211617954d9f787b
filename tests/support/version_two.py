"""Publishes datasets as in version 2.0 of the form, with members named after the position of their sample.

The library reads such datasets and no longer writes them. `test_versions` compares the CIDs of these datasets
with those of the library when it wrote version 2.0.
"""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.interfaces import Exporter
from ipfs_dataset_plugins.tar_shards.codecs import SampleCodec, schema, schema_text
from ipfs_dataset_plugins.tar_shards.manifest import OWN_SCHEMA, TRAILER, write_index

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core.interfaces import FileSink


class VersionTwo(Exporter):
    """Writes version 2.0."""

    def __init__(self, profile: str, shard_bytes: int) -> None:
        self.profile = profile
        self.shard_bytes = shard_bytes

    def load(self, source: Any) -> None:
        raise NotImplementedError

    def export(self, samples: Iterable[Any], sink: FileSink) -> None:
        common: Any = None
        shards: list[list[bytes]] = []
        for position, (own, members) in enumerate(SampleCodec().encode_all(samples)):
            common = common or own
            extra = [] if own is common else [(OWN_SCHEMA, schema_text(own).encode())]
            sample = b"".join(_member(position, *member) for member in (*extra, *members))
            room = self.shard_bytes - TRAILER
            if not shards or sum(map(len, shards[-1])) + len(sample) > room:
                shards.append([])
            shards[-1].append(sample)
        listed = [_write_shard(sink, number, shard) for number, shard in enumerate(shards)]
        _write(sink, "metadata.txt", "".join(f"{shard['path']}\n" for shard in listed).encode())
        fields = {
            "identifier": "ipfs-dataset",
            "version": "2.0",
            "form": "tar_shards",
            "codec": "members-1",
            "profile": self.profile,
            "samples": sum(len(shard) for shard in shards),
            "schema": None if common is None else schema.to_json(common),
            "shards": listed,
        }
        _write(sink, "manifest.json", json.dumps(fields, indent=1).encode() + b"\n")


def _member(position: int, suffix: str, payload: bytes) -> bytes:
    member = tarfile.TarInfo(f"{position:010d}.{suffix}")
    member.size = len(payload)
    return member.tobuf(tarfile.USTAR_FORMAT) + payload + bytes(-len(payload) % 512)


def _write_shard(sink: FileSink, number: int, samples: list[bytes]) -> dict[str, Any]:
    path, index = f"shards/{number:05d}.tar", f"index/{number:05d}.json"
    content = io.BytesIO()
    content.writelines(samples)
    content.write(bytes(TRAILER))
    _write(sink, path, content.getvalue())
    _write(sink, index, write_index(len(sample) // 512 for sample in samples))
    return {
        "path": path,
        "cid": str(sink.cid_of(path)),
        "size": len(content.getvalue()),
        "samples": len(samples),
        "index": index,
    }


def _write(sink: FileSink, path: str, content: bytes) -> None:
    with sink.create(path) as file:
        file.write(content)
