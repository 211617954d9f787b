"""The peak of this process's own memory, for scripts that tests run."""

from __future__ import annotations

from pathlib import Path


def peak_kib() -> int:
    """Returns the most memory that was resident since this program started, in KiB; Linux only.

    What `getrusage` tells starts at the peak of whoever started the process, so that no growth is ever seen
    below that of a large test run.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
