"""Whole numbers that users give: options, seeds, epochs and counts, as plain ints that JSON can hold."""

from __future__ import annotations

import operator
from typing import Any

# Larger numbers are no counts of samples or bytes.
MOST = 2**63 - 1
# Every JSON parser keeps numbers up to this one exactly.
MOST_EPOCH = 2**53
# Seeds of torch have 64 bits.
MOST_SEED = 2**64 - 1


def whole_number(name: str, value: Any, *, least: int, most: int | None = MOST) -> int:
    """Returns a number that a user gave as an int; integers of numpy and torch are accepted as well.

    Args:
        name: Of the argument, for messages.
        value: The number.
        least: The smallest one that is allowed.
        most: The largest one; None for no such.

    Raises:
        TypeError: It is no integer.
        ValueError: It is too small or too large.
    """
    try:
        # True and False are most likely meant for another argument.
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name} is a whole number, not {value!r:.80}")
    if number < least:
        raise ValueError(f"{name} is at least {least}, not {number}")
    if most is not None and number > most:
        raise ValueError(f"{name} is at most {most}, not {number}")
    return number


def known_seed(seed: Any) -> int:
    """Returns a seed that a user gave.

    Raises:
        TypeError: It is no integer.
        ValueError: It has more than 64 bits.
    """
    return whole_number("seed", seed, least=-MOST_SEED, most=MOST_SEED)


def known_epoch(epoch: Any) -> int:
    """Returns the number of an epoch that a user gave.

    Raises:
        TypeError: It is no integer.
        ValueError: It is negative, or larger than JSON can hold exactly.
    """
    return whole_number("epoch", epoch, least=0, most=MOST_EPOCH)
