"""At the end of the process daemon threads leave libraries and stay where they are; then all is closed."""

from __future__ import annotations

import os
import sys

import pytest

from tests.support.ending import check_ending

BEGIN = """
import os, sys, threading, time
from ipfs_dataset_core import FileView, at_exit
from ipfs_dataset_core.testing import MemoryFile

def say(*words):
    os.write(1, (" ".join(words) + "\\n").encode())

def slowly(start, stop):
    begun.set()
    time.sleep(0.3)
    return bytes(stop - start)

begun, source = threading.Event(), MemoryFile(slowly, size=1000)
view = FileView(source)

def use(times):
    with view.errors():
        say("in")
        try:
            for _ in range(times):
                view.read(1)
        finally:
            say("out")
    say("and on")

def start(times, daemon=True):
    threading.Thread(target=use, args=(times,), daemon=daemon).start()
    begun.wait()

at_exit(lambda: say("close"))
"""


def test_a_daemon_thread_in_the_middle_of_a_read_leaves_before_all_is_closed():
    assert check_ending(BEGIN + "start(1)").split() == ["in", "out", "close"]


def test_a_daemon_thread_with_many_reads_before_it_leaves_at_the_next():
    assert check_ending(BEGIN + "start(1_000_000)").split() == ["in", "out", "close"]


def test_a_daemon_thread_does_not_enter_any_more():
    program = """
at_exit(lambda: (threading.Thread(target=use, args=(1,), daemon=True).start(), time.sleep(0.3)))
"""
    assert check_ending(BEGIN + program).split() == ["close"]


def test_other_threads_are_not_disturbed():
    said = check_ending(BEGIN + "start(2, daemon=False)").splitlines()
    assert said == ["in", "out", "and on", "close"]


def test_what_is_closed_first_was_opened_last_and_may_read():
    program = "at_exit(lambda: use(1))\nat_exit(lambda: say('first'))"
    said = check_ending(BEGIN + program).splitlines()
    assert said == ["first", "in", "out", "and on", "close"]


def test_an_error_of_a_thread_that_goes_on_is_its_own():
    program = """
try:
    with view.errors():
        raise KeyError("mine")
except KeyError:
    say("caught")
"""
    assert check_ending(BEGIN + program).split() == ["caught", "close"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python warns of threads beside a fork")
def test_a_forked_child_does_not_wait_for_the_threads_of_its_parent():
    program = """
start(10)
child = os.fork()
if child:
    os.waitpid(child, 0)
    say("parent")
"""
    said = check_ending(BEGIN + program).split()
    assert said == ["in", "close", "parent", "out", "close"]
