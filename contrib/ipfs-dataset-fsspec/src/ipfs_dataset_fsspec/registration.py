"""Registration for the protocols ``ipfs`` and ``ipns``, which users call."""

from __future__ import annotations

from typing import Any

from fsspec.registry import known_implementations, register_implementation, registry

from ipfs_dataset_core import PluginConflictError
from ipfs_dataset_fsspec.filesystem import IPFSDatasetFileSystem

_PROTOCOLS = ("ipfs", "ipns")


def register(*, clobber: bool = False) -> None:
    """Makes fsspec open ``ipfs://`` and ``ipns://`` URLs with this library, in this process.

    Args:
        clobber: Whether to replace another package, such as ipfsspec, that serves the protocols.

    Raises:
        PluginConflictError: Another package serves one of the protocols, and `clobber` is False.
    """
    for protocol in _PROTOCOLS:
        holder = _holder(protocol)
        if not clobber and holder not in (None, IPFSDatasetFileSystem):
            raise PluginConflictError(
                f"{protocol}:// is already served by {holder!r}: call register(clobber=True) to replace it, "
                "or use ipfsdataset:// URLs"
            )
    for protocol in _PROTOCOLS:
        register_implementation(protocol, IPFSDatasetFileSystem, clobber=True)


def _holder(protocol: str) -> Any:
    """Returns the class that serves a protocol, its path if it is not imported yet, or None."""
    if protocol in registry:
        return registry[protocol]
    return known_implementations.get(protocol, {}).get("class")
