"""Curves: how speed, memory and requests change with size, members, workers and the source."""

from __future__ import annotations

from benchmarks.scaling.curves import CURVES
from benchmarks.scaling.measuring import Scaling

__all__ = ["CURVES", "Scaling"]
