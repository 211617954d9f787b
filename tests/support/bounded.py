"""Runs a function of a test module in a child process with a bound on its time and its memory.

Time is that of the processor, for a machine may be busy with other things. Bounds are generous, for it may be
slow: an attack exceeds them many times over, or for ever.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.peak import peak_kib

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SECONDS = 60
MIB = 500
# Of address space, beyond what is measured: importing torch alone takes several GiB of it.
_MORE_MIB = 16 << 10
# What does not end without using the processor, either.
_LONGEST_SECONDS = 900


def run_bounded(
    function: Callable[..., Any], *args: Any, seconds: int = SECONDS, mib: int = MIB
) -> Any:
    """Returns what a function at the top of a test module returns in a child process.

    Args:
        function: It imports what it needs by itself.
        args: Of JSON, as what it returns.
        seconds: Of the processor that it may take.
        mib: How much more memory may be resident than before it was called.
    """
    call = json.dumps([function.__module__, function.__qualname__, args, seconds, mib])
    command = [sys.executable, "-c", "from tests.support.bounded import main; main()", call]
    child = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONGEST_SECONDS,
    )
    if child.returncode == -signal.SIGXCPU:
        pytest.fail(f"{function.__qualname__} did not end within {seconds} s")
    if child.returncode:
        pytest.fail(f"{function.__qualname__} failed: {child.stderr[-3000:]}")
    result, took, grown = json.loads(child.stdout.splitlines()[-1])
    assert took <= seconds, f"{function.__qualname__} took {took:.1f} s"
    assert grown <= mib, f"{function.__qualname__} took {grown} MiB of memory"
    return result


def main() -> None:
    """Runs what the command line names; for the child process."""
    module, name, args, seconds, mib = json.loads(sys.argv[1])
    function = getattr(importlib.import_module(module), name)
    memory = (mib + _MORE_MIB) << 20
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    before, started = peak_kib(), time.process_time()
    processor = int(started) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 5))
    result = function(*args)
    took, grown = time.process_time() - started, (peak_kib() - before) >> 10
    sys.stdout.write(json.dumps([result, took, grown]))


def outcome(function: Callable[[], Any]) -> str:
    """Returns the name of the error that a call raises, and what it says, or ``"returned …"``."""
    try:
        value = function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"returned {value!r:.200}"
