"""The head of a response, without the fields that nobody here asks for.

A Kubo gateway sends two dozen fields with each block, and to parse them all takes http.client more CPU time
than a block of 256 KiB takes to arrive and to be hashed.
"""

from __future__ import annotations

import http.client
import io
import re

# Those that http.client needs to read a body, and those that the transports look at.
_KEPT = frozenset(
    name.encode()
    for name in (
        *("connection", "content-length", "keep-alive", "proxy-connection", "transfer-encoding"),
        *("content-range", "content-type", "location", "retry-after"),
        *("cf-mitigated", "content-encoding", "sunset", "x-content-length"),
    )
)
MAX_FIELDS = 200  # http.client allows 100 of those that it sees
# The usual head, as far as it has come: no folded lines, and nothing that is no field.
_USUAL = re.compile(rb"(?:[!-9;-~]+:.*\n)+\r?\n")
_LINES_KEPT = re.compile(
    rb"^(?:(?:" + b"|".join(sorted(_KEPT)) + rb"):.*|\r?)\n", re.MULTILINE | re.IGNORECASE
)
# A head and the first bytes of its body arrive together, a small block as a whole.
_BUFFER_BYTES = 16384


class HeadReader(io.BufferedReader):
    """A response whose head has only the fields that matter; the body is as it came."""

    _fields_left = MAX_FIELDS
    _has_status = False
    _in_head = True
    _dropping = False
    _found: list[bytes] | None = None

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw, _BUFFER_BYTES)

    def next_head(self) -> None:
        """Begins another head, after that of an interim response."""
        self._fields_left, self._found = MAX_FIELDS, None
        self._has_status, self._in_head, self._dropping = False, True, False

    def readline(self, size: int | None = -1, /) -> bytes:
        """Returns the next line, of the head the next one that matters.

        Raises:
            http.client.HTTPException: The head has too many fields.
        """
        if self._found:
            return self._found.pop()
        line = super().readline(size)
        if not self._in_head:
            return line
        if not self._has_status:
            self._has_status = True
            self._look_ahead()
            return line
        while self._in_head and self._is_dropped(line):
            line = super().readline(size)
        return line

    def _look_ahead(self) -> None:
        """Takes the fields that matter out of a head that has come as a whole, all at once."""
        head = _USUAL.match(self.peek())
        if head is None:
            return
        fields = self.read(head.end())
        if fields.count(b"\n") - 1 > MAX_FIELDS:
            raise http.client.HTTPException(f"got more than {MAX_FIELDS} headers")
        self._found = _LINES_KEPT.findall(fields)[::-1]
        self._in_head = False

    def _is_dropped(self, line: bytes) -> bool:
        if line in (b"\r\n", b"\n", b""):
            self._in_head = False
            return False
        self._fields_left -= 1
        if self._fields_left < 0:
            raise http.client.HTTPException(f"got more than {MAX_FIELDS} headers")
        # A line that is indented goes on with the field before it; http.client refuses lines without end.
        if not line.startswith((b" ", b"\t")):
            name, colon, _ = line.partition(b":")
            self._dropping = bool(colon) and name.strip().lower() not in _KEPT
        return self._dropping and line.endswith(b"\n")
