"""Forks while another thread holds a lock of Python: they wait, so that the child does not wait forever."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
from typing import Any

import pytest

from ipfs_dataset_core import NameRecordError
from ipfs_dataset_core.runtime import forks
from ipfs_dataset_core.runtime.forks import before_forks
from ipfs_dataset_core.sources import names

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# How long a thread still needs when the fork begins.
REST = 0.3

import_begun = threading.Event()


def forked(function, *arguments):
    """Returns the exit status of a forked process that calls a function; None if it hangs."""
    child = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    child.start()
    child.join(60)
    status = child.exitcode
    child.kill()
    child.join()
    return status


@pytest.fixture
def slow_module(tmp_path, monkeypatch):
    """The name of a module whose import waits for a while after it has begun."""
    name = "imported_slowly"
    (tmp_path / f"{name}.py").write_text(
        f"import time\nfrom {__name__} import import_begun\nimport_begun.set()\ntime.sleep({REST})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield name
    sys.modules.pop(name, None)


def test_a_fork_waits_for_the_import_of_another_thread(slow_module):
    thread = threading.Thread(target=__import__, args=(slow_module,))
    import_begun.clear()
    thread.start()
    assert import_begun.wait(60)
    assert forked(__import__, slow_module) == 0
    thread.join()


def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_a_fork_waits_for_the_blocks_of_other_threads():
    begun = threading.Event()
    ended = []

    def work():
        with before_forks("the work"):
            begun.set()
            time.sleep(REST)
            ended.append(True)

    thread = in_thread(work)
    assert begun.wait(60)
    # The child has what its parent had at the fork.
    assert forked(lambda: sys.exit(ended != [True])) == 0
    thread.join()


def test_a_thread_may_fork_in_a_block_of_its_own(caplog):
    def check():
        with before_forks("more"):
            assert forks._unfinished() == []

    with before_forks("the work"):
        assert forked(check) == 0
    assert not caplog.records


def test_the_wait_of_a_fork_is_limited(monkeypatch, caplog):
    monkeypatch.setattr(forks, "_MOST_SECONDS", 0.01)
    begun, end = threading.Event(), threading.Event()

    def work():
        with before_forks("the work"):
            begun.set()
            end.wait(60)

    thread = in_thread(work)
    assert begun.wait(60)
    # The thread does not exist in the child, whose own children need not wait for it.
    with caplog.at_level(logging.WARNING):
        assert forked(lambda: sys.exit(bool(forks._blocks))) == 0
    end.set()
    thread.join()
    assert "has not finished the work for 0.01 s" in caplog.text
    assert forks._blocks == []


def test_no_block_begins_while_a_process_is_forked(monkeypatch):
    # Between the check for blocks and the fork, another thread may run.
    monkeypatch.setattr(forks, "_forking", -1)
    entered = threading.Event()

    def work():
        with before_forks("the work"):
            entered.set()

    thread = in_thread(work)
    assert not entered.wait(REST)
    forks._end_fork()
    assert entered.wait(60)
    thread.join()
    assert forks._blocks == []
    assert forked(lambda: sys.exit(forks._forking is not None)) == 0
    assert forks._forking is None


def test_a_fork_waits_for_the_check_of_a_signature(monkeypatch):
    begun = threading.Event()
    in_check = []

    def slow_check(_record, _name):
        in_check.append(True)
        begun.set()
        time.sleep(REST)
        in_check.pop()
        raise NameRecordError("is forged")

    monkeypatch.setattr(names, "verify_record", slow_check)

    unused: Any = None

    def check():
        with pytest.raises(NameRecordError):
            names._accepted(b"", unused, unused)

    thread = in_thread(check)
    assert begun.wait(60)
    assert forked(lambda: sys.exit(bool(in_check))) == 0
    thread.join()
