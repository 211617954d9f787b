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
        window_bytes: Memory that the window of one compressed stream may take (xz, LZMA, Zstandard).
        expansion_bytes: What a compressed or sparse part of an object may always unpack to.
        expansion_ratio: Beyond that, how many times as large as it is stored; see `check_expansion`.
        members: Samples of one object. The walk of a folder meets at most twice as many entries and 1024
            more, directories, symlinks and hidden files included.
        archives: Archives in one folder.
        repeated_entries: Entries of directories that the walk of a folder has met before, under another path,
            and members of archives in blocks that had others. More are allowed where they are less than 16
            times those that differ.
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
    window_bytes: int = _limit(256 * MIB)
    expansion_bytes: int = _limit(256 * MIB)
    expansion_ratio: int = _limit(200)
    members: int = _limit(50_000_000)
    archives: int = _limit(100_000)
    repeated_entries: int = _limit(1_000_000)
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

    def check_expansion(self, stored: int, unpacked: int, what: str) -> None:
        """Checks how much larger than what is stored something is when it is unpacked.

        Few bytes may stand for gigabytes of zeros, and whoever unpacks them needs the memory. The ratio
        counts together with the size: what unpacks to no more than `expansion_bytes` is always allowed, and
        so is what is larger but compresses as real data do, such as a long video.

        Args:
            stored: Bytes that are stored.
            unpacked: Bytes that they stand for, as declared or as produced so far.
            what: What the error names.

        Raises:
            LimitError: Both limits are exceeded; the message says how to allow it.
        """
        if unpacked > self.expansion_bytes and unpacked > self.expansion_ratio * stored:
            raise LimitError(
                f"{what} unpacks to {unpacked} bytes or more from {stored}: that is over "
                f"{self.expansion_ratio} times "
                f"as much, and more than the {self.expansion_bytes} bytes that are always allowed. "
                "Where you trust it, "
                "give limits=Limits(expansion_ratio=…) or limits=Limits(expansion_bytes=…)"
            )
