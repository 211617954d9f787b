"""Suggestions for messages about a name that does not exist."""

from __future__ import annotations

import importlib.util
import pkgutil
import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Formats of the distributions published by this project. No other is ever suggested for installation, because
# anyone may register an unregistered name.
CONTRIBUTED = {
    "csv": "ipfs-dataset-text",
    "hdf5": "ipfs-dataset-hdf5",
    "hdf5_rows": "ipfs-dataset-hdf5",
    "images": "ipfs-dataset-images",
    "jsonl": "ipfs-dataset-text",
    "mat": "ipfs-dataset-mat",
    "npy": "ipfs-dataset-numpy",
    "npy_rows": "ipfs-dataset-numpy",
    "npz": "ipfs-dataset-numpy",
    "parquet": "ipfs-dataset-parquet",
    "safetensors": "ipfs-dataset-safetensors",
    "safetensors_rows": "ipfs-dataset-safetensors",
    "text": "ipfs-dataset-text",
    "webdataset": "ipfs-dataset-webdataset",
    "zarr": "ipfs-dataset-zarr",
}

# The same for address schemes.
CONTRIBUTED_SCHEMES = {"bitswap": "ipfs-dataset-bitswap", "p2p": "ipfs-dataset-bitswap"}


def similar(
    name: str, known: Iterable[str], *, or_itself: bool = False, at_least: float = 0.6
) -> str | None:
    """Returns the known name most similar to another, ignoring case; None if none is similar enough.

    Args:
        name: The name given by the user.
        known: The names that exist.
        or_itself: Whether an equal name counts as well.
        at_least: Minimum similarity, from 0 to 1.
    """
    by_lower = {item.lower(): item for item in sorted(known) if or_itself or item != name}
    close = get_close_matches(name.lower(), by_lower, 1, at_least)
    return by_lower[close[0]] if close else None


def missing_module(error: ModuleNotFoundError, module: str) -> str | None:
    """Returns a description of a module name that does not exist in its package; None for other errors.

    Args:
        error: The error of the import.
        module: Its name.
    """
    missing = error.name or ""
    if not f"{module}.".startswith(f"{missing}."):
        return None
    package, _, last = missing.rpartition(".")
    if not package:
        return None
    hint = ""
    if is_installed(package.partition(".")[0]) and (close := similar(last, _modules_of(package))):
        hint = f": did you mean {package + '.' + close!r}?"
    return f"the module {missing!r}, which the package {package!r} does not have{hint}"


def _modules_of(package: str) -> list[str]:
    """Returns the names of the modules of a package that was imported before."""
    spec = importlib.util.find_spec(package)
    places = (spec and spec.submodule_search_locations) or ()
    return [module.name for module in pkgutil.iter_modules(places)]


def is_installed(package: str) -> bool:
    """Returns whether a top-level package or module can be imported, without importing it."""
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # raised by a finder, or for a module without a spec
        return False
