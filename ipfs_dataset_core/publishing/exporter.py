"""Exports PyTorch datasets to IPFS and imports them again, with equal samples and without pickle."""

from __future__ import annotations

import logging
import operator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core.addressing.object_url import redacted
from ipfs_dataset_core.addressing.sources import given_address, mistaken_port
from ipfs_dataset_core.datasets.imported import ImportedDataset
from ipfs_dataset_core.datasets.published import exporters_of, find_published, named_exporter
from ipfs_dataset_core.errors import (
    ExportError,
    ObjectNotFoundError,
    TransportError,
)
from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.interfaces.dataset_card import as_card, class_numbers
from ipfs_dataset_core.interfaces.value_codec import checked_codecs
from ipfs_dataset_core.ipld import get_profile
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.publishing.dataset_files import classes_of
from ipfs_dataset_core.publishing.dataset_samples import can_be_read_again, samples_of
from ipfs_dataset_core.publishing.names import find_key, publish_new_version
from ipfs_dataset_core.publishing.parts import MAX_PARTS, Ledger, make_record, read_parts
from ipfs_dataset_core.publishing.publish import TreeSink, publish
from ipfs_dataset_core.publishing.upload import UploadCount, with_advice
from ipfs_dataset_core.reading.connections import connect_for_writing, connections_to_published
from ipfs_dataset_core.runtime.short_traceback import short_traceback

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from typing_extensions import Unpack

    from ipfs_dataset_core.interfaces import Exporter, ExporterPlugin, FileSink
    from ipfs_dataset_core.interfaces.dataset_card import DatasetCard
    from ipfs_dataset_core.interfaces.value_codec import ValueCodec
    from ipfs_dataset_core.ipld import CID
    from ipfs_dataset_core.options import OptionArguments
    from ipfs_dataset_core.publishing.parts import Parts
    from ipfs_dataset_core.publishing.publish import Pin


log = logging.getLogger(__name__)


class IPFSDatasetExporter:
    """Publishes datasets and imports published ones.

    Samples may be tensors, numpy arrays, PIL images, text, bytes, numbers, bool, None, and tuples, lists
    and dicts of them.

    Args:
        address: A node's RPC API, such as ``/ip4/127.0.0.1/tcp/5001``, or a folder or ``.car`` file. None
            uses the node that runs on this machine, else the embedded store.
        profile: Name of an import profile, which determines how files and directories become blocks, and
            therefore their CIDs.
        chunker: How files are split into leaves, which also affects the CIDs. ``"samples"`` ends leaves
            after samples that are chosen by their content, so that versions of a dataset share most leaves;
            ``"samples-262144"`` limits leaves to that many bytes. Smaller leaves mean that scattered changes
            make fewer bytes new. ``"size-1048576"`` and ``"buzhash"`` give the CIDs of ``ipfs add`` with the
            same ``--chunker``.
        shard_bytes: Maximum number of bytes in a shard. Shards average six tenths of that, because the
            content determines where they end.
        form: The form to publish in: the name of an exporter plugin, or an exporter or its class. Datasets
            are imported in any installed form.
        codecs: One or several codecs, for values of further types.
        name: Name of the pins of exported datasets, as nodes and stores list them.
        progress: Whether to show a progress bar; None shows one on a terminal.
        allow_pickle: Pickle values that have no codec, and unpickle when importing. Unpickling runs
            whatever code the author of the dataset put into it.
        keep_files: Publish images as the files from which they were read, byte for byte and including EXIF,
            if those files give the same images. False publishes only the pixels, as PNG.
        **options: See `Options`.

    Attributes:
        uploaded: Counts of the last export: the blocks that were made, already present, and sent. They are
            updated while an export runs. ``str(exporter.uploaded)`` is such as "57.4 MB, 54.1 MB already
            there".
        published_name: The IPNS name ``k51…`` that points to the last export; None if no key was given.

    Raises:
        AddressError: There is no such profile or chunker, or `address` is neither text nor a path.
        TypeError: An option has an unknown name.
        ValueError: `shard_bytes` or an option is out of range.
    """

    def __init__(
        self,
        address: str | os.PathLike[str] | None = None,
        *,
        profile: str = "unixfs-v1-2025",
        chunker: str = "samples",
        shard_bytes: int = 256 << 20,
        form: str | Exporter | type[Exporter] | ExporterPlugin = "tar_shards",
        codecs: ValueCodec | Sequence[ValueCodec] = (),
        name: str = "",
        progress: bool | None = None,
        allow_pickle: bool = False,
        keep_files: bool = True,
        **options: Unpack[OptionArguments],
    ) -> None:
        if shard_bytes <= 0:
            raise ValueError(f"shard_bytes must be more than 0, not {shard_bytes!r}")
        self._address = given_address(address)
        self._profile = get_profile(profile).with_chunker(chunker)
        self._form = form
        self._name = name
        self.published_name: str | None = None
        self._progress = progress
        self._options = Options.from_arguments(options)
        self.uploaded = UploadCount()
        self._exporter_options = ExporterOptions(
            profile=profile,
            chunker=self._profile.chunker_name,
            shard_bytes=shard_bytes,
            codecs=checked_codecs(codecs),
            allow_pickle=allow_pickle,
            keep_files=keep_files,
        )

    def __repr__(self) -> str:
        """Returns the type and the address without secrets."""
        where = "the node of this machine, or its store" if self._address is None else self._address
        return f"<{type(self).__name__} to {redacted(where)}>"

    def export_to_ipfs(
        self,
        dataset: Any,
        *,
        name: str | None = None,
        card: DatasetCard | str | os.PathLike[str] | None = None,
        ipns: str | None = None,
        create_key: bool = False,
        allow_empty: bool = False,
    ) -> str:
        """Publishes a dataset, pins it, and returns its CID.

        Only blocks that the node or store lacks are sent. Repeating an interrupted export therefore resumes
        it, and exporting a new version sends only the changes. A ``.car`` file is always written in full.

        Args:
            dataset: A map-style or iterable dataset, or any ordered iterable of samples. An array or tensor
                is split along its first dimension.
            name: Name of the pin; by default the exporter's own name.
            card: Describes the dataset: a `DatasetCard`, or the path of a ``README.md`` with a YAML header.
                It is stored with the dataset and shown on its page.
            ipns: Name of a key of the node. The IPNS name of that key is updated to point to this dataset;
                see `published_name`.
            create_key: Whether the node creates the key if it has none of that name.
            allow_empty: Whether to publish a dataset without samples. By default that is an error, because
                it may be an exhausted iterator.

        Raises:
            ExportError: `dataset` is not a dataset (but a path, a dict, a set, a DataLoader…), has no samples
                or fewer than its length, or part of a sample cannot be exported; the message names that part.
            TransportError: The node or store did not accept the blocks, or has no such key.
            FormatError: The README given as the card has no YAML header, or names an unknown licence.
        """
        _, exporter = named_exporter(self._form, self._described(dataset, card))
        self.uploaded = count = UploadCount()

        def samples() -> Iterator[Any]:
            return samples_of(
                dataset, progress=self._progress, allow_empty=allow_empty, status=lambda: count
            )

        with short_traceback:
            root = self._publish(
                exporter.export,
                samples(),
                count,
                name=name,
                ipns=ipns,
                create_key=create_key,
                again=samples if can_be_read_again(dataset) else None,
            )
        return str(root)

    def export_part(
        self,
        samples: Any,
        *,
        part: int,
        ledger: str | os.PathLike[str] | None = None,
        upload: bool = True,
    ) -> dict[str, Any]:
        """Publishes one part of a dataset, pins it, and returns its record, which `assemble` takes.

        The parts of a dataset may be exported by any number of processes and machines, to the same node or to
        different nodes. The same samples give the same record, so an interrupted part can simply be exported
        again.

        Args:
            samples: The samples of the part, in any form that `export_to_ipfs` accepts; may be empty.
            part: The number of the part. Parts are numbered from 0, in the order of their samples.
            ledger: A file of JSON lines with the records of finished parts. If it contains this part, that
                record is returned without reading any sample; otherwise the record is added once the part is
                pinned.
            upload: Whether to store and pin the part. If False, the record is the same, because the CIDs of
                the shards do not depend on the upload, but nothing is added to the ledger.

        Returns:
            A small JSON object: the number and root of the part, its form and profile, the number of samples
            and bytes, the schema, the CID and sizes of each shard and index, and the part's contribution to
            the page of the dataset.

        Raises:
            ExportError: A sample cannot be exported, the form does not support parts, or the ledger contains
                the part with another form or profile.
            FormatError: The ledger is damaged.
            TransportError: The node or store did not accept the blocks.
            ValueError: The number is negative, or not below 2^32.
        """
        if isinstance(part, bool) or not 0 <= operator.index(part) < MAX_PARTS:
            raise ValueError(f"part must be a number from 0 to {MAX_PARTS - 1}, not {part!r}")
        part = operator.index(part)
        finished = None if ledger is None or not upload else Ledger(ledger)
        name, exporter = named_exporter(self._form, self._described(samples, None))
        settings = self._settings(name)
        if finished is not None and (record := finished.find(part, settings)) is not None:
            return record
        self.uploaded = count = UploadCount()
        contents: list[dict[str, Any]] = []

        def given() -> Iterator[Any]:
            return samples_of(
                samples, progress=self._progress, allow_empty=True, status=lambda: count
            )

        def write(some: Iterable[Any], sink: FileSink) -> None:
            contents.append(exporter.export_part(some, sink))

        with short_traceback:
            if upload:
                again = given if can_be_read_again(samples) else None
                root = self._publish(write, given(), count, again=again)
            else:
                sink = TreeSink(self._profile, lambda _, block: count.made(len(block)))
                write(given(), sink)
                root = sink.finish()
        record = make_record(part, root, contents[-1], settings)
        if finished is not None:
            finished.add(record)
        return record

    def assemble(
        self,
        parts: Parts,
        *,
        name: str | None = None,
        card: DatasetCard | str | os.PathLike[str] | None = None,
        pin: Pin = "recursive",
        mixed: bool = False,
        allow_empty: bool = False,
    ) -> str:
        """Publishes the dataset that consists of exported parts, and returns its CID.

        Only directories, the manifest and the metadata are written. No bytes of shards are read or moved, and
        the nodes that store the shards need not be reachable.

        Args:
            parts: The records that `export_part` returned, in any order, or the path of a ledger, or a list
                of records and ledgers.
            name: Name of the pin; by default the exporter's own name.
            card: Describes the dataset; see `export_to_ipfs`.
            pin: ``"recursive"`` pins the whole dataset, which requires that this node or store has, or can
                fetch, every shard; ``"direct"`` pins only the blocks written here, if other nodes have pinned
                the shards; None pins nothing.
            mixed: Whether parts may have samples of different structure. By default that is an error, because
                the parts may belong to different datasets.
            allow_empty: Whether to publish a dataset without samples.

        Raises:
            ExportError: Parts are missing, given twice, or do not belong together; or there are no samples.
            FormatError: A record or a ledger is damaged; or the README given as the card has no YAML header,
                or names an unknown licence.
            OSError: A ledger cannot be read.
            TransportError: The node or store did not accept the blocks, or lacks blocks that are to be
                pinned.
        """
        form, exporter = named_exporter(self._form, self._described(None, card))
        records = read_parts(parts, self._settings(form))
        if not allow_empty and not any(record.get("samples") for record in records):
            raise ExportError(
                "the parts have no samples, so nothing is published. Pass allow_empty=True where an empty "
                "dataset is meant"
            )
        self.uploaded = count = UploadCount()

        def write(given: Iterable[Any], sink: FileSink) -> None:
            exporter.assemble(list(given), sink, mixed=mixed)

        with short_traceback:
            try:
                return str(self._publish(write, records, count, name=name, pin=pin))
            except ObjectNotFoundError as error:
                raise with_advice(
                    error,
                    "The parts are not all here: give pin='direct' where other nodes have them, and have "
                    "pinned them",
                ) from error

    def _settings(self, form: str) -> dict[str, str | None]:
        """Returns the settings that must be equal in all parts of a dataset."""
        return {"form": form, "profile": self._profile.name, "chunker": self._profile.chunker_name}

    def _publish(
        self,
        write: Callable[[Iterable[Any], FileSink], object],
        samples: Iterable[Any],
        count: UploadCount,
        *,
        name: str | None = None,
        ipns: str | None = None,
        create_key: bool = False,
        again: Callable[[], Iterable[Any]] | None = None,
        pin: Pin = "recursive",
    ) -> CID:
        """Stores and pins the files written by a function, at the address of this exporter; see `publish`."""
        self.published_name = None
        with closing(connect_for_writing(self._address, self._options)) as transport:
            try:
                if ipns is not None:
                    find_key(transport, ipns, create=create_key)
                root = publish(
                    write,
                    samples,
                    transport,
                    self._profile,
                    retries=self._options.retries,
                    deadline=self._options.deadline,
                    name=self._name if name is None else name,
                    count=count,
                    again=again,
                    pin=pin,
                )
                if ipns is not None:
                    self.published_name = publish_new_version(transport, root, ipns)
                    log.info("The name %s points to %s", self.published_name, root)
            except TransportError as error:
                hint = mistaken_port(transport.name)
                # Errors of the user's dataset, which may read from other sources, pass through unchanged.
                if hint is None or not str(error).startswith(transport.name):
                    raise
                raise with_advice(error, hint) from error
            return root

    def _described(
        self, dataset: Any, card: DatasetCard | str | os.PathLike[str] | None
    ) -> ExporterOptions:
        """Returns options for an exporter, with the card and the class names of a dataset."""
        given = as_card(card)
        own = given.classes if given is not None else ()
        classes = class_numbers(own) if own else classes_of(dataset)
        return attrs.evolve(self._exporter_options, card=given, classes=classes)

    def import_from_ipfs(
        self,
        url: str,
        *,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> ImportedDataset:
        """Opens a published dataset.

        Args:
            url: Any form of URL that `IPFSObject` accepts.
            transform: Applied to each sample when it is read, in the process that reads it: to the first part
                of a tuple, or to the whole of any other sample.
            target_transform: Applied to the second part of samples that are tuples.

        Raises:
            AddressError: The URL cannot be used.
            FormatError: The object is not a published dataset, or is damaged.
            TransportError: No source delivered the object.
        """
        with short_traceback:
            connections = connections_to_published(self._address, self._options, url)
            try:
                forms = exporters_of(self._form, self._exporter_options)
                return ImportedDataset(
                    find_published(url, connections, forms),
                    transform=transform,
                    target_transform=target_transform,
                )
            except BaseException:
                connections.close()
                raise
