"""What the versions of the format have in common: named variables, loaded whole or by row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from ipfs_dataset_core import Extents, FormatError, parser_errors
from ipfs_dataset_mat.values import NoCounterpartError, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ipfs_dataset_mat.values import Raw


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns whatever a library raises about damaged data into a `FormatError`.

    Args:
        what: What the error names.
    """
    advice = "It is damaged, or not a MATLAB file; publish it again from a file that MATLAB opens."
    with parser_errors(what, advice):
        try:
            yield
        except NoCounterpartError as error:
            raise FormatError(
                f"{what} is, or holds, {error}, which only MATLAB reads: save its parts as arrays, chars, "
                "cells and structs, or leave it out by variables=."
            ) from None


class Placed(Protocol):
    """A variable that starts somewhere in a file."""

    @property
    def start(self) -> int:
        """Its first byte."""


def check_new(name: str, at: int, variables: Mapping[str, Placed]) -> None:
    """Checks that a file has no variable of a name yet, of which one would be lost.

    Args:
        name: The variable's.
        at: Where it starts.
        variables: Those before.

    Raises:
        ValueError: It has.
    """
    if name in variables:
        raise ValueError(
            f"it has two variables of the name {name!r}, at byte {variables[name].start} and at byte {at}: "
            "MATLAB and SciPy would use one of them, so save them again under different names"
        )


class Container(ABC):
    """The variables of one open file."""

    def __init__(self) -> None:
        self._kept: dict[str, Raw] = {}

    @abstractmethod
    def names(self) -> list[str]:
        """Returns the names of the variables, in the order of the file."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the size of a variable as MATLAB shows it."""

    @abstractmethod
    def load(self, name: str) -> Raw:
        """Returns a whole variable.

        Raises:
            FormatError: It is damaged, or of a class that has no counterpart here.
            LimitError: It is larger than allowed.
        """

    def rows(self, name: str, axis: int, start: int, stop: int) -> list[Raw]:
        """Returns slices of a variable; here, where it must be read whole, it is kept for the next."""
        return rows_of(self._whole(name), axis, start, stop)

    def _whole(self, name: str) -> Raw:
        if name not in self._kept:
            self._kept[name] = self.load(name)
        return self._kept[name]

    def step(self, name: str, axis: int) -> int:
        """Returns how many rows are best read at once."""
        return 1

    def extents(self, name: str, axis: int) -> Extents:
        """Returns which bytes the rows of a variable are made of."""
        return Extents()
