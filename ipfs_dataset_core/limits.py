"""The hard limits against hostile or unreasonable data: one frozen record, each with a default."""

from __future__ import annotations

from typing import Any

import attrs

from ipfs_dataset_core.errors import LimitError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def _at_least_one(_: object, attribute: attrs.Attribute[Any], value: int) -> None:
    if value < 1:
        raise ValueError(f"limit {attribute.name} is at least 1, not {value!r}")


def _limit(default: int) -> Any:
    return attrs.field(default=default, validator=_at_least_one)


@attrs.frozen(kw_only=True)
class Limits:
    """What is refused with a `LimitError`, whatever the data say about themselves.

    Args:
        block_bytes: One block. Nodes exchange at most 2 MiB.
        dag_depth: Levels of blocks in one file.
        directory_depth: Directories inside directories.
        directory_entries: Entries of one directory.
        read_bytes: One read into memory, such as a plain object that is one sample.
        member_bytes: One member of an archive, counted as it is unpacked.
        members: Samples of one object.
        name_bytes: All names in one object's index together.
        listing_bytes: One metadata.txt or manifest.
        listing_line_bytes: One line of a metadata.txt.
        redirects: Hops of one request.
    """

    block_bytes: int = _limit(2 * MIB)
    dag_depth: int = _limit(32)
    directory_depth: int = _limit(64)
    directory_entries: int = _limit(10_000_000)
    read_bytes: int = _limit(4 * GIB)
    member_bytes: int = _limit(4 * GIB)
    members: int = _limit(50_000_000)
    name_bytes: int = _limit(GIB)
    listing_bytes: int = _limit(64 * MIB)
    listing_line_bytes: int = _limit(4 * KIB)
    redirects: int = _limit(3)

    def check(self, limit: str, value: int, what: str) -> None:
        """Checks a value against a limit.

        Args:
            limit: The name of the limit.
            value: What is there.
            what: What the error names.

        Raises:
            LimitError: `value` is larger; the message says how to allow it.
        """
        allowed = getattr(self, limit)
        if value > allowed:
            raise LimitError(
                f"{what} has {value} {'bytes' if limit.endswith('bytes') else ''}".rstrip()
                + f", more than the limit of {allowed}: where you trust it, give limits=Limits({limit}=…)"
            )
