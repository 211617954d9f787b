"""The datasink: each task publishes a part of a dataset, and the driver combines the parts."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

from ray.data.datasource import Datasink

from ipfs_dataset import IPFSDatasetExporter
from ipfs_dataset_core import selected_names
from ipfs_dataset_ray.rows import samples_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ray.data._internal.execution.interfaces import TaskContext
    from ray.data.block import Block
    from ray.data.datasource.datasink import WriteResult

log = logging.getLogger(__name__)


class IPFSDatasink(Datasink[str]):
    """Publishes the rows of a Ray dataset as one dataset, for `ray.data.Dataset.write_datasink`.

    Each task writes the shards of its rows to a node and pins them there. If a task is run again, it writes
    the same shards. Then the driver writes the manifest and the directory; the shards are not moved.

    Attributes:
        cid: The CID of the dataset; None until it is published.

    Args:
        addresses: The nodes or stores to publish to, as for `IPFSDatasetExporter`. All machines of the
            cluster must reach them. The tasks use them in turn; the directory is written to the first one.
        columns: The columns that make a sample, which is a tuple in this order. By default, a sample is a
            dict of all columns.
        pin: How the first node pins the dataset: ``"recursive"``, which makes it fetch the shards that it
            does not have, ``"direct"``, which pins only the directory, or None. By default, ``"recursive"``
            for one address, and ``"direct"`` for several, whose nodes pin their own shards. Pass ``"direct"``
            if the address is the own node of each machine.
        **options: Options of `IPFSDatasetExporter`, such as ``shard_bytes=``.

    Raises:
        ValueError: There is no address, or `columns` is empty or has a name twice.
        TypeError: An option is unknown.
    """

    cid: str | None

    def __init__(
        self,
        addresses: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        columns: Sequence[str] | None = None,
        pin: str | None = "by addresses",
        **options: Any,
    ) -> None:
        super().__init__()
        given = [addresses] if isinstance(addresses, (str, os.PathLike)) else list(addresses)
        if not given:
            raise ValueError("addresses is empty: pass at least one node or store to publish to")
        self._addresses = [os.fspath(address) for address in given]
        self._columns = selected_names(columns, "columns=")
        several = len(self._addresses) > 1
        self._pin = ("direct" if several else "recursive") if pin == "by addresses" else pin
        self._options = {"progress": False, **options}
        self._exporter(0)  # raises errors about options before the first task starts
        self.cid = None

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> str:
        """Publishes the rows of one task as a part, and returns the record of the part as JSON."""
        exporter = self._exporter(ctx.task_idx)
        samples = samples_of(blocks, self._columns)
        return json.dumps(exporter.export_part(samples, part=ctx.task_idx))

    def on_write_complete(self, write_result: WriteResult[str]) -> None:
        """Combines the parts to the dataset."""
        found = [json.loads(record) for record in write_result.write_returns if record is not None]
        found.sort(key=lambda record: record["part"])
        # The numbers of tasks for which Ray had no rows are missing.
        records = [{**record, "part": number} for number, record in enumerate(found)]
        self.cid = self._exporter(0).assemble(records, pin=self._pin)  # type: ignore[arg-type]
        log.info(
            "Published %d samples in %d parts: %s", write_result.num_rows, len(records), self.cid
        )

    def _exporter(self, number: int) -> IPFSDatasetExporter:
        address = self._addresses[number % len(self._addresses)]
        return IPFSDatasetExporter(address, **self._options)
