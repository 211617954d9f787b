"""The exporter of TAR shards, which imports the modules for writing and reading on demand.

Every folder of unknown content is checked for such a dataset, so the check has to be cheap to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import Exporter, ObjectDirectory
from ipfs_dataset_plugins.tar_shards import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ipfs_dataset_core import FileSink, ObjectFile, PublishedSamples
    from ipfs_dataset_plugins.tar_shards.dataset_writer import DatasetWriter


class TarShards(Exporter):
    """Writes and reads TAR shards, holding one sample at a time in memory and never a whole shard."""

    def export(self, samples: Iterable[Any], sink: FileSink) -> None:
        self._writer().export(samples, sink)

    def export_part(self, samples: Iterable[Any], sink: FileSink) -> dict[str, Any]:
        return self._writer().export_part(samples, sink)

    def assemble(
        self, parts: Sequence[Mapping[str, Any]], sink: FileSink, *, mixed: bool = False
    ) -> None:
        self._writer().assemble(parts, sink, mixed=mixed)

    def load(self, source: ObjectDirectory | ObjectFile) -> PublishedSamples | None:
        if not isinstance(source, ObjectDirectory) or not source.contains(MANIFEST):
            return None
        from ipfs_dataset_plugins.tar_shards.samples import open_samples  # noqa: PLC0415 - see above

        return open_samples(source, self.options)

    def _writer(self) -> DatasetWriter:
        from ipfs_dataset_plugins.tar_shards.dataset_writer import DatasetWriter  # noqa: PLC0415

        return DatasetWriter(self.options)
