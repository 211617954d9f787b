"""Places for publishing and reading in tests: the embedded store or a real node, and a gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from ipfs_dataset_core.errors import ObjectNotFoundError
from ipfs_dataset_core.ipld import CID, RAW
from ipfs_dataset_plugins.store import FolderStore
from tests.support.gateway_server import GatewayServer
from tests.support.stores import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Self

    from tests.support.node import Node


class Place(Protocol):
    """Adds files as the tools of users would.

    Attributes:
        address: The value for ``ipfs_api_address``.
        gateway: The URL of a gateway that serves its content.
    """

    address: str
    gateway: str

    def file(self, data: bytes) -> str:
        """Returns the CID of a file."""

    def folder(self, files: Mapping[str, bytes]) -> str:
        """Returns the CID of a folder with these files, and a metadata.txt that lists them."""


class StorePlace(Store):
    """The embedded store in a folder, with a gateway during its ``with`` block."""

    gateway: str

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._server = GatewayServer(_BlocksOf(folder))

    def __enter__(self) -> Self:
        self.gateway = self._server.__enter__().url
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()


class _BlocksOf(Mapping[bytes, bytes]):
    """The current blocks of a store by multihash."""

    def __init__(self, folder: Path) -> None:
        self._store = FolderStore(folder)

    def __getitem__(self, multihash: bytes) -> bytes:
        try:
            return self._store.get_block(CID(1, RAW, multihash))
        except ObjectNotFoundError as error:
            raise KeyError(multihash) from error

    def __iter__(self) -> Iterator[bytes]:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError


class NodePlace:
    """A node, with a folder for the files that are added to it."""

    def __init__(self, node: Node, scratch: Path) -> None:
        self.address = node.api
        self.gateway = node.gateway
        self._node = node
        self._scratch = scratch

    def file(self, data: bytes) -> str:
        return self._node.add(data)

    def folder(self, files: Mapping[str, bytes]) -> str:
        listed = "".join(f"{path}\n" for path in files).encode()
        for name, data in {**files, "metadata.txt": listed}.items():
            path = self._scratch / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return self._node.add(self._scratch)
