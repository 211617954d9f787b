"""Runs commands in this process, as a shell would."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr
from typing import NamedTuple

from ipfs_dataset.cli import main


class Ran(NamedTuple):
    """What a command left: its status, and what it wrote."""

    status: int
    out: str
    err: str
    raw: bytes


def run(*arguments: object) -> Ran:
    """Runs a command with its output in pipes."""
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
