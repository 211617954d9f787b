"""The contract of published forms, as tests; see docs/how-to/add-an-exporter.md."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from ipfs_dataset_core.errors import FormatError, LimitError, ObjectNotFoundError
from ipfs_dataset_core.interfaces import Exporter, ExporterOptions, ExporterPlugin
from ipfs_dataset_core.ipld import get_profile
from ipfs_dataset_core.publishing.publish import TreeSink, publish
from ipfs_dataset_core.registry.lookup import resolve_factory
from ipfs_dataset_core.testing.damage import cut, overwritten, scattered
from ipfs_dataset_core.testing.equality import same_value
from ipfs_dataset_core.testing.memory import MemoryDirectory, MemoryFile, MemoryTransport
from ipfs_dataset_core.testing.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core.interfaces import PublishedSamples, SinkFile

_PROFILE = get_profile("unixfs-v1-2025")
_SHARD_BYTES = 20_000
# How many times all samples are offered before a write is required.
_PATIENCE = 2_000
_REFUSALS = (FormatError, LimitError, ObjectNotFoundError)
_terms = Terms("docs/how-to/add-an-exporter.md#test-it")


class ExporterContract:
    """The contract of a published form. Inherit from it, and override the fixture `plugin` (and `samples`).

    Attributes:
        memory_bytes: Maximum memory in bytes for loading a damaged dataset.
    """

    memory_bytes: int = 64 << 20

    @pytest.fixture
    def plugin(self) -> ExporterPlugin | type[Exporter]:
        """The form's declaration: an ExporterPlugin, or the exporter's class where that declares itself."""
        raise NotImplementedError(
            "override the fixture `plugin`: return your subclass of Exporter, or your ExporterPlugin"
        )

    @pytest.fixture
    def declared(self, plugin: ExporterPlugin | type[Exporter]) -> ExporterPlugin:
        """The declaration that `plugin` is or stands for."""
        return _terms.declared(plugin, Exporter, ExporterPlugin)

    @pytest.fixture
    def samples(self) -> list[Any]:
        """Samples that the form supports; by default a number with a text."""
        return [(number, f"sample {number}") for number in range(50)]

    def same(self, one: Any, other: Any) -> bool:
        """Returns whether two samples are equal, like `same_value`; override it for types of your own."""
        return same_value(one, other)

    @pytest.fixture
    def exporter(self, declared: ExporterPlugin) -> Exporter:
        """The form's exporter, with shards so small that there are several."""
        exporter = resolve_factory(declared)(ExporterOptions(shard_bytes=_SHARD_BYTES))
        _terms.must(
            isinstance(exporter, Exporter),
            f"The factory has to make an ipfs_dataset_core.Exporter; it made {exporter!r:.200}",
        )
        assert isinstance(exporter, Exporter)
        return exporter

    def published(self, exporter: Exporter, samples: Any) -> MemoryDirectory:
        """Returns the directory written by an export."""
        transport = MemoryTransport()
        root = publish(exporter.export, iter(samples), transport, _PROFILE)
        return transport.directory(root)

    def loaded(self, exporter: Exporter, samples: Any) -> PublishedSamples:
        """Returns the published samples loaded after an export."""
        found = exporter.load(self.published(exporter, samples))
        _terms.must(
            found is not None, "`load` has to recognise what `export` wrote, and returned None"
        )
        assert found is not None
        return found

    def test_declaration_and_exporter_travel_to_workers(
        self, declared: ExporterPlugin, exporter: Exporter
    ) -> None:
        again = _terms.travelled(
            declared,
            "An ExporterPlugin, whose factory is a 'module:attribute' string or top-level class,",
        )
        _terms.must(again == declared, f"An ExporterPlugin has to stay equal; it became {again!r}")
        _terms.travelled(exporter, "An exporter")

    def test_samples_come_back_equal_and_in_order(
        self, exporter: Exporter, samples: list[Any]
    ) -> None:
        found = self.loaded(exporter, samples)
        self._assert_count(len(found), len(samples), "`len` of what was loaded")
        self._assert_same(list(found.iterate(0, len(samples))), samples, "`iterate`")

    def test_each_sample_can_be_read_by_number(
        self, exporter: Exporter, samples: list[Any]
    ) -> None:
        found = self.loaded(exporter, samples)
        found.prefetch(range(len(samples)))
        backwards = [found.read(number) for number in reversed(range(len(samples)))]
        self._assert_same(backwards[::-1], samples, "`read` by number")
        found_each = list(found.read_each(range(0, len(samples), 2)))
        self._assert_same(found_each, samples[::2], "`read_each` of every other sample")

    def test_what_batches_and_blocks_need_is_known_of_each_sample(
        self, exporter: Exporter, samples: list[Any]
    ) -> None:
        found = self.loaded(exporter, samples)
        costs = list(found.fetch_bytes(range(len(samples))))
        _terms.must(
            len(costs) == len(samples) and min(costs, default=0) >= 0,
            "`fetch_bytes` has to yield a number of bytes for each sample asked for; it yielded "
            f"{costs!r:.200}",
        )
        stops = [0, *found.block_stops(1000)]
        _terms.must(
            stops == sorted(set(stops)) and stops[-1] == len(samples),
            f"`block_stops` has to rise to the number of samples; it returned {stops[1:]!r:.200}",
        )
        sizes = found.shard_sizes()
        counted = len(samples) if sizes is None else sum(count for count, _ in sizes)
        _terms.must(
            counted == len(samples) and all(size >= 0 for _, size in sizes or ()),
            "`shard_sizes` has to return the samples and bytes of each file, of all samples together; it "
            f"returned {sizes!r:.200}",
        )

    def test_any_part_can_be_iterated(self, exporter: Exporter, samples: list[Any]) -> None:
        found = self.loaded(exporter, samples)
        last = len(samples)
        for start, stop in ((0, 0), (0, 1), (last // 3, last), (last - 1, last - 1)):
            part = list(found.iterate(start, stop))
            self._assert_same(part, samples[start:stop], f"`iterate({start}, {stop})`")

    def test_an_empty_dataset_comes_back_empty(self, exporter: Exporter) -> None:
        found = self.loaded(exporter, [])
        self._assert_count(len(found), 0, "`len` of an empty dataset")
        self._assert_same(list(found.iterate(0, 0)), [], "`iterate` of an empty dataset")

    def test_the_same_samples_become_the_same_files(
        self, exporter: Exporter, samples: list[Any]
    ) -> None:
        first, second = (self.published(exporter, samples).files for _ in range(2))
        differing = sorted(
            path for path in {*first, *second} if first.get(path) != second.get(path)
        )
        _terms.must(
            not differing,
            f"The same samples have to become the same files, and so the same CID; {differing} differ",
        )

    def test_samples_are_written_as_they_come(self, exporter: Exporter, samples: list[Any]) -> None:
        files: list[SinkFile] = []

        class Watched(TreeSink):
            def create(self, path: str) -> SinkFile:
                files.append(super().create(path))
                return files[-1]

        def many() -> Iterator[Any]:
            for _ in range(_PATIENCE):
                yield from samples
                if sum(file.tell() for file in files) >= _SHARD_BYTES:
                    return
            _terms.must(
                False,  # noqa: FBT003 - it never holds
                "`export` has to write samples as they come, for a dataset may be larger than memory; of "
                f"{_PATIENCE * len(samples)} it did not write the {_SHARD_BYTES} bytes of one shard",
            )

        if not samples:
            pytest.skip("`samples` has none")
        exporter.export(many(), Watched(_PROFILE, lambda _cid, _block: None))

    def test_damaged_files_are_refused_with_our_errors(
        self, exporter: Exporter, samples: list[Any]
    ) -> None:
        files = self.published(exporter, samples).files
        for path, data in files.items():
            for damaged in (*cut(data), *scattered(data), *overwritten(data)):
                what = f"Reading a dataset whose file {path!r} is damaged"
                directory = MemoryDirectory({**files, path: damaged})
                with suppress(*_REFUSALS), self._reading_damaged(what):
                    found = exporter.load(directory)
                    if found is not None:
                        list(found.iterate(0, len(found)))

    @contextmanager
    def _reading_damaged(self, what: str) -> Iterator[None]:
        with _terms.within(self.memory_bytes, what), _terms.ends_only_in(_REFUSALS, what):
            yield

    def test_what_is_of_another_form_is_left_to_others(self, exporter: Exporter) -> None:
        for other in (
            MemoryDirectory({"readme.txt": b"something else"}),
            MemoryFile(b"something else"),
        ):
            found = exporter.load(other)
            _terms.must(
                found is None,
                f"`load` has to return None of what is of another form, not {found!r:.200}",
            )

    def _assert_count(self, found: int, wanted: int, what: str) -> None:
        _terms.must(found == wanted, f"{what} has to be {wanted}, not {found}")

    def _assert_same(self, found: list[Any], wanted: list[Any], what: str) -> None:
        for position, (one, other) in enumerate(zip(found, wanted, strict=False)):
            _terms.must(
                self.same(one, other),
                f"{what} gave {one!r:.200} as sample {position} of {len(wanted)}, not {other!r:.200}",
            )
        self._assert_count(len(found), len(wanted), f"The number of samples that {what} gives")
