"""What a published form of datasets implements and declares."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from ipfs_dataset_core.errors import ExportError
from ipfs_dataset_core.interfaces.indexed_samples import IndexedSamples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ipfs_dataset_core.interfaces.dataset_card import DatasetCard
    from ipfs_dataset_core.interfaces.objects import ObjectDirectory, ObjectFile
    from ipfs_dataset_core.interfaces.value_codec import ValueCodec
    from ipfs_dataset_core.ipld import CID, Built


@attrs.frozen(kw_only=True)
class DatasetInfo:
    """What a published dataset states about itself: known as soon as it is open, without further requests.

    Attributes:
        samples: How many it has.
        schema: What a sample is made of, as plain values: tuples, lists and dicts as samples have them,
            with the name of a type in the place of each value, such as ``("image", "int")``. None where
            samples differ, or the form does not tell.
        size: Bytes of the files that hold the samples, None where the form does not tell.
        card: What it is, as its author states it; None where there is no card.
        classes: The number of each class by its name; empty where the classes have no names.
    """

    samples: int
    schema: Any = None
    size: int | None = None
    card: DatasetCard | None = None
    classes: Mapping[str, int] = attrs.field(factory=dict)


class PublishedSamples(IndexedSamples):
    """The samples of a published dataset, in the process that opened it: each process opens it for itself.

    Each sample is equal to the one that was exported. `__len__` and `read` are enough; the other methods make
    reading faster.
    """

    def info(self) -> DatasetInfo | None:
        """Returns what the dataset states about itself, None where only reading more of it would tell."""
        return None

    def shard_sizes(self) -> Sequence[tuple[int, int]] | None:
        """Returns how many samples and bytes each file of the dataset has, in order; without reading them.

        Splits of the dataset begin where files do, as far as their sizes allow. None, as by default, where
        that is not known: then all samples are taken to have equally many bytes.
        """
        return None

    def shard_cids(self) -> Sequence[str] | None:
        """Returns the CID of each file of `shard_sizes`; None, as by default, where it is not known."""
        return None

    def span(self, position: int) -> tuple[ObjectFile, int, int]:
        """Returns the file that a sample is in, and where in it: its first byte, and the one after its last.

        Raises:
            NotImplementedError: The form does not tell, as by default.
        """
        raise NotImplementedError

    def files(self, position: int) -> dict[str, bytes]:
        """Returns the files that a sample was published as, by what follows its key: ``image.png``.

        Raises:
            NotImplementedError: The form does not publish samples as files, as by default.
        """
        raise NotImplementedError

    def sizes(self, start: int, stop: int) -> Iterator[int | None]:
        """Yields the size in bytes of each sample from `start` to `stop`, exclusive; None where not known."""
        return (None for _ in range(start, stop))


class Exporter(ABC):
    """Turns samples into the files of a published dataset, and those files back into samples.

    The core chunks, hashes and stores whatever is written; an exporter only decides on the files. It is
    picklable: datasets that it reads take it to their workers.

    The attributes `name` and `summary` declare the form where the class itself stands for its plugin: as an
    entry point, in `register` and as ``form``. The class is then called with the user's options.

    Args:
        options: The user's; by default those that `IPFSDatasetExporter` has.

    Attributes:
        name: The form's name; by default that of the entry point.
        summary: One line about it; by default the first of the docstring.
        options: As given. A subclass with an `__init__` of its own has them where it calls this one.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""

    def __init__(self, options: ExporterOptions | None = None) -> None:
        self.options = ExporterOptions() if options is None else options

    @abstractmethod
    def export(self, samples: Iterable[Any], sink: FileSink) -> None:
        """Writes every sample into files of `sink`, in order, at flat memory.

        Raises:
            ExportError: A sample cannot be written.
        """

    def export_part(self, samples: Iterable[Any], sink: FileSink) -> dict[str, Any]:
        """Writes one part of a dataset, and returns what `assemble` needs to know of it.

        A form that is not written in parts does not implement it.

        Args:
            samples: The samples of the part, in order; there may be none.
            sink: Where its files go. The part has a directory of its own.

        Returns:
            Values of JSON, small. `FileSink.built` of the files has to be part of it.

        Raises:
            ExportError: A sample cannot be written.
        """
        raise ExportError(
            f"{type(self).__name__} does not write datasets in parts: export it whole"
        )

    def assemble(
        self, parts: Sequence[Mapping[str, Any]], sink: FileSink, *, mixed: bool = False
    ) -> None:
        """Writes the dataset that some parts make, without their bytes.

        Args:
            parts: What `export_part` returned of each, in order, after it was JSON and as it came from
                other machines: it may be anything.
            sink: Where the files of the dataset go. `FileSink.add` puts the files of parts there.
            mixed: Whether samples of different parts may differ in how they are made of values.

        Raises:
            ExportError: The parts do not belong together.
            FormatError: One of them is damaged.
        """
        raise ExportError(f"{type(self).__name__} does not write datasets in parts")

    @abstractmethod
    def load(self, source: ObjectDirectory | ObjectFile) -> PublishedSamples | None:
        """Returns the samples of a published dataset, None where `source` is not of this form.

        Raises:
            FormatError: It is of this form but damaged.
        """


class SinkFile(io.BufferedIOBase):
    """A file that an exporter writes."""

    def end_leaf(self) -> None:
        """Ends a leaf, a block of the file, behind what was written so far.

        Leaves whose ends the content determines are the same in a new version of a file, whatever changed in
        front of them. Has no effect where the user has chosen a chunker that looks at the bytes alone.
        """


class FileSink(ABC):
    """Where an exporter writes: a directory that grows file by file."""

    @abstractmethod
    def create(self, path: str) -> SinkFile:
        """Returns a writable binary file at a relative path; one is open at a time, closing ends it."""

    @abstractmethod
    def cid_of(self, path: str) -> CID:
        """Returns the CID of a file that was closed."""

    @abstractmethod
    def sha256_of(self, path: str) -> str:
        """Returns the SHA-256 of the bytes of a file that was closed, in hexadecimal digits."""

    @abstractmethod
    def built(self, path: str) -> Built:
        """Returns the CID and the sizes of a file that was closed, which `add` takes."""

    @abstractmethod
    def add(self, path: str, file: Built) -> None:
        """Puts a file at a relative path whose blocks are stored elsewhere; none is read or stored."""


@attrs.frozen(kw_only=True)
class ExporterOptions:
    """The options of `IPFSDatasetExporter` that exporters may use; each takes what concerns it.

    Args:
        profile: The name of the import profile, on which the CIDs depend.
        chunker: Where files are cut into leaves, on which the CIDs depend too.
        shard_bytes: How large a shard may become.
        codecs: The user's codecs for types that have no built-in one.
        allow_pickle: Whether the user allows pickles, in both directions.
        keep_files: Whether images are published as the files that they come from, byte for byte, where those
            give the same images.
        card: What the dataset is, as its author states it; None where there is no card.
        classes: The number of each class by its name; empty where the classes have no names.
    """

    profile: str = "unixfs-v1-2025"
    chunker: str = "samples"
    shard_bytes: int = 256 << 20
    codecs: tuple[ValueCodec, ...] = ()
    allow_pickle: bool = False
    keep_files: bool = True
    card: DatasetCard | None = None
    classes: Mapping[str, int] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ExporterPlugin:
    """Declares a form in which datasets are published.

    Args:
        name: Short and unique, such as ``"tar_shards"``.
        summary: One line for ``ipfs-dataset plugins``.
        factory: Makes the exporter from the user's options.
    """

    name: str
    summary: str
    factory: str | Callable[[ExporterOptions], Exporter]
