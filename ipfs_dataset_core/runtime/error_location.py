"""Where in a dataset an error happened: the one place that adds that to errors on their way to the user.

Each layer adds what it alone can tell: a file its name and the bytes, a reader the sample and its name, a
folder its URL, the member's path and the line that lists it. The message is made anew from all of that, so
no part is there twice, and an error that arrives from a DataLoader worker, which has its message only, is
complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ipfs_dataset_core.errors import IPFSDatasetError, Location

E = TypeVar("E", bound="IPFSDatasetError")


def located(error: E, outer: Location) -> E:
    """Returns a copy of an error whose message tells where it happened as well.

    A copy, for several threads may wait for the same bytes, each on behalf of another sample. It has the
    traceback, cause and attributes of the original: ``raise located(error, …) from error.__cause__``.

    Args:
        error: What happened.
        outer: Where; the parts that the error has already are kept.
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
    """Returns a copy of an error with another message; a class that is not made of one keeps its own."""
    try:
        copy = type(error)(message)
    except TypeError:
        return error
    copy.__dict__.update(error.__dict__)
    copy.__cause__, copy.__suppress_context__ = error.__cause__, error.__suppress_context__
    return copy.with_traceback(error.__traceback__)
