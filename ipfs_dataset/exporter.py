"""Publishes datasets to IPFS and imports them again."""

from __future__ import annotations

from ipfs_dataset_core.interfaces.dataset_card import DatasetCard
from ipfs_dataset_core.interfaces.encoded_file import EncodedFile
from ipfs_dataset_core.interfaces.value_codec import ValueCodec
from ipfs_dataset_core.publishing.exporter import IPFSDatasetExporter

__all__ = ["DatasetCard", "EncodedFile", "IPFSDatasetExporter", "ValueCodec"]
