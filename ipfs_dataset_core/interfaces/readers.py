"""What a format implements and declares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

import attrs

from ipfs_dataset_core.interfaces.objects import ObjectFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.interfaces.objects import ObjectDirectory, Span

Sample = tuple[str, Any]


def read_alike(kind: type, one_by_one: Callable[..., Any]) -> None:
    """Makes a class read several samples as it reads one.

    A subclass that overrides `read` means every sample, whatever `read_each` a base class has.

    Args:
        kind: Has a method `read`, and `read_each` for several.
        one_by_one: The `read_each` that calls `read` for each.
    """
    nearest = next(base for base in kind.__mro__ if {"read", "read_each"} & vars(base).keys())
    if "read_each" not in vars(nearest):
        kind.read_each = one_by_one  # type: ignore[attr-defined]


class MemberIndex(ABC):
    """Where each sample of an object lies; compact and picklable, for it may have millions."""

    @abstractmethod
    def __len__(self) -> int:
        """Returns the number of samples."""

    @abstractmethod
    def name(self, position: int) -> str:
        """Returns the name of one sample; of a directory's, the path of its file, which is fetched ahead."""

    @abstractmethod
    def span(self, position: int) -> Span:
        """Returns the bytes ``(start, stop)`` of the object that reading one sample touches."""

    def dump(self) -> bytes:
        """Returns what `Reader.load_index` makes this index of again, to be kept on disk.

        `pack_columns` writes names and arrays of numbers; never use pickle, for others may write there.
        """
        raise NotImplementedError


class Reader(ABC):
    """Turns an object of one format into samples.

    `samples` alone makes a format that can be iterated; `index` and `read` add random access. A reader
    holds no state of the object: one serves many objects, processes and threads.

    Attributes:
        cheap_index: Whether `index` reads little of the object; iterating then uses it as well, to split
            the samples over workers by number.
    """

    cheap_index: bool = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        read_alike(cls, Reader.read_each)

    @property
    def index_form(self) -> str:
        """Names what indexes of this reader are made of, such as ``"zip 1"``; mostly a plain attribute.

        Where it is given, they are kept by CID, and on disk where they can be dumped. It says all that they
        depend on but the object's bytes and limits: change it when they come out otherwise, and let it name
        the reader's options where it has any. A subclass that overrides `index` gives its own.
        """
        return ""

    @abstractmethod
    def samples(self, source: Any) -> Iterator[Sample]:
        """Yields ``(name, value)`` for each sample of an `ObjectFile` or `ObjectDirectory`, in order.

        Raises:
            FormatError: The object is damaged or not of this format.
        """

    def sliceable(self, source: Any) -> bool:
        """Tells whether `samples_between` works for this object."""
        return False

    def samples_between(self, source: Any, start: int, stop: int) -> Iterator[Sample]:
        """Yields the samples whose first byte lies in ``[start, stop)`` of the file."""
        raise NotImplementedError

    def index(self, source: Any) -> MemberIndex | None:
        """Returns where each sample lies, or None where this object allows no random access."""
        return None

    def load_index(self, source: Any, data: bytes) -> MemberIndex:
        """Returns the index that was dumped as `data`, without reading the object.

        Raises:
            ValueError: It cannot be used; the index is made anew.
        """
        raise NotImplementedError

    def read(self, source: Any, index: MemberIndex, position: int) -> Sample:
        """Returns one sample of an indexed object."""
        raise NotImplementedError

    def read_each(
        self, source: Any, index: MemberIndex, positions: Iterable[int]
    ) -> Iterator[Sample]:
        """Yields several samples, each as `read` returns it.

        Their positions ascend; one may be there twice. Batches are read so. Override it where neighbours
        cost less together than each by itself: `ObjectFile.piece_at` gives the whole block that one is in.
        """
        return (self.read(source, index, position) for position in positions)

    def prefetch(self, source: Any, index: MemberIndex, positions: Sequence[int]) -> None:
        """Starts fetching what these samples need: their spans of a file, or their files of a directory."""
        if isinstance(source, ObjectFile):
            source.prefetch(index.span(position) for position in positions)
        else:
            source.prefetch([index.name(position) for position in positions])


class FolderReader(Reader):
    """Turns a directory into the paths of its members, each of which is then read by its own format."""

    @abstractmethod
    def members(self, directory: ObjectDirectory) -> Sequence[str]:
        """Returns the relative paths of the members, in order.

        Raises:
            FormatError: The directory's own list of members cannot be used.
        """

    def listing(self, directory: ObjectDirectory) -> tuple[str, Sequence[int]] | None:
        """Returns the name of the file that lists the members, and the line of each, counted from 1.

        For messages about a member that cannot be read. None, as by default, where there is no such list.
        """
        return None

    def samples(self, source: Any) -> Iterator[Sample]:
        for path in self.members(source):
            with source.open(path) as file:
                yield path, file.read()


@attrs.frozen(kw_only=True)
class ReaderPlugin:
    """Declares a format.

    Args:
        name: Short and unique: what users write as ``filetype``.
        summary: One line for ``ipfs-dataset plugins``.
        factory: Makes the reader, without arguments.
        suffixes: Ends of names, with the dot and in lower case, that mean this format.
        magic: ``(offset, bytes)`` pairs; an object that has any of them is of this format.
        recognize: Returns whether an open `ObjectFile` is of this format; or text such as
            ``"package.module:function"``. For what no bytes at a fixed place show, such as what is inside a
            compressed file. It is called for each object that has no type and no known suffix, so it should
            read little. It comes before `magic`.
        reads: Whether an object is a file or a directory.
        in_folders: Whether a folder's members with one of the suffixes are read in this format, not as
            one blob each.
    """

    name: str
    summary: str
    factory: str | Callable[[], Reader]
    suffixes: tuple[str, ...] = ()
    magic: tuple[tuple[int, bytes], ...] = ()
    recognize: str | Callable[[ObjectFile], bool] | None = None
    reads: Literal["file", "directory"] = "file"
    in_folders: bool = False
