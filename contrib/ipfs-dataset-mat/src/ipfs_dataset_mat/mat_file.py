"""The interface of an open MATLAB file of any version: its variables, read whole or by row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from ipfs_dataset_core import Extents, FormatError, parser_errors
from ipfs_dataset_mat.memory_limit import MemoryLimit
from ipfs_dataset_mat.values import UnsupportedClassError, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ipfs_dataset_mat.values import Raw


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns the errors of libraries, and the `ValueError`s of this package, into `FormatError`s.

    Args:
        what: What is read, for errors.
    """
    advice = "It is damaged, or not a MATLAB file; publish it again from a file that MATLAB opens."
    with parser_errors(what, advice):
        try:
            yield
        except UnsupportedClassError as error:
            raise FormatError(
                f"{what} is or contains {error}, and the form of its data is not documented: save its parts "
                "as arrays, chars, cells and structs, or leave it out with variables=."
            ) from None


class Variable(Protocol):
    """A variable with a position in the file."""

    @property
    def start(self) -> int:
        """The position of its first byte."""


def check_new(name: str, start: int, variables: Mapping[str, Variable]) -> None:
    """Checks that no earlier variable has the same name, because a dict would lose one of them.

    Args:
        name: The name of the variable.
        start: The position of its first byte.
        variables: The earlier variables by name.

    Raises:
        ValueError: An earlier variable has the name.
    """
    if name in variables:
        raise ValueError(
            f"it has two variables with the name {name!r}, at byte {variables[name].start} and at byte "
            f"{start}, and MATLAB and SciPy would use only one of them: save them with different names"
        )


class MatFile(ABC):
    """The variables of an open file.

    Args:
        name: The name of the file, for errors.
        max_bytes: The maximum size of a variable, or of the part that is read at once, in bytes of memory.
    """

    def __init__(self, name: str, max_bytes: int) -> None:
        self._name = name
        self._max_bytes = max_bytes
        self._loaded: dict[str, Raw] = {}

    @abstractmethod
    def names(self) -> list[str]:
        """Returns the names of the variables, in the order of the file."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the size of a variable as MATLAB shows it."""

    @abstractmethod
    def load(self, name: str) -> Raw:
        """Reads a whole variable.

        Raises:
            FormatError: It is damaged, or of a class that has no counterpart in Python.
            LimitError: It is larger than `max_bytes`.
        """

    def rows(self, name: str, axis: int, start: int, stop: int) -> list[Raw]:
        """Reads the rows ``[start, stop)`` of a variable along an axis; raises like `load`.

        By default, the whole variable is read and kept in memory for the next rows.
        """
        whole = self._load_once(name)
        with reading(self.what(name)):
            return rows_of(whole, axis, start, stop, self._limit(name))

    def rows_at_once(self, name: str, axis: int) -> int:
        """Returns the number of rows to read at once."""
        return 1

    def extents(self, name: str, axis: int) -> Extents:
        """Returns the positions of the rows of a variable in the file; unknown by default."""
        return Extents()

    def what(self, name: str) -> str:
        """Returns the name of a variable for errors."""
        return f"The variable {name!r} of {self._name!r}"

    def _limit(self, name: str) -> MemoryLimit:
        return MemoryLimit(self.what(name), self._max_bytes)

    def _load_once(self, name: str) -> Raw:
        if name not in self._loaded:
            self._loaded[name] = self.load(name)
        return self._loaded[name]
