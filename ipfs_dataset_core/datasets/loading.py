"""``load``: opens whatever is at a CID or URL as a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core.datasets.decoding import Decoders
from ipfs_dataset_core.datasets.imported import ImportedDataset
from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.datasets.map_style import IPFSDataset
from ipfs_dataset_core.datasets.objects import DatasetObject
from ipfs_dataset_core.datasets.published import NotPublishedError, exporters_of, find_published
from ipfs_dataset_core.datasets.transforms import sample_transform
from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject
from ipfs_dataset_core.interfaces.value_codec import checked_codecs
from ipfs_dataset_core.options import OptionArguments, Options
from ipfs_dataset_core.reading.connections import connections_to_published
from ipfs_dataset_core.runtime.short_traceback import short_traceback

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from typing_extensions import Unpack

    from ipfs_dataset_core.datasets.decoding import Decoder
    from ipfs_dataset_core.datasets.shards import Shard
    from ipfs_dataset_core.interfaces.value_codec import ValueCodec

# The form that is tried first.
_FORM = "tar_shards"


class LoadArguments(OptionArguments, total=False):
    """The keyword arguments of `load`: those of `Options`, and some that only apply to certain objects.

    Attributes:
        decoders: As for `IPFSDataset`; for archives, folders and files.
        codecs: As for `IPFSDatasetExporter`; for published datasets.
        allow_pickle: As for `IPFSDatasetExporter`; for published datasets.
    """

    decoders: Mapping[str, Decoder]
    codecs: ValueCodec | Sequence[ValueCodec]
    allow_pickle: bool


def load(
    cid_or_url: str | IPFSObject,
    address: str | os.PathLike[str] | None = None,
    *,
    transform: Callable[[Any], Any] | None = None,
    target_transform: Callable[[Any], Any] | None = None,
    **options: Unpack[LoadArguments],
) -> ImportedDataset | IPFSDataset | IPFSIterableDataset:
    """Opens whatever is at a CID or URL as a dataset.

    A published dataset gives its samples; an archive, a folder or a file gives ``(name, bytes)``, like
    `IPFSDataset`. An object without random access, such as a compressed TAR, becomes an
    `IPFSIterableDataset`.

    Args:
        cid_or_url: Any form of URL of an object in IPFS, or an `IPFSObject`, whose `filetype` is respected.
        address: Where to read, as for `IPFSDataset`. None uses the node or store to which datasets are
            published from this machine, if there is one, then gateways as for `IPFSDataset`.
        transform: Applied to the data of each sample when it is read, in the process that reads it: the first
            part of a published sample that is a tuple, the whole of any other published sample, or the bytes
            of a file.
        target_transform: Applied to what accompanies the data: the second part of a published sample that is
            a tuple, or the name of a file.
        **options: Fields of `Options`, and `decoders`, `codecs` and `allow_pickle`.

    Raises:
        AddressError: The CID is malformed, or there is no source to read from.
        ObjectNotFoundError: A verified directory proves that the path does not exist.
        TransportError: No source delivered the object.
        FormatError: The object is damaged.
    """
    given_decoders = options.pop("decoders", None)
    decoders = None if given_decoders is None else Decoders(given_decoders)
    exporter_options = ExporterOptions(
        codecs=checked_codecs(options.pop("codecs", ())),
        allow_pickle=options.pop("allow_pickle", False),
    )
    chosen = Options.from_arguments(options)
    given = cid_or_url if isinstance(cid_or_url, IPFSObject) else IPFSObject(cid_or_url)
    published = sample_transform(transform, target_transform, data=0)
    with short_traceback:
        connections = connections_to_published(address, chosen, given.url)
        try:
            if given.filetype is None:
                try:
                    forms = exporters_of(_FORM, exporter_options)
                    found = find_published(given.url, connections, forms)
                except NotPublishedError:
                    pass
                else:
                    return ImportedDataset(
                        found, transform=transform, target_transform=target_transform
                    )
            item = DatasetObject(given, connections, decoders)
            files = published and attrs.evolve(published, data=1)
            if all(map(_has_random_access, _one_of_each_kind(item.shards()))):
                return IPFSDataset.of_objects(connections, [item], files)
            return IPFSIterableDataset.of_objects(connections, [item], files)
        except BaseException:
            connections.close()
            raise


def _one_of_each_kind(shards: Iterable[Shard]) -> Iterable[Shard]:
    """Returns one shard of each suffix, so that only one of a thousand archives in a folder is opened.

    If another of them allows no random access, reading it raises an error.
    """
    return {shard.what.rpartition("/")[2].partition(".")[2]: shard for shard in shards}.values()


def _has_random_access(shard: Shard) -> bool:
    """Returns whether samples can be read by number, using as few requests as possible."""
    if shard.is_splittable():
        return True
    try:
        len(shard)
    except FormatError:
        return False
    return True
