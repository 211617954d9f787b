"""IPNS records: the path to which a name points, signed by the key that the name identifies.

A name is the hash of a public key, or the key itself, so a record proves itself, whatever its source. See
https://specs.ipfs.tech/ipns/ipns-record/: only records with a version 2 signature are valid, and only their
signed DAG-CBOR data counts; the other fields of the protobuf message must have the same values.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core.errors import AddressError, FormatError, NameRecordError, VerificationError
from ipfs_dataset_core.ipld.cid import CID, LIBP2P_KEY
from ipfs_dataset_core.ipld.dag_cbor import decode
from ipfs_dataset_core.ipld.multiformats import IDENTITY, SHA2_256, base58_decode, split_multihash
from ipfs_dataset_core.ipld.protobuf import BYTES, VARINT, fields
from ipfs_dataset_core.ipld.public_key import PublicKey

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_RECORD_BYTES = 10 << 10
_PREFIX = b"ipns-signature:"
# A domain name may start in the same way, but contains a dot.
_PEER_ID = re.compile(r"(?:12D3|16Uiu2|Qm)[1-9A-HJ-NP-Za-km-z]{30,}")
_MAX_U64 = (1 << 64) - 1
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII
)
# The fields of the protobuf message by number, with their names and types in the signed data.
_VALUE, _SIGNATURE_V1, _VALIDITY_TYPE, _VALIDITY, _SEQUENCE, _TTL = 1, 2, 3, 4, 5, 6
_PUBLIC_KEY, _SIGNATURE, _DATA = 7, 8, 9
_WIRES = {
    **dict.fromkeys((_VALIDITY_TYPE, _SEQUENCE, _TTL), VARINT),
    **dict.fromkeys((_VALUE, _SIGNATURE_V1, _VALIDITY, _PUBLIC_KEY, _SIGNATURE, _DATA), BYTES),
}
_NAMES = {
    _VALUE: ("Value", b""),
    _VALIDITY_TYPE: ("ValidityType", 0),
    _VALIDITY: ("Validity", b""),
    _SEQUENCE: ("Sequence", 0),
    _TTL: ("TTL", 0),
}


@attrs.frozen(kw_only=True)
class NameRecord:
    """The content of a record that belongs to its name and has not expired.

    Attributes:
        value: The path that the name points to, ``/ipfs/…`` or ``/ipns/…``.
        sequence: The number of the version; the highest one is current.
        expires: The time until which it is valid, with a time zone.
        ttl: Seconds for which it may be cached.
        proven: Whether its signature was checked, which requires the package `cryptography`.
    """

    value: str
    sequence: int
    expires: datetime
    ttl: float
    proven: bool


def parse_name(text: str) -> CID | None:
    """Parses an IPNS name to a CID of version 1; None for other text, such as a domain name (DNSLink)."""
    try:
        if _PEER_ID.fullmatch(text):
            multihash = base58_decode(text)
            split_multihash(multihash)
            return CID(1, LIBP2P_KEY, multihash)
        cid = CID.parse(text)
    except (AddressError, FormatError):
        return None
    return cid if cid.codec == LIBP2P_KEY else None


def verify_record(record: bytes, name: CID, now: datetime | None = None) -> NameRecord:
    """Verifies a record; returns its content if it belongs to the name and has not expired.

    Args:
        record: The record, as received.
        name: The name, as returned by `parse_name`.
        now: The current time, with a time zone; by default that of the clock.

    Raises:
        NameRecordError: It is malformed, expired, of another name, or not signed by its key.
    """
    text = name.encode("base36")
    try:
        return _verified(record, name, datetime.now(timezone.utc) if now is None else now)
    except FormatError as error:
        raise NameRecordError(f"The record of the name {text} is malformed: {error}") from error
    except NameRecordError as error:
        raise NameRecordError(f"The record of the name {text} {error}") from error.__cause__


def _verified(record: bytes, name: CID, now: datetime) -> NameRecord:
    if len(record) > MAX_RECORD_BYTES:
        raise FormatError(f"it has more than {MAX_RECORD_BYTES} bytes")
    message = _message(record)
    signature, data = message.get(_SIGNATURE), message.get(_DATA)
    if not isinstance(signature, bytes) or not isinstance(data, bytes) or not signature or not data:
        raise FormatError("it has no signature of version 2, and older ones prove too little")
    key = _public_key(message.get(_PUBLIC_KEY), name)
    proven = _is_proven(key, _PREFIX + data, signature)
    signed = _signed_fields(data)
    # Version 1 clients use these fields, which the version 2 signature does not cover.
    if _VALUE in message or _SIGNATURE_V1 in message:
        for number, (field, absent) in _NAMES.items():
            if message.get(number, absent) != signed[field]:
                raise NameRecordError(f"has another {field} than what is signed")
    expires = _time(signed["Validity"])
    if signed["ValidityType"] != 0:
        raise FormatError(f"it has the unknown validity type {signed['ValidityType']}")
    if expires <= now:
        raise NameRecordError(
            f"expired at {expires:%Y-%m-%d %H:%M:%S} UTC (it is {now:%Y-%m-%d %H:%M:%S} here): its owner has "
            "to publish it again, or the clock of this computer is wrong"
        )
    return NameRecord(
        value=_path(signed["Value"]),
        sequence=signed["Sequence"],
        expires=expires,
        ttl=signed["TTL"] / 1e9,
        proven=proven,
    )


def _message(record: bytes) -> dict[int, int | bytes]:
    found: dict[int, int | bytes] = {}
    for number, wire, value in fields(memoryview(record)):
        if number not in _WIRES:
            continue
        if wire != _WIRES[number]:
            raise FormatError(f"its field {number} has the wire type {wire}")
        if number in found:
            raise FormatError(f"its field {number} is given twice")
        found[number] = value if isinstance(value, int) else bytes(value)
    return found


def _signed_fields(data: bytes) -> Mapping[str, Any]:
    """Returns the fields of the signed data."""
    signed = decode(data)
    if not isinstance(signed, dict):
        raise FormatError("its data are no map")
    for field, absent in _NAMES.values():
        value = signed.get(field)
        if type(value) is not type(absent):
            raise FormatError(f"its data have no usable {field}")
        if isinstance(value, int) and not 0 <= value <= _MAX_U64:
            raise FormatError(f"its {field} is out of range")
    return signed


def _path(value: bytes) -> str:
    try:
        path = value.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError("its value is not UTF-8") from None
    if not path.startswith(("/ipfs/", "/ipns/")):
        raise FormatError(
            f"its value {path[:200]!r} is not a path that starts with /ipfs/ or /ipns/"
        )
    return path


def _time(value: bytes) -> datetime:
    """Parses the time of a validity, in whole microseconds."""
    match = _TIME.fullmatch(value.decode("ascii", "replace"))
    if match is None:
        raise FormatError(f"its validity {value[:60]!r} is not a time")
    *numbers, fraction, zone = match.groups()
    microseconds = int((fraction or "").ljust(9, "0")[:6])
    offset = timedelta()
    if zone != "Z":
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:]))
        offset = -offset if zone[0] == "-" else offset
    try:
        year, month, day, hour, minute, second = map(int, numbers)
        local = datetime(year, month, day, hour, minute, second, microseconds, tzinfo=timezone.utc)
        return local - offset
    except (ValueError, OverflowError) as error:
        raise FormatError(f"its validity {value[:60]!r} is not a time ({error})") from None


def _public_key(given: int | bytes | None, name: CID) -> PublicKey:
    """Returns the public key of a name."""
    code, digest = split_multihash(name.multihash)
    inline = digest if code == IDENTITY else None
    if given is None or given == b"":
        if inline is None:
            raise NameRecordError("lacks the public key, of which the name is only the hash")
        given = inline
    assert isinstance(given, bytes)
    if inline is None and code != SHA2_256:
        raise NameRecordError(
            f"is of a name with the hash {code:#x}, which names of keys do not have"
        )
    if (given if inline is not None else hashlib.sha256(given).digest()) != digest:
        raise NameRecordError("has the public key of another name")
    return PublicKey.from_bytes(given)


def _is_proven(key: PublicKey, message: bytes, signature: bytes) -> bool:
    """Checks a signature; returns whether that was possible.

    Raises:
        NameRecordError: The signature is wrong, or the key unusable.
    """
    try:
        key.verify(message, signature)
    except ImportError:
        return False
    except VerificationError as error:
        raise NameRecordError(str(error)) from None
    return True
