"""What the tar_shards exporter writes, that it reads it back, and how much it reads to do so."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import tarfile
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core.errors import ExportError, FormatError
from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.interfaces.value_codec import ValueCodec
from ipfs_dataset_core.ipld import get_profile
from ipfs_dataset_core.publishing.publish import TreeSink, publish
from ipfs_dataset_core.testing import MemoryDirectory, MemoryFile, MemoryTransport
from ipfs_dataset_plugins.tar_shards import manifest
from ipfs_dataset_plugins.tar_shards import samples as _shard_samples
from ipfs_dataset_plugins.tar_shards import shard_writer as _shard_writer
from ipfs_dataset_plugins.tar_shards.exporter import TarShards
from tests.support import values
from tests.support.equality import same

PROFILE = "unixfs-v1-2025"
SAMPLES = [(torch.full((3, 4), float(i)), i, {"name": f"n{i}"}) for i in range(20)]


def published(samples, **options):
    """Returns what is published of samples, as a directory in memory."""
    transport = MemoryTransport()
    exporter = TarShards(ExporterOptions(**options))
    root = publish(
        exporter.export, samples, transport, get_profile(PROFILE).with_chunker("samples")
    )
    return transport.directory(root)


def loaded(directory, **options):
    samples = TarShards(ExporterOptions(**options)).load(directory)
    assert samples is not None
    return samples


def everything(samples):
    return list(samples.iterate(0, len(samples)))


def with_file(directory, path, content):
    return MemoryDirectory({**directory.files, path: content}, "ipfs://x")


def with_manifest(directory, **changes):
    fields = json.loads(directory.files["manifest.json"])
    return with_file(directory, "manifest.json", json.dumps({**fields, **changes}).encode())


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        values.containers(st.one_of(values.SCALARS, values.tensors(), values.arrays()), 6),
        max_size=6,
    ),
    st.sampled_from([1, 4000, 1 << 20]),
)
def test_any_samples_are_equal_by_index_and_in_order(samples, shard_bytes):
    read = loaded(published(samples, shard_bytes=shard_bytes))
    assert len(read) == len(samples)
    assert same(everything(read), samples)
    assert same([read.read(i) for i in range(len(samples))], samples)


@pytest.mark.parametrize("shard_bytes", [1, 9000, 256 << 20])
def test_any_part_can_be_iterated(shard_bytes):
    read = loaded(published(SAMPLES, shard_bytes=shard_bytes))
    for start, stop in [(0, 0), (0, 1), (3, 17), (19, 20), (20, 20)]:
        assert same(list(read.iterate(start, stop)), SAMPLES[start:stop])


def test_shards_keep_their_size_and_all_files_are_in_place():
    directory = published(SAMPLES, shard_bytes=20_000)
    shards = sorted(path for path in directory.files if path.startswith("shards/"))
    assert len(shards) >= 4
    sizes = [len(directory.files[path]) for path in shards]
    assert max(sizes) <= 20_000
    # All but the last have half of the room before they end.
    assert min(sizes[:-1]) >= 20_000 // 2
    assert directory.files["metadata.txt"].decode().split() == shards
    manifest = json.loads(directory.files["manifest.json"])
    assert (manifest["samples"], manifest["form"], manifest["profile"], manifest["chunker"]) == (
        20,
        "tar_shards",
        PROFILE,
        "samples",
    )
    assert [shard["size"] for shard in manifest["shards"]] == sizes


def test_a_sample_larger_than_a_shard_is_a_shard_of_its_own():
    samples = [b"x" * 5000, b"y", b"z" * 5000]
    directory = published(samples, shard_bytes=4096)
    assert len(directory.files["metadata.txt"].split()) == 3
    assert everything(loaded(directory)) == samples


def test_the_number_of_samples_in_a_shard_is_bounded(monkeypatch):
    monkeypatch.setattr(manifest, "MAX_SHARD_SAMPLES", 3)
    directory = published(range(7))
    assert len(directory.files["metadata.txt"].split()) == 3
    assert everything(loaded(directory)) == list(range(7))


def test_an_empty_dataset_can_be_published():
    directory = published([])
    assert directory.files["metadata.txt"] == b""
    assert everything(loaded(directory)) == []


def test_any_tar_reader_lists_the_members_without_times_or_owners():
    directory = published(SAMPLES[:2])
    with tarfile.open(fileobj=io.BytesIO(directory.files["shards/00000.tar"])) as archive:
        members = archive.getmembers()
    names = [member.name.split(".", 1) for member in members]
    assert [suffix for _, suffix in names] == ["0.npy", "1.cls", "2.json"] * 2
    keys = [key for key, _ in names]
    assert keys == [keys[0]] * 3 + [keys[3]] * 3
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
        (0, 0, 0, "", "", 0o644)
    }


def test_the_same_samples_have_the_same_cid_and_others_have_another():
    first, again, other = published(SAMPLES), published(iter(SAMPLES)), published(SAMPLES[1:])
    assert first.cid == again.cid != other.cid


MIXED = [
    *(
        (torch.full((300,), n, dtype=torch.int16), n, {"Name": f"n{n}", "name": b"\xff" * n})
        for n in range(900)
    ),
    (torch.zeros(0), None, {"Name": "", "name": "a" * 5000}),
    {"ä.b": torch.ones(2, dtype=torch.bfloat16), 1: [torch.arange(3), True]},
    *((), b"", "x", 2**70, bytes(3 << 20)),
]


@pytest.mark.parametrize(
    ("profile", "chunker", "cid"),
    [
        ("unixfs-v0-2015", "buzhash", "QmTA747HsHanf5zeUPazWXxJVaWnKfYaoRFoG14UoPKUB9"),
        ("kubo-cidv1", "buzhash", "bafybeifzcmac3u4w525zrvhsrejwrlmozdnhdqppj7d5joer4ndiehlzwu"),
        (
            "unixfs-v1-2025",
            "buzhash",
            "bafybeidw25wmivrimx37vsadxs4fozgfz3fqykka5pa7qrn3q47uhltiva",
        ),
        ("kubo-cidv1", "samples", "bafybeibcs7flkxzt5qwejffrdbccb4drx5uqzoq7gvogpk4wgyrtnmkzt4"),
        (
            "unixfs-v1-2025",
            "samples",
            "bafybeig64ekrpbkmbqyyveia5huehwj6nqkfif3247gqglipya33vdtjna",
        ),
        (
            "unixfs-v1-2025",
            "size-1048576",
            "bafybeihpzc44stle5jiflxr7wwtiwymfkaephofafurjpi52yanobwtslm",
        ),
    ],
)
def test_cids_of_published_samples_do_not_change(profile, chunker, cid):
    assert cid_of_the_data(profile, chunker) == cid


def cid_of_the_data(profile, chunker):
    """Returns the CID of `MIXED` without the page and its metadata, which may look otherwise one day."""
    how = get_profile(profile).with_chunker(chunker)
    options = ExporterOptions(profile=profile, chunker=chunker, shard_bytes=1 << 20)
    sink = TreeSink(how, lambda *_: None)
    TarShards(options).export(iter(MIXED), sink)
    for path in ("index.html", "croissant.json"):
        sink._built.pop(path, None)
    return str(sink.finish())


@given(
    st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    st.from_regex(r"(-[1-9][0-9]{0,6})?\.[a-z0-9_-]{1,55}\.[a-z0-9_-]{1,16}", fullmatch=True),
    st.one_of(st.integers(0, 10_000), st.integers(0, (8 << 30) - 1)),
)
def test_headers_are_those_that_tarfile_writes(key, suffix, size):
    member = tarfile.TarInfo(key + suffix)
    member.size = size
    expected = member.tobuf(tarfile.USTAR_FORMAT)
    mark, _, rest = suffix.partition(".")
    frame = _shard_writer.member_frame(rest, size, f"{mark}.")
    middle, checksum, padding = frame[2:]
    header = key.encode() + middle + _shard_writer.header_end(checksum + sum(key.encode()))
    assert header == expected
    assert frame[1] == len(header) + size + len(padding)
    assert frame[1] % 512 == 0


def members_of(directory):
    """Returns the names and contents of the members of each shard."""
    shards = []
    for path in directory.files["metadata.txt"].decode().split():
        with tarfile.open(fileobj=io.BytesIO(directory.files[path])) as archive:
            shards.append([(m.name, _content(archive, m)) for m in archive])
    return shards


def _content(archive, member):
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def test_the_key_is_made_of_names_sizes_and_contents_and_of_nothing_else():
    # Checksums of some sizes are computed in parts.
    lengths = [5119, 5120, 5121, 8000, 10_240, 99_999, 131_072, 131_073]
    long = [random.Random(length).randbytes(length) for length in lengths]
    (members,) = members_of(published([(b"abc" * 50, 7), {"x": "text"}, b"", *long, tuple(long)]))
    samples: dict[str, bytes] = {}
    for name, content in members:
        key, _, suffix = name.partition(".")
        text = b"%b\0%d\0" % (suffix.encode(), len(content)) + content
        samples[key] = samples.get(key, b"") + text
    assert len(samples) == 4 + len(long)
    for key, text in samples.items():
        assert key == f"{zlib.crc32(text):08x}{zlib.adler32(text):08x}"


def test_equal_samples_are_counted_so_that_names_are_unique():
    samples = [b"a", b"b", b"a", b"a", b"c", b"b"]
    directory = published(samples)
    (members,) = members_of(directory)
    names = [name.partition(".")[0] for name, _ in members]
    assert len(set(names)) == 6
    assert [name[16:] for name in names] == ["", "", "-1", "-2", "", "-1"]
    assert [content for _, content in members] == samples
    assert everything(loaded(directory)) == samples


@given(
    st.lists(st.binary(max_size=3), max_size=12),
    st.integers(0, 12),
    st.binary(min_size=4, max_size=5),
)
def test_an_additional_sample_changes_no_other_member(samples, at, new):
    (before,) = members_of(published(samples)) or [[]]
    (after,) = members_of(published([*samples[:at], new, *samples[at:]]))
    added = [member for member in after if member[1] == new]
    assert len(added) == 1
    after.remove(added[0])
    assert after == before


def test_only_a_sample_that_is_put_together_differently_brings_its_own_schema():
    samples = [{"x": torch.ones(1)}, {"x": torch.ones(1), "y": 2}, {"x": torch.zeros(1)}]
    directory = published(samples)
    with tarfile.open(fileobj=io.BytesIO(directory.files["shards/00000.tar"])) as archive:
        own = [name for name in archive.getnames() if "schema" in name]
    assert [name.partition(".")[2] for name in own] == ["schema.json"]
    assert same(everything(loaded(directory)), samples)


def test_reading_one_sample_reads_its_span_once_and_nothing_else():
    directory = published(SAMPLES)
    samples = loaded(directory)
    samples.read(7)
    shard = directory.opened["shards/00000.tar"]
    size = (shard.size - 1024) // len(SAMPLES)
    assert shard.reads == [(7 * size, 8 * size)]


def test_a_batch_is_prefetched_before_it_is_read():
    directory = published(SAMPLES, shard_bytes=20_000)
    loaded(directory).prefetch([0, 19, 1])
    opened = [file for path, file in sorted(directory.opened.items()) if path.startswith("shards")]
    assert [len(file.hints) for file in opened] == [2, 1]


def test_iterating_reads_large_pieces(monkeypatch):
    monkeypatch.setattr(_shard_samples, "PIECE_BYTES", 1 << 20)
    directory = published([bytes([i]) * 100_000 for i in range(50)])
    assert [sample[0] for sample in loaded(directory).iterate(0, 50)] == list(range(50))
    reads = directory.opened["shards/00000.tar"].reads
    assert len(reads) <= 6
    assert [stop for _, stop in reads[:-1]] == [start for start, _ in reads[1:]]


def test_the_indexes_of_shards_that_are_not_read_are_not_read():
    directory = published(SAMPLES, shard_bytes=20_000)
    loaded(directory).read(0)
    assert set(directory.opened) == {"manifest.json", "shards/00000.tar", "index/00000.json"}


def test_no_more_is_fetched_ahead_than_a_cache_holds(monkeypatch):
    monkeypatch.setattr(_shard_samples, "PREFETCH_BYTES", 10_000)
    directory = published(SAMPLES)
    loaded(directory).prefetch(range(20))
    assert 0 < len(directory.opened["shards/00000.tar"].hints) < 5


@pytest.mark.parametrize(
    "content",
    [b"", b"no json", b"[]", b'{"identifier": "ipfs-dataset", "form": "other"}', b'{"a": 1}'],
)
def test_data_of_other_forms_are_not_loaded(content):
    exporter = TarShards(ExporterOptions())
    assert exporter.load(MemoryDirectory({"manifest.json": content})) is None
    assert exporter.load(MemoryDirectory({})) is None
    assert exporter.load(MemoryFile(b"")) is None


@pytest.mark.parametrize("change", [{"version": "4.0"}, {"shards": 3}, {"samples": 3}])
def test_a_damaged_manifest_is_a_format_error(change):
    directory = with_manifest(published(SAMPLES), **change)
    with pytest.raises(FormatError, match=r"manifest\.json"):
        TarShards(ExporterOptions()).load(directory)


def test_a_manifest_without_a_schema_is_a_format_error():
    samples = loaded(with_manifest(published(SAMPLES), schema=None))
    with pytest.raises(FormatError, match="sample 0 of 'ipfs://x' has no schema"):
        samples.read(0)


def test_a_shard_that_is_cut_off_is_a_format_error():
    directory = published(SAMPLES)
    shard = directory.files["shards/00000.tar"]
    samples = loaded(with_file(directory, "shards/00000.tar", shard[:5000]))
    with pytest.raises(FormatError, match="in the manifest: the dataset"):
        everything(samples)
    with pytest.raises(FormatError, match=r"in the manifest: the dataset"):
        list(samples.read_each(range(len(samples))))


DAMAGES = [
    (0, b"x"),
    (0, b"A"),
    (16, b"-"),
    (16, b"/"),
    (124, b"7"),
    (124, b"-1"),
    (124, b"\0" * 12),
    (0, b"\xff"),
]


@pytest.mark.parametrize(("offset", "written"), DAMAGES)
def test_damaged_headers_are_format_errors(offset, written):
    directory = published(SAMPLES)
    shard = bytearray(directory.files["shards/00000.tar"])
    shard[offset : offset + len(written)] = written
    samples = loaded(with_file(directory, "shards/00000.tar", bytes(shard)))
    with pytest.raises(FormatError, match="sample 0"):
        samples.read(0)


@settings(deadline=None)
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=20))
def test_any_damage_to_a_shard_gives_a_sample_or_a_format_error(position, written):
    directory = published(SAMPLES[:1])
    shard = bytearray(directory.files["shards/00000.tar"])
    shard[position : position + len(written)] = written
    samples = loaded(with_file(directory, "shards/00000.tar", bytes(shard)))
    with contextlib.suppress(FormatError):
        assert isinstance(samples.read(0), tuple)


def test_buffers_that_a_codec_uses_again_are_published_as_they_were():
    class Text(str):
        __slots__ = ()

    buffer = bytearray(20_000)

    def encode(value):
        buffer[:] = bytes([len(value)]) * len(buffer)
        return buffer

    codec = ValueCodec(name="text", type=Text, extension="bin", encode=encode, decode=len)
    directory = published([Text("x" * n) for n in range(1, 9)], codecs=(codec,))
    (members,) = members_of(directory)
    assert [content for _, content in members] == [bytes([n]) * 20_000 for n in range(1, 9)]


@pytest.mark.parametrize("size", [0, 100, 7000, 9000, 70_000])
def test_samples_of_any_size_are_where_the_index_and_tarfile_find_them(size):
    samples = [bytes([n % 7]) * (size + n % 3) for n in range(300)]
    directory = published(samples, shard_bytes=4 << 20)
    found = [content for shard in members_of(directory) for _, content in shard]
    assert found == samples
    read = loaded(directory)
    assert [read.read(n) for n in range(0, 300, 7)] == samples[::7]


def test_a_member_beyond_what_tar_holds_is_refused(monkeypatch):
    monkeypatch.setattr(_shard_writer, "_MAX_MEMBER_BYTES", 10)
    with pytest.raises(ExportError, match=r"'[0-9a-f]{16}\.sample\.bin' has 11 bytes"):
        published([b"x" * 11])


def told(read, position):
    try:
        return read(position)
    except FormatError as error:
        return re.sub(" at 0x[0-9a-f]+", "", str(error))  # where objects of Python lie


@settings(deadline=None, max_examples=100)
@given(
    samples=st.sampled_from(
        [
            SAMPLES,
            list(range(5)),
            ["one", "two"],
            [{"a": 1, "b": [torch.ones(3), None]}],
            [(torch.ones(2), 1), (1, torch.ones(2))],
        ]
    ),
    damage=st.lists(st.tuples(st.integers(0, 60_000), st.integers(1, 255)), max_size=3),
)
def test_samples_are_decoded_alike_in_the_usual_way_and_step_by_step(samples, damage):
    directory = published(samples)
    (path,) = [path for path in directory.files if path.startswith("shards/")]
    content = bytearray(directory.files[path])
    for place, flipped in damage:
        content[place % len(content)] ^= flipped
    usual, by_step = (loaded(with_file(directory, path, bytes(content))) for _ in range(2))
    for position in range(len(samples)):
        shard = by_step._opened(0)
        by_step._open[0] = shard._replace(decoder=None)
        expected = told(by_step.read, position)
        assert same(told(usual.read, position), expected)
        assert same(told(lambda at: next(usual.read_each([at])), position), expected)
    if not damage:
        assert usual._opened(0).decoder.decode(bytes(content), *_span(usual, 0), 0) is not None


def _span(samples, position):
    return samples._opened(0).span(position, position + 1)
