"""Sets that another thread changes while they are looked through."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from ipfs_dataset_core.datasets import objects
from ipfs_dataset_core.runtime.weak_sets import living


class Item:
    """What can be referred to weakly."""

    followed = False

    def follow_name(self):
        self.followed = True


class Changing(WeakSet[Any]):
    """Is changed twice by another thread, each time while it is looked through."""

    changes = 2

    def __iter__(self):
        if self.changes:
            self.changes -= 1
            raise RuntimeError("Set changed size during iteration")
        return super().__iter__()


def test_members_are_found_while_the_set_changes():
    one, two = Item(), Item()
    assert set(living(Changing([one, two]))) == {one, two}
    assert living(WeakSet()) == []


def test_names_are_followed_before_a_fork_though_another_thread_makes_a_dataset(monkeypatch):
    item = Item()
    monkeypatch.setattr(objects, "_not_located", Changing([item]))
    objects._follow_names()
    assert item.followed
