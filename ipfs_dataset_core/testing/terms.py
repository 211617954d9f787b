"""Assertions of a contract: each failure states the requirement, the result, and the documentation."""

from __future__ import annotations

import pickle
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ipfs_dataset_core.interfaces import ExporterPlugin, ReaderPlugin, TransportPlugin
from ipfs_dataset_core.registry.declarations import declaration_of, is_plugin_class

if TYPE_CHECKING:
    from collections.abc import Iterator

D = TypeVar("D", TransportPlugin, ReaderPlugin, ExporterPlugin)


class Terms:
    """The terms of one contract.

    Args:
        page: The page that documents it; every failure ends with it.
    """

    def __init__(self, page: str) -> None:
        self.page = page

    def must(self, holds: object, message: str) -> None:
        """Fails with a message if a condition does not hold."""
        __tracebackhide__ = True
        if not holds:
            raise AssertionError(f"{message}. See {self.page}")

    def declared(self, plugin: object, base: type, kind: type[D]) -> D:
        """Returns the declaration that the fixture `plugin` is, or that its class has.

        Args:
            plugin: What the fixture returned.
            base: The class whose subclasses may declare themselves.
            kind: What they declare.
        """
        __tracebackhide__ = True
        found: object = plugin
        if is_plugin_class(plugin) and issubclass(plugin, base):
            found = declaration_of(plugin, plugin.__name__)
        self.must(
            isinstance(found, kind),
            f"`plugin` has to be a subclass of {base.__name__} or an object of {kind.__name__}, not "
            f"{plugin!r:.200}",
        )
        assert isinstance(found, kind)
        return found

    def travelled(self, value: Any, what: str) -> Any:
        """Returns a value as another process receives it, pickled and unpickled."""
        __tracebackhide__ = True
        try:
            return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own bytes
        except Exception as error:
            raise AssertionError(
                f"{what} has to pickle, for DataLoader workers get it so; {said(error)}. See {self.page}"
            ) from error

    @contextmanager
    def ends_only_in(self, errors: tuple[type[Exception], ...], what: str) -> Iterator[None]:
        """Passes `errors` through; any other exception is a failure that names them."""
        __tracebackhide__ = True
        try:
            yield
        except errors:
            raise
        except Exception as error:
            wanted = " or ".join(kind.__name__ for kind in errors)
            raise AssertionError(
                f"{what} has to be a {wanted} that names the object; it ended in {said(error)}. "
                f"See {self.page}"
            ) from error

    @contextmanager
    def within(self, allowed: int, what: str) -> Iterator[None]:
        """Fails if Python's objects took more bytes than `allowed` at once."""
        __tracebackhide__ = True
        started = not tracemalloc.is_tracing()
        if started:
            tracemalloc.start()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        try:
            yield
        finally:
            _, peak = tracemalloc.get_traced_memory()
            if started:
                tracemalloc.stop()
            taken = peak - before
            self.must(
                taken <= allowed, f"{what} took {taken} bytes of memory; {allowed} are allowed"
            )


def said(error: BaseException) -> str:
    """Returns the type and message of an error."""
    return f"{type(error).__name__}: {error}"
