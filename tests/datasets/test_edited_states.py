"""States that were edited or damaged: what they describe is read exactly, or an error is raised."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipfs_dataset import BlockShuffleSampler
from ipfs_dataset_core import StateError
from tests.support.jobs import as_reader
from tests.support.orders import KINDS, Made

pytestmark = [
    pytest.mark.filterwarnings("ignore:The order continues"),
    # A state of its start is as good as any other here.
    pytest.mark.filterwarnings("ignore:.*of a sampler in the middle of an iteration"),
]

EDGES = (-1, 0, 1, 2, 5, 18, 23, 24, 1 << 24, 1 << 31, 1 << 53, 1 << 63, 10**30)
OTHERS: tuple[Any, ...] = (
    None,
    True,
    False,
    3.0,
    math.nan,
    -math.inf,
    "3",
    "",
    [],
    [3],
    {},
    {"a": 1},
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("store"))


def dataset_of(made, kind):
    if kind == "map-style":
        return made.files()
    if kind == "published":
        return made.published()
    if kind == "stream without batches":
        return made.stream(None, packed=True)
    if kind == "buffer of a compressed stream":
        return made.buffered(made.stream(None, packed=True), 4)
    return KINDS[kind](made, 4)


ALL = [*KINDS, "map-style", "published", "stream without batches", "buffer of a compressed stream"]


def states_of(made, kind):
    """Returns states that were taken after some samples, in one reader and within one of two workers."""
    dataset = dataset_of(made, kind)
    iterator = iter(dataset)
    for _ in range(8):
        next(iterator)
    yield json.loads(json.dumps(dataset.state_dict()))
    if hasattr(iterator, "state_dict"):
        other = dataset_of(made, kind)
        with as_reader(0, 1, 1, 2):
            iterator = iter(other)
            for _ in range(3):
                next(iterator)
            yield json.loads(json.dumps(iterator.state_dict()))


def places_in(state):
    """Yields where a state has values: the names and numbers that lead to each."""
    for name, value in state.items():
        yield (name,)
        inner = (
            value.items()
            if isinstance(value, dict)
            else enumerate(value)
            if isinstance(value, list)
            else ()
        )
        yield from ((name, within) for within, _ in inner)


@st.composite
def edited(draw, state):
    found = copy.deepcopy(state)
    *outer, name = draw(st.sampled_from([*places_in(state), ("extra",), ("parameters", "extra")]))
    values = found[outer[0]] if outer else found
    old = values.get(name) if isinstance(values, dict) else values[name]
    new = draw(st.sampled_from([*EDGES, *OTHERS, "delete", "more", "less"]))
    if new == "delete":
        if isinstance(values, list) or name in values:
            del values[name]
    elif new in ("more", "less"):
        number = old if type(old) is int else 0
        values[name] = number + (1 if new == "more" else -1)
    else:
        values[name] = new
    return found


def read(made, kind, state, reader):
    """Returns what a reader reads by a state."""
    dataset = dataset_of(made, kind)
    worker, workers = reader
    with as_reader(0, 1, worker, workers):
        if worker is not None:
            iterator = iter(dataset)
            iterator.load_state_dict(state)
            return list(map(repr, iterator))
        dataset.load_state_dict(state)
        return list(map(repr, dataset))


def from_start(state):
    """Returns a state of the same sequence, at its start or at that of the reader's iteration."""
    of_reader = ("read", "reader", "last_place", "done")
    begun = {name: value for name, value in state.items() if name not in of_reader}
    if "reader" in state:
        return begun, state["read"]
    for name in ("object", "object_start", "readers"):
        begun.pop(name, None)
    if "sources" in begun:
        begun["sources"] = dict.fromkeys(begun["sources"], 0)
    return {**begun, "position": 0}, state["position"]


@pytest.mark.parametrize("kind", ALL)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_an_edited_state_is_an_error_or_is_followed_exactly(made, kind, data):
    if kind not in _states:
        _states[kind] = list(states_of(made, kind))
    original = data.draw(st.sampled_from(_states[kind]))
    state = data.draw(edited(original))
    reader = (1, 2) if "reader" in original else (None, 0)
    try:
        rest = read(made, kind, state, reader)
    except StateError:
        return
    begun, left_out = from_start(state)
    whole = read(made, kind, begun, reader)
    if not kind.startswith("mixture"):
        assert len(set(whole)) == len(whole)
    assert left_out < len(whole) + (1 << 20)
    if left_out < len(whole):
        assert rest == whole[left_out:]
    elif rest:  # nobody sets the epoch: behind its end comes the next one
        assert sorted(rest) == sorted(whole)


def test_a_position_beyond_the_end_is_an_error(made):
    sampler = BlockShuffleSampler(made.files(), batch_size=4)
    state = sampler.state_dict(batches=5)
    assert state["position"] == 18  # of the end, though 20 places are filled
    sampler.load_state_dict(state)
    assert len(list(sampler)) == 0
    for position in (19, 1 << 40):
        with pytest.raises(
            StateError, match=f"position={position}, after the end .* of 18 samples"
        ):
            sampler.load_state_dict({**state, "position": position})
    assert sampler.state_dict() == state
    packed = made.stream(4, packed=True)
    # Nothing counts its samples before they are read: six batches of four are the end of an epoch of 23.
    packed.load_state_dict(packed.state_dict(batches=6))
    assert list(packed) == []
    packed.load_state_dict({**packed.state_dict(batches=0), "epoch": 0, "position": 1 << 24})
    with pytest.raises(StateError, match="position=16777216, after the end of an epoch of 23"):
        list(packed)


def test_more_samples_read_than_a_reader_has_are_an_error(made):
    stream = made.stream(None)
    with as_reader(0, 1, 1, 2):
        iterator = iter(stream)
        count = sum(1 for _ in iterator)
        state = iterator.state_dict()
        del state["done"]
        again = iter(made.stream(None))
        again.load_state_dict(state)
        assert list(again) == []
        again.load_state_dict({**state, "read": count + 1})
        with pytest.raises(StateError, match=f"reader 1 of 2 read {count + 1} samples, but it has"):
            list(again)


_states: dict[str, list[Any]] = {}
