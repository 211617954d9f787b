"""The contents of an object, for commands that list and copy it: its files, members or samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import attrs

from ipfs_dataset_core.addressing.object_url import parse_object_url, redacted
from ipfs_dataset_core.datasets.describing import sample_text
from ipfs_dataset_core.datasets.imported import ImportedDataset
from ipfs_dataset_core.datasets.objects import choose_format
from ipfs_dataset_core.datasets.published import NotPublishedError, exporters_of, find_published
from ipfs_dataset_core.errors import FormatError, ObjectNotFoundError
from ipfs_dataset_core.interfaces import (
    ExporterOptions,
    ObjectDirectory,
)
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject
from ipfs_dataset_core.ipld.dag_pb import decode
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.reading.connections import connections_to_published
from ipfs_dataset_core.reading.objects import locate, open_file
from ipfs_dataset_core.registry.guarded_readers import make_reader

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from typing_extensions import Unpack

    from ipfs_dataset_core.interfaces import (
        MemberIndex,
        ObjectFile,
        Reader,
    )
    from ipfs_dataset_core.interfaces.dataset_card import DatasetCard
    from ipfs_dataset_core.ipld import CID
    from ipfs_dataset_core.options import Limits, OptionArguments
    from ipfs_dataset_core.reading.connections import Connections
    from ipfs_dataset_core.reading.fetcher import Fetcher

Kind = Literal["published dataset", "archive", "folder", "file"]

# Archive formats, whose members are files.
_ARCHIVES = frozenset({"tar", "zip"})
# Number of items fetched together.
_TOGETHER = 64
# A first sample larger than this is not read to describe the dataset.
_MOST_DESCRIBED = 16 << 20
# Fields of a card that are left out of a description, because they are long or shown elsewhere.
_TEXTS = frozenset({"readme", "classes"})
# More digits than the number of any item has.
_MOST_DIGITS = 18


@attrs.frozen
class Item:
    """A file, member or sample of an object.

    Attributes:
        name: The path of a file, the name of a member, or the number of a published sample.
        size: Its size within the object in bytes; None if it would have to be read to find out.
    """

    name: str
    size: int | None


class Contents(ABC):
    """The items of an object, in order.

    Attributes:
        url: The URL of the object, without secrets.
        cid: Its CID, or a path that the sources resolve.
        kind: Its kind.
        form: The format or published form.
        size: The size of the object in bytes; None if unknown.
        has_fields: Whether the files of an item are the fields of a sample, named ``number.field``.
        sources: Description of the sources.
    """

    kind: Kind
    form: str
    size: int | None
    has_fields = False

    def __init__(self, url: str, cid: str, sources: str) -> None:
        self.url = url
        self.cid = cid
        self.sources = sources

    @property
    def name(self) -> str:
        """The last name in its path, else the CID or IPNS name of the URL."""
        url = parse_object_url(self.url)
        return url.path[-1] if url.path else url.root

    @abstractmethod
    def count(self) -> int | None:
        """Returns the number of items; None if counting would require listing them."""

    @abstractmethod
    def items(self, start: int = 0, *, in_order: bool = True) -> Iterator[Item]:
        """Yields the items, starting at a number.

        Args:
            start: The number of the first item.
            in_order: Whether to yield items in the order of their numbers. If False, those of folders may be
                yielded in another order, each as soon as it is known.
        """

    @abstractmethod
    def files(self, start: int = 0) -> Iterator[list[tuple[str, bytes | ObjectFile]]]:
        """Yields the files of each item, starting at a number: their names with their bytes or open files."""

    @abstractmethod
    def find(self, wanted: str) -> list[tuple[str, bytes | ObjectFile]]:
        """Returns the files of one item.

        Args:
            wanted: Its name, or its number.

        Raises:
            ObjectNotFoundError: There is no such item.
        """

    def describe(self) -> dict[str, Any]:
        """Returns a description as plain values, without values that are None."""
        fields = {
            "url": self.url,
            "cid": self.cid,
            "kind": self.kind,
            "format": self.form,
            "count": self.count(),
            "size": self.size,
            **self._more(),
            "sources": self.sources,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _more(self) -> dict[str, Any]:
        return {}

    def _none_such(self, wanted: str) -> ObjectNotFoundError:
        return ObjectNotFoundError(
            f"{self.url!r} has no {wanted!r}: `ipfs-dataset ls` lists its items"
        )


class PublishedContents(Contents):
    """The samples of a published dataset, by number."""

    kind = "published dataset"
    has_fields = True

    def __init__(self, dataset: ImportedDataset, url: str, form: str, sources: str) -> None:
        super().__init__(url, dataset.cid, sources)
        self.dataset = dataset
        self.form = form
        self.size = dataset.info.size if dataset.info is not None else None

    def count(self) -> int:
        return len(self.dataset)

    def items(self, start: int = 0, *, in_order: bool = True) -> Iterator[Item]:
        sizes = self.dataset.sizes(start, self.count())
        return (Item(str(number), size) for number, size in enumerate(sizes, start))

    def files(self, start: int = 0) -> Iterator[list[tuple[str, bytes | ObjectFile]]]:
        total = self.count()
        for first in range(start, total, _TOGETHER):
            numbers = range(first, min(first + _TOGETHER, total))
            self.dataset.prefetch(numbers)
            yield from map(self._files, numbers)

    def find(self, wanted: str) -> list[tuple[str, bytes | ObjectFile]]:
        number = _number(wanted)
        if number is None or number >= self.count():
            raise self._none_such(wanted)
        return self._files(number)

    def _files(self, number: int) -> list[tuple[str, bytes | ObjectFile]]:
        digits = len(str(max(0, self.count() - 1)))
        try:
            found = self.dataset.files(number)
        except NotImplementedError:
            raise FormatError(
                f"{self.url!r} is published in the form {self.form!r}, whose samples are not files: use "
                "--raw, or read it with ipfs_dataset.load"
            ) from None
        return [(f"{number:0{digits}d}.{suffix}", data) for suffix, data in found.items()]

    def _more(self) -> dict[str, Any]:
        info = self.dataset.info
        more: dict[str, Any] = {"sample": self._sample()}
        if info is not None:
            card = None if info.card is None else _stated(info.card)
            more |= {"schema": info.schema, "classes": self.dataset.classes or None, "card": card}
        return more

    def _sample(self) -> str | None:
        """Describes the first sample, with its sizes."""
        if not self.count() or (next(iter(self.dataset.sizes(0, 1))) or 0) > _MOST_DESCRIBED:
            return None
        return sample_text(self.dataset[0])


class ArchiveContents(Contents):
    """The members of an archive."""

    kind = "archive"

    def __init__(
        self, file: ObjectFile, reader: Reader, form: str, names: tuple[str, str, str]
    ) -> None:
        super().__init__(*names)
        self.form = form
        self.size = file.size
        self.file = file
        self._reader = reader
        self._index: MemberIndex | None = None
        self._indexed = False

    def count(self) -> int | None:
        index = self._members() if self._reader.cheap_index else None
        return None if index is None else len(index)

    def items(self, start: int = 0, *, in_order: bool = True) -> Iterator[Item]:
        index = self._members()
        if index is None:
            samples = islice(self._reader.samples(self.file), start, None)
            yield from (Item(name, len(data)) for name, data in samples)
            return
        for position in range(start, len(index)):
            first, stop = index.span(position)
            yield Item(index.name(position), stop - first)

    def files(self, start: int = 0) -> Iterator[list[tuple[str, bytes | ObjectFile]]]:
        index = self._members()
        if index is None:
            for name, data in islice(self._reader.samples(self.file), start, None):
                yield [(name, data)]
            return
        for first in range(start, len(index), _TOGETHER):
            numbers = range(first, min(first + _TOGETHER, len(index)))
            self._reader.prefetch(self.file, index, numbers)
            yield from ([sample] for sample in self._reader.read_each(self.file, index, numbers))

    def find(self, wanted: str) -> list[tuple[str, bytes | ObjectFile]]:
        index = self._members()
        if index is None:
            for position, (name, data) in enumerate(self._reader.samples(self.file)):
                if wanted in (name, str(position)):
                    return [(name, data)]
            raise self._none_such(wanted)
        for position in range(len(index)):
            if index.name(position) == wanted:
                return [self._reader.read(self.file, index, position)]
        number = _number(wanted)
        if number is not None and number < len(index):
            return [self._reader.read(self.file, index, number)]
        raise self._none_such(wanted)

    def names(self) -> dict[str, int]:
        """Returns the numbers of the members by name; the last one if several have the same name.

        Raises:
            FormatError: The archive can only be read from its start.
        """
        index = self._members()
        if index is None:
            raise FormatError(
                f"{self.url!r} can only be read from its start: publish it as a plain .tar or a .zip"
            )
        return {index.name(position): position for position in range(len(index))}

    def span(self, number: int) -> tuple[ObjectFile, int, int]:
        """Returns the archive, and the start and stop of a member in it."""
        index = self._members()
        assert index is not None
        return self.file, *index.span(number)

    def content(self, number: int) -> bytes:
        """Returns the content of a member."""
        index = self._members()
        assert index is not None
        data: bytes = self._reader.read(self.file, index, number)[1]
        return data

    def _members(self) -> MemberIndex | None:
        if not self._indexed:
            self._indexed = True
            # A compressed TAR can only be read from its start.
            if self._reader.cheap_index or self._reader.sliceable(self.file):
                self._index = self._reader.index(self.file)
        return self._index


class FolderContents(Contents):
    """The files below a folder, as they are."""

    kind = "folder"
    form = "folder"

    def __init__(
        self,
        directory: ObjectDirectory,
        size: int | None,
        fetcher: Fetcher,
        names: tuple[str, str, str],
    ) -> None:
        super().__init__(*names)
        self.size = size
        self._fetcher = fetcher
        self._directory = directory

    @property
    def limits(self) -> Limits:
        """The limits for reading it."""
        return self._directory.limits

    def load(self, cid: CID) -> bytes:
        """Returns a verified block."""
        return self._fetcher.block(cid)

    def open_cid(self, cid: CID) -> ObjectFile:
        """Returns a file by its CID, read from the same sources."""
        return open_file(self._fetcher, cid, str(cid))

    def count(self) -> int | None:
        return None

    def items(self, start: int = 0, *, in_order: bool = True) -> Iterator[Item]:
        found = islice(self._directory.walk_sizes(in_order=in_order), start, None)
        return (Item(path, size) for path, size in found)

    def files(self, start: int = 0) -> Iterator[list[tuple[str, bytes | ObjectFile]]]:
        paths = islice(self._directory.walk(), start, None)
        while group := list(islice(paths, _TOGETHER)):
            self._directory.read_ahead(group)
            for path in group:
                yield [(path, self._directory.open(path))]

    def find(self, wanted: str) -> list[tuple[str, bytes | ObjectFile]]:
        if self._directory.contains(wanted):
            try:
                return [(wanted, self._directory.open(wanted))]
            except FormatError as error:
                raise FormatError(
                    f"{error}: read the content of a folder by its own URL, '{self.url}/{wanted}'"
                ) from None
        number = _number(wanted)
        if number is not None:
            for path in islice(self._directory.walk(), number, None):
                return [(path, self._directory.open(path))]
        raise self._none_such(wanted)


class FileContents(Contents):
    """A file, as it is."""

    kind = "file"

    def __init__(self, file: ObjectFile, form: str, names: tuple[str, str, str]) -> None:
        super().__init__(*names)
        self.form = form
        self.size = file.size
        self.file = file

    def count(self) -> int:
        return 1

    def items(self, start: int = 0, *, in_order: bool = True) -> Iterator[Item]:
        return iter([Item(self.name, self.file.size)][start:])

    def files(self, start: int = 0) -> Iterator[list[tuple[str, bytes | ObjectFile]]]:
        one: list[tuple[str, bytes | ObjectFile]] = [(self.name, self.file)]
        return iter([one][start:])

    def find(self, wanted: str) -> list[tuple[str, bytes | ObjectFile]]:
        if wanted not in (self.name, "0"):
            raise self._none_such(wanted)
        return [(self.name, self.file)]


@contextmanager
def open_contents(
    url: str,
    address: str | os.PathLike[str] | None = None,
    *,
    filetype: str | None = None,
    raw: bool = False,
    **options: Unpack[OptionArguments],
) -> Iterator[Contents]:
    """Opens the contents of an object: samples of a published dataset, members of an archive, or files.

    Args:
        url: Any form of URL of an object in IPFS.
        address: Where to read, as for `ipfs_dataset.load`.
        filetype: Name of its format; None to detect it.
        raw: Whether to treat a published dataset as a folder, and an archive as a file.
        **options: Fields of `Options`.

    Raises:
        AddressError: The URL is malformed, or there is no source to read from.
        TransportError: The sources did not deliver.
        FormatError: The object is damaged.
    """
    connections = connections_to_published(address, Options.from_arguments(options), url)
    try:
        yield _contents(url, filetype, connections, raw=raw)
    finally:
        connections.close()


def _contents(url: str, filetype: str | None, connections: Connections, *, raw: bool) -> Contents:
    parsed, name = parse_object_url(url), redacted(url)
    sources = connections.describe(parsed.gateway)
    if filetype is None and not raw:
        forms = dict(exporters_of("tar_shards", ExporterOptions()))
        try:
            found = find_published(url, connections, forms.items())
        except NotPublishedError:
            pass
        else:
            form = next(form for form, exporter in forms.items() if exporter is found.exporter)
            return PublishedContents(ImportedDataset(found), name, form, sources)
    located = locate(url, connections)
    fetcher, source = located.fetcher, located.open()
    names = name, located.content_id(), sources
    if isinstance(source, ObjectDirectory):
        size = _tree_size(fetcher.block(source.cid)) if source.cid is not None else None
        return FolderContents(source, size, fetcher, names)
    plugin = choose_format(IPFSObject(url, filetype), source)
    form = plugin.name or type(plugin).__name__
    if form in _ARCHIVES and not raw:
        reader = make_reader(plugin)
        return ArchiveContents(source, reader, form, names)
    return FileContents(source, form, names)


def _stated(card: DatasetCard) -> dict[str, Any]:
    """Returns the statements of a card as plain values, without the text of its README."""
    fields = attrs.asdict(
        card, filter=lambda field, value: field.name not in _TEXTS and bool(value)
    )
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()
    }


def _number(wanted: str) -> int | None:
    """Parses the number of an item; None if the text is not a number, or too large for one."""
    return int(wanted) if wanted.isdecimal() and len(wanted) <= _MOST_DIGITS else None


def _tree_size(block: bytes) -> int:
    """Returns the size of a directory with everything below it, from its links; it is not verified."""
    return len(block) + sum(decode(block).tsizes)
