"""Iterates over the samples of a user's dataset, map-style or iterable, with a progress bar."""

from __future__ import annotations

import inspect
import io
import os
import sys
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from ipfs_dataset_core.errors import ExportError
from ipfs_dataset_core.publishing.dataset_files import (
    warn_of_transform,
    with_file,
    with_stored_images,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_NOTHING = (
    "the dataset has no samples, so nothing is published. Perhaps an iterator was exhausted, or a filter "
    "removed every sample. Pass allow_empty=True to publish an empty dataset"
)


def samples_of(
    dataset: Any,
    *,
    progress: bool | None,
    allow_empty: bool = False,
    status: Callable[[], object] = str,
) -> Iterator[Any]:
    """Returns an iterator over the samples of a dataset, in order.

    Exceptions of the dataset pass through, from Python 3.11 on with a note that names the sample. Exceptions
    are `IndexError` and `KeyError` for an index below the length, and `StopIteration`, which become errors.

    Args:
        dataset: A map-style dataset, with indices from 0 to its length, or any iterable.
        progress: Whether to show a bar on standard error; None shows one if that is a terminal.
        allow_empty: Whether the dataset may be empty.
        status: Returns text for the bar to show beside the number of samples; called whenever it is drawn.

    Raises:
        ExportError: It is not a dataset (raised by this function), or has fewer samples than its length
            (raised by the iterator).
    """
    if (reason := _why_not(dataset)) is not None:
        raise ExportError(reason)
    total = _length(dataset)
    by_index = hasattr(dataset, "__getitem__") and total is not None
    if by_index and not _is_iterable_dataset(dataset):
        samples = _by_number(dataset, total or 0)
    elif hasattr(dataset, "__iter__"):
        samples = _in_order(dataset, total)
    else:
        raise ExportError(
            f"{dataset!r:.200} is not a dataset: it needs __len__ and __getitem__, or __iter__"
        )
    show = sys.stderr.isatty() if progress is None else progress
    shown: Iterable[Any] = samples
    if show:
        bar = _Bar(samples, total=total, unit=" samples")
        bar.status = status
        shown = bar
    return iter(shown if allow_empty else _not_empty(shown))


class _Bar(tqdm):  # type: ignore[type-arg] # at run time it takes no parameter
    """A progress bar followed by a status text, which is computed only when the bar is drawn."""

    status: Callable[[], object] = str

    @property
    def format_dict(self) -> Any:
        return {**super().format_dict, "postfix": str(self.status())}


def can_be_read_again(dataset: Any) -> bool:
    """Returns whether a dataset can be iterated more than once, unlike an iterator."""
    return not hasattr(dataset, "__next__")


def _by_number(dataset: Any, total: int) -> Iterator[Any]:
    for index in range(total):
        try:
            sample = dataset[index]
        except Exception as error:
            if not isinstance(error, (IndexError, KeyError, StopIteration)):
                _note_sample(error, dataset, index)
                raise
            raise ExportError(
                f"{_name(dataset)} has the length {total}, but its sample {index} cannot be looked up "
                f"({type(error).__name__}: {error}): correct its __len__ or __getitem__, which takes the "
                "numbers from 0 to the length, or export an iterable of its samples"
            ) from error
        if index == 0:
            warn_of_transform(sample, dataset, index)
        yield with_file(sample, dataset, index)


def _in_order(dataset: Iterable[Any], total: int | None) -> Iterator[Any]:
    count = 0
    try:
        for sample in with_stored_images(dataset):
            count += 1
            yield sample
    except Exception as error:
        _note_sample(error, dataset, count)
        raise
    if total is not None and count < total:
        raise ExportError(
            f"{_name(dataset)} has the length {total}, but yielded {count} samples: correct its __len__, or "
            "export iter(dataset) if that is all of it"
        )


def _note_sample(error: Exception, dataset: Any, index: int) -> None:
    """Adds a note to an exception of a dataset that names the sample, if this Python supports notes.

    `publish` adds how far the upload got.
    """
    if sys.version_info >= (3, 11):
        error.add_note(
            f"Raised by {_name(dataset)} for sample {index} of an export, so nothing is published: correct "
            "or leave out that sample, and run the export again"
        )


def _not_empty(samples: Iterable[Any]) -> Iterator[Any]:
    empty = True
    for sample in samples:
        empty = False
        yield sample
    if empty:
        raise ExportError(_NOTHING)


def _why_not(dataset: Any) -> str | None:  # noqa: PLR0911 - one for each kind of object
    """Returns why an iterable object should not be exported; None if there is no reason."""
    name = _name(dataset)
    if isinstance(dataset, (str, os.PathLike)):
        return (
            f"{dataset!r:.200} is a {name}, not a dataset: publish files and folders as they are with "
            "`ipfs add -r --cid-version=1`, or export what a dataset reads from them, such as "
            "torchvision.datasets.ImageFolder(…); a text alone is exported in a list, [text]"
        )
    if isinstance(dataset, (bytes, bytearray, memoryview)):
        return (
            f"a {name} is not a dataset: its samples would be numbers, one per byte. Export it in a list, "
            "[data], if it is one sample"
        )
    if isinstance(dataset, io.IOBase):
        return (
            f"an open file ({name}) is not a dataset: its samples would be its lines. Export list(file) if "
            "you want the lines, or [file.read()]"
        )
    if isinstance(dataset, type):
        return f"{name} is a class: export an instance of it, {dataset.__name__}(…)"
    if inspect.isroutine(dataset):
        return f"{dataset!r:.200} is a function: export what it returns, by calling it"
    if isinstance(dataset, Mapping) and list(dataset) != list(range(len(dataset))):
        return (
            f"a {name} with the keys {_some(dataset)} is not a dataset, whose samples are numbered from 0. "
            "Export list(x.values()) or list(x.items()); if it has a dataset for each split, export "
            "each of them; if it is one sample, export [x]"
        )
    if isinstance(dataset, AbstractSet) and not _is_view(dataset):
        return f"a {name} has no order, and so no CID of its own: export sorted(x) or list(x)"
    if inspect.isgenerator(dataset) and inspect.getgeneratorstate(dataset) == inspect.GEN_CLOSED:
        return f"the generator {dataset.__name__!r} is exhausted: create a new one for each export"
    if getattr(dataset, "ndim", None) == 0:
        return f"a {name} without dimensions is not a dataset: export it in a list, [x], as a single sample"
    if _is_batching(dataset):
        return (
            f"a {name} yields batches: export its dataset, loader.dataset, or iter(loader) if each batch "
            "is to be a sample"
        )
    return None


def _is_view(dataset: Any) -> bool:
    """Returns whether an object is the keys or items of a dict, which are ordered."""
    return isinstance(dataset, (type({}.keys()), type({}.items())))


def _is_batching(dataset: Any) -> bool:
    data = sys.modules.get("torch.utils.data")
    return (
        data is not None
        and isinstance(dataset, data.DataLoader)
        and dataset.batch_sampler is not None
    )


def _is_iterable_dataset(dataset: Any) -> bool:
    """Returns whether an object is torch's `IterableDataset`, whose ``__getitem__`` only raises."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(dataset, data.IterableDataset)


def _length(dataset: Any) -> int | None:
    """Returns the length of a dataset; None if it has none.

    Raises:
        ExportError: The length is negative, too large, or not an integer.
    """
    try:
        return len(dataset)
    except NotImplementedError:
        return None
    except TypeError as error:
        # Iterable datasets raise it if the length is only known after reading.
        if hasattr(dataset, "__iter__") or not hasattr(dataset, "__len__"):
            return None
        raise ExportError(f"{_name(dataset)} has no usable length: {error}") from error
    except (ValueError, OverflowError) as error:
        raise ExportError(f"{_name(dataset)} has no usable length: {error}") from error


def _some(mapping: Mapping[Any, Any]) -> str:
    first = [repr(key)[:40] for key, _ in zip(mapping, range(3), strict=False)]
    return ", ".join([*first, "…"] if len(mapping) > len(first) else first)


def _name(dataset: Any) -> str:
    kind = dataset if isinstance(dataset, type) else type(dataset)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
