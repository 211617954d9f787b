"""Compares two objects. CIDs are compared first, and parts with equal CIDs are not fetched."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from contextlib import closing
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset.operations.contents import (
    ArchiveContents,
    FileContents,
    FolderContents,
    PublishedContents,
    open_contents,
)
from ipfs_dataset_core.errors import FormatError, LimitError
from ipfs_dataset_core.ipld import CID, RAW, node_kind
from ipfs_dataset_core.ipld.directory import differing_entries
from ipfs_dataset_core.reading.directory_visits import Visits
from ipfs_dataset_core.reading.files import VerifiedFile
from ipfs_dataset_core.reading.layout import Leaf

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Unpack

    from ipfs_dataset_core.datasets.imported import ImportedDataset
    from ipfs_dataset_core.interfaces import ObjectFile
    from ipfs_dataset_core.options import OptionArguments

_DIRECTORIES = ("directory", "hamt")


@attrs.define
class Difference:
    """The difference between two objects.

    Attributes:
        before: The CID of the first object.
        after: The CID of the second object.
        added: Items only in the second object: names, or numbers of samples in it.
        removed: Items only in the first object.
        changed: Items in both, with different content; for samples, pairs such as ``"3 -> 4"``.
        card: Statements about published datasets that differ, such as ``"classes"`` or ``"licence"``.
        reordered: Whether the samples are the same, but not their order.
        same: Number of equal items; None if equal folders were not listed.
        new_bytes: Total size of the second object's leaves that the first lacks.
        gone_bytes: Total size of the first object's leaves that the second lacks.
    """

    before: str
    after: str
    added: list[str] = attrs.field(factory=list)
    removed: list[str] = attrs.field(factory=list)
    changed: list[str] = attrs.field(factory=list)
    card: list[str] = attrs.field(factory=list)
    reordered: bool = False
    same: int | None = None
    new_bytes: int = 0
    gone_bytes: int = 0

    @property
    def identical(self) -> bool:
        """Whether both are the same object, or have the same items, order and card."""
        return not (self.added or self.removed or self.changed or self.card or self.reordered)


def difference(
    before: str,
    after: str,
    address: str | os.PathLike[str] | None = None,
    **options: Unpack[OptionArguments],
) -> Difference:
    """Compares two objects: samples of published datasets, members of archives, or files of folders.

    Directories, shards and blocks with equal CIDs are equal, and not fetched. For samples and members, only
    the bytes in blocks that the other object lacks are read.

    Args:
        before: Any form of URL of an object in IPFS.
        after: Another object, of the same kind.
        address: Where to read both, as for `ipfs_dataset.load`.
        **options: Fields of `Options`.

    Raises:
        FormatError: The objects are of different kinds, or damaged.
        LimitError: The differing parts are nested too deep, or have too many entries.
        TransportError: The sources did not deliver.
    """
    with (
        open_contents(before, address, **options) as one,
        open_contents(after, address, **options) as two,
    ):
        found = Difference(one.cid, two.cid)
        if one.cid == two.cid:
            found.same = one.count()
        elif isinstance(one, FolderContents) and isinstance(two, FolderContents):
            _compare_trees(found, one, two)
        elif isinstance(one, PublishedContents) and isinstance(two, PublishedContents):
            _compare_samples(found, one, two)
        elif isinstance(one, ArchiveContents) and isinstance(two, ArchiveContents):
            _compare_members(found, one, two)
        elif isinstance(one, FileContents) and isinstance(two, FileContents):
            found.changed.append(two.url)
            _count_bytes(found, [one.find("0")[0][1]], [two.find("0")[0][1]])
        else:
            raise FormatError(
                f"{one.url!r} is of the kind {one.kind!r} and {two.url!r} of {two.kind!r}: objects of one "
                "kind can be compared"
            )
        return found


def _compare_trees(found: Difference, one: FolderContents, two: FolderContents) -> None:
    gone: list[CID] = []
    new: list[CID] = []
    for path, before, after in _differing(one, two):
        if before is not None and after is not None:
            found.changed.append(path)
        elif after is not None:
            found.added.append(path)
        else:
            found.removed.append(path)
        gone += _file_in(before, one)
        new += _file_in(after, two)
    for names in (found.added, found.removed, found.changed):
        names.sort()
    _count_bytes(found, map(one.open_cid, gone), map(two.open_cid, new))


def _file_in(cid: CID | None, contents: FolderContents) -> list[CID]:
    """Returns a CID in a list; an empty list for a symlink or None."""
    if cid is None or _kind(cid, contents) == "symlink":
        return []
    return [cid]


def _kind(cid: CID, contents: FolderContents) -> str:
    return "file" if cid.codec == RAW else node_kind(cid, contents.load(cid))


def _differing(
    one: FolderContents, two: FolderContents
) -> Iterator[tuple[str, CID | None, CID | None]]:
    """Yields the path and both CIDs of each file and symlink that differs between two directories.

    Raises:
        LimitError: They are nested too deep, or have more entries than a folder may have.
    """
    visits = Visits(one.limits, f"{one.url} or {two.url}")
    roots: tuple[CID | None, CID | None] = (CID.parse(one.cid), CID.parse(two.cid))
    # For each pair of directories on the current path: the pair, and its remaining entries.
    stack = [(roots, "", _entries_that_differ(roots, (one, two), visits))]
    while stack:
        pair, prefix, children = stack[-1]
        for name, before, after in children:
            path = prefix + name
            visits.path(path)
            below, files = _split((before, after), (one, two))
            if files != (None, None):
                yield path, *files
            if below == (None, None):
                continue
            if len(stack) > one.limits.directory_depth:
                raise LimitError(
                    f"{path!r} is nested deeper than {one.limits.directory_depth} directories"
                )
            stack.append((below, f"{path}/", _entries_that_differ(below, (one, two), visits)))
            break
        else:
            stack.pop()
            visits.leave(pair)


def _split(
    pair: tuple[CID | None, CID | None], sides: tuple[FolderContents, FolderContents]
) -> tuple[tuple[CID | None, CID | None], tuple[CID | None, CID | None]]:
    """Splits two CIDs into directories and others; None takes the place of a CID in the other pair."""
    is_below = [
        cid is not None and _kind(cid, side) in _DIRECTORIES
        for cid, side in zip(pair, sides, strict=True)
    ]
    below = tuple(cid if here else None for cid, here in zip(pair, is_below, strict=True))
    others = tuple(None if here else cid for cid, here in zip(pair, is_below, strict=True))
    return below, others  # type: ignore[return-value]


def _entries_that_differ(
    pair: tuple[CID | None, CID | None],
    sides: tuple[FolderContents, FolderContents],
    visits: Visits,
) -> Iterator[tuple[str, CID | None, CID | None]]:
    found = differing_entries(
        pair, (sides[0].load, sides[1].load), limit=sides[0].limits.directory_entries
    )
    visits.enter(pair, len(found))
    return iter(found)


def _count_bytes(
    found: Difference, gone: Iterable[bytes | ObjectFile], new: Iterable[bytes | ObjectFile]
) -> None:
    before, after = _sizes_of_leaves(gone), _sizes_of_leaves(new)
    found.new_bytes += sum(size for cid, size in after.items() if cid not in before)
    found.gone_bytes += sum(size for cid, size in before.items() if cid not in after)


def _sizes_of_leaves(files: Iterable[bytes | ObjectFile]) -> dict[bytes, int]:
    """Returns the size of each distinct leaf of some files, by CID; closes the files."""
    sizes: dict[bytes, int] = {}
    for file in files:
        if isinstance(file, bytes):
            continue
        with closing(file):
            sizes.update({leaf.cid: leaf.stop - leaf.start for leaf in _leaves(file)})
    return sizes


def _leaves(file: bytes | ObjectFile) -> Iterator[Leaf]:
    if not isinstance(file, VerifiedFile):
        return
    found = False
    for leaf in file.leaves(0, file.size):
        found = True
        yield leaf
    if not found and file.size:  # one block
        yield Leaf(file.cid.to_bytes(), 0, file.size, raw=True)


class _Side:
    """The items of one of two objects, with identities that are equal only for equal bytes.

    Args:
        spans: Returns the file of an item, with the start and stop of the item.
        content: Returns the bytes of an item.
        files: The files that contain the items.
    """

    def __init__(
        self,
        spans: Callable[[int], tuple[ObjectFile, int, int]],
        content: Callable[[int], bytes],
        files: list[ObjectFile],
    ) -> None:
        self._spans = spans
        self._content = content
        self.leaves = {leaf.cid: leaf.stop - leaf.start for file in files for leaf in _leaves(file)}

    def place(self, number: int, other: _Side) -> tuple[object, ...] | None:
        """Returns the blocks of an item and its offset in them; None if the other side lacks a block."""
        file, start, stop = self._spans(number)
        if not isinstance(file, VerifiedFile):
            return None
        leaves = list(file.leaves(start, stop))
        cids = tuple(leaf.cid for leaf in leaves)
        if not cids or not all(cid in other.leaves for cid in cids):
            return None
        return *cids, start - leaves[0].start, stop - start

    def digest(self, number: int) -> bytes:
        """Reads an item and returns its hash."""
        return hashlib.sha256(self._content(number)).digest()


def _compare_samples(found: Difference, one: PublishedContents, two: PublishedContents) -> None:
    shards = one.dataset.shards(), two.dataset.shards()
    cids = [{shard.cid for shard in own} for own in shards]
    numbers: list[list[int]] = [[], []]
    # Maps numbers of samples in the first object to equal samples in the second. In a shard that both have,
    # these have the same positions.
    partner: dict[int, int] = {}
    starts: dict[str, deque[int]] = defaultdict(deque)
    for shard in shards[1]:
        if shard.cid in cids[0]:
            starts[shard.cid].append(shard.first)
        else:
            numbers[1] += range(shard.first, shard.first + shard.samples)
    for shard in shards[0]:
        if starts[shard.cid]:
            first = starts[shard.cid].popleft()
            partner.update({shard.first + n: first + n for n in range(shard.samples)})
        else:
            numbers[0] += range(shard.first, shard.first + shard.samples)
    for cid, left in starts.items():  # a shard that occurs more often in the second
        for first in left:
            count = next(shard.samples for shard in shards[1] if shard.cid == cid)
            numbers[1] += range(first, first + count)
    sides = [
        _Side(
            contents.dataset.span,
            _sample_content(contents),
            _files_of(contents, numbers[place]),
        )
        for place, contents in enumerate((one, two))
    ]
    _match(sides, numbers, partner)
    _count_leaves(found, sides)
    matched = set(partner.values())
    gone = [number for number in numbers[0] if number not in partner]
    new = {number for number in numbers[1] if number not in matched}
    for number in gone:
        # If the samples before them are the same in both, samples have been changed.
        after = partner.get(number - 1, -1) + 1 if number else 0
        if after in new:
            new.remove(after)
            partner[number] = after
            found.changed.append(f"{number} -> {after}")
        else:
            found.removed.append(str(number))
    found.added = list(map(str, sorted(new)))
    found.same = len(partner) - len(found.changed)
    if not (found.added or found.removed or found.changed):
        found.reordered = any(number != other for number, other in partner.items())
    found.card = _differing_statements(one.dataset, two.dataset)


def _differing_statements(one: ImportedDataset, two: ImportedDataset) -> list[str]:
    """Returns the names of statements that differ: fields of the card, and the numbers of classes."""
    stated = [
        {
            **({} if dataset.card is None else attrs.asdict(dataset.card)),
            "classes": dataset.class_to_idx,
            "previews": None,  # for the page, not part of the data
        }
        for dataset in (one, two)
    ]
    names = sorted(stated[0].keys() | stated[1].keys())
    return [
        name for name in names if (stated[0].get(name) or None) != (stated[1].get(name) or None)
    ]


def _files_of(contents: PublishedContents, numbers: list[int]) -> list[ObjectFile]:
    """Returns the shards that contain some samples."""
    wanted = set(numbers)
    shards = [shard for shard in contents.dataset.shards() if shard.first in wanted]
    return [contents.dataset.span(shard.first)[0] for shard in shards if shard.samples]


def _sample_content(contents: PublishedContents) -> Callable[[int], bytes]:
    def content(number: int) -> bytes:
        # Member names may contain the number of the sample; the part after it is the same.
        files = contents.dataset.files(number)
        return b"".join(
            b"%s %d\n%b" % (name.encode(), len(data), data) for name, data in sorted(files.items())
        )

    return content


def _match(sides: list[_Side], numbers: list[list[int]], partner: dict[int, int]) -> None:
    """Finds for each item of the first side an equal item of the second, using each only once."""
    waiting: dict[object, deque[int]] = defaultdict(deque)
    for number in numbers[1]:
        place = sides[1].place(number, sides[0])
        if place is not None:
            waiting[place].append(number)
    left: list[int] = []
    for number in numbers[0]:
        place = sides[0].place(number, sides[1])
        if place is not None and waiting[place]:
            partner[number] = waiting[place].popleft()
        else:
            left.append(number)
    matched = set(partner.values())
    for number in numbers[1]:
        if left and number not in matched:
            waiting[sides[1].digest(number)].append(number)
    for number in left if any(waiting.values()) else ():
        digest = sides[0].digest(number)
        if waiting[digest]:
            partner[number] = waiting[digest].popleft()


def _count_leaves(found: Difference, sides: list[_Side]) -> None:
    before, after = sides[0].leaves, sides[1].leaves
    found.new_bytes += sum(size for cid, size in after.items() if cid not in before)
    found.gone_bytes += sum(size for cid, size in before.items() if cid not in after)


def _compare_members(found: Difference, one: ArchiveContents, two: ArchiveContents) -> None:
    names = one.names(), two.names()
    sides = [_Side(contents.span, contents.content, [contents.file]) for contents in (one, two)]
    found.same = 0
    for name, number in names[0].items():
        other = names[1].get(name)
        if other is None:
            found.removed.append(name)
        elif _is_equal(sides, number, other):
            found.same += 1
        else:
            found.changed.append(name)
    found.added = [name for name in names[1] if name not in names[0]]
    _count_leaves(found, sides)


def _is_equal(sides: list[_Side], number: int, other: int) -> bool:
    place = sides[0].place(number, sides[1])
    if place is not None and place == sides[1].place(other, sides[0]):
        return True
    return sides[0].digest(number) == sides[1].digest(other)
