from __future__ import annotations

import pickle
import time

import pytest

from ipfs_dataset_core import (
    FormatError,
    LimitError,
    Limits,
    ObjectNotFoundError,
    Options,
    TransportError,
    VerificationError,
)
from ipfs_dataset_core.datasets.objects import DatasetObject
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject
from ipfs_dataset_core.reading.connections import Connections
from ipfs_dataset_core.reading.files import VerifiedFile
from ipfs_dataset_core.reading.unverified import PIECE_BYTES, PlainDirectory, PlainFile
from tests.support.builders import folder, noise, one_file, tree, zip_bytes
from tests.support.fetching import open_object
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import Plan, redirect

BIG = noise(6 * PIECE_BYTES + 77)
MEMBERS = {"a b.txt": b"first", "sub/b.bin": BIG[:400_000], "c.zip": zip_bytes({"x": b"in a zip"})}
ROOT, BLOCKS = folder(MEMBERS)
FILE, FILE_BLOCKS = one_file(BIG)
SMALL, SMALL_BLOCKS = one_file(b"one raw block")
UNLISTED, UNLISTED_BLOCKS = tree({"x.bin": b"x", "empty": b""})
ALL = {**BLOCKS, **FILE_BLOCKS, **SMALL_BLOCKS, **UNLISTED_BLOCKS}


def until(condition):
    """Waits until something holds."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def with_slashes(request, plan):
    """Redirects to directories, as gateways do for browsers."""
    is_page = plan.headers.get("Content-Type") == "text/html"
    return redirect(f"{request.path}/", 301) if is_page and request.path[-1] != "/" else plan


@pytest.fixture
def plain():
    with GatewayServer(ALL, serve_raw=False, serve_car=False, fault=with_slashes) as server:
        yield server


@pytest.fixture
def connect():
    made = []

    def to(server, *, verify=False, **options):
        chosen = Options(verify=verify, timeout=2, retries=0, **options)
        made.append(Connections(f"gateway+{server.url}", chosen))
        return made[-1]

    yield to
    for connections in made:
        connections.close()


def test_a_plain_gateway_is_an_error_that_names_the_option_unless_it_is_given(plain, connect):
    with pytest.raises(TransportError, match="verify=False"):
        open_object(f"ipfs://{FILE}", connect(plain, verify=True))


def test_files_are_read_by_ranges_and_each_piece_once(plain, connect):
    file = open_object(f"ipfs://{FILE}", connect(plain))
    assert isinstance(file, PlainFile)
    assert file.size == len(BIG)
    assert file.cid is None
    assert b"".join(iter(lambda: file.read(300_000), b"")) == BIG
    assert plain.served["range"] == 8  # the first tells the size
    file.seek(-100, 2)
    assert file.read() == BIG[-100:]
    assert file.read_at(PIECE_BYTES - 5, 10) == BIG[PIECE_BYTES - 5 : PIECE_BYTES + 5]
    file.prefetch([(0, 10), (len(BIG) - 1, len(BIG) + 99)])
    assert file.read_at(len(BIG), 10) == b""
    assert plain.served["range"] == 8


def test_a_sequential_reader_finds_the_next_pieces_fetched(plain, connect):
    file = open_object(f"ipfs://{FILE}", connect(plain))
    before = plain.served["range"]
    for start in range(0, PIECE_BYTES, PIECE_BYTES // 8):
        file.read(PIECE_BYTES // 8)
        if start == 0:
            time.sleep(0.1)
            assert plain.served["range"] == before + 1  # a look at the first bytes fetches no more
    until(lambda: plain.served["range"] >= before + 3)


def test_a_span_that_will_be_read_in_order_is_fetched_ahead_up_to_its_end(plain, connect):
    file = open_object(f"ipfs://{FILE}", connect(plain))
    before = plain.served["range"]
    file.read_ahead(0, 3 * PIECE_BYTES)
    assert file.read(10) == BIG[:10]
    until(lambda: plain.served["range"] == before + 3)
    assert file.read_at(10, 3 * PIECE_BYTES - 10) == BIG[10 : 3 * PIECE_BYTES]
    assert plain.served["range"] == before + 3


def test_reading_elsewhere_fetches_nothing_ahead(plain, connect):
    file = open_object(f"ipfs://{FILE}", connect(plain))
    before = plain.served["range"]
    for piece in (5, 0, 3):
        assert file.read_at(piece * PIECE_BYTES, 9) == BIG[piece * PIECE_BYTES :][:9]
    assert plain.served["range"] == before + 3


def test_blocks_are_preferred_if_a_source_serves_them(connect):
    with GatewayServer(ALL) as server:
        file = open_object(f"ipfs://{FILE}", connect(server))
        assert isinstance(file, VerifiedFile)
        assert file.read() == BIG


def test_a_file_of_one_raw_block_is_still_proven(plain, connect):
    for verify in (True, False):
        file = open_object(f"ipfs://{SMALL}", connect(plain, verify=verify))
        assert isinstance(file, VerifiedFile)
        assert file.read() == b"one raw block"


def test_members_that_metadata_lists_are_samples_and_archives_are_opened(plain, connect):
    connections = connect(plain)
    shards = DatasetObject(IPFSObject(f"ipfs://{ROOT}"), connections).counted_shards()
    samples = [sample for shard in shards for sample in shard.samples()]
    assert samples == [("a b.txt", b"first"), ("sub/b.bin", BIG[:400_000]), ("x", b"in a zip")]


def test_paths_in_urls_lead_to_members(plain, connect):
    connections = connect(plain)
    file = open_object(f"ipfs://{ROOT}/sub/b.bin", connections)
    assert file.read() == BIG[:400_000]
    with pytest.raises(TransportError, match="404"):
        open_object(f"ipfs://{ROOT}/sub/nope", connections)


def test_directories_are_entered_but_not_listed(plain, connect):
    directory = open_object(f"ipfs://{UNLISTED}", connect(plain))
    assert isinstance(directory, PlainDirectory)
    assert directory.open("x.bin").read() == b"x"
    assert directory.open("empty").read() == b""
    assert directory.contains("x.bin")
    assert not directory.contains("y.bin")
    for listing in (directory.names, lambda: list(directory.walk())):
        with pytest.raises(TransportError, match=r"cannot be listed.*metadata\.txt"):
            listing()
    with pytest.raises(FormatError, match="is a directory"):
        open_object(f"ipfs://{ROOT}", connect(plain)).open("sub")


def test_a_folder_without_metadata_is_a_clear_error(plain, connect):
    folder = DatasetObject(IPFSObject(f"ipfs://{UNLISTED}"), connect(plain))
    with pytest.raises(TransportError, match=r"cannot be listed.*metadata\.txt"):
        folder.counted_shards()


def test_files_named_by_cid_are_found(plain, connect):
    file = open_object(f"ipfs://{FILE}", connect(plain))
    assert file.open_cid(str(FILE)).read_at(5, 5) == BIG[5:10]


def test_a_path_that_a_verified_directory_lacks_is_not_read_unverified(connect):
    with GatewayServer(ALL) as server:
        with pytest.raises(ObjectNotFoundError, match="no entry named 'nope'"):
            open_object(f"ipfs://{ROOT}/nope", connect(server))
        assert server.served["plain"] == 0


def test_shards_of_plain_folders_pickle(plain, connect):
    connections = connect(plain)
    [shard, *_] = DatasetObject(IPFSObject(f"ipfs://{ROOT}"), connections).shards()
    again = pickle.loads(pickle.dumps(shard))
    assert again.read(0) == ("a b.txt", b"first")
    again._directory._make.__self__.connections.close()


def test_ranges_that_do_not_arrive_are_errors(connect):
    def short(request, plan):
        return Plan(status=206, body=plan.body) if "range" in request.headers else plan

    with GatewayServer(ALL, serve_raw=False, serve_car=False, fault=short) as server:
        with pytest.raises(TransportError, match=f"/ipfs/{FILE}") as caught:
            open_object(f"ipfs://{FILE}", connect(server))
    assert not isinstance(caught.value, VerificationError)


def test_the_limits_of_the_user_apply(plain, connect):
    limits = Limits(read_bytes=PIECE_BYTES)
    file = open_object(f"ipfs://{FILE}", connect(plain, limits=limits))
    assert isinstance(file, PlainFile)
    assert file.limits == limits
    assert file.read(PIECE_BYTES) == BIG[:PIECE_BYTES]
    before = plain.served["range"]
    with pytest.raises(LimitError, match=r"one read of .* more than the limit of 1048576"):
        file.read()
    assert plain.served["range"] == before
    directory = open_object(f"ipfs://{ROOT}", connect(plain, limits=limits))
    assert isinstance(directory, PlainDirectory)
    assert directory.limits == limits
    assert directory.open("a b.txt").limits == limits
