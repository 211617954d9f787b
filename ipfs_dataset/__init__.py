"""PyTorch datasets streamed from IPFS, every byte verified against its CID.

The public names are available here (``from ipfs_dataset import IPFSDataset``) and in the modules that define
them (``from ipfs_dataset.ipfs_dataset import IPFSDataset``). Each name is imported on first use, so that
``import ipfs_dataset`` itself is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipfs_dataset.exporter import (
        DatasetCard as DatasetCard,
        EncodedFile as EncodedFile,
        IPFSDatasetExporter as IPFSDatasetExporter,
        ValueCodec as ValueCodec,
    )
    from ipfs_dataset.ipfs_dataset import (
        BlockShuffleSampler as BlockShuffleSampler,
        DatasetSplit as DatasetSplit,
        IPFSDataset as IPFSDataset,
        IPFSIterableDataset as IPFSIterableDataset,
        MixedDataset as MixedDataset,
        ShuffleDataset as ShuffleDataset,
        load as load,
    )
    from ipfs_dataset.types import IPFSObject as IPFSObject, RemoteFileType as RemoteFileType

    __all__: list[str]
    __version__: str
    _MODULE_OF: dict[str, str]
else:
    _MODULE_OF = {
        name: f"{__name__}.{module}"
        for module, names in {
            "exporter": "DatasetCard EncodedFile IPFSDatasetExporter ValueCodec",
            "ipfs_dataset": (
                "BlockShuffleSampler DatasetSplit IPFSDataset IPFSIterableDataset MixedDataset "
                "ShuffleDataset load"
            ),
            "types": "IPFSObject RemoteFileType",
        }.items()
        for name in names.split()
    }
    __all__ = [*sorted(_MODULE_OF), "__version__"]  # noqa: PLE0604 - all are text

    def __getattr__(name: str) -> Any:
        import importlib  # noqa: PLC0415 - as slow as the rest of this module
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
