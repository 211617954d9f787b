"""Links of blocks, and resolution of paths through DAG-CBOR and DAG-JSON to files.

A path such as ``CID/a/0/file`` goes through maps by key and through lists by number, and follows each link on
its way, like ``ipfs cat`` and gateways.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

from ipfs_dataset_core.errors import (
    AddressError,
    FormatError,
    ObjectNotFoundError,
    VerificationError,
)
from ipfs_dataset_core.ipld import dag_cbor, dag_pb
from ipfs_dataset_core.ipld.cid import CID, DAG_CBOR, DAG_JSON, DAG_PB, RAW

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DATA_CODECS = frozenset({DAG_CBOR, DAG_JSON})
MAX_DEPTH = 128
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def decode_data(cid: CID, block: bytes) -> Any:
    """Decodes a DAG-CBOR or DAG-JSON block, with its links as `CID`.

    Raises:
        FormatError: It is malformed, or nested deeper than `MAX_DEPTH` levels.
    """
    try:
        if cid.codec == DAG_CBOR:
            return _with_links(dag_cbor.decode(bytes(block), max_depth=MAX_DEPTH))
        return _from_json(_parsed(block), 0)
    except (FormatError, AddressError, VerificationError) as error:
        raise FormatError(f"{cid} is not valid {cid.codec_name}: {error}") from None


def follow(cid: CID, block: bytes, path: Sequence[str], name: str) -> tuple[CID, int]:
    """Follows a path within a block, up to the first link.

    Args:
        cid: The CID of the block.
        block: DAG-CBOR or DAG-JSON.
        path: Keys of maps and numbers of lists.
        name: The name of the object in messages.

    Returns:
        The CID of the link, and the number of path segments up to it.

    Raises:
        ObjectNotFoundError: A map has no such key, or a list no such number.
        FormatError: The path leads to a value that is not a link, or through one without parts.
    """
    value = decode_data(cid, block)
    for used, segment in enumerate(path):
        if isinstance(value, CID):
            return value, used
        value = _part(cid, value, path[: used + 1], segment, name)
    if isinstance(value, CID):
        return value, len(path)
    raise FormatError(
        f"{name!r}: {'/'.join(path)!r} in {cid} is {_kind(value)} in {cid.codec_name} data, not a link to a "
        "file or directory"
    )


def links(cid: CID, block: bytes) -> list[CID]:
    """Returns the CIDs to which a block links, in order.

    Raises:
        FormatError: The block is malformed or has an unsupported codec.
        VerificationError: A link of a dag-pb block is not a CID.
    """
    if cid.codec == RAW:
        return []
    if cid.codec in DATA_CODECS:
        return data_links(cid, block)
    if cid.codec != DAG_PB:
        raise FormatError(
            f"{cid} is {cid.codec_name}, but only raw, dag-pb, dag-cbor and dag-json blocks can be walked"
        )
    return [CID.from_bytes(raw) for raw in dag_pb.decode(block).cids]


def data_links(cid: CID, block: bytes) -> list[CID]:
    """Returns the links in DAG-CBOR or DAG-JSON, in order; raises like `decode_data`."""
    return list(_links(decode_data(cid, block)))


def _part(cid: CID, value: Any, walked: Sequence[str], segment: str, name: str) -> Any:
    if isinstance(value, dict) and segment in value:
        return value[segment]
    if isinstance(value, list) and _NUMBER.fullmatch(segment) and int(segment) < len(value):
        return value[int(segment)]
    if isinstance(value, (dict, list)):
        raise ObjectNotFoundError(
            f"{name!r}: {_kind(value)} in the {cid.codec_name} data {cid} has no entry named {segment!r}"
        )
    above = "/".join(walked[:-1]) or "its root"
    raise FormatError(
        f"{name!r}: {above!r} in the {cid.codec_name} data {cid} is {_kind(value)}, which has no parts"
    )


def _kind(value: Any) -> str:
    return {
        dict: "a map",
        list: "a list",
        str: "text",
        bytes: "bytes",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }.get(type(value), "null")


def _links(value: Any) -> Iterator[CID]:
    if isinstance(value, CID):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _links(part)


def _with_links(value: Any) -> Any:
    if isinstance(value, dag_cbor.LinkBytes):
        return CID.from_bytes(value)
    if isinstance(value, dict):
        return {key: _with_links(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_links(part) for part in value]
    return value


def _parsed(block: bytes) -> Any:
    try:
        return json.loads(
            bytes(block).decode(), object_pairs_hook=_without_twice, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(str(error)) from None


def _without_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key is given twice")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _from_json(value: Any, depth: int) -> Any:
    """Converts parsed JSON, with links, which are maps with the single key ``/``, as `CID`.

    Bytes have that form as well (https://ipld.io/specs/codecs/dag-json/spec/). No path leads through them to
    a file, so they are not decoded, and replaced by a placeholder.
    """
    if depth > MAX_DEPTH:
        raise FormatError("it nests deeper than what is read here")
    if isinstance(value, list):
        return [_from_json(part, depth + 1) for part in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"/"}:
        target = value["/"]
        if isinstance(target, str):
            return CID.parse(target)
        if isinstance(target, dict) and target.keys() == {"bytes"}:
            return b""
        raise FormatError("its key '/' is neither a link nor bytes")
    return {key: _from_json(part, depth + 1) for key, part in value.items()}
