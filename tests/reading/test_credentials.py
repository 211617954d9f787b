"""Tokens and passwords: they reach their own source, from workers too, and are seen nowhere else."""

from __future__ import annotations

import base64
import io
import logging
import pickle
from contextlib import ExitStack
from typing import Any

import pytest
from torch.utils.data import DataLoader

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import FormatError, IPFSDatasetError, Options
from ipfs_dataset_core.reading.connections import Connections
from tests.support.api_server import ApiServer
from tests.support.builders import noise, one_file, tree, zip_bytes
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import FaultServer, Plan
from tests.support.workers import as_it_is

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

SECRETS = ("qs3cret", "upa55", "us3r", "as3cret", "hs3cret", "cs3cret")
MEMBERS = {f"{n}.bin": noise(100_000, n) for n in range(4)}
ROOT, BLOCKS = one_file(zip_bytes(MEMBERS))


def fresh_token():
    return "bearer:cs3cret"


def seen(request):
    """Returns everything that a server saw of a request."""
    basic = request.headers.get("authorization", "").partition("Basic ")[2]
    return f"{request} {base64.b64decode(basic)!r}"


def secrets_in(text):
    return {secret for secret in SECRETS if secret in text}


def sent_to(server):
    assert server.requests
    return set.union(*(secrets_in(seen(request)) for request in server.requests))


def read(kind=IPFSDataset, obj=None, address=None, **options):
    dataset = kind(obj or IPFSObject(f"ipfs://{ROOT}", RemoteFileType.ZIP), address, **options)
    try:
        samples = (
            iter(dataset) if kind is IPFSIterableDataset else map(dataset.__getitem__, range(4))
        )
        assert list(samples) == list(MEMBERS.items())
    finally:
        dataset.close()


def without_roots(request, plan):
    """Makes a source be asked, and the next one too."""
    return Plan(status=404)


@pytest.fixture
def servers():
    """Three gateways, the last one with the data: all of them are asked."""
    with ExitStack() as stack:
        enter = stack.enter_context
        yield [
            enter(GatewayServer({}, fault=without_roots)),
            enter(GatewayServer({}, fault=without_roots)),
            enter(GatewayServer(BLOCKS)),
        ]


@pytest.mark.parametrize("auth", ["bearer:as3cret", "basic:us3r:as3cret", fresh_token])
def test_a_lone_auth_goes_to_the_first_gateway_only(servers, auth):
    first, second, last = servers
    read(gateways=[s.url for s in servers], auth=auth, retries=0)
    assert sent_to(first) & {"as3cret", "cs3cret"}
    assert not sent_to(second) | sent_to(last)


def test_a_lone_auth_goes_to_the_address_where_there_is_one(servers):
    with ApiServer({}) as api:
        read(
            address=api.multiaddr,
            gateways=[s.url for s in servers],
            auth="bearer:as3cret",
            retries=0,
        )
        assert sent_to(api) == {"as3cret"}
    assert not set.union(*map(sent_to, servers))


def test_a_mapping_gives_each_source_its_own_credentials(servers):
    first, second, last = servers
    with ApiServer({}) as api:
        read(
            address=api.multiaddr,
            gateways=[f"{second.url}?token=qs3cret", first.url, last.url],
            auth={api.multiaddr: "basic:us3r:upa55", f"{second.url}/": fresh_token},
            headers={last.url: {"X-Key": "hs3cret"}},
            retries=0,
        )
        assert sent_to(api) == {"us3r", "upa55"}
    assert sent_to(second) == {"cs3cret", "qs3cret"}
    assert not sent_to(first)
    assert sent_to(last) == {"hs3cret"}


def test_credentials_in_a_url_go_to_its_host(servers):
    first, second, last = servers
    inside = second.url.replace("//", "//us3r:upa55@")
    read(gateways=[f"{first.url}?token=qs3cret", inside, last.url], retries=0)
    assert sent_to(first) == {"qs3cret"}
    assert sent_to(second) == {"us3r", "upa55"}
    assert not sent_to(last)


def test_the_gateway_of_one_object_never_gets_the_credentials_of_another(servers):
    last = servers[2]
    one, blocks = tree({"a.txt": b"a"})
    with GatewayServer(blocks) as other:
        objects: list[IPFSObject | str] = [
            f"{other.url}/ipfs/{one}/a.txt?token=qs3cret",
            IPFSObject(f"{last.url}/ipfs/{ROOT}", RemoteFileType.ZIP),
        ]
        dataset = IPFSDataset(objects, auth="bearer:as3cret", retries=0)
        assert dataset[0][1] == b"a"
        assert dataset[1] == next(iter(MEMBERS.items()))
        dataset.close()
        assert sent_to(other) == {"as3cret", "qs3cret"}
    assert not sent_to(last)


def test_sources_of_the_environment_get_nothing(servers, monkeypatch):
    monkeypatch.setenv("IPFS_GATEWAY", servers[2].url)
    read(auth="bearer:as3cret", headers={"X-Key": "hs3cret"})
    assert not sent_to(servers[2])


def test_neither_routers_nor_providers_get_credentials_of_sources():
    with FaultServer(lambda _: Plan(body=b'{"Providers": []}')) as router, ApiServer(BLOCKS) as api:
        answers = {"retries": 0, "auth": "bearer:as3cret", "routers": [router.url]}
        read(address=api.multiaddr, **answers)
        with ApiServer({}) as empty, pytest.raises(IPFSDatasetError):
            read(address=empty.multiaddr, **answers)
        assert not sent_to(router)


@pytest.mark.parametrize("found", [False, True])
@pytest.mark.parametrize("how", ["gateways", "url"])
def test_importing_sends_credentials_to_named_sources_and_not_to_a_discovered_node(
    monkeypatch, tmp_path, found, how
):
    if found:
        monkeypatch.setenv("IPFS_PATH", str(tmp_path))
    with GatewayServer(BLOCKS) as server, ApiServer({}) as api, GatewayServer({}) as other:
        (tmp_path / "api").write_text(api.multiaddr)
        (tmp_path / "gateway").write_text(other.url)
        gateways = [server.url] if how == "gateways" else []
        url = f"ipfs://{ROOT}" if gateways else f"{server.url}/ipfs/{ROOT}"
        exporter = IPFSDatasetExporter(
            auth="bearer:as3cret", headers={"X-Key": "hs3cret"}, retries=0, gateways=gateways
        )
        with pytest.raises(FormatError):
            exporter.import_from_ipfs(url)
        assert "as3cret" in sent_to(server)
        assert bool(api.requests) is found
        for request in (*api.requests, *other.requests):
            assert not secrets_in(seen(request))


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_use_the_credentials(method):
    with GatewayServer(BLOCKS) as server:
        dataset = IPFSIterableDataset(
            IPFSObject(f"ipfs://{ROOT}", RemoteFileType.ZIP),
            gateways=f"{server.url}?token=qs3cret",
            auth=fresh_token,
            headers={"X-Key": "hs3cret"},
        )
        loader = DataLoader(
            dataset,
            batch_size=None,
            num_workers=2,
            multiprocessing_context=method,
            collate_fn=as_it_is,
        )
        assert sorted(loader) == sorted(MEMBERS.items())
        for request in server.requests:
            assert secrets_in(seen(request)) == {"qs3cret", "cs3cret", "hs3cret"}


KINDS = {
    "gone": lambda _, plan: Plan(
        status=404, body=b"token qs3cret of us3r:upa55 with as3cret hs3cret"
    ),
    "refused": lambda _, plan: Plan(status=403, body=b"no"),
    "busy": lambda _, plan: Plan(status=503),
    "limited": lambda _, plan: Plan(status=429, headers={"Retry-After": "50"}),
    "lying": lambda _, plan: Plan(body=b"wrong", headers=plan.headers),
    "leading away": lambda request, plan: Plan(
        status=302, headers={"Location": f"https://127.0.0.1:1/{request.query}"}
    ),
    "leading on": lambda request, plan: Plan(
        status=302, headers={"Location": f"{request.path}/?x={request.query.get('token')}"}
    ),
    "cut": lambda _, plan: Plan(cut_at=-1),
    "silent": lambda _, plan: Plan(delay=1),
}


def texts_of(error):
    """Returns the text of an error and of all that led to it."""
    found = []
    while error is not None:
        found += [str(error), repr(error), str(vars(error))]
        error = error.__cause__ or error.__context__
    return found


def with_secrets(url):
    return url.replace("//", "//us3r:upa55@") + "?token=qs3cret"


@pytest.mark.parametrize(
    ("kind", "verify"),
    [*((kind, True) for kind in KINDS), *((kind, False) for kind in KINDS if kind != "lying")],
)
def test_failures_show_no_credentials(kind, verify, caplog):
    caplog.set_level(logging.DEBUG)
    with GatewayServer(BLOCKS, fault=KINDS[kind]) as server:
        obj = f"{with_secrets(server.url).partition('?')[0]}/ipfs/{ROOT}?token=qs3cret"
        for source in (IPFSObject(obj, RemoteFileType.ZIP), f"ipfs://{ROOT}"):
            options = Options(
                gateways=[with_secrets(server.url)],
                headers={"X-Key": "hs3cret"},
                auth={server.url: "bearer:as3cret"},
                timeout=0.3,
                retries=0,
                verify=verify,
            )
            names = ("gateways", "headers", "auth", "timeout", "retries", "verify")
            dataset = IPFSIterableDataset(source, **{n: getattr(options, n) for n in names})
            shown = [repr(dataset), str(options), repr(options)]
            with pytest.raises(IPFSDatasetError) as caught:
                list(dataset)
            dataset.close()
            assert server.requests
            shown += texts_of(caught.value)
            shown.append(caplog.text)
            # The server quotes what it was sent, and a token that it was not, which nobody looks for; a
            # user's name alone opens nothing.
            expected = {"us3r", "as3cret"} if kind == "gone" else set()
            assert secrets_in("\n".join(shown)) <= expected


def test_successful_reads_show_no_credentials(caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with GatewayServer(BLOCKS) as server, ApiServer(BLOCKS) as api:
        url = f"{with_secrets(server.url).partition('?')[0]}/ipfs/{ROOT}?token=qs3cret"
        obj = IPFSObject(url, RemoteFileType.ZIP)
        given: dict[str, Any] = {"auth": fresh_token, "headers": {"X-Key": "hs3cret"}}
        inside = api.url.replace("//", "//us3r:upa55@")
        for address, options in ((None, given), (inside, {})):
            read(IPFSIterableDataset, obj, address, **options)
            assert not secrets_in(repr(Connections(address, Options(**options))))
        assert sent_to(server) >= {"us3r", "upa55", "qs3cret"}
        assert sent_to(api) == {"us3r", "upa55"}
    assert not secrets_in(caplog.text + "".join(capfd.readouterr()))


@pytest.mark.parametrize(
    "value",
    [
        IPFSObject("https://us3r:upa55@gw.example/ipfs/bafkqaaa?token=qs3cret"),
        Options(gateways="https://us3r:upa55@gw.example?token=qs3cret"),
        Options(routers="https://us3r:upa55@r.example?token=qs3cret"),
        Options(auth="bearer:as3cret", headers={"X-Key": "hs3cret"}),
        Options(auth={"https://gw.example": "basic:us3r:upa55"}),
        Options(headers={"https://gw.example": {"X-Key": "hs3cret"}}),
    ],
)
def test_a_repr_shows_no_credentials(value):
    assert not secrets_in(repr(value) + str(value))


def test_unusable_addresses_and_auths_are_refused_without_being_shown():
    for options in (
        {"gateways": "https://us3r:upa55@gw.example:port?token=qs3cret"},
        {"gateways": "https://us3r:upa55@/?token=qs3cret"},
        {"gateways": "https://us3r:up a55@gw.example"},
        {"gateways": "http://127.0.0.1:9", "auth": "as3cret"},
        {"gateways": "http://127.0.0.1:9", "auth": "bearer:as3cret\r\nX: y"},
    ):
        with pytest.raises(IPFSDatasetError) as caught:
            read(retries=0, **options)
        assert not secrets_in("\n".join(texts_of(caught.value)))


def test_a_plain_sample_is_named_without_the_token():
    with GatewayServer(BLOCKS) as server:
        url = f"{with_secrets(server.url).partition('?')[0]}/ipfs/{ROOT}?token=qs3cret"
        dataset = IPFSDataset(IPFSObject(url, RemoteFileType.PLAIN))
        name, _ = dataset[0]
        dataset.close()
    assert str(ROOT) in name
    assert not secrets_in(name)


def test_a_pickled_dataset_contains_credentials_and_its_state_dict_does_not():
    with GatewayServer(BLOCKS) as server:
        dataset = IPFSIterableDataset(
            IPFSObject(f"ipfs://{ROOT}", RemoteFileType.ZIP),
            gateways=server.url,
            auth="bearer:as3cret",
        )
        list(dataset)
        assert b"as3cret" in pickle.dumps(dataset)
        if hasattr(dataset, "state_dict"):
            buffer = io.BytesIO()
            pickle.dump(dataset.state_dict(), buffer)
            assert b"as3cret" not in buffer.getvalue()
        dataset.close()
