"""The exceptions that this library raises, and the warnings that it shows.

::

    IPFSDatasetError
    ├── PluginError
    │   ├── UnknownPluginError       (LookupError)
    │   ├── PluginConflictError      (ValueError)
    │   └── MissingDependencyError   (ImportError)
    ├── AddressError                 (ValueError)
    ├── TransportError               (OSError)
    │   ├── ObjectNotFoundError      (FileNotFoundError)
    │   ├── TransportTimeoutError    (TimeoutError)
    │   └── RateLimitedError
    ├── VerificationError
    ├── FormatError                  (ValueError)
    ├── LimitError
    └── ExportError

    IPFSDatasetWarning               (UserWarning)
    └── PluginWarning

Each takes one message that holds every fact: PyTorch rebuilds an error that a DataLoader worker raised as
``type(error)(message)``, and a class that wants more arrives as a bare ``RuntimeError``. A message says
what was asked, what happened and what to do.
"""

from __future__ import annotations


class IPFSDatasetError(Exception):
    """Base of every error that this library raises on purpose."""


class PluginError(IPFSDatasetError):
    """A plugin could not be found, loaded or used."""


class UnknownPluginError(PluginError, LookupError):
    """No installed plugin goes by the name or address asked for."""


class PluginConflictError(PluginError, ValueError):
    """Two distributions claim the same name."""


class MissingDependencyError(PluginError, ImportError):
    """A plugin needs a package that is not installed."""


class AddressError(IPFSDatasetError, ValueError):
    """A URL, CID, multiaddr or path cannot be used as an address."""


class TransportError(IPFSDatasetError, OSError):
    """A source did not deliver.

    Attributes:
        retryable: Whether the same request may succeed later.
        final: Whether the source refuses us as such: it is asked last from then on.
    """

    def __init__(self, message: str = "", *, retryable: bool = False, final: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.final = final


class ObjectNotFoundError(TransportError, FileNotFoundError):
    """A verified directory proves that it has no such name, or a source says it lacks the block."""


class TransportTimeoutError(TransportError, TimeoutError):
    """A deadline passed: while connecting, waiting, receiving, or for the whole request."""

    def __init__(self, message: str = "", *, retryable: bool = True) -> None:
        super().__init__(message, retryable=retryable)


class RateLimitedError(TransportError):
    """The source asks to slow down (HTTP 429).

    Attributes:
        retry_after: Seconds that the source asked to wait, None where it named none.
    """

    def __init__(
        self, message: str = "", *, retryable: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(message, retryable=retryable)
        self.retry_after = retry_after


class VerificationError(IPFSDatasetError):
    """Bytes do not hash to their CID, or the DAG that they form contradicts itself."""


class FormatError(IPFSDatasetError, ValueError):
    """An object is not what its format says: a damaged archive, a bad metadata.txt."""


class LimitError(IPFSDatasetError):
    """A hard limit against hostile or unreasonable data was reached."""


class ExportError(IPFSDatasetError):
    """A dataset cannot be exported as it is."""


class IPFSDatasetWarning(UserWarning):
    """Base of every Python warning that this library shows."""


class PluginWarning(IPFSDatasetWarning):
    """A plugin could not be loaded, or hangs while it loads, where that may change what a dataset yields.

    Shown once in a process for each plugin and cause. ``warnings.simplefilter("error", PluginWarning)``
    raises it instead.
    """
