"""One read has so much time in all, whatever sources and tries it needs."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from typing import TYPE_CHECKING

import pytest

from ipfs_dataset_core.datasets.map_style import IPFSDataset
from ipfs_dataset_core.errors import TransportError, TransportTimeoutError
from ipfs_dataset_core.interfaces import Transport
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.reading.fetcher import Fetcher
from ipfs_dataset_core.runtime.deadlines import check_time, progressed, time_left, until, working
from ipfs_dataset_core.sources.failover import SourcePool
from tests.support.builders import noise, one_file
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import FaultServer, Plan

if TYPE_CHECKING:
    from ipfs_dataset_core.ipld import CID

FILE = noise(3 << 20)
ROOT, BLOCKS = one_file(FILE)


def test_without_a_deadline_there_is_no_end():
    assert time_left() == math.inf


def test_an_inner_deadline_never_extends_an_outer_one():
    now = time.monotonic()
    with until(now + 100):
        with until(now + 10):
            assert -100 < time_left() <= 10
        assert 10 < time_left() <= 100
        with until(now + 1000):
            assert 10 < time_left() <= 100
    assert time_left() == math.inf


def test_each_thread_has_its_own():
    seen = []
    with until(time.monotonic() + 1):
        thread = threading.Thread(target=lambda: seen.append(time_left()))
        thread.start()
        thread.join()
    assert seen == [math.inf]


def test_each_asyncio_task_has_its_own():
    async def task(seconds, seen):
        with until(time.monotonic() + seconds):
            await asyncio.sleep(0.01)
            seen.append(math.ceil(time_left() / 1000))
            await asyncio.sleep(0.01)
        seen.append(time_left())

    async def both():
        seen: tuple[list[float], list[float]] = [], []
        await asyncio.gather(task(900, seen[0]), task(9000, seen[1]))
        return seen

    assert asyncio.run(both()) == ([1, math.inf], [9, math.inf])


def test_a_generator_may_be_closed_by_another_thread():
    def generator():
        with until(time.monotonic() + 100):
            yield

    opened, raised = generator(), []

    def close():
        try:
            opened.close()
        except ValueError as error:
            raised.append(error)

    # In a context of its own, for the deadline stays where the generator was begun.
    contextvars.copy_context().run(next, opened)
    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert raised == []
    assert time_left() == math.inf


def test_a_loop_without_new_data_ends_and_new_data_restart_its_time(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("ipfs_dataset_core.runtime.deadlines.time.monotonic", lambda: clock[0])
    check_time()
    with working(10, "The listing of 'x'"):
        clock[0] += 9
        check_time()
        progressed()
        clock[0] += 9
        check_time()
        with working(100, "something below"):
            clock[0] += 20
            check_time()
        with pytest.raises(
            TransportTimeoutError, match=r"The listing of 'x' .* deadline=10 "
        ) as caught:
            check_time()
        assert not caught.value.retryable
    check_time()
    progressed()


def test_the_deadline_ends_with_its_block_even_where_that_raises():
    with pytest.raises(KeyError), until(time.monotonic() + 1):
        raise KeyError
    assert time_left() == math.inf


class Failing(Transport):
    """Never delivers, and would let itself be asked for ever."""

    name = "failing"

    def __init__(self):
        self.times = []

    def get_block(self, cid: CID) -> bytes:
        self.times.append(time_left())
        raise TransportError("try again", retryable=True)


def test_retries_end_with_the_deadline_and_the_error_names_it():
    failing = Failing()
    options = Options(deadline=0.5, retries=1000)
    fetcher = Fetcher(SourcePool([failing], options), options)
    with pytest.raises(TransportError, match=r"deadline=0\.5"):
        fetcher.block(ROOT)
    assert len(failing.times) < 1000
    assert all(left <= 0.5 for left in failing.times), "what a transport is asked has the deadline"
    assert time_left() == math.inf
    fetcher.close()


def test_a_stalling_source_is_abandoned_at_the_deadline():
    def stall(_):
        return Plan(body=b"x" * 1000, stall_at=1)

    with FaultServer(stall) as server:
        dataset = IPFSDataset(
            f"ipfs://{ROOT}", gateways=server.url, timeout=60, deadline=0.5, retries=0
        )
        with pytest.raises(TransportError):
            dataset[0]
        dataset.close()


def test_each_read_has_the_whole_time_again():
    def slow(_, plan):
        time.sleep(0.15)
        return plan

    with GatewayServer(BLOCKS, fault=slow, serve_plain=False, serve_car=False) as server:
        options = Options(gateways=(server.url,), deadline=2.0)
        dataset = IPFSDataset(
            f"ipfs://{ROOT}", gateways=options.gateways, deadline=options.deadline
        )
        started = time.monotonic()
        while time.monotonic() - started < 2.5:
            assert dataset[0][1] == FILE
            dataset.close()
