"""Describes the machine of the results, without names and paths."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """Returns processor, memory, system, versions, and the load of the machine."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(_memory_bytes() / (1 << 30), 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "kubo": _kubo(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _cpu() -> str:
    with suppress(OSError):
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _kubo() -> str:
    with suppress(OSError):
        done = subprocess.run(
            ["ipfs", "version", "-n"], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()
    return "unknown"
