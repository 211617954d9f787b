"""Measures of the randomness of an order of samples, compared with a full permutation."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def rank_correlation(order: Sequence[int]) -> float:
    """Returns Spearman's rho of a permutation with the order of the data: 1 is unshuffled, 0 is random."""
    places = np.arange(len(order))
    return float(np.corrcoef(places, np.asarray(order))[0, 1])


def distance_of_neighbours(order: Sequence[int]) -> float:
    """Returns the mean distance in the data of consecutive samples; 1 is that of a full permutation."""
    steps = np.abs(np.diff(np.asarray(order, dtype=np.int64)))
    return float(steps.mean() / (len(order) / 3))


def label_entropy(order: Iterable[int], count: int, labels: int, batch: int = 64) -> float:
    """Returns the mean entropy, in bits, of the labels of a batch if the data are sorted by label."""
    found = [
        entropy(Counter(index * labels // count for index in one)) for one in batches(order, batch)
    ]
    return sum(found) / len(found)


def entropy(counts: Counter[int]) -> float:
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values())


def batches(order: Iterable[int], size: int) -> Iterator[list[int]]:
    """Yields full batches."""
    numbers = iter(order)
    while len(batch := list(islice(numbers, size))) == size:
        yield batch
