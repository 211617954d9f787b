"""Random numbers of our own, keyed by values: the user's global random state is never touched."""

from __future__ import annotations

import hashlib
import random


def keyed_random(*key: object) -> random.Random:
    """Returns a generator that depends on nothing but the key, in every process and on every platform."""
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    return random.Random(digest)  # noqa: S311 - an order of samples, no secret
