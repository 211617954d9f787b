"""What is measured: tasks, who takes part, and what each is to reach. Standard library only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

# What a result is judged by. "rate" is samples a second, or bytes where the samples are pieces of a stream.
Metric = Literal["rate", "first_ms", "item_ms"]
# Whether the pieces, joined, are compared; or the samples, in any order; or only what the contestant says.
Digest = Literal["stream", "samples", "none"]


@dataclass(frozen=True)
class Job:
    """What a contestant is told.

    Attributes:
        gateway: URL of the gateway, without a slash at the end.
        api: Multiaddr of the node's RPC API.
        facts: About the data, as their builder returned them; "cid" is always there.
        samples: After how many samples it is stopped; None reads all.
        salt: Differs in each run, for tasks whose data must be new.
        scratch: An empty folder for this run alone.
        options: As the task says, such as the number of workers.
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
    """Someone who does a task.

    Attributes:
        adapter: The module in `benchmarks.contestants`.
        function: The function there. What it does before it returns its iterator is preparation and is not
            timed.
        environment: In which environment of `benchmarks.environments` it runs.
        samples: After how many samples it is stopped, at scale 1: who is slow need not read all, for rates
            are compared.
        label: What tables call it.
        options: Added to the task's.
        data: Its own data, where it cannot read the task's.
        bare: Whether it moves all bytes and knows no samples: its rate counts all of them as read, and its
            bytes are not compared.
        compared: Whether its samples are compared with the others'.
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
    """What a contestant of ours is to reach, measured against another of the same task.

    Attributes:
        of: Name of ours.
        against: Name of the other; None judges `of` alone.
        kind: "ratio" of the metric at the least; "above" the other's milliseconds at the most; "peak_mb"
            of memory above the imports at the most.
        value: How much.
    """

    of: str
    kind: Literal["ratio", "above", "peak_mb"]
    value: float
    against: str | None = None


@dataclass(frozen=True)
class Task:
    """Something users do, and who does it.

    Attributes:
        data: Name of the data in `benchmarks.data`.
        rounds: At the most this many, for what takes long or hardly varies.
        own_node: Runs on a node of its own, which is thrown away, since it writes.
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
    """Returns a record of this module as what JSON can hold."""
    return asdict(value)
