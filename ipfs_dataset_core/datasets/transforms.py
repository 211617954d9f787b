"""Functions that users apply to each sample: ``transform=`` and ``target_transform=``, as in torchvision."""

from __future__ import annotations

import sys
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core.interfaces import IndexedSamples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

# Maximum number of characters of a function's name in the repr.
_LONGEST_NAME = 80


@attrs.frozen
class SampleTransform:
    """Transforms samples; can be pickled if the user's functions can.

    Args:
        transform: Applied to the data of a sample; None leaves the data unchanged.
        target_transform: Applied to the target that accompanies the data.
        data: Index of the data in a sample that is a tuple, 0 or 1; the target is the other part.
    """

    transform: Callable[[Any], Any] | None
    target_transform: Callable[[Any], Any] | None
    data: int

    def __call__(self, sample: Any, number: int | None = None) -> Any:
        """Returns a transformed sample.

        Errors of the functions are not changed, except that a note names the sample, if this Python supports
        notes.

        Args:
            sample: The sample.
            number: Its number in the dataset, for errors; None if it is unknown.

        Raises:
            TypeError: There is a `target_transform`, but the sample is not a tuple of two or more parts.
            RuntimeError: A function raised `StopIteration`, which would end an iteration before its last
                sample.
        """
        try:
            return self._transformed(sample)
        except StopIteration as error:
            found = RuntimeError(f"{self} raised StopIteration")
            _add_note(found, self._note(sample, number))
            raise found from error
        except Exception as error:
            _add_note(error, self._note(sample, number))
            raise

    def _note(self, sample: Any, number: int | None) -> str:
        parts = [] if number is None else [f"sample {number}"]
        if self.data and isinstance(sample, tuple) and sample and isinstance(sample[0], str):
            parts.append(repr(sample[0]))
        place = f" for {', '.join(parts)}" if parts else ""
        return f"Raised by {self}{place}. A handler= does not skip errors of transforms."

    def _transformed(self, sample: Any) -> Any:
        if type(sample) is not tuple or not sample:
            self._check_target(sample)
            return sample if self.transform is None else self.transform(sample)
        parts = list(sample)
        # A tuple of one part contains only data.
        data = self.data if len(parts) > 1 else 0
        if self.transform is not None:
            parts[data] = self.transform(parts[data])
        if self.target_transform is not None:
            if len(parts) == 1:
                self._check_target(sample)
            parts[1 - data] = self.target_transform(parts[1 - data])
        return tuple(parts)

    def _check_target(self, sample: Any) -> None:
        if self.target_transform is not None:
            size = " of one part" if isinstance(sample, tuple) else ""
            raise TypeError(
                "target_transform applies to samples that are tuples of data and target, but this one is a "
                f"{type(sample).__name__}{size}: leave it out, and give a transform, which gets all of it"
            )

    def __str__(self) -> str:
        """Returns the names of the functions, for a repr."""
        return ", ".join(
            f"{field.name}={_name(value)}"
            for field in attrs.fields(SampleTransform)[:2]
            if (value := getattr(self, field.name)) is not None
        )


def sample_transform(
    transform: Callable[[Any], Any] | None,
    target_transform: Callable[[Any], Any] | None,
    *,
    data: int,
) -> SampleTransform | None:
    """Returns the transform of samples; None if there are no functions.

    Raises:
        TypeError: One of them is not callable.
    """
    for name, value in (("transform", transform), ("target_transform", target_transform)):
        if value is not None and not callable(value):
            raise TypeError(
                f"{name} must be a function of one part of a sample, not {value!r:.100}"
            )
    if transform is None and target_transform is None:
        return None
    return SampleTransform(transform, target_transform, data)


class TransformedSamples(IndexedSamples):
    """Samples by number, each transformed when it is read.

    Args:
        samples: The samples.
        transform: Applied to each of them.
    """

    def __init__(self, samples: IndexedSamples, transform: SampleTransform) -> None:
        self._samples = samples
        self._transform = transform

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, position: int) -> Any:
        return self._transform(self._samples.read(position), position)

    def read_each(self, positions: Iterable[int]) -> Iterator[Any]:
        wanted = list(positions)
        return map(self._transform, self._samples.read_each(wanted), wanted)

    def iterate(self, start: int, stop: int) -> Iterator[Any]:
        return map(self._transform, self._samples.iterate(start, stop), count(start))

    def prefetch(self, positions: Sequence[int]) -> None:
        self._samples.prefetch(positions)

    def is_cached(self, positions: Sequence[int]) -> bool:
        return self._samples.is_cached(positions)

    def fetch_bytes(self, positions: Iterable[int]) -> Iterator[int]:
        return self._samples.fetch_bytes(positions)

    def block_stops(self, size: int) -> Sequence[int]:
        return self._samples.block_stops(size)


def _add_note(error: Exception, note: str) -> None:
    if sys.version_info >= (3, 11):
        error.add_note(note)


def _name(function: Any) -> str:
    """Returns the name of a function; objects such as torchvision's transforms are shown on one line."""
    name = getattr(function, "__qualname__", None)
    if name is None:
        name = " ".join(repr(function).split())
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"


class _ImageType(type):
    """Makes `isinstance` true for images of Pillow, without importing Pillow."""

    def __instancecheck__(cls, value: Any) -> bool:
        module = sys.modules.get("PIL.Image")
        return module is not None and isinstance(value, module.Image)


class _Image(metaclass=_ImageType):
    """Stands for Pillow's images in PyTorch's table of types that can be collated."""


@cache
def explain_collate() -> None:
    """Makes the error of PyTorch's default collate function mention `transform=`.

    PyTorch raises an error for Pillow's images and None in any case; only the message changes. Entries of
    other libraries in PyTorch's table are kept.
    """
    from torch.utils.data._utils import collate  # noqa: PLC0415

    table: dict[Any, Any] = collate.default_collate_fn_map
    table.setdefault(_Image, _refuse)
    table.setdefault(type(None), _refuse)


def _refuse(batch: Any, *, collate_fn_map: Any = None) -> Any:
    kind = type(batch[0])
    what = "None" if batch[0] is None else f"{kind.__module__}.{kind.__qualname__} images"
    raise TypeError(
        f"DataLoader cannot make a batch of {what}: give the dataset a transform that returns "
        "tensors, such as load(cid, transform=torchvision.transforms.v2.functional.pil_to_tensor), "
        "or the DataLoader a collate_fn"
    )
