"""Exporters whose failures name the plugin; exceptions of the user's own dataset pass through unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.errors import Location, PluginError
from ipfs_dataset_core.interfaces import Exporter, PublishedSamples, reads_one_by_one
from ipfs_dataset_core.registry.guard import Guard, guarded_batch, guarded_each
from ipfs_dataset_core.registry.lookup import default_registry, make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeVar

    from ipfs_dataset_core.interfaces import (
        DatasetInfo,
        ExporterOptions,
        ExporterPlugin,
        FileSink,
        ObjectDirectory,
        ObjectFile,
    )
    from ipfs_dataset_core.registry.guard import Watch
    from ipfs_dataset_core.registry.provenance import Origin

    T = TypeVar("T")


def make_exporter(declared: ExporterPlugin | Exporter, options: ExporterOptions) -> Exporter:
    """Returns an exporter, guarded; raises like `make`."""
    origin = default_registry().origin(declared)
    if isinstance(declared, Exporter):
        return GuardedExporter(declared, origin)
    return GuardedExporter(make(declared, origin, Exporter, options), origin)  # type: ignore[type-abstract]


class GuardedExporter(Exporter):
    """Wraps an exporter; exceptions that are not errors of this library become a `PluginError`.

    Args:
        exporter: The exporter of a plugin.
        origin: The plugin.
    """

    def __init__(self, exporter: Exporter, origin: Origin) -> None:
        self.inner = exporter
        self._origin = origin

    def export(self, samples: Iterable[Any], sink: FileSink) -> None:
        self._written(samples, lambda given: self.inner.export(given, sink))

    def export_part(self, samples: Iterable[Any], sink: FileSink) -> dict[str, Any]:
        return self._written(samples, lambda given: self.inner.export_part(given, sink))

    def _written(self, samples: Iterable[Any], write: Callable[[_Given], T]) -> T:
        guard = Guard(self._origin, "the export")
        given = _Given(samples, guard)
        try:
            with guard:
                return write(given)
        except PluginError as error:
            if given.error is not None and error.__cause__ is given.error:
                raise given.error from given.error.__cause__
            raise

    def assemble(
        self, parts: Sequence[Mapping[str, Any]], sink: FileSink, *, mixed: bool = False
    ) -> None:
        with Guard(self._origin, "putting parts together"):
            self.inner.assemble(parts, sink, mixed=mixed)

    def load(self, source: ObjectDirectory | ObjectFile) -> PublishedSamples | None:
        with Guard(
            self._origin,
            "opening {0!r}",
            source.name,
            where=lambda: Location(object=source.name),
        ):
            samples: Any = self.inner.load(source)
        if samples is None:
            return None
        if not isinstance(samples, PublishedSamples):
            raise PluginError(
                f"Plugin {self._origin}: `{type(self.inner).__qualname__}.load` of {source.name!r} returned "
                f"{samples!r:.100}, where its contract requires PublishedSamples, or None of what is of "
                f"another form. {self._origin.remedy}"
            )
        return _GuardedSamples(samples, source.name, self._origin)


class _Given:
    """The user's samples: while they are made, the plugin is idle, and failures are not its fault."""

    def __init__(self, samples: Iterable[Any], watch: Watch) -> None:
        self._samples = iter(samples)
        self._watch = watch
        self._count = 0
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._watch.leave()
        try:
            sample = next(self._samples)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise
        finally:
            self._watch.enter()
        self._watch.doing, self._watch.number = "the export of sample {number}", self._count
        self._count += 1
        return sample


class _GuardedSamples(PublishedSamples):
    def __init__(self, samples: PublishedSamples, what: str, origin: Origin) -> None:
        self._samples = samples
        self._what = what
        self._origin = origin

    def __len__(self) -> int:
        with self._guard("the number of samples of"):
            return len(self._samples)

    def info(self) -> DatasetInfo | None:
        with self._guard("the description of"):
            return self._samples.info()

    def shard_cids(self) -> Sequence[str] | None:
        with self._guard("the shards of"):
            return self._samples.shard_cids()

    def span(self, position: int) -> tuple[ObjectFile, int, int]:
        with self._guard(f"sample {position} of", position):
            return self._samples.span(position)

    def files(self, position: int) -> dict[str, bytes]:
        with self._guard(f"sample {position} of", position):
            return self._samples.files(position)

    def sizes(self, start: int, stop: int) -> Iterator[int | None]:
        return guarded_each(
            self._origin,
            lambda: self._samples.sizes(start, stop),
            "the sizes of the samples of {0!r}",
            self._what,
            where=lambda *_: self._where(),
        )

    def read(self, position: int) -> Any:
        with self._guard(f"sample {position} of", position):
            return self._samples.read(position)

    def read_each(self, positions: Iterable[int]) -> Iterator[Any]:
        return guarded_batch(
            self._origin, self._read_each, self._what, positions, where=self._where
        )

    def _read_each(self, positions: list[int]) -> Iterator[Any]:
        if reads_one_by_one(type(self._samples)):
            return map(self._samples.read, positions)
        return self._samples.read_each(positions)

    def iterate(self, start: int, stop: int) -> Iterator[Any]:
        return guarded_each(
            self._origin,
            lambda: self._samples.iterate(start, stop),
            "sample {number} of {0!r}",
            self._what,
            first=start,
            where=lambda number, _: self._where(number),
        )

    def prefetch(self, positions: Sequence[int]) -> None:
        with self._guard("the prefetch of"):
            self._samples.prefetch(positions)

    def is_cached(self, positions: Sequence[int]) -> bool:
        with self._guard("what is in memory of"):
            return self._samples.is_cached(positions)

    def fetch_bytes(self, positions: Iterable[int]) -> Iterator[int]:
        return guarded_each(
            self._origin,
            lambda: self._samples.fetch_bytes(positions),
            "the bytes to fetch for samples of {0!r}",
            self._what,
            where=lambda *_: self._where(),
        )

    def block_stops(self, size: int) -> Sequence[int]:
        with self._guard("the blocks of"):
            return self._samples.block_stops(size)

    def shard_sizes(self) -> Sequence[tuple[int, int]] | None:
        with self._guard("the sizes of the files of"):
            return self._samples.shard_sizes()

    def _guard(self, doing: str, position: int | None = None) -> Guard:
        return Guard(
            self._origin, doing + " {0!r}", self._what, where=lambda: self._where(position)
        )

    def _where(self, position: int | None = None) -> Location:
        return Location(object=self._what, sample=position)
