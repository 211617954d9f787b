"""Indexes of MATLAB files: of those that are one sample, and of those that are cut into rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, LimitError, MemberIndex

if TYPE_CHECKING:
    from ipfs_dataset_core import Span
    from ipfs_dataset_mat._container import Container, Extents

_MOST_ROWS = 50_000_000


class WholeFile(MemberIndex):
    """The index of a file that is one sample."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size

    def __len__(self) -> int:
        return 1

    def name(self, position: int) -> str:
        return (self._name,)[position]

    def span(self, position: int) -> Span:
        return (0, self._size)


class RowsIndex(MemberIndex):
    """The index of a file whose samples are rows of its variables.

    Args:
        name: The file's; a sample's is ``name:number``.
        count: How many samples there are.
        axes: Along which axis each variable is cut.
        extents: Where the rows of each variable lie.
        step: How many samples are best read at once.
    """

    def __init__(
        self, name: str, count: int, axes: dict[str, int], extents: list[Extents], step: int
    ) -> None:
        self.axes = axes
        self.step = step
        self._name = name
        self._count = count
        self._extents = extents

    @classmethod
    def of(cls, name: str, container: Container, axes: dict[str, int]) -> RowsIndex:
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
        extents = [container.extents(variable, axis) for variable, axis in axes.items()]
        step = min((container.step(variable, axis) for variable, axis in axes.items()), default=1)
        return cls(name, count, axes, extents, step)

    def __len__(self) -> int:
        return self._count

    def name(self, position: int) -> str:
        return f"{self._name}:{range(self._count)[position]}"

    def span(self, position: int) -> Span:
        """Returns where the largest of a sample's variables lies: between two may be all the file."""
        spans = [extent.span(position) for extent in self._extents]
        return max(spans, key=lambda span: span[1] - span[0], default=(0, 0))
