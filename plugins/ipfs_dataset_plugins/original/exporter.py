"""Recognizes datasets of the original library; the code that reads samples is imported on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import Exporter, ExportError, ObjectFile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core import FileSink, ObjectDirectory, PublishedSamples


class Original(Exporter):
    """Reads datasets of the original library; it does not write them."""

    def export(self, samples: Iterable[Any], sink: FileSink) -> None:
        raise ExportError(
            "The form 'original' cannot be written, because it consists of pickles: publish as 'tar_shards'"
        )

    def load(self, source: ObjectDirectory | ObjectFile) -> PublishedSamples | None:
        if not isinstance(source, ObjectFile):
            return None
        from ipfs_dataset_plugins.tar_shards import manifest  # noqa: PLC0415 - only for files

        fields = manifest.read_json(source)
        if not manifest.is_manifest(fields) or "list" not in fields:
            return None
        from ipfs_dataset_plugins.original.samples import open_samples  # noqa: PLC0415 - as above

        return open_samples(source, fields, allow_pickle=self.options.allow_pickle)
