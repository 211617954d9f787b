"""Changes to sound data, as somebody makes them who looks for what a parser does not expect."""

from __future__ import annotations

import copy
import io
import json
import struct
import zipfile
from typing import TYPE_CHECKING, Any, Literal

from ipfs_dataset_core.ipld import CID, DAG_PB, dag_pb, make_cid

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from tests.support.builders import Blocks

_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 24, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40]
_NUMBERS += [(1 << 63) - 1, (1 << 64) - 1]
_VALUES: list[Any] = [None, True, 0, 1, -1, 2**31, 2**40, 2**63, 2**200, 1.5, 1e300, "", "..", "/x"]
_VALUES += ["\0", "a" * 300, "\x1b[2J", [], {}, [[]], [0] * 50, {"$int": "0x10"}, {"$tuple": []}]
_BLOCK, _CHECKSUM = 512, slice(148, 156)


def change_bytes(rng: random.Random, data: bytes, tokens: Sequence[bytes] = ()) -> bytes:
    """Returns data with one to six changes: bytes, numbers, tokens, pieces left out, repeated or moved."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(changed) + 1)
        length = rng.choice((1, 2, 4, 8, rng.randrange(1, 600)))
        kind = rng.randrange(8)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at : at + 1] = rng.randbytes(1)
        elif kind == 2:
            number = rng.choice(_NUMBERS) + rng.randint(-1, 1)
            order: Literal["little", "big"] = rng.choice(("little", "big"))
            size = rng.choice((1, 2, 4, 8))
            changed[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, order)
        elif kind == 3 and tokens:
            changed[at : at + rng.choice((0, length))] = rng.choice(tokens)
        elif kind == 4:
            del changed[at : at + length]
        elif kind == 5:
            changed[at:at] = changed[at : at + length] * rng.choice((1, 1, 2, 50))
        elif kind == 6:
            start = rng.randrange(len(changed) + 1)
            changed[at:at] = changed[start : start + length]
        elif rng.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def change_json(rng: random.Random, value: Any) -> Any:
    """Returns parsed JSON with one to three of its values changed, left out or repeated."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return copy.deepcopy(rng.choice(_VALUES))
        holder, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            repeated = rng.choice((1, 2, 1000 if len(places) < 1000 else 1))
            holder[key:key] = [copy.deepcopy(holder[key]) for _ in range(repeated)]
        elif kind == 2:
            holder[key] = [holder[key]]
        elif kind == 3 and isinstance(holder, dict):
            holder[rng.choice(("", "x", *holder))] = holder.pop(key)
        elif kind == 4 and type(holder[key]) is int:
            holder[key] += rng.choice((-1, 1, 512, 1 << 20))
        else:
            holder[key] = copy.deepcopy(rng.choice(_VALUES))
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Returns each value of parsed JSON by what holds it and where."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        keys: Any = ()
        if isinstance(holder, dict):
            keys = list(holder)
        elif isinstance(holder, list):
            keys = range(len(holder))
        for key in keys:
            found.append((holder, key))
            waiting.append(holder[key])
    return found


def with_checksums(data: bytes) -> bytes:
    """Returns a TAR archive whose headers have the checksums that they should have."""
    changed = bytearray(data)
    for start in range(0, len(data) - _BLOCK + 1, _BLOCK):
        block = changed[start : start + _BLOCK]
        if block[257:262] == b"ustar":
            block[_CHECKSUM] = b" " * 8
            block[_CHECKSUM] = b"%06o\0 " % sum(block)
            changed[start : start + _BLOCK] = block
    return bytes(changed)


def change_directory(rng: random.Random, data: bytes, tokens: Sequence[bytes] = ()) -> bytes:
    """Returns a ZIP archive with changes to its central directory and end records alone."""
    at = data.rindex(b"PK\5\6")
    start = struct.unpack_from("<I", data, at + 16)[0]
    return data[:start] + change_bytes(rng, data[start:], tokens)


def change_blocks(
    rng: random.Random, root: CID, blocks: Mapping[bytes, bytes], likely: float = 0.2
) -> tuple[CID, Blocks]:
    """Returns a DAG with some blocks, links and sizes changed, whose CIDs are those of the changed blocks."""
    change = _Change(rng, blocks, likely)
    return change.block(root), change.made


class _Change:
    """Changes a DAG from its leaves up."""

    def __init__(self, rng: random.Random, blocks: Mapping[bytes, bytes], likely: float) -> None:
        self.made: Blocks = {}
        self._rng = rng
        self._blocks = blocks
        self._likely = likely
        self._by_cid: dict[CID, CID] = {}

    def block(self, cid: CID) -> CID:
        """Changes a block and all below it, and returns its new CID."""
        if cid in self._by_cid:
            return self._by_cid[cid]
        block = cid.digest if cid.is_identity else self._blocks[cid.multihash]
        if cid.codec == DAG_PB:
            block = self._node(block)
        if self._rng.random() < self._likely / 2:
            block = change_bytes(self._rng, block)
        new = make_cid(block, cid.codec)
        self.made[new.multihash] = block
        self._by_cid[cid] = new
        return new

    def _node(self, block: bytes) -> bytes:
        rng, likely, rows = self._rng, self._likely, []
        node = dag_pb.decode(block)
        for raw, name, tsize in zip(node.cids, node.names, node.tsizes, strict=True):
            target = self.block(CID.from_bytes(raw))
            if rng.random() < likely / 4:
                target = rng.choice(list(self._by_cid.values()))
            rows.append((target.to_bytes(), name, tsize))
        if rows and rng.random() < likely:
            at = rng.randrange(len(rows))
            rows[at:at] = [rows[at]] * rng.choice((1, 3, 40))
        if rows and rng.random() < likely / 2:
            del rows[rng.randrange(len(rows))]
        data = bytes(node.data or b"")
        if rng.random() < likely:
            data = change_bytes(rng, data)
        return dag_pb.encode(data, rows)


def with_record(data: bytes, name: str, content: bytes) -> bytes:
    """Returns a file of ``torch.save`` with one of its records replaced, all stored as they were."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            kept = content if info.filename.endswith(name) else old.read(info)
            new.writestr(zipfile.ZipInfo(info.filename), kept)
    return buffer.getvalue()
