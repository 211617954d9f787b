"""Which source comes next: a pure function of seed and place, in the given proportions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.order.global_order import Lanes
from ipfs_dataset_core.order.mixture import MixtureSchedule, quotas_of, stop_of_mixture

lanes = st.builds(Lanes, st.integers(1, 4), st.integers(1, 3))
quotas = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(quotas, st.integers(), lanes, st.integers(1, 9), st.integers(0, 300))
def test_counts_and_places_agree_with_a_plain_loop(quotas, seed, lanes, chunk, total):
    schedule = MixtureSchedule(quotas, seed, lanes, chunk)
    seen = [[0] * lanes.count for _ in quotas]
    for place in range(total):
        lane, source, before = MixtureSchedule(quotas, seed, lanes, chunk).find(place)
        assert before == seen[source][lane]
        assert schedule.place(source, sum(seen[source])) == place
        seen[source][lane] += 1
    for source, counts in enumerate(seen):
        assert schedule.counts(source, total) == counts


@given(quotas, st.integers(), lanes, st.integers(1, 9), st.data())
def test_an_epoch_stops_with_the_first_source_or_with_the_last(quotas, seed, lanes, chunk, data):
    schedule = MixtureSchedule(quotas, seed, lanes, chunk)
    samples = data.draw(st.lists(st.integers(1, 40), min_size=len(quotas), max_size=len(quotas)))
    first = stop_of_mixture(schedule, samples, every=False)
    last = stop_of_mixture(schedule, samples, every=True)
    read = [sum(schedule.counts(source, first)) for source in range(len(quotas))]
    assert all(map(int.__le__, read, samples))
    ended = schedule.find(first)[1]
    assert read[ended] == samples[ended]
    read = [sum(schedule.counts(source, last)) for source in range(len(quotas))]
    assert all(map(int.__ge__, read, samples))
    ended = schedule.find(last - 1)[1]
    assert read[ended] == samples[ended]


@given(
    st.dictionaries(
        st.text(max_size=3), st.floats(1e-3, 1) | st.integers(1, 1000), min_size=1, max_size=6
    )
)
def test_proportions_differ_from_the_weights_by_less_than_a_hundredth(weights):
    smallest = min(weights.values()) / math.fsum(weights.values())
    if smallest < 1 / 30_000:
        return
    found = quotas_of(weights)
    length = sum(found.values())
    assert {*found} == {*weights}
    for name, quota in found.items():
        share = weights[name] / math.fsum(weights.values())
        assert quota == pytest.approx(share * length, rel=0.011 if smallest > 0.002 else 0.6)


def test_proportions_hold_from_the_start():
    found = quotas_of({"web": 0.7, "code": 0.3})
    assert found == {"web": 179, "code": 77}
    schedule = MixtureSchedule([*found.values()], 0, Lanes(4, 2), 8)
    sources = [schedule.find(place)[1] for place in range(20_000)]
    for first in range(0, 20_000, 2000):
        assert sum(sources[first : first + 2000]) == pytest.approx(600, abs=60)
    assert sources[:100] != [
        MixtureSchedule([179, 77], 1, Lanes(4, 2), 8).find(p)[1] for p in range(100)
    ]


def test_distant_places_are_found_without_a_loop():
    schedule = MixtureSchedule([179, 77], 0, Lanes(64, 8), 4096)
    place = schedule.place(1, 3 * 10**11)
    assert schedule.find(place)[1] == 1
    assert sum(schedule.counts(1, place)) == 3 * 10**11


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "1 to 256 sources, not 0"),
        ({str(n): 1 for n in range(257)}, "not 257"),
        (
            {"a": 1, "b": 0},
            "the weight of 'b' must be positive and finite, not 0: leave out a source",
        ),
        ({"a": -0.5}, "not -0.5"),
        ({"a": math.nan}, "not nan"),
        ({"a": math.inf, "b": 1}, "not inf"),
        ({"a": True}, "the weight of 'a' must be a number, not True"),
        ({"a": "0.5"}, "a number, not '0.5'"),
        ({"a": None}, "a number, not None"),
        ({"a": 1, "b": 1e-9}, "the weight of 'b' is less than one part in 65,536"),
        ({"a": 1e308, "b": 1e-308}, "the weight of 'b' is less than one part in 65,536"),
        ({"a": 10**400, "b": 1}, "the weight of 'a' must be positive and finite, not 1000"),
    ],
)
def test_invalid_weights_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        quotas_of(weights)
