"""The interfaces that plugins implement and declare: transports, readers and exporters.

A declaration (`TransportPlugin`, `ReaderPlugin`, `ExporterPlugin`) is a frozen, picklable record. Its
``factory`` is a callable or, to keep discovery from importing anything heavy, the string
``"package.module:attribute"``, imported on first use.
"""

from __future__ import annotations

from ipfs_dataset_core.interfaces.exporters import (
    DatasetInfo,
    Exporter,
    ExporterOptions,
    ExporterPlugin,
    FileSink,
    PublishedSamples,
    SinkFile,
)
from ipfs_dataset_core.interfaces.indexed_samples import IndexedSamples, reads_one_by_one
from ipfs_dataset_core.interfaces.objects import BytesFile, ObjectDirectory, ObjectFile, Span
from ipfs_dataset_core.interfaces.readers import (
    FolderReader,
    MemberIndex,
    Reader,
    ReaderPlugin,
    Sample,
    SampleRuns,
    WholeFileIndex,
    is_parse_error,
    is_whole_file,
    make_index,
)
from ipfs_dataset_core.interfaces.transports import (
    ByteStream,
    Pin,
    Transport,
    TransportPlugin,
    WrapperTransport,
    pin_arguments,
)

__all__ = [
    "ByteStream",
    "BytesFile",
    "DatasetInfo",
    "Declaration",
    "Exporter",
    "ExporterOptions",
    "ExporterPlugin",
    "FileSink",
    "FolderReader",
    "IndexedSamples",
    "MemberIndex",
    "ObjectDirectory",
    "ObjectFile",
    "Pin",
    "PluginClass",
    "PublishedSamples",
    "Reader",
    "ReaderPlugin",
    "Sample",
    "SampleRuns",
    "SinkFile",
    "Span",
    "Transport",
    "TransportPlugin",
    "WholeFileIndex",
    "WrapperTransport",
    "is_parse_error",
    "is_whole_file",
    "make_index",
    "pin_arguments",
    "reads_one_by_one",
]

Declaration = TransportPlugin | ReaderPlugin | ExporterPlugin
# A class that declares itself by its attributes.
PluginClass = type[Reader] | type[Transport] | type[Exporter]
