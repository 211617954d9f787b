"""Options and limits for reading and publishing: `Options` and `Limits`.

An option appears in three places of this module: `OptionArguments` has the types that users may give, for
type checkers and editors, `Options` the resulting value with its default and description, and `_PARSERS` the
parser of its environment variable.
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import attrs

from ipfs_dataset_core.addressing.object_url import redacted
from ipfs_dataset_core.errors import AddressError, LimitError, VerificationWarning
from ipfs_dataset_core.runtime.user_warnings import warn_user
from ipfs_dataset_core.runtime.whole_numbers import whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_MOST_SECONDS = 1_000_000_000


def _at_least_one(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    whole_number(f"limit {attribute.name}", value, least=1, most=None)


def _limit(default: int) -> Any:
    return attrs.field(default=default, validator=_at_least_one)


@attrs.frozen(kw_only=True)
class Limits:
    """The limits on data, beyond which they are refused with a `LimitError`.

    Args:
        block_bytes: Bytes of one block. Nodes exchange at most 2 MiB.
        dag_depth: Levels of blocks in one file.
        directory_depth: Levels of nested directories.
        directory_entries: Entries of one directory.
        read_bytes: Bytes of one read into memory, such as a plain object that is one sample.
        member_bytes: Bytes of one member of an archive, counted while it is unpacked.
        window_bytes: Bytes of memory for the window of one compressed stream (xz, LZMA, Zstandard).
        expansion_bytes: Bytes to which a compressed or sparse part of an object may unpack in any case.
        expansion_ratio: Unpacked size divided by stored size, for parts that unpack to more than
            `expansion_bytes`.
        members: Samples of one object. The walk of a folder may meet twice as many entries and 1024 more,
            including directories, symlinks and hidden files.
        archives: Archives in one folder.
        repeated_entries: Directory entries that the walk of a folder has met before under another path, and
            members of archives in blocks that contained other members. More are allowed while they are less
            than 16 times the different ones.
        name_bytes: Bytes of all names in the index of one object.
        listing_bytes: Bytes of one metadata.txt or manifest.
        listing_line_bytes: Bytes of one line of a metadata.txt.
        redirects: Redirects of one request.
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
            value: The number to check.
            what: The subject of the error message.

        Raises:
            LimitError: `value` is larger; the message contains the limit to raise.
        """
        allowed = getattr(self, limit)
        if value > allowed:
            raise LimitError(
                f"{what} has {value} {'bytes' if limit.endswith('bytes') else ''}".rstrip()
                + f", more than the limit of {allowed}: if you trust it, give limits=Limits({limit}=…)"
            )

    def check_expansion(self, stored: int, unpacked: int, what: str) -> None:
        """Checks the ratio of unpacked to stored size.

        A few bytes may stand for gigabytes of zeros, which would take that much memory when unpacked. The
        ratio and the size must both be exceeded: data that unpacks to at most `expansion_bytes` is always
        allowed, and so is larger data that compresses like real data, such as a long video.

        Args:
            stored: Number of stored bytes.
            unpacked: Number of unpacked bytes, as declared or as produced so far.
            what: The subject of the error message.

        Raises:
            LimitError: Both limits are exceeded; the message contains the limit to raise.
        """
        if unpacked > self.expansion_bytes and unpacked > self.expansion_ratio * stored:
            raise LimitError(
                f"{what} unpacks to {unpacked} bytes or more from {stored}, which is over "
                f"{self.expansion_ratio} times as much, and more than the {self.expansion_bytes} bytes that "
                "are always allowed. If you trust it, give limits=Limits(expansion_ratio=…) or "
                "limits=Limits(expansion_bytes=…)"
            )


POLICIES = ("raise", "warn", "skip")

_OF_LOADER = "it is an argument of the DataLoader"
_OF_STREAM = "it is an argument of IPFSIterableDataset"
_ADDRESS = "where to read is the second argument, or gateways="
# Names that are no options of all datasets, and what to write: arguments that stand elsewhere, and those of
# other libraries for the same purpose.
_ELSEWHERE = {
    "num_workers": _OF_LOADER,
    "drop_last": _OF_LOADER,
    "collate_fn": _OF_LOADER,
    "batch_size": f"{_OF_LOADER}, and of IPFSIterableDataset",
    "shuffle": "give shuffle=True to the DataLoader; a stream takes shuffle_blocks=True, or a ShuffleDataset",
    "shuffle_urls": _OF_STREAM,
    "shuffle_blocks": f"{_OF_STREAM}; for other datasets there is BlockShuffleSampler",
    "seed": f"{_OF_STREAM}, ShuffleDataset and BlockShuffleSampler",
    "distribution": f"{_OF_STREAM} and BlockShuffleSampler",
    "lanes": f"{_OF_STREAM} and BlockShuffleSampler",
    "split": f"{_OF_STREAM}; the split of a dataset, such as 'train', is a CID or path of its own",
    "buffer_size": "it is an argument of ShuffleDataset",
    "filetype": "it is an argument of IPFSObject: IPFSObject(url, filetype)",
    "address": _ADDRESS,
    "ipfs_api_address": _ADDRESS,
    "remote": _ADDRESS,
    "local": "did you mean cache_dir?",
    "root": "did you mean cache_dir?",
    "cache_limit": "did you mean cache_size?",
    "max_cache_size": "did you mean cache_size?",
    "shardshuffle": "did you mean shuffle_urls?",
    "download": "data are read while they are used, and cache_dir= keeps them",
    "streaming": "all datasets stream; IPFSIterableDataset does so in order",
}
_UNITS = {"k": 1 << 10, "m": MIB, "g": GIB, "t": 1 << 40}


def _tuple(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (str, os.PathLike, Iterable)):
        return value  # type: ignore[no-any-return]  # rejected by `_addresses`, which has the name of the option
    given = (value,) if isinstance(value, (str, os.PathLike)) else tuple(value)
    return tuple(os.fsdecode(v) if isinstance(v, os.PathLike) else v for v in given)


def _shown(urls: tuple[str, ...]) -> str:
    return repr(tuple(map(redacted, urls)))


def _addresses(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, tuple):
        raise TypeError(
            f"{attribute.name} must be an address, or a list of them, not {value!r:.80}"
        )


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {value!r:.80}")


def _positive(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    _check_number(attribute.name, value)
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be more than 0 and finite, not {value!r}")


def _whole(least: int) -> Callable[[object, attrs.Attribute[Any], Any], None]:
    def check(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        whole_number(attribute.name, value, least=least, most=None)

    return check


def _flag(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    # Text such as "no" would count as True.
    plain = value.item() if hasattr(value, "item") else value
    if not isinstance(plain, int):
        raise TypeError(f"{attribute.name} must be True or False, not {value!r:.80}")


def _headers(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, Mapping):
        # Without the value, which may be a secret.
        raise TypeError(
            f"{attribute.name} must map the names of headers to their values, and is a {type(value).__name__}"
        )


def _credentials(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not (value is None or callable(value) or isinstance(value, (str, Mapping))):
        raise TypeError(
            f"{attribute.name} must be text such as 'bearer:TOKEN', a function that returns such text, or a "
            f"mapping from addresses to such values, and is a {type(value).__name__}"
        )


def _seconds(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    _check_number(attribute.name, value)
    # Systems cannot wait for more than some hundred years.
    if not 0 < value <= _MOST_SECONDS:
        raise ValueError(
            f"{attribute.name} must be finite, from above 0 to {_MOST_SECONDS:,} seconds, not {value!r}"
        )


def _policy(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not callable(value) and value not in POLICIES:
        raise ValueError(f"{attribute.name} must be one of {POLICIES} or a callable, not {value!r}")


def _folder(value: Any) -> Path | None:
    if value is not None and not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"cache_dir must be the path of a folder, not {value!r:.80}")
    return None if value is None else Path(value).expanduser()


def parse_size(value: int | str) -> int:
    """Parses a number of bytes, given as a number or as text such as ``"100G"``, ``"1.5 GiB"``, ``"200MB"``.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, int):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a size: write a whole number of bytes, or 100G")  # noqa: TRY004 - as below
    text = value.strip().lower().removesuffix("b").removesuffix("i")
    factor = _UNITS.get(text[-1:])
    try:
        return int(float(text) if factor is None else float(text[:-1]) * factor)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is not a size: write a number of bytes, or 100G") from None


@attrs.frozen(kw_only=True)
class Options:
    """The options of datasets and exporters.

    Args:
        gateways: Gateways to read from, in addition to those in the URLs of objects.
        routers: Delegated routers, which name further sources of the data: HTTP gateways and, if the plugin
            for them is installed, Bitswap peers.
        bootstrap: Peers from which the DHT of IPFS is searched for peers that have the data: addresses that
            end in ``/p2p/ID``, or ``"default"`` for the public bootstrap peers. Needs the plugin for peers.
        verify: Whether every byte is checked against its CID. False trusts the sources. It is meant for
            gateways that cannot prove what they send.
        node_gateway: Whether the address of an API is also used to reach the node's own gateway, which serves
            the same bytes at a third of the cost. Its port is requested from the node.
        timeout: Seconds without progress after which a source has failed.
        deadline: Seconds in all, over all sources and retries, for one read, or for one batch of 8 MiB that
            is published.
        retries: How often a request is retried if it may succeed later; 0 disables retries. A source that has
            delivered before is retried for `timeout` more seconds, so that an epoch survives the restart of a
            node, and one that limits the rate of requests is retried until the deadline.
        max_requests: The most requests in flight at one source, shared by the workers of a loader.
        max_rate: The most requests per second to one source, shared by the workers of a loader; None for no
            limit.
        headers: Extra headers for all requests to the sources that you name, or a mapping from the address of
            a source to its headers.
        auth: ``"bearer:TOKEN"``, ``"basic:USER:PASSWORD"``, or a callable that returns one of them. Sent to
            the address that you give, or else to the first gateway. A mapping from addresses to such values
            sends each value only to its address.
        handler: What to do with a sample that cannot be read: ``"raise"``, ``"warn"`` or ``"skip"``, or a
            callable that takes the error and returns whether to skip. Skipped samples are counted.
        max_failures: After how many failures in a row the error is raised nevertheless.
        limits: The limits on data, see `Limits`.
        memory: Bytes of blocks that each process holds, including blocks that are being received.
        worker_memory: The most bytes of shared memory through which each worker of a DataLoader passes large
            samples and batches of bytes, on systems that have such memory (Linux). Memory is taken only for
            samples that the loader has not read yet. 0 sends all samples through the pipe of the worker.
        cache_dir: A folder for verified blocks, kept between epochs and jobs; None for no cache. A new or an
            empty folder becomes a cache; any other folder that is not a cache is refused.
        cache_size: The most bytes in `cache_dir`: a number, or text such as ``"100G"``.
        offline: Read only from the cache and from local stores.
        overwrite: Replace an existing `.car` file when publishing to it, in one step, once the new one is
            complete. Has no effect on reading.
    """

    gateways: tuple[str, ...] = attrs.field(
        default=(), converter=_tuple, validator=_addresses, repr=_shown
    )
    routers: tuple[str, ...] = attrs.field(
        default=(), converter=_tuple, validator=_addresses, repr=_shown
    )
    bootstrap: tuple[str, ...] = attrs.field(
        default=(), converter=_tuple, validator=_addresses, repr=_shown
    )
    verify: bool = attrs.field(default=True, validator=_flag)
    node_gateway: bool = attrs.field(default=True, validator=_flag)
    timeout: float = attrs.field(default=30.0, validator=_seconds)
    deadline: float = attrs.field(default=300.0, validator=_seconds)
    retries: int = attrs.field(default=4, validator=_whole(0))
    max_requests: int = attrs.field(default=32, validator=_whole(1))
    max_rate: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(_positive)
    )
    headers: Mapping[str, Any] = attrs.field(factory=dict, validator=_headers, repr=False)
    auth: str | Callable[[], str] | Mapping[str, Any] | None = attrs.field(
        default=None, validator=_credentials, repr=False
    )
    handler: Literal["raise", "warn", "skip"] | Callable[[Exception], bool] = attrs.field(
        default="raise", validator=_policy
    )
    max_failures: int = attrs.field(default=10, validator=_whole(1))
    limits: Limits = attrs.field(factory=Limits, validator=attrs.validators.instance_of(Limits))
    memory: int = attrs.field(default=64 * MIB, converter=parse_size, validator=_positive)
    worker_memory: int = attrs.field(default=256 * MIB, converter=parse_size, validator=_whole(0))
    cache_dir: Path | None = attrs.field(default=None, converter=_folder)
    cache_size: int = attrs.field(default=50 * GIB, converter=parse_size, validator=_positive)
    offline: bool = attrs.field(default=False, validator=_flag)
    overwrite: bool = attrs.field(default=False, validator=_flag)

    @classmethod
    def from_arguments(
        cls, arguments: Mapping[str, Any], environment: Mapping[str, str] = os.environ
    ) -> Options:
        """Returns options from keyword arguments, else the environment, else the defaults.

        Args:
            arguments: The options given by the user, by name.
            environment: Contains variables such as ``IPFS_DATASET_TIMEOUT`` for the options in `VARIABLES`.

        Raises:
            TypeError: An argument has an unknown name or the wrong type.
            ValueError: An argument is out of range.
            AddressError: An environment variable has an invalid value.
        """
        unknown = set(arguments) - {field.name for field in attrs.fields(cls)}
        if unknown:
            raise TypeError(
                f"unknown option {', '.join(map(_with_hint, sorted(unknown)))}: see ipfs_dataset_core.Options"
            )
        found = cls._from_environment(environment)
        if found.get("verify") is False and "verify" not in arguments:
            warn_user(
                f"{VARIABLES['verify']}={environment[VARIABLES['verify']]} is set, so nothing is "
                "verified, and whatever a source sends is used as the data. Unset it, or give verify= "
                "explicitly",
                VerificationWarning,
            )
        return cls(**{**found, **arguments})

    @classmethod
    def _from_environment(cls, environment: Mapping[str, str]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, parse in _PARSERS.items():
            if text := environment.get(VARIABLES[name]):
                try:
                    values[name] = parse(text)
                    cls(**{name: values[name]})
                except ValueError as error:
                    raise AddressError(
                        f"{VARIABLES[name]}={text!r} cannot be used: {error}"
                    ) from error
        return values


def _with_hint(name: str) -> str:
    """Returns the unknown name of an option, with a suggestion if there is a similar one."""
    from ipfs_dataset_core.runtime.suggestions import similar  # noqa: PLC0415 - for errors only

    if name in _ELSEWHERE:
        return f"{name} ({_ELSEWHERE[name]})"
    close = similar(name, [field.name for field in attrs.fields(Options)])
    return name if close is None else f"{name} (did you mean {close}?)"


class OptionArguments(TypedDict, total=False):
    """The keyword arguments of datasets, importer and exporter, as users may give them; see `Options`."""

    gateways: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    routers: str | list[str] | tuple[str, ...]
    bootstrap: str | list[str] | tuple[str, ...]
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
    worker_memory: int | str
    cache_dir: str | os.PathLike[str] | None
    cache_size: int | str
    offline: bool
    overwrite: bool


def _boolean(text: str) -> bool:
    values = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    try:
        return values[text.strip().lower()]
    except KeyError:
        raise ValueError("write 1 or 0") from None


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# The options that can be set by the environment. Credentials and callables are not among them.
_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "gateways": _words,
    "routers": _words,
    "bootstrap": _words,
    "verify": _boolean,
    "node_gateway": _boolean,
    "timeout": float,
    "deadline": float,
    "retries": int,
    "max_requests": int,
    "max_rate": float,
    "handler": str,
    "max_failures": int,
    "memory": parse_size,
    "worker_memory": parse_size,
    "cache_dir": str,
    "cache_size": parse_size,
    "offline": _boolean,
}
VARIABLES = {name: f"IPFS_DATASET_{name.upper()}" for name in _PARSERS}


def cached_bytes(memory: int) -> int:
    """Returns the part of `memory` for cached blocks; an eighth is reserved for blocks being received.

    Args:
        memory: Number of bytes in total.
    """
    return memory - memory // 8
