"""Threads that want the same bytes share one fetch, and the outcome reaches each of them."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest

from ipfs_dataset_core.errors import TransportError, TransportTimeoutError
from ipfs_dataset_core.reading.single_flight import Flight, SingleFlight
from ipfs_dataset_core.runtime.deadlines import until


class Fetch:
    """Counts its calls; each returns or raises the next outcome, once it may."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.calls = 0
        self.entered, self.may_return = threading.Event(), threading.Event()

    def __call__(self):
        outcome = self.outcomes[self.calls]
        self.calls += 1
        self.entered.set()
        assert self.may_return.wait(20)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    @staticmethod
    def failing():
        raise TransportError("gone")


def in_threads(count, function):
    """Runs a function in threads; returns these, and a list that will have what each returned or raised."""
    results = []

    def run():
        try:
            results.append(function())
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, results


def join(threads):
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_threads_that_want_one_value_share_one_fetch_and_later_ones_get_it_from_the_cache():
    flights, fetch = SingleFlight(100), Fetch(b"value")
    threads, results = in_threads(8, lambda: flights.fetch(b"key", fetch))
    assert fetch.entered.wait(20)
    fetch.may_return.set()
    join(threads)
    assert results == [b"value"] * 8
    assert flights.fetch(b"key", fetch) == b"value"
    assert fetch.calls == 1


def test_different_keys_are_fetched_side_by_side():
    flights, first, second = SingleFlight(100), Fetch(b"1"), Fetch(b"2")
    one, results = in_threads(1, lambda: flights.fetch(b"first", first))
    assert first.entered.wait(20)
    second.may_return.set()
    assert flights.fetch(b"second", second) == b"2"
    first.may_return.set()
    join(one)
    assert results == [b"1"]


def test_where_the_fetch_of_another_thread_fails_each_waiting_thread_tries_once_itself():
    flights = SingleFlight(100)
    fetch = Fetch(TransportError("first"), b"value")
    fetching, failed = in_threads(1, lambda: flights.fetch(b"key", fetch))
    assert fetch.entered.wait(20)
    waiting, results = in_threads(3, lambda: flights.fetch(b"key", fetch))
    time.sleep(0.05)
    fetch.may_return.set()
    join([*fetching, *waiting])
    assert [str(error) for error in failed] == ["first"]
    assert results == [b"value"] * 3
    assert fetch.calls == 2


def test_the_interruption_of_one_thread_is_not_raised_in_those_that_wait_for_it():
    flights = SingleFlight(100)
    fetch = Fetch(KeyboardInterrupt(), b"value")
    fetching, interrupted = in_threads(1, lambda: flights.fetch(b"key", fetch))
    assert fetch.entered.wait(20)
    waiting, results = in_threads(1, lambda: flights.fetch(b"key", fetch))
    time.sleep(0.05)
    fetch.may_return.set()
    join([*fetching, *waiting])
    assert [type(error) for error in interrupted] == [KeyboardInterrupt]
    assert results == [b"value"]


@pytest.mark.parametrize("error", [TransportTimeoutError("source"), KeyError("defect")])
def test_the_error_of_an_own_fetch_is_raised_as_it_is(error):
    flights, fetch = SingleFlight(100), Fetch(error)
    fetch.may_return.set()
    with pytest.raises(type(error)) as caught:
        flights.fetch(b"key", fetch)
    assert caught.value is error
    assert fetch.calls == 1


def test_a_value_that_does_not_fit_the_cache_still_reaches_the_threads_that_wait():
    flights, fetch = SingleFlight(3), Fetch(b"long value", b"again")
    threads, results = in_threads(2, lambda: flights.fetch(b"key", fetch))
    assert fetch.entered.wait(20)
    time.sleep(0.05)
    fetch.may_return.set()
    join(threads)
    assert set(results) <= {b"long value", b"again"}
    assert flights.get(b"key") is None


def test_waiting_for_another_thread_ends_with_the_own_deadline():
    flights, fetch = SingleFlight(100), Fetch(b"value")
    threads, results = in_threads(1, lambda: flights.fetch(b"key", fetch))
    assert fetch.entered.wait(20)
    with (
        pytest.raises(TransportTimeoutError, match="another thread"),
        until(time.monotonic() + 0.05),
    ):
        flights.fetch(b"key", fetch)
    fetch.may_return.set()
    join(threads)
    assert results == [b"value"]


def test_a_key_is_acquired_by_one_thread_at_a_time_and_not_while_it_is_cached():
    flights = SingleFlight(100)
    flight = flights.acquire(b"key")
    assert flight is not None
    assert flights.acquire(b"key") is None
    flight.land(b"value")
    assert flights.acquire(b"key") is None
    assert flight.wait() == b"value"
    flights.drop(b"key")
    assert flights.acquire(b"key") is not None


def test_a_failed_flight_can_be_acquired_again():
    flights = SingleFlight(100)
    flight = flights.acquire(b"key")
    assert flight is not None
    flight.fail(TransportError("cut"))
    with pytest.raises(TransportError, match="cut"):
        flight.wait()
    assert flights.acquire(b"key") is not None


def test_when_all_fail_those_who_wait_get_the_error_and_a_late_value_is_cached():
    flights = SingleFlight(100)
    flight = flights.acquire(b"key")
    assert flight is not None
    flights.fail_all("closed")
    with pytest.raises(TransportError, match="closed"):
        flight.wait()
    fetch = Fetch(b"value")
    flight.run(fetch)
    assert fetch.calls == 0, "nobody waits for it any more"
    flight.land(b"value")
    assert flights.get(b"key") == b"value"
    with pytest.raises(TransportError, match="closed"):
        flight.wait()


def test_what_is_being_received_counts_as_memory():
    flights = SingleFlight(100)
    for number in range(5):
        flights.put(b"%d" % number, bytes(20))
    assert len(flights) == 5
    first, second = Flight(flights, b"first"), Flight(flights, b"second")
    with first.receiving():
        assert len(flights) == 4
        with second.receiving():
            assert len(flights) == 3
            flights.put(b"other", bytes(20))  # the least recently used one makes room
            assert len(flights) == 3
    assert b"other" in flights
    assert b"0" not in flights
    flights.put(b"5", bytes(20))
    flights.put(b"6", bytes(20))
    assert len(flights) == 5


def test_half_is_kept_however_much_is_being_received():
    flights = SingleFlight(100)
    for number in range(5):
        flights.put(b"%d" % number, bytes(20))
    with ExitStack() as stack:
        for number in range(20):
            stack.enter_context(Flight(flights, b"f%d" % number).receiving())
        assert len(flights) == 2
        flights.put(b"large", bytes(90))
    assert flights.fetch(b"later", lambda: b"value") == b"value"


def test_what_failed_to_arrive_takes_no_memory():
    flights = SingleFlight(100)
    for number in range(5):
        flights.put(b"%d" % number, bytes(20))
    for _ in range(9):
        with pytest.raises(TransportError):
            flights.fetch(b"key", Fetch.failing)
    flights.put(b"5", bytes(20))
    assert len(flights) == 5
