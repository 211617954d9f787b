"""What a format implements and declares."""

from __future__ import annotations

import operator
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs

from ipfs_dataset_core.errors import FormatError, IPFSDatasetError, LimitError
from ipfs_dataset_core.interfaces.objects import ObjectDirectory, ObjectFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from typing_extensions import Self

    from ipfs_dataset_core.interfaces.objects import Span

Sample = tuple[str, Any]
# How many files of a directory are on their way while one is read.
_FILES_AHEAD = 64


class SampleRuns(Iterator[Sample]):
    """Samples that are made several at a time, as those in one piece of a file; each is yielded by itself.

    `Reader.samples` and `Reader.samples_between` may return one in place of any other iterator: what takes
    time for each step of a plugin's code then takes it once for each run.

    Args:
        runs: Yields the samples in order, in sequences of as many as were made together. Where one cannot be
            made, those before it are yielded first, and then the error is raised.

    Attributes:
        runs: The same, of what has not been yielded.
    """

    def __init__(self, runs: Iterable[Sequence[Sample]]) -> None:
        self.runs = iter(runs)
        self._samples = chain.from_iterable(self.runs)

    def __iter__(self) -> Iterator[Sample]:  # noqa: PYI034 - no Python then runs for each sample
        return self._samples

    def __next__(self) -> Sample:
        return next(self._samples)


# What parsers raise for bytes that they cannot parse. A mistake in a plugin is more often another error.
PARSE_ERRORS = (ValueError, EOFError, struct.error, zlib.error, OSError, SyntaxError)


def is_parse_error(error: BaseException) -> bool:
    """Tells whether an error is one of a parser, about bytes that it cannot parse.

    Pillow raises `OSError` and `SyntaxError` for them: without the number that errors of the system have, and
    without the name of a file of code.
    """
    if isinstance(error, OSError):
        return error.errno is None and not isinstance(error, IPFSDatasetError)
    if isinstance(error, SyntaxError):
        return error.filename is None
    return isinstance(error, PARSE_ERRORS) and not isinstance(error, IPFSDatasetError)


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

    def spans_at(self, positions: Iterable[int]) -> Iterable[Span]:
        """Returns what `span` does for each of some samples; override it where that takes less together."""
        return map(self.span, positions)

    def part(self, start: int, stop: int) -> MemberIndex | None:
        """Returns the index of the samples from `start` to `stop` alone, numbered from 0.

        `Reader.read` with it returns the same samples, names included. It goes to the process that reads a
        split of the dataset, see `IPFSDataset.splits`. None, as by default, where there is none: then that
        process makes the index of the whole object.
        """
        return None

    def dump(self) -> bytes:
        """Returns what `Reader.load_index` makes this index of again, to be kept on disk.

        `pack_columns` writes names and arrays of numbers; never use pickle, for others may write there.
        """
        raise NotImplementedError


class WholeFileIndex(MemberIndex):
    """The index of a file that is one sample.

    Args:
        name: The file's, and the sample's.
        size: How many bytes it has.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size

    def __len__(self) -> int:
        return 1

    def name(self, position: int) -> str:
        return (self._name,)[position]

    def span(self, position: int) -> Span:
        return 0, self._size


class Reader:
    """Turns an object of one format into samples.

    A subclass overrides one of these:

    - `decode` alone: a file is one sample, and its value is made of its bytes.
    - `index` and `decode`: a file has many samples, each the bytes of its span; or each is a file of a
      directory.
    - `index` and `read`: likewise, where a sample is more than these bytes.
    - `samples` alone: a file can only be iterated.

    A reader holds no state of the object: one serves many objects, processes and threads. The attributes
    `name` to `in_folders` declare the format where the class itself stands for its plugin: as an entry
    point, in `register` and as an object's ``filetype``. They mean what those of `ReaderPlugin` mean.

    Attributes:
        name: The format's name; by default that of the entry point.
        summary: One line about it; by default the first of the docstring.
        suffixes: Ends of names, with the dot and in lower case.
        magic: ``(offset, bytes)`` pairs.
        reads: Whether an object is a file or a directory.
        in_folders: Whether a folder's members with one of the suffixes are read in this format, in a
            folder of any format. Where the format is named for a folder they are in any case.
        index_form: Names what indexes of this reader are made of, such as ``"zip 1"``. Where it is given,
            they are kept by CID, and on disk where they can be dumped. It has to name all that they depend on
            but the object's bytes and limits: change it whenever the same object gets another index, and
            include the options of the reader where it has any; it may be a property. A subclass that
            overrides `index` gives its own.
        cheap_index: Whether `index` reads so little of an object that every worker can afford to make it
            before its first sample: a header or a table of contents, not all the data. Then workers share
            an iterated object by sample number; otherwise `index` is called for random access only. True
            where a file is one sample.
        scans_to_slice: Whether `samples_between` has to look at every sample in front of `start` to find its
            first one, as in a TAR. Then an object without an index is cut in few splits only.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    suffixes: ClassVar[tuple[str, ...]] = ()
    magic: ClassVar[tuple[tuple[int, bytes], ...]] = ()
    reads: ClassVar[Literal["file", "directory"]] = "file"
    in_folders: ClassVar[bool] = False
    index_form: str = ""
    scans_to_slice: bool = False

    def __new__(cls, *_: Any, **__: Any) -> Self:
        if not any(_overrides(cls, method) for method in ("samples", "index", "decode")):
            raise TypeError(
                f"{cls.__name__} is no format yet: give it `samples`, or `decode`, or `index` with `read` or "
                "`decode`"
            )
        return super().__new__(cls)

    # A property, as type checkers would see it, could not be overridden by an attribute.
    if TYPE_CHECKING:
        cheap_index: bool
    else:

        @cached_property
        def cheap_index(self) -> bool:
            return is_whole_file(type(self))

    def samples(self, source: Any) -> Iterator[Sample]:
        """Yields ``(name, value)`` for each sample of an `ObjectFile` or `ObjectDirectory`, in order.

        By default all that `index` has, each as `read` returns it. Where several are made together, as those
        in one piece of the file, it costs less to return `SampleRuns`.

        Raises:
            FormatError: The object is damaged or not of this format.
        """
        index = make_index(self, source)
        if index is None:
            raise NotImplementedError(
                f"{type(self).__name__} has no index of {source.name!r}: override `samples` for such objects"
            )
        in_directory = isinstance(source, ObjectDirectory)
        for position in range(len(index)):
            if in_directory and position % (_FILES_AHEAD // 2) == 0:
                stop = min(position + _FILES_AHEAD, len(index))
                self.prefetch(source, index, range(position, stop))
            yield self.read(source, index, position)

    def sliceable(self, source: Any) -> bool:
        """Tells whether `samples_between` works for this object."""
        return False

    def samples_between(self, source: Any, start: int, stop: int) -> Iterator[Sample]:
        """Yields the samples whose first byte lies in a range of the file, in order.

        Args:
            source: The file.
            start: Position in bytes of the range.
            stop: Position after its last byte.

        Raises:
            FormatError: The file is damaged or not of this format.
        """
        raise NotImplementedError

    def count_between(self, source: Any, start: int, stop: int) -> int | None:
        """Returns how many samples `samples_between` yields, None where only reading them would tell.

        None by default. Splits of a dataset, see `IPFSDataset.splits`, then have no number of rows.
        """
        return None

    def index(self, source: Any) -> MemberIndex | None:
        """Returns where each sample lies, or None where this object allows no random access.

        By default one sample for the whole file where `decode` is overridden, else None.

        Raises:
            FormatError: The object is damaged or not of this format. What `decode` may raise of bytes that it
                cannot decode becomes one.
        """
        if not is_whole_file(type(self)):
            return None
        if isinstance(source, ObjectDirectory):
            raise NotImplementedError(
                f"{type(self).__name__} has `decode` alone, which makes a value of a file, and "
                f"{source.name!r} is a directory: give it an `index` that returns a FilesIndex of its files"
            )
        return WholeFileIndex(source.name, source.size)

    def load_index(self, source: Any, data: bytes) -> MemberIndex:
        """Returns the index that was dumped as `data`, without reading the object.

        Where it is not overridden, indexes are loaded as `SpanIndex`, those of directories as `FilesIndex`.

        Raises:
            ValueError: It cannot be used; the index is made anew.
        """
        raise NotImplementedError

    def read(self, source: Any, index: MemberIndex, position: int) -> Sample:
        """Returns one sample of an indexed object.

        By default its name in the index, and what `decode` makes of the bytes of its span; of a directory, of
        the bytes of the file that is called so.

        Raises:
            FormatError: The file ends before the sample does, or `decode` raised a ValueError, `EOFError`,
                `struct.error`, `zlib.error`, or an `OSError` or `SyntaxError` that is not of the system or of
                code, such as Pillow's.
            LimitError: The sample has more bytes than ``source.limits.member_bytes``.
        """
        name: Any = index.name(position)
        if type(name) is not str and not isinstance(name, str):
            kind = type(index).__qualname__
            raise TypeError(f"{kind}.name({position}) returned {name!r:.100} and not a text")
        # Not isinstance, which takes ten times as long for abstract classes.
        if (read_at := getattr(source, "read_at", None)) is None:
            what = f"sample {position} of {source.name!r}, the file {name!r},"
            (data,) = source.read_each([name])
            source.limits.check("member_bytes", len(data), what)
        else:
            span: Any = index.span(position)
            try:
                start, stop = span
            except (TypeError, ValueError):
                start = None
            if type(start) is not int or type(stop) is not int:
                start, stop = positions_of(index, position, span)
            # Like the other messages about a file: what it is called first.
            what = f"sample {position} of {source.name!r}, bytes {start} to {stop},"
            if not 0 <= start <= stop <= source.size:
                raise FormatError(
                    f"{what} is outside of the file, which has {source.size} bytes: it is damaged, or "
                    f"{type(index).__qualname__}.span is wrong"
                )
            source.limits.check("member_bytes", stop - start, what)
            data = read_at(start, stop - start)
            if len(data) != stop - start:
                raise FormatError(f"{what} is cut off after {len(data)} bytes")
        try:
            return name, self.decode(data, index, position)
        except (FormatError, LimitError) as error:
            raise type(error)(f"{what} cannot be decoded: {error}") from error
        except PARSE_ERRORS as error:
            if not is_parse_error(error):
                raise
            text = f"{type(self).__qualname__}.decode: {type(error).__name__}: {error}"
            raise FormatError(f"{what} cannot be decoded by {text}") from error

    def decode(self, data: bytes, index: Any, position: int) -> Any:
        """Returns the value of a sample, made of the bytes of its span, or of its file in a directory.

        Args:
            data: The bytes, all of them.
            index: The index of the file that they are from.
            position: The number of the sample in that file.

        Raises:
            ValueError: They cannot be decoded; the message of the `FormatError` that users get names the
                file and the sample.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither `read` nor `decode`")

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
            source.prefetch(index.spans_at(positions))
        else:
            source.prefetch([index.name(position) for position in positions])


def positions_of(index: MemberIndex, position: int, span: Any) -> Span:
    """Returns a span as two whole numbers.

    Raises:
        TypeError: It is something else.
    """
    try:
        start, stop = span
        return operator.index(start), operator.index(stop)
    except (TypeError, ValueError):
        raise TypeError(
            f"{type(index).__qualname__}.span({position}) returned {span!r:.100} and not two positions in "
            "bytes"
        ) from None


def make_index(reader: Reader, source: Any) -> MemberIndex | None:
    """Returns `Reader.index` of an object.

    Raises:
        FormatError: `index` raised it, or what parsers raise for bytes that they cannot parse.
    """
    try:
        return reader.index(source)
    except PARSE_ERRORS as error:
        if isinstance(error, FormatError) and source.name not in str(error):
            text = str(error)  # of an index, which has no name of the object
        elif is_parse_error(error):
            text = f"{type(error).__name__}: {error}"
        else:
            raise
        raise FormatError(
            f"{source.name!r} is damaged, or of another format: no index can be made of it by "
            f"{type(reader).__qualname__}.index: {text}"
        ) from error


def is_whole_file(kind: type[Reader]) -> bool:
    """Tells whether a file of a format is one sample, made of all its bytes by `decode`."""
    return _overrides(kind, "decode") and not (
        _overrides(kind, "index") or _overrides(kind, "samples")
    )


def _overrides(kind: type[Reader], method: str) -> bool:
    return getattr(kind, method) is not getattr(Reader, method)


class FolderReader(Reader, ABC):
    """Turns a directory into the paths of its members, each of which is then read by its own format."""

    reads = "directory"

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
            one blob each, where the folder's own format is not named.
    """

    name: str
    summary: str
    factory: str | Callable[[], Reader]
    suffixes: tuple[str, ...] = ()
    magic: tuple[tuple[int, bytes], ...] = ()
    recognize: str | Callable[[ObjectFile], bool] | None = None
    reads: Literal["file", "directory"] = "file"
    in_folders: bool = False
