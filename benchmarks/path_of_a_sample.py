"""Counts what one cold sample enters: functions, modules and classes of ours, from URL to bytes.

    python -m benchmarks.path_of_a_sample

A gateway in this process serves a ZIP. Its first sample is read once to import everything, and once more with
a new dataset, which is what is counted. A small number means that little has to be understood to
follow one read. The numbers are printed, not judged.
"""

from __future__ import annotations

import io
import sys
import threading
import zipfile
from collections import Counter
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import IPFSDataset, IPFSObject, RemoteFileType
from tests.support.builders import one_file
from tests.support.gateway_server import GatewayServer

if TYPE_CHECKING:
    from types import FrameType

OURS = ("ipfs_dataset_core", "ipfs_dataset_plugins")


def zip_of_a_hundred() -> bytes:
    """Returns a ZIP of a hundred small members."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for number in range(100):
            archive.writestr(f"{number:03}.bin", number.to_bytes(2, "big") * 5_000)
    return data.getvalue()


def first_sample(cid: str, gateway: str) -> None:
    """Reads the first sample with a dataset of its own."""
    dataset = IPFSDataset(IPFSObject(f"ipfs://{cid}", RemoteFileType.ZIP), gateways=[gateway])
    dataset[0]
    dataset.close()


def entered(cid: str, gateway: str) -> dict[str, Counter[str]]:
    """Returns what the read enters: calls by function, by module, and by class."""
    found: dict[str, Counter[str]] = {
        "functions": Counter(),
        "modules": Counter(),
        "classes": Counter(),
        "named tuples": Counter(),
    }

    def note(frame: FrameType, event: str, _: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith(
            "namedtuple_"
        ):  # their code is made by collections
            kind = frame.f_locals["_cls"]
            if kind.__module__.startswith(OURS):
                found["named tuples"][f"{kind.__module__}.{kind.__qualname__}"] += 1
        if event != "call" or not module.startswith(OURS):
            return
        name = frame.f_code.co_qualname if sys.version_info >= (3, 11) else frame.f_code.co_name
        found["modules"][module] += 1
        found["functions"][f"{module}.{name}"] += 1
        owner = frame.f_locals.get("self", frame.f_locals.get("cls"))
        if owner is not None:
            kind = owner if isinstance(owner, type) else type(owner)
            found["classes"][f"{kind.__module__}.{kind.__qualname__}"] += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        first_sample(cid, gateway)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return found


def main() -> None:
    """Prints the counts, and the modules with what is called in each."""
    root, blocks = one_file(zip_of_a_hundred())
    with GatewayServer(blocks) as server:
        first_sample(str(root), server.url)
        found = entered(str(root), server.url)
    print(", ".join(f"{len(names)} {kind}" for kind, names in found.items()))
    for module, calls in sorted(found["modules"].items()):
        print(f"  {calls:5}  {module}")


if __name__ == "__main__":
    main()
