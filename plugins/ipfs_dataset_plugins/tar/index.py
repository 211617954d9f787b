"""The index of a TAR archive: 24 bytes a member, plus its name."""

from __future__ import annotations

from array import array
from itertools import chain, islice
from typing import TYPE_CHECKING

from ipfs_dataset_core import MemberIndex, NameTable, pack_columns, unpack_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ipfs_dataset_core import Limits, Span
    from ipfs_dataset_plugins.tar.member import Member
    from ipfs_dataset_plugins.tar.sparse import Parts


class TarIndex(MemberIndex):
    """Where each sample of an uncompressed archive lies.

    Args:
        limits: How many samples, and how long their names.
    """

    def __init__(self, limits: Limits) -> None:
        self._names = NameTable(limits=limits)
        self._starts = array("Q")
        self._sizes = array("Q")
        self._sparse: dict[int, tuple[int, Parts]] = {}

    @classmethod
    def load(cls, data: bytes, limits: Limits) -> TarIndex:
        """Returns what was dumped; raises as `unpack_columns` does."""
        index = cls(limits)
        index._names, (index._starts, index._sizes), numbers = unpack_columns(data, "QQ", limits)
        index._sparse = dict(_read_sparse(iter(numbers)))
        return index

    def dump(self) -> bytes:
        return pack_columns(self._names, [self._starts, self._sizes], _written_sparse(self._sparse))

    def append(self, name: str, content: Member) -> None:
        """Adds a sample: its name, and the member that holds its content."""
        if content.parts is not None:
            self._sparse[len(self)] = content.size, content.parts
        self.extend([name], [content.data], [content.stored])

    def extend(self, names: Iterable[str], starts: Iterable[int], sizes: Iterable[int]) -> None:
        """Adds samples that are runs of the archive's bytes."""
        self._names.extend_encoded([name.encode("utf-8", "surrogateescape") for name in names])
        self._starts.extend(starts)
        self._sizes.extend(sizes)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, position: int) -> str:
        return self._names[position]

    def span(self, position: int) -> Span:
        start = self._starts[position]
        return start, start + self._sizes[position]

    def content(self, position: int) -> tuple[int, Parts | None]:
        """Returns the size of a sample and, where it is sparse, where its stored parts belong."""
        return self._sparse.get(position) or (self._sizes[position], None)


def _written_sparse(sparse: Mapping[int, tuple[int, Parts]]) -> Iterator[int]:
    """Yields sample, size, number of parts and the parts of each sparse member."""
    for position, (size, parts) in sparse.items():
        yield from (position, size, len(parts), *chain.from_iterable(parts))


def _read_sparse(numbers: Iterator[int]) -> Iterator[tuple[int, tuple[int, Parts]]]:
    """Yields what was written; raises ValueError where the numbers end too early."""
    for position in numbers:
        size, count = islice(numbers, 2)
        flat = list(islice(numbers, 2 * count))
        if len(flat) < 2 * count:
            raise ValueError("its sparse maps are cut off")
        yield position, (size, tuple(zip(flat[::2], flat[1::2], strict=True)))
