"""The files of a new plugin's project, from the templates beside this module.

A template is a file whose name ends in ``.tmpl``. ``__package__`` in its path stands for the package, and
``$name`` and the like in its text for the values of `_values`.
"""

from __future__ import annotations

import importlib.metadata
import re
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.abc import Traversable

    from ipfs_dataset.cli.scaffolding.names import PluginName

KINDS = ("reader", "transport", "exporter")
_ENDING = ".tmpl"
_NOUNS = {"reader": "format", "transport": "transport", "exporter": "published form"}
# An entry point names a module with a hook, or a class that declares itself. It is called as what users
# write: the name of a format or form, the scheme of an address.
_ENTRY_POINTS = {
    "reader": '{name.name} = "{name.package}"',
    "transport": '{name.words} = "{name.package}.transport:SqliteTransport"',
    "exporter": '{name.name} = "{name.package}.exporter:JsonLinesExporter"',
}


def project_files(name: PluginName, kind: str) -> dict[str, str]:
    """Returns the text of each file of a project, by path.

    Args:
        name: The names of the plugin.
        kind: One of `KINDS`.

    Raises:
        PluginError: There is no such kind.
    """
    if kind not in KINDS:
        raise PluginError(f"{kind!r} is not a kind of plugin: give one of {', '.join(KINDS)}")
    values = _values(name, kind)
    templates = files("ipfs_dataset.cli.scaffolding") / "templates"
    return {
        path.replace("__package__", name.package).removesuffix(_ENDING): Template(text).substitute(
            values
        )
        for folder in ("common", kind)
        for path, text in _walk(templates / folder, "")
    }


def _values(name: PluginName, kind: str) -> dict[str, str]:
    return {
        "noun": _NOUNS[kind],
        "name": name.name,
        "scheme": name.words,
        "suffix": name.suffix,
        "package": name.package,
        "entry_point": _ENTRY_POINTS[kind].format(name=name),
        "distribution": name.distribution,
        "requirement": requirement(importlib.metadata.version("ipfs-dataset")),
    }


def requirement(version: str) -> str:
    """Returns the version range for a plugin written against a version: up to the next that may break it."""
    major, minor = map(int, re.findall(r"\d+", version)[:2])
    following = f"0.{minor + 1}" if major == 0 else str(major + 1)
    return f"ipfs-dataset>={major}.{minor},<{following}"


def _walk(folder: Traversable, path: str) -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _walk(entry, f"{path}{entry.name}/")
        elif entry.name.endswith(_ENDING):
            yield path + entry.name, entry.read_text(encoding="utf-8")
