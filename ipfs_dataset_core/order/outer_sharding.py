"""Notices libraries that share samples out to ranks or workers themselves, while they read ours.

accelerate prepares a loader so that it reads the whole dataset, in every process or in the first one, and
gives each process its part. A dataset of Hugging Face gives its workers shards. A stream or sampler that
shared its samples out once more would leave most of them unread. Neither library announces itself to what it
reads, but it is on the call stack then: its objects are looked for there, and only where it was imported.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_ACCELERATE = "accelerate.data_loader"
# Modules of Hugging Face's datasets that read what a generator yields. Users have packages of that name, so
# objects have to be instances of its classes, too.
_STREAMS, _BUILDERS = "datasets.iterable_dataset", "datasets.builder"

# Packages of Lightning's Trainer. Its Fabric counts no batches.
_TRAINERS = ("lightning.pytorch", "pytorch_lightning")


@attrs.frozen
class OuterSharding:
    """What another library shares out of the samples that are being read.

    Args:
        ranks: Whether it gives every rank its part of all samples, so that all have to be yielded.
        workers: Whether it does so for the workers of a DataLoader.
        dispatched: Whether one process reads for all ranks.
        split_batches: Whether a rank gets a slice of each batch, and not a whole one in its turn.
    """

    ranks: bool = False
    workers: bool = False
    dispatched: bool = False
    split_batches: bool = False


_NONE = OuterSharding()


def is_length_of_epoch() -> bool:
    """Returns whether lengths that are asked for now are those of whole epochs, also after a resume.

    Lightning's Trainer counts the batches of an epoch on from its checkpoint, and trains until it has as many
    as the loader's length: with the number of those that are left it would end the epoch early, and all
    that follow.
    """
    return is_read_by(*_TRAINERS)


def is_read_by(*packages: str) -> bool:
    """Returns whether a function of one of these packages is on the call stack of this thread."""
    if not any(name in sys.modules for name in packages):
        return False
    return any(str(frame.f_globals.get("__name__")).startswith(packages) for frame in _frames())


def outer_sharding() -> OuterSharding:
    """Returns what is shared out by the libraries that are on the call stack of this thread."""
    loaded = {
        name: sys.modules[name]
        for name in (_ACCELERATE, _STREAMS, _BUILDERS)
        if name in sys.modules
    }
    if not loaded:
        return _NONE
    shards = _classes(
        loaded, _ACCELERATE, "DataLoaderShard", "BatchSamplerShard", "IterableDatasetShard"
    )
    dispatchers = _classes(loaded, _ACCELERATE, "DataLoaderDispatcher")
    streams = _classes(loaded, _STREAMS, "IterableDataset")
    builders = _classes(loaded, _BUILDERS, "DatasetBuilder")
    ranks = workers = dispatched = split = False
    for reader in _readers(loaded.keys()):
        kind = type(reader)  # loaders of accelerate pretend to be of torch's class
        if issubclass(kind, (*shards, *dispatchers)):
            ranks = True
            dispatched |= issubclass(kind, dispatchers)
            split |= bool(getattr(reader, "split_batches", False))
        elif issubclass(kind, streams):
            # Without `split_dataset_by_node` every rank iterates the whole dataset.
            workers, ranks = True, ranks or getattr(reader, "_distributed", None) is not None
        elif issubclass(kind, builders):  # it writes all samples to files, which every rank reads
            ranks = workers = True
    return OuterSharding(ranks, workers, dispatched, split)


def _classes(loaded: dict[str, Any], module: str, *names: str) -> tuple[type, ...]:
    found = [getattr(loaded.get(module), name, None) for name in names]
    return tuple(kind for kind in found if isinstance(kind, type))


def _readers(modules: Any) -> Iterator[Any]:
    """Yields the objects whose methods are on the call stack and defined in these modules."""
    for frame in _frames():
        if frame.f_globals.get("__name__") in modules and "self" in frame.f_code.co_varnames:
            yield frame.f_locals.get("self")


def _frames() -> Iterator[FrameType]:
    """Yields the frames on the call stack of this thread, the innermost first."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - see the module docstring
    while frame is not None:
        yield frame
        frame = frame.f_back
