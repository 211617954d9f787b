"""The data that tasks read: generated, the same every time, and kept between runs."""

from __future__ import annotations

from benchmarks.data.table import DATA, Data
from benchmarks.data.warehouse import Warehouse

__all__ = ["DATA", "Data", "Warehouse"]
