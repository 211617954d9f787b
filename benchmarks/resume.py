"""What it costs to go on at 90 % of an epoch, and how large states are.

    python -m benchmarks.resume

A gateway in this process serves the blocks of a ZIP of 12,000 samples of 10 KB. For each order an epoch is
read up to 90 %, and a new dataset goes on from the state. Printed are the blocks it fetches, over those of
the whole epoch, the seconds to its first sample, and the bytes of the state.
"""

from __future__ import annotations

import json
import time
import zipfile
from itertools import islice
from typing import Any

from ipfs_dataset import IPFSIterableDataset, ShuffleDataset
from tests.support.builders import noise, one_file, zip_bytes
from tests.support.gateway_server import GatewayServer
from tests.support.stores import SMALL_LEAVES

COUNT, SIZE = 12_000, 10_000
ORDERS: dict[str, dict[str, Any]] = {
    "in order": {},
    "in order, lanes=(4, 2)": {"lanes": (4, 2)},
    "shuffled blocks": {"shuffle_blocks": True},
    "buffer of 1,000": {"buffer": 1000},
}


def opened(cid: str, gateway: str, *, buffer: int = 0, **options: Any) -> Any:
    """Returns a stream in some order."""
    stream = IPFSIterableDataset(cid, f"gateway+{gateway}", batch_size=64, **options)
    return ShuffleDataset(stream, buffer) if buffer else stream


def main() -> None:
    """Prints a line for each order."""
    files = {f"{number:05}": noise(SIZE, number) for number in range(COUNT)}
    root, blocks = one_file(zip_bytes(files, zipfile.ZIP_STORED), SMALL_LEAVES)
    with GatewayServer(blocks, serve_plain=False, serve_car=False) as server:
        for name, options in ORDERS.items():
            first = opened(str(root), server.url, **options)
            before = server.served["raw"]
            samples = iter(first)
            for _ in islice(samples, COUNT * 9 // 10):
                pass
            state = json.dumps(first.state_dict())
            for _ in samples:
                pass
            whole = server.served["raw"] - before
            first.close()
            before, began = server.served["raw"], time.perf_counter()
            second = opened(str(root), server.url, **options)
            second.load_state_dict(json.loads(state))
            rest = iter(second)
            next(rest)
            seconds = time.perf_counter() - began
            left = 1 + sum(1 for _ in rest)
            second.close()
            part = (server.served["raw"] - before) / whole
            print(
                f"{name:24} {left:5} samples, {part:.2f} of the blocks, first after {seconds:.2f} s, "
                f"state of {len(state)} bytes"
            )


if __name__ == "__main__":
    main()
