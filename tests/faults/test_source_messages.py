"""What sources answer is told so that a stranger knows what to do, and nothing secret or harmful is in it."""

from __future__ import annotations

import gzip
import json
import pickle
import socket
import warnings
from typing import TYPE_CHECKING

import attrs
import pytest

from ipfs_dataset.cli import main
from ipfs_dataset.ipfs_dataset import IPFSDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import IPFSDatasetError, TransportError, VerificationWarning
from ipfs_dataset_core.errors import printable
from ipfs_dataset_core.options import Options
from tests.support.api_server import ApiServer
from tests.support.builders import noise, one_file, tree
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import FaultServer, Plan

if TYPE_CHECKING:
    from tests.support.http_server import Request

DATA = bytes(600_000)
ROOT, BLOCKS = one_file(DATA, "unixfs-v0-2015")
FILE_ROOT, FILE_BLOCKS = tree({"a.bin": DATA, "page.html": b"<html>text</html>"})
TOKEN = "s3cret/token+value=="


def compressed(request: Request, plan: Plan) -> Plan:
    """Compresses an answer as a proxy does, which also forgets about ranges."""
    whole = plan.body if isinstance(plan.body, bytes) else b"".join(plan.body)
    headers = {**plan.headers, "Content-Encoding": "gzip"}
    if plan.status == 206:
        headers.pop("Content-Range")
        whole = DATA
    return attrs.evolve(plan, status=200, headers=headers, body=gzip.compress(whole, mtime=0))


def message_of(url: str, **arguments) -> str:
    dataset = IPFSDataset(IPFSObject(url, RemoteFileType.PLAIN), retries=0, **arguments)
    with pytest.raises(IPFSDatasetError) as caught:
        dataset[0]
    dataset.close()
    return str(caught.value)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("serve_raw", [True, False])
def test_a_gateway_that_compresses_is_named_as_such(verify, serve_raw):
    with GatewayServer(
        FILE_BLOCKS, fault=compressed, serve_raw=serve_raw, serve_car=serve_raw
    ) as server:
        message = message_of(f"{FILE_ROOT}/a.bin", gateways=server.url, verify=verify)
    assert "Content-Encoding: gzip" in message


@pytest.mark.parametrize("verify", [True, False])
def test_an_api_that_compresses_is_named_as_such(verify):
    with ApiServer(BLOCKS, fault=compressed) as server:
        message = message_of(str(ROOT), ipfs_api_address=server.multiaddr, verify=verify)
    assert "Content-Encoding: gzip" in message


def test_a_wrong_content_encoding_of_uncompressed_data_is_ignored():
    def labelled(_: Request, plan: Plan) -> Plan:
        return attrs.evolve(plan, headers={**plan.headers, "Content-Encoding": "gzip"})

    with GatewayServer(BLOCKS, fault=labelled) as server:
        dataset = IPFSDataset(IPFSObject(str(ROOT), RemoteFileType.PLAIN), gateways=server.url)
        assert dataset[0][1] == DATA


@pytest.mark.parametrize("told", ["0", "1213", "99999999", "x"])
def test_a_declared_file_size_without_the_bytes_is_not_trusted(told):
    def fault(request: Request, plan: Plan) -> Plan:
        if request.method == "HEAD":
            return attrs.evolve(plan, headers={**plan.headers, "Content-Length": told})
        return plan

    with GatewayServer(FILE_BLOCKS, fault=fault, serve_raw=False, serve_car=False) as server:
        for path, data in (("a.bin", DATA), ("page.html", b"<html>text</html>")):
            obj = IPFSObject(f"{FILE_ROOT}/{path}", RemoteFileType.PLAIN)
            dataset = IPFSDataset(obj, gateways=server.url, verify=False)
            assert dataset[0][1] == data


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 1-600000/600001"},
        {"Content-Range": "bytes 0-9/10"},
        {"Content-Type": "multipart/byteranges; boundary=x", "Content-Range": ""},
    ],
)
def test_another_range_than_was_asked_for_is_refused(headers):
    def fault(request: Request, plan: Plan) -> Plan:
        if plan.status == 206 and request.headers.get("range") != "bytes=0-0":
            return attrs.evolve(plan, headers={**plan.headers, **headers})
        return plan

    with GatewayServer(FILE_BLOCKS, fault=fault, serve_raw=False, serve_car=False) as server:
        message = message_of(f"{FILE_ROOT}/a.bin", gateways=server.url, verify=False)
    assert "bytes 0-599999" in message
    assert "answered HTTP 206" in message


@pytest.mark.parametrize("verify", [True, False])
def test_a_truncated_response_with_an_error_trailer_is_never_accepted_as_complete(verify):
    def cut(request: Request, plan: Plan) -> Plan:
        if not isinstance(plan.body, bytes) or request.path.endswith("config"):
            return plan
        half = plan.body[: len(plan.body) // 2]
        return Plan(body=half, trailers={"X-Stream-Error": "context deadline exceeded"})

    with ApiServer(BLOCKS, fault=cut) as server:
        message = message_of(str(ROOT), ipfs_api_address=server.multiaddr, verify=verify)
    assert "context deadline exceeded" in message


STATUSES = {
    401: "auth='bearer:TOKEN'",
    403: "check auth=",
    404: "add a source that has it",
    429: "max_rate=",
    500: "try again later",
    502: "try again later",
    503: "overloaded or being restarted",
    504: "try again later",
}


@pytest.mark.parametrize(("status", "advice"), STATUSES.items())
def test_a_gateway_s_status_comes_with_advice(status, advice):
    with GatewayServer({}, fault=lambda *_: Plan(status=status, body=b"no")) as server:
        message = message_of(str(ROOT), gateways=server.url)
    assert f"HTTP {status}" in message
    assert advice in message


@pytest.mark.parametrize(
    ("status", "advice"),
    {**STATUSES, 401: "check auth=", 404: "gateways=['http://", 500: "HTTP 500"}.items(),
)
def test_an_api_s_status_comes_with_advice(status, advice):
    with ApiServer({}, fault=lambda *_: Plan(status=status, body=b"no")) as server:
        message = message_of(str(ROOT), ipfs_api_address=server.multiaddr)
    assert f"HTTP {status}" in message
    assert advice in message


@pytest.mark.parametrize(
    ("status", "advice"), {s: a for s, a in STATUSES.items() if s != 404}.items()
)
def test_a_router_s_status_comes_with_advice(status, advice):
    with FaultServer(lambda _: Plan(status=status, body=b"no")) as server:
        message = message_of(str(ROOT), routers=server.url)
    assert f"HTTP {status}" in message
    assert advice in message


def test_the_error_says_that_a_router_found_no_providers():
    with FaultServer(lambda _: Plan(status=404, body=b"no")) as server:
        message = message_of(str(ROOT), routers=server.url)
    assert "knows no provider" in message
    assert "add a source that has it" in message


def test_an_api_given_as_a_gateway_and_a_gateway_given_as_an_api_are_recognised():
    with ApiServer(BLOCKS) as api, GatewayServer(BLOCKS) as gateway:
        as_gateway = message_of(str(ROOT), gateways=api.url)
        as_api = message_of(str(ROOT), ipfs_api_address=gateway.multiaddr)
        assert f"ipfs_api_address='{api.url}'" in as_gateway
        assert f"gateways=['{gateway.url}']" in as_api


def test_nothing_listens_at_the_address_of_a_node(tmp_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"/ip4/127.0.0.1/tcp/{free.getsockname()[1]}"
        for one in (address, f"/unix/{tmp_path}/sock"):
            message = message_of(str(ROOT), ipfs_api_address=one)
            assert "no node is running at" in message
            assert "`ipfs daemon`" in message
        assert main(["doctor", f"ipfs://{ROOT}/x", "--api", address]) == 1
    shown = capsys.readouterr().out
    assert "start it with `ipfs daemon`" in shown
    assert "has it         not known" in shown
    assert "trustless      not tried" in shown
    assert "No source has the object" not in shown


def test_doctor_distinguishes_a_rate_limit_from_a_missing_block(capsys):
    with GatewayServer(BLOCKS, fault=lambda *_: Plan(status=429)) as server:
        assert main(["doctor", str(ROOT), "--gateway", server.url]) == 1
    shown = capsys.readouterr().out
    assert "max_rate=" in shown
    assert "No source has the object" not in shown
    with GatewayServer({}) as server:
        assert main(["doctor", str(ROOT), "--gateway", server.url]) == 1
    assert "No source has the object" in capsys.readouterr().out


HARMFUL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp"


@pytest.mark.parametrize("command", ["doctor", "bench"])
def test_no_escape_sequence_of_a_server_reaches_a_terminal(command, capsys):
    answer = Plan(status=500, body=HARMFUL.encode())
    with GatewayServer(BLOCKS, fault=lambda *_: answer) as server:
        assert main([command, str(ROOT), "--gateway", server.url]) != 0
    shown = "".join(capsys.readouterr())
    assert "owned" in shown
    assert shown == printable(shown)


def test_no_escape_sequence_of_a_name_is_in_an_error():
    root, blocks = tree(
        {f"{HARMFUL}.zip": b"PK no archive", "metadata.txt": f"{HARMFUL}.zip".encode()}
    )
    with GatewayServer(blocks) as server:
        dataset = IPFSDataset(IPFSObject(str(root), RemoteFileType.FOLDER), gateways=server.url)
        with pytest.raises(IPFSDatasetError) as caught:
            dataset[0]
    assert str(caught.value) == printable(str(caught.value))


def test_errors_keep_their_lines_and_escape_the_rest():
    assert str(TransportError("a\n\tb\x1b[1m\x00\udcff")) == "a\n\tb\\x1b[1m\\x00\\udcff"


def echoes(where: str):
    """Returns an answer that quotes the request, as debug proxies do."""

    def fault(request: Request, plan: Plan) -> Plan:
        said = f"got {request.headers.get('authorization')} {request.headers.get('x-key')}"
        if where == "trailer":
            return Plan(body=b"x", trailers={"X-Stream-Error": said})
        if where == "body":
            return Plan(status=500, body=said.encode())
        if where == "json":
            escaped = "".join(f"\\u{ord(c):04x}" for c in said)
            return Plan(status=500, body=f'{{"Message": "{escaped}"}}'.encode())
        if where == "range":
            return Plan(status=206, headers={"Content-Range": said}, body=b"x")
        if where == "encoding":
            return Plan(headers={"Content-Encoding": said}, body=b"x")
        return Plan(status=200, headers={"Content-Type": said}, body=b"x")

    return fault


@pytest.mark.parametrize(
    ("where", "verify"),
    # Without verification the last one's answer is a sample like any.
    [(w, v) for w in ("trailer", "body", "json", "range", "encoding") for v in (True, False)]
    + [("type", True)],
)
def test_credentials_quoted_by_a_server_are_not_shown(where, verify):
    secrets = {"auth": f"bearer:{TOKEN}", "headers": {"X-Key": "another-secret"}}
    with (
        GatewayServer(BLOCKS, fault=echoes(where)) as gateway,
        ApiServer(BLOCKS, fault=echoes(where)) as api,
    ):
        messages = [
            message_of(str(ROOT), gateways=gateway.url, verify=verify, **secrets),
            message_of(str(ROOT), ipfs_api_address=api.multiaddr, verify=verify, **secrets),
        ]
    for message in messages:
        assert TOKEN not in message
        assert "another-secret" not in message


def test_disabling_verification_by_the_environment_is_reported():
    with pytest.warns(
        VerificationWarning, match="IPFS_DATASET_VERIFY=0 is set, so nothing is verified"
    ):
        assert not Options.from_arguments({}, {"IPFS_DATASET_VERIFY": "0"}).verify
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Options.from_arguments({"verify": False}, {"IPFS_DATASET_VERIFY": "0"})
        Options.from_arguments({"verify": True}, {"IPFS_DATASET_VERIFY": "0"})
        Options.from_arguments({}, {"IPFS_DATASET_VERIFY": "1"})
    assert json.dumps(str(noise(1)))


def test_a_pickled_dataset_contains_credentials_unless_a_function_returns_them():
    """The documentation of tokens says both."""
    with_token = IPFSDataset(str(ROOT), gateways="http://127.0.0.1:1", auth=f"bearer:{TOKEN}")
    assert TOKEN.encode() in pickle.dumps(with_token)
    with_function = IPFSDataset(str(ROOT), gateways="http://127.0.0.1:1", auth=token_of_a_module)
    assert TOKEN.encode() not in pickle.dumps(with_function)


def token_of_a_module() -> str:
    return f"bearer:{TOKEN}"
