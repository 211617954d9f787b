"""A real Kubo that can be dialled."""

from __future__ import annotations

import pytest

from tests.conftest import skip_without
from tests.support.kubo import KuboPeer


@pytest.fixture(scope="session")
def kubo_peer(tmp_path_factory):
    """A running Kubo with its swarm on loopback that all tests share: add to it, do not stop it."""
    skip_without("kubo")
    with KuboPeer(tmp_path_factory.mktemp("kubo") / "repo") as node:
        yield node
