"""Writes the project of a new plugin, which can be installed, listed, read with and tested as it stands."""

from __future__ import annotations

from ipfs_dataset.cli.scaffolding.names import PluginName
from ipfs_dataset.cli.scaffolding.project import KINDS, project_files
from ipfs_dataset.cli.scaffolding.writing import write_project

__all__ = ["KINDS", "PluginName", "project_files", "write_project"]
