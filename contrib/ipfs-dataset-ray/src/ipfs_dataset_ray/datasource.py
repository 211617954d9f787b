"""The datasource: objects and published datasets, each split of which is a task of Ray."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from ipfs_dataset import IPFSDataset, IPFSIterableDataset, load
from ipfs_dataset_core import selected_names
from ipfs_dataset_ray.rows import block_of, row_bytes, row_of_file, row_of_sample

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from ray.data.block import Block
    from ray.data.context import DataContext

    from ipfs_dataset import DatasetSplit, IPFSObject

# The approximate size of the blocks that tasks yield. Ray combines them to blocks of the size that it needs.
_BLOCK_BYTES = 16 << 20
_BLOCK_ROWS = 4096


class IPFSDatasource(Datasource):
    """Reads objects or a published dataset, for `ray.data.read_datasource`.

    The columns are the fields of a published dataset, or ``name`` and ``bytes`` for an archive, a folder or a
    file. The numbers of samples and bytes come from manifests, directories and indexes; no sample is read for
    them. Each task verifies every byte that it reads.

    Args:
        url: A URL or CID of an object in IPFS, an `IPFSObject`, or several of these.
        address: The source, as for `ipfs_dataset.load`. All machines of the cluster must reach it.
        split_bytes: The approximate number of bytes that a task reads.
        columns: The names of the columns for the parts of samples, if these are tuples.
        transform: As for `ipfs_dataset.load`; the tasks apply it to the data of each sample.
        target_transform: As for `ipfs_dataset.load`; the tasks apply it to the target of each sample.
        index: Whether the driver reads the headers of TARs, so that each TAR is divided by its size and the
            numbers of rows are known. By default, a TAR is read by at most three tasks.
        **options: Options of `ipfs_dataset.load`, such as ``gateways=``, ``cache_dir=`` and ``decoders=``.

    Raises:
        ValueError: `columns` is empty or has a name twice, or `split_bytes` is not a size.
        TypeError: An option is unknown.
        FormatError: An object is damaged.
    """

    def __init__(
        self,
        url: str | IPFSObject | Iterable[str | IPFSObject],
        address: str | os.PathLike[str] | None = None,
        *,
        split_bytes: int | str = "128M",
        columns: Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        index: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self._columns = selected_names(columns, "columns=")
        given: dict[str, Any] = {
            **options,
            "transform": transform,
            "target_transform": target_transform,
        }
        dataset: Any
        if isinstance(url, Iterable) and not isinstance(url, str):
            dataset = IPFSIterableDataset(url, address, **given)
        else:
            dataset = load(url, address, **given)
        try:
            self._splits: list[DatasetSplit] = dataset.splits(split_bytes, index=index)
        finally:
            dataset.close()
        self._published = not isinstance(dataset, (IPFSDataset, IPFSIterableDataset))

    @property
    def splits(self) -> list[DatasetSplit]:
        """The split that each task reads."""
        return list(self._splits)

    def estimate_inmemory_data_size(self) -> int:
        """Returns the size of the samples in bytes, as they are stored."""
        return sum(split.bytes for split in self._splits)

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        """Returns a task for each split: ``split_bytes`` determines their number, not `parallelism`."""
        return [
            ReadTask(
                ReadSplit(split, self._columns, published=self._published),
                BlockMetadata(
                    num_rows=split.rows,
                    size_bytes=split.bytes,
                    exec_stats=None,
                    input_files=tuple(f"ipfs://{cid}" for cid in split.cids),
                ),
                per_task_row_limit=per_task_row_limit,
            )
            for split in self._splits
        ]


@attrs.frozen
class ReadSplit:
    """The function of a task, which reads one split.

    Args:
        split: The split.
        columns: The names of the columns, None for the default ones.
        published: Whether the samples are those of a published dataset rather than of files.
    """

    split: DatasetSplit
    columns: list[str] | None
    published: bool = attrs.field(kw_only=True)

    # Ray shows this name in its warning about a function that is large when it is pickled.
    __name__ = "read_split"

    def __call__(self) -> Iterator[Block]:
        """Yields the rows in blocks, in order."""
        row_of: Callable[[Any, Sequence[str] | None], dict[str, Any]]
        row_of = row_of_sample if self.published else row_of_file
        with self.split:
            rows: list[dict[str, Any]] = []
            size = 0
            for sample in self.split:
                row = row_of(sample, self.columns)
                rows.append(row)
                size += row_bytes(row)
                if size >= _BLOCK_BYTES or len(rows) >= _BLOCK_ROWS:
                    yield block_of(rows)
                    rows, size = [], 0
            if rows:
                yield block_of(rows)
