"""The index of MATLAB files that are cut into rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, LimitError, RowsIndex

if TYPE_CHECKING:
    from ipfs_dataset_core import Extents
    from ipfs_dataset_mat.container import Container

_MOST_ROWS = 50_000_000


class VariablesIndex(RowsIndex):
    """The index of a file whose samples are rows of its variables.

    Args:
        name: The file's; a sample's is ``name:number``.
        count: How many samples there are.
        axes: Along which axis each variable is cut.
        extents: Where the rows of each variable lie.
        step: How many samples are best read at once.
    """

    def __init__(
        self, name: str, count: int, axes: dict[str, int], extents: dict[str, Extents], step: int
    ) -> None:
        super().__init__(name, count, extents, step)
        self.axes = axes

    @classmethod
    def of(cls, name: str, container: Container, axes: dict[str, int]) -> VariablesIndex:
        """Returns the index of a file.

        Raises:
            FormatError: The variables have different numbers of rows.
            LimitError: There are too many rows.
        """
        counts = {variable: container.shape(variable)[axis] for variable, axis in axes.items()}
        if len(set(counts.values())) > 1:
            lengths = ", ".join(f"{variable} has {count}" for variable, count in counts.items())
            raise FormatError(
                f"The variables of {name!r} have different numbers of samples: {lengths}. Choose some by "
                "variables=, or an axis for each by sample_axis={'name': axis, …}."
            )
        if (count := max(counts.values(), default=0)) > _MOST_ROWS:
            raise LimitError(f"{name!r} has {count} samples, more than the limit of {_MOST_ROWS}.")
        extents = {variable: container.extents(variable, axis) for variable, axis in axes.items()}
        step = min((container.step(variable, axis) for variable, axis in axes.items()), default=1)
        return cls(name, count, axes, extents, step)
