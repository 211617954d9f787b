"""The contract of exporters as a test suite; see docs/how-to/add-an-exporter.md."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from ipfs_dataset_core.errors import FormatError, LimitError, ObjectNotFoundError
from ipfs_dataset_core.interfaces import Exporter, ExporterOptions, ExporterPlugin
from ipfs_dataset_core.ipld import get_profile
from ipfs_dataset_core.publishing.publish import TreeSink, publish
from ipfs_dataset_core.registry.lookup import resolve_factory
from ipfs_dataset_core.testing.checks import Checks
from ipfs_dataset_core.testing.damage import changed, truncated, with_large_numbers
from ipfs_dataset_core.testing.equality import difference, same_value
from ipfs_dataset_core.testing.memory import MemoryDirectory, MemoryFile, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core.interfaces import PublishedSamples, SinkFile

_PROFILE = get_profile("unixfs-v1-2025")
_SHARD_BYTES = 20_000
# How many times all samples are passed to `export` before a shard must have been written.
_REPETITIONS = 2_000
_ERRORS = (FormatError, LimitError, ObjectNotFoundError)
_checks = Checks("docs/how-to/add-an-exporter.md#test-it")


class ExporterContract:
    """The contract of an exporter. Inherit from it, and override the fixture `plugin` (and `samples`).

    Attributes:
        memory_bytes: Maximum memory in bytes for loading and reading a damaged dataset.
    """

    memory_bytes: int = 64 << 20

    @pytest.fixture
    def plugin(self) -> ExporterPlugin | type[Exporter]:
        """The exporter's declaration: an ExporterPlugin, or the exporter's class if that declares itself."""
        raise NotImplementedError(
            "override the fixture `plugin`: return your subclass of Exporter, or your ExporterPlugin"
        )

    @pytest.fixture
    def declared(self, plugin: ExporterPlugin | type[Exporter]) -> ExporterPlugin:
        """The declaration given by `plugin`."""
        return _checks.declaration(plugin, Exporter, ExporterPlugin)

    @pytest.fixture
    def samples(self) -> list[Any]:
        """Samples that the exporter can store; by default pairs of a number and a text."""
        return [(number, f"sample {number}") for number in range(50)]

    def same(self, one: Any, other: Any) -> bool:
        """Returns whether two samples are equal, like `same_value`; override it for types of your own."""
        return same_value(one, other)

    @pytest.fixture
    def exporter(self, declared: ExporterPlugin) -> Exporter:
        """The exporter, with shards so small that the samples need several."""
        exporter: object = resolve_factory(declared)(ExporterOptions(shard_bytes=_SHARD_BYTES))
        if not isinstance(exporter, Exporter):
            _checks.fail(
                f"The factory must return an ipfs_dataset_core.Exporter, but it returned {exporter!r:.200}"
            )
        return exporter

    def published(self, exporter: Exporter, samples: Any) -> MemoryDirectory:
        """Returns the directory written by an export."""
        transport = MemoryTransport()
        root = publish(exporter.export, iter(samples), transport, _PROFILE)
        return transport.directory(root)

    def loaded(self, exporter: Exporter, samples: Any) -> PublishedSamples:
        """Returns the published samples loaded after an export."""
        found = exporter.load(self.published(exporter, samples))
        if found is None:
            _checks.fail("`load` must return what `export` wrote, but it returned None")
        return found

    def test_declaration_and_exporter_can_be_pickled(
        self, declared: ExporterPlugin, exporter: Exporter
    ) -> None:
        _checks.declaration_can_be_pickled(declared)
        _checks.pickled(exporter, "the exporter")

    def test_samples_are_equal_and_in_order_after_publishing(
        self, exporter: Exporter, samples: list[Any]
    ) -> None:
        found = self.loaded(exporter, samples)
        self._require_length(found, samples)
        self._require_same(list(found.iterate(0, len(samples))), samples, "`iterate`")

    def test_each_sample_can_be_read_by_position(
        self, exporter: Exporter, samples: list[Any]
    ) -> None:
        found = self.loaded(exporter, samples)
        found.prefetch(range(len(samples)))
        backwards = [found.read(position) for position in reversed(range(len(samples)))]
        self._require_same(backwards[::-1], samples, "`read`")
        found_each = list(found.read_each(range(0, len(samples), 2)))
        self._require_same(found_each, samples[::2], "`read_each` of every other position")

    def test_fetch_bytes_block_stops_and_shard_sizes_cover_all_samples(
        self, exporter: Exporter, samples: list[Any]
    ) -> None:
        found = self.loaded(exporter, samples)
        fetched = list(found.fetch_bytes(range(len(samples))))
        _checks.require(
            len(fetched) == len(samples) and min(fetched, default=0) >= 0,
            f"`fetch_bytes` must yield a number of bytes for each of {len(samples)} positions, but it "
            f"yielded {len(fetched)}: {fetched!r:.200}",
        )
        stops = [0, *found.block_stops(1000)]
        _checks.require(
            stops == sorted(set(stops)) and stops[-1] == len(samples),
            f"`block_stops` must return ascending positions that end with {len(samples)}, the number of "
            f"samples, but it returned {stops[1:]!r:.200}",
        )
        sizes = found.shard_sizes()
        counted = len(samples) if sizes is None else sum(count for count, _ in sizes)
        _checks.require(
            counted == len(samples) and all(size >= 0 for _, size in sizes or ()),
            "`shard_sizes` must return (samples, bytes) for each file, with "
            f"{len(samples)} samples in total, but it returned {sizes!r:.200}",
        )

    def test_any_part_can_be_iterated(self, exporter: Exporter, samples: list[Any]) -> None:
        found = self.loaded(exporter, samples)
        last = len(samples)
        for start, stop in ((0, 0), (0, 1), (last // 3, last), (last - 1, last - 1)):
            part = list(found.iterate(start, stop))
            self._require_same(part, samples[start:stop], f"`iterate({start}, {stop})`")

    def test_an_empty_dataset_can_be_published(self, exporter: Exporter) -> None:
        found = self.loaded(exporter, [])
        self._require_length(found, [])
        self._require_same(list(found.iterate(0, 0)), [], "`iterate` of an empty dataset")

    def test_equal_samples_are_published_as_equal_files(
        self, exporter: Exporter, samples: list[Any]
    ) -> None:
        first, second = (self.published(exporter, samples).files for _ in range(2))
        differing = sorted(
            path for path in {*first, *second} if first.get(path) != second.get(path)
        )
        _checks.require(
            not differing,
            "`export` must write equal samples as equal files, so that they have the same CID, but the "
            f"files {differing} of two exports differ",
        )

    def test_samples_are_written_as_they_arrive(
        self, exporter: Exporter, samples: list[Any]
    ) -> None:
        files: list[SinkFile] = []

        class WatchedSink(TreeSink):
            def create(self, path: str) -> SinkFile:
                files.append(super().create(path))
                return files[-1]

        def many() -> Iterator[Any]:
            for _ in range(_REPETITIONS):
                yield from samples
                if sum(file.tell() for file in files) >= _SHARD_BYTES:
                    return
            _checks.fail(
                "`export` must write samples as they arrive, because a dataset may be larger than memory, "
                f"but after {_REPETITIONS * len(samples)} samples it had not written one shard of "
                f"{_SHARD_BYTES} bytes"
            )

        if not samples:
            pytest.skip("the fixture `samples` is empty")
        exporter.export(many(), WatchedSink(_PROFILE, lambda _cid, _block: None))

    def test_damaged_files_raise_typed_errors(self, exporter: Exporter, samples: list[Any]) -> None:
        files = self.published(exporter, samples).files
        for path, data in files.items():
            for damaged in (*truncated(data), *changed(data), *with_large_numbers(data)):
                what = (
                    f"`load` or `iterate` of a dataset whose file {path!r} was replaced by "
                    f"{len(damaged)} damaged bytes"
                )
                directory = MemoryDirectory({**files, path: damaged})
                with (
                    suppress(*_ERRORS),
                    _checks.memory_below(self.memory_bytes, what),
                    _checks.raises_only(_ERRORS, what),
                ):
                    found = exporter.load(directory)
                    if found is not None:
                        list(found.iterate(0, len(found)))

    def test_load_returns_none_for_other_data(self, exporter: Exporter) -> None:
        for what, other in (
            ("a directory", MemoryDirectory({"readme.txt": b"something else"})),
            ("a file", MemoryFile(b"something else")),
        ):
            found = exporter.load(other)
            _checks.require(
                found is None,
                f"`load` of {what} that the exporter did not write must return None, but it returned "
                f"{found!r:.200}",
            )

    def _require_length(self, found: PublishedSamples, samples: list[Any]) -> None:
        _checks.require(
            len(found) == len(samples),
            f"`len` of the loaded samples must be {len(samples)}, but it was {len(found)}",
        )

    def _require_same(self, found: list[Any], wanted: list[Any], what: str) -> None:
        for position, (one, other) in enumerate(zip(found, wanted, strict=False)):
            _checks.require(
                self.same(one, other),
                f"{what} must give sample {position} as it was exported, but {difference(one, other)}",
            )
        _checks.require(
            len(found) == len(wanted),
            f"{what} must give {len(wanted)} samples, but it gave {len(found)}",
        )
