"""Exports a PyTorch dataset to IPFS and imports it again: equal samples, no pickle."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.addressing.sources import given_address, mistaken_port
from ipfs_dataset_core.datasets.imported import ImportedDataset
from ipfs_dataset_core.datasets.published import exporters_of, find_published, named_exporter
from ipfs_dataset_core.errors import TransportError
from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.ipld import get_profile
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.publishing.dataset_samples import can_be_read_again, samples_of
from ipfs_dataset_core.publishing.publish import publish
from ipfs_dataset_core.publishing.upload import UploadCount
from ipfs_dataset_core.reading.connections import connect_for_writing, connections_to_published

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Unpack

    from ipfs_dataset_core.interfaces import Exporter, ExporterPlugin
    from ipfs_dataset_core.interfaces.value_codec import ValueCodec
    from ipfs_dataset_core.options import OptionArguments


class IPFSDatasetExporter:
    """Publishes datasets and reads published ones.

    Samples may be tensors, numpy arrays, PIL images, text, bytes, numbers, bool, None, and tuples, lists
    and dicts of them.

    Args:
        address: A node's RPC API, such as ``/ip4/127.0.0.1/tcp/5001``, or a folder or ``.car`` file; None
            is the node that runs on this machine, else the embedded store.
        profile: How files are cut into blocks, on which the CIDs depend; the name of an import profile.
        shard_bytes: How large a shard may become.
        form: In which form to publish: the name of an exporter plugin, or an exporter. Datasets are
            imported in any installed form.
        codecs: How to encode values of further types.
        progress: Whether to show a progress bar; None shows one on a terminal.
        allow_pickle: Pickle values that have no codec, and unpickle when importing. Unpickling runs
            whatever code the author of the dataset put into it.
        keep_files: Publish images as the files that they come from, byte for byte and with their EXIF, where
            those give the same images; False publishes the pixels alone, as PNG.
        **options: See `Options`.

    Attributes:
        uploaded: What the last export made, what of it was there already, and what was sent; it counts
            while an export runs. ``str(exporter.uploaded)`` is such as "57.4 MB, 54.1 MB already there".
    """

    def __init__(
        self,
        address: str | os.PathLike[str] | None = None,
        *,
        profile: str = "unixfs-v1-2025",
        shard_bytes: int = 256 << 20,
        form: str | Exporter | ExporterPlugin = "tar_shards",
        codecs: Sequence[ValueCodec] = (),
        progress: bool | None = None,
        allow_pickle: bool = False,
        keep_files: bool = True,
        **options: Unpack[OptionArguments],
    ) -> None:
        if shard_bytes <= 0:
            raise ValueError(f"shard_bytes must be more than 0, not {shard_bytes!r}")
        self._address = given_address(address)
        self._profile = get_profile(profile)
        self._form = form
        self._progress = progress
        self._options = Options.from_arguments(options)
        self.uploaded = UploadCount()
        self._exporter_options = ExporterOptions(
            profile=profile,
            shard_bytes=shard_bytes,
            codecs=tuple(codecs),
            allow_pickle=allow_pickle,
            keep_files=keep_files,
        )

    def export_to_ipfs(self, dataset: Any, *, allow_empty: bool = False) -> str:
        """Publishes a dataset, pins it, and returns its CID.

        Only blocks that the node or store does not have are sent, so that an export that was interrupted
        goes on where it was when it is run again, and that of a new version sends what has changed.

        Args:
            dataset: A map-style or iterable dataset, or any ordered iterable of samples; of an array or
                tensor they are what its first dimension counts.
            allow_empty: Whether to publish a dataset that has no samples. By default that is an error, for
                it may be an exhausted iterator.

        Raises:
            ExportError: It is no dataset (a path, a dict, a set, a DataLoader…), has no samples or fewer
                than its length, or a sample has a part that cannot be exported; the message names it.
            TransportError: The node or store did not take the blocks.
        """
        _, exporter = named_exporter(self._form, self._exporter_options)
        self.uploaded = count = UploadCount()

        def samples() -> Iterator[Any]:
            return samples_of(
                dataset, progress=self._progress, allow_empty=allow_empty, status=lambda: count
            )

        first = samples()
        with closing(connect_for_writing(self._address, self._options)) as transport:
            try:
                root = publish(
                    first,
                    exporter,
                    transport,
                    self._profile,
                    retries=self._options.retries,
                    deadline=self._options.deadline,
                    count=count,
                    again=samples if can_be_read_again(dataset) else None,
                )
            except TransportError as error:
                hint = mistaken_port(transport.name)
                # Errors of the user's own dataset, which may read from other sources, pass unchanged.
                if hint is None or not str(error).startswith(transport.name):
                    raise
                raise type(error)(f"{error} ({hint})") from error
            return str(root)

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
            FormatError: What is there is not a published dataset, or damaged.
            TransportError: The sources did not deliver.
        """
        connections = connections_to_published(self._address, self._options, url)
        try:
            return ImportedDataset(
                find_published(url, connections, exporters_of(self._form, self._exporter_options)),
                transform=transform,
                target_transform=target_transform,
            )
        except BaseException:
            connections.close()
            raise
