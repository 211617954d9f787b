"""Folders of many small files, and of shards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks.data.archives import member_name, tar
from benchmarks.data.noise import pieces

if TYPE_CHECKING:
    from pathlib import Path


def unlisted(path: Path, files: int, size: int) -> dict[str, Any]:
    """Writes a folder of files of equal size."""
    path.mkdir()
    for number, data in enumerate(pieces(5, files * size, size)):
        (path / member_name(number)).write_bytes(data)
    return {"members": files, "member_bytes": size, "bytes": files * size}


def folder(path: Path, files: int, size: int) -> dict[str, Any]:
    """Writes a folder of files of equal size, with the list of them that the first ipfs-dataset needs."""
    facts = unlisted(path, files, size)
    (path / "metadata.txt").write_text("\n".join(map(member_name, range(files))))
    return facts


def shards(path: Path, count: int, members: int, size: int) -> dict[str, Any]:
    """Writes TAR shards with different contents."""
    path.mkdir()
    for number in range(count):
        tar(path / f"{number:05}.tar", members, size, seed=100 + number)
    samples = count * members
    return {"shards": count, "members": samples, "member_bytes": size, "bytes": samples * size}


def mds(path: Path, count: int, members: int, size: int) -> dict[str, Any]:
    """Writes the same samples as MDS shards, the format of MosaicML streaming.

    A shard contains, as described in its documentation: the number of samples, the position of each, and the
    end of the last, as 32-bit numbers; its header as JSON; then for each sample the sizes of its fields of
    variable size, and the fields.
    """
    path.mkdir()
    listed = [_mds_shard(path, number, members, size) for number in range(count)]
    (path / "index.json").write_text(json.dumps({"version": 2, "shards": listed}))
    samples = count * members
    return {"shards": count, "members": samples, "member_bytes": size, "bytes": samples * size}


def _mds_shard(path: Path, number: int, members: int, size: int) -> dict[str, Any]:
    column = {
        "column_encodings": ["bytes"],
        "column_names": ["data"],
        "column_sizes": [None],
        "compression": None,
        "format": "mds",
        "hashes": [],
        "size_limit": 1 << 30,
        "version": 2,
    }
    header = json.dumps(column, sort_keys=True).encode()
    first = 4 + 4 * (members + 1) + len(header)
    starts = [first + sample * (4 + size) for sample in range(members + 1)]
    name = f"shard.{number:05}.mds"
    with (path / name).open("wb") as file:
        file.write(members.to_bytes(4, "little"))
        file.writelines(start.to_bytes(4, "little") for start in starts)
        file.write(header)
        for data in pieces(100 + number, members * size, size):
            file.write(size.to_bytes(4, "little") + data)
    raw = {"basename": name, "bytes": starts[-1], "hashes": {}}
    return {**column, "raw_data": raw, "zip_data": None, "samples": members}
