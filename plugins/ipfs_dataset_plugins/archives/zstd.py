"""Zstandard, by the standard library (Python 3.14) or the package zstandard."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable

# zstandard puts out at once all that its input stands for, and 4 bytes may stand for 128 KiB.
_FEED_BYTES = 1 << 10


# What the format's reference decoder allows at most.
_LARGEST_WINDOW = 1 << 31


def decompressors(window_bytes: int) -> Callable[[], Any]:
    """Returns what makes decompressors with the interface of `bz2`'s.

    Args:
        window_bytes: The largest window that a frame may ask for, which is that much memory.

    Raises:
        MissingDependencyError: Neither is installed.
    """
    try:
        from compression import zstd  # noqa: PLC0415 - Python 3.14
    except ImportError:
        pass
    else:
        largest = zstd.DecompressionParameter.window_log_max
        lower, upper = largest.bounds()
        log = max(lower, min(upper, window_bytes.bit_length() - 1))
        return partial(zstd.ZstdDecompressor, options={largest: log})
    try:
        import zstandard  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingDependencyError(
            "Reading Zstandard needs Python 3.14 or the package zstandard: "
            "pip install ipfs-dataset[zstd]"
        ) from None
    context = zstandard.ZstdDecompressor(max_window_size=min(window_bytes, _LARGEST_WINDOW))
    return lambda: _Bounded(context.decompressobj())


def errors() -> tuple[type[Exception], ...]:
    """Returns what decompressors raise where data are damaged, of the libraries that are loaded."""
    modules = (sys.modules.get("compression.zstd"), sys.modules.get("zstandard"))
    return tuple(module.ZstdError for module in modules if module is not None)


class _Bounded:
    """Gives a `zstandard` decompressor bounded output, and thereby the interface of `bz2`'s."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._given = b""
        self._taken = 0
        self._ready = b""

    @property
    def eof(self) -> bool:
        return bool(self._stream.eof) and not self._ready

    @property
    def needs_input(self) -> bool:
        return not self._ready and self._taken == len(self._given)

    @property
    def unused_data(self) -> bytes:
        unused: bytes = self._stream.unused_data
        return unused + self._given[self._taken :]

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        if data:
            self._given, self._taken = self._given[self._taken :] + data, 0
        while not self._ready and self._taken < len(self._given) and not self._stream.eof:
            piece = self._given[self._taken : self._taken + _FEED_BYTES]
            self._taken += len(piece)
            self._ready = self._stream.decompress(piece)
        if max_length < 0:
            max_length = len(self._ready)
        data, self._ready = self._ready[:max_length], self._ready[max_length:]
        return data
