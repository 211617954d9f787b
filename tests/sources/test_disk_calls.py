"""Calls to a disk return in time even if it does not answer, and it is used again after it does."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref

import pytest

from ipfs_dataset_core.runtime.deadlines import time_left, until
from ipfs_dataset_core.sources.disk_calls import DiskCalls, SilentDiskError

# Longer than any test runs.
LONG = 600


@pytest.fixture
def make_calls():
    made = []

    def make(what="disk /d", seconds=LONG, **options):
        made.append(DiskCalls(what, seconds, **options))
        return made[-1]

    yield make
    for calls in made:
        calls.close()


class Hanging:
    """A function that waits until `release` is set, and sets `ended` when it returns."""

    def __init__(self, result="late"):
        self.release, self.started, self.ended = (threading.Event() for _ in range(3))
        self.result = result

    def __call__(self):
        self.started.set()
        assert self.release.wait(60)
        self.ended.set()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def wait_until_used(calls):
    """Waits until a disk is used again, for at most 20 seconds."""
    end = time.monotonic() + 20
    while True:
        try:
            return calls.run(lambda: "used")
        except SilentDiskError:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_the_result_of_a_function_is_returned(make_calls):
    calls = make_calls()
    assert [calls.run(lambda n=n: n * n) for n in range(20)] == [n * n for n in range(20)]
    assert calls.run(lambda: None) is None


@pytest.mark.parametrize("error", [OSError(5, "broken"), ValueError("bug"), KeyboardInterrupt()])
def test_the_error_of_a_function_is_raised(make_calls, error):
    def fail():
        raise error

    with pytest.raises(type(error)) as caught:
        make_calls().run(fail)
    assert caught.value is error


def test_an_error_that_was_raised_does_not_keep_itself_in_memory(make_calls):
    class OwnError(Exception):
        """Can be referred to weakly."""

    def fail():
        raise OwnError

    calls, errors = make_calls(), []
    gc.disable()
    try:
        try:
            calls.run(fail)
        except OwnError as error:
            errors.append(weakref.ref(error))
        end = time.monotonic() + 20
        while errors[0]() is not None:  # the thread of the call may not have ended yet
            calls.run(lambda: None)
            assert time.monotonic() < end
    finally:
        gc.enable()


def test_functions_do_not_run_in_the_thread_of_the_caller(make_calls):
    assert make_calls().run(threading.get_ident) != threading.get_ident()


def test_calls_of_several_threads_run_at_the_same_time(make_calls):
    calls, barrier = make_calls(), threading.Barrier(8)
    threads = [
        threading.Thread(target=calls.run, args=(lambda: barrier.wait(60),)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert not barrier.broken


def test_a_disk_that_does_not_answer_fails_the_call_and_then_others_at_once(make_calls):
    calls, hanging = make_calls(seconds=0.2), Hanging()
    with pytest.raises(SilentDiskError, match=r"^disk /d has not answered for 0\.2 s$"):
        calls.run(hanging)
    used = []
    with pytest.raises(SilentDiskError, match=r"^disk /d does not answer$"):
        calls.run(lambda: used.append(1))
    assert used == []
    assert not hanging.ended.is_set()
    hanging.release.set()
    assert wait_until_used(calls) == "used"


@pytest.mark.parametrize("result", ["late", OSError("too late")])
def test_a_disk_is_used_again_only_after_all_late_calls_have_ended(make_calls, result):
    calls, hanging = make_calls(seconds=0.5), [Hanging(result), Hanging(result)]
    errors = []

    def run(function):
        try:
            calls.run(function)
        except SilentDiskError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in hanging]
    for thread in threads:
        thread.start()
    for function in hanging:
        assert function.started.wait(60)
    for thread in threads:
        thread.join(60)
    assert len(errors) == 2
    hanging[0].release.set()
    assert hanging[0].ended.wait(60)
    for _ in range(5):
        time.sleep(0.01)
        with pytest.raises(SilentDiskError):
            calls.run(lambda: None)
    hanging[1].release.set()
    assert wait_until_used(calls) == "used"


def test_one_warning_is_logged_when_a_disk_stops_answering_and_one_when_it_answers(
    make_calls, caplog
):
    calls, hanging = make_calls(seconds=0.2), Hanging()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with pytest.raises(SilentDiskError):
                calls.run(hanging)
        assert [record.getMessage() for record in caplog.records] == [
            "disk /d has not answered for 0.2 s: it is not used until it does"
        ]
        caplog.clear()
        hanging.release.set()
        wait_until_used(calls)
        assert [record.getMessage() for record in caplog.records] == [
            "disk /d answers again, and is used again"
        ]


def test_a_disk_gets_a_share_of_the_time_that_is_left(make_calls):
    calls, hanging = make_calls(share=0.01), Hanging()
    # A hundredth of a minute: much less than the time left, and more than the minimum.
    with until(time.monotonic() + 60), pytest.raises(SilentDiskError, match=r"for 0\.(6|59\d*) s"):
        calls.run(hanging)
    hanging.release.set()


@pytest.mark.parametrize("seconds", [-5, 0, 0.001])
def test_a_read_that_is_late_still_gives_the_disk_a_tenth_of_a_second(make_calls, seconds):
    calls = make_calls()
    with until(time.monotonic() + seconds):
        assert calls.run(lambda: "found") == "found"
        hanging = Hanging()
        with pytest.raises(SilentDiskError, match=r"for 0\.1 s"):
            calls.run(hanging)
    hanging.release.set()


def test_functions_have_the_deadline_of_the_caller(make_calls):
    with until(time.monotonic() + 300):
        assert 200 < make_calls().run(time_left) <= 300
    assert make_calls().run(time_left) == float("inf")


def test_after_closing_functions_run_in_the_thread_of_the_caller(make_calls):
    calls = make_calls()
    calls.run(lambda: None)
    calls.close()
    assert calls.run(threading.get_ident) == threading.get_ident()


def test_threads_end_after_closing(make_calls):
    before = set(threading.enumerate())
    calls = make_calls()
    calls.run(lambda: None)
    threads = set(threading.enumerate()) - before
    assert threads
    calls.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
