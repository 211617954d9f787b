"""Where tests of what users run publish and read: the embedded store, or a real node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

from ipfs_dataset_core.connections import connect_for_writing
from ipfs_dataset_core.options import Options
from tests.support.builders import depth_first, folder, one_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ipfs_dataset_core.content import CID
    from tests.support.builders import Blocks
    from tests.support.node import Node


class Place(Protocol):
    """Takes files as its users' own tools would add them.

    Attributes:
        address: What to give as ``ipfs_api_address``.
    """

    address: str

    def add_file(self, data: bytes) -> str:
        """Returns the CID of a file."""

    def add_folder(self, files: Mapping[str, bytes]) -> str:
        """Returns the CID of a folder with these files, and a metadata.txt that lists them."""


@attrs.define
class StorePlace:
    """The embedded store in a folder."""

    address: str

    def add_file(self, data: bytes) -> str:
        return self._put(*one_file(data))

    def add_folder(self, files: Mapping[str, bytes]) -> str:
        return self._put(*folder(files))

    def _put(self, root: CID, blocks: Blocks) -> str:
        transport = connect_for_writing(self.address, Options())
        transport.put_blocks(depth_first(root, blocks))
        transport.close()
        return str(root)


class NodePlace:
    """A node, and a folder for what is added to it."""

    def __init__(self, node: Node, scratch: Path) -> None:
        self.address = node.api
        self.gateway = node.gateway
        self._node = node
        self._scratch = scratch

    def add_file(self, data: bytes) -> str:
        return self._node.add(data)

    def add_folder(self, files: Mapping[str, bytes]) -> str:
        listed = "".join(f"{path}\n" for path in files).encode()
        for name, data in {**files, "metadata.txt": listed}.items():
            path = self._scratch / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return self._node.add(self._scratch)
