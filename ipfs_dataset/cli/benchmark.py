"""Measures how fast an object is read, against a plain, unverified read."""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core.addressing.object_url import parse_object_url, redacted
from ipfs_dataset_core.datasets.objects import DatasetObject, choose_format
from ipfs_dataset_core.errors import IPFSDatasetError
from ipfs_dataset_core.interfaces import ObjectDirectory
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from ipfs_dataset_core.reading.connections import Connections
from ipfs_dataset_core.reading.objects import open_object, resolve_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core.interfaces import ByteStream, Transport
    from ipfs_dataset_core.ipld import CID
    from ipfs_dataset_core.options import Options

_PIECE_BYTES = 1 << 20
_SLOW_SHARE = 0.5
_MANY_REQUESTS = 8.0  # per MiB: more than one for each leaf of 256 KiB
_FAR_SECONDS = 0.05
_SMALL_FILE = 64 << 10
# At most this many peers, or providers found by a router, are shown one by one.
_MOST_PARTS = 8


def summary_lines(found: dict[str, Any]) -> Iterator[str]:
    """Yields a summary as lines of text."""
    yield found["url"]
    for name, serves in found["sources"].items():
        can = [what for what, able in serves.items() if able]
        yield f"  {'source':<14} {name}: {', '.join(can) or 'single blocks'}"
        for part, facts in found["facts"].get(name, {}).items():
            told = "; ".join(f"{label} {value}" for label, value in facts.items())
            yield f"  {'':<14} {part + ': ' if part != name else ''}{told}"
    verified, plain = found["verified"], found["plain"]
    yield f"  {'ipfs-dataset':<14} {_figures(verified)}"
    yield f"  {'':<14} {verified['samples']:,} samples, {verified['samples_per_second']:,.0f} a second"
    if plain is None:
        yield f"  {'plain read':<14} none: the object is not a file, or no source serves plain bytes"
    else:
        yield f"  {'plain read':<14} {_figures(plain)}; not verified"
        yield f"  {'in relation':<14} {found['share_of_plain']:.2f} of the plain read's speed"
    if found["peak_mb"] is not None:
        yield f"  {'memory':<14} {found['peak_mb']:.0f} MB more at the peak than at the start"
    yield ""
    yield "What may help:"
    yield from (f"  - {line}" for line in found["advice"])


def _figures(one: dict[str, float]) -> str:
    return (
        f"{one['mb_per_second']:.1f} MB/s ({one['bytes'] / 1e6:.1f} MB in {one['seconds']:.2f} s), "
        f"first after {one['first_ms']:.0f} ms, {one['requests']:.0f} requests"
    )


@attrs.frozen
class Reading:
    """One timed reading of an object, up to the permitted number of bytes.

    Attributes:
        seconds: Duration of the whole reading.
        first_seconds: Time until the first sample or piece arrived.
        bytes: Number of bytes read, of samples or of the plain file.
        samples: Number of samples read; None for a plain read.
        requests: Number of requests to sources, without their own retries and redirects.
    """

    seconds: float
    first_seconds: float
    bytes: int
    samples: int | None
    requests: int

    @property
    def mb_per_second(self) -> float:
        return self.bytes / 1e6 / self.seconds


@attrs.define
class Speed:
    """The result of `measure`.

    Attributes:
        url: URL of the object, without secrets.
        verified: Readings by this library, one per round.
        plain: Plain reads of the same bytes; empty if no source serves them.
        peak_mb: Growth of this process's peak memory during the readings, in MB.
        is_folder: Whether the object is a directory.
        serves: For each source, by name, whether it serves ranges, CARs and batches of blocks.
        facts: For each source, by name, the facts that it, or each of its parts, reports about itself.
    """

    url: str
    verified: list[Reading] = attrs.field(factory=list)
    plain: list[Reading] = attrs.field(factory=list)
    peak_mb: float | None = None
    is_folder: bool = False
    serves: dict[str, dict[str, bool]] = attrs.field(factory=dict)
    facts: dict[str, dict[str, dict[str, str]]] = attrs.field(factory=dict)

    def summary(self) -> dict[str, Any]:
        """Returns medians and the figures derived from them as plain values."""
        verified, plain = _medians(self.verified), _medians(self.plain)
        share = verified["mb_per_second"] / plain["mb_per_second"] if verified and plain else None
        return {
            "url": self.url,
            "verified": verified,
            "plain": plain,
            "share_of_plain": share,
            "peak_mb": self.peak_mb,
            "sources": self.serves,
            "facts": self.facts,
            "advice": list(_advice(self, share)),
        }


def measure(
    obj: IPFSObject, address: str | None, options: Options, *, most_bytes: int, rounds: int
) -> Speed:
    """Reads an object alternately verified and plain, each time on new connections and with an empty cache.

    Args:
        obj: The object to read.
        address: As ``ipfs_api_address`` of a dataset.
        options: As for a dataset.
        most_bytes: Number of bytes after which a reading ends.
        rounds: Number of readings of each kind.

    Raises:
        AddressError: The URL is malformed, or there is no source.
        IPFSDatasetError: The object cannot be read.
    """
    found, before = Speed(redacted(obj.url)), _peak_mb()
    obj = _as_stream(obj, address, options)
    for _ in range(rounds):
        found.verified.append(_read_verified(obj, address, options, most_bytes))
        if (plain := _read_plain(obj, address, options, most_bytes, found)) is not None:
            found.plain.append(plain)
    if before is not None:
        found.peak_mb = (_peak_mb() or before) - before
    return found


def _as_stream(obj: IPFSObject, address: str | None, options: Options) -> IPFSObject:
    """Returns the object, read as a stream if it would otherwise be a single sample of any size."""
    with closing(Connections(address, options, [obj])) as connections:
        chosen = choose_format(obj, open_object(obj.url, connections))
    if getattr(chosen, "name", None) != RemoteFileType.PLAIN.value:
        return obj
    return IPFSObject(obj.url, RemoteFileType.PLAIN_STREAM)


def _read_verified(
    obj: IPFSObject, address: str | None, options: Options, most_bytes: int
) -> Reading:
    started = time.perf_counter()
    with closing(Connections(address, options, [obj])) as connections:
        item = DatasetObject(obj, connections)
        samples = (data for shard in item.shards() for _, data in shard.samples())
        taken = _take(_pieces(samples), most_bytes, started)
        item.close()
        sources = connections.fetcher(parse_object_url(obj.url).gateway).sources
        return attrs.evolve(taken, requests=sum(one.requests for one in sources.transports))


def _pieces(samples: Iterable[Any]) -> Iterable[tuple[int, bool]]:
    """Yields the size of each piece in bytes, and whether the piece completes a sample."""
    for sample in samples:
        if not hasattr(sample, "read"):
            yield len(sample) if isinstance(sample, (bytes, str)) else 0, True
            continue
        while piece := sample.read(_PIECE_BYTES):
            yield len(piece), False
        yield 0, True


def _take(pieces: Iterable[tuple[int, bool]], most_bytes: int, started: float) -> Reading:
    samples = size = 0
    first = None
    for length, ends in pieces:
        first = first or time.perf_counter()
        size += length
        samples += ends
        if size >= most_bytes:
            break
    now = time.perf_counter()
    return Reading(now - started, (first or now) - started, size, samples, 0)


def _read_plain(
    obj: IPFSObject, address: str | None, options: Options, most_bytes: int, found: Speed
) -> Reading | None:
    """Reads the file's bytes from the first source that serves plain bytes; None if there is none."""
    with closing(Connections(address, options, [obj])) as connections:
        url = parse_object_url(obj.url)
        cid = resolve_root(url, connections)
        source = open_object(obj.url, connections)
        able = connections.fetcher(url.gateway).sources.transports
        found.serves = {
            t.name: {"ranges": t.serves_ranges, "cars": t.serves_cars, "batches": t.batches}
            for t in able
        }
        found.facts = found.facts or {t.name: dict(_facts(t)) for t in able}
        found.is_folder = isinstance(source, ObjectDirectory)
        if isinstance(source, ObjectDirectory):
            return None
        for transport in able:
            if transport.serves_ranges and (stop := min(source.size, most_bytes)):
                return _read_range(transport, cid, stop)
    return None


def _facts(transport: Transport) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the name and facts of a source, or of each of its parts."""
    try:
        parts = list(transport.parts())[:_MOST_PARTS]
        facts = {} if parts else dict(transport.facts())
    except IPFSDatasetError as error:
        parts, facts = [], {"tells nothing": str(error)}
    for part in parts:
        yield from _facts(part)
    if facts:
        yield transport.name, facts


def _read_range(transport: Transport, cid: CID, stop: int) -> Reading | None:
    started = time.perf_counter()
    try:
        with closing(transport.open_range(cid, 0, stop)) as stream:
            taken = _take(_of_stream(stream), stop, started)
    except IPFSDatasetError:  # the verified reading reports it
        return None
    return attrs.evolve(taken, samples=None, requests=1)


def _of_stream(stream: ByteStream) -> Iterable[tuple[int, bool]]:
    while piece := stream.read(_PIECE_BYTES):
        yield len(piece), False


def _medians(readings: list[Reading]) -> dict[str, float] | None:
    if not readings:
        return None
    figures = {
        "mb_per_second": statistics.median(one.mb_per_second for one in readings),
        "first_ms": 1000 * statistics.median(one.first_seconds for one in readings),
        "seconds": statistics.median(one.seconds for one in readings),
        "bytes": readings[0].bytes,
        "requests": statistics.median(one.requests for one in readings),
    }
    if readings[0].samples is not None:
        figures["samples"] = readings[0].samples
        figures["samples_per_second"] = statistics.median(
            (one.samples or 0) / one.seconds for one in readings
        )
    return figures


def _advice(found: Speed, share: float | None) -> Iterable[str]:
    one = found.verified[0]
    size = max(1, one.bytes)
    if not any(any(serves.values()) for serves in found.serves.values()):
        yield (
            "No source serves plain ranges, CARs or batches, so every block takes a request: add "
            "gateways=[URL, …]"
        )
    elif one.requests * (1 << 20) / size > _MANY_REQUESTS:
        yield "Many requests fetched few bytes: pack small files into a TAR or ZIP"
    elif found.is_folder and one.samples and size / one.samples < _SMALL_FILE:
        yield "For random access to many small files, a ZIP needs fewer requests than a folder"
    if found.plain and found.plain[0].first_seconds > _FAR_SECONDS:
        yield "The source is far away: use num_workers, and large batches for random access"
    if share is not None and share < _SLOW_SHARE:
        yield "Processing takes longer than the transfer: num_workers spreads it over processors"
    yield 'Later epochs need no source with cache_dir="folder"'


def _peak_mb() -> float | None:
    try:
        import resource  # noqa: PLC0415 - not available on Windows
    except ImportError:
        return None
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
