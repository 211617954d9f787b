"""The index of MATLAB files whose samples are rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core import RowsIndex

if TYPE_CHECKING:
    from ipfs_dataset_mat.mat_file import MatFile


class VariablesIndex(RowsIndex):
    """The index of a file whose samples are rows of its variables.

    Args:
        name: The name of the file. The name of a sample is ``name:number``.
        count: The number of samples.
        axes: The axis of the rows of each variable, by its name.
        file: The file, for the positions of the rows.

    Attributes:
        axes: As the argument.
    """

    def __init__(self, name: str, count: int, axes: dict[str, int], file: MatFile) -> None:
        extents = {variable: file.extents(variable, axis) for variable, axis in axes.items()}
        step = min(file.rows_at_once(variable, axis) for variable, axis in axes.items())
        super().__init__(name, count, extents, step)
        self.axes = axes
