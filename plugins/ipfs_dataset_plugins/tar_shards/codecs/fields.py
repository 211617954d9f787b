"""Names for the members of a sample: safe everywhere, unique, and readable by webdataset."""

from __future__ import annotations

import re
from typing import Any

MAX_FIELD = 48
RESERVED = "schema"


class FieldNames:
    """Gives out the field names of one sample, each once."""

    def __init__(self) -> None:
        self._taken = {RESERVED}

    def unique(self, field: str) -> str:
        """Returns the field, with a number behind it if it is taken already."""
        name, number = field, 1
        while name in self._taken:
            number += 1
            name = f"{field}_{number}"
        self._taken.add(name)
        return name


def child(field: str, key: Any) -> str:
    """Returns the field of a part: its key in lower case, behind the field of its container.

    Lower case, because webdataset folds case; without a leading underscore, because it leaves such
    members undecoded; without dots, because what is behind the last one is the format.
    """
    text = re.sub(r"[^a-z0-9-]+", "_", f"{field}_{key!s:.200}".lower()).strip("_-")
    return text[:MAX_FIELD] or "field"
