"""Taking over the protocols ``ipfs`` and ``ipns``, where the user says so."""

from __future__ import annotations

from typing import Any

from fsspec.registry import known_implementations, register_implementation, registry

from ipfs_dataset_core import PluginConflictError
from ipfs_dataset_fsspec.filesystem import IPFSDatasetFileSystem

_PROTOCOLS = ("ipfs", "ipns")


def register(*, clobber: bool = False) -> None:
    """Makes ``ipfs://`` and ``ipns://`` URLs open through this library, in this process.

    Args:
        clobber: Whether to do so even where another package, such as ipfsspec, serves them already.

    Raises:
        PluginConflictError: Another package serves one of them, and `clobber` is False.
    """
    for protocol in _PROTOCOLS:
        holder = _holder(protocol)
        if not clobber and holder not in (None, IPFSDatasetFileSystem):
            raise PluginConflictError(
                f"{protocol}:// is served by {holder!r} already: call register(clobber=True) to replace "
                "it, or use ipfsdataset:// beside it"
            )
    for protocol in _PROTOCOLS:
        register_implementation(protocol, IPFSDatasetFileSystem, clobber=True)


def _holder(protocol: str) -> Any:
    """Returns the class that serves a protocol, or where it will be imported from; None for nobody."""
    if protocol in registry:
        return registry[protocol]
    return known_implementations.get(protocol, {}).get("class")
