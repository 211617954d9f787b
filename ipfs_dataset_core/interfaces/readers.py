"""The interface and declaration of formats."""

from __future__ import annotations

import operator
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs

from ipfs_dataset_core.errors import FormatError, IPFSDatasetError, LimitError
from ipfs_dataset_core.interfaces.objects import ObjectDirectory, ObjectFile
from ipfs_dataset_core.runtime.cached_property import cached_property

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from typing_extensions import Self

    from ipfs_dataset_core.interfaces.objects import Span

Sample = tuple[str, Any]
# Number of files of a directory that are fetched while one is read.
_FILES_AHEAD = 64


class SampleRuns(Iterator[Sample]):
    """Samples that are produced several at a time, such as from one piece of a file, but yielded singly.

    `Reader.samples` and `Reader.samples_between` may return it in place of any other iterator; the overhead
    per step of a plugin's code is then paid once per run.

    Args:
        runs: Yields the samples in order, in sequences of samples produced together. If a sample cannot be
            produced, yields those before it first, then raises the error.

    Attributes:
        runs: The runs that have not been yielded yet.
    """

    def __init__(self, runs: Iterable[Sequence[Sample]]) -> None:
        self.runs = iter(runs)
        self._samples = chain.from_iterable(self.runs)

    def __iter__(self) -> Iterator[Sample]:  # noqa: PYI034 - then no Python code runs for each sample
        return self._samples

    def __next__(self) -> Sample:
        return next(self._samples)


# Errors that parsers raise for invalid bytes. Bugs in plugins mostly raise other errors.
_PARSE_ERRORS = (
    ValueError,
    EOFError,
    OverflowError,  # a number that is too large
    RecursionError,  # values that are nested too deeply, such as the lists of a JSON text
    struct.error,
    zlib.error,
)
# The same, of modules that are imported only where they are needed.
_PARSE_ERRORS_BY_NAME = frozenset(
    (
        ("PIL.Image", "DecompressionBombError"),
        ("PIL.Image", "DecompressionBombWarning"),
        ("_lzma", "LZMAError"),
        ("zipfile", "BadZipFile"),
    )
)


def is_parse_error(error: BaseException) -> bool:
    """Returns whether an error is one that parsers raise for invalid bytes.

    Pillow raises `OSError` and `SyntaxError` for them, but without the error number of a system error or the
    file name of a syntax error.
    """
    if isinstance(error, IPFSDatasetError):
        return False
    if isinstance(error, OSError):
        return error.errno is None and not isinstance(error, (TimeoutError, ConnectionError))
    if isinstance(error, SyntaxError):
        return error.filename is None
    kind = type(error)
    return isinstance(error, _PARSE_ERRORS) or (
        (kind.__module__, kind.__name__) in _PARSE_ERRORS_BY_NAME
    )


class MemberIndex(ABC):
    """The positions of the samples in an object; compact and picklable, because it may have millions."""

    @abstractmethod
    def __len__(self) -> int:
        """Returns the number of samples."""

    @abstractmethod
    def name(self, position: int) -> str:
        """Returns the name of one sample; for a directory, the path of its file, which is prefetched."""

    @abstractmethod
    def span(self, position: int) -> Span:
        """Returns the bytes ``(start, stop)`` of the object that are needed to read a sample."""

    def spans_at(self, positions: Iterable[int]) -> Iterable[Span]:
        """Returns the results of `span` for several samples; override it if that is faster together."""
        return map(self.span, positions)

    def part(self, start: int, stop: int) -> MemberIndex | None:
        """Returns the index of the samples from `start` to `stop` alone, numbered from 0.

        `Reader.read` must return the same samples with it, including their names. It is sent to the process
        that reads a split of the dataset; see `IPFSDataset.splits`. None, the default, means that this is not
        supported: that process then builds the index of the whole object.
        """
        return None

    def dump(self) -> bytes:
        """Returns bytes from which `Reader.load_index` restores this index, for storage on disk.

        `pack_columns` writes names and arrays of numbers. Never use pickle, because others may be able to
        write there.
        """
        raise NotImplementedError


class WholeFileIndex(MemberIndex):
    """The index of a file that is one sample.

    Args:
        name: The name of the file and the sample.
        size: The size of the file in bytes.
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
    """Converts an object in one format to samples.

    A subclass overrides one of these:

    - `decode` alone: each file is one sample, whose value is made from its bytes.
    - `index` and `decode`: a file has many samples, each made from the bytes of its span; or an object is a
      directory, and each of its files is a sample.
    - `index` and `read`: the same, if a sample needs more than these bytes.
    - `samples` alone: a file can only be iterated.

    A reader keeps no state of an object, because one reader serves many objects, processes and threads. The
    attributes `name` to `in_folders` declare the format if the class is used in place of its plugin: as an
    entry point, in `register` and as an object's ``filetype``. They have the same meaning as those of
    `ReaderPlugin`.

    Attributes:
        name: Name of the format; by default that of the entry point.
        summary: One line about it; by default the first line of the docstring.
        suffixes: Suffixes of names, with the dot and in lower case.
        magic: ``(offset, bytes)`` pairs.
        reads: Whether an object is a file or a directory.
        in_folders: Whether members of a folder with one of the suffixes are read in this format, in a folder
            of any format. If the format is named for the folder, they are in any case.
        index_form: Identifies the contents of this reader's indexes, such as ``"zip 1"``. If it is set,
            indexes are kept by CID, and stored on disk if they can be dumped. It must cover everything that
            affects an index except the object's bytes and limits: change it whenever the same object gets a
            different index, and include the options of the reader if it has any; it may be a property. A
            subclass that overrides `index` needs its own.
        cheap_index: Whether `index` reads so little of an object, such as a header or a table of contents,
            that every worker can build it before its first sample. Workers then share an iterated object by
            sample number; otherwise `index` is only called for random access. True if each file is one
            sample.
        scans_to_slice: Whether `samples_between` has to look at every sample before `start` to find its first
            one, as in a TAR. An object without an index is then split into few parts only.
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
                f"{cls.__name__} is not a format yet: give it `samples`, or `decode`, or `index` "
                "with `read` or `decode`"
            )
        return super().__new__(cls)

    # A property, which type checkers would see, could not be overridden by an attribute.
    if TYPE_CHECKING:
        cheap_index: bool
    else:

        @cached_property
        def cheap_index(self) -> bool:
            return is_whole_file(type(self))

    def samples(self, source: Any) -> Iterator[Sample]:
        """Yields ``(name, value)`` for each sample of an `ObjectFile` or `ObjectDirectory`, in order.

        By default it yields the samples of `index`, each as returned by `read`. If several samples are
        produced together, such as those in one piece of the file, returning `SampleRuns` is faster.

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
        """Returns whether `samples_between` works for this object."""
        return False

    def samples_between(self, source: Any, start: int, stop: int) -> Iterator[Sample]:
        """Yields the samples whose first byte is in a range of the file, in order.

        Args:
            source: The file.
            start: Start of the range in bytes.
            stop: End of the range, exclusive.

        Raises:
            FormatError: The file is damaged or not of this format.
        """
        raise NotImplementedError

    def count_between(self, source: Any, start: int, stop: int) -> int | None:
        """Returns the number of samples of `samples_between`; None if counting requires reading them.

        The default is None. Splits of a dataset, see `IPFSDataset.splits`, then have no number of rows.
        """
        return None

    def index(self, source: Any) -> MemberIndex | None:
        """Returns the positions of the samples, or None if this object allows no random access.

        By default, returns one sample for the whole file if `decode` is overridden, else None.

        Raises:
            FormatError: The object is damaged or not of this format. Errors that `decode` may raise for
                invalid bytes are converted to it.
        """
        if not is_whole_file(type(self)):
            return None
        if isinstance(source, ObjectDirectory):
            raise NotImplementedError(
                f"{type(self).__name__} only has `decode`, which makes a value from a file, but "
                f"{source.name!r} is a directory: give it an `index` that returns a FilesIndex of its files"
            )
        return WholeFileIndex(source.name, source.size)

    def load_index(self, source: Any, data: bytes) -> MemberIndex:
        """Restores the index that was dumped as `data`, without reading the object.

        By default, indexes are loaded as `SpanIndex`, those of directories as `FilesIndex`.

        Raises:
            ValueError: The data cannot be used; the index is then built again.
        """
        raise NotImplementedError

    def read(self, source: Any, index: MemberIndex, position: int) -> Sample:
        """Returns one sample of an indexed object.

        By default, it has its name from the index, and the result of `decode` for the bytes of its span; in a
        directory, for the bytes of the file with that name.

        Raises:
            FormatError: The file ends before the sample does, or `decode` raised a `ValueError`, `EOFError`,
                `OverflowError`, `RecursionError`, `struct.error`, `zlib.error`, ``lzma.LZMAError``,
                ``zipfile.BadZipFile``, an error of Pillow about the size of an image, or an `OSError` or
                `SyntaxError` from a parser such as Pillow rather than from the system or Python code.
            LimitError: The sample has more bytes than ``source.limits.member_bytes``.
        """
        name: Any = index.name(position)
        if type(name) is not str and not isinstance(name, str):
            kind = type(index).__qualname__
            raise TypeError(f"{kind}.name({position}) returned {name!r:.100} instead of text")
        # Not isinstance, which is ten times slower for abstract classes.
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
            # Like other messages about a file, this begins with its name.
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
        except Exception as error:
            if not is_parse_error(error):
                raise
            text = f"{type(self).__qualname__}.decode: {type(error).__name__}: {error}"
            raise FormatError(f"{what} cannot be decoded by {text}") from error

    def decode(self, data: bytes, index: Any, position: int) -> Any:
        """Returns the value of a sample, made from the bytes of its span, or of its file in a directory.

        Args:
            data: All of these bytes.
            index: The index of the file.
            position: The number of the sample in the file.

        Raises:
            ValueError: The bytes cannot be decoded; users get a `FormatError` with the message, the file and
                the sample.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither `read` nor `decode`")

    def read_each(
        self, source: Any, index: MemberIndex, positions: Iterable[int]
    ) -> Iterator[Sample]:
        """Yields several samples, each as returned by `read`.

        Their positions ascend and may contain duplicates. This method reads batches. Override it if reading
        neighbours together is faster: `ObjectFile.piece_at` returns the whole block that contains a sample.
        """
        return (self.read(source, index, position) for position in positions)

    def prefetch(self, source: Any, index: MemberIndex, positions: Sequence[int]) -> None:
        """Starts fetching samples: their spans of a file, or their files of a directory."""
        if isinstance(source, ObjectFile):
            source.prefetch(index.spans_at(positions))
        else:
            source.prefetch([index.name(position) for position in positions])


def positions_of(index: MemberIndex, position: int, span: Any) -> Span:
    """Checks a span and returns it as two integers.

    Raises:
        TypeError: The span has another type.
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
    """Returns the result of `Reader.index` for an object.

    Raises:
        FormatError: `index` raised it, or an error that parsers raise for invalid bytes.
    """
    try:
        return reader.index(source)
    except Exception as error:
        if isinstance(error, FormatError) and source.name not in str(error):
            text = str(error)  # from an index, which does not know the object's name
        elif is_parse_error(error):
            text = f"{type(error).__name__}: {error}"
        else:
            raise
        raise FormatError(
            f"{source.name!r} is damaged, or of another format: no index can be made of it by "
            f"{type(reader).__qualname__}.index: {text}"
        ) from error


def is_whole_file(kind: type[Reader]) -> bool:
    """Returns whether each file of a format is one sample, made from all its bytes by `decode`."""
    return _overrides(kind, "decode") and not (
        _overrides(kind, "index") or _overrides(kind, "samples")
    )


def _overrides(kind: type[Reader], method: str) -> bool:
    return getattr(kind, method) is not getattr(Reader, method)


class FolderReader(Reader, ABC):
    """Converts a directory to the paths of its members, each of which is then read in its own format."""

    reads = "directory"

    @abstractmethod
    def members(self, directory: ObjectDirectory) -> Sequence[str]:
        """Returns the relative paths of the members, in order.

        Raises:
            FormatError: The directory's list of members is invalid.
        """

    def listing(self, directory: ObjectDirectory) -> tuple[str, Sequence[int]] | None:
        """Returns the name of the file that lists the members, and the line of each, counted from 1.

        It is used in messages about members that cannot be read. None, the default, if there is no such list.
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
        name: Short and unique name, which users give as ``filetype``.
        summary: One line for ``ipfs-dataset plugins``.
        factory: Creates the reader; takes no arguments.
        suffixes: Suffixes of names in this format, with the dot and in lower case.
        magic: ``(offset, bytes)`` pairs; an object that matches any of them is in this format.
        recognize: Returns whether an open `ObjectFile` is in this format; or text such as
            ``"package.module:function"``. It is for formats that cannot be recognized by bytes at a fixed
            position, such as the content of a compressed file. It is called for each object without a type or
            known suffix, so it should read little. It takes precedence over `magic`.
        reads: Whether an object is a file or a directory.
        in_folders: Whether members of a folder with one of the suffixes are read in this format, rather than
            as one blob each, if the folder's own format is not named.
    """

    name: str
    summary: str
    factory: str | Callable[[], Reader]
    suffixes: tuple[str, ...] = ()
    magic: tuple[tuple[int, bytes], ...] = ()
    recognize: str | Callable[[ObjectFile], bool] | None = None
    reads: Literal["file", "directory"] = "file"
    in_folders: bool = False
