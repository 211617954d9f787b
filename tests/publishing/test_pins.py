"""Pins of nodes and stores: listed, added, removed; what no pin needs is cleaned up, beside writers too."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from ipfs_dataset_core import (
    CID,
    AddressError,
    FormatError,
    ObjectNotFoundError,
    Options,
    Pin,
    TransportError,
    add_pin,
    clean_store,
    list_pins,
    remove_pin,
)
from ipfs_dataset_core.interfaces.dataset_card import DatasetCard
from ipfs_dataset_core.ipld import RAW, links, make_cid
from ipfs_dataset_core.publishing.exporter import IPFSDatasetExporter
from ipfs_dataset_core.reading.connections import connect
from ipfs_dataset_core.toolkit.block_files import BlockFiles
from ipfs_dataset_plugins.api.transport import ApiTransport
from ipfs_dataset_plugins.store import FolderStore
from tests.support.http_server import FaultServer, Plan
from tests.support.stores import blocks_in

ABSENT = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
SAMPLES = [bytes([number]) * 100_000 for number in range(30)]


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def export(address, samples=SAMPLES, **more):
    return IPFSDatasetExporter(address, shard_bytes=1 << 20).export_to_ipfs(samples, **more)


def test_pins_of_a_store_have_names(store):
    first = export(store, name="cifar10")
    second = export(store, SAMPLES[:3])
    assert list_pins(store) == [
        Pin(cid=CID.parse(second)),
        Pin(cid=CID.parse(first), name="cifar10"),
    ]
    add_pin(f"ipfs://{second}", store, name="small ü")
    export(store)
    assert {pin.name for pin in list_pins(store)} == {"cifar10", "small ü"}
    remove_pin(first, str(store))
    assert [str(pin.cid) for pin in list_pins(store)] == [second]
    with pytest.raises(ObjectNotFoundError, match=f"{first} is not pinned"):
        remove_pin(first, store)


def test_the_exporter_has_a_name_for_all_its_pins(store):
    exporter = IPFSDatasetExporter(store, name="mine")
    exporter.export_to_ipfs([1])
    exporter.export_to_ipfs([2], name="other")
    assert [pin.name for pin in list_pins(store)] == ["mine", "other"]


def test_the_error_for_transports_without_pins_names_them(store, tmp_path):
    with pytest.raises(AddressError, match="has no pins: give a node"):
        list_pins(store)
    export(tmp_path / "a.car", name="ignored")
    with pytest.raises(AddressError, match="has no pins"):
        list_pins(tmp_path / "a.car")
    export(store)
    with pytest.raises(AddressError, match="without a path"):
        add_pin(f"ipfs://{ABSENT}/a", store)
    with pytest.raises(ObjectNotFoundError, match="cannot pin"):
        add_pin(ABSENT, store)


def test_pins_of_a_node_have_names(kubo):
    cid = export(kubo.api, name="cifar 10 & co")
    assert Pin(cid=CID.parse(cid), name="cifar 10 & co") in list_pins(kubo.api)
    add_pin(cid, kubo.api, name="new")
    assert Pin(cid=CID.parse(cid), name="new") in list_pins(kubo.api)
    remove_pin(cid, kubo.api)
    assert cid not in {str(pin.cid) for pin in list_pins(kubo.api)}
    with pytest.raises(ObjectNotFoundError, match="not pinned"):
        remove_pin(cid, kubo.api)


def test_names_of_pins_are_as_long_as_a_node_allows(kubo):
    cid = export(kubo.api, name="x")
    longest = "x" + 127 * "é"
    add_pin(cid, kubo.api, name=longest)
    assert Pin(cid=CID.parse(cid), name=longest) in list_pins(kubo.api)
    with pytest.raises(AddressError, match="256 bytes, more than 255"):
        add_pin(cid, kubo.api, name=longest + "x")
    assert Pin(cid=CID.parse(cid), name=longest) in list_pins(kubo.api)


ONE = make_cid(b"one", RAW)


def lines(*values):
    return "".join(json.dumps(value) + "\n" for value in values).encode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", []),
        (lines({"Cid": str(ONE), "Name": "n", "Type": "recursive"}), [Pin(cid=ONE, name="n")]),
        (lines({"Cid": str(ONE), "Type": "recursive"}), [Pin(cid=ONE)]),
        (lines({"Keys": {str(ONE): {"Type": "recursive"}}}), [Pin(cid=ONE)]),
        (lines({"Keys": {}}), []),
        (lines({"Cid": str(ONE), "Name": None}), [Pin(cid=ONE)]),
    ],
)
def test_lists_of_pins_of_every_node_are_read(body, expected):
    assert pins_of(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        lines({"Cid": "no CID"}),
        lines([]),
        lines({}),
        lines({"Keys": []}),
        lines({"Keys": {str(ONE): 3}}),
        b"no JSON",
        b"[" * 5000,
    ],
)
def test_an_invalid_list_of_pins_is_a_typed_error(body):
    with pytest.raises(TransportError, match="pin/ls"):
        pins_of(body)


def pins_of(body):
    with FaultServer(lambda _: Plan(body=body)) as server:
        transport = ApiTransport(server.multiaddr, Options(timeout=5))
        try:
            return list(transport.pins())
        finally:
            transport.close()


def test_a_node_without_names_of_pins_is_logged(caplog):
    def node(request):
        if request.path.endswith("pin/ls"):
            return Plan(body=lines({"Keys": {str(ONE): {"Type": "recursive"}}}))
        return Plan(body=lines({"Pins": [str(ONE)]}))

    with FaultServer(node) as server:
        add_pin(str(ONE), server.multiaddr, name="mine")
        assert server.requests[0].query["name"] == "mine"
    assert "does not support names of pins, so 'mine' is lost" in caplog.text


def test_a_clean_up_removes_blocks_without_a_pin(store):
    kept = export(store, name="kept")
    before = dict(blocks_in(store))
    gone = export(store, [bytes([number]) * 90_000 for number in range(30)])
    remove_pin(gone, store)
    (store / "blocks" / "aa").mkdir(exist_ok=True)
    abandoned = store / "blocks" / "aa" / ".tmp-0123456789abcdef"
    abandoned.write_bytes(b"what a killed writer left")
    planned = clean_store(store, dry_run=True)
    assert planned.removed_blocks > 0
    assert len(dict(blocks_in(store))) == len(before) + planned.removed_blocks
    assert abandoned.exists()
    assert clean_store(store) == planned
    assert dict(blocks_in(store)) == before
    assert not abandoned.exists()
    assert planned.needed_blocks == len(before)
    assert clean_store(store).removed_blocks == 0
    assert list(IPFSDatasetExporter(store).import_from_ipfs(kept)) == SAMPLES


def test_a_clean_up_that_may_not_remove_a_block_is_an_error_and_can_be_repeated(store, monkeypatch):
    remove_pin(export(store), store)
    really_unlink = os.unlink
    refused: list[str] = []

    def unlink(path, **named):
        if not refused and str(path).startswith("baf"):
            refused.append(path)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        really_unlink(path, **named)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(
        TransportError, match=r"cannot be cleaned up: .*denied.*Give this user access"
    ):
        clean_store(store)
    assert [str(cid) for cid, _ in blocks_in(store)] == refused
    assert clean_store(store).removed_blocks == 1


def test_a_pin_that_may_not_be_removed_is_an_error_with_advice(store, monkeypatch):
    cid = export(store)

    def refuse(path, **_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(
        TransportError, match=rf"pin of {cid}: .*Give this user access to '.*store'"
    ):
        remove_pin(cid, store)
    assert list_pins(store) == [Pin(cid=CID.parse(cid))]


def test_blocks_pinned_singly_are_kept_without_their_links(store):
    cid = export(store)
    remove_pin(cid, store)
    root = CID.parse(cid)
    with closing(FolderStore(store)) as writer:
        writer.pin_blocks([root])
    assert list_pins(store) == [Pin(cid=root, kind="direct")]
    assert clean_store(store).needed_blocks == 1
    assert [found.multihash for found, _ in blocks_in(store)] == [root.multihash]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks of this kind")
def test_a_clean_up_removes_nothing_while_something_is_published(store):
    export(store)
    writer = FolderStore(store)
    block = b"on its way"
    cid = make_cid(block, RAW)
    writer.put_blocks([(cid, block)])
    with pytest.raises(TransportError, match="being published to by another process") as caught:
        clean_store(store)
    assert caught.value.retryable
    writer.pin(cid)
    writer.close()
    assert clean_store(store).removed_blocks == 0
    assert FolderStore(store).get_block(cid) == block


def test_blocks_that_a_writer_found_stay_until_they_are_pinned(store):
    cid = export(store)
    remove_pin(cid, store)
    writer = FolderStore(store)
    blocks = list(blocks_in(store))
    assert writer.lacking(blocks) == []
    with pytest.raises(TransportError, match="being published to"):
        clean_store(store)
    writer.close()
    assert clean_store(store).removed_blocks == len(blocks)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_worker_that_was_forked_while_something_was_published_does_not_hold_its_lock(store):
    writer = FolderStore(store)
    writer.put_blocks([(make_cid(b"kept by no pin", RAW), b"kept by no pin")])
    may_end, ended = multiprocessing.get_context("fork").Pipe()

    def work():
        # Its copy of the writer is closed first: that must not end the lock of the parent.
        writer.close()
        ended.send(b"closed")
        ended.poll(120)

    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    assert may_end.recv() == b"closed"
    with pytest.raises(TransportError, match="being published to"):
        clean_store(store)
    writer.close()
    assert clean_store(store).removed_blocks == 1
    assert worker.is_alive()
    may_end.send(b"")
    worker.join(60)
    assert worker.exitcode == 0


WRITER = """
import sys, time
from ipfs_dataset_plugins.store import FolderStore
from ipfs_dataset_core.interfaces.dataset_card import DatasetCard
from ipfs_dataset_core.ipld import RAW, links, make_cid
store = FolderStore(__import__("pathlib").Path(sys.argv[1]))
store.put_blocks([(make_cid(b"x" * 1000, RAW), b"x" * 1000)])
print("written", flush=True)
time.sleep(100)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_blocks_of_a_killed_writer_are_removed(store):
    kept = export(store)
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{WRITER}"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"written"
        with pytest.raises(TransportError, match="being published to"):
            clean_store(store)
        os.kill(process.pid, signal.SIGKILL)
    assert clean_store(store).removed_blocks == 1
    assert list(IPFSDatasetExporter(store).import_from_ipfs(kept)) == SAMPLES


def test_a_writer_waits_for_a_clean_up_and_writes_removed_blocks_again(store, monkeypatch):
    cid = export(store)
    remove_pin(cid, store)
    removing = BlockFiles.entries
    written = []

    def slowly(self, *arguments):
        thread = threading.Thread(target=lambda: written.append(export(store)))
        thread.start()
        written.append(thread)
        time.sleep(0.3)
        assert len(written) == 1
        return removing(self, *arguments)

    monkeypatch.setattr(BlockFiles, "entries", slowly)
    assert clean_store(store).removed_blocks > 0
    written[0].join(30)
    assert written[1] == cid
    assert list(IPFSDatasetExporter(store).import_from_ipfs(cid)) == SAMPLES


@pytest.mark.parametrize("damage", [os.unlink, lambda path: path.write_bytes(b"damaged")])
def test_nothing_is_removed_if_a_pinned_dag_is_damaged(store, damage):
    cid = export(store)
    unneeded = make_cid(b"unneeded", RAW)
    writer = FolderStore(store)
    writer.put_blocks([(unneeded, b"unneeded")])
    writer.close()
    damage(writer._files.path(CID.parse(cid)))
    before = dict(blocks_in(store))
    with pytest.raises(FormatError, match=f"the blocks that the pin {cid} needs are unknown"):
        clean_store(store)
    assert dict(blocks_in(store)) == before
    assert export(store) == cid
    assert clean_store(store).removed_blocks == 1


def test_only_a_store_is_cleaned_up(tmp_path, store):
    with pytest.raises(AddressError, match="is not a store"):
        clean_store(store)
    (store / "blocks").mkdir(parents=True)
    (store / "blocks" / "mine.txt").write_text("mine")
    with pytest.raises(AddressError, match="is not a store"):
        clean_store(store)
    assert (store / "blocks" / "mine.txt").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TransportError, match="cannot be cleaned up"):
        clean_store(tmp_path / "file")


@pytest.mark.parametrize("kind", ["store", "kubo"])
def test_blocks_pinned_by_assemble_are_one_pin(kind, store, request):
    address = store if kind == "store" else request.getfixturevalue("kubo").api
    exporter = IPFSDatasetExporter(address, shard_bytes=1 << 20)
    parts = [
        exporter.export_part(
            [f"{kind} {part} {number}" for number in range(3)], part=part, upload=False
        )
        for part in range(2)
    ]
    roots = [
        CID.parse(exporter.assemble(some, pin="direct", card=DatasetCard(name="Parts")))
        for some in (parts, parts[:1])
    ]
    of_blocks = {pin.cid: pin for pin in list_pins(address) if pin.kind == "direct"}
    assert {*roots} <= {*of_blocks}
    remove_pin(str(roots[0]), address)
    left = {pin.cid for pin in list_pins(address) if pin.kind == "direct"}
    assert left == {*of_blocks} - {roots[0]}
    # Blocks that both have, such as the README, are still pinned for the other.
    with closing(connect(str(address), Options())) as transport:
        pinned = {cid.multihash for cid in transport.pinned_blocks()}
        listed = links(roots[1], transport.get_block(roots[1]))
        assert {link.multihash for link in listed} <= pinned
    remove_pin(str(roots[1]), address)
    with pytest.raises(ObjectNotFoundError):
        remove_pin(str(roots[1]), address)
    assert not {*roots} & {pin.cid for pin in list_pins(address)}


@pytest.mark.parametrize("damage", [os.unlink, lambda path: path.write_bytes(b"damaged")])
def test_a_pin_is_not_removed_where_another_may_need_its_blocks(store, damage):
    exporter = IPFSDatasetExporter(store, shard_bytes=1 << 20)
    parts = [
        exporter.export_part([f"{part} {number}" for number in range(3)], part=part, upload=False)
        for part in range(2)
    ]
    whole, half = (CID.parse(exporter.assemble(some, pin="direct")) for some in (parts, parts[:1]))
    with closing(FolderStore(store)) as opened:
        path = opened._files.path(half)
        intact = path.read_bytes()
        before = sorted(map(str, opened.pinned_blocks()))
        damage(path)
        with pytest.raises(
            TransportError, match=f"because block {half}, which is pinned"
        ) as caught:
            remove_pin(str(whole), store)
        assert caught.value.retryable
        assert sorted(map(str, opened.pinned_blocks())) == before
        # That one can be removed, and then nothing else may need the blocks.
        if damage is os.unlink:
            path.write_bytes(intact)
        else:
            remove_pin(str(half), store)
    remove_pin(str(whole), store)
