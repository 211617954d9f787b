"""Runs commands in separate processes, several at once, without importing PyTorch in each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.process import BaseProcess
    from pathlib import Path


@attrs.frozen
class Started:
    """A running command.

    Attributes:
        process: Its process.
        folder: Its home; its current folder is `work` below it.
    """

    process: BaseProcess
    folder: Path

    @property
    def out(self) -> bytes:
        """Its standard output so far."""
        return (self.folder / "out").read_bytes()

    @property
    def err(self) -> bytes:
        """Its standard error so far."""
        return (self.folder / "err").read_bytes()

    def left(self) -> list[str]:
        """Returns the paths of the files in its current folder and its home."""
        work = self.folder / "work"
        return sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())

    def send(self, number: int) -> None:
        """Sends a signal to the command."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


def start(folder: Path, arguments: Sequence[object]) -> Started:
    """Starts a command, with the signals of a program in a terminal."""
    (folder / "work").mkdir(parents=True)
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_run, args=(folder, [str(one) for one in arguments]))
    process.start()
    return Started(process, folder)


def _run(folder: Path, arguments: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    os.chdir(folder / "work")
    os.environ.update(HOME=str(folder / "work"), IPFS_PATH=str(folder / "work" / ".ipfs"))
    sys.argv = ["ipfs-dataset", *arguments]
    from ipfs_dataset.cli import main

    sys.exit(main())
