"""The process of the command: its standard streams, and how a signal or a closed pipe ends it.

Used only in a process of its own: when a program calls `main` with arguments, its process is left alone.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import warnings
from typing import Any, NoReturn

# Seconds until the process ends in any case: short for a user, long enough to remove temporary files.
_PATIENCE = 0.7
# The exit status that a shell reports is this plus the signal's number. Windows has no SIGHUP.
_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_STATUS_OF_SIGNALS = 128


class _Ending:
    """The exit status with which a signal is ending this process, if one arrived."""

    status: int | None = None


def ending_status() -> int | None:
    """Returns the exit status of the signal that is ending this process; None if none arrived."""
    return _Ending.status


def prepare_streams() -> None:
    """Makes the standard streams usable, whatever their encoding and even if they are closed.

    Characters that the encoding lacks become escapes. Writing to a closed standard output is an error, as for
    a full disk, and is not silently dropped; a closed standard error discards everything.
    """
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # Reserves the lowest free descriptor, which is this one, so that no file or socket gets it.
            os.open(os.devnull, mode)
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # replaced by something that is not a text stream
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Shows a warning as one line, without the source line that issued it."""
    from ipfs_dataset.cli.common import complain  # noqa: PLC0415 - not for --help

    complain(f"warning: {message}")


def end_soon_when_interrupted() -> None:
    """Makes Ctrl-C, SIGTERM and SIGHUP end this process within a second, whatever its threads wait for.

    They raise `KeyboardInterrupt`, so that temporary files are removed. Work in progress is safe even if time
    runs out: files and blocks are written under temporary names and renamed when complete.
    """
    owner = os.getpid()

    def interrupted(number: int, _: Any) -> None:
        status = _STATUS_OF_SIGNALS + number
        if os.getpid() != owner:  # a process forked by a dataset
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if _Ending.status is not None:  # a second signal ends the process at once
            os._exit(_Ending.status)
        _Ending.status = status
        # Errors that the exception causes on its way, in threads and finalizers, no longer matter.
        sys.unraisablehook = _ignore
        threading.excepthook = _ignore
        end = threading.Timer(_PATIENCE, os._exit, (status,))
        end.daemon = True
        end.start()
        raise KeyboardInterrupt

    for number in _SIGNALS:
        # Signals that are already ignored stay ignored: shells make background programs ignore Ctrl-C, and
        # `nohup` makes them ignore the end of the terminal.
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, interrupted)


def _ignore(_: Any) -> None:
    """Discards the exception."""


def leave(status: int) -> NoReturn:
    """Ends this process now, after a signal, running the registered exit functions.

    The interpreter's own shutdown takes half a second of CPU time once PyTorch is imported, and waits for
    threads.
    """
    from ipfs_dataset.cli.common import output  # noqa: PLC0415 - not for --help

    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way
    for stream in (output(), sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(status)
