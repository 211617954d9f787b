"""Where a job stopped in its order of samples: what it keeps, and how another job goes on from it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

from ipfs_dataset_core.errors import IPFSDatasetWarning, StateError
from ipfs_dataset_core.order.global_order import MOST_LANES

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = 1
# Larger numbers are no counts of samples or bytes.
_MOST = 2**63 - 1
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
    """

    order: str
    data: str
    samples: int | None
    seed: int
    epoch: int
    position: int
    parameters: Mapping[str, int]
    derived: frozenset[str] = attrs.field(default=frozenset(), eq=False)

    def to_json(self) -> dict[str, Any]:
        """Returns values that JSON can hold: less than 1 KB."""
        fields = attrs.asdict(self, filter=attrs.filters.exclude("derived"), recurse=False)
        return {"version": VERSION, **fields, "parameters": dict(self.parameters)}

    def read(self, state: Mapping[str, Any]) -> OrderState:
        """Returns the state that `to_json` wrote, after checking that it belongs to this state's data.

        Its values replace those of this state, and a warning names the ones that differ.

        Args:
            state: The return value of `to_json`, possibly from a file that somebody else wrote.

        Warns:
            IPFSDatasetWarning: The seed or a parameter differs from this state's.

        Raises:
            StateError: It is of other data, of another kind of order, of another version, or no state.
        """
        if not isinstance(state, Mapping):
            raise StateError(f"a state is a dict, as state_dict() returned it, not {state!r:.80}")
        version = state.get("version")
        if version != VERSION:
            raise StateError(
                f"this state has version {version!r}, and this release reads version {VERSION}: go on with "
                "the release that wrote it, or begin the epoch anew"
            )
        for name in ("order", "data"):
            mine, given = getattr(self, name), state.get(name)
            if mine != given:
                raise StateError(
                    f"this state is of {name} {given!r}, and here is {mine!r}: give the same dataset and "
                    "kind of order, or begin the epoch anew"
                )
        whole = {name: _number(state, name) for name in ("seed", "epoch", "position")}
        samples = state.get("samples")
        if samples is not None:
            samples = _number(state, "samples")
        if None not in {samples, self.samples} and samples != self.samples:
            raise StateError(
                f"this state is of a dataset of {samples} samples, and here are {self.samples}: "
                "give the same dataset, with the same options, or begin the epoch anew"
            )
        found = state.get("parameters")
        if not isinstance(found, dict) or found.keys() != self.parameters.keys():
            raise StateError(
                f"this state has the parameters {found!r}, not {sorted(self.parameters)}"
            )
        parameters = {name: _number(found, name, least=1) for name in self.parameters}
        lanes = parameters.get("lanes", 1) * parameters.get("worker_lanes", 1)
        if lanes > MOST_LANES:
            raise StateError(
                f"this state has {lanes:,} lanes, and there are at most {MOST_LANES:,}"
            )
        self._warn({"seed": whole["seed"], **parameters})
        return attrs.evolve(
            self,
            seed=whole["seed"],
            epoch=whole["epoch"],
            position=whole["position"],
            parameters=parameters,
        )

    def _warn(self, given: Mapping[str, int]) -> None:
        mine = {"seed": self.seed, **self.parameters}
        other = [
            f"{name}={given[name]} (here {mine[name]})"
            for name in mine
            if given[name] != mine[name] and name not in self.derived
        ]
        if other:
            warnings.warn(
                f"The order goes on as in the state, with {', '.join(other)}",
                IPFSDatasetWarning,
                stacklevel=4,
            )


def check_batches(batches: int, start: int, total: int | None, size: int) -> None:
    """Refuses to count more batches than an iteration has: what follows would be an empty epoch.

    Args:
        batches: How many were trained on.
        start: The place at which the iteration began.
        total: How many places the epoch has, None where that is not known.
        size: How many samples a global batch has.

    Raises:
        ValueError: There are not so many, or the number is negative.
    """
    if batches < 0:
        raise ValueError(f"batches is at least 0, not {batches}")
    if total is not None and start + batches * size >= total + size:
        raise ValueError(
            f"state_dict(batches={batches}) counts the batches of this iteration over the loader, and it has "
            f"at most {-(-(total - start) // size)}: count from 0 in each epoch"
        )


def _number(values: Mapping[str, Any], name: str, *, least: int | None = None) -> int:
    value = values.get(name)
    if least is None:
        least = -_MOST if name == "seed" else 0
    if type(value) is not int or not least <= value <= _MOST:
        raise StateError(f"this state has {name}={value!r}, no number from {least} on")
    return value
