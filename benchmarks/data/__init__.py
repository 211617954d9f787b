"""The data of tasks: generated, the same in each run, and kept between runs."""

from __future__ import annotations

from benchmarks.data.table import DATA, Data
from benchmarks.data.warehouse import Warehouse

__all__ = ["DATA", "Data", "Warehouse"]
