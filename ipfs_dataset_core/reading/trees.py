"""A folder of small files that is read in order, as one CAR: thousands of files for one request."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import TransportError
from ipfs_dataset_core.ipld import verify
from ipfs_dataset_core.reading.read_ahead import ReadAheadStream
from ipfs_dataset_core.reading.verified_streams import VerifiedStream, car_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.ipld import CID

# Below this many files, one by one is as cheap, and brings nothing that is not wanted.
MIN_FILES = 16
# A source that does not have the next file within so much is not in the order that we read in.
_MAX_PASSED_BYTES = 16 << 20


class FolderStream(VerifiedStream["CID"]):
    """The blocks under a directory, depth first: its files in the order of its entries.

    Args:
        transport: Serves CARs.
        root: The directory.
        passed: Takes the blocks between those that are asked for, checked like these.
        verified: Whether blocks are checked.
    """

    def __init__(
        self,
        transport: Transport,
        root: CID,
        passed: Callable[[CID, bytes], None],
        *,
        verified: bool,
    ) -> None:
        self._name = transport.name
        self._root = root
        self._passed = passed
        self._verified = verified
        self._blocks = car_blocks(transport, root, None)
        self._more = True

    def read(self, item: CID) -> tuple[bytes, Callable[[], bytes]]:
        left = _MAX_PASSED_BYTES
        for cid, block in self._blocks:
            if cid.multihash == item.multihash:
                if self._verified:
                    verify(item, block)
                return block, partial(bytes, block)
            left -= len(block)
            if left < 0:
                raise TransportError(f"{self._name}: its CAR of {self._root} is in another order")
            if self._verified:
                verify(cid, block)
            self._passed(cid, block)
        self._more = False
        raise TransportError(f"{self._name}: its CAR of {self._root} lacks block {item}")

    def cid_of(self, item: CID) -> CID:
        return item

    def comes_to(self, item: CID) -> bool:
        return self._more

    def has_more(self) -> bool:
        return self._more

    def close(self) -> None:
        self._blocks.close()


class FolderReadAhead(ReadAheadStream["CID"]):
    """What a reader of one folder has asked for.

    Attributes:
        failed: Whether no source has the folder as a CAR in the order in which it is read.
    """

    failed = False
