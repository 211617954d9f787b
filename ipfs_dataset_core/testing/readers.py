"""What every format has to do, as tests; see docs/how-to/add-a-format.md."""

from __future__ import annotations

import itertools
import pickle
import random
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from ipfs_dataset_core.errors import FormatError, LimitError, MissingDependencyError
from ipfs_dataset_core.interfaces import Reader
from ipfs_dataset_core.registry import resolve_factory
from ipfs_dataset_core.testing.memory import MemoryDirectory, MemoryFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core.interfaces import MemberIndex, ReaderPlugin, Sample

_REFUSALS = (FormatError, LimitError, MissingDependencyError)


@attrs.frozen
class Example:
    """An object of the format and what it holds.

    Args:
        data: The bytes of a file, or the bytes of each file of a directory by path.
        samples: ``(name, value)`` for each sample, in order. The object is called ``"object"``.
    """

    data: bytes | dict[str, bytes]
    samples: list[tuple[str, Any]]

    def open(self) -> MemoryFile | MemoryDirectory:
        """Returns the object anew."""
        if isinstance(self.data, bytes):
            return MemoryFile(self.data)
        return MemoryDirectory(self.data, "object")


class ReaderContract:
    """The contract of a format. Inherit it, and override the fixtures `plugin` and `example`.

    Attributes:
        detects_damage: Whether the format notices bytes that changed, by a checksum for instance. Where it
            does not, damaged objects may give other samples, but no foreign error.
        read_slack: How many bytes around its span reading one sample may touch.
    """

    detects_damage: bool = False
    read_slack: int = 0

    @pytest.fixture
    def plugin(self) -> ReaderPlugin:
        """The format's declaration."""
        raise NotImplementedError("override the fixture `plugin`: return your ReaderPlugin")

    @pytest.fixture
    def example(self) -> Example:
        """A small object of the format, with a few samples."""
        raise NotImplementedError("override the fixture `example`: return an Example")

    @pytest.fixture
    def reader(self, plugin: ReaderPlugin) -> Reader:
        """The format's reader."""
        reader = resolve_factory(plugin)()
        assert isinstance(reader, Reader), (
            "the factory makes an instance of ipfs_dataset_core.Reader"
        )
        return reader

    def same(self, one: Any, other: Any) -> bool:
        """Tells whether two values of samples are equal; override it for arrays and the like."""
        return bool(one == other)

    def test_the_declaration_travels_to_workers(self, plugin: ReaderPlugin) -> None:
        assert pickle.loads(pickle.dumps(plugin)) == plugin, (  # noqa: S301 - our own bytes
            "a ReaderPlugin pickles: make the factory a 'module:attribute' string or a top-level class"
        )
        assert all(s.startswith(".") and s == s.lower() for s in plugin.suffixes), (
            "suffixes start with a dot and are in lower case"
        )

    def test_samples_are_those_of_the_example(self, reader: Reader, example: Example) -> None:
        self._assert_equal(reader.samples(example.open()), example.samples)

    def test_one_reader_reads_several_objects(self, reader: Reader, example: Example) -> None:
        first, second = reader.samples(example.open()), reader.samples(example.open())
        interleaved = [sample for pair in zip(first, second, strict=True) for sample in pair]
        self._assert_equal(interleaved[::2], example.samples)
        self._assert_equal(interleaved[1::2], example.samples)

    def test_random_access_agrees_with_iteration(self, reader: Reader, example: Example) -> None:
        source = example.open()
        index = self._index(reader, source)
        assert len(index) == len(example.samples), "the index has one entry for each sample"
        positions = list(range(len(index)))
        random.Random(0).shuffle(positions)  # noqa: S311 - an order of tests
        for position in positions:
            self._assert_equal([reader.read(source, index, position)], [example.samples[position]])
            assert index.name(position) == example.samples[position][0]

    def test_an_index_works_for_another_process(self, reader: Reader, example: Example) -> None:
        index = self._index(reader, example.open())
        travelled = pickle.loads(pickle.dumps(index))  # noqa: S301 - our own bytes
        source = example.open()
        for position, sample in enumerate(example.samples):
            self._assert_equal([reader.read(source, travelled, position)], [sample])

    def test_reading_a_sample_touches_its_span(self, reader: Reader, example: Example) -> None:
        source = example.open()
        index = self._index(reader, source)
        if not isinstance(source, MemoryFile):
            pytest.skip("spans are of files")
        for position in range(len(index)):
            start, stop = index.span(position)
            assert 0 <= start <= stop <= source.size, "a span lies within the file"
            source.reads.clear()
            reader.read(source, index, position)
            for first, last in source.reads:
                assert start - self.read_slack <= first, "a read begins before the sample's span"
                assert last <= stop + self.read_slack, "a read goes on after the sample's span"

    def test_slices_share_out_every_sample_once(self, reader: Reader, example: Example) -> None:
        source = example.open()
        if not isinstance(source, MemoryFile) or not reader.sliceable(source):
            pytest.skip("the format cannot be read in slices")
        for count in (1, 2, 3, 7):
            cuts = [source.size * number // count for number in range(count + 1)]
            slices = itertools.pairwise(cuts)
            found = [
                s for start, stop in slices for s in reader.samples_between(source, start, stop)
            ]
            self._assert_equal(found, example.samples)

    def test_a_cut_object_is_refused_with_our_errors(
        self, reader: Reader, example: Example
    ) -> None:
        if not isinstance(example.data, bytes):
            pytest.skip("directories are not cut")
        places = random.Random(1).sample(range(len(example.data)), min(40, len(example.data)))  # noqa: S311
        for place in sorted({0, 1, len(example.data) - 1, *places} - {len(example.data)}):
            self._read_damaged(reader, example.data[: max(0, place)], example)

    def test_changed_bytes_are_refused_with_our_errors(
        self, reader: Reader, example: Example
    ) -> None:
        if not isinstance(example.data, bytes) or not example.data:
            pytest.skip("there are no bytes to change")
        generator = random.Random(2)  # noqa: S311 - places to damage
        for _ in range(60):
            data = bytearray(example.data)
            for _ in range(generator.choice((1, 1, 4))):
                data[generator.randrange(len(data))] = generator.randrange(256)
            self._read_damaged(reader, bytes(data), example)

    def test_noise_is_refused_with_our_errors(self, reader: Reader, example: Example) -> None:
        if not isinstance(example.data, bytes):
            pytest.skip("the format reads directories")
        for size in (0, 1, 100, 10_000):
            noise = random.Random(size).randbytes(size)  # noqa: S311
            self._read_damaged(reader, noise, example)

    def _read_damaged(self, reader: Reader, data: bytes, example: Example) -> None:
        """Reads in order and by number: our errors, or samples, and those only right where that shows."""
        for read in (self._in_order, self._by_number):
            try:
                found = read(reader, MemoryFile(data))
            except _REFUSALS as error:
                assert str(error), "an error says what is wrong"  # noqa: PT017 - any of three errors
            else:
                if self.detects_damage and data != example.data:
                    wrong = [
                        s for s in found if not any(self._equal(s, e) for e in example.samples)
                    ]
                    assert not wrong, "damage went unnoticed"

    def _in_order(self, reader: Reader, source: MemoryFile) -> list[Sample]:
        return list(reader.samples(source))

    def _by_number(self, reader: Reader, source: MemoryFile) -> list[Sample]:
        index = reader.index(source)
        if index is None:
            return []
        return [reader.read(source, index, position) for position in range(len(index))]

    def _index(self, reader: Reader, source: Any) -> MemberIndex:
        index = reader.index(source)
        if index is None:
            pytest.skip("the format allows no random access")
        return index

    def _equal(self, one: Sample, other: Sample) -> bool:
        return one[0] == other[0] and self.same(one[1], other[1])

    def _assert_equal(self, found: Iterator[Sample] | list[Sample], wanted: list[Sample]) -> None:
        found = list(found)
        assert [name for name, _ in found] == [name for name, _ in wanted], "names, in order"
        for one, other in zip(found, wanted, strict=True):
            assert self.same(one[1], other[1]), f"the value of sample {one[0]!r}"
