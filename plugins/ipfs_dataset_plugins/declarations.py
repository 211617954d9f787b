"""Declares the built-in plugins, without importing any of them.

Each name in capitals is an entry point in pyproject.toml. A factory is text, so that its module is imported
when the plugin is first used.
"""

from __future__ import annotations

from ipfs_dataset_core import ExporterPlugin, ReaderPlugin, TransportPlugin, hookimpl


class _Plugin:
    """A plugin in the form that entry points refer to: an object with the three hooks.

    Args:
        declared: Its declarations.
    """

    def __init__(self, *declared: TransportPlugin | ReaderPlugin | ExporterPlugin) -> None:
        self._declared = declared

    @hookimpl
    def ipfs_dataset_transports(self) -> list[TransportPlugin]:
        return [item for item in self._declared if isinstance(item, TransportPlugin)]

    @hookimpl
    def ipfs_dataset_readers(self) -> list[ReaderPlugin]:
        return [item for item in self._declared if isinstance(item, ReaderPlugin)]

    @hookimpl
    def ipfs_dataset_exporters(self) -> list[ExporterPlugin]:
        return [item for item in self._declared if isinstance(item, ExporterPlugin)]


API = _Plugin(
    TransportPlugin(
        name="api",
        summary="the RPC API of a node: /ip4/127.0.0.1/tcp/5001 or http://127.0.0.1:5001",
        schemes=("multiaddr", "http", "https"),
        factory="ipfs_dataset_plugins.api.transport:ApiTransport",
    )
)
GATEWAY = _Plugin(
    TransportPlugin(
        name="gateway",
        summary="an HTTP gateway, untrusted: in the object's URL, gateways= or IPFS_GATEWAY",
        schemes=("gateway+http", "gateway+https"),
        factory="ipfs_dataset_plugins.gateway.transport:GatewayTransport",
    )
)
STORE = _Plugin(
    TransportPlugin(
        name="store",
        summary="the embedded store: a folder of blocks, or a .car file",
        schemes=("file",),
        factory="ipfs_dataset_plugins.store:open_store",
    )
)
ROUTING = _Plugin(
    TransportPlugin(
        name="routing",
        summary="a delegated router: reads from the providers that it names, verified",
        schemes=("routing+http", "routing+https"),
        factory="ipfs_dataset_plugins.routing.transport:RoutingTransport",
    )
)
PINNING = _Plugin(
    TransportPlugin(
        name="pinning",
        summary="a remote pinning service, for pins only: pinning+https://service/path",
        schemes=("pinning+http", "pinning+https"),
        factory="ipfs_dataset_plugins.pinning.transport:PinningService",
    )
)
PLAIN = _Plugin(
    ReaderPlugin(
        name="plain",
        summary="a file as one sample (name, bytes)",
        factory="ipfs_dataset_plugins.plain:PlainReader",
    ),
    ReaderPlugin(
        name="plain_stream",
        summary="a file as one sample (name, open file)",
        factory="ipfs_dataset_plugins.plain:PlainStreamReader",
    ),
)
FOLDER = _Plugin(
    ReaderPlugin(
        name="folder",
        summary="a directory: the files in metadata.txt, else all files",
        factory="ipfs_dataset_plugins.folder:Folder",
        reads="directory",
    )
)
TAR = _Plugin(
    ReaderPlugin(
        name="tar",
        summary="a TAR archive, plain or compressed (gzip, bzip2, xz, LZMA, Zstandard): its files",
        factory="ipfs_dataset_plugins.tar.reader:TarReader",
        suffixes=(
            ".tar",
            *(".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz"),
            *(".tar.xz", ".txz", ".tar.lzma", ".tar.zst", ".tzst"),
        ),
        magic=((257, b"ustar"),),
        recognize="ipfs_dataset_plugins.tar.reader:recognize",
        in_folders=True,
    )
)
ZIP = _Plugin(
    ReaderPlugin(
        name="zip",
        summary="a ZIP archive: its files",
        factory="ipfs_dataset_plugins.zip.reader:ZipReader",
        suffixes=(".zip",),
        # The latter two occur at the start of split archives that fit into one file.
        magic=((0, b"PK\3\4"), (0, b"PK\5\6"), (0, b"PK\7\x08PK\3\4"), (0, b"PK00PK\3\4")),
        in_folders=True,
    )
)
TAR_SHARDS = _Plugin(
    ExporterPlugin(
        name="tar_shards",
        summary="TAR shards with a manifest, readable by webdataset",
        factory="ipfs_dataset_plugins.tar_shards.exporter:TarShards",
    )
)
ORIGINAL = _Plugin(
    ExporterPlugin(
        name="original",
        summary="datasets of the original library (read only)",
        factory="ipfs_dataset_plugins.original.exporter:Original",
    )
)
