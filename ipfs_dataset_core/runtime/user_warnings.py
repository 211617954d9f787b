"""Warnings at the line of the user's code that they are about."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

# Packages whose lines tell a user nothing: a stream or a sampler is iterated by PyTorch, which is iterated
# by the user.
_PASSED_THROUGH = frozenset(
    {"ipfs_dataset", "ipfs_dataset_core", "ipfs_dataset_plugins", "torch", "torchdata"}
)


def warn_user(message: str, category: type[Warning]) -> None:
    """Shows a warning at the innermost line that is neither of this library nor of PyTorch.

    Args:
        message: What happened, and what to do.
        category: The class of the warning.

    Raises:
        Warning: The user's filters turn warnings into errors.
    """
    level, frame = 2, sys._getframe(1)  # noqa: SLF001 - documented; `inspect` reads source files
    while frame.f_back is not None and _top_package(frame) in _PASSED_THROUGH:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def is_in_user_code() -> bool:
    """Returns whether the user's code called this, rather than a thread of this library or of PyTorch."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as above
    while frame is not None and _top_package(frame) in _PASSED_THROUGH:
        frame = frame.f_back
    return frame is not None and _top_package(frame) != "threading"


def _top_package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]
