"""Imports the plugins that tasks use, which the library does at the first use: imports are not timed."""

from __future__ import annotations

from importlib import import_module

for _name in ("api", "folder", "gateway", "plain", "store", "tar", "tar_shards", "zip"):
    import_module(f"ipfs_dataset_plugins.{_name}")
