"""The next source is asked when one fails or is late, and the first good answer counts."""

from __future__ import annotations

import threading
import time

import pytest

from ipfs_dataset_core.errors import FormatError, TransportError, TransportTimeoutError
from ipfs_dataset_core.runtime.deadlines import time_left, until
from ipfs_dataset_core.sources.hedging import HedgedRequests, in_turn

FOR_EVER = 60.0


@pytest.fixture
def races():
    races = HedgedRequests(8)
    yield races
    races.close()


@pytest.fixture
def released():
    event = threading.Event()
    yield event
    event.set()


def failing(message="no"):
    def attempt():
        raise TransportError(message)

    return attempt


def test_one_good_answer_is_enough_and_no_other_source_is_asked(races):
    asked = []

    def attempt(name):
        asked.append(name)
        return name

    race = races.run([lambda: attempt("one"), lambda: attempt("two")], [FOR_EVER] * 2)
    assert (race.answer, race.winner, race.late, race.failures) == ("one", 0, [], {})
    assert asked == ["one"]


def test_after_a_failure_the_next_is_asked_at_once(races):
    race = races.run([failing(), failing(), lambda: "three"], [FOR_EVER] * 3)
    assert (race.answer, race.winner) == ("three", 2)
    assert sorted(race.failures) == [0, 1]


def test_a_late_answer_is_not_waited_for(races, released):
    race = races.run([lambda: released.wait(FOR_EVER), lambda: "two"], [0.05, FOR_EVER])
    assert (race.answer, race.winner, race.late) == ("two", 1, [0])
    assert race.failures == {}


def test_a_late_answer_still_counts_when_the_others_fail(races, released):
    def second():
        released.set()
        raise TransportError("no")

    race = races.run([lambda: released.wait(FOR_EVER) and "one", second], [0.05, FOR_EVER])
    assert (race.answer, race.winner) == ("one", 0)
    assert sorted(race.failures) == [1]


def test_when_all_fail_every_reason_is_there(races):
    race = races.run([failing("a"), failing("b")], [FOR_EVER] * 2)
    assert race.winner is None
    assert [str(error) for error in race.failures.values()] == ["a", "b"]


def test_second_requests_are_bounded_in_number(races, released):
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
        threading.Thread(target=lambda: wide.run([slow, hedge], [0.02, FOR_EVER]))
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


def test_other_errors_are_bugs_and_are_raised(races):
    def bug():
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        races.run([bug, lambda: "two"], [FOR_EVER] * 2)


def test_the_deadline_holds_in_every_attempt_and_ends_the_race(races, released):
    seen = []

    def stuck():
        seen.append(time_left())
        released.wait(FOR_EVER)

    with until(time.monotonic() + 0.3):
        race = races.run([stuck, stuck], [0.05, FOR_EVER])
    assert race.winner is None
    assert all(isinstance(error, TransportTimeoutError) for error in race.failures.values())
    assert all(left <= 0.3 for left in seen)
    assert len(seen) == 2


def test_after_closing_requests_run_without_other_threads(races):
    races.close()
    assert races.run([failing(), lambda: "two"], [FOR_EVER] * 2).answer == "two"


def test_in_turn_asks_one_after_the_other():
    race = in_turn([failing(), lambda: "two", lambda: "three"])
    assert (race.answer, race.winner, sorted(race.failures)) == ("two", 1, [0])
    with pytest.raises(ZeroDivisionError):
        in_turn([lambda: 1 / 0])
    race = in_turn([failing()])
    assert race.winner is None
    assert issubclass(FormatError, ValueError)
