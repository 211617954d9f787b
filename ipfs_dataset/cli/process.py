"""The process of the command: its standard streams, and how a signal or a closed pipe ends it.

Only for a process of its own: `main` leaves a program that calls it with arguments as it is.
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

# Seconds until the process ends in any case: less than a user waits, enough to remove temporary files.
_PATIENCE = 0.7
# As a shell reports a program that a signal ended. Windows has no SIGHUP.
_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_STATUS_OF_SIGNALS = 128


class _Ending:
    """What ended this process, if anything did: the status it ends with."""

    status: int | None = None


def ending_status() -> int | None:
    """Returns the status that a signal ends this process with, None where none came."""
    return _Ending.status


def prepare_streams() -> None:
    """Makes the standard streams usable, whatever their encoding is and whether they are open.

    A character that the encoding lacks becomes an escape. What is written to a closed standard output is an
    error, as of any full disk, and not silently dropped; a closed standard error takes everything.
    """
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest descriptor that is free, which is this one: no file or socket may get its number.
            os.open(os.devnull, mode)
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(
            AttributeError
        ):  # something else than a text stream took its place
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Shows a warning as one line: the line of source that issued it tells a user nothing."""
    from ipfs_dataset.cli.common import complain  # noqa: PLC0415 - not for --help

    complain(f"warning: {message}")


def end_soon_when_interrupted() -> None:
    """Makes Ctrl-C, SIGTERM and SIGHUP end this process within a second, whatever a thread waits for.

    They raise `KeyboardInterrupt`, so that temporary files are removed. What is half done is safe even where
    time runs out: files and blocks are written aside and renamed when they are complete.
    """
    owner = os.getpid()

    def interrupted(number: int, _: Any) -> None:
        status = _STATUS_OF_SIGNALS + number
        if os.getpid() != owner:  # a process that a dataset has forked
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if _Ending.status is not None:  # the user has no patience
            os._exit(_Ending.status)
        _Ending.status = status
        # What the exception meets on its way, in threads and finalizers, is nobody's concern any more.
        sys.unraisablehook = _ignore
        threading.excepthook = _ignore
        end = threading.Timer(_PATIENCE, os._exit, (status,))
        end.daemon = True
        end.start()
        raise KeyboardInterrupt

    for number in _SIGNALS:
        # A shell that starts a program in the background has it ignore Ctrl-C, and `nohup` the end of the
        # terminal, and that stays so.
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, interrupted)


def _ignore(_: Any) -> None:
    """Shows nothing of an exception."""


def leave(status: int) -> NoReturn:
    """Ends this process now, after a signal, with the functions that were registered for its end.

    The interpreter's own end takes half a second of computing where PyTorch was imported, and waits for
    threads.
    """
    from ipfs_dataset.cli.common import output  # noqa: PLC0415 - not for --help

    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way
    for stream in (output(), sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(status)
