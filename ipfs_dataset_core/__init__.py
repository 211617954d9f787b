"""The public names of the core, for authors of plugins and of datasets built on this library.

There are three public packages, and plugins use no other names: `ipfs_dataset` for users, this package for
authors of plugins, and `ipfs_dataset_core.ipld` for code that handles blocks: CIDs, UnixFS and CARs.

Each name is imported on first use, so importing this package is fast, and PyTorch is only imported for names
that need it. Type checkers cannot follow such imports, so the names are listed twice, for type checkers and
for the import; a test compares the two lists.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

# A library emits no log output unless its user configures logging.
logging.getLogger(__name__).addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from ipfs_dataset_core.addressing.object_url import redacted as redacted
    from ipfs_dataset_core.addressing.public_hosts import (
        is_private_host as is_private_host,
        is_public_address as is_public_address,
    )
    from ipfs_dataset_core.addressing.sources import file_path as file_path
    from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset as IPFSIterableDataset
    from ipfs_dataset_core.datasets.loading import load as load
    from ipfs_dataset_core.datasets.map_style import IPFSDataset as IPFSDataset
    from ipfs_dataset_core.datasets.mixed import MixedDataset as MixedDataset
    from ipfs_dataset_core.datasets.shuffle import ShuffleDataset as ShuffleDataset
    from ipfs_dataset_core.datasets.splits import DatasetSplit as DatasetSplit
    from ipfs_dataset_core.errors import (
        AddressError as AddressError,
        CacheFolderError as CacheFolderError,
        ExportError as ExportError,
        FormatError as FormatError,
        IPFSDatasetError as IPFSDatasetError,
        IPFSDatasetWarning as IPFSDatasetWarning,
        LimitError as LimitError,
        Location as Location,
        MissingDependencyError as MissingDependencyError,
        NameRecordError as NameRecordError,
        ObjectNotFoundError as ObjectNotFoundError,
        PluginConflictError as PluginConflictError,
        PluginError as PluginError,
        PluginWarning as PluginWarning,
        RateLimitedError as RateLimitedError,
        StateError as StateError,
        TransportError as TransportError,
        TransportTimeoutError as TransportTimeoutError,
        UnknownPluginError as UnknownPluginError,
        VerificationError as VerificationError,
        VerificationWarning as VerificationWarning,
    )
    from ipfs_dataset_core.interfaces import (
        ByteStream as ByteStream,
        DatasetInfo as DatasetInfo,
        Exporter as Exporter,
        ExporterOptions as ExporterOptions,
        ExporterPlugin as ExporterPlugin,
        FileSink as FileSink,
        FolderReader as FolderReader,
        MemberIndex as MemberIndex,
        ObjectDirectory as ObjectDirectory,
        ObjectFile as ObjectFile,
        Pin as Pin,
        PublishedSamples as PublishedSamples,
        Reader as Reader,
        ReaderPlugin as ReaderPlugin,
        Sample as Sample,
        SampleRuns as SampleRuns,
        SinkFile as SinkFile,
        Span as Span,
        Transport as Transport,
        TransportPlugin as TransportPlugin,
        WholeFileIndex as WholeFileIndex,
        WrapperTransport as WrapperTransport,
    )
    from ipfs_dataset_core.interfaces.dataset_card import (
        DatasetCard as DatasetCard,
        class_numbers as class_numbers,
    )
    from ipfs_dataset_core.interfaces.encoded_file import EncodedFile as EncodedFile
    from ipfs_dataset_core.interfaces.hookspecs import hookimpl as hookimpl
    from ipfs_dataset_core.interfaces.ipfs_object import (
        IPFSObject as IPFSObject,
        RemoteFileType as RemoteFileType,
    )
    from ipfs_dataset_core.interfaces.objects import BytesFile as BytesFile
    from ipfs_dataset_core.interfaces.value_codec import (
        EncodedValue as EncodedValue,
        ValueCodec as ValueCodec,
    )
    from ipfs_dataset_core.ipld import CID as CID
    from ipfs_dataset_core.options import Limits as Limits, Options as Options
    from ipfs_dataset_core.order.sampler import BlockShuffleSampler as BlockShuffleSampler
    from ipfs_dataset_core.publishing.exporter import IPFSDatasetExporter as IPFSDatasetExporter
    from ipfs_dataset_core.publishing.names import publish_name as publish_name
    from ipfs_dataset_core.publishing.pins import (
        add_pin as add_pin,
        clean_store as clean_store,
        list_pins as list_pins,
        remove_pin as remove_pin,
    )
    from ipfs_dataset_core.reading.connections import (
        Connections as Connections,
        open_transport as open_transport,
    )
    from ipfs_dataset_core.reading.objects import open_object as open_object
    from ipfs_dataset_core.registry.lookup import open_reader as open_reader, register as register
    from ipfs_dataset_core.runtime.deadlines import (
        check_time as check_time,
        progressed as progressed,
        time_left as time_left,
    )
    from ipfs_dataset_core.runtime.error_location import located as located
    from ipfs_dataset_core.runtime.forks import before_forks as before_forks
    from ipfs_dataset_core.runtime.human import human_size as human_size
    from ipfs_dataset_core.sources.retry import with_retries as with_retries
    from ipfs_dataset_core.toolkit.block_files import BlockFiles as BlockFiles
    from ipfs_dataset_core.toolkit.data_folders import StoreFolder as StoreFolder
    from ipfs_dataset_core.toolkit.image_depth import (
        has_wide_numbers as has_wide_numbers,
        loses_bits as loses_bits,
    )
    from ipfs_dataset_core.toolkit.index_cache import index_of as index_of
    from ipfs_dataset_core.toolkit.indexes import (
        Extents as Extents,
        FilesIndex as FilesIndex,
        NameTable as NameTable,
        RowsIndex as RowsIndex,
        SpanIndex as SpanIndex,
        pack_columns as pack_columns,
        unpack_columns as unpack_columns,
    )
    from ipfs_dataset_core.toolkit.file_view import FileView as FileView, at_exit as at_exit
    from ipfs_dataset_core.toolkit.json_values import (
        parse_json as parse_json,
        repeated_name as repeated_name,
        unique_names as unique_names,
    )
    from ipfs_dataset_core.toolkit.object_local import ObjectLocal as ObjectLocal
    from ipfs_dataset_core.toolkit.parser_errors import parser_errors as parser_errors
    from ipfs_dataset_core.toolkit.selections import (
        common_row_count as common_row_count,
        selected_names as selected_names,
    )

    __all__: list[str]
    _MODULE_OF: dict[str, str]
else:
    _MODULE_OF = {
        name: f"{__name__}.{module}"
        for module, names in {
            "addressing.object_url": "redacted",
            "addressing.public_hosts": "is_private_host is_public_address",
            "addressing.sources": "file_path",
            "datasets.iterable": "IPFSIterableDataset",
            "datasets.loading": "load",
            "datasets.map_style": "IPFSDataset",
            "datasets.mixed": "MixedDataset",
            "datasets.shuffle": "ShuffleDataset",
            "datasets.splits": "DatasetSplit",
            "errors": (
                "AddressError CacheFolderError ExportError FormatError IPFSDatasetError "
                "IPFSDatasetWarning LimitError Location MissingDependencyError NameRecordError "
                "ObjectNotFoundError PluginConflictError PluginError PluginWarning "
                "RateLimitedError StateError TransportError TransportTimeoutError UnknownPluginError "
                "VerificationError VerificationWarning"
            ),
            "interfaces": (
                "ByteStream DatasetInfo Exporter ExporterOptions ExporterPlugin FileSink FolderReader "
                "MemberIndex ObjectDirectory ObjectFile Pin PublishedSamples Reader ReaderPlugin "
                "Sample SampleRuns SinkFile Span Transport TransportPlugin WholeFileIndex WrapperTransport"
            ),
            "interfaces.dataset_card": "DatasetCard class_numbers",
            "interfaces.encoded_file": "EncodedFile",
            "interfaces.hookspecs": "hookimpl",
            "interfaces.ipfs_object": "IPFSObject RemoteFileType",
            "interfaces.objects": "BytesFile",
            "interfaces.value_codec": "EncodedValue ValueCodec",
            "ipld": "CID",
            "options": "Limits Options",
            "order.sampler": "BlockShuffleSampler",
            "publishing.exporter": "IPFSDatasetExporter",
            "publishing.names": "publish_name",
            "publishing.pins": "add_pin clean_store list_pins remove_pin",
            "reading.connections": "Connections open_transport",
            "reading.objects": "open_object",
            "registry.lookup": "open_reader register",
            "runtime.deadlines": "check_time progressed time_left",
            "runtime.error_location": "located",
            "runtime.forks": "before_forks",
            "runtime.human": "human_size",
            "sources.retry": "with_retries",
            "toolkit.block_files": "BlockFiles",
            "toolkit.data_folders": "StoreFolder",
            "toolkit.file_view": "FileView at_exit",
            "toolkit.image_depth": "has_wide_numbers loses_bits",
            "toolkit.index_cache": "index_of",
            "toolkit.indexes": (
                "Extents FilesIndex NameTable RowsIndex SpanIndex pack_columns unpack_columns"
            ),
            "toolkit.json_values": "parse_json repeated_name unique_names",
            "toolkit.object_local": "ObjectLocal",
            "toolkit.parser_errors": "parser_errors",
            "toolkit.selections": "common_row_count selected_names",
        }.items()
        for name in names.split()
    }
    __all__ = sorted(_MODULE_OF)  # noqa: PLE0605 - it is a list

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_MODULE_OF[name]), name)
        return value

    def __dir__() -> list[str]:
        return __all__
