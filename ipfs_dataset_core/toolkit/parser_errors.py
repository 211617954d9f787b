"""Errors of other packages' parsers: whatever they raise for damaged data becomes a typed error."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import FormatError, IPFSDatasetError, LimitError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def parser_errors(what: str, advice: str) -> Iterator[None]:
    """Turns the errors that a parser of another package raises in this context into errors of this library.

    Errors of this library, such as those of the source, pass through.

    Args:
        what: What is read, for messages, such as ``"The variable 'x' of 'a.mat'"``.
        advice: The end of the message: what to do, in sentences.

    Raises:
        LimitError: The data declare more than fits in memory.
        FormatError: The parser raised anything else.
    """
    try:
        yield
    except IPFSDatasetError:
        raise
    except MemoryError as error:
        raise LimitError(f"{what} declares more than fits in memory.") from error
    except Exception as error:
        raise FormatError(
            f"{what} cannot be read: {str(error) or type(error).__name__}. {advice}"
        ) from error
