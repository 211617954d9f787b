"""PyTorch datasets streamed from IPFS, every byte verified against its CID.

What users write is here by name (``from ipfs_dataset import IPFSDataset``) and in the modules that it always
was in (``from ipfs_dataset.ipfs_dataset import IPFSDataset``). A name is imported when it is asked for, so
``import ipfs_dataset`` itself takes no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipfs_dataset.exporter import IPFSDatasetExporter
    from ipfs_dataset.ipfs_dataset import (
        BlockShuffleSampler,
        IPFSDataset,
        IPFSIterableDataset,
        ShuffleDataset,
    )
    from ipfs_dataset.types import IPFSObject, RemoteFileType

    __version__: str

__all__ = [
    "BlockShuffleSampler",
    "IPFSDataset",
    "IPFSDatasetExporter",
    "IPFSIterableDataset",
    "IPFSObject",
    "RemoteFileType",
    "ShuffleDataset",
    "__version__",
]

_MODULES = {
    "ipfs_dataset.exporter": "IPFSDatasetExporter",
    "ipfs_dataset.ipfs_dataset": "BlockShuffleSampler IPFSDataset IPFSIterableDataset ShuffleDataset",
    "ipfs_dataset.types": "IPFSObject RemoteFileType",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


# A type checker would take any name for one of ours.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        import importlib  # noqa: PLC0415 - costs as much as all of this module
        import importlib.metadata  # noqa: PLC0415

        if name == "__version__":
            value = importlib.metadata.version("ipfs-dataset")
        elif name in _MODULE_OF:
            value = getattr(importlib.import_module(_MODULE_OF[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
