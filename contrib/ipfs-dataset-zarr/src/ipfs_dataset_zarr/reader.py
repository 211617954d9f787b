"""The reader of Zarr stores. A sample has a row of each array, that is a slice along its leading axis."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, cast

from ipfs_dataset_core import (
    FormatError,
    IPFSDatasetError,
    ObjectDirectory,
    ObjectLocal,
    Reader,
    common_row_count,
    selected_names,
)
from ipfs_dataset_zarr.index import StoreIndex
from ipfs_dataset_zarr.open_store import OpenStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_core import MemberIndex, Sample

MAX_BYTES = 4 << 30

_READ_AHEAD = 32  # samples that are read ahead, if the row cache has space for them


class ZarrReader(Reader):
    """Reads each row of the arrays, along the leading axis, as a sample ``(name:number, {path: row})``.

    Reading a sample reads the chunks that contain its rows. If the store is a single array, the value of a
    sample is the row, without a dict.

    Args:
        variables: The paths of the arrays to read, such as ``"t2m"``; they must have the same number of rows.
            By default, these are the largest array and those that share its leading axis.
        max_bytes: The maximum number of bytes in memory for a row and its chunks; more raise `LimitError`.

    Raises:
        ValueError: `variables` is empty, or has a name twice.
    """

    cheap_index = True

    def __init__(
        self, *, variables: Sequence[str] | None = None, max_bytes: int = MAX_BYTES
    ) -> None:
        self._variables = selected_names(variables, "variables=")
        self._stores: ObjectLocal[ObjectDirectory, OpenStore] = ObjectLocal(
            partial(OpenStore, max_bytes=max_bytes)
        )

    def samples(self, source: ObjectDirectory) -> Iterator[Sample]:
        index = self.index(source)
        for position in range(len(index)):
            self.prefetch(source, index, range(position, min(position + _READ_AHEAD, len(index))))
            yield self.read(source, index, position)

    def index(self, source: ObjectDirectory) -> StoreIndex:
        """Returns the number of samples; this reads only the metadata of the store.

        Raises:
            FormatError: The source is not a Zarr store or is damaged, or its arrays have different numbers of
                rows.
            LimitError: There are too many samples, or a sample is larger than `max_bytes`.
        """
        if not isinstance(source, ObjectDirectory):
            raise FormatError(
                f"{source.name!r} is a file: the format 'zarr' reads a directory, and not a ZIP archive."
            )
        store = self._stores.get(source)
        arrays = store.arrays(store.paths(self._variables))
        count = common_row_count(
            {array.path: array.count for array in arrays},
            f"The arrays of {source.name!r}",
            "Choose arrays with ZarrReader(variables=[…]).",
        )
        source.limits.check("members", count, repr(source.name))
        paths = tuple(array.path for array in arrays)
        return StoreIndex(source.name, paths, count, sum(array.read_bytes for array in arrays))

    def prefetch(
        self, source: ObjectDirectory, index: MemberIndex, positions: Sequence[int]
    ) -> None:
        with suppress(IPFSDatasetError):  # `read` raises it again
            self._stores.get(source).prefetch(cast("StoreIndex", index).paths, positions)

    def read(self, source: ObjectDirectory, index: MemberIndex, position: int) -> Sample:
        paths = cast("StoreIndex", index).paths
        return index.name(position), self._stores.get(source).sample(paths, position)
