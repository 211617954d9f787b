"""One error out of what several sources said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core.addressing.sources import mistaken_port
from ipfs_dataset_core.errors import (
    LimitError,
    ObjectNotFoundError,
    RateLimitedError,
    TransportError,
    TransportTimeoutError,
    VerificationError,
)

if TYPE_CHECKING:
    from ipfs_dataset_core.interfaces import Transport


def aggregate_errors(
    what: str, failures: dict[Transport, Exception], notes: list[str]
) -> Exception:
    """Returns one error of the class that says most, quoting each source on a line of its own."""
    errors = list(failures.values())
    lines = [_quoted(transport, error) for transport, error in failures.items()]
    message = "\n  ".join([f"No source delivered {what}:", *lines, *notes, *_advice(errors)])
    if any(isinstance(error, VerificationError) for error in errors):
        return VerificationError(message)
    for kind in (LimitError, RateLimitedError, TransportTimeoutError):
        if errors and all(isinstance(error, kind) for error in errors):
            return kind(message)
    return TransportError(message, retryable=any(getattr(e, "retryable", False) for e in errors))


def _advice(errors: list[Exception]) -> list[str]:
    """Returns what the user can do, where what the sources answered does not tell that itself."""
    if errors and all(isinstance(error, ObjectNotFoundError) for error in errors):
        return [
            "What to do: name a source that has it: gateways=[URL, …], or ask its publisher to pin it"
        ]
    if any(isinstance(error, VerificationError) for error in errors):
        return [
            "What to do: leave out the source whose bytes are wrong, or name more: gateways=[URL, …]"
        ]
    if errors and all(isinstance(error, TransportTimeoutError) for error in errors):
        return [
            "What to do: try again later, raise timeout=, or name more sources: gateways=[URL, …]"
        ]
    return []


def _quoted(transport: Transport, error: Exception) -> str:
    said = " ".join(str(error).split())
    quoted = said if said.startswith(transport.name) else f"{transport.name}: {said}"
    hint = mistaken_port(transport.name)
    return f"{quoted} ({hint})" if hint else quoted
