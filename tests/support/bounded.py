"""Runs a function of a test module in a child process with limits on its CPU time and memory.

CPU time is limited, because the machine may be busy. The limits are generous, because it may be slow: an
attack exceeds them many times over.
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
    """Returns the result of a function at the top of a test module, called in a child process.

    Args:
        function: The function, which does its imports itself.
        args: Its arguments, which JSON must support, like its result.
        seconds: Maximum CPU time in seconds.
        mib: Maximum growth of the resident memory in MiB.
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
    """Runs the function named on the command line, in the child process."""
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
    """Returns the name and message of the error that a call raises, or ``"returned …"``."""
    try:
        value = function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"returned {value!r:.200}"
