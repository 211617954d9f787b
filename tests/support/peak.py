"""The peak memory of this process, for scripts run by tests."""

from __future__ import annotations

from pathlib import Path


def peak_kib() -> int:
    """Returns the peak of the resident memory since this program started, in KiB; Linux only.

    The peak of `getrusage` includes that of the parent process, so that growth below the peak of a large test
    run would not be measured.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
