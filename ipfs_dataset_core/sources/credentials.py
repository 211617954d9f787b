"""Which source gets which credentials: a token for one source is never sent to another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core.addressing.sources import gateway_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipfs_dataset_core.options import Options


def options_for(options: Options, address: str, position: int) -> Options:
    """Returns the options for one source, with no other source's headers and credentials.

    Args:
        options: As the user gave them.
        address: The source.
        position: Its position among the sources that the user named, from 0; -1 where an object's URL, the
            environment or a router named it.
    """
    headers, auth = options.headers, options.auth
    if _is_per_source(headers):
        headers = _of(headers, address) or {}
    elif position < 0:
        headers = {}
    if isinstance(auth, Mapping):
        auth = _of(auth, address)
    elif position != 0:
        auth = None
    return attrs.evolve(options, headers=headers, auth=auth)


def kept_for(options: Options, named: Sequence[str]) -> Options:
    """Returns options whose headers and credentials are for no source but those that the user named.

    Args:
        options: As the user gave them.
        named: Those sources; the first one gets an `auth` that names no source.
    """
    headers, auth = options.headers, options.auth
    if not _is_per_source(headers):
        headers = dict.fromkeys(named, headers) if headers else {}
    if not isinstance(auth, Mapping):
        auth = {named[0]: auth} if named and auth is not None else None
    return attrs.evolve(options, headers=headers, auth=auth)


def _is_per_source(headers: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Mapping) for value in headers.values())


def _of(values: Mapping[str, Any], address: str) -> Any:
    wanted = _normal(address)
    return next((value for key, value in values.items() if _normal(key) == wanted), None)


def _normal(address: str) -> str:
    """Returns an address that is equal for all spellings of one source, without tokens in a query."""
    return gateway_address(address).partition("?")[0].removeprefix("gateway+").rstrip("/")
