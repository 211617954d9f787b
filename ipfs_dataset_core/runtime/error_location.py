"""The location of an error in a dataset, which is added to the error on its way to the user.

Each layer adds its part: a file its name and the byte range, a reader the sample and its name, a folder its
URL, the member's path and the line that lists it. The message is formatted from all parts each time, so that
no part is repeated, and that an error from a DataLoader worker, which keeps only the message, is complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ipfs_dataset_core.errors import IPFSDatasetError, Location

E = TypeVar("E", bound="IPFSDatasetError")


def located(error: E, outer: Location) -> E:
    """Returns a copy of an error whose message also contains its location.

    A copy is necessary because several threads may wait for the same bytes, each for another sample. It has
    the traceback, cause and attributes of the original: ``raise located(error, …) from error.__cause__``.

    Args:
        error: The error.
        outer: The location; parts that the error already has are kept.
    """
    before = error.location
    where = outer if before is None else before.within(outer)
    if where == before:
        return error
    reason = str(error) if error.reason is None else error.reason
    place = where.describe(reason)
    copy = with_message(error, f"In {place}: {reason}" if place else reason)
    if copy is not error:
        copy.location, copy.reason = where, reason
    return copy


def with_message(error: E, message: str) -> E:
    """Returns a copy of an error with another message; the error itself if its class takes no message."""
    try:
        copy = type(error)(message)
    except TypeError:
        return error
    copy.__dict__.update(error.__dict__)
    copy.__cause__, copy.__suppress_context__ = error.__cause__, error.__suppress_context__
    return copy.with_traceback(error.__traceback__)
