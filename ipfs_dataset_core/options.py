"""How to read and write: one frozen, picklable record, the same for datasets, importer and exporter."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core.errors import AddressError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MIB = 1 << 20
VARIABLES = {
    "gateways": "IPFS_DATASET_GATEWAYS",
    "verify": "IPFS_DATASET_VERIFY",
    "timeout": "IPFS_DATASET_TIMEOUT",
    "retries": "IPFS_DATASET_RETRIES",
    "memory": "IPFS_DATASET_MEMORY",
}


def _tuple(value: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _positive(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be more than 0 and finite, not {value!r}")


@attrs.frozen(kw_only=True)
class Options:
    """What all sources of a dataset share.

    Args:
        gateways: Gateways to read from, besides those that the objects' own URLs name.
        verify: Whether every byte is checked against its CID. False trusts the sources, for gateways
            that cannot prove what they send.
        timeout: Seconds without progress after which a source has failed.
        retries: How often a request that may succeed later is tried again.
        headers: Extra headers for every request to API and gateways.
        auth: ``"bearer:TOKEN"`` or ``"basic:USER:PASSWORD"``, or a callable that returns one of them.
        memory: Bytes of verified blocks kept in memory by each process.
    """

    gateways: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
    verify: bool = True
    timeout: float = attrs.field(default=30.0, validator=_positive)
    retries: int = attrs.field(default=4, validator=attrs.validators.ge(0))
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    auth: str | Callable[[], str] | None = attrs.field(default=None, repr=False)
    memory: int = attrs.field(default=64 * MIB, validator=_positive)

    @classmethod
    def from_arguments(
        cls, arguments: Mapping[str, Any], environment: Mapping[str, str] = os.environ
    ) -> Options:
        """Returns options from keyword arguments, else the environment, else the defaults.

        Raises:
            TypeError: An argument has an unknown name.
            AddressError: A variable of the environment has an unusable value.
        """
        unknown = set(arguments) - {field.name for field in attrs.fields(cls)}
        if unknown:
            raise TypeError(
                f"unknown option {', '.join(sorted(unknown))}: see ipfs_dataset_core.Options"
            )
        return cls(**{**cls._from_environment(environment), **arguments})

    @classmethod
    def _from_environment(cls, environment: Mapping[str, str]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, variable in VARIABLES.items():
            if text := environment.get(variable):
                try:
                    values[name] = _PARSERS[name](text)
                    cls(**{name: values[name]})
                except ValueError as error:
                    raise AddressError(f"{variable}={text!r} cannot be used: {error}") from error
        return values


def _boolean(text: str) -> bool:
    values = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    try:
        return values[text.strip().lower()]
    except KeyError:
        raise ValueError("write 1 or 0") from None


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "gateways": lambda text: tuple(text.split()),
    "verify": _boolean,
    "timeout": float,
    "retries": int,
    "memory": int,
}
