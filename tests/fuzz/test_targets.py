"""A few examples of each target, the same each time; `python -m tests.fuzz` runs others for longer."""

from __future__ import annotations

import sys

import pytest

from tests.fuzz.driver import all_targets, run_example

if sys.platform != "linux":
    pytest.skip("measures memory in /proc", allow_module_level=True)

EXAMPLES = 25


@pytest.mark.parametrize("name", sorted(all_targets()))
def test_hostile_input_is_read_or_refused_soon(name):
    outcomes = [run_example(name, number) for number in range(EXAMPLES)]
    assert [outcome for outcome in outcomes if outcome.failure] == []
