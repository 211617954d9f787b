"""All tasks, in the order in which they run."""

from __future__ import annotations

from benchmarks.tasks import (
    compressed,
    export,
    first,
    folder,
    memory,
    plain,
    second,
    shards,
    shuffle,
    startup,
    tar,
    zips,
)

_MODULES = (plain, tar, compressed, zips, folder, shards, first, second, export, shuffle, startup)

TASKS = {task.name: task for module in (*_MODULES, memory) for task in module.TASKS}
# Not part of a whole run; `--tasks` selects them.
OTHER_TASKS = {task.name: task for task in shards.BY_SIZE}
