"""MurmurHash3 x64-128, of which HAMT directories use the first 64 bits."""

from __future__ import annotations

import struct

_MASK = (1 << 64) - 1
_C1, _C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F


def _rotl(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK


def _mix1(word: int) -> int:
    return _rotl(word * _C1 & _MASK, 31) * _C2 & _MASK


def _mix2(word: int) -> int:
    return _rotl(word * _C2 & _MASK, 33) * _C1 & _MASK


def _finish(value: int) -> int:
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & _MASK
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33


def murmur3_64(data: bytes) -> int:
    """Returns the first 64 bits of the hash of `data` with seed 0."""
    first = second = 0
    whole = len(data) & ~15
    for low, high in struct.iter_unpack("<QQ", data[:whole]):
        first = (_rotl(first ^ _mix1(low), 27) + second) * 5 + 0x52DCE729 & _MASK
        second = (_rotl(second ^ _mix2(high), 31) + first) * 5 + 0x38495AB5 & _MASK
    low, high = struct.unpack("<QQ", data[whole:].ljust(16, b"\0"))
    first ^= _mix1(low) ^ len(data)
    second ^= _mix2(high) ^ len(data)
    first = (first + second) & _MASK
    second = (second + first) & _MASK
    return (_finish(first) + _finish(second)) & _MASK
