"""The fields of `Options` as keyword arguments, for type checkers: what each may be given as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from ipfs_dataset_core.limits import Limits


class OptionArguments(TypedDict, total=False):
    """See `Options`."""

    gateways: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    routers: str | list[str] | tuple[str, ...]
    verify: bool
    node_gateway: bool
    timeout: float
    deadline: float
    retries: int
    max_requests: int
    max_rate: float | None
    headers: Mapping[str, Any]
    auth: str | Callable[[], str] | Mapping[str, Any] | None
    handler: Literal["raise", "warn", "skip"] | Callable[[Exception], bool]
    max_failures: int
    limits: Limits
    memory: int | str
    cache_dir: str | os.PathLike[str] | None
    cache_size: int | str
    offline: bool
    overwrite: bool
