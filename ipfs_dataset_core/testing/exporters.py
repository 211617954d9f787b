"""What every published form has to do, as tests; see docs/how-to/add-an-exporter.md."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest

from ipfs_dataset_core.content import get_profile
from ipfs_dataset_core.interfaces import Exporter, ExporterOptions
from ipfs_dataset_core.publishing.publish import publish
from ipfs_dataset_core.registry import resolve_factory
from ipfs_dataset_core.testing.memory import MemoryDirectory, MemoryFile, MemoryTransport

if TYPE_CHECKING:
    from ipfs_dataset_core.interfaces import ExporterPlugin, PublishedSamples


class ExporterContract:
    """The contract of a published form. Inherit it, and override the fixture `plugin`, or `samples` too."""

    @pytest.fixture
    def plugin(self) -> ExporterPlugin:
        """The form's declaration."""
        raise NotImplementedError("override the fixture `plugin`: return your ExporterPlugin")

    @pytest.fixture
    def samples(self) -> list[Any]:
        """Samples that the form can hold; by default a number with a text."""
        return [(number, f"sample {number}") for number in range(50)]

    def same(self, one: Any, other: Any) -> bool:
        """Tells whether two samples are equal; override it for arrays and the like."""
        return type(one) is type(other) and bool(one == other)

    @pytest.fixture
    def exporter(self, plugin: ExporterPlugin) -> Exporter:
        """The form's exporter, with shards so small that there are several."""
        exporter = resolve_factory(plugin)(ExporterOptions(shard_bytes=20_000))
        assert isinstance(exporter, Exporter), "the factory makes an Exporter"
        return exporter

    def published(self, exporter: Exporter, samples: Any) -> MemoryDirectory:
        """Returns the directory that exporting makes."""
        transport = MemoryTransport()
        root = publish(iter(samples), exporter, transport, get_profile("unixfs-v1-2025"))
        assert transport.pinned == [root], "the root is pinned, once"
        return transport.directory(root)

    def loaded(self, exporter: Exporter, samples: Any) -> PublishedSamples:
        """Returns what loading gives back of exported samples."""
        found = exporter.load(self.published(exporter, samples))
        assert found is not None, "an exporter recognises what it wrote"
        return found

    def test_declaration_and_exporter_travel_to_workers(
        self, plugin: ExporterPlugin, exporter: Exporter
    ) -> None:
        assert pickle.loads(pickle.dumps(plugin)) == plugin  # noqa: S301 - our own bytes
        assert isinstance(pickle.loads(pickle.dumps(exporter)), Exporter)  # noqa: S301

    def test_samples_come_back_equal_and_in_order(
        self, exporter: Exporter, samples: list[Any]
    ) -> None:
        found = self.loaded(exporter, samples)
        assert len(found) == len(samples)
        self._assert_same(list(found.iterate(0, len(samples))), samples)

    def test_each_sample_can_be_read_by_number(
        self, exporter: Exporter, samples: list[Any]
    ) -> None:
        found = self.loaded(exporter, samples)
        found.prefetch(range(len(samples)))
        self._assert_same([found.read(n) for n in reversed(range(len(samples)))], samples[::-1])

    def test_any_part_can_be_iterated(self, exporter: Exporter, samples: list[Any]) -> None:
        found = self.loaded(exporter, samples)
        for start, stop in (
            (0, 0),
            (0, 1),
            (len(samples) // 3, len(samples)),
            (len(samples) - 1,) * 2,
        ):
            self._assert_same(list(found.iterate(start, stop)), samples[start:stop])

    def test_an_empty_dataset_comes_back_empty(self, exporter: Exporter) -> None:
        found = self.loaded(exporter, [])
        assert len(found) == 0
        assert list(found.iterate(0, 0)) == []

    def test_the_same_samples_become_the_same_files(
        self, exporter: Exporter, samples: list[Any]
    ) -> None:
        assert self.published(exporter, samples).files == self.published(exporter, samples).files

    def test_what_is_of_another_form_is_left_to_others(self, exporter: Exporter) -> None:
        assert exporter.load(MemoryDirectory({"readme.txt": b"something else"})) is None
        assert exporter.load(MemoryFile(b"something else")) is None

    def _assert_same(self, found: list[Any], wanted: list[Any]) -> None:
        assert len(found) == len(wanted)
        for position, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert self.same(one, other), f"sample {position}: {one!r} is not {other!r}"
