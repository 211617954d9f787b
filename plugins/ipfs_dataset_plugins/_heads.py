"""The head of a response, without the fields that nobody here asks for.

A Kubo gateway sends two dozen fields with each block, and to parse them all takes http.client and urllib3
more CPU time than a block of 256 KiB takes to arrive and to be hashed.
"""

from __future__ import annotations

import http.client
import io

# Those that http.client and urllib3 need to read a body, and those that the transports look at.
_KEPT = frozenset(
    name.encode()
    for name in (
        *("connection", "content-encoding", "content-length", "keep-alive", "proxy-connection"),
        *("transfer-encoding", "content-range", "content-type", "location", "retry-after"),
        *("cf-mitigated", "sunset", "x-content-length"),
    )
)
_MAX_FIELDS = 200  # http.client allows 100 of those that it sees


class HeadReader(io.BufferedReader):
    """A response whose head has only the fields that matter; the body is as it came."""

    _fields_left = _MAX_FIELDS
    _has_status = False
    _in_head = True
    _dropping = False

    def readline(self, size: int | None = -1, /) -> bytes:
        """Returns the next line, of the head the next one that matters.

        Raises:
            http.client.HTTPException: The head has too many fields.
        """
        line = super().readline(size)
        if not self._has_status:
            self._has_status = True
            return line
        while self._in_head and self._is_dropped(line):
            line = super().readline(size)
        return line

    def _is_dropped(self, line: bytes) -> bool:
        if line in (b"\r\n", b"\n", b""):
            self._in_head = False
            return False
        self._fields_left -= 1
        if self._fields_left < 0:
            raise http.client.HTTPException(f"got more than {_MAX_FIELDS} headers")
        # A line that is indented goes on with the field before it; http.client refuses lines without end.
        if not line.startswith((b" ", b"\t")):
            name, colon, _ = line.partition(b":")
            self._dropping = bool(colon) and name.strip().lower() not in _KEPT
        return self._dropping and line.endswith(b"\n")
