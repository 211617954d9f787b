"""The contract of formats, as tests; see docs/how-to/add-a-format.md."""

from __future__ import annotations

import itertools
import random
import threading
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from ipfs_dataset_core.datasets.decoding import Decoders
from ipfs_dataset_core.errors import (
    FormatError,
    LimitError,
    MissingDependencyError,
    ObjectNotFoundError,
)
from ipfs_dataset_core.interfaces import Reader, ReaderPlugin, make_index
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.registry.lookup import resolve_factory
from ipfs_dataset_core.testing.damage import cut, overwritten, scattered
from ipfs_dataset_core.testing.equality import same_value
from ipfs_dataset_core.testing.memory import MemoryDirectory, MemoryFile
from ipfs_dataset_core.testing.terms import Terms, said
from ipfs_dataset_core.toolkit.index_cache import load_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipfs_dataset_core.interfaces import MemberIndex, Sample

# Number of ways in which the files of a directory are damaged, in total.
_DAMAGED_FILES = 20
# Number of parts of an index that are tried.
_MOST_PARTS = 30
_REFUSALS = (FormatError, LimitError, MissingDependencyError)
# For a directory, a list of its files may contain one that does not exist.
_REFUSALS_OF_DIRECTORIES = (FormatError, LimitError, ObjectNotFoundError)
_terms = Terms("docs/how-to/add-a-format.md#test-it")


@attrs.frozen
class Example:
    """An object of the format and its samples.

    Args:
        data: The bytes of a file, or the bytes of each file of a directory by path.
        samples: ``(name, value)`` for each sample, in order. The name of the object is ``"object"``.
    """

    data: bytes | dict[str, bytes]
    samples: list[tuple[str, Any]]

    def open(self) -> MemoryFile | MemoryDirectory:
        """Returns the object, newly opened."""
        if isinstance(self.data, bytes):
            return MemoryFile(self.data)
        return MemoryDirectory(self.data, "object")


class ReaderContract:
    """The contract of a format. Inherit from it, and override the fixtures `plugin` and `example`.

    Also override `large` if the format is read piece by piece: it is needed to test that memory use is
    bounded.

    Attributes:
        detects_damage: Whether the format detects changed bytes, for example with a checksum. If not, damaged
            objects may give different samples, but no foreign errors.
        read_slack: Number of bytes around its span that reading a sample may touch.
        memory_bytes: Maximum memory in bytes for reading `large`, or a damaged object.
    """

    detects_damage: bool = False
    read_slack: int = 0
    memory_bytes: int = 64 << 20

    @pytest.fixture
    def plugin(self) -> ReaderPlugin | type[Reader]:
        """The format's declaration: a ReaderPlugin, or the reader's class if that declares itself."""
        raise NotImplementedError(
            "override the fixture `plugin`: return your subclass of Reader, or your ReaderPlugin"
        )

    @pytest.fixture
    def declared(self, plugin: ReaderPlugin | type[Reader]) -> ReaderPlugin:
        """The declaration given by `plugin`."""
        return _terms.declared(plugin, Reader, ReaderPlugin)

    @pytest.fixture
    def example(self) -> Example:
        """A small object of the format, with a few samples."""
        raise NotImplementedError("override the fixture `example`: return an Example")

    @pytest.fixture
    def large(self) -> MemoryFile:
        """A file of the format much larger than `memory_bytes`, generated as it is read."""
        pytest.skip("override the fixture `large`: return a MemoryFile made by a function")

    @pytest.fixture
    def reader(self, declared: ReaderPlugin) -> Reader:
        """The format's reader."""
        reader = resolve_factory(declared)()
        _terms.must(
            isinstance(reader, Reader),
            f"The factory has to make an instance of ipfs_dataset_core.Reader; it made {reader!r:.200}",
        )
        assert isinstance(reader, Reader)
        return reader

    def same(self, one: Any, other: Any) -> bool:
        """Returns whether two values are equal, like `same_value`; override it for types of your own."""
        return same_value(one, other)

    def test_the_declaration_travels_to_workers(self, declared: ReaderPlugin) -> None:
        again = _terms.travelled(
            declared,
            "A ReaderPlugin, whose factory is a 'module:attribute' string or top-level class,",
        )
        _terms.must(again == declared, f"A ReaderPlugin has to stay equal; it became {again!r}")
        wrong = [s for s in declared.suffixes if not s.startswith(".") or s != s.lower()]
        _terms.must(not wrong, f"Suffixes start with a dot and are in lower case, unlike {wrong}")

    def test_samples_are_those_of_the_example(self, reader: Reader, example: Example) -> None:
        self._assert_equal(reader.samples(example.open()), example.samples, "`samples` of example")

    def test_one_reader_reads_several_objects(self, reader: Reader, example: Example) -> None:
        first, second = reader.samples(example.open()), reader.samples(example.open())
        pairs = list(itertools.zip_longest(first, second))
        what = "`samples` of two objects in turn, for a reader keeps nothing of an object,"
        for found in zip(*pairs, strict=True):
            self._assert_equal(found, example.samples, what)

    def test_threads_share_one_reader(self, reader: Reader, example: Example) -> None:
        found: list[list[Sample]] = []
        errors: list[Exception] = []

        def read() -> None:
            try:
                found.append(list(reader.samples(example.open())))
            except Exception as error:  # noqa: BLE001 - reported below, in the test's own thread
                errors.append(error)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _terms.must(
            not errors, f"Threads share a reader; in one it ended in {errors and said(errors[0])}"
        )
        for samples in found:
            self._assert_equal(samples, example.samples, "`samples` in one of several threads")

    def test_a_member_of_an_archive_is_decoded(
        self, declared: ReaderPlugin, example: Example
    ) -> None:
        if not isinstance(example.data, bytes):
            pytest.skip("members of archives are files")
        decoders = Decoders({"": declared}, any_name=True)
        _, value = decoders.decoded(("object", example.data), Limits())
        names = [name for name, _ in example.samples]
        # A file that is one sample gives its value, and any other the list of its samples.
        found = value if _names_of(value) == names else [(names[0], value)]
        self._assert_equal(found, example.samples, "decoding a member")

    def test_random_access_agrees_with_iteration(self, reader: Reader, example: Example) -> None:
        source = example.open()
        index = self._index(reader, source)
        self._assert_count(len(index), example, "The index")
        order = random.Random(0).sample(range(len(index)), len(index))  # noqa: S311 - of a test
        for position in order:
            found = reader.read(source, index, position)
            self._assert_sample(found, example.samples[position], position, "`read` by number")
            name, wanted = index.name(position), example.samples[position][0]
            _terms.must(
                name == wanted, f"`index.name({position})` has to be {wanted!r}, not {name!r}"
            )
        found_each = reader.read_each(example.open(), index, range(0, len(index), 2))
        self._assert_equal(found_each, example.samples[::2], "`read_each` of every other sample")

    def test_an_index_works_for_another_process(self, reader: Reader, example: Example) -> None:
        travelled = _terms.travelled(self._index(reader, example.open()), "An index")
        self._assert_count(len(travelled), example, "The index in another process")
        source = example.open()
        for position, sample in enumerate(example.samples):
            found = reader.read(source, travelled, position)
            self._assert_sample(found, sample, position, "`read` in another process")

    def test_an_index_comes_back_from_disk(self, reader: Reader, example: Example) -> None:
        if not reader.index_form:
            pytest.skip("the format's indexes are not kept on disk: it has no index_form")
        source = example.open()
        again = load_index(reader, source, self._index(reader, source).dump())
        self._assert_count(len(again), example, "The index from disk")
        for position, sample in enumerate(example.samples):
            found = reader.read(source, again, position)
            self._assert_sample(found, sample, position, "`read` with an index from disk")
        cut = again.dump()[:-1]
        with _terms.ends_only_in((ValueError,), "`load_index` of cut bytes"), suppress(ValueError):
            load_index(reader, source, cut)

    def test_a_part_of_an_index_reads_its_samples(self, reader: Reader, example: Example) -> None:
        source = example.open()
        index = self._index(reader, source)
        bounds = itertools.combinations(range(len(index) + 1), 2)
        for start, stop in itertools.islice(bounds, _MOST_PARTS):
            part = index.part(start, stop)
            if part is None:
                pytest.skip("the format's indexes have no parts")
            travelled = _terms.travelled(part, "A part of an index")
            wanted = example.samples[start:stop]
            what = f"`index.part({start}, {stop})`"
            _terms.must(
                len(travelled) == stop - start,
                f"{what} has to have {stop - start} samples, not {len(travelled)}",
            )
            for position, sample in enumerate(wanted):
                found = reader.read(source, travelled, position)
                self._assert_sample(found, sample, position, f"`read` with {what}")
            found_each = reader.read_each(source, travelled, range(stop - start))
            self._assert_equal(found_each, wanted, f"`read_each` with {what}")

    def test_reading_a_sample_touches_its_span(self, reader: Reader, example: Example) -> None:
        source = example.open()
        index = self._index(reader, source)
        if not isinstance(source, MemoryFile):
            pytest.skip("spans are of files")
        for position in range(len(index)):
            start, stop = index.span(position)
            _terms.must(
                0 <= start <= stop <= source.size,
                f"`index.span({position})`, {(start, stop)}, has to lie in the file of {source.size} bytes",
            )
            source.reads.clear()
            reader.read(source, index, position)
            low, high = start - self.read_slack, stop + self.read_slack
            outside = [span for span in source.reads if span[0] < low or span[1] > high]
            _terms.must(
                not outside,
                f"Sample {position} was read from bytes {outside}, outside of its span {(start, stop)}, "
                "which is what is fetched ahead; `read_slack` allows for more",
            )

    def test_slices_share_out_every_sample_once(self, reader: Reader, example: Example) -> None:
        source = example.open()
        if not isinstance(source, MemoryFile) or not reader.sliceable(source):
            pytest.skip("the format cannot be read in slices")
        for count in (1, 2, 3, 7):
            cuts = [source.size * number // count for number in range(count + 1)]
            found = []
            for start, stop in itertools.pairwise(cuts):
                between = list(reader.samples_between(source, start, stop))
                counted = reader.count_between(source, start, stop)
                _terms.must(
                    counted in (None, len(between)),
                    f"`count_between` of bytes {start} to {stop} has to return {len(between)}, as many as "
                    f"`samples_between` gives, or None; it returned {counted!r}",
                )
                found += between
            self._assert_equal(found, example.samples, f"`samples_between` of {count} slices")

    def test_memory_stays_flat(self, reader: Reader, large: MemoryFile) -> None:
        _terms.must(
            large.size > 2 * self.memory_bytes,
            f"`large` has to have more than twice `memory_bytes`, not {large.size} bytes",
        )
        with _terms.within(self.memory_bytes, f"Reading on in a file of {large.size} bytes"):
            for name, _ in reader.samples(large):
                if large.reads and large.reads[-1][1] > 2 * self.memory_bytes:
                    break
                assert name, "a sample has a name"
        index = reader.index(large) if reader.cheap_index else None
        if index is not None:
            with _terms.within(self.memory_bytes, "Reading the last sample by number"):
                reader.read(large, index, len(index) - 1)

    def test_a_cut_object_is_refused_with_our_errors(
        self, reader: Reader, example: Example
    ) -> None:
        self._read_damaged(reader, example, cut)

    def test_changed_bytes_are_refused_with_our_errors(
        self, reader: Reader, example: Example
    ) -> None:
        self._read_damaged(
            reader, example, lambda data: itertools.chain(scattered(data), overwritten(data))
        )

    def test_noise_is_refused_with_our_errors(self, reader: Reader, example: Example) -> None:
        self._read_damaged(
            reader,
            example,
            lambda _: (random.Random(size).randbytes(size) for size in (0, 1, 100, 10_000)),  # noqa: S311
        )

    def _read_damaged(
        self, reader: Reader, example: Example, damaged: Callable[[bytes], Iterable[bytes]]
    ) -> None:
        """Reads a file damaged in many ways, or a directory with each of its files damaged in turn."""
        if isinstance(example.data, bytes):
            for data in damaged(example.data):
                what = f"a damaged file of {len(data)} bytes"
                self._read_one_damaged(reader, Example(data, example.samples), example, what)
            return
        every = [(path, data) for path, whole in example.data.items() for data in damaged(whole)]
        for path, data in random.Random(0).sample(every, min(_DAMAGED_FILES, len(every))):  # noqa: S311
            what = f"a directory whose file {path!r} is damaged, of {len(data)} bytes,"
            files = {**example.data, path: data}
            self._read_one_damaged(reader, Example(files, example.samples), example, what)

    def _read_one_damaged(
        self, reader: Reader, damaged: Example, example: Example, where: str
    ) -> None:
        """Reads in order and by number: allows typed errors, or samples, which must be right if possible."""
        is_file = isinstance(damaged.data, bytes)
        refusals = _REFUSALS[:2] if is_file else _REFUSALS_OF_DIRECTORIES
        for read in (self._in_order, self._by_number):
            what = f"Reading {read.__name__[1:].replace('_', ' ')} in {where}"
            with (
                warnings.catch_warnings(),
                suppress(*_REFUSALS, *refusals),
                _terms.within(self.memory_bytes, what),
            ):
                # If no sample is lost, a warning may be better than an error.
                warnings.simplefilter("ignore", UserWarning)
                with _terms.ends_only_in(refusals, what):
                    found = read(reader, damaged.open())
                if self.detects_damage and damaged.data != example.data:
                    wrong = [
                        s for s in found if not any(self._equal(s, e) for e in example.samples)
                    ]
                    _terms.must(not wrong, f"{what} gave {wrong!r:.200}: the damage went unnoticed")

    def _in_order(self, reader: Reader, source: Any) -> list[Sample]:
        return list(reader.samples(source))

    def _by_number(self, reader: Reader, source: Any) -> list[Sample]:
        index = make_index(reader, source)
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

    def _assert_count(self, count: int, example: Example, what: str) -> None:
        wanted = len(example.samples)
        _terms.must(count == wanted, f"{what} has {count} samples, `example` has {wanted}")

    def _assert_equal(self, found: Iterable[Sample], wanted: list[Sample], what: str) -> None:
        found = list(found)
        for position, (one, other) in enumerate(zip(found, wanted, strict=False)):
            self._assert_sample(one, other, position, what)
        _terms.must(
            len(found) == len(wanted), f"{what} gave {len(found)} samples, not {len(wanted)}"
        )

    def _assert_sample(self, found: Sample, wanted: Sample, position: int, what: str) -> None:
        _terms.must(
            isinstance(found, tuple) and len(found) == 2,  # noqa: PLR2004 - a pair
            f"{what} has to give a (name, value) as sample {position}, not {found!r:.200}",
        )
        _terms.must(
            found[0] == wanted[0],
            f"{what} gave {found[0]!r} as sample {position}, where {wanted[0]!r} is due: names come in the "
            "order of `example`",
        )
        _terms.must(
            self.same(found[1], wanted[1]),
            f"{what} gave {found[1]!r:.200} as the value of {found[0]!r}, not {wanted[1]!r:.200}",
        )


def _names_of(value: Any) -> list[str] | None:
    """Returns the names of a list of samples, None of anything else."""
    if not isinstance(value, list) or not all(isinstance(item, tuple) for item in value):
        return None
    return [item[0] for item in value]
