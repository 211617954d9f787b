"""Whether a plugin was built for the version that is installed, by what its distribution requires.

Every distribution says so already, for pip; but pip only warns when another package moves a version, and an
editable or vendored installation asks nobody. Only what is certain is judged: comparisons with plain release
numbers, without environment markers. All else is left to pip.
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_REQUIREMENT = re.compile(r"\s*(?P<name>[\w.-]+)\s*(\[[^]]*\])?\s*\(?(?P<clauses>[^;@()]*)\)?\s*")
_CLAUSE = re.compile(
    r"\s*(?P<operator>~=|==|!=|<=|>=|<|>)\s*v?(?P<release>\d+(\.\d+)*)(?P<any>\.\*)?\s*"
)
_RELEASE = re.compile(r"v?(\d+(?:\.\d+)*)")
_COMPARISONS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


def normalized(distribution: str) -> str:
    """Returns a distribution's name as it is compared: ``My_Plugin`` is ``my-plugin``."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def unmet(requirements: Iterable[str], distribution: str, version: str) -> str | None:
    """Returns the requirement on a distribution that its installed version does not meet, if any.

    Args:
        requirements: What `importlib.metadata` gives: ``ipfs-dataset<0.2,>=0.1``.
        distribution: Whose version is known.
        version: The installed one.
    """
    for requirement in requirements:
        match = _REQUIREMENT.fullmatch(requirement)
        if match is None or normalized(match["name"]) != distribution:
            continue
        if not all(_holds(clause, version) for clause in match["clauses"].split(",")):
            return " ".join(requirement.split())
    return None


def _holds(clause: str, version: str) -> bool:
    match, installed = _CLAUSE.fullmatch(clause), _RELEASE.match(version)
    if match is None or installed is None or "!" in version:
        return True
    have, want = _numbers(installed[1]), _numbers(match["release"])
    if match["operator"] == "~=":
        return len(want) > 1 and _padded(have, want) >= want and have[: len(want) - 1] == want[:-1]
    if match["any"]:
        have = _padded(have, want)[: len(want)]
    longest = max(len(have), len(want))
    compare = _COMPARISONS[match["operator"]]
    return compare(_filled(have, longest), _filled(want, longest))


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def _padded(numbers: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return _filled(numbers, len(other))


def _filled(numbers: tuple[int, ...], length: int) -> tuple[int, ...]:
    return numbers + (0,) * (length - len(numbers))
