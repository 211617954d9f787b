"""The core of ipfs-dataset: what plugins and subclasses build on.

It knows no format and no network protocol; those are plugins. Names in ``__all__`` are the public API, and
the only ones that plugins may use. Importing this package imports none of them before it is used, and torch
only for what needs it.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipfs_dataset_core.addressing.sources import file_path
    from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
    from ipfs_dataset_core.datasets.map_style import IPFSDataset
    from ipfs_dataset_core.datasets.shuffle import ShuffleDataset
    from ipfs_dataset_core.errors import (
        AddressError,
        CacheFolderError,
        ExportError,
        FormatError,
        IPFSDatasetError,
        IPFSDatasetWarning,
        LimitError,
        Location,
        MissingDependencyError,
        ObjectNotFoundError,
        PluginConflictError,
        PluginError,
        PluginWarning,
        RateLimitedError,
        TransportError,
        TransportTimeoutError,
        UnknownPluginError,
        VerificationError,
        VerificationWarning,
    )
    from ipfs_dataset_core.interfaces import (
        ByteStream,
        Declaration,
        Exporter,
        ExporterOptions,
        ExporterPlugin,
        FileSink,
        FolderReader,
        MemberIndex,
        ObjectDirectory,
        ObjectFile,
        PublishedSamples,
        Reader,
        ReaderPlugin,
        Sample,
        Span,
        Transport,
        TransportPlugin,
        WholeFileIndex,
    )
    from ipfs_dataset_core.interfaces.hookspecs import hookimpl
    from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
    from ipfs_dataset_core.interfaces.objects import BytesFile
    from ipfs_dataset_core.interfaces.value_codec import EncodedValue, ValueCodec
    from ipfs_dataset_core.ipld import (
        CID,
        DAG_PB,
        RAW,
        CarReader,
        DirectoryEntry,
        car_header,
        car_section,
        car_section_head,
        entries,
        index_car,
        lookup,
        make_cid,
        node_kind,
        parse_file,
        verify,
    )
    from ipfs_dataset_core.ipld.data_model import links
    from ipfs_dataset_core.options import Limits, Options
    from ipfs_dataset_core.order.sampler import BlockShuffleSampler
    from ipfs_dataset_core.publishing.exporter import IPFSDatasetExporter
    from ipfs_dataset_core.reading.connections import Connections
    from ipfs_dataset_core.reading.resolver import open_object
    from ipfs_dataset_core.registry.lookup import open_reader
    from ipfs_dataset_core.runtime.deadlines import check_time, time_left
    from ipfs_dataset_core.runtime.error_location import located
    from ipfs_dataset_core.runtime.redaction import redacted
    from ipfs_dataset_core.toolkit.block_files import BlockFiles
    from ipfs_dataset_core.toolkit.data_folders import StoreFolder
    from ipfs_dataset_core.toolkit.index_cache import index_of
    from ipfs_dataset_core.toolkit.indexes import (
        Extents,
        NameTable,
        RowsIndex,
        SpanIndex,
        pack_columns,
        unpack_columns,
    )
    from ipfs_dataset_core.toolkit.library_file import FileView, at_exit

__all__ = [
    "CID",
    "DAG_PB",
    "RAW",
    "AddressError",
    "BlockFiles",
    "BlockShuffleSampler",
    "ByteStream",
    "BytesFile",
    "CacheFolderError",
    "CarReader",
    "Connections",
    "DirectoryEntry",
    "EncodedValue",
    "ExportError",
    "Exporter",
    "ExporterOptions",
    "ExporterPlugin",
    "Extents",
    "FileSink",
    "FileView",
    "FolderReader",
    "FormatError",
    "IPFSDataset",
    "IPFSDatasetError",
    "IPFSDatasetExporter",
    "IPFSDatasetWarning",
    "IPFSIterableDataset",
    "IPFSObject",
    "LimitError",
    "Limits",
    "Location",
    "MemberIndex",
    "MissingDependencyError",
    "NameTable",
    "ObjectDirectory",
    "ObjectFile",
    "ObjectNotFoundError",
    "Options",
    "PluginConflictError",
    "PluginError",
    "PluginWarning",
    "PublishedSamples",
    "RateLimitedError",
    "Reader",
    "ReaderPlugin",
    "RemoteFileType",
    "RowsIndex",
    "Sample",
    "ShuffleDataset",
    "Span",
    "SpanIndex",
    "StoreFolder",
    "Transport",
    "TransportError",
    "TransportPlugin",
    "TransportTimeoutError",
    "UnknownPluginError",
    "ValueCodec",
    "VerificationError",
    "VerificationWarning",
    "WholeFileIndex",
    "at_exit",
    "car_header",
    "car_section",
    "car_section_head",
    "check_time",
    "entries",
    "file_path",
    "hookimpl",
    "index_car",
    "index_of",
    "links",
    "located",
    "lookup",
    "make_cid",
    "node_kind",
    "open_object",
    "open_reader",
    "pack_columns",
    "parse_file",
    "redacted",
    "register",
    "time_left",
    "unpack_columns",
    "verify",
]

# A library is silent unless its user asks.
logging.getLogger(__name__).addHandler(logging.NullHandler())

# Where the names are: a command line wants few of them, and some import torch, which takes seconds.
_MODULES = {
    "ipfs_dataset_core.addressing.sources": "file_path",
    "ipfs_dataset_core.toolkit.block_files": "BlockFiles",
    "ipfs_dataset_core.interfaces.value_codec": "EncodedValue ValueCodec",
    "ipfs_dataset_core.reading.connections": "Connections",
    "ipfs_dataset_core.ipld": (
        "CID CarReader DAG_PB DirectoryEntry RAW car_header car_section car_section_head entries index_car "
        "lookup make_cid node_kind parse_file verify"
    ),
    "ipfs_dataset_core.ipld.data_model": "links",
    "ipfs_dataset_core.datasets.iterable": "IPFSIterableDataset",
    "ipfs_dataset_core.datasets.map_style": "IPFSDataset",
    "ipfs_dataset_core.runtime.deadlines": "check_time time_left",
    "ipfs_dataset_core.runtime.error_location": "located",
    "ipfs_dataset_core.errors": (
        "AddressError CacheFolderError "
        "ExportError FormatError IPFSDatasetError IPFSDatasetWarning LimitError Location "
        "MissingDependencyError ObjectNotFoundError PluginConflictError PluginError PluginWarning "
        "RateLimitedError TransportError TransportTimeoutError UnknownPluginError "
        "VerificationError VerificationWarning"
    ),
    "ipfs_dataset_core.publishing.exporter": "IPFSDatasetExporter",
    "ipfs_dataset_core.interfaces.hookspecs": "hookimpl",
    "ipfs_dataset_core.toolkit.index_cache": "index_of",
    "ipfs_dataset_core.interfaces": (
        "ByteStream BytesFile Exporter ExporterOptions ExporterPlugin FileSink FolderReader MemberIndex "
        "ObjectDirectory ObjectFile PublishedSamples Reader ReaderPlugin Sample Span "
        "Transport TransportPlugin WholeFileIndex"
    ),
    "ipfs_dataset_core.options": "Limits Options",
    "ipfs_dataset_core.registry.lookup": "open_reader",
    "ipfs_dataset_core.reading.resolver": "open_object",
    "ipfs_dataset_core.runtime.redaction": "redacted",
    "ipfs_dataset_core.interfaces.objects": "BytesFile",
    "ipfs_dataset_core.order.sampler": "BlockShuffleSampler",
    "ipfs_dataset_core.datasets.shuffle": "ShuffleDataset",
    "ipfs_dataset_core.toolkit.data_folders": "StoreFolder",
    "ipfs_dataset_core.interfaces.ipfs_object": "IPFSObject RemoteFileType",
    "ipfs_dataset_core.toolkit.indexes": (
        "Extents NameTable RowsIndex SpanIndex pack_columns unpack_columns"
    ),
    "ipfs_dataset_core.toolkit.library_file": "FileView at_exit",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


# A type checker would take any name for one of ours.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_MODULE_OF[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted(__all__)


def register(declaration: Declaration | type[Reader]) -> None:
    """Adds a format, transport or exporter to this process without packaging it.

    Datasets that use it carry it to their workers, however those are started; what it names must be
    importable there.

    Args:
        declaration: A subclass of `Reader` that has a `name`, or a `ReaderPlugin`, `TransportPlugin` or
            `ExporterPlugin`. One of the same name that was registered before is replaced.

    Raises:
        PluginConflictError: The name is that of an installed plugin.
        PluginError: It cannot be used as it is.
    """
    from ipfs_dataset_core.registry.lookup import default_registry  # noqa: PLC0415 - as all of this module

    default_registry().register(declaration)
