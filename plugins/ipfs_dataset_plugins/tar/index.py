"""The index of a TAR archive: 24 bytes for each sample, and its name."""

from __future__ import annotations

from array import array
from itertools import chain, islice
from typing import TYPE_CHECKING

from ipfs_dataset_core import Limits, MemberIndex, NameTable, pack_columns, unpack_columns
from ipfs_dataset_plugins.archives.buffered import BufferedFile
from ipfs_dataset_plugins.tar.headers import BLOCK, padded, simple_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ipfs_dataset_core import ObjectFile, Span
    from ipfs_dataset_plugins.tar.headers import Member, Parts
    from ipfs_dataset_plugins.tar.members import MemberScanner, SampleMembers

# Holds the headers of several small members.
_PIECE_BYTES = 64 << 10


class TarIndex(MemberIndex):
    """The names of the samples of an uncompressed archive, and where their contents are stored.

    Args:
        limits: Limits for the number of samples and the length of their names.
    """

    def __init__(self, limits: Limits) -> None:
        self._names = NameTable(limits=limits)
        self._starts = array("Q")
        self._sizes = array("Q")
        self._sparse: dict[int, tuple[int, Parts]] = {}

    @classmethod
    def load(cls, data: bytes, limits: Limits) -> TarIndex:
        """Returns the index that `dump` has written; raises as `unpack_columns` does."""
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
        """Adds samples that are not sparse: names, offsets of their contents, and sizes in bytes."""
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

    def spans_at(self, positions: Iterable[int]) -> list[Span]:
        starts, sizes = self._starts, self._sizes
        return [(start := starts[position], start + sizes[position]) for position in positions]

    def names_at(self, positions: Iterable[int]) -> Iterator[str]:
        """Yields the names of some samples, in half the time that one by one takes."""
        return self._names.at(positions)

    @property
    def has_sparse(self) -> bool:
        """Whether the content of a sample may be larger than what is stored of it."""
        return bool(self._sparse)

    def part(self, start: int, stop: int) -> TarIndex:
        index = TarIndex(Limits())  # they were checked when this one was built
        index._names = NameTable(self._names.at(range(start, stop)))
        index._starts, index._sizes = self._starts[start:stop], self._sizes[start:stop]
        index._sparse = {n - start: c for n, c in self._sparse.items() if start <= n < stop}
        return index

    def content(self, position: int) -> tuple[int, Parts | None]:
        """Returns the size of a sample in bytes and, if it is sparse, its stored parts."""
        return self._sparse.get(position) or (self._sizes[position], None)


def build_index(source: ObjectFile, scanner: MemberScanner, members: SampleMembers) -> TarIndex:
    """Builds the index from the headers alone: large members are skipped, small ones read along.

    Args:
        source: The archive.
        scanner: An unbuffered scanner of it.
        members: Decides which members are samples.

    Raises:
        FormatError: The archive is damaged.
        LimitError: There are too many samples, or the file consists of few blocks that are repeated.
    """
    index, start = TarIndex(source.limits), 0
    small_pieces, large_pieces = BufferedFile(source, _PIECE_BYTES), BufferedFile(source)
    archive, unbuffered = small_pieces, scanner.archive
    while (member := scanner.member(start)) is not None:
        content = members.content(member)
        if content is not None:
            index.append(member.name, content)
        start = member.stop
        is_small = member.stop - member.start < _PIECE_BYTES // 4
        # A header behind small members is in the buffer already.
        scanner.archive = archive if is_small else unbuffered
        if is_small and not scanner.has_global_fields:
            piece, at = archive.window(start)
            base = start - at
            found = list(simple_headers(piece, at))
            if found:
                starts = [base + header + BLOCK for header, _, _ in found]
                sizes = [size for _, _, size in found]
                index.extend([name for _, name, _ in found], starts, sizes)
                scanner.repetition.add(len(found), start)
                start = starts[-1] + padded(sizes[-1])
            # If all members in the piece were small, those that follow probably are small, too.
            archive = large_pieces if start >= base + len(piece) - BLOCK else small_pieces
    return index


def _written_sparse(sparse: Mapping[int, tuple[int, Parts]]) -> Iterator[int]:
    """Yields the position, the size, the number of parts and the parts of each sparse sample."""
    for position, (size, parts) in sparse.items():
        yield from (position, size, len(parts), *chain.from_iterable(parts))


def _read_sparse(numbers: Iterator[int]) -> Iterator[tuple[int, tuple[int, Parts]]]:
    """Yields the sparse samples again.

    Raises:
        ValueError: The numbers end too early.
    """
    for position in numbers:
        size, count = islice(numbers, 2)
        flat = list(islice(numbers, 2 * count))
        if len(flat) < 2 * count:
            raise ValueError("its sparse maps are cut off")
        yield position, (size, tuple(zip(flat[::2], flat[1::2], strict=True)))
