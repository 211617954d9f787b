r"""Contract suites for plugin authors: inherit from a class, define one or two fixtures, and run pytest.

::

    class TestLines(ReaderContract):
        @pytest.fixture
        def plugin(self):
            return my_plugin.Lines  # a subclass of Reader, or a ReaderPlugin

        @pytest.fixture
        def example(self):
            return Example(b"one\ntwo\n", [("object:0", b"one"), ("object:1", b"two")])

The built-in plugins inherit from the same classes. They require pytest, which the library itself does not.
"""

from __future__ import annotations

from ipfs_dataset_core.testing.exporters import ExporterContract
from ipfs_dataset_core.testing.memory import MemoryDirectory, MemoryFile, MemoryTransport
from ipfs_dataset_core.testing.readers import Example, ReaderContract
from ipfs_dataset_core.testing.transports import TransportContract

__all__ = [
    "Example",
    "ExporterContract",
    "MemoryDirectory",
    "MemoryFile",
    "MemoryTransport",
    "ReaderContract",
    "TransportContract",
]
