"""The exceptions and warnings of this library.

::

    IPFSDatasetError
    ├── PluginError
    │   ├── UnknownPluginError       (LookupError)
    │   ├── PluginConflictError      (ValueError)
    │   └── MissingDependencyError   (ImportError)
    ├── AddressError                 (ValueError)
    │   └── CacheFolderError
    ├── TransportError               (OSError)
    │   ├── ObjectNotFoundError      (FileNotFoundError)
    │   ├── TransportTimeoutError    (TimeoutError)
    │   └── RateLimitedError
    ├── VerificationError
    │   └── NameRecordError
    ├── FormatError                  (ValueError)
    ├── LimitError
    ├── StateError                   (ValueError)
    └── ExportError

    IPFSDatasetWarning               (UserWarning)
    ├── PluginWarning
    └── VerificationWarning

Each exception takes a single message that contains every fact. PyTorch rebuilds an error of a DataLoader
worker as ``type(error)(message)``, and a class whose constructor requires more arguments arrives as a bare
``RuntimeError``. A message states what was requested, what happened and what to do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

# Control characters except tab and newline, characters that change the direction of text, and lone
# surrogates, which cannot be encoded.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Returns text with characters that control a terminal or log as escapes such as ``\x1b``.

    All text from servers, and all names in datasets, are shown in this form.
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def sentence(text: str) -> str:
    """Returns text with one full stop at its end, even if the text already ends with one."""
    return f"{text.rstrip('.')}." if not text.endswith("…") else text


@attrs.frozen(kw_only=True)
class Location:
    """Where an error happened; each part is None if it is unknown or does not apply.

    Attributes:
        object: The URL of the object, without secrets.
        file: The file that was read: the object itself, or its path in the object.
        listed: Where the file is listed, such as ``"line 3 of metadata.txt"``.
        member: The name of the sample in the file.
        after: The name of the previous sample, if `member` is unknown.
        sample: The number of the sample, counted from 0 in the file or published dataset.
        start: The first byte of the file that could not be read.
        stop: The end of these bytes, exclusive.
    """

    object: str | None = None
    file: str | None = None
    listed: str | None = None
    member: str | None = None
    after: str | None = None
    sample: int | None = None
    start: int | None = None
    stop: int | None = None

    def within(self, outer: Location) -> Location:
        """Returns this location, with missing parts taken from `outer`, which is less precise."""
        mine, theirs = attrs.asdict(self), attrs.asdict(outer)
        if self.start is not None:
            theirs["stop"] = None
        return Location(
            **{name: theirs[name] if value is None else value for name, value in mine.items()}
        )

    def describe(self, reason: str) -> str:
        """Returns the location as text, without parts that the reason already mentions; "" for nothing."""
        return ", ".join(self._parts(reason))

    def _parts(self, reason: str) -> Iterator[str]:
        if self.object is not None and self.object not in reason:
            yield repr(self.object)
        is_part = self.file is not None and self.file != self.object
        if is_part and (repr(self.file) not in reason or self.listed is not None):
            yield f"file {self.file!r}" + (f" ({self.listed})" if self.listed else "")
        number = None if self.sample is None else f"sample {self.sample}"
        if self.member is not None and self.member != self.file:
            if repr(self.member) not in reason:
                yield f"member {self.member!r}" + (f" ({number})" if number else "")
        elif number is not None and number not in reason and self.member is None:
            yield number + (f" (the one after {self.after!r})" if self.after else "")
        elif number is None and self.after is not None:
            yield f"the sample after {self.after!r}"
        if self.start is not None and self.stop is not None:
            span = f"bytes {self.start}-{self.stop - 1}"
            if span not in reason:
                yield span


class IPFSDatasetError(Exception):
    """Base class of every error that this library raises on purpose.

    Attributes:
        location: Where in a dataset the error happened; None if unknown. The message contains it as well; the
            attribute is lost on the way out of a DataLoader worker.
        reason: The message without the location; None if there is no location.
        affects_one_sample: Whether the bytes of a sample were read and only its decoding failed, so that the
            iterator that raised the error continues with the next sample.
    """

    location: Location | None = None
    reason: str | None = None
    affects_one_sample: bool = False

    def __init__(self, message: str = "") -> None:
        # Messages contain responses of sources and names of members, and are shown in terminals and logs.
        super().__init__(printable(message) if isinstance(message, str) else message)


class PluginError(IPFSDatasetError):
    """A plugin could not be found, loaded or used, or a function given as a decoder failed."""


class UnknownPluginError(PluginError, LookupError):
    """No installed plugin has the requested name, or serves the requested address."""


class PluginConflictError(PluginError, ValueError):
    """Two distributions claim the same name."""


class MissingDependencyError(PluginError, ImportError):
    """A plugin needs a package that is not installed."""


class AddressError(IPFSDatasetError, ValueError):
    """A URL, CID, multiaddr or path cannot be used as an address."""


class CacheFolderError(AddressError):
    """The folder given as ``cache_dir=`` is not a cache and must not become one; it is never skipped."""


class TransportError(IPFSDatasetError, OSError):
    """A source did not deliver.

    Attributes:
        retryable: Whether the same request may succeed later.
        final: Whether the source refuses every request of this client; it is then tried last.
    """

    def __init__(self, message: str = "", *, retryable: bool = False, final: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.final = final


class ObjectNotFoundError(TransportError, FileNotFoundError):
    """A verified directory proves that it has no such name, or a source does not have the block."""


class TransportTimeoutError(TransportError, TimeoutError):
    """A deadline passed: while connecting, waiting, receiving, or for the whole request."""

    def __init__(self, message: str = "", *, retryable: bool = True) -> None:
        super().__init__(message, retryable=retryable)


class RateLimitedError(TransportError):
    """The source limits the rate of requests (HTTP 429).

    Attributes:
        retry_after: Seconds to wait, as requested by the source; None if it requested none.
    """

    def __init__(
        self, message: str = "", *, retryable: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(message, retryable=retryable)
        self.retry_after = retry_after


class VerificationError(IPFSDatasetError):
    """Bytes do not hash to their CID, or the DAG that they form is inconsistent."""


class NameRecordError(VerificationError):
    """The record of an IPNS name is invalid: malformed, expired, outdated or not signed by its key."""


class FormatError(IPFSDatasetError, ValueError):
    """An object violates its format, such as a damaged archive or an invalid metadata.txt."""


class LimitError(IPFSDatasetError):
    """A hard limit against hostile or unreasonable data was reached."""


class StateError(IPFSDatasetError, ValueError):
    """A saved state does not match this dataset or this release."""


class ExportError(IPFSDatasetError):
    """A dataset cannot be exported as it is."""


class IPFSDatasetWarning(UserWarning):
    """Base class of every Python warning that this library shows."""


class VerificationWarning(IPFSDatasetWarning):
    """An environment variable turns verification off, which is not visible in the program."""


class PluginWarning(IPFSDatasetWarning):
    """A plugin could not be loaded, or hangs while loading, and a dataset may therefore yield other samples.

    Shown once per process for each plugin and cause. ``warnings.simplefilter("error", PluginWarning)`` turns
    it into an error.
    """
