"""The interface and declaration of published forms of datasets."""

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
    """A published dataset's statements about itself, available on opening without further requests.

    Attributes:
        samples: Number of samples.
        schema: The structure of a sample as plain values: tuples, lists and dicts as in the samples, with a
            type name in place of each value, such as ``("image", "int")``. None if samples differ in
            structure, or the form does not record it.
        size: Total size in bytes of the files that contain the samples; None if the form does not record it.
        card: The author's description; None if there is no card.
        classes: The number of each class by its name; empty if the classes have no names.
    """

    samples: int
    schema: Any = None
    size: int | None = None
    card: DatasetCard | None = None
    classes: Mapping[str, int] = attrs.field(factory=dict)


class PublishedSamples(IndexedSamples):
    """The samples of a published dataset, opened in the current process; each process opens it for itself.

    Each sample is equal to the exported one. `__len__` and `read` are sufficient; the other methods make
    reading faster.
    """

    def info(self) -> DatasetInfo | None:
        """Returns the dataset's statements about itself; None if they would require reading more of it."""
        return None

    def shard_sizes(self) -> Sequence[tuple[int, int]] | None:
        """Returns the number of samples and bytes of each file of the dataset, in order, without reading it.

        Splits of the dataset begin at file boundaries, as far as the sizes allow. None, the default, means
        unknown; then all samples are assumed to have equal sizes.
        """
        return None

    def shard_cids(self) -> Sequence[str] | None:
        """Returns the CID of each file of `shard_sizes`; None, the default, if unknown."""
        return None

    def span(self, position: int) -> tuple[ObjectFile, int, int]:
        """Returns the file that contains a sample, and the sample's start and stop in it.

        Raises:
            NotImplementedError: The form does not record it; the default.
        """
        raise NotImplementedError

    def files(self, position: int) -> dict[str, bytes]:
        """Returns the files of a published sample, by the part of their names after the key: ``image.png``.

        Raises:
            NotImplementedError: The form does not publish samples as files; the default.
        """
        raise NotImplementedError

    def sizes(self, start: int, stop: int) -> Iterator[int | None]:
        """Yields the size in bytes of each sample from `start` to `stop`, exclusive; None if unknown."""
        return (None for _ in range(start, stop))


class Exporter(ABC):
    """Converts samples to the files of a published dataset, and these files back to samples.

    The core chunks, hashes and stores the files; an exporter only determines their content. It can be
    pickled: datasets that it reads send it to their workers.

    The attributes `name` and `summary` declare the form if the class itself is the plugin: as an entry point,
    in `register` and as ``form``. The class is then called with the user's options.

    Args:
        options: The user's; by default those that `IPFSDatasetExporter` has.

    Attributes:
        name: The form's name; by default that of the entry point.
        summary: One line about it; by default the first line of the docstring.
        options: The options as given. A subclass with its own `__init__` has them if it calls this one.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""

    def __init__(self, options: ExporterOptions | None = None) -> None:
        self.options = ExporterOptions() if options is None else options

    @abstractmethod
    def export(self, samples: Iterable[Any], sink: FileSink) -> None:
        """Writes every sample into files of `sink`, in order, in bounded memory.

        Raises:
            ExportError: A sample cannot be written.
        """

    def export_part(self, samples: Iterable[Any], sink: FileSink) -> dict[str, Any]:
        """Writes one part of a dataset, and returns the record of it that `assemble` needs.

        A form that does not support parts need not implement this.

        Args:
            samples: The samples of the part, in order; may be empty.
            sink: Where the files are written. Each part has a directory of its own.

        Returns:
            A small JSON value. It must contain `FileSink.built` of the files.

        Raises:
            ExportError: A sample cannot be written.
        """
        raise ExportError(
            f"{type(self).__name__} does not write datasets in parts: export it whole"
        )

    def assemble(
        self, parts: Sequence[Mapping[str, Any]], sink: FileSink, *, mixed: bool = False
    ) -> None:
        """Writes the dataset that consists of parts, without their data.

        Args:
            parts: The return values of `export_part`, in order, after conversion to JSON and back. They come
                from other machines, so any value is possible.
            sink: Where the files of the dataset are written. `FileSink.add` adds the files of parts.
            mixed: Whether samples of different parts may differ in structure.

        Raises:
            ExportError: The parts do not belong together.
            FormatError: A record is damaged.
        """
        raise ExportError(f"{type(self).__name__} does not write datasets in parts")

    @abstractmethod
    def load(self, source: ObjectDirectory | ObjectFile) -> PublishedSamples | None:
        """Returns the samples of a published dataset; None if `source` is not of this form.

        Raises:
            FormatError: The dataset is of this form but damaged.
        """


class SinkFile(io.BufferedIOBase):
    """A file that an exporter writes."""

    def end_leaf(self) -> None:
        """Ends a leaf, a block of the file, after the data written so far.

        Leaves whose ends are determined by their content are equal in a new version of a file, whatever
        changed before them. Has no effect if the user has chosen a chunker that only looks at the bytes.
        """


class FileSink(ABC):
    """The target of an exporter: a directory that grows file by file."""

    @abstractmethod
    def create(self, path: str) -> SinkFile:
        """Returns a writable binary file at a relative path; only one is open at a time until closed."""

    @abstractmethod
    def cid_of(self, path: str) -> CID:
        """Returns the CID of a closed file."""

    @abstractmethod
    def sha256_of(self, path: str) -> str:
        """Returns the SHA-256 of a closed file in hexadecimal digits."""

    @abstractmethod
    def built(self, path: str) -> Built:
        """Returns the CID and sizes of a closed file, as the argument of `add`."""

    @abstractmethod
    def add(self, path: str, file: Built) -> None:
        """Adds a file at a relative path whose blocks are stored elsewhere; no block is read or stored."""


@attrs.frozen(kw_only=True)
class ExporterOptions:
    """The options of `IPFSDatasetExporter` for exporters, which use those that concern them.

    Args:
        profile: Name of the import profile, which affects the CIDs.
        chunker: How files are split into leaves, which also affects the CIDs.
        shard_bytes: Maximum size of a shard.
        codecs: The user's codecs for types without a built-in codec.
        allow_pickle: Whether the user allows pickles, for writing and reading.
        keep_files: Whether to publish images as the files from which they were read, byte for byte, if those
            give the same images.
        card: The author's description; None if there is no card.
        classes: The number of each class by its name; empty if the classes have no names.
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
        factory: Creates the exporter from the user's options.
    """

    name: str
    summary: str
    factory: str | Callable[[ExporterOptions], Exporter]
