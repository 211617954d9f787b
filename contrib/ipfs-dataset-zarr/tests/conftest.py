"""Zarr stores that zarr itself writes, as dicts from paths to the bytes of files."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

if sys.version_info < (3, 11):
    collect_ignore_glob = ["test_*.py"]  # zarr reads version 3 from Python 3.11 on
else:
    import zarr
    from zarr.storage import MemoryStore


@pytest.fixture
def written():
    """Returns a function that returns the files of a store, whose root group `build` fills."""

    def write(build, zarr_format=3, *, consolidated=False):
        store = MemoryStore()
        build(zarr.create_group(store, zarr_format=zarr_format))
        return files_of(store, consolidated=consolidated)

    return write


@pytest.fixture
def array():
    """Returns a function that returns the files of a store that is a single array."""

    def write(values, **options):
        store = MemoryStore()
        options = {"chunks": values.shape, **options}
        zarr.create_array(store, shape=values.shape, dtype=values.dtype, **options)[:] = values
        return files_of(store)

    return write


@pytest.fixture
def changed(array):
    """Returns a function that returns the files of an array with changed metadata."""

    def change(zarr_format=3, /, fields=None, **options):
        files = array(
            np.arange(24, dtype="f4").reshape(6, 4),
            zarr_format=zarr_format,
            **{"chunks": (2, 4), **options},
        )
        key = ".zarray" if zarr_format == 2 else "zarr.json"
        files[key] = json.dumps({**json.loads(files[key]), **(fields or {})}).encode()
        return files

    return change


def files_of(store, *, consolidated=False):
    if consolidated:
        zarr.consolidate_metadata(store)
    return {key: value.to_bytes() for key, value in store._store_dict.items()}
