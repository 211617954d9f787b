"""Where a plugin comes from, and what its users can do about it."""

from __future__ import annotations

import attrs

DISTRIBUTION = "ipfs-dataset"
DISABLE_VARIABLE = "IPFS_DATASET_DISABLE_PLUGINS"


@attrs.frozen
class Origin:
    """Where a plugin comes from.

    Args:
        distribution: The installed distribution, or a word in parentheses where there is none:
            ``"(registered)"`` for what was added at run time, ``"(given)"`` for what an object brought along.
        version: Its version.
        entry_point: The name of its entry point, of what was registered, or of the class.
    """

    distribution: str
    version: str
    entry_point: str

    def __str__(self) -> str:
        """Returns ``distribution version (entry_point)``."""
        return f"{self.distribution} {self.version}".strip() + f" ({self.entry_point})"

    @property
    def installed(self) -> bool:
        """Whether a distribution brought it."""
        return not self.distribution.startswith("(")

    @property
    def built_in(self) -> bool:
        """Whether it comes with the core."""
        return self.distribution == DISTRIBUTION

    @property
    def remedy(self) -> str:
        """What the user can do, as a sentence without its full stop: mend the plugin, or do without."""
        if self.distribution in ("(registered)", "(given)"):
            return "No distribution brought it: look at its code"
        if not self.installed:
            return f"Leave it out with {DISABLE_VARIABLE}={self.entry_point}"
        name = self.entry_point if self.built_in else self.distribution
        return (
            f"Update it with: pip install -U {self.distribution}, or leave it out with "
            f"{DISABLE_VARIABLE}={name}"
        )


def said(error: BaseException) -> str:
    """Returns an error's class and message on one line, whatever its message is like."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - a message that fails is no message
        text = ""
    return f"{type(error).__name__}: {text:.500}" if text else type(error).__name__
