"""The contract of formats as a test suite; see docs/how-to/add-a-format.md."""

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
from ipfs_dataset_core.testing.checks import Checks, described
from ipfs_dataset_core.testing.damage import changed, truncated, with_large_numbers
from ipfs_dataset_core.testing.equality import difference, same_value
from ipfs_dataset_core.testing.memory import MemoryDirectory, MemoryFile
from ipfs_dataset_core.toolkit.index_cache import load_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipfs_dataset_core.interfaces import MemberIndex, Sample

# Number of damaged copies of a directory that are tried, each with one damaged file.
_DAMAGED_DIRECTORIES = 20
# Number of parts of an index that are tried.
_PARTS = 30
_ERRORS_OF_FILES = (FormatError, LimitError)
# A damaged file of a directory may list a file that does not exist.
_ERRORS_OF_DIRECTORIES = (FormatError, LimitError, ObjectNotFoundError)
_checks = Checks("docs/how-to/add-a-format.md#test-it")


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

    Also override `large` if large files of the format are read in pieces: the test of memory use needs it.

    Attributes:
        detects_damage: Whether the format detects changed bytes, for example with a checksum. If not, damaged
            objects may give different samples. Other errors than those of this library are never allowed.
        read_slack: Number of bytes before and after the span of a sample that `read` may read as well.
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
        return _checks.declaration(plugin, Reader, ReaderPlugin)

    @pytest.fixture
    def example(self) -> Example:
        """A small object of the format, with a few samples."""
        raise NotImplementedError("override the fixture `example`: return an Example")

    @pytest.fixture
    def large(self) -> MemoryFile:
        """A file of the format with more than twice `memory_bytes`, with bytes computed as it is read."""
        pytest.skip(
            "override the fixture `large`: return a MemoryFile whose bytes a function computes"
        )

    @pytest.fixture
    def reader(self, declared: ReaderPlugin) -> Reader:
        """The format's reader."""
        reader: object = resolve_factory(declared)()
        if not isinstance(reader, Reader):
            _checks.fail(
                f"The factory must return an ipfs_dataset_core.Reader, but it returned {reader!r:.200}"
            )
        return reader

    def same(self, one: Any, other: Any) -> bool:
        """Returns whether two values are equal, like `same_value`; override it for types of your own."""
        return same_value(one, other)

    def test_declaration_can_be_pickled(self, declared: ReaderPlugin) -> None:
        _checks.declaration_can_be_pickled(declared)

    def test_suffixes_are_lower_case_and_start_with_a_dot(self, declared: ReaderPlugin) -> None:
        wrong = [s for s in declared.suffixes if not s.startswith(".") or s != s.lower()]
        _checks.require(
            not wrong, f"`suffixes` must start with a dot and be in lower case, but {wrong} do not"
        )

    def test_samples_yields_the_example(self, reader: Reader, example: Example) -> None:
        self._require_equal(reader.samples(example.open()), example.samples, "`samples`")

    def test_one_reader_reads_two_objects_in_turn(self, reader: Reader, example: Example) -> None:
        first, second = reader.samples(example.open()), reader.samples(example.open())
        pairs = list(itertools.zip_longest(first, second))
        what = "`samples` of two objects in turn (keep no state of an object in the reader)"
        for found in zip(*pairs, strict=True):
            self._require_equal(found, example.samples, what)

    def test_threads_can_share_one_reader(self, reader: Reader, example: Example) -> None:
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
        what = "`samples` of one reader in several threads at the same time"
        for error in errors:
            _checks.fail(f"{what} must raise no error, but it raised {described(error)}", error)
        for samples in found:
            self._require_equal(samples, example.samples, what)

    def test_a_file_in_an_archive_is_decoded(
        self, declared: ReaderPlugin, example: Example
    ) -> None:
        if not isinstance(example.data, bytes):
            pytest.skip("only files can be members of archives")
        decoders = Decoders({"": declared}, any_name=True)
        _, value = decoders.decoded(("object", example.data), Limits())
        names = [name for name, _ in example.samples]
        # A file with one sample is decoded to its value, any other file to the list of its samples.
        found_names = _names_of(value)
        is_value = found_names is None or (len(names) == 1 and found_names != names)
        found = [(names[0], value)] if is_value else value
        self._require_equal(found, example.samples, "`samples` of a file in an archive")

    def test_random_access_agrees_with_iteration(self, reader: Reader, example: Example) -> None:
        source = example.open()
        index = self._index(reader, source)
        self._require_count(len(index), example, "The result of `index`")
        order = random.Random(0).sample(range(len(index)), len(index))  # noqa: S311 - of a test
        for position in order:
            found = reader.read(source, index, position)
            self._require_sample(found, example.samples[position], position, "`read`")
            name, wanted = index.name(position), example.samples[position][0]
            _checks.require(
                name == wanted,
                f"`name({position})` of the index must return {wanted!r}, but it returned {name!r}",
            )
        found_each = reader.read_each(example.open(), index, range(0, len(index), 2))
        self._require_equal(found_each, example.samples[::2], "`read_each` of every other position")

    def test_an_index_can_be_pickled(self, reader: Reader, example: Example) -> None:
        again = _checks.pickled(self._index(reader, example.open()), "the result of `index`")
        self._require_count(len(again), example, "A pickled index")
        source = example.open()
        for position, sample in enumerate(example.samples):
            found = reader.read(source, again, position)
            self._require_sample(found, sample, position, "`read` with a pickled index")

    def test_a_dumped_index_can_be_loaded(self, reader: Reader, example: Example) -> None:
        if not reader.index_form:
            pytest.skip("indexes of the format are not stored on disk: it has no `index_form`")
        source = example.open()
        again = load_index(reader, source, self._index(reader, source).dump())
        self._require_count(len(again), example, "The index that `load_index` returns")
        for position, sample in enumerate(example.samples):
            found = reader.read(source, again, position)
            self._require_sample(found, sample, position, "`read` with a dumped and loaded index")
        truncated_dump = again.dump()[:-1]
        what = "`load_index` of truncated bytes"
        with _checks.raises_only((ValueError,), what), suppress(ValueError):
            load_index(reader, source, truncated_dump)

    def test_a_part_of_an_index_reads_its_samples(self, reader: Reader, example: Example) -> None:
        source = example.open()
        index = self._index(reader, source)
        bounds = itertools.combinations(range(len(index) + 1), 2)
        for start, stop in itertools.islice(bounds, _PARTS):
            what = f"`part({start}, {stop})` of the index"
            part = index.part(start, stop)
            if part is None:
                pytest.skip("the format's indexes have no parts")
            again = _checks.pickled(part, f"the result of {what}")
            wanted = example.samples[start:stop]
            _checks.require(
                len(again) == len(wanted),
                f"{what} must have {len(wanted)} samples, but it has {len(again)}",
            )
            for position, sample in enumerate(wanted):
                found = reader.read(source, again, position)
                self._require_sample(found, sample, position, f"`read` with {what}")
            found_each = reader.read_each(source, again, range(stop - start))
            self._require_equal(found_each, wanted, f"`read_each` with {what}")

    def test_read_stays_within_the_span(self, reader: Reader, example: Example) -> None:
        source = example.open()
        index = self._index(reader, source)
        if not isinstance(source, MemoryFile):
            pytest.skip("samples of a directory have no spans")
        for position in range(len(index)):
            start, stop = index.span(position)
            _checks.require(
                0 <= start <= stop <= source.size,
                f"`span({position})` of the index must be within the {source.size} bytes of the file, but "
                f"it returned {(start, stop)}",
            )
            source.reads.clear()
            reader.read(source, index, position)
            low, high = start - self.read_slack, stop + self.read_slack
            outside = [span for span in source.reads if span[0] < low or span[1] > high]
            _checks.require(
                not outside,
                f"`read` of sample {position} must only read its span {(start, stop)}, which is what is "
                f"prefetched, but it read bytes {outside}. Change `read` or `span`; `read_slack` allows for "
                "more bytes",
            )

    def test_slices_together_contain_each_sample_once(
        self, reader: Reader, example: Example
    ) -> None:
        source = example.open()
        if not isinstance(source, MemoryFile) or not reader.sliceable(source):
            pytest.skip("the format cannot be read in slices")
        for count in (1, 2, 3, 7):
            cuts = [source.size * number // count for number in range(count + 1)]
            found = []
            for start, stop in itertools.pairwise(cuts):
                between = list(reader.samples_between(source, start, stop))
                counted = reader.count_between(source, start, stop)
                _checks.require(
                    counted in (None, len(between)),
                    f"`count_between(source, {start}, {stop})` must return {len(between)}, the number of "
                    f"samples that `samples_between` yields, or None, but it returned {counted!r}",
                )
                found += between
            what = f"`samples_between` of {count} slices together"
            self._require_equal(found, example.samples, what)

    def test_memory_use_is_bounded(self, reader: Reader, large: MemoryFile) -> None:
        _checks.require(
            large.size > 2 * self.memory_bytes,
            f"`large` must have more than twice `memory_bytes`, {2 * self.memory_bytes} bytes, but it has "
            f"{large.size}",
        )
        with _checks.memory_below(self.memory_bytes, f"`samples` of a file of {large.size} bytes"):
            for name, _ in reader.samples(large):
                if large.reads and large.reads[-1][1] > 2 * self.memory_bytes:
                    break
                _checks.require(name, f"`samples` must name each sample, but a name was {name!r}")
        index = reader.index(large) if reader.cheap_index else None
        if index is not None:
            with _checks.memory_below(self.memory_bytes, "`read` of the last sample"):
                reader.read(large, index, len(index) - 1)

    def test_truncated_data_raises_typed_errors(self, reader: Reader, example: Example) -> None:
        self._read_damaged(reader, example, truncated)

    def test_changed_bytes_raise_typed_errors(self, reader: Reader, example: Example) -> None:
        self._read_damaged(
            reader, example, lambda data: itertools.chain(changed(data), with_large_numbers(data))
        )

    def test_random_bytes_raise_typed_errors(self, reader: Reader, example: Example) -> None:
        self._read_damaged(
            reader,
            example,
            lambda _: (random.Random(size).randbytes(size) for size in (0, 1, 100, 10_000)),  # noqa: S311
        )

    def _read_damaged(
        self, reader: Reader, example: Example, damage: Callable[[bytes], Iterable[bytes]]
    ) -> None:
        """Reads damaged copies of the example: of its file, or of a directory with one damaged file each."""
        if isinstance(example.data, bytes):
            for data in damage(example.data):
                where = f"a damaged file of {len(data)} bytes"
                self._read_one_damaged(reader, Example(data, example.samples), example, where)
            return
        copies = [(path, data) for path, whole in example.data.items() for data in damage(whole)]
        tried = min(_DAMAGED_DIRECTORIES, len(copies))
        for path, data in random.Random(0).sample(copies, tried):  # noqa: S311 - of a test
            where = f"a directory whose file {path!r} was replaced by {len(data)} damaged bytes"
            files = {**example.data, path: data}
            self._read_one_damaged(reader, Example(files, example.samples), example, where)

    def _read_one_damaged(
        self, reader: Reader, damaged: Example, example: Example, where: str
    ) -> None:
        """Reads a damaged object in order and by position.

        Allows typed errors, and samples; if the format detects damage, only correct samples.
        """
        is_file = isinstance(damaged.data, bytes)
        allowed = _ERRORS_OF_FILES if is_file else _ERRORS_OF_DIRECTORIES
        for methods, read in (
            ("`samples`", self._in_order),
            ("`index` or `read`", self._by_position),
        ):
            what = f"{methods} of {where}"
            with (
                warnings.catch_warnings(),
                suppress(*allowed, MissingDependencyError),
                _checks.memory_below(self.memory_bytes, what),
            ):
                # If no sample is lost, a warning may be better than an error.
                warnings.simplefilter("ignore", UserWarning)
                with _checks.raises_only(allowed, what):
                    found = read(reader, damaged.open())
                if self.detects_damage and damaged.data != example.data:
                    wrong = [
                        s for s in found if not any(self._equal(s, e) for e in example.samples)
                    ]
                    _checks.require(
                        not wrong,
                        f"{what} must detect the damage (`detects_damage`), but it gave {wrong!r:.200}",
                    )

    def _in_order(self, reader: Reader, source: Any) -> list[Sample]:
        return list(reader.samples(source))

    def _by_position(self, reader: Reader, source: Any) -> list[Sample]:
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

    def _require_count(self, count: int, example: Example, what: str) -> None:
        wanted = len(example.samples)
        _checks.require(
            count == wanted,
            f"{what} must have {wanted} samples, as many as `example`, but it has {count}",
        )

    def _require_equal(self, found: Iterable[Sample], wanted: list[Sample], what: str) -> None:
        found = list(found)
        for position, (one, other) in enumerate(zip(found, wanted, strict=False)):
            self._require_sample(one, other, position, what)
        _checks.require(
            len(found) == len(wanted),
            f"{what} must yield {len(wanted)} samples, but it yielded {len(found)}",
        )

    def _require_sample(self, found: Sample, wanted: Sample, position: int, what: str) -> None:
        _checks.require(
            isinstance(found, tuple) and len(found) == 2,  # noqa: PLR2004 - a pair
            f"{what} must give (name, value) as sample {position}, but it gave {found!r:.200}",
        )
        _checks.require(
            found[0] == wanted[0],
            f"{what} must give sample {position} the name {wanted[0]!r}, as in `example`, but the name was "
            f"{found[0]!r}",
        )
        _checks.require(
            self.same(found[1], wanted[1]),
            f"{what} must give sample {position}, {wanted[0]!r}, the value in `example`, but "
            f"{difference(found[1], wanted[1])}",
        )


def _names_of(value: Any) -> list[str] | None:
    """Returns the names of a list of samples, None of anything else."""
    if not isinstance(value, list) or not all(isinstance(item, tuple) for item in value):
        return None
    return [item[0] for item in value]
