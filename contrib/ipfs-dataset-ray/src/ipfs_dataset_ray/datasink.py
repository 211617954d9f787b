"""Publishes a Ray dataset: each task its part, and the driver the whole, without moving the parts' bytes."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

from ray.data.datasource import Datasink

from ipfs_dataset import IPFSDatasetExporter
from ipfs_dataset_ray.rows import samples_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ray.data._internal.execution.interfaces import TaskContext
    from ray.data.block import Block
    from ray.data.datasource.datasink import WriteResult

log = logging.getLogger(__name__)


class IPFSDatasink(Datasink[str]):
    """Publishes the rows as one dataset, for `ray.data.Dataset.write_datasink`.

    Every task writes the shards of its rows to a node and pins them there; a task that is run again writes
    the same. Then the driver writes the directory and the manifest, and `cid` is that of the dataset.

    Attributes:
        cid: Of the dataset, None until it is published.

    Args:
        addresses: Nodes or stores to publish to, as of `IPFSDatasetExporter`, each reachable from every
            machine of the cluster. Tasks take them in turn. The directory goes to the first of them.
        columns: Which columns make a sample, a tuple in this order; by default all, as a dict.
        pin: How the first node pins the dataset: ``"recursive"``, for which it fetches the shards that it
            lacks, ``"direct"``, the directory alone, or None. By default ``"recursive"`` for one address and
            ``"direct"`` for several, whose nodes pin the shards that they have. Where one address is each
            machine's own node, ``"direct"`` is right as well.
        **options: What `IPFSDatasetExporter` takes, such as ``shard_bytes=``.
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
            raise ValueError("addresses has at least one node or store to publish to")
        self._addresses = [os.fspath(address) for address in given]
        self._columns = None if columns is None else list(columns)
        several = len(self._addresses) > 1
        self._pin = ("direct" if several else "recursive") if pin == "by addresses" else pin
        self._options = {"progress": False, **options}
        self._exporter(0)  # what is wrong with the options is known before the first task
        self.cid = None

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> str:
        """Publishes the rows of one task, and returns the record of its part as JSON."""
        exporter = self._exporter(ctx.task_idx)
        samples = samples_of(blocks, self._columns)
        return json.dumps(exporter.export_part(samples, part=ctx.task_idx))

    def on_write_complete(self, write_result: WriteResult[str]) -> None:
        """Puts the parts together."""
        found = [json.loads(record) for record in write_result.write_returns if record is not None]
        found.sort(key=lambda record: record["part"])
        # A number is missing where Ray had no rows for a task.
        records = [{**record, "part": number} for number, record in enumerate(found)]
        self.cid = self._exporter(0).assemble(records, pin=self._pin)  # type: ignore[arg-type]
        log.info(
            "Published %d samples in %d parts: %s", write_result.num_rows, len(records), self.cid
        )

    def _exporter(self, number: int) -> IPFSDatasetExporter:
        address = self._addresses[number % len(self._addresses)]
        return IPFSDatasetExporter(address, **self._options)
