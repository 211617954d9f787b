"""Detects libraries that distribute samples to ranks or workers themselves while they read a dataset.

accelerate prepares a loader to read the whole dataset, in every process or in the first one, and gives each
process its part. A Hugging Face dataset gives its workers shards. If a stream or sampler distributed its
samples as well, most of them would never be read. Neither library announces itself, but it is on the call
stack during the read, so its objects are looked for there, and only if the library was imported.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_ACCELERATE = "accelerate.data_loader"
# Modules of Hugging Face's datasets that read from a generator. User packages may have the same name, so
# objects must also be instances of the library's classes.
_STREAMS, _BUILDERS = "datasets.iterable_dataset", "datasets.builder"

# Packages of Lightning's Trainer. Its Fabric does not count batches.
_TRAINERS = ("lightning.pytorch", "pytorch_lightning")


@attrs.frozen
class OuterSharding:
    """What another library distributes of the samples that are being read.

    Args:
        ranks: Whether it distributes samples to ranks, so that all of them have to be yielded.
        workers: Whether it distributes samples to the workers of a DataLoader.
        dispatched: Whether one process reads for all ranks.
        split_batches: Whether each rank gets a slice of every batch rather than whole batches in turn.
    """

    ranks: bool = False
    workers: bool = False
    dispatched: bool = False
    split_batches: bool = False


_NONE = OuterSharding()


def is_length_of_epoch() -> bool:
    """Returns whether `len` must currently be the length of a whole epoch, even after a resume.

    Lightning's Trainer continues the batch count of its checkpoint, and trains until the count reaches the
    length of the loader. With the number of remaining batches as the length, it would end this epoch and all
    following ones early.
    """
    return is_read_by(*_TRAINERS)


def is_read_by(*packages: str) -> bool:
    """Returns whether a function of one of these packages is on the call stack of this thread."""
    if not any(name in sys.modules for name in packages):
        return False
    return any(str(frame.f_globals.get("__name__")).startswith(packages) for frame in _frames())


def outer_sharding() -> OuterSharding:
    """Returns what the libraries on the call stack of this thread distribute."""
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
        kind = type(reader)  # accelerate's loaders report torch's class as theirs
        if issubclass(kind, (*shards, *dispatchers)):
            ranks = True
            dispatched |= issubclass(kind, dispatchers)
            split |= bool(getattr(reader, "split_batches", False))
        elif issubclass(kind, streams):
            # Without `split_dataset_by_node`, every rank iterates over the whole dataset.
            workers, ranks = True, ranks or getattr(reader, "_distributed", None) is not None
        elif issubclass(kind, builders):  # writes all samples to files that every rank reads
            ranks = workers = True
    return OuterSharding(ranks, workers, dispatched, split)


def _classes(loaded: dict[str, Any], module: str, *names: str) -> tuple[type, ...]:
    found = [getattr(loaded.get(module), name, None) for name in names]
    return tuple(kind for kind in found if isinstance(kind, type))


def _readers(modules: Any) -> Iterator[Any]:
    """Yields the objects whose methods, defined in these modules, are on the call stack."""
    for frame in _frames():
        if frame.f_globals.get("__name__") in modules and "self" in frame.f_code.co_varnames:
            yield frame.f_locals.get("self")


def _frames() -> Iterator[FrameType]:
    """Yields the frames on the call stack of this thread, innermost first."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - see the module docstring
    while frame is not None:
        yield frame
        frame = frame.f_back
