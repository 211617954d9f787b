"""Strict parsing of JSON from untrusted sources: anything that `json` would silently lose is an error.

The time is linear in the length of the text.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from typing import TypeVar

    Name = TypeVar("Name", bound=Hashable)

# A number that may exceed the largest float, about 1.8e308.
_BEYOND_FLOAT = re.compile(r"[eE]\+?\d{3}|\d{309}")


def parse_json(text: str) -> Any:
    """Parses a JSON text.

    Raises:
        ValueError: It is not JSON, is nested too deeply, or `json` would lose data: values of a repeated name
            in an object, or a number that would become infinity.
    """
    # Checking each number would double the time.
    finite = _finite if _BEYOND_FLOAT.search(text) else None
    try:
        return json.loads(text, object_pairs_hook=unique_names, parse_float=finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the dict of a JSON object, for use as `object_pairs_hook` of `json.loads`.

    Raises:
        ValueError: A name is repeated.
    """
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError(
            f"an object has the name {repeated_name([name for name, _ in pairs])!r} twice"
        )
    return fields


def repeated_name(names: Sequence[Name]) -> Name:
    """Returns the first repeated name.

    Raises:
        ValueError: No name is repeated.
    """
    for name, count in Counter(names).items():  # in the order of the names
        if count > 1:
            return name
    raise ValueError("no name is there twice")


def _finite(number: str) -> float:
    found = float(number)
    if math.isinf(found):
        raise ValueError(f"the number {number[:40]} is larger than a float can be")
    return found
