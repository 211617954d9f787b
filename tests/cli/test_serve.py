"""``serve``: pages and files of a store or ``.car`` file, on this machine and for it alone."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from ipfs_dataset import load
from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.operations.local_gateway import LocalGateway, roots_at
from tests.support.builders import noise
from tests.support.cli import run
from tests.support.stores import Store

DATA = noise(3_000_000)
FILES = {
    "page/index.html": b"<h1>hello</h1>",
    "page/a.png": b"\x89PNG",
    "n/big.bin": DATA,
    "<b>.txt": b"t",
    "\udcff.txt": b"not UTF-8",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    cid = store.tree(FILES)
    with LocalGateway(store.address, roots=(cid,)) as gateway:
        threading.Thread(target=gateway.serve_forever, daemon=True).start()
        yield f"{gateway.url}", cid
        gateway.shutdown()


def test_files_pages_and_listings(served):
    url, cid = served
    page = requests.get(f"{url}/ipfs/{cid}/page/", timeout=60)
    assert (page.text, page.headers["Content-Type"]) == (
        "<h1>hello</h1>",
        "text/html; charset=utf-8",
    )
    assert requests.get(f"{url}/ipfs/{cid}/page", timeout=60).url.endswith("/page/")
    picture = requests.get(f"{url}/ipfs/{cid}/page/a.png", timeout=60)
    assert picture.headers["Content-Type"] == "image/png"
    listing = requests.get(url, timeout=60)
    assert listing.url == f"{url}/ipfs/{cid}/"
    assert "&lt;b&gt;.txt" in listing.text
    assert "<b>" not in listing.text
    assert requests.get(f"{listing.url}%FF.txt", timeout=60).content == b"not UTF-8"
    assert requests.get(f"{url}/ipfs/{cid}/n/big.bin", timeout=60).content == DATA
    head = requests.head(f"{url}/ipfs/{cid}/n/big.bin", timeout=60)
    assert (head.headers["Content-Length"], head.content) == ("3000000", b"")


def test_an_error_of_a_connection_is_logged_and_not_printed(tmp_path, capfd, caplog):
    store = Store(tmp_path)
    store.tree({"a": b"a"})
    with LocalGateway(store.address) as gateway, caplog.at_level(logging.DEBUG):
        try:
            raise ConnectionResetError("the client went away")  # noqa: TRY301 - as the server has it
        except ConnectionResetError:
            gateway.handle_error(None, ("127.0.0.1", 1))
    assert "the client went away" in caplog.text
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-9", 206, DATA[:10]),
        ("bytes=1000000-", 206, DATA[1_000_000:]),
        ("bytes=-5", 206, DATA[-5:]),
        ("bytes=2999999-9999999", 206, DATA[-1:]),
        ("bytes=3000000-", 416, b""),
        ("bytes=9-3", 416, b""),
        ("bytes=-", 200, DATA),
        (f"bytes={'9' * 5000}-", 200, DATA),
        ("lines=1-2", 200, DATA),
    ],
)
def test_ranges(served, wanted, status, part):
    url, cid = served
    found = requests.get(f"{url}/ipfs/{cid}/n/big.bin", headers={"Range": wanted}, timeout=60)
    assert (found.status_code, found.content) == (status, part)


def test_the_host_name_selects_the_folder(served):
    url, cid = served
    port = url.rpartition(":")[2]
    found = requests.get(
        f"{url}/page/index.html", headers={"Host": f"{cid}.ipfs.localhost:{port}"}, timeout=60
    )
    assert found.text == "<h1>hello</h1>"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ipfs/{}/none", 404),
        ("/ipfs/nonsense", 400),
        ("/etc/passwd", 404),
        ("/ipfs/{}/../../x", 404),
    ],
)
def test_a_missing_file_is_404(served, path, status):
    url, cid = served
    assert requests.get(url + path.format(cid), timeout=60).status_code == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 403),
        ("evil.example:80", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("ipfs.localhost", 403),
        ("x.y.ipfs.localhost", 403),
        ("LOCALHOST:1", 200),
        ("[::1]", 200),
        ("[::1]:8081", 200),
        ("127.0.0.1", 200),
    ],
)
def test_requests_for_other_host_names_are_refused(served, host, status):
    url, cid = served
    found = requests.get(f"{url}/ipfs/{cid}/", headers={"Host": host}, timeout=60)
    assert found.status_code == status


def test_it_listens_on_this_machine_alone(tmp_path):
    with LocalGateway(tmp_path / "store") as gateway:
        assert gateway.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("tag", ['"{}"', 'W/"{}"', '"other", "{}"', "*"])
def test_a_file_that_the_client_has_is_not_sent_again(served, tag):
    url, cid = served
    file = f"{url}/ipfs/{cid}/n/big.bin"
    first = requests.get(file, headers={"Range": "bytes=0-0"}, timeout=60)
    assert "immutable" in first.headers["Cache-Control"]
    known = {"If-None-Match": tag.format(first.headers["ETag"].strip('"'))}
    again = requests.get(file, headers=known, timeout=60)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    other = {"If-None-Match": '"bafyother"'}
    assert requests.get(file, headers=other, timeout=60).content == DATA
    # Both of a connection that stays open.
    with requests.Session() as session:
        assert session.get(file, headers=known, timeout=60).status_code == 304
        assert session.get(file, timeout=60).content == DATA


def test_a_range_of_another_version_is_the_whole_file(served):
    url, cid = served
    file = f"{url}/ipfs/{cid}/n/big.bin"
    tag = requests.head(file, timeout=60).headers["ETag"]
    for known, status, size in ((tag, 206, 10), ('"bafyother"', 200, len(DATA))):
        headers = {"Range": "bytes=0-9", "If-Range": known}
        found = requests.get(file, headers=headers, timeout=60)
        assert (found.status_code, len(found.content)) == (status, size)


def test_a_page_that_shares_its_origin_with_other_roots_is_in_a_sandbox(served):
    url, cid = served
    shared = requests.get(f"{url}/ipfs/{cid}/page/", timeout=60)
    assert shared.headers["Content-Security-Policy"].startswith("sandbox allow-scripts ")
    assert "allow-same-origin" not in shared.headers["Content-Security-Policy"]
    host = {"Host": f"{cid}.ipfs.localhost"}
    own = requests.get(f"{url}/page/", headers=host, timeout=60)
    assert "Content-Security-Policy" not in own.headers


def raw_answer(url, request):
    """Returns all bytes that a server answers to bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as answer:
            return answer.read()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /ipfs/../../../../etc/passwd HTTP/1.1", b"400"),
        (b"GET /ipfs/{cid}/..%2f..%2fetc%2fpasswd HTTP/1.1", b"400"),
        (b"GET /ipfs/{cid}/%00 HTTP/1.1", b"400"),
        (b"GET http://evil.example/ipfs/{cid}/%3Cb%3E.txt HTTP/1.1", b"200"),
        (b"POST /ipfs/{cid}/ HTTP/1.1", b"501"),
        (b"GET //evil.example/ipfs/ HTTP/1.1", b"404"),
        (b"GET /ipfs/{cid}/page HTTP/1.0", b"302"),
        (b"nonsense", b"400"),
    ],
)
def test_malformed_requests_are_refused(served, line, status):
    url, cid = served
    request = line.replace(b"{cid}", cid.encode()) + b"\r\nHost: localhost\r\n\r\n"
    answer = raw_answer(url, request)
    # Without a version of HTTP there is no status line, and the status is in the page.
    assert status in (answer.split(b"\r\n")[0] if answer.startswith(b"HTTP/") else answer)
    assert b"root:" not in answer


def test_a_hundred_clients_at_once_and_some_that_send_nothing(served):
    url, cid = served
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            idle = stack.enter_context(socket.create_connection(address, timeout=60))
            idle.sendall(b"GET /ipfs/")
        pool = stack.enter_context(ThreadPoolExecutor(32))
        page = f"{url}/ipfs/{cid}/page/"
        found = list(pool.map(lambda _: requests.get(page, timeout=60).text, range(100)))
    assert found == ["<h1>hello</h1>"] * 100


def test_a_client_that_disconnects_midway_affects_no_other(served):
    url, cid = served
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    request = f"GET /ipfs/{cid}/n/big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    for _ in range(5):
        with socket.create_connection(address, timeout=60) as client:
            client.sendall(request)
            client.recv(1)
    assert requests.get(f"{url}/ipfs/{cid}/n/big.bin", timeout=60).content == DATA


def test_roots_are_those_of_the_car_or_the_pins(tmp_path):
    car, store = tmp_path / "a.car", tmp_path / "store"
    cid = IPFSDatasetExporter(car).export_to_ipfs([1, 2])
    assert roots_at(car) == (cid,)
    assert IPFSDatasetExporter(store).export_to_ipfs([1, 2]) == cid
    assert roots_at(store) == (cid,)


@pytest.mark.parametrize("kind", ["store", "x.car"])
def test_a_missing_root_is_refused(tmp_path, kind):
    IPFSDatasetExporter(tmp_path / kind).export_to_ipfs([1, 2])
    elsewhere = IPFSDatasetExporter(tmp_path / "other").export_to_ipfs([3])
    done = run("serve", tmp_path / kind, "--cid", elsewhere, "--port", "0")
    assert (done.status, done.out) == (1, "")
    assert f"The root {elsewhere} cannot be served" in done.err
    assert str(tmp_path / kind) in done.err
    nowhere = tmp_path / "nowhere"
    done = run("serve", nowhere, "--cid", elsewhere, "--port", "0")
    assert (done.status, f"no file or folder '{nowhere}'" in done.err) == (1, True)


def test_the_command_serves_a_car_until_it_is_interrupted(tmp_path):
    cid = IPFSDatasetExporter(tmp_path / "a.car").export_to_ipfs([1, 2])
    command = [sys.executable, "-m", "ipfs_dataset", "serve", str(tmp_path / "a.car")]
    process = subprocess.Popen(
        [*command, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        assert started["cids"] == [cid]
        page = requests.get(f"{started['url']}/ipfs/{cid}/manifest.json", timeout=60)
        assert page.json()["samples"] == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        if process.stdout is not None:
            process.stdout.close()
        process.wait()


def test_wrong_arguments_are_refused(tmp_path):
    assert run("serve", "--port", "99999").status == 2
    for missing in ("none.car", "none"):
        done = run("serve", tmp_path / missing)
        assert done.status == 1
        assert f"There is no file or folder {str(tmp_path / missing)!r}" in done.err
    (tmp_path / "store").mkdir()
    with LocalGateway(tmp_path / "store") as gateway:
        done = run("serve", tmp_path / "store", "--port", gateway.server_address[1])
    assert done.status == 1
    assert "--port 0" in done.err


def test_other_programs_read_blocks_from_what_is_served_and_verify_them(tmp_path):
    store = tmp_path / "store"
    samples = [(b"x" * 300_000, number) for number in range(8)]
    cid = IPFSDatasetExporter(store).export_to_ipfs(samples)
    with LocalGateway(store, port=0) as gateway:
        serving = threading.Thread(target=gateway.serve_forever, daemon=True)
        serving.start()
        dataset = load(cid, gateways=[gateway.url])
        assert [dataset[number] for number in (7, 0)] == [samples[7], samples[0]]
        assert list(dataset) == samples
        dataset.close()
        for query in ("?format=car", "/manifest.json?format=raw"):
            answer = requests.get(f"{gateway.url}/ipfs/{cid}{query}", timeout=60)
            assert answer.status_code == 406
        gateway.shutdown()
        serving.join(60)


def test_a_damaged_car_file_is_not_served(tmp_path):
    car = tmp_path / "cut.car"
    IPFSDatasetExporter(car).export_to_ipfs([1, 2, 3])
    car.write_bytes(car.read_bytes()[:-9])
    done = run("serve", car, "--port", "0")
    assert (done.status, done.out) == (1, "")
    assert "is cut off" in done.err
