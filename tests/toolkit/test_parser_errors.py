"""Errors of libraries that parse data: typed, and those of this library as they are."""

from __future__ import annotations

import pytest

from ipfs_dataset_core import (
    FormatError,
    LimitError,
    StateError,
    TransportTimeoutError,
    parser_errors,
)


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (ValueError("no zip"), FormatError, "'a.zip' cannot be read: no zip. Publish it again."),
        (KeyError("x"), FormatError, "'a.zip' cannot be read: 'x'. Publish it again."),
        (RuntimeError(), FormatError, "'a.zip' cannot be read: RuntimeError. Publish it again."),
        (MemoryError(), LimitError, "'a.zip' declares more than fits in memory."),
    ],
)
def test_errors_of_a_library_become_typed_errors(raised, kind, message):
    with pytest.raises(kind) as caught, parser_errors("'a.zip'", "Publish it again."):
        raise raised
    assert str(caught.value) == message
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize(
    "raised", [TransportTimeoutError("late"), StateError("s"), KeyboardInterrupt()]
)
def test_errors_of_this_library_and_interrupts_pass_through(raised):
    with pytest.raises(type(raised)) as caught, parser_errors("it", "Do this."):
        raise raised
    assert caught.value is raised


def test_successful_calls_are_not_changed():
    with parser_errors("it", "Do this."):
        done = True
    assert done
