"""The running threads of an export."""

from __future__ import annotations

import threading


def upload_threads():
    """Returns the threads that upload blocks."""
    return [t for t in threading.enumerate() if t.name.startswith("ipfs-dataset-upload")]
