"""The wrappers around plugins' objects: complete, and invisible where nothing goes wrong."""

from __future__ import annotations

import itertools
import json
import pickle
import threading
import time
import warnings
from typing import Any, NamedTuple

import pytest

from ipfs_dataset_core import (
    Exporter,
    FolderReader,
    MemberIndex,
    Options,
    PublishedSamples,
    Reader,
    SampleRuns,
)
from ipfs_dataset_core.errors import FormatError, PluginError, PluginWarning
from ipfs_dataset_core.interfaces import Transport
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.reading.connections import connect
from ipfs_dataset_core.registry import guard, provenance
from ipfs_dataset_core.registry import guarded_exporters as exporters
from ipfs_dataset_core.registry import guarded_readers as readers
from ipfs_dataset_core.registry import guarded_transports as transports
from ipfs_dataset_core.registry.provenance import Origin
from ipfs_dataset_core.testing import MemoryDirectory, MemoryFile, MemoryTransport
from ipfs_dataset_plugins.store import FolderStore
from tests.support.builders import noise, tar_bytes
from tests.support.workers import Lines, Refusing

MINE = Origin("mine", "1.0", "mine")
ANY_INDEX: Any = None


def methods(kind):
    return {name for name, value in vars(kind).items() if callable(value) and name[:2] != "__"}


@pytest.mark.parametrize(
    ("interface", "guarded"),
    [
        (Reader, readers.GuardedReader),
        (FolderReader, readers.GuardedFolderReader),
        (MemberIndex, readers._GuardedIndex),
        (Exporter, exporters.GuardedExporter),
        (PublishedSamples, exporters._GuardedSamples),
        (Transport, transports.GuardedTransport),
    ],
)
def test_every_method_of_an_interface_is_guarded(interface, guarded):
    own = {
        name
        for kind in guarded.__mro__
        if kind.__module__ == guarded.__module__
        for name in vars(kind)
    }
    assert methods(interface) <= own


def test_typed_errors_pass_with_the_number_of_the_sample():
    with pytest.raises(FormatError, match=r"^In sample 0: 'a file' is damaged at byte 7\.$"):
        list(readers.make_reader(Refusing(), origin=MINE).samples(MemoryFile(b"", "a file")))


def test_errors_of_the_system_pass_unchanged():
    class Hungry(Lines):
        def samples(self, source):
            yield from ()
            raise MemoryError

    with pytest.raises(MemoryError):
        list(readers.make_reader(Hungry(), origin=MINE).samples(MemoryFile(b"")))


def test_a_guarded_reader_can_be_pickled():
    reader = pickle.loads(pickle.dumps(readers.make_reader(Lines(), origin=MINE)))
    assert list(reader.samples(MemoryFile(b"a\nb", "f"))) == [("f:0", b"a"), ("f:1", b"b")]


def test_an_abandoned_iteration_closes_the_plugins_own():
    closed = []

    class Closing(Lines):
        def samples(self, source):
            try:
                yield "a", 1
                yield "b", 2
            finally:
                closed.append(True)

    samples: Any = readers.make_reader(Closing(), origin=MINE).samples(MemoryFile(b""))
    next(samples)
    del samples
    assert closed == [True]


@pytest.mark.parametrize(("given", "fails_at"), [([0, 1], 7), ([], 5), ([0, "no number"], 6)])
def test_a_wrong_read_each_names_the_plugin(given, fails_at):
    class Wrong(Lines):
        def read_each(self, source, index, positions):
            assert list(positions) == [5, 6, 7]
            return (("name", int(value)) for value in given)

    reader = readers.make_reader(Wrong(), origin=MINE)
    found: list[Any] = []
    with pytest.raises(PluginError, match=rf"Plugin mine 1.0 .*failed at sample {fails_at} of 'f'"):
        found.extend(reader.read_each(MemoryFile(b"", "f"), ANY_INDEX, iter([5, 6, 7])))


def test_a_wrong_read_each_of_published_samples_names_the_plugin():
    class Numbers(PublishedSamples):
        def __len__(self):
            return 9

        def read(self, position):
            return 6 // (position - 7)

        def iterate(self, start, stop):
            return map(self.read, range(start, stop))

    class Fewer(Numbers):
        def read_each(self, positions):
            return map(self.read, list(positions)[:1])

    class Again(Fewer):
        def read(self, position):
            return position

    for kind, asked, at in ((Numbers, [5, 6, 7], 7), (Fewer, [1, 4], 4)):
        samples = exporters._GuardedSamples(kind(), "shards", MINE)
        with pytest.raises(
            PluginError, match=rf"Plugin mine 1.0 .*failed at sample {at} of 'shards'"
        ):
            list(samples.read_each(iter(asked)))
        assert list(samples.read_each([8])) == [6]
    assert list(exporters._GuardedSamples(Again(), "x", MINE).read_each([1, 1, 4])) == [1, 1, 4]


def test_overriding_read_replaces_an_inherited_read_each():
    class Apart:
        def read(self, source, index, position):
            return "name", position

    class Together(Lines):
        def read_each(self, source, index, positions):
            return (("together", position) for position in positions)

    class Another(Together):
        def read(self, source, index, position):
            return "another", position

    class Mixed(Apart, Together):
        pass

    class Renamed(Together):
        pass

    for kind, name in [(Another, "another"), (Mixed, "name"), (Renamed, "together")]:
        reader = readers.make_reader(kind(), origin=MINE)
        assert list(reader.read_each(MemoryFile(b""), ANY_INDEX, [3])) == [(name, 3)]


def test_built_in_transports_are_not_guarded(tmp_path):
    tmp_path.joinpath("blocks").mkdir()
    assert isinstance(connect(str(tmp_path / "blocks"), Options()), FolderStore)


class Given(Lines):
    """Gives what a test says as its samples, in order and by number."""

    def __init__(self, *given):
        self.given = given

    def samples(self, source):
        yield from self.given

    def sliceable(self, source):
        return True

    def samples_between(self, source, start, stop):
        yield from self.given

    def read(self, source, index, position):
        return self.given[position]


WAYS = {
    "in order": lambda reader, file: list(reader.samples(file)),
    "from a byte on": lambda reader, file: list(reader.samples_between(file, 0, 9)),
    "by number": lambda reader, file: reader.read(file, ANY_INDEX, 0),
    "several": lambda reader, file: list(reader.read_each(file, ANY_INDEX, [0])),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (b"x", "b'x', of type bytes"),
        (("a", 1, 2), "a tuple of 3"),
        ((b"a", 1), "b'a', of type bytes, as the name"),
        ((None, 1), "None, of type NoneType, as the name"),
        ("ab", "'ab', of type str"),
        (["a", 1], r"\['a', 1\], of type list"),
        (None, "None, of type NoneType"),
        ({"a": 1}, "of type dict"),
    ],
)
def test_the_first_sample_of_an_object_is_checked(way, sample, words):
    reader = readers.make_reader(Given(sample), origin=MINE)
    with pytest.raises(
        PluginError, match=rf"Plugin mine .*sample.* of 'f' is .*{words}.*\(name, value"
    ):
        WAYS[way](reader, MemoryFile(b"", "f"))


@pytest.mark.parametrize("way", WAYS)
def test_a_sample_may_be_of_a_named_tuple_and_a_kind_of_text(way):
    class Name(str):
        __slots__ = ()

    class Pair(NamedTuple):
        name: str
        value: int

    reader = readers.make_reader(Given(Pair(Name("a"), 1)), origin=MINE)
    assert ("a", 1) in [
        WAYS[way](reader, MemoryFile(b"", "f")),
        *WAYS[way](reader, MemoryFile(b"")),
    ]


class InRuns(Lines):
    """Makes its samples several at a time."""

    def __init__(self, *runs):
        self.runs = runs

    def samples(self, source):
        return SampleRuns(self._made())

    def sliceable(self, source):
        return True

    def samples_between(self, source, start, stop):
        return self.samples(source)

    def _made(self):
        for run in self.runs:
            if isinstance(run, Exception):
                raise run
            yield run


IN_ORDER = {way: WAYS[way] for way in ("in order", "from a byte on")}


@pytest.mark.parametrize("way", IN_ORDER)
def test_samples_produced_together_are_yielded_one_by_one(way):
    a, b, c = ("a", 1), ("b", 2), ("c", 3)
    reader = readers.make_reader(InRuns([a, b], (), (c,)), origin=MINE)
    assert IN_ORDER[way](reader, MemoryFile(b"")) == [a, b, c]


@pytest.mark.parametrize("error", [ValueError("bad"), FormatError("bad")])
def test_an_error_after_samples_produced_together_has_the_right_number(error):
    reader = readers.make_reader(InRuns([("a", 1)], [("b", 2), ("c", 3)], error), origin=MINE)
    samples = reader.samples(MemoryFile(b"", "f"))
    assert [next(samples)[0] for _ in range(3)] == ["a", "b", "c"]
    with pytest.raises((PluginError, FormatError)) as caught:
        next(samples)
    location = caught.value.location
    assert location is not None
    assert (location.sample, location.after) == (3, "c")


@pytest.mark.parametrize("way", IN_ORDER)
def test_the_first_of_several_samples_is_checked(way):
    reader = readers.make_reader(InRuns([b"x", ("a", 1)]), origin=MINE)
    with pytest.raises(PluginError, match=r"Plugin mine .*sample.* of 'f' is b'x', of type bytes"):
        IN_ORDER[way](reader, MemoryFile(b"", "f"))


@pytest.mark.parametrize("runs", [3, [3], ["ab", 3]])
def test_invalid_runs_name_the_plugin(runs):
    class Wrong(Lines):
        def samples(self, source):
            return SampleRuns(runs)

    with pytest.raises(PluginError, match="Plugin mine"):
        list(readers.make_reader(Wrong(), origin=MINE).samples(MemoryFile(b"", "f")))


def test_an_archive_is_guarded_for_what_is_made_together_not_for_each_sample(monkeypatch):
    entered = []
    enter = guard.Watch.enter

    def counted(watch):
        entered.append(watch)
        enter(watch)

    monkeypatch.setattr(guard.Watch, "enter", counted)
    members = {f"{number:05}": noise(100, number) for number in range(3_000)}
    reader = readers.make_reader("tar")
    assert dict(reader.samples(MemoryFile(tar_bytes(members)))) == members
    assert len(entered) < len(members) / 20


@pytest.mark.parametrize("index", [[1, 2], "text", 3])
def test_an_invalid_index_names_the_plugin(index):
    class Wrong(Lines):
        def index(self, source):
            return index

    with pytest.raises(
        PluginError, match=r"Wrong\.index` of 'f' returned .* requires a MemberIndex"
    ):
        readers.make_reader(Wrong(), origin=MINE).index(MemoryFile(b"", "f"))


class Ends(BaseException):
    """As the panics of libraries that are written in Rust."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [SystemExit("no licence"), SystemExit(0), Ends("panic")])
def test_a_system_exit_names_the_plugin(way, error):
    class Ending(Given):
        def samples(self, source):
            yield from ()
            raise error

        def samples_between(self, source, start, stop):
            return self.samples(source)

        def read(self, source, index, position):
            raise error

    with pytest.raises(PluginError, match=rf"Plugin mine 1.0 .*{type(error).__name__}") as caught:
        WAYS[way](readers.make_reader(Ending(), origin=MINE), MemoryFile(b"", "f"))
    assert caught.value.__cause__ is error


def test_an_interrupt_by_the_user_passes_as_it_is():
    class Interrupted(Lines):
        def samples(self, source):
            yield from ()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(readers.make_reader(Interrupted(), origin=MINE).samples(MemoryFile(b"")))


def test_an_endless_read_each_is_stopped():
    taken = []

    class Endless(Lines):
        def read_each(self, source, index, positions):
            for number in itertools.count():
                taken.append(number)
                yield "name", number
                assert number < 99, "it is not stopped"

    reader = readers.make_reader(Endless(), origin=MINE)
    with pytest.raises(PluginError, match=r"`read_each` gave more than 2 samples for 2 positions"):
        list(reader.read_each(MemoryFile(b"", "f"), ANY_INDEX, [0, 1]))
    assert taken == [0, 1, 2]


def test_a_car_that_is_not_read_to_its_end_is_closed():
    closed = []

    class Cars(MemoryTransport):
        serves_cars = True

        def read_car(self, cid, *, span=None):
            self.blocks_of_car = self.sent(cid)  # a reference, so that only `close` ends it
            return self.blocks_of_car

        def sent(self, cid):
            try:
                yield cid, b"1"
                yield cid, b"2"
            finally:
                closed.append(True)

    cid = make_cid(b"1", RAW)
    transport = transports.guarded_transport(Cars(), MINE, Options())
    blocks: Any = transport.read_car(cid)
    assert next(blocks) == (cid, b"1")
    blocks.close()
    assert closed == [True]
    transport.close()


def test_a_plugin_is_used_though_the_system_refuses_the_thread_that_watches(monkeypatch):
    monkeypatch.setattr(guard, "_watchdog", guard._Watchdog())

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with guard.Guard(MINE, "its work"):
            assert not guard._watchdog.awake
    with guard.Guard(MINE, "its work"):
        assert guard._watchdog.awake


@pytest.mark.parametrize("way", ["in order", "from a byte on", "several"])
@pytest.mark.parametrize("sample", ["ab", ("a", 1, 2), (b"a", 1), None])
def test_every_sample_of_a_plugin_is_checked(way, sample):
    given = [("x", 0), ("y", 1), sample, ("z", 2)]

    class Later(Given):
        def read_each(self, source, index, positions):
            yield from given

    reader = readers.make_reader(Later(*given), origin=MINE)
    ways = {
        **WAYS,
        "several": lambda reader, file: list(reader.read_each(file, ANY_INDEX, range(4))),
    }
    method = {"in order": "samples", "from a byte on": "samples_between", "several": "read_each"}[
        way
    ]
    words = rf"Plugin mine 1.0 .*sample 2.* of 'f' is .* from `.*Later\.{method}`"
    with pytest.raises(PluginError, match=words):
        ways[way](reader, MemoryFile(b"", "f"))


class Spans(MemberIndex):
    """Returns what a test gives as the span, or the name, of each sample."""

    def __init__(self, span: Any = (0, 1), name: Any = "a", part: Any = None):
        self.given, self.called, self.parted = span, name, part

    def __len__(self):
        return 2

    def name(self, position):
        return self.called

    def span(self, position):
        return self.given

    def part(self, start, stop):
        return self.parted


def spans_of(**given):
    class Spanned(Lines):
        def index(self, source):
            return Spans(**given)

    index = readers.make_reader(Spanned(), origin=MINE).index(MemoryFile(b"0123456789", "f"))
    assert index is not None
    return index


@pytest.mark.parametrize(
    "span", [None, (1,), (1, 2, 3), (2, 1), (-1, 4), (0.0, 4.0), ("0", "4"), 7, "text"]
)
def test_a_span_is_two_positions(span):
    index = spans_of(span=span)
    words = (
        r"Plugin mine 1\.0 \(mine\): `Spans\.span\(1\)` of 'f' returned .*two positions in bytes"
    )
    with pytest.raises(PluginError, match=words):
        index.span(1)
    with pytest.raises(PluginError, match=words):
        list(index.spans_at([1]))


def test_a_span_outside_of_the_file_is_a_format_error():
    for span in ((0, 11), (11, 11), (2**70, 2**71)):
        index = spans_of(span=span)
        words = rf"'f' has 10 bytes, and its sample 0 would be bytes {span[0]} to {span[1]}, by `Spans.span`"
        with pytest.raises(FormatError, match=words):
            index.span(0)
        with pytest.raises(FormatError, match=words):
            list(index.spans_at([0]))
    assert spans_of(span=(10, 10)).span(0) == (10, 10)


def test_a_name_is_text_and_a_part_is_an_index():
    with pytest.raises(PluginError, match=r"`Spans\.name\(0\)` of 'f' returned b'a'.*a text"):
        spans_of(name=b"a").name(0)
    with pytest.raises(
        PluginError, match=r"`Spans\.part\(0, 1\)` of 'f' returned 3.*MemberIndex or"
    ):
        spans_of(part=3).part(0, 1)


@pytest.mark.parametrize(
    ("members", "words"),
    [(["a", b"b"], "returned b'b' as a path"), ("ab", "returned 'ab'"), ({"a"}, "returned {'a'}")],
)
def test_members_of_a_folder_are_texts(members, words):
    class Wrong(FolderReader):
        def members(self, directory):
            return members

    reader: Any = readers.make_reader(Wrong(), origin=MINE)
    with pytest.raises(PluginError, match=rf"Wrong\.members` of 'd' {words}.*a list of paths"):
        reader.members(MemoryDirectory({}, "d"))


def test_the_result_of_load_must_be_published_samples():
    class Wrong(Exporter):
        def export(self, samples, sink):
            return None

        def load(self, source):
            found: Any = ["a"]
            return found

    with pytest.raises(PluginError, match=r"Plugin mine .*Wrong\.load` of 'd' returned \['a'\]"):
        exporters.GuardedExporter(Wrong(), MINE).load(MemoryDirectory({}, "d"))


class Deep(Lines):
    """Fails in a function of its own, which calls a library."""

    def samples(self, source):
        yield "a", 1
        yield "b", helper()


def helper():
    return json.loads("no JSON")


def test_an_error_names_the_class_method_and_line_of_the_plugin():
    line = helper.__code__.co_firstlineno + 1
    with pytest.raises(
        PluginError, match=rf"JSONDecodeError: .*test_guards\.helper, line {line}\)\. "
    ):
        list(readers.make_reader(Deep(), origin=MINE).samples(MemoryFile(b"")))

    class Failing(Lines):
        def read(self, source, index, position):
            raise LookupError("nothing")

    with pytest.raises(
        PluginError, match=r"LookupError: nothing \(in .*Failing\.read, line \d+\)\. "
    ):
        readers.make_reader(Failing(), origin=MINE).read(MemoryFile(b""), ANY_INDEX, 0)


def test_a_hanging_plugin_is_a_warning_and_one_that_waits_for_data_is_not(monkeypatch):
    monkeypatch.setattr(provenance, "_shown", set())
    released = threading.Event()

    class Hangs(Lines):
        def read(self, source, index, position):
            released.wait(20)
            return "a", 1

    class Waits(Lines):
        def read(self, source, index, position):
            waiting(released)
            return "a", 1

    for kind, warned in ((Hangs, True), (Waits, False)):
        reader = readers.make_reader(kind(), origin=MINE)
        released.clear()
        thread = threading.Thread(target=reader.read, args=(MemoryFile(b"", "f"), ANY_INDEX, 3))
        thread.start()
        while not (watches := [w for w in guard._watches if "sample 3" in str(w)]):
            time.sleep(0.01)
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            for now in (0, guard.PATIENCE_SECONDS, 2 * guard.PATIENCE_SECONDS):
                watches[0].look(now)
        released.set()
        thread.join()
        assert [w.category for w in shown] == ([PluginWarning] if warned else [])
        words = (
            "Plugin mine 1.0 (mine) has been at sample 3 of 'f' for 30 s, and reading waits for it"
        )
        assert not warned or words in str(shown[0].message)


# As the code of the core in which a reader waits for a source.
WAITING: dict[str, Any] = {"__name__": "ipfs_dataset_core.reading.fetcher"}
exec("def waiting(event): event.wait(20)", WAITING)
waiting = WAITING["waiting"]


@pytest.mark.parametrize("way", ["in order", "from a byte on", "several"])
def test_a_method_without_yield_is_an_error_that_says_so(way):
    def forgets(self, source, *_):
        return None

    kind = type(
        "Forgets", (Given,), dict.fromkeys(["samples", "samples_between", "read_each"], forgets)
    )
    method = {"in order": "samples", "from a byte on": "samples_between", "several": "read_each"}[
        way
    ]
    with pytest.raises(PluginError, match=rf"Forgets\.{method}` has to yield samples"):
        WAYS[way](readers.make_reader(kind(), origin=MINE), MemoryFile(b"", "f"))


def test_an_attribute_that_raises_names_the_plugin():
    def fails(self):
        raise LookupError("not known")

    kind = type("Fails", (Lines,), {"cheap_index": property(fails)})
    with pytest.raises(PluginError, match=r"Plugin mine 1\.0 .*attributes.*\.fails, line"):
        readers.make_reader(kind(), origin=MINE)


@pytest.mark.parametrize("span", [(0.0, 1.0), "01", None, (1,)])
def test_an_invalid_span_is_an_error_when_a_sample_is_read(span):
    class Decoding(Lines):
        read = Reader.read

        def decode(self, data, index, position):
            return data

    index = Spans(span=span)
    for reader in (Decoding(), readers.make_reader(Decoding(), origin=MINE)):
        with pytest.raises(
            (TypeError, PluginError), match=r"Spans\.span\(1\) returned .* not two pos"
        ):
            reader.read(MemoryFile(b"01", "f"), index, 1)


def test_a_name_that_is_not_text_is_an_error_when_a_sample_is_read():
    class Decoding(Lines):
        read = Reader.read

        def decode(self, data, index, position):
            return data

    reader = readers.make_reader(Decoding(), origin=MINE)
    with pytest.raises(PluginError, match=r"Spans\.name\(1\) returned b'a' instead of text"):
        reader.read(MemoryFile(b"01", "f"), Spans(name=b"a"), 1)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("name", ""),
        ("name", None),
        ("concurrency", 0),
        ("concurrency", "many"),
        ("concurrency", None),
    ],
)
def test_a_transport_has_a_name_and_a_number_of_requests(attribute, value):
    transport = type("Odd", (MemoryTransport,), {attribute: value})()
    words = (
        rf"Plugin mine 1\.0 \(mine\): `Odd\.{attribute}` is {value!r}, where its contract requires"
    )
    with pytest.raises(PluginError, match=words):
        transports.guarded_transport(transport, MINE, Options())
