"""A datasource and a datasink of Ray Data for datasets in IPFS."""

from __future__ import annotations

from ipfs_dataset_ray.datasink import IPFSDatasink
from ipfs_dataset_ray.datasource import IPFSDatasource

__all__ = ["IPFSDatasink", "IPFSDatasource"]
