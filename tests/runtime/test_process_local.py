"""Values that belong to one process: made once in each, never shared by fork, never pickled."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading

import pytest

from ipfs_dataset_core.runtime.process_local import ProcessLocal


class Client:
    """Like a connection: it knows its process and cannot be pickled."""

    def __init__(self):
        self.process = os.getpid()
        self.lock = threading.Lock()


def answer(queue, local):
    queue.put((os.getpid(), local.get().process))


def in_child(method, local):
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    child = context.Process(target=answer, args=(queue, local))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    return queue.get()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_each_process_creates_its_own_value(method):
    local = ProcessLocal(Client)
    mine = local.get()
    assert local.get() is mine
    process, made_in = in_child(method, local)
    assert process == made_in != os.getpid()
    assert local.get() is mine


def test_the_function_is_pickled_instead_of_the_value():
    local = ProcessLocal(Client)
    mine = local.get()
    again = pickle.loads(pickle.dumps(local))
    assert again.get() is not mine
    assert isinstance(again.get(), Client)


def test_threads_share_one_value():
    made = []
    together = threading.Barrier(8)

    def make():
        made.append(1)
        return object()

    local = ProcessLocal(make)
    found = []

    def get():
        together.wait()
        found.append(local.get())

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(set(map(id, found))) == 1


def test_creating_one_value_does_not_block_another():
    started, finish = threading.Event(), threading.Event()

    def slow():
        started.set()
        assert finish.wait(10)
        return "slow"

    blocked = ProcessLocal(slow)
    thread = threading.Thread(target=blocked.get)
    thread.start()
    assert started.wait(10)
    assert ProcessLocal(lambda: "quick").get() == "quick"
    finish.set()
    thread.join()
    assert blocked.get() == "slow"


def test_a_child_that_is_forked_while_another_thread_makes_the_value_makes_its_own():
    started, finish = threading.Event(), threading.Event()
    parent = os.getpid()

    def slow_in_parent():
        if os.getpid() == parent:
            started.set()
            assert finish.wait(10)
        return Client()

    local = ProcessLocal(slow_in_parent)
    thread = threading.Thread(target=local.get)
    thread.start()
    assert started.wait(10)
    process, made_in = in_child("fork", local)
    finish.set()
    thread.join()
    assert process == made_in


def test_a_value_that_could_not_be_made_is_tried_again():
    outcomes = iter([OSError("busy"), "made"])

    def make():
        outcome = next(outcomes)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    local = ProcessLocal(make)
    with pytest.raises(OSError, match="busy"):
        local.get()
    assert local.get() == "made"


@pytest.mark.parametrize("value", [None, 0, "x"])
def test_pop_removes_the_value(value):
    made = []

    def make():
        made.append(1)
        return value

    local = ProcessLocal(make)
    assert local.pop() is None
    assert local.get() == value
    assert local.get() == value
    assert local.pop() == value
    assert local.pop() is None
    assert local.get() == value
    assert len(made) == 2


def test_a_value_created_elsewhere_is_used_if_there_is_none():
    local, mine = ProcessLocal(Client), Client()
    local.put(mine)
    assert local.get() is mine
    local.put(Client())
    assert local.get() is mine
    local.pop()
    assert local.get() is not mine
