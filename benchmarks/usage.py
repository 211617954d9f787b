"""Resources of processes, as counted by Linux: CPU time, peak memory, memory of a process tree."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_STAT_BLOCK = 512
_UTIME = 13  # Fields of proc_pid_stat(5), counted from 0.


def cpu_seconds(pid: int | None) -> float | None:
    """Returns the CPU seconds of a process with its threads; None if unknown."""
    if pid is None:
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[_UTIME - 2]) + int(fields[_UTIME - 1])) / _TICKS


def own_cpu_seconds() -> float:
    """Returns the CPU seconds of this process and of its child processes that have ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def forget_peak() -> None:
    """Resets `peak_mb` to the current memory, if the system allows it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Returns the peak memory of this process in MiB."""
    return _field("/proc/self/status", "VmHWM:")


def tree_mb(pid: int) -> float:
    """Returns the memory of a process and all its descendants in MiB; shared pages count once."""
    return sum(_field(f"/proc/{one}/smaps_rollup", "Pss:") for one in _tree(pid))


def shared_mb(pid: int) -> float:
    """Returns the shared memory of a process and all its descendants in MiB: anonymous files and /dev/shm."""
    found: dict[tuple[int, int], int] = {}
    for one in _tree(pid):
        with suppress(OSError):
            for descriptor in Path(f"/proc/{one}/fd").iterdir():
                with suppress(OSError):
                    if os.readlink(descriptor).startswith(("/memfd:", "/dev/shm/")):  # noqa: PTH115
                        of = descriptor.stat()
                        found[of.st_dev, of.st_ino] = of.st_blocks * _STAT_BLOCK
    return sum(found.values()) / (1 << 20)


def _tree(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        with suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def _field(path: str, name: str) -> float:
    with suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) / 1024
    return 0.0
