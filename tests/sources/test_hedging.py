"""The next source is asked when one fails or is late, and the first good answer counts."""

from __future__ import annotations

import threading
import time

import pytest

from ipfs_dataset_core.errors import FormatError, TransportError, TransportTimeoutError
from ipfs_dataset_core.runtime.deadlines import time_left, until
from ipfs_dataset_core.sources.hedging import HedgedRequests

FOR_EVER = 60.0


class Asked:
    """Stands for a source: gives what a function returns, and is late after some seconds."""

    def __init__(self, answer, late_after=FOR_EVER):
        self.answer, self.late_after = answer, late_after
        self.was_asked = self.is_late = False

    def ask(self, request):
        self.was_asked = True
        return request(self)

    def hedge_delay(self):
        return self.late_after

    def was_late(self):
        self.is_late = True


@pytest.fixture
def hedged():
    hedged = HedgedRequests(8)
    yield hedged
    hedged.close()


@pytest.fixture
def released():
    event = threading.Event()
    yield event
    event.set()


def failing(message="no"):
    def answer():
        raise TransportError(message)

    return answer


def ask(hedged, *sources):
    """Returns the number of the source that answered, the answer, and the errors by number."""
    failures: dict[Asked, Exception] = {}
    found = hedged.ask(sources, lambda source: source.answer(), failures)
    errors = {sources.index(source): error for source, error in failures.items()}
    return (None, None, errors) if found is None else (sources.index(found[0]), found[1], errors)


def test_one_good_answer_is_enough_and_no_other_source_is_asked(hedged):
    one, two = Asked(lambda: "one"), Asked(lambda: "two")
    assert ask(hedged, one, two) == (0, "one", {})
    assert not two.was_asked
    assert not one.is_late


def test_after_a_failure_the_next_is_asked_at_once(hedged):
    winner, answer, errors = ask(hedged, Asked(failing()), Asked(failing()), Asked(lambda: "three"))
    assert (winner, answer) == (2, "three")
    assert sorted(errors) == [0, 1]


def test_a_late_answer_is_not_waited_for(hedged, released):
    slow = Asked(lambda: released.wait(FOR_EVER), 0.05)
    assert ask(hedged, slow, Asked(lambda: "two")) == (1, "two", {})
    assert slow.is_late


def test_a_late_answer_still_counts_when_the_others_fail(hedged, released):
    def second():
        released.set()
        raise TransportError("no")

    slow = Asked(lambda: released.wait(FOR_EVER) and "one", 0.05)
    winner, answer, errors = ask(hedged, slow, Asked(second))
    assert (winner, answer) == (0, "one")
    assert sorted(errors) == [1]


def test_if_all_fail_each_reason_is_in_the_error(hedged):
    winner, _, errors = ask(hedged, Asked(failing("a")), Asked(failing("b")))
    assert winner is None
    assert [str(error) for error in errors.values()] == ["a", "b"]


def test_second_requests_are_bounded_in_number(released):
    hedges = []

    def slow():
        released.wait(FOR_EVER)
        return "slow"

    def hedge():
        hedges.append(1)
        released.wait(FOR_EVER)
        return "hedge"

    wide = HedgedRequests(64)
    threads = [
        threading.Thread(target=lambda: ask(wide, Asked(slow, 0.02), Asked(hedge)))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert len(hedges) == 4
    released.set()
    for thread in threads:
        thread.join()
    wide.close()


def test_other_errors_are_bugs_and_are_raised(hedged):
    def bug():
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        ask(hedged, Asked(bug), Asked(lambda: "two"))
    assert issubclass(FormatError, ValueError)


def test_the_deadline_holds_in_every_attempt_and_ends_the_race(hedged, released):
    seen = []

    def stuck():
        seen.append(time_left())
        released.wait(FOR_EVER)

    with until(time.monotonic() + 0.3):
        winner, _, errors = ask(hedged, Asked(stuck, 0.05), Asked(stuck))
    assert winner is None
    assert len(errors) == 2
    assert all(isinstance(error, TransportTimeoutError) for error in errors.values())
    assert all(left <= 0.3 for left in seen)
    assert len(seen) == 2


def test_after_closing_requests_run_without_other_threads(hedged):
    hedged.close()
    assert ask(hedged, Asked(failing()), Asked(lambda: "two"))[:2] == (1, "two")


def test_what_was_dropped_when_the_threads_were_closed_is_not_waited_for():
    """Without a deadline, that would be for ever."""
    hedged = HedgedRequests(1)
    begun, released = threading.Event(), threading.Event()

    def busy():
        begun.set()
        released.wait(FOR_EVER)
        return "first"

    found = []

    def read(source):
        _, answer, errors = ask(hedged, source)
        found.append((answer, [str(error) for error in errors.values()]))

    first = threading.Thread(target=read, args=[Asked(busy)], daemon=True)
    first.start()
    assert begun.wait(FOR_EVER)
    second = threading.Thread(target=read, args=[Asked(lambda: "second")], daemon=True)
    second.start()
    while not hedged._pool._work:
        time.sleep(0.01)
    hedged.close()
    second.join(FOR_EVER / 3)
    assert found == [(None, ["was closed before the request was sent"])]
    released.set()
    first.join(FOR_EVER / 3)
    assert found[1:] == [("first", [])]
