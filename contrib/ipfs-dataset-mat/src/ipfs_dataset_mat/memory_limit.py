"""The limit on the memory that the values of a file take, which a small file could otherwise exceed."""

from __future__ import annotations

from ipfs_dataset_core import LimitError

# The memory of the smallest value, an array without elements, with its place in a list.
_VALUE_BYTES = 256


class MemoryLimit:
    """Counts the bytes of the values that a variable, or a part of it, consists of.

    Args:
        what: The name of the variable, for errors.
        max_bytes: The maximum number of bytes in memory.
    """

    def __init__(self, what: str, max_bytes: int) -> None:
        self.what = what
        self.max_bytes = max_bytes
        self._bytes_left = max_bytes

    def check(self, size: int) -> None:
        """Checks the size of something that is needed only for a moment, in bytes.

        Raises:
            LimitError: It is larger than the limit.
        """
        if size > self.max_bytes:
            raise self._error()

    def charge(self, size: int) -> None:
        """Counts a value.

        Args:
            size: The size of its elements in bytes.

        Raises:
            LimitError: The values that were counted are together larger than the limit.
        """
        self._bytes_left -= size + _VALUE_BYTES
        if self._bytes_left < 0:
            raise self._error()

    def _error(self) -> LimitError:
        return LimitError(
            f"{self.what} needs more memory than the limit of {self.max_bytes} bytes: if you trust the file, "
            "raise the limit with MatReader(max_bytes=…)."
        )
