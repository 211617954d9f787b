"""Where a member of a TAR archive lies, and the bytes that it lies in."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from ipfs_dataset_plugins.tar.headers import BLOCK
from ipfs_dataset_plugins.tar.sparse import stored_size

if TYPE_CHECKING:
    from ipfs_dataset_plugins.tar.sparse import Parts


class Bytes(Protocol):
    """An archive's bytes by position.

    Attributes:
        name: What errors call the archive.
    """

    name: str

    def read(self, start: int, size: int) -> bytes:
        """Returns `size` bytes, fewer only at the end.

        Raises:
            FormatError: The archive ends before `start`.
        """


class Member(NamedTuple):
    """One member.

    Attributes:
        start: Of its first header, which may be that of its long name.
        name: As the headers have it.
        kind: The type flag.
        data: Where its data start.
        size: Bytes of its content.
        stop: Where the next member starts.
        link: What a link points to.
        parts: Of a sparse member: where the stored parts belong; None for all others.
    """

    start: int
    name: str
    kind: bytes
    data: int
    size: int
    stop: int
    link: str = ""
    parts: Parts | None = None

    @property
    def stored(self) -> int:
        """Bytes of the archive that hold the content."""
        return self.size if self.parts is None else stored_size(self.parts)


class Blocks:
    """Hands out the blocks that lie between a member's header and its data.

    Raises:
        ValueError: The archive ends there.
    """

    def __init__(self, archive: Bytes, position: int) -> None:
        self._archive = archive
        self.position = position

    def __call__(self) -> bytes:
        block = self._archive.read(self.position, BLOCK)
        if len(block) < BLOCK:
            raise ValueError("its sparse map is cut off")
        self.position += BLOCK
        return block
