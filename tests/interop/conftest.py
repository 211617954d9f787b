"""What all frameworks read: an archive of 103 samples in a store."""

from __future__ import annotations

import pytest

from tests.support.builders import zip_bytes
from tests.support.interop import SAMPLES
from tests.support.stores import Store


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """Returns the store's address, and the URL of the archive in it."""
    store = Store(tmp_path_factory.mktemp("interop"))
    members = {f"{number:03}.txt": str(number).encode() for number in range(SAMPLES)}
    return store.address, f"ipfs://{store.file(zip_bytes(members))}"
