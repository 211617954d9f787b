"""This library, reading in a process that has imported it."""

from __future__ import annotations

import benchmarks.contestants.plugins_imported  # noqa: F401 - imports the plugins
from benchmarks.contestants.ours_reading import (
    by_batch,
    by_number,
    in_order,
    loader,
    loader_by_pipe,
    plain_stream,
    second_epoch,
    shuffled_epoch,
    shuffled_epoch_indexed,
    some_by_batch,
)

__all__ = [
    "by_batch",
    "by_number",
    "in_order",
    "loader",
    "loader_by_pipe",
    "plain_stream",
    "second_epoch",
    "shuffled_epoch",
    "shuffled_epoch_indexed",
    "some_by_batch",
]
