"""Publishing a dataset of tensors and labels; new samples in each run, because a node stores a block once."""

from __future__ import annotations

from benchmarks.model import Contestant, Target, Task

ADD = Contestant("kubo_add", "add_shards", "ipfs add of finished shards", "ours", bare=True)
NODE = Contestant("ours_export", "to_node", "ipfs-dataset, to a node", "ours", bare=True)
STORE = Contestant("ours_export", "to_store", "ipfs-dataset, to a store", "ours", bare=True)
IMPORT = Contestant(
    "ours_export", "import_blocks", "blocks made before, to a node (limit)", "ours", bare=True
)
READ_HASH_IMPORT = Contestant(
    "ours_export",
    "read_hash_import",
    "the same, samples read and blocks hashed (limit)",
    "ours",
    bare=True,
)
ORIGINAL = Contestant("original_export", "to_node", "the first ipfs-dataset", "original", bare=True)

TASKS = (
    Task(
        name="export",
        title="export of 20,000 samples, 200 MB",
        data="samples",
        contestants=(ADD, IMPORT, READ_HASH_IMPORT, NODE, STORE, ORIGINAL),
        targets=(
            Target(NODE.name, "ratio", 0.8, ADD.name),
            Target(STORE.name, "ratio", 0.8, ADD.name),
            Target(NODE.name, "ratio", 4, ORIGINAL.name),
            Target(NODE.name, "peak_mb", 150),
            Target(STORE.name, "peak_mb", 150),
        ),
        digest="none",
        own_node=True,
    ),
)
