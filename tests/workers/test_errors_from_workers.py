"""What goes wrong in a DataLoader worker arrives whole: class, CID, bytes, what each source said."""

from __future__ import annotations

import pickle
import re
import weakref

import pytest
from torch.utils.data import DataLoader

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import (
    FormatError,
    LimitError,
    ObjectNotFoundError,
    RateLimitedError,
    TransportError,
    TransportTimeoutError,
    VerificationError,
)
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.reading import connections
from tests.support.builders import noise, one_file, tree, zip_bytes
from tests.support.fault_plans import SUNSET
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import Plan, rate_limited
from tests.support.workers import as_it_is

# The machine may have fewer cores than a test has workers, and threads beside a fork are the point here.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

METHODS = ["fork", "forkserver"]
DATA = noise(2_000_000)
ROOT, BLOCKS = one_file(DATA)


def caught_in_worker(dataset, method, kind):
    # A sampler of its own keeps the DataLoader from asking for the length, in this process.
    sampler = [0] if isinstance(dataset, IPFSDataset) else None
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=1,
        multiprocessing_context=method,
        collate_fn=as_it_is,
    )
    with pytest.raises(kind) as caught:
        list(loader)
    assert type(caught.value) is kind
    return str(caught.value)


def line_of(message, server):
    """Returns the line of a message on which a source is quoted."""
    [line] = [line for line in message.splitlines() if server.url in line]
    return line.strip()


def flipped(request, plan):
    return Plan(body=bytes(len(plan.body)), headers=plan.headers)


@pytest.mark.parametrize(
    ("kind", "method"),
    [(IPFSDataset, "fork"), *((IPFSIterableDataset, method) for method in METHODS)],
)
def test_every_source_is_quoted_on_a_line_of_its_own(kind, method):
    with (
        GatewayServer({}) as empty,
        GatewayServer(BLOCKS, fault=lambda *_: Plan(status=503, body=b"come\nback later")) as busy,
        GatewayServer(
            BLOCKS, fault=lambda *_: Plan(status=429, headers={"Sunset": SUNSET})
        ) as over,
    ):
        servers = (empty, busy, over)
        dataset = kind(
            IPFSObject(f"ipfs://{ROOT}", RemoteFileType.PLAIN),
            gateways=[server.url for server in servers],
            retries=0,
        )
        message = caught_in_worker(dataset, method, TransportError)
        dataset.close()
    assert f"No source delivered block {ROOT}:" in message
    assert "HTTP 404" in line_of(message, empty)
    assert "HTTP 503 come back later" in line_of(message, busy)
    assert "this service has ended" in line_of(message, over)


@pytest.mark.parametrize("method", METHODS)
def test_wrong_bytes_arrive_as_verification_errors(method):
    with GatewayServer(BLOCKS, fault=flipped) as server:
        dataset = IPFSDataset(f"ipfs://{ROOT}", gateways=server.url, retries=0)
        message = caught_in_worker(dataset, method, VerificationError)
    assert str(ROOT) in message
    assert line_of(message, server)


# The class, the fault, the timeout in seconds, and what is said. Only silence needs a short timeout: a
# busy machine may take a while to answer.
FAILURES = [
    (RateLimitedError, lambda *_: rate_limited("100"), 20, "HTTP 429"),
    (TransportTimeoutError, lambda _, plan: Plan(delay=2), 0.3, "nothing came in time"),
]


@pytest.mark.parametrize(("kind", "fault", "timeout", "words"), FAILURES)
def test_the_class_of_an_error_is_the_common_one_of_all_sources(kind, fault, timeout, words):
    with GatewayServer(BLOCKS, fault=fault) as server:
        dataset = IPFSIterableDataset(
            f"ipfs://{ROOT}", gateways=server.url, retries=0, timeout=timeout
        )
        message = caught_in_worker(dataset, "fork", kind)
    assert str(ROOT) in message
    assert words in line_of(message, server)


def test_errors_of_the_data_arrive_with_the_object():
    root, blocks = tree({"a.zip": zip_bytes({"x": b"1"})[:-5], "b.txt": DATA})
    url = f"ipfs://{root}"
    with GatewayServer(blocks) as server:
        for path, kind, limits, words in (
            ("a.zip", FormatError, Limits(), "a.zip"),
            ("no.txt", ObjectNotFoundError, Limits(), "no.txt"),
            ("b.txt", LimitError, Limits(read_bytes=1000), "limits=Limits(read_bytes="),
        ):
            dataset = IPFSIterableDataset(f"{url}/{path}", gateways=server.url, limits=limits)
            message = caught_in_worker(dataset, "fork", kind)
            assert words in message
            assert str(root) in message


@pytest.mark.parametrize("method", METHODS)
def test_unverified_bytes_are_named_with_their_range(method):
    """Without verification bytes are asked for by path, and the range is all that there is to name."""
    path = f"{tree({'b.txt': DATA})[0]}/b.txt"

    def cut(request, plan):
        asks_for_bytes = request.headers.get("range", "bytes=0-0") != "bytes=0-0"  # not the size
        return Plan(status=503) if asks_for_bytes else plan

    blocks = tree({"b.txt": DATA})[1]
    with GatewayServer(blocks, fault=cut, serve_raw=False, serve_car=False) as server:
        dataset = IPFSIterableDataset(
            IPFSObject(f"ipfs://{path}", RemoteFileType.PLAIN),
            gateways=server.url,
            verify=False,
            retries=0,
        )
        message = caught_in_worker(dataset, method, TransportError)
    assert re.search(rf"bytes 0-\d+ of /ipfs/{path}", message)
    assert "HTTP 503" in line_of(message.partition("\n")[2], server)


@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
def test_an_open_file_is_returned_although_a_handler_cannot_be_pickled(kind):
    with GatewayServer(BLOCKS) as server:
        obj = IPFSObject(f"{server.url}/ipfs/{ROOT}", RemoteFileType.PLAIN_STREAM)
        dataset = kind(obj, handler=lambda _: False)
        loader = DataLoader(
            dataset,
            batch_size=None,
            num_workers=1,
            multiprocessing_context="fork",
            collate_fn=as_it_is,
        )
        [(_, file)] = loader
        assert file.read() == DATA
        dataset.close()


def test_using_an_open_file_of_an_unpicklable_dataset_elsewhere_explains_it(monkeypatch):
    with GatewayServer(BLOCKS) as server:
        obj = IPFSObject(f"{server.url}/ipfs/{ROOT}", RemoteFileType.PLAIN_STREAM)
        dataset = IPFSIterableDataset(obj, handler=lambda _: False)
        [(_, file)] = dataset
        packed = pickle.dumps(file)
        monkeypatch.setattr(connections, "_living", weakref.WeakValueDictionary())
        with pytest.raises(TransportError, match=r"do not pickle.*handler="):
            pickle.loads(packed)
        dataset.close()
