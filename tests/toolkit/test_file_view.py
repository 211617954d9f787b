"""A view reads as the file does, keeps nobody alive, and gives back what the source raised."""

from __future__ import annotations

import gc
import io
import os
import sys
import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import FileView, FormatError, TransportError
from ipfs_dataset_core.testing import MemoryFile
from tests.support.ending import check_ending

DATA = bytes(range(256))
steps = st.lists(
    st.tuples(st.just("read"), st.integers(-1, 300), st.just(0))
    | st.tuples(st.just("seek"), st.integers(-300, 300), st.integers(0, 2))
)


@given(steps)
def test_a_view_is_a_binary_file(steps):
    source, expected = MemoryFile(DATA), io.BytesIO(DATA)
    view = FileView(source)
    for method, number, whence in steps:
        if method == "read":
            assert view.read(number) == expected.read(number)
        elif number + (0, expected.tell(), len(DATA))[whence] >= 0:
            assert view.seek(number, whence) == expected.seek(number, whence)
        else:
            with pytest.raises(OSError, match="no position -"):
                view.seek(number, whence)
        assert view.tell() == expected.tell()


def test_views_of_one_file_have_positions_of_their_own():
    source = MemoryFile(DATA)
    one, other = FileView(source), FileView(source)
    assert (one.size, one.read(3), other.read(2), one.read(1)) == (
        256,
        DATA[:3],
        DATA[:2],
        DATA[3:4],
    )
    assert (one.readable(), one.seekable(), one.writable()) == (True, True, False)


def test_a_read_of_any_size_takes_no_more_memory_than_there_are_bytes():
    source = MemoryFile(DATA)
    view = FileView(source)
    assert view.read(1 << 60) == DATA
    assert view.read(1 << 60) == b""


def test_beyond_the_end_are_zeros_where_they_are_wanted():
    buffer = bytearray(b"x" * 8)
    source = MemoryFile(DATA)
    view = FileView(source, padded=True)
    view.seek(252)
    assert view.readinto(buffer) == 4
    assert buffer == DATA[252:] + bytes(4)


def test_a_view_does_not_keep_the_file_in_memory():
    source = MemoryFile(DATA)
    view, forgotten = FileView(source), weakref.ref(source)
    del source
    gc.collect()
    assert forgotten() is None
    with pytest.raises(ValueError, match="the file was closed"):
        view.read(1)


class Library:
    """Makes its own errors of those of its files, and may do without an answer."""

    def __init__(self, file):
        self.file = file

    def read(self):
        try:
            return self.file.read(1)
        except Exception as error:
            raise OSError("the library cannot read") from error

    def probe(self):
        try:
            return self.file.read(1)
        except Exception:
            return None


def broken(start, stop):
    raise TransportError("the source is gone")


def test_an_error_of_the_source_is_raised_for_that_of_the_library():
    source = MemoryFile(broken, size=10)
    view = FileView(source)
    with pytest.raises(TransportError, match="the source is gone") as caught, view.errors():
        Library(view).read()
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("error", [FormatError("damaged"), OSError("damaged")])
def test_an_error_of_the_library_stays_one(error):
    source = MemoryFile(broken, size=10)
    view = FileView(source)
    with view.errors():
        assert Library(view).probe() is None
    with pytest.raises(type(error), match="damaged"), view.errors():
        raise error


def test_an_error_of_the_source_is_raised_in_the_thread_that_read():
    view = FileView(source := MemoryFile(broken, size=10))
    has_failed, may_return = threading.Event(), threading.Event()
    found = []

    def read():
        try:
            with view.errors():
                try:
                    view.read(1)
                except TransportError:
                    has_failed.set()
                    may_return.wait(60)
                    raise OSError("the library cannot read") from None
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    has_failed.wait(60)
    with pytest.raises(OSError, match="damaged"), view.errors():
        raise OSError("damaged")
    may_return.set()
    thread.join()
    assert [type(error) for error in found] == [TransportError]
    assert source.size == 10  # the source was in use all the time


def test_a_raised_error_is_not_kept():
    """Its traceback may lead to what keeps the view alive in ways that no collector of garbage sees."""
    source = MemoryFile(broken, size=10)
    view = FileView(source)

    class Opened:
        pass

    def use():
        opened = Opened()
        with pytest.raises(TransportError), view.errors():
            Library(view).read()
        return weakref.ref(opened)

    forgotten = use()
    gc.collect()
    assert forgotten() is None


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


def test_objects_are_closed_in_reverse_order_and_may_read_while_closing():
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


@pytest.mark.parametrize("whence", [3, -1])
def test_an_unknown_whence_is_refused_as_by_other_files(whence):
    with pytest.raises(ValueError, match="whence must be 0, 1 or 2"):
        FileView(MemoryFile(DATA)).seek(0, whence)
