"""A thin TCP proxy in a process of its own: counts requests and bytes, delays requests, refuses too many."""

from __future__ import annotations

from benchmarks.proxy.client import Proxy

__all__ = ["Proxy"]
