"""The names of a new plugin, all derived from one."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import keyword
import re
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.errors import PluginConflictError, PluginError
from ipfs_dataset_core.interfaces import ReaderPlugin, TransportPlugin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core.interfaces import Declaration
    from ipfs_dataset_core.registry.discovery import Discovery
    from ipfs_dataset_core.registry.provenance import Origin

PREFIX = "ipfs-dataset-"
_MAX_LENGTH = 30
_NORMALISED = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@attrs.frozen
class PluginName:
    """The name of a plugin in the spellings that a project needs.

    Attributes:
        words: The normalized name (PEP 503), such as ``"sensor-log"``; also the scheme
            of a transport's addresses.
    """

    words: str

    @classmethod
    def parse(cls, text: str) -> PluginName:
        """Parses a name, with or without ``ipfs-dataset-`` in front.

        Raises:
            PluginError: A package cannot have this name.
        """
        words = re.sub(r"[-_.]+", "-", text).lower().removeprefix(PREFIX)
        if not text.isascii() or not _NORMALISED.fullmatch(words) or len(words) > _MAX_LENGTH:
            raise PluginError(
                f"{text!r} cannot name a plugin: give a letter, then letters and digits, words joined by "
                f"'-', '_' or '.', at most {_MAX_LENGTH} characters, such as 'sensor-log'"
            )
        if keyword.iskeyword(words):
            raise PluginError(f"{text!r} is a keyword of Python: choose another name")
        return cls(words)

    @property
    def name(self) -> str:
        """What users give as ``filetype`` or ``form``: ``"sensor_log"``."""
        return self.words.replace("-", "_")

    @property
    def distribution(self) -> str:
        """Name of the distribution to install: ``"ipfs-dataset-sensor-log"``."""
        return PREFIX + self.words

    @property
    def package(self) -> str:
        """Name of the package to import: ``"ipfs_dataset_sensor_log"``."""
        return self.distribution.replace("-", "_")

    @property
    def suffix(self) -> str:
        """Suffix of the format's file names: ``".sensorlog"``."""
        return "." + self.words.replace("-", "")

    def check_free(self, discovery: Discovery) -> None:
        """Checks that no installed plugin uses one of the names, including plugins that failed to load.

        Raises:
            PluginConflictError: A plugin does; the message names it.
        """
        for taker, names in _taken(discovery):
            for name in (self.name, self.words, self.suffix):
                if name in names:
                    raise PluginConflictError(f"{name!r} is taken by {taker}: choose another name")
        if _is_installed(self.distribution) or importlib.util.find_spec(self.package):
            raise PluginConflictError(
                f"{self.distribution!r} is installed already, as the package {self.package!r}: "
                "uninstall it, or choose another name"
            )


def _taken(discovery: Discovery) -> Iterator[tuple[Origin, tuple[str, ...]]]:
    for loaded in discovery.loaded:
        yield loaded.origin, _names(loaded.declaration)
    for failure in discovery.failures:
        yield failure.origin, (failure.origin.entry_point,)


def _names(declaration: Declaration) -> tuple[str, ...]:
    if isinstance(declaration, TransportPlugin):
        return declaration.name, *declaration.schemes
    if isinstance(declaration, ReaderPlugin):
        return declaration.name, *declaration.suffixes
    return (declaration.name,)


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
