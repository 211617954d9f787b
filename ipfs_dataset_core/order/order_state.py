"""The state of a job in its order of samples: what is saved, and how another job resumes from it."""

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
# Up to this many identifiers are joined as they are.
_FEW = 4


@runtime_checkable
class IdentifiedDataset(Protocol):
    """A dataset that identifies the content of its samples."""

    def content_id(self) -> str:
        """Returns a short text that is equal for equal samples in the same order."""


def joined_ids(ids: Iterable[str]) -> str:
    """Joins any number of identifiers into one short text."""
    found = list(ids)
    if len(found) <= _FEW:
        return " ".join(found)
    digest = hashlib.sha256("\n".join(found).encode()).hexdigest()
    return f"{found[0]} and {len(found) - 1} more, sha256 {digest}"


@attrs.frozen(kw_only=True)
class OrderState:
    """A place in a global sequence, and everything that determines the sequence.

    Args:
        order: The kind of order.
        data: Identifier of the samples; "" if unknown.
        samples: Number of samples; None if unknown until all are read.
        seed: Determines the order, together with the epoch.
        epoch: The epoch.
        position: The place in the global sequence at which to resume.
        parameters: Parameters of the order: numbers by name.
        derived: Names of parameters that are computed from the job; warnings leave them out.
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
        """Returns a JSON object of less than 1 KB, unless there are many parameters."""
        fields = attrs.asdict(self, filter=attrs.filters.exclude("derived", "ends"), recurse=False)
        if self.ends and self.samples is not None:
            fields["position"] = min(self.position, self.samples)  # the end, without padding
        return {"version": VERSION, **fields, "parameters": dict(self.parameters)}

    def read(self, state: Mapping[str, Any], also: Container[str] = ()) -> OrderState:
        """Returns the state written by `to_json`, after checking that it belongs to the same data.

        Its values replace those of this state, and a warning names those that differ.

        Args:
            state: The return value of `to_json`, possibly from an untrusted file.
            also: Additional names that the state may contain, which the caller reads.

        Warns:
            IPFSDatasetWarning: The seed or a parameter differs from this state's.

        Raises:
            StateError: The state is of other data, another kind of order or another version, or not a state.
        """
        if not isinstance(state, Mapping):
            raise StateError(
                f"a state must be a dict as returned by state_dict(), not {state!r:.80}"
            )
        version = state.get("version")
        if type(version) is not int or version != VERSION:
            raise StateError(
                f"this state has version {version!r:.80}, but this release reads version {VERSION}: resume "
                "with the release that wrote it, or start the epoch again"
            )
        for name in ("order", "data"):
            mine, given = getattr(self, name), state.get(name)
            if mine != given:
                raise StateError(
                    f"this state is of {name} {given!r:.300}, but the dataset has {mine!r}: give the same "
                    "dataset and kind of order, or start the epoch again"
                )
        for name in state:
            if name not in _FIELDS and name not in also:
                raise StateError(
                    f"this state has {name!r:.80}, which does not occur in states of {self.order!r}: it was "
                    "modified, or belongs to another kind of dataset"
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
                f"this state is of a dataset of {samples} samples, but this one has {self.samples}: "
                "give the same dataset, with the same options, or start the epoch again"
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
                f"this state has {lanes:,} lanes, but at most {MOST_LANES:,} are possible"
            )
        self._warn({"seed": seed, **parameters})
        return attrs.evolve(self, seed=seed, epoch=epoch, position=position, parameters=parameters)

    def _warn(self, given: Mapping[str, int]) -> None:
        mine = {"seed": self.seed, **self.parameters}
        warn_of_other_order({k: v for k, v in mine.items() if k not in self.derived}, given)


def warn_of_other_order(mine: Mapping[str, int], given: Mapping[str, int]) -> None:
    """Warns if a state determines the order by other numbers than the arguments.

    Args:
        mine: The numbers of the arguments, by name.
        given: The numbers of the state.
    """
    other = [f"{k}={given[k]} (here {mine[k]})" for k in mine if given[k] != mine[k]]
    if other:
        warn_user(
            f"The order continues as in the state, with {', '.join(other)}", IPFSDatasetWarning
        )


# The fields of every state.
_FIELDS = frozenset(
    {"version", "order", "data", "samples", "seed", "epoch", "position", "parameters"}
)


# More samples than any global batch has. If samples are not counted in advance, the state at the end of an
# epoch is the end of its last batch, which may be only partly filled.
MOST_IN_A_BATCH = 1 << 20


def behind_the_end(position: int, places: int) -> StateError:
    """Returns the error for a state whose place is after the end of the sequence.

    Args:
        position: The place.
        places: Number of places.
    """
    return StateError(
        f"this state has position={position}, after the end of an epoch of {places} samples: it was "
        "modified, or counts batches of another iteration"
    )


def check_batches(batches: int, start: int, total: int | None, size: int) -> int:
    """Checks that an iteration has a given number of batches; returns the number.

    Args:
        batches: Number of batches that were trained on.
        start: The place at which the iteration began.
        total: Number of places of the epoch; None if unknown.
        size: Global batch size.

    Raises:
        ValueError: The number is negative, or larger than the number of batches.
        TypeError: The number is not an integer.
    """
    batches = whole_number("batches", batches, least=0, most=MOST // max(1, size) - start)
    if batches and total is not None and start + batches * size >= total + size:
        raise ValueError(
            f"state_dict(batches={batches}) counts the batches of this iteration over the loader, but it has "
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
            f"this state has {name}={value!r:.80}, which is not a number from {least} on"
            + ("" if type(value) is not int or value < least else f", or one above {most}")
        )
    return value
