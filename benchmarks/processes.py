"""The processes in which contestants run: one for each module and environment, which forks for each run."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.usage import shared_mb, tree_mb

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

ROOT = Path(__file__).parents[1]
# A contestant that takes longer has failed.
SECONDS = 900.0
_IMPORT_SECONDS = 300.0
# Seconds between two measurements of memory.
_INTERVAL = 0.05


class FailedError(Exception):
    """A contestant did not finish, for the reason in the message."""


class Worker:
    """A process that has imported one module of contestants."""

    def __init__(self, python: str, adapter: str) -> None:
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", adapter],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that its child processes can be ended with it
            # Allows bytecode files; without them, each run would compile changed modules again.
            env={**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": ""},
        )
        self._answer(time.monotonic() + _IMPORT_SECONDS)

    def run(self, order: dict[str, Any], when_ready: Callable[[], object]) -> dict[str, Any]:
        """Returns the figures of a run; for a check also the peak memory of the whole process tree.

        Args:
            order: The order for `benchmarks.worker`.
            when_ready: Called in a check when the contestant is prepared.

        Raises:
            FailedError: The run failed, or took too long.
        """
        deadline = time.monotonic() + SECONDS
        self._send(json.dumps(order))
        result = self._answer(deadline)
        if "ready" not in result:
            return result
        when_ready()
        before = most = tree_mb(self._process.pid)
        shared = 0.0
        self._send("go")
        while not self._has_answer(_INTERVAL) and time.monotonic() < deadline:
            most = max(most, tree_mb(self._process.pid))
            shared = max(shared, shared_mb(self._process.pid))
        answer = self._answer(deadline)
        return {**answer, "tree_peak_mb": most - before, "shared_peak_mb": shared}

    def close(self) -> None:
        """Ends the process and its child processes."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def _has_answer(self, seconds: float) -> bool:
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], max(0.0, seconds))[0])

    def _answer(self, deadline: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not self._has_answer(deadline - time.monotonic()):
            raise FailedError("it took too long")
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"failed": "the process ended"}
        if "failed" in answer:
            raise FailedError(answer["failed"])
        return answer


class Workers:
    """All workers of a run, started when they are needed and ended with the ``with`` block."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, str], Worker] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._running.values():
            worker.close()

    def run(
        self, python: str, adapter: str, order: dict[str, Any], when_ready: Callable[[], object]
    ) -> dict[str, Any]:
        """Runs an order in the worker for this interpreter and module; see `Worker.run`.

        Raises:
            FailedError: The run failed. The next one gets a new worker.
        """
        key = (python, adapter)
        try:
            if key not in self._running:
                self._running[key] = Worker(python, adapter)
            return self._running[key].run(order, when_ready)
        except (FailedError, OSError, ValueError) as error:
            if key in self._running:
                self._running.pop(key).close()
            raise FailedError(str(error)) from error
