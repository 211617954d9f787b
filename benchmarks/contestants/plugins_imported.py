"""Imports what the library imports at the first use of its plugins, because imports are not timed.

Also discovers plugins of other installed packages, which happens once in a process.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

import torch.utils.data  # noqa: F401 - what a DataLoader imports

import ipfs_dataset_plugins
from ipfs_dataset_core.registry.lookup import default_registry

for _module in pkgutil.walk_packages(ipfs_dataset_plugins.__path__, "ipfs_dataset_plugins."):
    import_module(_module.name)
default_registry().discovery  # noqa: B018 - finds all plugins
