"""Checks of the contract suites; a failure states the requirement, the result and the documentation."""

from __future__ import annotations

import pickle
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ipfs_dataset_core.interfaces import ExporterPlugin, ReaderPlugin, TransportPlugin
from ipfs_dataset_core.registry.declarations import declaration_of, is_plugin_class

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Never

D = TypeVar("D", TransportPlugin, ReaderPlugin, ExporterPlugin)


class Checks:
    """Checks of one contract. A check that does not pass raises an `AssertionError`.

    Args:
        page: The page that documents the contract. Every message ends with it.
    """

    def __init__(self, page: str) -> None:
        self.page = page

    def require(self, condition: object, message: str) -> None:
        """Fails with a message if a condition is false."""
        __tracebackhide__ = True
        if not condition:
            self.fail(message)

    def fail(self, message: str, cause: BaseException | None = None) -> Never:
        """Fails with a message, because of an error if there is one."""
        __tracebackhide__ = True
        raise AssertionError(f"{message}. See {self.page}") from cause

    def declaration(self, plugin: object, base: type, kind: type[D]) -> D:
        """Returns the declaration of a plugin.

        Args:
            plugin: What the fixture `plugin` returned: the declaration itself, or a class that has one.
            base: The base class of such classes.
            kind: The class of the declaration.
        """
        __tracebackhide__ = True
        found: object = plugin
        if is_plugin_class(plugin) and issubclass(plugin, base):
            found = declaration_of(plugin, plugin.__name__)
        if not isinstance(found, kind):
            self.fail(
                f"The fixture `plugin` must return a subclass of {base.__name__} or an instance of "
                f"{kind.__name__}, but it returned {plugin!r:.200}"
            )
        return found

    def declaration_can_be_pickled(self, declared: object) -> None:
        """Fails if a declaration cannot be pickled, or is not equal after it."""
        __tracebackhide__ = True
        kind = type(declared).__name__
        factory = (
            "its `factory` must be a 'module:attribute' string or a class at the top of a module"
        )
        again = self.pickled(declared, f"the {kind}: {factory}")
        self.require(
            again == declared,
            f"The {kind} must be equal after pickling ({factory}), but {declared!r} became {again!r}",
        )

    def pickled(self, value: Any, what: str) -> Any:
        """Returns a value as another process receives it, pickled and unpickled."""
        __tracebackhide__ = True
        try:
            return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own bytes
        except Exception as error:  # noqa: BLE001 - any error of a plugin
            self.fail(
                f"DataLoader workers must be able to unpickle {what}, but pickling it raised "
                f"{described(error)}",
                error,
            )

    @contextmanager
    def raises_nothing(self, what: str) -> Iterator[None]:
        """Fails if an error is raised."""
        __tracebackhide__ = True
        try:
            yield
        except Exception as error:  # noqa: BLE001 - any error of a plugin
            self.fail(f"{what} must raise no error, but it raised {described(error)}", error)

    @contextmanager
    def raises_only(self, errors: tuple[type[Exception], ...], what: str) -> Iterator[None]:
        """Lets `errors` pass; fails if any other error is raised."""
        __tracebackhide__ = True
        try:
            yield
        except errors:
            raise
        except Exception as error:  # noqa: BLE001 - any error of a plugin
            allowed = " or ".join(kind.__name__ for kind in errors)
            self.fail(
                f"{what} must succeed or raise {allowed}, but it raised {described(error)}", error
            )

    @contextmanager
    def memory_below(self, limit: int, what: str) -> Iterator[None]:
        """Fails if Python's objects took more than `limit` bytes at once."""
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
            self.require(
                taken <= limit,
                f"{what} must take at most {limit} bytes of memory (`memory_bytes`), but it took {taken}",
            )


def described(error: BaseException) -> str:
    """Returns the type and message of an error."""
    return f"{type(error).__name__}: {error}"
