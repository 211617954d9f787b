"""Reads objects and published datasets of IPFS into a Ray dataset: a task for each split."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from ipfs_dataset import IPFSDataset, IPFSIterableDataset, load
from ipfs_dataset_ray.rows import block_of, row_of_file, row_of_sample, weight

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from ray.data.block import Block
    from ray.data.context import DataContext

    from ipfs_dataset import DatasetSplit, IPFSObject

# Rows are handed to Ray in blocks of about so many bytes. Ray joins them to blocks of the size that it wants.
_BLOCK_BYTES = 16 << 20
_BLOCK_ROWS = 4096


class IPFSDatasource(Datasource):
    """What is at a CID or URL, for `ray.data.read_datasource`.

    A published dataset has its fields as columns. An archive, a folder or a file has ``name`` and ``bytes``.
    The number of samples and their bytes come from manifests, directories and indexes, without reading any.
    Every byte is verified in the task that reads it.

    Args:
        url: Any form of URL of an object in IPFS, an `IPFSObject`, or several objects.
        address: Where to read, as for `ipfs_dataset.load`: an address that all machines of the cluster can
            reach.
        split_bytes: About how many bytes a task reads.
        columns: The names of the columns that the parts of samples become, where these are tuples.
        transform: Applied to the data of each sample in the task that reads it, as by `ipfs_dataset.load`.
        target_transform: Likewise, to what goes with the data.
        index: Whether the headers of TARs are read in the driver, to cut each in as many tasks as its size
            asks for, with numbers of rows. By default a TAR is at most three tasks.
        **options: What `ipfs_dataset.load` takes, such as ``gateways=``, ``cache_dir=`` and ``decoders=``.
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
        self._columns = None if columns is None else tuple(columns)

    @property
    def splits(self) -> list[DatasetSplit]:
        """What each task reads."""
        return list(self._splits)

    def estimate_inmemory_data_size(self) -> int:
        """Returns how many bytes the samples have as they are stored."""
        return sum(split.bytes for split in self._splits)

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        """Returns a task for each split, whatever parallelism is asked for: ``split_bytes`` decides."""
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
    """Reads one split in a task.

    Args:
        split: What to read.
        columns: The names of columns.
        published: Whether the samples are those of a published dataset, or of files.
    """

    split: DatasetSplit
    columns: tuple[str, ...] | None
    published: bool = attrs.field(kw_only=True)

    # Ray names a function that is large when it is pickled.
    __name__ = "read_split"

    def __call__(self) -> Iterator[Block]:
        """Yields the rows in blocks, in order."""
        row_of: Callable[[Any, Sequence[str] | None], dict[str, Any]]
        row_of = row_of_sample if self.published else row_of_file
        with self.split:
            rows: list[dict[str, Any]] = []
            together = 0
            for sample in self.split:
                row = row_of(sample, self.columns)
                rows.append(row)
                together += weight(row)
                if together >= _BLOCK_BYTES or len(rows) >= _BLOCK_ROWS:
                    yield block_of(rows)
                    rows, together = [], 0
            if rows:
                yield block_of(rows)
