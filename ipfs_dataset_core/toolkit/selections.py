"""Arguments of readers that select parts of a file by name, such as columns or arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.toolkit.json_values import repeated_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def selected_names(names: str | Iterable[str] | None, argument: str) -> list[str] | None:
    """Returns the names that an argument of a reader selects; None, which selects all, is returned as it is.

    Args:
        names: The value of the argument. A single name may be given as text.
        argument: The argument, for messages, such as ``"columns="``.

    Raises:
        ValueError: No name is given, or one is repeated.
    """
    if names is None:
        return None
    selected = [names] if isinstance(names, str) else list(names)
    if not selected:
        raise ValueError(
            f"{argument} is empty, and samples without values are of no use: give at least one name, or "
            f"leave {argument} out"
        )
    if len(set(selected)) < len(selected):
        raise ValueError(f"{argument} has the name {repeated_name(selected)!r} twice")
    return selected


def common_row_count(counts: Mapping[str, int], what: str, advice: str) -> int:
    """Returns the number of rows of arrays that are read together, a row of each for a sample.

    Args:
        counts: The number of rows of each array, by its name.
        what: The arrays, for messages, such as ``"The datasets of 'a.h5'"``.
        advice: The end of the message: what to do, in sentences.

    Raises:
        FormatError: There are no arrays, or their numbers of rows differ.
    """
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise FormatError(
            f"{what} do not have the same number of rows: {listed or 'there are none'}. {advice}"
        )
    return next(iter(counts.values()))
