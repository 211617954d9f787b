"""Properties that are computed once, without a lock that a fork could leave behind."""

from __future__ import annotations

import os
import threading

import pytest

from ipfs_dataset_core.runtime.cached_property import cached_property
from tests.runtime.test_forks import forked


class Squares:
    """Counts how often it computes."""

    def __init__(self, root):
        self.root = root
        self.computed = 0
        self.computing = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    @cached_property
    def square(self):
        """The square."""
        self.computed += 1
        self.computing.set()
        assert self.may_end.wait(60)
        return self.root**2


def test_a_value_is_computed_once_for_each_object():
    two, three = Squares(2), Squares(3)
    assert (two.square, two.square, three.square) == (4, 4, 9)
    assert (two.computed, three.computed) == (1, 1)
    two.square = 5
    assert two.square == 5
    assert Squares.square.__doc__ == "The square."


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_can_compute_what_a_thread_of_its_parent_was_computing():
    two = Squares(2)
    two.may_end.clear()
    thread = threading.Thread(target=lambda: two.square)
    thread.start()
    assert two.computing.wait(60)

    def compute():
        assert Squares(3).square == 9

    assert forked(compute) == 0
    two.may_end.set()
    thread.join()
    assert two.square == 4
