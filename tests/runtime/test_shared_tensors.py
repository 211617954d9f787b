"""Tensors are moved to shared memory without a lock that stays held in a process forked meanwhile."""

from __future__ import annotations

import os
import threading
import time

import pytest
import torch

from ipfs_dataset_core.runtime.shared_tensors import share
from tests.runtime.test_forks import REST, forked


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_process_that_is_forked_while_a_thread_shares_memory_can_share_memory(monkeypatch):
    begun = threading.Event()
    method = "_share_fd_cpu_"
    move = getattr(torch.UntypedStorage, method)

    def move_slowly(storage, *arguments):
        begun.set()
        time.sleep(REST)
        return move(storage, *arguments)

    monkeypatch.setattr(torch.UntypedStorage, method, move_slowly)
    shared = torch.zeros(3)
    thread = threading.Thread(target=share, args=(shared,))
    thread.start()
    assert begun.wait(60)

    def share_more():
        # The same storage: PyTorch has a lock for each.
        share(shared)
        assert shared.is_shared()

    assert forked(share_more) == 0
    thread.join()
    assert shared.is_shared()
