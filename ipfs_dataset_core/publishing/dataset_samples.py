"""Iterates over the samples of the user's dataset, map-style or iterable, with a progress bar."""

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
from ipfs_dataset_core.publishing.dataset_files import warn_of_transform, with_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_NOTHING = (
    "the dataset has no samples, so nothing is published: has an iterator been used up, or a filter left "
    "nothing? Pass allow_empty=True where an empty dataset is meant"
)


def samples_of(
    dataset: Any,
    *,
    progress: bool | None,
    allow_empty: bool = False,
    status: Callable[[], object] = str,
) -> Iterator[Any]:
    """Returns an iterator over the samples of a dataset, in order.

    Exceptions of the dataset pass through, from Python 3.11 on with a note that names the sample, except for
    an `IndexError` or `KeyError` at an index below its length, and `StopIteration`.

    Args:
        dataset: A map-style dataset, whose indices are 0 to its length, or anything that can be iterated.
        progress: Whether to show a bar on standard error; None shows one if that is a terminal.
        allow_empty: Whether a dataset may have no samples.
        status: Returns what the bar shows beside the number of samples, whenever it is drawn.

    Raises:
        ExportError: It is no dataset, or has fewer samples than its length; the former is raised here, the
            latter by the iterator.
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
            f"{dataset!r:.200} is no dataset: it needs __len__ and __getitem__, or __iter__"
        )
    show = sys.stderr.isatty() if progress is None else progress
    shown: Iterable[Any] = samples
    if show:
        bar = _Bar(samples, total=total, unit=" samples")
        bar.status = status
        shown = bar
    return iter(shown if allow_empty else _not_empty(shown))


class _Bar(tqdm):  # type: ignore[type-arg] # at run time it takes no parameter
    """A progress bar with a text of the moment behind it, which costs nothing per sample."""

    status: Callable[[], object] = str

    @property
    def format_dict(self) -> Any:
        return {**super().format_dict, "postfix": str(self.status())}


def can_be_read_again(dataset: Any) -> bool:
    """Returns whether a dataset yields all samples once more after it was read; iterators do not."""
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
        for sample in dataset:
            count += 1
            yield sample
    except Exception as error:
        _note_sample(error, dataset, count)
        raise
    if total is not None and count < total:
        raise ExportError(
            f"{_name(dataset)} has the length {total}, but yielded {count} samples: correct its __len__, or "
            "export iter(dataset) where that is all there is"
        )


def _note_sample(error: Exception, dataset: Any, index: int) -> None:
    """Adds to an exception of a dataset which sample it is about, where Python has notes.

    How far the upload got is added by `publish`.
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


def _why_not(dataset: Any) -> str | None:  # noqa: PLR0911 - one for each kind of what is no dataset
    """Returns why something is not exported though it can be iterated, None where nothing is against it."""
    name = _name(dataset)
    if isinstance(dataset, (str, os.PathLike)):
        return (
            f"{dataset!r:.200} is a {name}, not a dataset: publish files and folders as they are with "
            "`ipfs add -r --cid-version=1`, or export what a dataset reads from them, such as "
            "torchvision.datasets.ImageFolder(…); a text alone is exported in a list, [text]"
        )
    if isinstance(dataset, (bytes, bytearray, memoryview)):
        return (
            f"a {name} is no dataset: its samples would be numbers, one a byte. Export it in a list, "
            "[data], where it is a sample"
        )
    if isinstance(dataset, io.IOBase):
        return (
            f"an open file ({name}) is no dataset: its samples would be its lines. Export list(file) where "
            "that is meant, or [file.read()]"
        )
    if isinstance(dataset, type):
        return f"{name} is a class: export an instance of it, {dataset.__name__}(…)"
    if inspect.isroutine(dataset):
        return f"{dataset!r:.200} is a function: export what it returns, by calling it"
    if isinstance(dataset, Mapping) and list(dataset) != list(range(len(dataset))):
        return (
            f"a {name} with the keys {_some(dataset)} is no dataset, whose samples have the numbers from 0 "
            "on. Export list(x.values()) or list(x.items()); where it has a dataset for each split, export "
            "each of them; where it is one sample, export [x]"
        )
    if isinstance(dataset, AbstractSet) and not _is_view(dataset):
        return f"a {name} has no order, and so no CID of its own: export sorted(x) or list(x)"
    if inspect.isgenerator(dataset) and inspect.getgeneratorstate(dataset) == inspect.GEN_CLOSED:
        return f"the generator {dataset.__name__!r} is used up: make it anew for each export"
    if getattr(dataset, "ndim", None) == 0:
        return f"a {name} without dimensions is no dataset: export it in a list, [x], as the one sample"
    if _is_batching(dataset):
        return (
            f"a {name} yields batches: export its dataset, loader.dataset, or iter(loader) where each batch "
            "is meant to be a sample"
        )
    return None


def _is_view(dataset: Any) -> bool:
    """Returns whether it is the keys or items of a dict, which have an order."""
    return isinstance(dataset, (type({}.keys()), type({}.items())))


def _is_batching(dataset: Any) -> bool:
    data = sys.modules.get("torch.utils.data")
    return (
        data is not None
        and isinstance(dataset, data.DataLoader)
        and dataset.batch_sampler is not None
    )


def _is_iterable_dataset(dataset: Any) -> bool:
    """Returns whether it is torch's `IterableDataset`, which inherits a ``__getitem__`` that only raises."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(dataset, data.IterableDataset)


def _length(dataset: Any) -> int | None:
    """Returns the length, None if the dataset has no length.

    Raises:
        ExportError: It is negative, too large, or no integer.
    """
    try:
        return len(dataset)
    except NotImplementedError:
        return None
    except TypeError as error:
        # Iterable datasets raise it where only reading would tell.
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
