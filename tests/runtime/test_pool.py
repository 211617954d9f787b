"""The pool: as many threads as work needs, never more than its size, and none that delays the end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import weakref
from functools import partial

import pytest

from ipfs_dataset_core.runtime.pool import DaemonPool, call_at_once

TIMEOUT = 10


def test_all_work_is_done_by_at_most_size_threads():
    pool = DaemonPool(3, "test-pool")
    lock = threading.Lock()
    running, most, done = 0, 0, 0
    everything = threading.Event()

    def work():
        nonlocal running, most, done
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.001)
        with lock:
            running -= 1
            done += 1
            if done == 200:
                everything.set()

    for _ in range(200):
        pool.submit(work)
    assert everything.wait(TIMEOUT)
    assert 1 < most <= 3
    pool.close()


def test_work_that_waits_for_other_work_gets_another_thread():
    pool = DaemonPool(2, "test-pool")
    first_runs, second_ran = threading.Event(), threading.Event()

    def first():
        first_runs.set()
        assert second_ran.wait(TIMEOUT)

    pool.submit(first)
    assert first_runs.wait(TIMEOUT)
    pool.submit(second_ran.set)
    assert second_ran.wait(TIMEOUT)
    pool.close()


def test_an_idle_thread_is_used_again():
    pool = DaemonPool(8, "test-reuse")
    for _ in range(20):
        done = threading.Event()
        pool.submit(done.set)
        assert done.wait(TIMEOUT)
        # Idle again only some moments after its work is done.
        while pool._idle != pool._started:
            pass
    assert pool._started == 1
    pool.close()


def test_threads_start_only_for_work():
    before = threading.active_count()
    pool = DaemonPool(4, "test-pool")
    assert threading.active_count() == before
    pool.close()


def test_closing_drops_work_ends_the_threads_and_refuses_more():
    pool = DaemonPool(1, "test-closing")
    begun, finish, dropped = threading.Event(), threading.Event(), threading.Event()

    def work():
        begun.set()
        finish.wait(TIMEOUT)

    pool.submit(work)
    assert begun.wait(TIMEOUT)
    pool.submit(dropped.set)
    pool.close()
    finish.set()
    for thread in threading.enumerate():
        if thread.name.startswith("test-closing"):
            thread.join(TIMEOUT)
            assert not thread.is_alive()
    assert not dropped.is_set()
    with pytest.raises(RuntimeError, match="test-closing is closed"):
        pool.submit(begun.set)


def test_a_thread_in_the_middle_of_its_work_does_not_delay_the_end():
    code = (
        "import time; from ipfs_dataset_core.runtime.pool import DaemonPool\n"
        "pool = DaemonPool(1, 'x'); pool.submit(lambda: time.sleep(600)); time.sleep(0.1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_threads_without_work_end_and_release_their_last_work():
    pool = DaemonPool(2, "test-patience", patience=0.05)

    class Owner:
        def work(self):
            done.set()

    for _ in range(2):
        done, owner = threading.Event(), Owner()
        forgotten = weakref.ref(owner)
        pool.submit(owner.work)
        assert done.wait(TIMEOUT)
        del owner
        end = time.monotonic() + TIMEOUT
        while pool._started and time.monotonic() < end:
            time.sleep(0.01)
        assert pool._started == 0
        assert forgotten() is None
    pool.close()


def test_an_idle_thread_holds_no_reference_to_its_last_work():
    pool = DaemonPool(1, "test-idling")

    class Owner:
        def work(self):
            done.set()

    done, owner = threading.Event(), Owner()
    forgotten = weakref.ref(owner)
    pool.submit(owner.work)
    assert done.wait(TIMEOUT)
    del owner
    end = time.monotonic() + TIMEOUT
    while forgotten() is not None and time.monotonic() < end:
        time.sleep(0.01)
    assert forgotten() is None
    assert pool._started == 1
    pool.close()


def test_an_idle_thread_that_ends_calls_retired():
    retired = threading.Event()
    pool = DaemonPool(1, "test-pool", patience=0.01, retired=retired.set)
    pool.submit(lambda: None)
    assert retired.wait(TIMEOUT)
    pool.close()


def test_the_number_of_threads_may_grow():
    most, running = [1], threading.Barrier(3)
    pool = DaemonPool(lambda: most[0], "test-growing")
    started = threading.Semaphore(0)

    def work():
        started.release()
        running.wait(20)

    pool.submit(work)
    assert started.acquire(timeout=20)
    pool.submit(work)
    assert not started.acquire(blocking=False)
    most[0] = 3
    pool.submit(work)  # starts one thread, which takes what waits
    pool.submit(lambda: None)  # and another
    assert started.acquire(timeout=20)
    assert started.acquire(timeout=20)
    pool.close()


def test_a_thread_that_the_system_refuses_is_not_counted(monkeypatch):
    pool, refused, done = DaemonPool(1, "test-refused"), [], threading.Event()
    start = threading.Thread.start

    def refuse(thread):
        refused.append(thread.name)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="can't start"):
            pool.submit(lambda: pytest.fail("this work was refused"))
    monkeypatch.setattr(threading.Thread, "start", start)
    pool.submit(done.set)
    assert done.wait(TIMEOUT)
    assert len(refused) == 3
    pool.close()


def test_work_waits_for_a_running_thread_where_the_system_refuses_another(monkeypatch):
    pool, running, free = DaemonPool(2, "test-refused"), threading.Event(), threading.Event()

    def first():
        running.set()
        assert free.wait(TIMEOUT)

    def refuse(_):
        raise RuntimeError("can't start new thread")

    pool.submit(first)
    assert running.wait(TIMEOUT)
    ended = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        pool.submit(ended.set)
    assert not ended.is_set()
    free.set()
    assert ended.wait(TIMEOUT)
    pool.close()


def test_dropped_work_calls_its_callback():
    pool = DaemonPool(1, "test-dropped")
    begun, released = threading.Event(), threading.Event()
    dropped: list[int] = []

    def first():
        begun.set()
        released.wait(TIMEOUT)

    pool.submit(first, partial(dropped.append, 0))
    assert begun.wait(TIMEOUT)
    for number in range(3):
        pool.submit(lambda: None, partial(dropped.append, 1 + number))
    pool.submit(lambda: None)
    pool.close()
    assert dropped == [1, 2, 3]
    released.set()


def test_failed_work_is_logged_and_does_not_end_its_thread(caplog):
    pool, done = DaemonPool(1, "test-failing"), threading.Event()

    def fail():
        raise ZeroDivisionError("a defect")

    for _ in range(3):
        pool.submit(fail)
    pool.submit(done.set)
    assert done.wait(TIMEOUT)
    assert caplog.text.count("ZeroDivisionError: a defect") == 3
    pool.close()


def test_the_threads_of_a_closed_pool_are_waited_for_no_longer_than_asked():
    pool, begun, release = DaemonPool(2, "test-joining"), threading.Event(), threading.Event()

    def work():
        begun.set()
        release.wait(TIMEOUT)

    pool.submit(work)
    assert begun.wait(TIMEOUT)
    pool.close()
    pool.join(0.01)
    assert any(thread.name == "test-joining-1" for thread in threading.enumerate())
    release.set()
    pool.join(float("inf"))
    assert not any(thread.name.startswith("test-joining") for thread in threading.enumerate())


def test_calls_at_once_wait_for_each_other_and_all_are_done():
    together = threading.Barrier(3)
    done = []

    def call(number):
        if number < 3:
            together.wait(20)
        done.append(number)

    call_at_once(call, range(50), 3, "calls")
    assert sorted(done) == list(range(50))
    call_at_once(call, [], 3, "calls")


def test_the_first_error_is_raised_after_all_calls_have_ended():
    running = set()

    def call(number):
        running.add(number)
        time.sleep(0.01)
        running.discard(number)
        if number in (4, 7):
            raise ValueError(number)

    with pytest.raises(ValueError, match=r"^4$"):
        call_at_once(call, range(40), 4, "calls")
    assert not running


def test_calls_run_in_the_calling_thread_if_the_system_refuses_threads(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    found = []
    call_at_once(lambda number: found.append((number, threading.get_ident())), range(3), 2, "calls")
    assert found == [(number, threading.get_ident()) for number in range(3)]
