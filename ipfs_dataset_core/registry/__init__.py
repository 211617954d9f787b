"""Plugins' objects, made and wrapped so that each of their failures names the plugin."""

from __future__ import annotations

from ipfs_dataset_core.registry.guarded_exporters import make_exporter
from ipfs_dataset_core.registry.guarded_readers import make_reader, unguarded
from ipfs_dataset_core.registry.guarded_transports import make_transport

__all__ = ["make_exporter", "make_reader", "make_transport", "unguarded"]
