"""The time of importing the core, and of the help of the command line, above that of a bare interpreter."""

from __future__ import annotations

from benchmarks.model import Contestant, Target, Task

BARE = Contestant("startup", "bare", "bare interpreter", "ours", bare=True)
CORE = Contestant("startup", "core", "import ipfs_dataset_core", "ours")
HELP = Contestant("startup", "command_help", "ipfs-dataset --help", "ours")

TASKS = (
    Task(
        name="startup",
        title="start-up",
        data="items",
        contestants=(BARE, CORE, HELP),
        targets=(
            Target(CORE.name, "above", 60, BARE.name),
            Target(HELP.name, "above", 150, BARE.name),
        ),
        metric="item_ms",
        digest="none",
    ),
)
