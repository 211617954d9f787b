"""Short tracebacks: what a user called, and the error; not the thirty frames between them.

The message of an error has what a user needs: object, member, byte range, what each source answered and what
to do. Its whole traceback is logged, and shown where the environment variable ``IPFS_DATASET_TRACEBACK`` is
``full``.
"""

from __future__ import annotations

import concurrent.futures
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.errors import IPFSDatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

log = logging.getLogger(__name__)

T = TypeVar("T")
E = TypeVar("E", bound=IPFSDatasetError)

VARIABLE = "IPFS_DATASET_TRACEBACK"
_CORE = Path(__file__).parents[1]
# What a traceback passes through that is none of a user's code nor of a third party's plugin.
_INTERNAL = (
    f"{_CORE}{os.sep}",
    f"{_CORE.parent / 'ipfs_dataset'}{os.sep}",
    f"{os.sep}ipfs_dataset_plugins{os.sep}",
    f"{Path(concurrent.futures.__file__).parent}{os.sep}",
    threading.__file__,
)


def shortened(error: E) -> E:
    """Returns an error without the frames of its traceback, where all of them are internal.

    To be raised where it was caught, in a function that users call: ``raise shortened(error)``, followed by
    ``from error.__cause__`` where that is to be kept. What user code or another distribution's plugin has in
    the traceback stays, with all of it.
    """
    frames = error.__traceback__
    # The first one is the function that caught it, which may be a method of a user's class.
    if os.environ.get(VARIABLE) == "full" or not _is_internal(frames and frames.tb_next):
        return error
    log.debug("The whole traceback of %s", type(error).__name__, exc_info=error)
    return error.with_traceback(None)


def shortened_iteration(samples: Iterable[T]) -> Iterator[T]:
    """Yields samples for a user's loop; an error of this library is raised as `shortened` returns it."""
    try:
        yield from samples
    except IPFSDatasetError as error:
        raise shortened(error) from error.__cause__


def _is_internal(frames: TracebackType | None) -> bool:
    while frames is not None:
        name = frames.tb_frame.f_code.co_filename
        if not (name.startswith(_INTERNAL[:2]) or any(part in name for part in _INTERNAL[2:])):
            return False
        frames = frames.tb_next
    return True
