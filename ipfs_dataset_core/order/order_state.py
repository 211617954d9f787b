"""Where a job stopped in its order of samples: what it keeps, and how another job goes on from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

from ipfs_dataset_core.errors import IPFSDatasetWarning, StateError
from ipfs_dataset_core.order.global_order import MOST_LANES
from ipfs_dataset_core.runtime.user_warnings import warn_user
from ipfs_dataset_core.runtime.whole_numbers import MOST, MOST_EPOCH, MOST_SEED, whole_number

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

VERSION = 1
# Up to this number, identifiers are joined as they are.
_FEW = 4


@runtime_checkable
class IdentifiedDataset(Protocol):
    """A dataset that identifies the content that its samples are made of."""

    def content_id(self) -> str:
        """Returns a text that is the same for the same samples in the same order, and short."""


def joined_ids(ids: Iterable[str]) -> str:
    """Returns one text for several: short, however many they are."""
    found = list(ids)
    if len(found) <= _FEW:
        return " ".join(found)
    digest = hashlib.sha256("\n".join(found).encode()).hexdigest()
    return f"{found[0]} and {len(found) - 1} more, sha256 {digest}"


@attrs.frozen(kw_only=True)
class OrderState:
    """A place in a global sequence, and what the sequence follows from.

    Args:
        order: The kind of order.
        data: What the samples are made of, "" where that is not known.
        samples: How many there are, None where that is not known before all are read.
        seed: What the order depends on, besides the epoch.
        epoch: The epoch.
        position: The place in the global sequence at which to go on.
        parameters: Of the order: numbers by name.
        derived: The names of parameters that are computed from the job; no warning names them.
        ends: Whether the sequence has as many places as there are samples.
    """

    order: str
    data: str
    samples: int | None
    seed: int
    epoch: int
    position: int
    parameters: Mapping[str, int]
    derived: frozenset[str] = attrs.field(default=frozenset(), eq=False)
    ends: bool = attrs.field(default=True, eq=False)

    def to_json(self) -> dict[str, Any]:
        """Returns values that JSON can hold: less than 1 KB."""
        fields = attrs.asdict(self, filter=attrs.filters.exclude("derived", "ends"), recurse=False)
        if self.ends and self.samples is not None:
            fields["position"] = min(self.position, self.samples)  # of the end, whatever pads it
        return {"version": VERSION, **fields, "parameters": dict(self.parameters)}

    def read(self, state: Mapping[str, Any], also: Container[str] = ()) -> OrderState:
        """Returns the state that `to_json` wrote, after checking that it belongs to this state's data.

        Its values replace those of this state, and a warning names the ones that differ.

        Args:
            state: The return value of `to_json`, possibly from a file that somebody else wrote.
            also: Names that the state may have besides those of `to_json`; the caller reads them.

        Warns:
            IPFSDatasetWarning: The seed or a parameter differs from this state's.

        Raises:
            StateError: It is of other data, of another kind of order, of another version, or no state.
        """
        if not isinstance(state, Mapping):
            raise StateError(f"a state is a dict, as state_dict() returned it, not {state!r:.80}")
        version = state.get("version")
        if type(version) is not int or version != VERSION:
            raise StateError(
                f"this state has version {version!r:.80}, and this release reads version {VERSION}: go on "
                "with the release that wrote it, or begin the epoch anew"
            )
        for name in ("order", "data"):
            mine, given = getattr(self, name), state.get(name)
            if mine != given:
                raise StateError(
                    f"this state is of {name} {given!r:.300}, and here is {mine!r}: give the same dataset "
                    "and kind of order, or begin the epoch anew"
                )
        for name in state:
            if name not in _FIELDS and name not in also:
                raise StateError(
                    f"this state has {name!r:.80}, which no state of {self.order!r} has: it was changed, "
                    "or is of another kind of dataset"
                )
        seed = number_in(state, "seed", least=-MOST_SEED, most=MOST_SEED)
        epoch = number_in(state, "epoch", most=MOST_EPOCH)
        position = number_in(state, "position")
        if "samples" not in state:
            raise StateError("this state has no samples=, the number of samples or None")
        samples = state["samples"]
        if samples is not None:
            samples = number_in(state, "samples")
        if None not in {samples, self.samples} and samples != self.samples:
            raise StateError(
                f"this state is of a dataset of {samples} samples, and here are {self.samples}: "
                "give the same dataset, with the same options, or begin the epoch anew"
            )
        if self.ends and self.samples is not None and position > self.samples:
            raise behind_the_end(position, self.samples)
        found = state.get("parameters")
        if not isinstance(found, dict) or found.keys() != self.parameters.keys():
            raise StateError(
                f"this state has the parameters {found!r:.300}, not {sorted(self.parameters)}"
            )
        parameters = {name: number_in(found, name, least=1) for name in self.parameters}
        lanes = parameters.get("lanes", 1) * parameters.get("worker_lanes", 1)
        if lanes > MOST_LANES:
            raise StateError(
                f"this state has {lanes:,} lanes, and there are at most {MOST_LANES:,}"
            )
        self._warn({"seed": seed, **parameters})
        return attrs.evolve(self, seed=seed, epoch=epoch, position=position, parameters=parameters)

    def _warn(self, given: Mapping[str, int]) -> None:
        mine = {"seed": self.seed, **self.parameters}
        warn_of_other_order({k: v for k, v in mine.items() if k not in self.derived}, given)


def warn_of_other_order(mine: Mapping[str, int], given: Mapping[str, int]) -> None:
    """Warns where the order follows from other numbers than those of the arguments.

    Args:
        mine: By name, those of the arguments.
        given: Those of a state.
    """
    other = [f"{k}={given[k]} (here {mine[k]})" for k in mine if given[k] != mine[k]]
    if other:
        warn_user(f"The order goes on as in the state, with {', '.join(other)}", IPFSDatasetWarning)


# What every state has.
_FIELDS = frozenset(
    {"version", "order", "data", "samples", "seed", "epoch", "position", "parameters"}
)


# More samples than any global batch has. Where they are not counted before they are read, the state of an
# epoch's end is that of the end of its last batch, which may be filled in part only.
MOST_IN_A_BATCH = 1 << 20


def behind_the_end(position: int, places: int) -> StateError:
    """Returns the error for a state whose place is behind the end of the sequence.

    Args:
        position: The place.
        places: How many there are.
    """
    return StateError(
        f"this state has position={position}, behind the end of an epoch of {places} samples: it was "
        "changed, or counts batches of another iteration"
    )


def check_batches(batches: int, start: int, total: int | None, size: int) -> int:
    """Returns a number of batches, of which an iteration has as many: what follows may be an empty epoch.

    Args:
        batches: How many were trained on.
        start: The place at which the iteration began.
        total: How many places the epoch has, None where that is not known.
        size: How many samples a global batch has.

    Raises:
        ValueError: There are not so many, or the number is negative.
        TypeError: It is no integer.
    """
    batches = whole_number("batches", batches, least=0, most=MOST // max(1, size) - start)
    if batches and total is not None and start + batches * size >= total + size:
        raise ValueError(
            f"state_dict(batches={batches}) counts the batches of this iteration over the loader, and it has "
            f"at most {-(-(total - start) // size)}: count from 0 in each epoch"
        )
    return batches


def number_in(values: Mapping[str, Any], name: str, *, least: int = 0, most: int = MOST) -> int:
    """Returns a number that a state has.

    Args:
        values: The state, or a part of it.
        name: Of the number.
        least: The least that it may be.
        most: The most that it may be.

    Raises:
        StateError: It is no number, or not in this range.
    """
    value = values.get(name)
    if type(value) is not int or not least <= value <= most:
        raise StateError(
            f"this state has {name}={value!r:.80}, no number from {least} on"
            + ("" if type(value) is not int or value < least else f", or one above {most}")
        )
    return value
