"""Validates whole numbers given by users: options, seeds, epochs and counts, as ints that JSON can hold."""

from __future__ import annotations

import operator
from typing import Any

# Larger numbers cannot be counts of samples or bytes.
MOST = 2**63 - 1
# Every JSON parser represents numbers up to this one exactly.
MOST_EPOCH = 2**53
# Seeds of torch have 64 bits.
MOST_SEED = 2**64 - 1


def whole_number(name: str, value: Any, *, least: int, most: int | None = MOST) -> int:
    """Validates a number given by the user and returns it as an int; accepts numpy and torch integers.

    Args:
        name: Name of the argument, for messages.
        value: The number.
        least: The smallest allowed number.
        most: The largest allowed number; None for no limit.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is too small or too large.
    """
    try:
        # True and False are most likely meant for another argument.
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name} must be a whole number, not {value!r:.80}")
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {number}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, not {number}")
    return number


def known_seed(seed: Any) -> int:
    """Validates a seed given by the user.

    Raises:
        TypeError: It is not an integer.
        ValueError: It has more than 64 bits.
    """
    return whole_number("seed", seed, least=-MOST_SEED, most=MOST_SEED)


def known_epoch(epoch: Any) -> int:
    """Validates the number of an epoch given by the user.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is negative, or larger than JSON can hold exactly.
    """
    return whole_number("epoch", epoch, least=0, most=MOST_EPOCH)
