"""Values that readers keep for each object: one for each object and process, freed with the object."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import threading

import pytest

from ipfs_dataset_core import ObjectLocal
from ipfs_dataset_core.testing import MemoryFile


class Opened:
    """Like the file of a library, which belongs to a process."""

    def __init__(self, source):
        self.name = source.name
        self.process = os.getpid()


def test_each_object_has_one_value():
    local, first, second = ObjectLocal(Opened), MemoryFile(b"", "a"), MemoryFile(b"", "b")
    assert local.get(first) is local.get(first)
    assert (local.get(first).name, local.get(second).name, len(local)) == ("a", "b", 2)


def test_a_value_is_freed_with_its_object():
    local, source = ObjectLocal(Opened), MemoryFile(b"")
    local.get(source)
    del source
    gc.collect()
    assert len(local) == 0


def test_an_error_of_make_is_raised_and_the_next_get_tries_again():
    results = [ValueError("damaged"), "opened"]

    def make(source):
        if isinstance(result := results.pop(0), Exception):
            raise result
        return result

    local, source = ObjectLocal(make), MemoryFile(b"")
    with pytest.raises(ValueError, match="damaged"):
        local.get(source)
    assert local.get(source) == "opened"


def test_threads_that_open_an_object_at_once_share_a_value():
    together = threading.Barrier(4, timeout=60)

    def make(source):
        together.wait()  # all threads make a value
        return Opened(source)

    local, source, found = ObjectLocal(make), MemoryFile(b""), []
    threads = [threading.Thread(target=lambda: found.append(local.get(source))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


def test_values_are_not_pickled():
    local, source = ObjectLocal(Opened), MemoryFile(b"", "a")
    local.get(source)
    again = pickle.loads(pickle.dumps(local))
    assert len(again) == 0
    assert again.get(source).name == "a"


def test_a_forked_process_makes_its_own_values():
    local, source = ObjectLocal(Opened), MemoryFile(b"")
    assert local.get(source).process == os.getpid()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put((os.getpid(), local.get(source).process)))
    child.start()
    child.join(60)
    process, opened_in = queue.get()
    assert process == opened_in != os.getpid()
