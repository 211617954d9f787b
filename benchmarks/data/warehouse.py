"""Builds data when a task needs them, adds them to the node, and keeps both for later runs."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from benchmarks.data.table import DATA

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.node import Node


class Warehouse:
    """A folder of generated data.

    Args:
        folder: Folder of the data, with a folder for each scale.
        scale: Factor for all amounts.
        node: The node to which data are added.
    """

    def __init__(self, folder: Path, scale: float, node: Node) -> None:
        self._folder = folder / f"scale-{scale:g}"
        self._scale = scale
        self._node = node

    def facts(self, name: str) -> dict[str, Any]:
        """Returns facts about the data, including their CID; builds and adds the data if necessary."""
        data = DATA[name]
        path, known = self._folder / name, self._folder / f"{name}.json"
        facts: dict[str, Any] = json.loads(known.read_text()) if known.exists() else {}
        if not facts or (facts["node"] != self._node.identity and not data.keep):
            self._folder.mkdir(parents=True, exist_ok=True)
            _remove(path)
            print(f"  making {name} …", flush=True)
            facts = data.build(path, data.scaled(self._scale))
        if facts.get("node") != self._node.identity:
            options = data.options
            facts["cid"] = "" if options is None else self._node.add_path(path, *options)
            facts["node"] = self._node.identity
            self._remember(known, facts)
            if not data.keep:
                _remove(path)
        return {**facts, "path": str(path)}

    def _remember(self, known: Path, facts: dict[str, Any]) -> None:
        # Replaced atomically, so that data of an interrupted run are built again.
        written = known.with_suffix(".new")
        written.write_text(json.dumps(facts))
        os.replace(written, known)  # noqa: PTH105 - clearer than Path.replace


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
