"""Tasks, their contestants and their targets. Imports only the standard library."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

# The figure of a result: "rate" is samples per second, or bytes if the samples are pieces of a stream.
Metric = Literal["rate", "first_ms", "item_ms"]
# Compares the joined pieces, the samples in any order, or nothing.
Digest = Literal["stream", "samples", "none"]


@dataclass(frozen=True)
class Job:
    """The arguments of a contestant.

    Attributes:
        gateway: URL of the gateway, without a slash at the end.
        api: Multiaddr of the node's RPC API.
        facts: Facts about the data, as returned by their builder, and always "cid".
        samples: Number of samples after which it is stopped; None reads all.
        salt: A different number in each run, for tasks whose data must be new.
        scratch: An empty folder for this run.
        options: Options of the task, such as the number of workers.
    """

    gateway: str
    api: str
    facts: dict[str, Any]
    samples: int | None = None
    salt: int = 0
    scratch: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def cid(self) -> str:
        return str(self.facts["cid"])

    @property
    def url(self) -> str:
        return f"{self.gateway}/ipfs/{self.cid}"


@dataclass(frozen=True)
class Contestant:
    """A library, or a limit, that runs a task.

    Attributes:
        adapter: The module in `benchmarks.contestants`.
        function: The function in that module. Its work before it returns its iterator is not timed.
        environment: The environment of `benchmarks.environments` in which it runs.
        samples: Number of samples after which it is stopped at scale 1; a slow contestant need not read all,
            because rates are compared.
        label: Its name in tables.
        options: Added to the options of the task.
        data: Its own data, if it cannot read those of the task.
        bare: Whether it transfers all bytes without splitting them into samples: its rate counts all samples
            as read, and its bytes are not compared.
        compared: Whether its samples are compared with those of the others.
    """

    adapter: str
    function: str
    label: str
    environment: str = "plain"
    samples: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    bare: bool = False
    compared: bool = True

    @property
    def name(self) -> str:
        return f"{self.adapter}.{self.function}"


@dataclass(frozen=True)
class Target:
    """A target of a contestant, in comparison with another one of the same task.

    Attributes:
        of: Name of the contestant.
        against: Name of the other one; None for a target without comparison.
        kind: "ratio": minimum ratio of the metric; "above": maximum difference in milliseconds; "peak_mb":
            maximum memory above the imports, in MB.
        value: The minimum or maximum.
    """

    of: str
    kind: Literal["ratio", "above", "peak_mb"]
    value: float
    against: str | None = None


@dataclass(frozen=True)
class Task:
    """Something users do, and its contestants.

    Attributes:
        data: Name of the data in `benchmarks.data`.
        rounds: Maximum number of rounds, for tasks that take long or hardly vary.
        own_node: Whether it runs on a temporary node, because it writes.
    """

    name: str
    title: str
    data: str
    contestants: tuple[Contestant, ...]
    targets: tuple[Target, ...] = ()
    metric: Metric = "rate"
    digest: Digest = "samples"
    options: dict[str, Any] = field(default_factory=dict)
    rounds: int | None = None
    own_node: bool = False


def as_plain(value: Any) -> dict[str, Any]:
    """Returns a dataclass of this module as a dictionary for JSON."""
    return asdict(value)
