"""One block in the middle is missing or damaged: which file, member and bytes, however it is read."""

from __future__ import annotations

import pickle
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from torch.utils.data import DataLoader, Subset

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset, ShuffleDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import (
    CID,
    FormatError,
    IPFSDatasetError,
    LimitError,
    Limits,
    ObjectNotFoundError,
    RateLimitedError,
    TransportError,
)
from ipfs_dataset_core.errors import Location
from ipfs_dataset_core.ipld import FileBuilder, Profile, build_tree, parse_file
from ipfs_dataset_core.runtime.error_location import located, with_message
from tests.support.api_server import ApiServer
from tests.support.builders import car_bytes, collector, noise, tar_bytes, tree, zip_bytes
from tests.support.gateway_server import GatewayServer
from tests.support.stores import SMALL_LEAVES, Store, blocks_in
from tests.support.workers import as_it_is

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.builders import Blocks

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

CHUNK = 2000
PROFILE = Profile(
    name="small chunks",
    cid_version=1,
    raw_leaves=True,
    chunk_size=CHUNK,
    file_links=20,
    hamt_size="links",
)
MEMBERS = {f"class {n % 3}/{n:03}.bin": noise(3 * CHUNK + n, n) for n in range(24)}
BROKEN = 5
NAME = list(MEMBERS)[BROKEN]


class Content(NamedTuple):
    """An object one of whose members lacks a block.

    Args:
        root: Of the object.
        blocks: All of them.
        lost: The CID of the block in the middle of the broken member.
        filetype: Of the object.
        words: What each error has to name, besides the bytes.
        start: Where the bytes of the lost block start in their file.
    """

    root: CID
    blocks: Blocks
    lost: CID
    filetype: RemoteFileType
    words: tuple[str, ...]
    start: int


def leaves(cid: CID, blocks: Blocks, start: int = 0) -> Iterator[tuple[int, CID]]:
    """Yields where each leaf of a file starts, and its CID."""
    node = parse_file(cid, blocks[cid.multihash])
    if not node.links:
        yield start, cid
    for position, link in enumerate(node.links):
        yield from leaves(CID.from_bytes(link), blocks, start + node.offsets[position])


def lost_leaf(file: CID, blocks: Blocks, place: int) -> tuple[int, CID]:
    return max((start, cid) for start, cid in leaves(file, blocks) if start <= place)


def built(files: dict[str, bytes]) -> tuple[CID, Blocks, dict[str, CID]]:
    blocks, emit = collector()
    made = []
    for path, data in files.items():
        builder = FileBuilder(PROFILE, emit)
        builder.write(data)
        made.append((path, builder.finish()))
    return build_tree(made, PROFILE, emit).cid, blocks, {path: one.cid for path, one in made}


def archive(data: bytes, kind: RemoteFileType) -> Content:
    _, blocks, files = built({"archive": data})
    middle = data.index(MEMBERS[NAME]) + len(MEMBERS[NAME]) // 2
    start, lost = lost_leaf(files["archive"], blocks, middle)
    words = (f"ipfs://{files['archive']}", f"member {NAME!r} (sample {BROKEN})")
    return Content(files["archive"], blocks, lost, kind, words, start)


def folder_of_files() -> Content:
    listed = "\n\n" + "\n\n".join(MEMBERS)
    root, blocks, files = built({**MEMBERS, "metadata.txt": listed.encode()})
    start, lost = lost_leaf(files[NAME], blocks, len(MEMBERS[NAME]) // 2)
    line = 3 + 2 * BROKEN
    words = (f"ipfs://{root}", f"file {NAME!r} (line {line} of metadata.txt)")
    return Content(root, blocks, lost, RemoteFileType.FOLDER, words, start)


def folder_of_archives() -> Content:
    one = {name: MEMBERS[name] for name in list(MEMBERS)[:3]}
    two = {name: MEMBERS[name] for name in list(MEMBERS)[3:]}
    listed = {"one.tar": tar_bytes(one), "in/two.tar": tar_bytes(two), "in/it.txt": b"text"}
    root, blocks, files = built({**listed, "metadata.txt": "\n".join(listed).encode()})
    middle = listed["in/two.tar"].index(MEMBERS[NAME]) + len(MEMBERS[NAME]) // 2
    start, lost = lost_leaf(files["in/two.tar"], blocks, middle)
    words = (
        f"ipfs://{root}",
        "file 'in/two.tar' (line 2 of metadata.txt)",
        f"member {NAME!r} (sample {BROKEN - 3})",
    )
    return Content(root, blocks, lost, RemoteFileType.FOLDER, words, start)


CONTENTS = {
    "tar": archive(tar_bytes(MEMBERS), RemoteFileType.TAR),
    "zip": archive(zip_bytes(MEMBERS, 0), RemoteFileType.ZIP),
    "folder": folder_of_files(),
    "archives": folder_of_archives(),
}


def single(make: Callable[..., IPFSDataset], at: int) -> None:
    dataset = make(IPFSDataset)
    dataset[at - 1], dataset[at + 1]
    dataset[at]


def batch(make, at):
    make(IPFSDataset).__getitems__([at + 1, at, at - 1])


def scattered_batch(make, at):
    make(IPFSDataset).__getitems__([22, 2, at])


def stream(make, at):
    found: list[object] = []
    for sample in make(IPFSIterableDataset):
        found.append(sample)
        assert len(found) <= at


def in_blocks(make, at):
    list(make(IPFSIterableDataset, shuffle_blocks=True))


def buffered(make, at):
    list(ShuffleDataset(make(IPFSIterableDataset), 10))


def subset(make, at):
    list(DataLoader(Subset(make(IPFSDataset), [1, at, 5]), batch_size=3, collate_fn=as_it_is))


READS = [single, batch, scattered_batch, stream, in_blocks, buffered, subset]


@contextmanager
def served(source: str, content: Content, tmp_path, *, damaged: bool) -> Iterator[dict[str, Any]]:
    """Yields the arguments of a dataset whose source lacks the block, or has other bytes for it."""
    blocks = dict(content.blocks)
    good = blocks.pop(content.lost.multihash)
    if damaged:
        blocks[content.lost.multihash] = good[:-1] + bytes([good[-1] ^ 1])
    with ExitStack() as stack:
        if source == "gateway":
            yield {"gateways": stack.enter_context(GatewayServer(blocks)).url}
        elif source == "API":
            yield {"ipfs_api_address": stack.enter_context(ApiServer(blocks)).multiaddr}
        elif source == "CAR":
            path = tmp_path / "some.car"
            everything = car_bytes(content.root, content.blocks)
            path.write_bytes(
                everything.replace(good, blocks.get(content.lost.multihash, bytes(len(good))))
            )
            yield {"ipfs_api_address": str(path)}
        else:
            store = Store(tmp_path / "store")
            store._put(content.root, content.blocks)
            for path in (tmp_path / "store" / "blocks").rglob("*"):
                if path.is_file() and CID.parse(path.name).multihash == content.lost.multihash:
                    path.unlink()
                    if damaged:
                        path.write_bytes(blocks[content.lost.multihash])
            yield {"ipfs_api_address": store.address}


def message_of(content: Content, arguments: dict[str, Any], read, kind=IPFSDatasetError) -> str:
    obj = IPFSObject(f"ipfs://{content.root}", content.filetype)
    datasets = []

    def make(cls, **options):
        datasets.append(cls(obj, **arguments, **options, retries=0))
        return datasets[-1]

    with pytest.raises(kind) as caught:
        read(make, BROKEN)
    for dataset in datasets:
        dataset.close()
    return str(caught.value)


def check(content: Content, message: str) -> None:
    where, _, sources = message.partition("\n")
    for word in content.words:
        assert word in where, message
    assert f"bytes {content.start}-{content.start + CHUNK - 1}" in where
    assert str(content.lost) in where
    assert sources.strip()
    assert "What to do:" in sources


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("kind", CONTENTS)
def test_every_way_to_read_names_the_member_and_the_bytes(kind, read, tmp_path):
    content = CONTENTS[kind]
    with served("gateway", content, tmp_path, damaged=False) as arguments:
        message = message_of(content, arguments, read)
    check(content, message)


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("source", ["gateway", "API", "store", "CAR"])
@pytest.mark.parametrize("kind", CONTENTS)
def test_every_source_is_quoted_below_the_place(kind, source, damaged, tmp_path):
    content = CONTENTS[kind]
    with served(source, content, tmp_path, damaged=damaged) as arguments:
        message = message_of(content, arguments, single)
    check(content, message)
    name = {"store": "store", "CAR": "CAR", "API": "API", "gateway": "gateway"}[source]
    assert name in message.partition("\n")[2]


@pytest.mark.parametrize("read", READS)
def test_errors_of_an_archive_in_a_folder_name_folder_path_and_line(read, tmp_path):
    files = {"fine.bin": b"1", "in/a.zip": zip_bytes({"x": b"2", "y": b"3"})[:-5]}
    store = Store(tmp_path)
    root = store.folder(files)
    dataset = IPFSObject(root, RemoteFileType.FOLDER)
    for kind, limits, words in (
        (FormatError, Limits(), "in/a.zip"),
        (LimitError, Limits(read_bytes=20), "read_bytes"),
    ):
        with pytest.raises(kind) as caught:
            read(lambda cls, **more: cls(dataset, store.address, limits=limits, **more), 1)  # noqa: B023
        message = str(caught.value)
        assert message.startswith(f"In '{root}', file 'in/a.zip' (line 2 of metadata.txt)")
        assert words in message
        where = caught.value.location
        assert where is not None
        assert (where.object, where.file) == (root, "in/a.zip")


def test_a_missing_listed_file_is_an_error_with_folder_and_line(tmp_path):
    store = Store(tmp_path)
    root = store.tree({"a.bin": b"1", "metadata.txt": b"a.bin\n\nb.bin\n"})
    dataset = IPFSDataset(IPFSObject(root, RemoteFileType.FOLDER), store.address)
    with pytest.raises(ObjectNotFoundError, match=r"file 'b.bin' \(line 3 of metadata.txt\)"):
        dataset[1]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Returns the address and the CID of a published dataset without a block of sample 10."""
    folder = tmp_path_factory.mktemp("store")
    data = [noise(800_000, n) for n in range(20)]
    samples = [
        (torch.frombuffer(bytearray(one), dtype=torch.uint8), n) for n, one in enumerate(data)
    ]
    root = IPFSDatasetExporter(str(folder), profile=SMALL_LEAVES).export_to_ipfs(samples)
    [lost] = [cid for cid, block in blocks_in(folder) if data[10][400_000:400_100] in block]
    for path in (folder / "blocks").rglob(str(lost)):
        path.unlink()
    return str(folder), root


def published_stream(dataset):
    found: list[int] = []
    for _ in dataset:
        found.append(len(found))
        assert len(found) <= 10


@pytest.mark.parametrize(
    "read",
    [
        lambda dataset: [dataset[n] for n in range(11)],
        lambda dataset: dataset.__getitems__(list(range(0, 20, 2))),
        lambda dataset: dataset.__getitems__([10, 3, 19]),
        lambda dataset: list(DataLoader(Subset(dataset, [1, 10]), collate_fn=as_it_is)),
        published_stream,
    ],
)
def test_a_published_dataset_names_itself_the_sample_the_shard_and_the_bytes(published, read):
    address, root = published
    with pytest.raises(TransportError) as caught:
        read(IPFSDatasetExporter(address).import_from_ipfs(f"ipfs://{root}"))
    place = str(caught.value).partition("\n")[0]
    assert place.startswith(f"In 'ipfs://{root}', file 'shards/")
    assert "sample 10, bytes " in place


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_location_of_an_error_is_complete_in_errors_from_workers(method, tmp_path):
    content = CONTENTS["archives"]
    with served("gateway", content, tmp_path, damaged=False) as arguments:

        def read(make, at):
            loader = DataLoader(
                Subset(make(IPFSDataset), [at]),
                num_workers=1,
                collate_fn=as_it_is,
                multiprocessing_context=method,
            )
            list(loader)

        message = message_of(content, arguments, read, TransportError)
    for word in (*content.words, f"bytes {content.start}-{content.start + CHUNK - 1}"):
        assert word in message


def test_an_error_keeps_its_class_cause_and_attributes_where_its_place_is_added():
    cause = KeyError("x")
    error = RateLimitedError("HTTP 429", retry_after=3.0)
    error.__cause__ = cause
    inner = located(error, Location(file="a.tar", start=0, stop=10))
    found = located(inner, Location(object="ipfs://X", file="other", sample=3, start=5, stop=6))
    assert str(found) == "In 'ipfs://X', file 'a.tar', sample 3, bytes 0-9: HTTP 429"
    assert type(found) is RateLimitedError
    assert (found.retry_after, found.retryable) == (3.0, True)
    assert found.__cause__ is cause
    assert str(error) == "HTTP 429"
    copy = pickle.loads(pickle.dumps(found))
    assert (str(copy), copy.location, copy.retry_after) == (str(found), found.location, 3.0)


def test_no_part_of_a_message_is_repeated():
    error = FormatError("Member 'x' of 'a.zip' is damaged.")
    found = located(error, Location(object="a.zip", file="a.zip", member="x", sample=4))
    assert str(found) == str(error)
    assert located(found, Location(object="a.zip")) is found


class PeculiarError(TransportError):
    def __init__(self, one: str, two: int) -> None:
        super().__init__(f"{one} {two}")


def test_an_error_without_a_single_message_argument_is_not_changed():
    error = PeculiarError("one", 2)
    assert with_message(error, "new") is error
    assert located(error, Location(object="a")) is error
    assert str(error) == "one 2"


def test_a_token_in_the_address_of_a_published_dataset_is_in_no_message():
    root, blocks = tree({"a": b"1"})
    with GatewayServer({}) as server, pytest.raises(IPFSDatasetError) as caught:
        IPFSDatasetExporter(server.url).import_from_ipfs(f"{server.url}/ipfs/{root}?token=hidden")
    assert "hidden" not in str(caught.value)
    assert str(root) in str(caught.value)
    assert blocks
