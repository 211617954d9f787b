"""Which format a file's name means; made once, since a folder may have a million names."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ipfs_dataset_core.registry import precedence as claims

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core.interfaces import ReaderPlugin
    from ipfs_dataset_core.registry.provenance import Origin


class SuffixTable:
    """The suffixes of formats.

    Args:
        plugins: The formats, and where they come from.
        in_folders: Whether to leave out formats that do not parse the members of folders.
    """

    def __init__(
        self, plugins: Iterable[tuple[ReaderPlugin, Origin]], *, in_folders: bool = False
    ) -> None:
        self._claimants: dict[str, list[tuple[ReaderPlugin, Origin]]] = defaultdict(list)
        for plugin, origin in plugins:
            if plugin.in_folders or not in_folders:
                for suffix in dict.fromkeys(plugin.suffixes):
                    self._claimants[suffix].append((plugin, origin))
        self._suffixes = tuple(self._claimants)

    def find(self, name: str) -> ReaderPlugin | None:
        """Returns the format whose suffix a name has, the longest suffix first.

        Raises:
            PluginConflictError: Several claim it.
        """
        suffix = self._longest(name.lower())
        return claims.only(self._claimants[suffix], f"the suffix {suffix!r}") if suffix else None

    def settles(self, name: str) -> bool:
        """Tells whether no longer suffix is possible: each begins with a dot, and no dot is left."""
        suffix = self._longest(name.lower())
        return bool(suffix) and "." not in name[: -len(suffix)].rpartition("/")[2]

    def _longest(self, lowered: str) -> str:
        if not lowered.endswith(self._suffixes):
            return ""
        return max(filter(lowered.endswith, self._suffixes), key=len)
