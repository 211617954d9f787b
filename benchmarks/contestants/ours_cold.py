"""This library, reading in a process that has not imported any plugin yet, for tasks about start-up."""

from __future__ import annotations

from benchmarks.contestants.ours_reading import (
    constructed,
    first_by_number,
    first_cached,
    first_in_order,
)

__all__ = ["constructed", "first_by_number", "first_cached", "first_in_order"]
