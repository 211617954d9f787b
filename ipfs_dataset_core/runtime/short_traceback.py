"""Short tracebacks, which contain the user's call and the error, but not the internal frames between them.

The message of an error contains what a user needs: object, member, byte range, the response of each source
and what to do. The complete traceback is logged, and shown if the environment variable
``IPFS_DATASET_TRACEBACK`` is ``full``.
"""

from __future__ import annotations

import concurrent.futures
import logging
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.errors import IPFSDatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

log = logging.getLogger(__name__)

T = TypeVar("T")

VARIABLE = "IPFS_DATASET_TRACEBACK"
_CORE = Path(__file__).parents[1]
# Directories of internal code, as opposed to user code and third-party plugins.
_INTERNAL = (
    f"{_CORE}{os.sep}",
    f"{_CORE.parent / 'ipfs_dataset'}{os.sep}",
    f"{os.sep}ipfs_dataset_plugins{os.sep}",
    f"{Path(concurrent.futures.__file__).parent}{os.sep}",
    threading.__file__,
)


class _ShortTraceback:
    """The context in which a function that users call does its work.

    If an error of this library leaves it, the traceback below that function is removed if all its frames are
    internal. If it contains frames of user code or another distribution's plugin, it is kept completely. An
    exception that was being handled when the error was raised is not shown, but the cause of the error is.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, IPFSDatasetError) or trace is None:
            return
        error.__suppress_context__ = True
        # The first frame is the function itself, which may be a method of a user's class.
        if os.environ.get(VARIABLE) == "full" or not _is_internal(trace.tb_next):
            return
        whole = TracebackType(trace.tb_next, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
        name = type(error).__name__
        log.debug("The whole traceback of %s", name, exc_info=(type(error), error, whole))
        # Cut in place: an error raised again here would have this function as its last frame.
        trace.tb_next = None


# It has no state, so a single instance is shared.
short_traceback = _ShortTraceback()


def shortened_iteration(samples: Iterable[T]) -> Iterator[T]:
    """Yields samples for a user's loop; errors of this library have a short traceback."""
    with short_traceback:
        yield from samples


def _is_internal(frames: TracebackType | None) -> bool:
    while frames is not None:
        name = frames.tb_frame.f_code.co_filename
        if not (name.startswith(_INTERNAL[:2]) or any(part in name for part in _INTERNAL[2:])):
            return False
        frames = frames.tb_next
    return True
