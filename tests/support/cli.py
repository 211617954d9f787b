"""Runs commands of the command line in this process."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr
from typing import NamedTuple

from ipfs_dataset.cli import main


class Ran(NamedTuple):
    """The result of a command: its status and output."""

    status: int
    out: str
    err: str
    raw: bytes


def run(*arguments: object) -> Ran:
    """Runs a command and captures its output."""
    buffer = io.BytesIO()
    out = io.TextIOWrapper(buffer, encoding="utf-8", write_through=True)
    err, before = io.StringIO(), sys.stdout
    sys.stdout = out
    try:
        with redirect_stderr(err):
            try:
                status = main([str(argument) for argument in arguments])
            except SystemExit as ended:
                status = int(ended.code or 0)
        out.flush()
    finally:
        sys.stdout = before
    raw = buffer.getvalue()
    return Ran(status, raw.decode("utf-8", "replace"), err.getvalue(), raw)
