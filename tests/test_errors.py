"""Rules about errors that no tool checks: they survive a process boundary, and all are public."""

from __future__ import annotations

import pickle
import re

import pytest

import ipfs_dataset_core
from ipfs_dataset_core import errors

ERRORS = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.IPFSDatasetError)
]


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_is_made_from_one_string_and_survives_pickling(error):
    made = error("what was asked, what happened, what to do")
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is error
    assert str(again) == str(made) == "what was asked, what happened, what to do"
    assert vars(again) == vars(made)
    assert again.args == made.args


def test_what_an_error_knows_besides_its_message_survives_pickling():
    made = errors.RateLimitedError("slower", retryable=False, retry_after=7.5)
    again = pickle.loads(pickle.dumps(made))
    assert (again.retryable, again.retry_after) == (False, 7.5)


def test_every_error_is_public():
    assert {error.__name__ for error in ERRORS} <= set(ipfs_dataset_core.__all__)


def test_the_tree_in_the_docstring_is_that_of_the_classes():
    drawn = re.findall(
        r"\w+Error", (errors.__doc__ or "").split("::")[1].split("Each exception takes")[0]
    )
    built_in = {"LookupError", "ValueError", "ImportError", "OSError", "FileNotFoundError",
                "TimeoutError"}  # fmt: skip
    assert [name for name in drawn if name not in built_in] == [e.__name__ for e in ERRORS]
