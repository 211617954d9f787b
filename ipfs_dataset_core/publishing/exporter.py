"""Exports a PyTorch dataset to IPFS and imports it again: equal samples, no pickle."""

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
    """Publishes datasets and reads published ones.

    Samples may be tensors, numpy arrays, PIL images, text, bytes, numbers, bool, None, and tuples, lists
    and dicts of them.

    Args:
        address: A node's RPC API, such as ``/ip4/127.0.0.1/tcp/5001``, or a folder or ``.car`` file; None
            is the node that runs on this machine, else the embedded store.
        profile: How files and directories become blocks, on which the CIDs depend; the name of an import
            profile.
        chunker: Where files are cut into leaves, on which the CIDs depend too. ``"samples"`` ends leaves
            behind samples that are chosen by their content, so that a new version has most leaves in common
            with the one before; ``"samples-262144"`` makes leaves of at most so many bytes, and the smaller
            they are, the fewer bytes do scattered changes make new. ``"size-1048576"`` and ``"buzhash"`` give
            the CIDs of ``ipfs add`` with such a ``--chunker``.
        shard_bytes: How many bytes a shard may have; on average shards have six tenths of that, since they
            end where the content determines it.
        form: In which form to publish: the name of an exporter plugin, or an exporter. Datasets are
            imported in any installed form.
        codecs: How to encode values of further types: one codec, or several.
        name: What to call the pins of what is exported, as nodes and stores list them.
        progress: Whether to show a progress bar; None shows one on a terminal.
        allow_pickle: Pickle values that have no codec, and unpickle when importing. Unpickling runs
            whatever code the author of the dataset put into it.
        keep_files: Publish images as the files that they come from, byte for byte and with their EXIF, where
            those give the same images; False publishes the pixels alone, as PNG.
        **options: See `Options`.

    Attributes:
        uploaded: What the last export made, what of it was there already, and what was sent; it counts
            while an export runs. ``str(exporter.uploaded)`` is such as "57.4 MB, 54.1 MB already there".
        published_name: The IPNS name ``k51…`` that points to the last export, None if no key was given.

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
        form: str | Exporter | ExporterPlugin = "tar_shards",
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
        """Returns where it publishes, without secrets."""
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

        Only blocks that the node or store does not have are sent, so that an export that was interrupted
        goes on where it was when it is run again, and that of a new version sends what has changed. A
        ``.car`` file is always written as a whole.

        Args:
            dataset: A map-style or iterable dataset, or any ordered iterable of samples; those of an array or
                tensor are its parts along the first dimension.
            name: What to call its pin; None is the exporter's own name.
            card: What the dataset is: a `DatasetCard`, or the path of a ``README.md`` whose header is YAML.
                It is kept with the dataset and shown on its page.
            ipns: A key, as the node calls it, whose IPNS name is to point to this dataset from now on; see
                `published_name`.
            create_key: Whether the node makes that key where it has none of that name.
            allow_empty: Whether to publish a dataset that has no samples. By default that is an error, for
                it may be an exhausted iterator.

        Raises:
            ExportError: It is no dataset (a path, a dict, a set, a DataLoader…), has no samples or fewer
                than its length, or a sample has a part that cannot be exported; the message names it.
            TransportError: The node or store did not take the blocks, or has no such key.
            FormatError: The README that is given as the card has none, or an unknown licence.
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

        The parts of a dataset may be exported by any number of processes and machines, to one node or each
        to another. The same samples give the same record, so that a part whose export was interrupted is
        just exported again.

        Args:
            samples: The samples of the part, as `export_to_ipfs` takes a dataset; there may be none.
            part: The number of the part. Parts are numbered from 0, in the order of their samples.
            ledger: A file of JSON lines with the records of finished parts. Where it has this part, that
                record is returned, and no sample is read; else the record is added when the part is
                pinned.
            upload: Whether to store and pin anything. Without it, the record is the same: the CIDs of the
                shards are known before they are uploaded. The ledger is left alone then.

        Returns:
            A small JSON object: the number and the root of the part, its form and profile, samples, bytes,
            schema, for each shard and its index the CID, the bytes and the bytes of all blocks, and what the
            page of the dataset shows of the part.

        Raises:
            ExportError: A sample cannot be exported, the form is not written in parts, or the ledger has
                the part with another form or profile.
            FormatError: The ledger is damaged.
            TransportError: The node or store did not take the blocks.
            ValueError: The number is negative, or larger than 2^32.
        """
        if isinstance(part, bool) or not 0 <= operator.index(part) < MAX_PARTS:
            raise ValueError(f"part is a number from 0 to {MAX_PARTS - 1}, not {part!r}")
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
        """Publishes the dataset that exported parts make, and returns its CID.

        Only directories, the manifest and the metadata are made and stored: no byte of a shard is read or
        moved, and the nodes that have the shards need not be reached.

        Args:
            parts: The records that `export_part` returned, in any order, or the path of a ledger, or a list
                of records and ledgers.
            name: What to call its pin; None is the exporter's own name.
            card: What the dataset is, as `export_to_ipfs` takes it.
            pin: ``"recursive"`` pins all of the dataset, where this node or store has, or can fetch, every
                shard; ``"direct"`` pins the blocks that are made here and none of the shards, which the
                nodes of the parts have pinned; None pins nothing.
            mixed: Whether the samples of different parts may differ in how they are made of values. By
                default that is an error, for the parts may be of different datasets.
            allow_empty: Whether to publish a dataset that has no samples.

        Raises:
            ExportError: Parts are missing, given twice, or do not belong together; or there are no samples.
            FormatError: A record or a ledger is damaged; or the README that is given as the card has none, or
                an unknown licence.
            OSError: A ledger cannot be read.
            TransportError: The node or store did not take the blocks, or lacks what should be pinned.
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
        """Returns what has to be the same for all parts of a dataset."""
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
        """Stores and pins what a function writes at the address of this exporter, as `publish` does."""
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
                # Errors of the user's own dataset, which may read from other sources, pass unchanged.
                if hint is None or not str(error).startswith(transport.name):
                    raise
                raise with_advice(error, hint) from error
            return root

    def _described(
        self, dataset: Any, card: DatasetCard | str | os.PathLike[str] | None
    ) -> ExporterOptions:
        """Returns the options of an exporter that publishes a dataset, with its card and names of classes."""
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
        """Returns a published dataset.

        Args:
            url: Any form of URL of an object in IPFS, as `IPFSObject` takes it.
            transform: Applied to each sample as it is read, in the process that reads it: to the first part
                of a tuple, to all of any other sample.
            target_transform: Applied to the second part of samples that are tuples.

        Raises:
            AddressError: The URL cannot be used.
            FormatError: The object is not a published dataset, or damaged.
            TransportError: The sources did not deliver.
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
