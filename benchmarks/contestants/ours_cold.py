"""This library, reading in a process that has imported none of its plugins yet: start-up is the subject."""

from __future__ import annotations

from benchmarks.contestants.ours_reading import (
    constructed,
    first_by_number,
    first_cached,
    first_in_order,
)

__all__ = ["constructed", "first_by_number", "first_cached", "first_in_order"]
