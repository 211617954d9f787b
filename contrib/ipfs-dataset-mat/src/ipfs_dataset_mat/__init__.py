"""MATLAB files as a format of ipfs-dataset. Importing this package imports neither SciPy nor h5py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import ReaderPlugin, hookimpl

if TYPE_CHECKING:
    from ipfs_dataset_mat.reader import MatReader

__all__ = ["MatReader"]


# With `__getattr__`, a type checker would accept any name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name != "MatReader":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ipfs_dataset_mat.reader import MatReader  # noqa: PLC0415 - imports SciPy and h5py

        return MatReader


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares ``mat``."""
    # An entry point to the class would import SciPy and h5py in every process that looks up a suffix.
    return [
        ReaderPlugin(
            name="mat",
            summary="a MATLAB file, version 4 to 7.3: its variables",
            factory="ipfs_dataset_mat.reader:MatReader",
            suffixes=(".mat",),
            magic=((0, b"MATLAB 5.0 MAT-file"), (0, b"MATLAB 7.3 MAT-file")),
            in_folders=True,
        )
    ]
