"""A view reads as the file does, keeps nobody alive, and gives back what the source raised."""

from __future__ import annotations

import gc
import io
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import FileView, FormatError, TransportError
from ipfs_dataset_core.testing import MemoryFile

DATA = bytes(range(256))
steps = st.lists(
    st.tuples(st.just("read"), st.integers(-1, 300), st.just(0))
    | st.tuples(st.just("seek"), st.integers(-300, 300), st.integers(0, 2))
)


@given(steps)
def test_it_is_a_file(steps):
    source, expected = MemoryFile(DATA), io.BytesIO(DATA)
    view = FileView(source)
    for method, number, whence in steps:
        if method == "read":
            assert view.read(number) == expected.read(number)
        elif number + (0, expected.tell(), len(DATA))[whence] >= 0:
            assert view.seek(number, whence) == expected.seek(number, whence)
        else:
            with pytest.raises(ValueError, match="no position -"):
                view.seek(number, whence)
        assert view.tell() == expected.tell()


def test_views_of_one_file_have_positions_of_their_own():
    source = MemoryFile(DATA)
    one, other = FileView(source), FileView(source)
    assert (one.size, one.read(3), other.read(2), one.read(1)) == (
        256,
        DATA[:3],
        DATA[:2],
        DATA[3:4],
    )
    assert (one.readable(), one.seekable(), one.writable()) == (True, True, False)


def test_beyond_the_end_are_zeros_where_they_are_wanted():
    buffer = bytearray(b"x" * 8)
    source = MemoryFile(DATA)
    view = FileView(source, padded=True)
    view.seek(252)
    assert view.readinto(buffer) == 4
    assert buffer == DATA[252:] + bytes(4)


def test_it_does_not_keep_the_file_alive():
    source = MemoryFile(DATA)
    view, forgotten = FileView(source), weakref.ref(source)
    del source
    gc.collect()
    assert forgotten() is None
    with pytest.raises(ValueError, match="the file was closed"):
        view.read(1)


class Library:
    """Makes its own errors of those of its files, and may do without an answer."""

    def __init__(self, file):
        self.file = file

    def read(self):
        try:
            return self.file.read(1)
        except Exception as error:
            raise OSError("the library cannot read") from error

    def probe(self):
        try:
            return self.file.read(1)
        except Exception:
            return None


def broken(start, stop):
    raise TransportError("the source is gone")


def test_an_error_of_the_source_is_raised_for_that_of_the_library():
    source = MemoryFile(broken, size=10)
    view = FileView(source)
    with pytest.raises(TransportError, match="the source is gone") as caught, view.errors():
        Library(view).read()
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("error", [FormatError("damaged"), OSError("damaged")])
def test_an_error_of_the_library_stays_one(error):
    source = MemoryFile(broken, size=10)
    view = FileView(source)
    with view.errors():
        assert Library(view).probe() is None
    with pytest.raises(type(error), match="damaged"), view.errors():
        raise error


def test_what_was_raised_is_not_kept():
    """Its traceback may lead to what keeps the view alive in ways that no collector of garbage sees."""
    source = MemoryFile(broken, size=10)
    view = FileView(source)

    class Opened:
        pass

    def use():
        opened = Opened()
        with pytest.raises(TransportError), view.errors():
            Library(view).read()
        return weakref.ref(opened)

    forgotten = use()
    gc.collect()
    assert forgotten() is None
