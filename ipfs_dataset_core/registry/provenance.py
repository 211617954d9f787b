"""The origin of a plugin, the remedies for its failures, and the warnings about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.errors import PluginWarning
from ipfs_dataset_core.runtime.user_warnings import warn_user

if TYPE_CHECKING:
    from collections.abc import Iterable


DISTRIBUTION = "ipfs-dataset"
DISABLE_VARIABLE = "IPFS_DATASET_DISABLE_PLUGINS"
_REGISTERED, _GIVEN, _UNKNOWN = "(registered)", "(given)", "(unknown)"

_shown: set[str] = set()


@attrs.frozen
class Origin:
    """Where a plugin comes from.

    Args:
        distribution: The installed distribution, or a word in parentheses if there is none:
            ``"(registered)"`` for declarations added at run time, ``"(given)"`` for objects passed by the
            user.
        version: Its version; "" if unknown.
        entry_point: The name of its entry point, of the registered declaration, or of the class.

    Attributes:
        built_in: Whether it is part of this distribution; see the docstring of this package.
    """

    distribution: str
    version: str
    entry_point: str
    built_in: bool = attrs.field(init=False, repr=False, eq=False)

    @built_in.default
    def _is_built_in(self) -> bool:
        return self.distribution == DISTRIBUTION

    @classmethod
    def registered(cls, name: str) -> Origin:
        """Returns the origin of a declaration that was registered at run time under a name."""
        return cls(_REGISTERED, "", name)

    @classmethod
    def given(cls, plugin: object) -> Origin:
        """Returns the origin of a declaration or an object that the user passed."""
        name = getattr(plugin, "name", "") or getattr(plugin, "__qualname__", "")
        return cls(_GIVEN, "", name or type(plugin).__name__)

    def __str__(self) -> str:
        """Returns ``distribution version (entry_point)``."""
        return f"{self.distribution} {self.version}".strip() + f" ({self.entry_point})"

    @property
    def installed(self) -> bool:
        """Whether it comes from a distribution."""
        return not self.distribution.startswith("(")

    @property
    def remedy(self) -> str:
        """The remedy, as a sentence without its full stop: update the plugin, or disable it."""
        if self.distribution in (_REGISTERED, _GIVEN):
            return "It does not come from a distribution: check its code"
        if not self.installed:
            return f"Leave it out with {DISABLE_VARIABLE}={self.entry_point}"
        name = self.entry_point if self.built_in else self.distribution
        return (
            f"Update it with: pip install -U {self.distribution}, or leave it out with "
            f"{DISABLE_VARIABLE}={name}"
        )


def on_one_line(error: BaseException) -> str:
    """Returns an error's class and message on one line, truncated to 500 characters."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the error of a plugin may fail to format its message
        text = ""
    return f"{type(error).__name__}: {text:.500}" if text else type(error).__name__


def warn_once(message: str, cause: str) -> None:
    """Shows a `PluginWarning`, unless one with the same cause was shown in this process.

    Args:
        message: The plugin, what happened and what to do.
        cause: Identifies the warning.

    Raises:
        PluginWarning: The user's filters turn warnings into errors.
    """
    if cause in _shown:
        return
    warn_user(message, PluginWarning)
    # Recorded only now: if it was raised as an error, the next read raises it again.
    _shown.add(cause)


@attrs.frozen
class Failure:
    """A plugin that could not be used.

    Attributes:
        origin: The plugin.
        reason: The reason and the remedy, without a full stop.
        details: The traceback.
    """

    origin: Origin
    reason: str
    details: str = attrs.field(default="", repr=False)


def warn_of_fallback(what: str, failures: Iterable[Failure]) -> None:
    """Warns that data is read as plain bytes although a plugin that failed to load may be able to read it.

    The claims of a plugin are unknown until it is loaded, so every plugin that failed is named.

    Args:
        what: The object or member that no loaded plugin claims.
        failures: The plugins that could not be loaded.

    Raises:
        PluginWarning: The user's filters turn warnings into errors.
    """
    for failure in failures:
        warn_once(
            f"{what} is read as plain bytes: no loaded plugin claims it, and plugin {failure.origin}, which "
            f"may read it, could not be loaded: {failure.reason}. Where bytes are what you want, give "
            "filetype='plain'",
            f"{failure.origin}: {failure.reason}",
        )
