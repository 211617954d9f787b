"""The reader: one sample per file, or one per row of its variables."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

from ipfs_dataset_core import FormatError, Reader, WholeFileIndex
from ipfs_dataset_mat.index import VariablesIndex
from ipfs_dataset_mat.values import finished
from ipfs_dataset_mat.version4 import Mat4
from ipfs_dataset_mat.version5 import HEADER_BYTES, Mat5
from ipfs_dataset_mat.version73 import Mat73

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_core import MemberIndex, ObjectFile, Sample
    from ipfs_dataset_mat.container import Container

Axis = int | Literal["last"]

MAX_BYTES = 4 << 30

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF5_AT = (0, 512)


class MatReader(Reader):
    """Reads MATLAB files of version 4 to 7.3, as ``(name, {variable: value})``.

    Axes are counted as MATLAB's ``size`` shows them, from 0: an array of ``size`` 32 32 3 1000 has
    1000 samples along axis 3, which is also ``-1`` and ``"last"``. MATLAB keeps data in column-major order,
    so rows along the last axis lie together, and reading one along another touches more of the file.

    Args:
        variables: Which variables to read; by default all.
        sample_axis: The axis along which each variable is cut into samples, one for all or one for each by
            name, which then are the variables; by default the whole file is one sample.
        max_bytes: A variable or sample that needs more memory is a `LimitError`.
    """

    cheap_index = True

    def __init__(
        self,
        *,
        variables: Sequence[str] | None = None,
        sample_axis: Axis | Mapping[str, Axis] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        if isinstance(sample_axis, Mapping):
            sample_axis = dict(sample_axis)
            variables = list(sample_axis) if variables is None else variables
        self._variables = [variables] if isinstance(variables, str) else variables
        self._axis = sample_axis
        self._max_bytes = max_bytes
        self._forget()

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        if self._axis is None:
            yield from super().samples(source)
            return
        index = cast("VariablesIndex", self.index(source))
        container = self._container(source)
        for start in range(0, len(index), index.step):
            stop = min(start + index.step, len(index))
            columns = {n: container.rows(n, a, start, stop) for n, a in index.axes.items()}
            for row in range(stop - start):
                values = {name: finished(rows[row]) for name, rows in columns.items()}
                yield index.name(start + row), values

    def index(self, source: ObjectFile) -> WholeFileIndex | VariablesIndex:
        if self._axis is None:
            return WholeFileIndex(source.name, source.size)
        container = self._container(source)
        axes = {
            name: self._axis_of(container, source, name) for name in self._names(container, source)
        }
        return VariablesIndex.of(source.name, container, axes)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        name = index.name(position)
        container = self._container(source)
        if isinstance(index, VariablesIndex):
            rows = {
                n: container.rows(n, axis, position, position + 1) for n, axis in index.axes.items()
            }
            return name, {n: finished(row[0]) for n, row in rows.items()}
        return name, {n: finished(container.load(n)) for n in self._names(container, source)}

    def _names(self, container: Container, source: ObjectFile) -> list[str]:
        there = container.names()
        wanted = there if self._variables is None else list(self._variables)
        if missing := [name for name in wanted if name not in there]:
            raise FormatError(
                f"{source.name!r} has no variable {missing[0]!r}. It has {', '.join(there) or 'none'}."
            )
        return wanted

    def _axis_of(self, container: Container, source: ObjectFile, name: str) -> int:
        axis = self._axis[name] if isinstance(self._axis, dict) else self._axis
        shape = container.shape(name)
        number = len(shape) - 1 if axis == "last" else int(cast("int", axis))
        if not -len(shape) <= number < len(shape):
            raise FormatError(
                f"The variable {name!r} of {source.name!r} has size {shape} and so no axis {axis!r}: "
                "choose another sample_axis, or leave the variable out by variables=."
            )
        return number % len(shape)

    def _container(self, source: ObjectFile) -> Container:
        """Returns the opened file: what was read of one that cannot be read in parts is kept with it."""
        container = self._open.get(source)
        if container is None:
            container = self._open[source] = open_container(source, self._max_bytes)
        return container

    def _forget(self) -> None:
        self._open: weakref.WeakKeyDictionary[ObjectFile, Container] = weakref.WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()


def open_container(source: ObjectFile, max_bytes: int) -> Container:
    """Returns the variables of a file of any version.

    Raises:
        FormatError: It is no MATLAB file, or damaged.
    """
    if any(source.read_at(at, len(_HDF5)) == _HDF5 for at in _HDF5_AT):
        return Mat73(source, max_bytes)
    head = source.read_at(0, HEADER_BYTES)
    if len(head) == HEADER_BYTES and head[126:] in (b"IM", b"MI") and 0 not in head[:4]:
        return Mat5(source, max_bytes)
    if 0 in head[:4]:  # the first number of version 4 is small; text in version 5 has no such byte
        return Mat4(source)
    raise FormatError(
        f"{source.name!r} is not a MATLAB file, or cut off: it begins with {head[:20]!r}. "
        "Publish it again from a file that MATLAB opens."
    )
