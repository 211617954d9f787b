"""Writes results: JSON, tables in Markdown, plots."""

from __future__ import annotations

from benchmarks.report.publishing import publish_curves, publish_tasks
from benchmarks.report.tables import curve_table, summary

__all__ = ["curve_table", "publish_curves", "publish_tasks", "summary"]
