"""Python warnings about plugins: visible by default, once in a process for each plugin and cause."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import PluginWarning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core.registry.discovery import Failure

_shown: set[str] = set()


def warn_once(message: str, cause: str) -> None:
    """Shows a `PluginWarning`, unless one of the same cause was shown in this process.

    Args:
        message: Names the plugin, what happened and what to do.
        cause: What identifies the warning.

    Raises:
        PluginWarning: Where the user's filters turn warnings into errors.
    """
    if cause in _shown:
        return
    warnings.warn(message, PluginWarning, stacklevel=2)
    # Only now: where it was raised as an error, the next read raises it again.
    _shown.add(cause)


def warn_of_fallback(what: str, failures: Iterable[Failure]) -> None:
    """Warns that data are read as plain bytes although a plugin that failed to load may read them.

    What a plugin claims is unknown until it is loaded, so every plugin that failed is named.

    Args:
        what: Names the object or member that no loaded plugin claims.
        failures: The plugins that could not be loaded.
    """
    for failure in failures:
        warn_once(
            f"{what} is read as plain bytes: no loaded plugin claims it, and plugin {failure.origin}, which "
            f"may read it, could not be loaded: {failure.reason}. Where bytes are what you want, say "
            "filetype='plain'",
            f"{failure.origin}: {failure.reason}",
        )
