"""Filesystems and files in other processes and threads, registration, and credentials in texts."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import multiprocessing
import os
import pickle
import threading
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.memory import MemoryFileSystem
from ipfs_dataset_fsspec import IPFSDatasetFileSystem, ReadOnlyError, register

import ipfs_dataset_core
from ipfs_dataset_core import Limits, PluginConflictError, TransportPlugin
from ipfs_dataset_core.registry.lookup import Registry
from ipfs_dataset_plugins.store import FolderStore
from tests.support import builders
from tests.support.builders import noise
from tests.support.gateway_server import GatewayServer

DATA = noise(9_500_000)


def read_there(thing, path, answers):
    """Reads in another process: from a filesystem, or on in an open file."""
    try:
        answers.put(thing.cat_file(path) if path else thing.read())
    except BaseException as error:  # noqa: BLE001 - the other process raises it
        answers.put(error)


def in_another_process(method, thing, path=None):
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    process = context.Process(target=read_there, args=(thing, path, answers))
    process.start()
    answer = answers.get(timeout=120)
    process.join(60)
    assert process.exitcode == 0
    return answer


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_filesystem_and_an_open_file_work_in_another_process(at, method):
    cid, blocks = builders.one_file(DATA)
    with GatewayServer(blocks) as server:
        fs = at(server, memory="4M")  # so that the other process has to fetch
        with fs.open(str(cid)) as file:
            assert file.read(1_100_000) == DATA[:1_100_000]
            assert in_another_process(method, fs, str(cid)) == DATA
            assert in_another_process(method, file) == DATA[1_100_000:]
            assert file.read() == DATA[1_100_000:]
        fs.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_makes_filesystems_of_its_own(at):
    cid, blocks = builders.one_file(b"content")
    with GatewayServer(blocks) as server:
        fs = at(server)
        fs.cat_file(str(cid))
        connections = server.connections
        assert in_another_process("fork", fs, str(cid)) == b"content"
        assert server.connections > connections
        fs.close()


def test_pickling_gives_the_same_filesystem_with_its_options(reading, store):
    fs = reading(memory="8M", limits=Limits(members=7), timeout=3)
    assert pickle.loads(pickle.dumps(fs)) is fs
    assert fs == reading(memory="8M", limits=Limits(members=7), timeout=3)
    assert fs != reading()
    IPFSDatasetFileSystem.clear_instance_cache()
    again = pickle.loads(pickle.dumps(fs))
    assert again is not fs
    assert again._connections.options == fs._connections.options
    assert again.fsid == reading().fsid


def at_mem(address, options):
    """A transport that only this process registers."""
    return FolderStore(Path(address.removeprefix("mem://")))


def test_a_registered_transport_is_pickled_for_a_spawned_process(store, monkeypatch):
    monkeypatch.setattr("ipfs_dataset_core.registry.lookup._default", Registry())
    plugin = TransportPlugin(name="mem", summary="for a test", schemes=("mem",), factory=at_mem)
    ipfs_dataset_core.register(plugin)
    cid = store.file(b"content")
    fs = fsspec.filesystem("ipfsdataset", ipfs_api_address=f"mem://{store.address}")
    assert fs.cat_file(cid) == b"content"
    assert in_another_process("spawn", fs, cid) == b"content"


def test_threads_share_connections_and_the_cache(reading, store):
    made = []
    threads = [threading.Thread(target=lambda: made.append(reading())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(fs._connections) for fs in made}) == 1
    assert reading(memory="8M")._connections is not made[0]._connections
    assert len({fs.__dask_tokenize__() for fs in made}) == 1
    assert reading(memory="8M").__dask_tokenize__() != made[0].__dask_tokenize__()


def test_threads_can_share_a_filesystem(fs, store):
    files = {f"{number}": noise(70_000, seed=number) for number in range(16)}
    root, found = store.tree(files), {}
    threads = [
        threading.Thread(target=lambda n=name: found.update({n: fs.cat_file(f"{root}/{n}")}))
        for name in files
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == files


def test_no_text_contains_credentials():
    secrets = ["hidden-token", "hidden-header", "hidden-password", "hidden-query"]
    fs = fsspec.filesystem(
        "ipfsdataset",
        gateways=["http://user:hidden-password@127.0.0.1:9/x?key=hidden-query"],
        auth="bearer:hidden-token",
        headers={"X-Key": "hidden-header"},
        retries=0,
        timeout=1,
    )
    with pytest.raises(OSError, match=r"127\.0\.0\.1") as caught:
        fs.info("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
    shown = [str(fs), repr(fs), fs.__dask_tokenize__(), fs._fs_token, str(caught.value)]
    shown += [repr(caught.value), fs.to_json(include_password=False)]
    assert [text for text in shown if any(secret in text for secret in secrets)] == []
    assert fsspec.AbstractFileSystem.from_json(fs.to_json()) == fs
    assert json.loads(fs.to_json(include_password=False))["gateways"] == ["http://127.0.0.1:9/x"]


def test_register_makes_ipfs_urls_open(registered, store):
    with pytest.raises(ValueError, match="Protocol not known: ipfs"):
        fsspec.filesystem("ipfs")
    register()
    register()
    cid = store.file(b"content")
    with fsspec.open(f"ipfs://{cid}", ipfs_api_address=store.address) as file:
        assert file.read() == b"content"
    assert isinstance(fsspec.filesystem("ipns", timeout=9), IPFSDatasetFileSystem)


@pytest.mark.parametrize("loaded", [True, False])
def test_another_package_is_replaced_only_with_clobber(registered, loaded):
    classes, known = registered
    if loaded:
        classes["ipns"] = MemoryFileSystem
    else:
        known["ipns"] = {"class": "fsspec.implementations.memory.MemoryFileSystem", "err": ""}
    with pytest.raises(
        PluginConflictError, match=r"ipns:// is already served by .*MemoryFileSystem"
    ):
        register()
    assert "ipfs" not in classes
    register(clobber=True)
    assert fsspec.get_filesystem_class("ipns") is IPFSDatasetFileSystem
    assert fsspec.get_filesystem_class("ipfs") is IPFSDatasetFileSystem


def test_the_installed_package_serves_ipfsdataset_urls():
    assert fsspec.get_filesystem_class("ipfsdataset") is IPFSDatasetFileSystem
    points = importlib.metadata.distribution("ipfs-dataset-fsspec").entry_points
    assert [(p.group, p.name) for p in points] == [("fsspec.specs", "ipfsdataset")]


def test_errors_can_be_pickled():
    error = pickle.loads(pickle.dumps(ReadOnlyError("what, why, what to do")))
    assert (type(error), str(error)) == (ReadOnlyError, "what, why, what to do")


def test_coroutines_can_use_the_filesystem(fs, store):
    root = store.tree({"a.txt": b"some text", "b/c.bin": DATA})

    async def read():
        waiting = AsyncFileSystemWrapper(fs, asynchronous=True)
        listed = await waiting._ls(root, detail=False)
        whole = await waiting._cat_file(f"{root}/a.txt")
        spans = range(0, len(DATA), 1 << 20)
        parts = [waiting._cat_file(f"{root}/b/c.bin", at, at + (1 << 20)) for at in spans]
        return listed, whole, b"".join(await asyncio.gather(*parts))

    assert asyncio.run(read()) == ([f"{root}/a.txt", f"{root}/b"], b"some text", DATA)
