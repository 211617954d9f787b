"""Each check of the contract suites fails when it should, and passes when it should."""

from __future__ import annotations

import functools
import tracemalloc

import pytest

from ipfs_dataset_core import FormatError, LimitError, Reader, ReaderPlugin, Transport
from ipfs_dataset_core.testing.checks import Checks, described

checks = Checks("docs/page.md#part")


class Lines(Reader):
    """Lines of text."""

    suffixes = (".lines",)

    def decode(self, data, index, position):
        return data


class Unequal:
    """A value that is not equal to its pickled copy."""


@pytest.mark.parametrize("condition", [True, 1, "text", [0]])
def test_a_true_condition_passes(condition):
    checks.require(condition, "unused")


@pytest.mark.parametrize("condition", [False, 0, "", None, []])
def test_a_false_condition_fails_with_the_message_and_the_page(condition):
    with pytest.raises(AssertionError) as caught:
        checks.require(condition, "`read` must work")
    assert str(caught.value) == "`read` must work. See docs/page.md#part"


def test_a_failure_has_the_error_that_caused_it():
    error = OSError("disk")
    with pytest.raises(AssertionError) as caught:
        checks.fail("`read` must work", error)
    assert caught.value.__cause__ is error


def test_the_declaration_of_a_class_is_made_from_its_attributes():
    declared = checks.declaration(Lines, Reader, ReaderPlugin)
    assert declared.suffixes == (".lines",)
    assert declared.factory is Lines


def test_a_declaration_is_returned_as_it_is():
    declared = ReaderPlugin(name="lines", summary="", factory=Lines)
    assert checks.declaration(declared, Reader, ReaderPlugin) is declared


@pytest.mark.parametrize("plugin", [Transport, Lines(), "lines", None, int])
def test_anything_else_is_no_declaration(plugin):
    message = "must return a subclass of Reader or an instance of ReaderPlugin, but it returned "
    with pytest.raises(AssertionError, match=message):
        checks.declaration(plugin, Reader, ReaderPlugin)


def test_a_declaration_that_can_be_pickled_passes():
    checks.declaration_can_be_pickled(ReaderPlugin(name="lines", summary="", factory=Lines))


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        (lambda: Lines(), "pickling it raised"),  # noqa: PLW0108 - a function without a name
        (functools.partial(Lines, Unequal()), "must be equal after pickling"),
    ],
)
def test_a_declaration_that_is_not_the_same_in_another_process_fails(factory, reason):
    declared = ReaderPlugin(name="lines", summary="", factory=factory)
    with pytest.raises(AssertionError, match=reason) as caught:
        checks.declaration_can_be_pickled(declared)
    assert "`factory` must be a 'module:attribute' string or a class" in str(caught.value)


def test_a_pickled_value_is_another_object():
    value = [1]
    again = checks.pickled(value, "it")
    assert again == value
    assert again is not value


class NotLoadable:
    """Can be pickled, but not unpickled."""

    def __reduce__(self):
        return int, ("no number",)


@pytest.mark.parametrize("value", [NotLoadable(), iter(lambda: 0, 1)])
def test_a_value_that_cannot_be_pickled_or_unpickled_fails(value):
    with pytest.raises(AssertionError, match="must be able to unpickle the index, but") as caught:
        checks.pickled(value, "the index")
    assert caught.value.__cause__ is not None


def test_any_error_fails_where_none_is_allowed():
    with (
        pytest.raises(AssertionError, match=r"`pin` must raise no error, but .* KeyError: 'a'"),
        checks.raises_nothing("`pin`"),
    ):
        raise KeyError("a")


def test_allowed_errors_pass_unchanged():
    error = LimitError("too much")
    with (
        pytest.raises(LimitError) as caught,
        checks.raises_only((FormatError, LimitError), "`read`"),
    ):
        raise error
    assert caught.value is error


def test_other_errors_fail_with_the_allowed_ones():
    message = r"`read` must succeed or raise FormatError or LimitError, but it raised IndexError: 5"
    with (
        pytest.raises(AssertionError, match=message),
        checks.raises_only((FormatError, LimitError), "`read`"),
    ):
        raise IndexError(5)


def test_interrupts_are_not_failures_of_a_contract():
    with pytest.raises(KeyboardInterrupt), checks.raises_nothing("it"):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), checks.raises_only((FormatError,), "it"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("already_tracing", [False, True])
def test_memory_is_limited_and_tracing_is_left_as_it_was(already_tracing):
    if already_tracing:
        tracemalloc.start()
    try:
        before = bytearray(3 << 20)
        with checks.memory_below(1 << 20, "`read`"):
            bytearray(100 << 10)
        with (
            pytest.raises(
                AssertionError, match=r"`read` must take at most 1048576 bytes of memory"
            ),
            checks.memory_below(1 << 20, "`read`"),
        ):
            bytearray(2 << 20)  # freed at once, but it counts
        assert tracemalloc.is_tracing() == already_tracing
        del before
    finally:
        if already_tracing:
            tracemalloc.stop()


def test_memory_is_also_limited_if_an_error_is_raised():
    with pytest.raises(AssertionError, match="at most"), checks.memory_below(1 << 20, "`read`"):
        raise FormatError(f"damaged: {len(bytearray(2 << 20))}")


def test_an_error_within_the_limit_passes():
    with pytest.raises(FormatError), checks.memory_below(1 << 20, "`read`"):
        raise FormatError("damaged")


def test_errors_are_described_by_type_and_message():
    assert described(KeyError("a")) == "KeyError: 'a'"
