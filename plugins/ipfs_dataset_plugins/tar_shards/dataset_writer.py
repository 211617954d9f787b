"""Writes datasets as a directory of TAR shards that webdataset and the original library can read too.

``manifest.json`` describes how samples consist of members, ``metadata.txt`` lists the shards for readers of
folders, ``shards/*.tar`` contain members named ``<key>.<field>.<extension>``, where the key is derived from
the content of the sample, and ``index/*.json`` contain the position of each sample. Equal datasets give equal
bytes and so equal CIDs: no times or owners are stored. Datasets that differ in few samples share most blocks,
because no name contains a running number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.ipld import get_profile
from ipfs_dataset_plugins.tar_shards import MANIFEST, NAME, codecs, manifest
from ipfs_dataset_plugins.tar_shards.codecs import schema_text
from ipfs_dataset_plugins.tar_shards.manifest import OWN_SCHEMA
from ipfs_dataset_plugins.tar_shards.page.description import described
from ipfs_dataset_plugins.tar_shards.page.statistics import PREVIEWS, Statistics, merged
from ipfs_dataset_plugins.tar_shards.parts import (
    common_classes,
    common_schema,
    parse_part,
    part_content,
)
from ipfs_dataset_plugins.tar_shards.shard_writer import ShardWriter, shard_paths, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ipfs_dataset_core import ExporterOptions, FileSink
    from ipfs_dataset_plugins.tar_shards.codecs import Schema


class DatasetWriter:
    """Writes datasets, holding one sample at a time in memory and never a whole shard; see `Exporter`.

    Args:
        options: The options of the export.
    """

    def __init__(self, options: ExporterOptions) -> None:
        self._options = options
        self._codec = codecs.SampleCodec(
            options.codecs, allow_pickle=options.allow_pickle, keep_files=options.keep_files
        )

    def export(self, samples: Iterable[Any], sink: FileSink) -> None:
        """Writes a dataset; see `Exporter.export`."""
        common, shards, statistics = self._write_shards(samples, sink)
        self._finish(common, shards, statistics, self._options.classes, sink)

    def export_part(self, samples: Iterable[Any], sink: FileSink) -> dict[str, Any]:
        """Writes the shards of a part of a dataset; see `Exporter.export_part`."""
        common, shards, statistics = self._write_shards(samples, sink)
        return part_content(common, shards, statistics, sink, self._options.classes)

    def assemble(
        self, parts: Sequence[Mapping[str, Any]], sink: FileSink, *, mixed: bool = False
    ) -> None:
        """Writes the files beside the shards of the parts; see `Exporter.assemble`."""
        found = list(map(parse_part, parts))
        common = common_schema(found, mixed=mixed)
        text = "" if common is None else schema_text(common)
        shards: list[manifest.Shard] = []
        for part in found:
            differs = part.schema is not None and schema_text(part.schema) != text
            for shard in part.shards:
                path, index = shard_paths(len(shards))
                sink.add(path, shard.file)
                sink.add(index, shard.index)
                listed = manifest.Shard(
                    path=path,
                    cid=str(shard.file.cid),
                    size=shard.file.size,
                    samples=shard.samples,
                    index=index,
                    sha256=shard.sha256,
                    schema=part.schema if differs else None,
                )
                shards.append(listed)
        statistics = merged((part.statistics for part in found), common, self._previews)
        classes = self._options.classes or common_classes(found)
        self._finish(common, shards, statistics, classes, sink)

    def _write_shards(
        self, samples: Iterable[Any], sink: FileSink
    ) -> tuple[Schema | None, list[manifest.Shard], Statistics]:
        """Writes the shards; returns the first sample's schema, the shards, and statistics of the samples."""
        statistics = Statistics(self._previews)
        profile = get_profile(self._options.profile).with_chunker(self._options.chunker)
        writer = ShardWriter(sink, self._options.shard_bytes, profile.chunk_size)
        common: Schema | None = None
        for schema, members in self._codec.encode_all(samples):
            if common is None:
                common = schema
            statistics.add(schema, members)
            writer.add(members if schema is common else [_own_schema(schema), *members])
        statistics.finish()
        return common, writer.finish(), statistics

    @property
    def _previews(self) -> int:
        """Number of samples shown on the page."""
        return PREVIEWS if self._options.card is None else self._options.card.previews

    def _finish(
        self,
        common: Schema | None,
        shards: list[manifest.Shard],
        statistics: Statistics,
        classes: Mapping[str, int],
        sink: FileSink,
    ) -> None:
        """Writes the files beside the shards and their indexes."""
        overview = manifest.Manifest(
            form=NAME,
            profile=self._options.profile,
            chunker=self._options.chunker,
            schema=common,
            shards=tuple(shards),
            card=self._options.card,
            classes=classes,
        )
        write_file(sink, "metadata.txt", "".join(f"{shard.path}\n" for shard in shards).encode())
        write_file(sink, MANIFEST, overview.to_bytes())
        for path, content in described(overview, statistics).items():
            write_file(sink, path, content)


def _own_schema(schema: codecs.Schema) -> tuple[str, bytes]:
    """Returns the member with the schema of a sample whose structure differs from the first sample's."""
    return OWN_SCHEMA, codecs.schema_text(schema).encode()
