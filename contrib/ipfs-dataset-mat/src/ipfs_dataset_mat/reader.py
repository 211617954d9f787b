"""The reader of MATLAB files: the whole file is one sample, or each row of its variables is."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

from ipfs_dataset_core import (
    FormatError,
    ObjectLocal,
    Reader,
    WholeFileIndex,
    common_row_count,
    selected_names,
)
from ipfs_dataset_mat.index import VariablesIndex
from ipfs_dataset_mat.values import finished
from ipfs_dataset_mat.version4 import Mat4
from ipfs_dataset_mat.version5 import HEADER_BYTES, Mat5
from ipfs_dataset_mat.version73 import Mat73

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_core import MemberIndex, ObjectFile, Sample
    from ipfs_dataset_mat.mat_file import MatFile

Axis = int | Literal["last"]

MAX_BYTES = 4 << 30

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_HDF5_OFFSETS = (0, 512)  # MATLAB writes a text of 512 bytes in front


class MatReader(Reader):
    """Reads MATLAB files of version 4 to 7.3 as ``(name, {variable: value})``.

    Axes count from 0 in the shape that MATLAB's ``size`` shows: an array of ``size`` 32 32 3 1000 has 1000
    rows along axis 3, which is also ``-1`` and ``"last"``. MATLAB stores arrays in column-major order, so
    only the rows along the last axis are contiguous; reading a row along another axis reads more of the file.

    Args:
        variables: The names of the variables to read; by default all.
        sample_axis: The axis whose rows are the samples: one for all variables, or a dict of axes by the
            names of the variables, which are then the ones that are read. By default, the whole file is one
            sample.
        max_bytes: The maximum size of a variable, or of the rows that are read at once, in bytes of memory;
            larger ones raise `LimitError`.

    Raises:
        ValueError: `variables` or `sample_axis` is empty, a variable is repeated, or it has no axis.
        TypeError: An axis is neither a whole number nor ``"last"``.
    """

    cheap_index = True

    def __init__(
        self,
        *,
        variables: Sequence[str] | None = None,
        sample_axis: Axis | Mapping[str, Axis] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._variables = selected_names(variables, "variables=")
        self._axis: int | dict[str, int] | None
        if isinstance(sample_axis, Mapping):
            self._axis = {name: _axis_number(axis) for name, axis in sample_axis.items()}
            with_axes = selected_names(self._axis, "sample_axis=")
            self._variables = self._variables or with_axes
            if missing := set(self._variables or ()) - set(self._axis):
                raise ValueError(f"sample_axis= has no axis for the variable {min(missing)!r}")
        else:
            self._axis = None if sample_axis is None else _axis_number(sample_axis)
        self._files: ObjectLocal[ObjectFile, MatFile] = ObjectLocal(
            partial(open_mat, max_bytes=max_bytes)
        )

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        index = self.index(source)
        if not isinstance(index, VariablesIndex):
            yield self.read(source, index, 0)
            return
        file = self._files.get(source)
        for start in range(0, len(index), index.step):
            stop = min(start + index.step, len(index))
            columns = {
                name: file.rows(name, axis, start, stop) for name, axis in index.axes.items()
            }
            for row in range(stop - start):
                values = {name: finished(rows[row]) for name, rows in columns.items()}
                yield index.name(start + row), values

    def index(self, source: ObjectFile) -> WholeFileIndex | VariablesIndex:
        """Returns the samples of a file; with `sample_axis`, this reads the header of each variable.

        Raises:
            FormatError: The file is damaged, lacks a variable or an axis, or the variables have different
                numbers of rows.
            LimitError: There are too many rows.
        """
        if self._axis is None:
            return WholeFileIndex(source.name, source.size)
        file = self._files.get(source)
        axes = {name: self._axis_of(file, source, name) for name in self._names(file, source)}
        counts = {name: file.shape(name)[axis] for name, axis in axes.items()}
        count = common_row_count(
            counts,
            f"The variables of {source.name!r}",
            "Choose variables with variables=[…], or an axis for each with sample_axis={'name': axis, …}.",
        )
        source.limits.check("members", count, repr(source.name))
        return VariablesIndex(source.name, count, axes, file)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        name, file = index.name(position), self._files.get(source)
        if isinstance(index, VariablesIndex):
            rows = {
                variable: file.rows(variable, axis, position, position + 1)
                for variable, axis in index.axes.items()
            }
            return name, {variable: finished(row[0]) for variable, row in rows.items()}
        names = self._names(file, source)
        return name, {variable: finished(file.load(variable)) for variable in names}

    def _names(self, file: MatFile, source: ObjectFile) -> list[str]:
        existing = file.names()
        names = existing if self._variables is None else self._variables
        if missing := [name for name in names if name not in existing]:
            raise FormatError(
                f"{source.name!r} has no variable {missing[0]!r}. It has {', '.join(existing) or 'none'}."
            )
        return names

    def _axis_of(self, file: MatFile, source: ObjectFile, name: str) -> int:
        """Returns the axis of the rows of a variable, counted from 0."""
        axis = self._axis[name] if isinstance(self._axis, dict) else cast("int", self._axis)
        shape = file.shape(name)
        if not -len(shape) <= axis < len(shape):
            raise FormatError(
                f"The variable {name!r} of {source.name!r} has size {shape} and so no axis {axis}: choose "
                "another axis with sample_axis=, or leave the variable out with variables=."
            )
        return axis % len(shape)


def _axis_number(axis: Axis) -> int:
    if axis == "last":
        return -1
    try:
        return operator.index(axis)
    except TypeError:
        raise TypeError(f"sample_axis= must be a whole number or 'last', not {axis!r}") from None


def open_mat(source: ObjectFile, max_bytes: int) -> MatFile:
    """Opens a file of any version.

    Raises:
        FormatError: It is not a MATLAB file, or damaged.
    """
    if any(source.read_at(at, len(_HDF5_MAGIC)) == _HDF5_MAGIC for at in _HDF5_OFFSETS):
        return Mat73(source, max_bytes)
    head = source.read_at(0, HEADER_BYTES)
    if len(head) == HEADER_BYTES and head[126:] in (b"IM", b"MI") and 0 not in head[:4]:
        return Mat5(source, max_bytes)
    # Version 4 begins with a number below 5000, so one of its bytes is 0; version 5 begins with text.
    if 0 in head[:4]:
        return Mat4(source, max_bytes)
    raise FormatError(
        f"{source.name!r} is not a MATLAB file, or cut off: it begins with {head[:20]!r}. "
        "Publish it again from a file that MATLAB opens."
    )
