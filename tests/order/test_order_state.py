"""States: small, checked whoever wrote them, refused for other data."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import StateError
from ipfs_dataset_core.order.laned_order import lanes_given
from ipfs_dataset_core.order.order_state import OrderState, check_batches, joined_ids

STATE = OrderState(
    order="shuffled blocks",
    data="bafy",
    samples=10,
    seed=-3,
    epoch=2,
    position=7,
    parameters={"window": 3, "lanes": 4},
)


def test_a_written_state_is_read():
    here = attrs.evolve(STATE, seed=-3, epoch=0, position=0)
    assert here.read(json.loads(json.dumps(STATE.to_json()))) == STATE


def test_other_parameters_win_with_a_warning_that_names_them():
    here = attrs.evolve(STATE, seed=1, parameters={"window": 3, "lanes": 2})
    with pytest.warns(UserWarning, match=r"seed=-3 \(here 1\), lanes=4 \(here 2\)"):
        assert here.read(STATE.to_json()) == STATE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version 2, but this release reads version 1"),
        ({"version": None}, "version None"),
        ({"version": True}, "version True"),
        ({"version": 1.0}, "version 1.0"),
        ({"position": 11}, "position=11, after the end of an epoch of 10 samples"),
        (
            {"epoch": (1 << 53) + 1},
            "epoch=9007199254740993, which is not a number from 0 on, or one above",
        ),
        ({"seed": float("nan")}, "seed=nan"),
        ({"positon": 7}, "has 'positon', which does not occur in states of 'shuffled blocks'"),
        ({3: 7}, "has 3, which does not occur"),
        ({"order": "full"}, "of order 'full', but the dataset has 'shuffled blocks'"),
        ({"data": "bafx"}, "of data 'bafx', but the dataset has 'bafy'"),
        ({"samples": 11}, "of 11 samples, but this one has 10"),
        ({"samples": "10"}, "samples='10', which is not a number from 0 on"),
        ({"position": -1}, "position=-1"),
        ({"position": 1 << 64}, "position=18446744073709551616"),
        ({"epoch": True}, "epoch=True"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"parameters": None}, "the parameters None"),
        ({"parameters": {"window": 3}}, "the parameters"),
        ({"parameters": {"window": 0, "lanes": 4}}, "window=0, which is not a number from 1 on"),
    ],
)
def test_a_state_that_does_not_match_is_refused(changes, message):
    with pytest.raises(StateError, match=message):
        STATE.read({**STATE.to_json(), **changes})


@pytest.mark.parametrize("name", sorted(STATE.to_json()))
def test_a_state_from_which_something_is_missing_is_refused(name):
    state = STATE.to_json()
    del state[name]
    with pytest.raises(StateError, match=name):
        STATE.read(state)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(STATE.to_json())), json_values)
@pytest.mark.filterwarnings("ignore:The order continues")
def test_any_content_of_a_state_is_read_or_refused(name, value):
    try:
        found = STATE.read({**STATE.to_json(), name: value})
    except StateError:
        return
    assert found.samples == STATE.samples


def test_a_state_is_small_however_many_objects_there_are():
    few, many = [f"cid{n}" for n in range(3)], [f"bafybei{n:050}" for n in range(100_000)]
    assert joined_ids(few) == "cid0 cid1 cid2"
    assert len(json.dumps(attrs.evolve(STATE, data=joined_ids(many)).to_json())) < 1000
    assert joined_ids(many) != joined_ids([*many[:-1], "another"])


@pytest.mark.parametrize("found", [[], None, "x", 5])
def test_a_value_that_is_not_a_dict_is_no_state(found):
    with pytest.raises(StateError, match="a state must be a dict as returned by state_dict"):
        STATE.read(found)


def test_more_lanes_than_any_job_needs_are_refused():
    laned = attrs.evolve(STATE, parameters={"lanes": 4, "worker_lanes": 2})
    found = laned.to_json() | {"parameters": {"lanes": 10**9, "worker_lanes": 10**9}}
    with pytest.raises(StateError, match="but at most 65,536"):
        laned.read(found)
    with pytest.raises(ValueError, match="at most 65,536 lanes are possible in all, not 70,000"):
        lanes_given((7000, 10))


def test_batches_are_counted_within_an_epoch():
    check_batches(13, 0, 103, 8)
    check_batches(5, 64, 103, 8)
    check_batches(1000, 0, None, 8)
    with pytest.raises(ValueError, match="it has at most 13: count from 0 in each epoch"):
        check_batches(14, 0, 103, 8)
    with pytest.raises(ValueError, match="it has at most 5"):
        check_batches(6, 64, 103, 8)
    with pytest.raises(ValueError, match="batches must be at least 0, not -1"):
        check_batches(-1, 0, 103, 8)
