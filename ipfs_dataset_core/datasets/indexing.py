"""What users may write between brackets, and when a length can be believed."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def as_integer(index: Any) -> int:
    """Returns the integer that an index is: of Python, numpy, or a torch tensor with one integer.

    Raises:
        TypeError: It is none.
    """
    try:
        return operator.index(index)
    except TypeError:
        hint = ""
        if isinstance(index, (list, tuple, range)) or getattr(index, "ndim", None):
            hint = ": for several samples, write [dataset[i] for i in indices]"
        raise TypeError(
            f"a sample has an integer as its index, not {index!r:.80} of type {type(index).__name__}{hint}"
        ) from None


def check_slice(dataset: Any, index: slice, own: Callable[..., Any]) -> None:
    """Refuses a slice where a subclass's ``__getitem__`` handed it on, and expects one sample.

    Raises:
        TypeError: It did.
    """
    if type(dataset).__getitem__ is not own:
        start, stop, step = index.indices(len(dataset))
        shown = f"range({start}, {stop}{f', {step}' if step != 1 else ''})"
        raise TypeError(
            f"{type(dataset).__name__} has a __getitem__ of its own, which takes one index at a time: "
            f"write [dataset[i] for i in {shown}], or torch.utils.data.Subset(dataset, {shown})"
        )


def check_length_holds(dataset: Any) -> None:
    """Refuses to count where a subclass yields something else than the class that counts.

    Raises:
        TypeError: A class has an ``__iter__`` of its own, and neither it nor one below it a ``__len__``.
    """
    for kind in type(dataset).__mro__:
        if "__len__" in vars(kind):
            return
        if "__iter__" in vars(kind):
            raise TypeError(
                f"{kind.__name__} has an __iter__ of its own, which may yield more or fewer samples: give it "
                "a __len__ too, which returns super().__len__() where it yields one for each"
            )
