"""Values are read as written, for each version, compressor, filter, type, order and kind of key."""

from __future__ import annotations

import numcodecs
import numpy as np
import pytest
import zarr.codecs as v3
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ipfs_dataset_zarr.reader import ZarrReader
from zarr.codecs import numcodecs as in_v3

from ipfs_dataset_core.testing import MemoryDirectory

pytestmark = [
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
]

VALUES = np.arange(7 * 5 * 4).reshape(7, 5, 4)
CHUNKS = (3, 2, 4)
COMPRESSORS_2 = [
    None,
    *(numcodecs.Blosc(name, shuffle=n) for n in (0, 1, 2) for name in ("lz4", "zstd", "zlib")),
    *(numcodecs.Zstd(), numcodecs.Zstd(checksum=True), numcodecs.LZ4(), numcodecs.Zlib()),
    *(numcodecs.GZip(), numcodecs.BZ2(), numcodecs.LZMA()),
]
FILTERS_2 = [
    *(numcodecs.Delta("i4"), numcodecs.FixedScaleOffset(0, 1, "i4", "i2")),
    *(numcodecs.AsType("i8", "i4"), numcodecs.Shuffle(4), numcodecs.Zlib(), numcodecs.CRC32()),
    *(numcodecs.Adler32(), numcodecs.Fletcher32(), numcodecs.JenkinsLookup3()),
]
COMPRESSORS_3 = [
    *(None, v3.BloscCodec(), v3.GzipCodec(), v3.ZstdCodec(), v3.ZstdCodec(checksum=True)),
    *([v3.ZstdCodec(), v3.Crc32cCodec()], [v3.ZstdCodec(), v3.GzipCodec()]),
]
# They warn when they are made.
OUTSIDE_OF_THE_SPECIFICATION = [
    *(in_v3.Zlib, in_v3.LZ4, in_v3.BZ2, in_v3.LZMA),
    in_v3.Zstd,
    in_v3.Blosc,
]


def stacked(files):
    return np.stack([row for _, row in ZarrReader().samples(MemoryDirectory(files))])


def check(array, values, **options):
    found = stacked(array(values, **options))
    assert found.dtype == values.dtype.newbyteorder("=")
    assert np.array_equal(found, values)


@pytest.mark.parametrize("compressor", COMPRESSORS_2, ids=repr)
@pytest.mark.parametrize("order", ["C", "F"])
def test_compressors_of_version_2_are_read(array, compressor, order):
    options = {"zarr_format": 2, "compressors": compressor, "order": order}
    check(array, VALUES.astype("f4"), chunks=CHUNKS, **options)


@pytest.mark.parametrize("filtering", FILTERS_2, ids=repr)
def test_filters_of_version_2_are_read(array, filtering):
    options = {"zarr_format": 2, "filters": [filtering], "compressors": numcodecs.Zstd()}
    check(array, VALUES.astype("i4"), chunks=CHUNKS, **options)


def test_lossy_filters_of_version_2_are_read(array):
    for filtering in (numcodecs.Quantize(3, "f4"), numcodecs.BitRound(10)):
        files = array(VALUES.astype("f4") / 7, zarr_format=2, filters=[filtering])
        assert np.allclose(stacked(files), VALUES / 7, rtol=1e-2)
    check(array, VALUES > 70, zarr_format=2, filters=[numcodecs.PackBits()])


@pytest.mark.parametrize("compressor", COMPRESSORS_3, ids=lambda codec: type(codec).__name__)
@pytest.mark.parametrize("shards", [None, (6, 4, 4)])
def test_compressors_of_version_3_are_read(array, compressor, shards):
    check(array, VALUES.astype("f4"), chunks=CHUNKS, compressors=compressor, shards=shards)


@pytest.mark.parametrize("codec", OUTSIDE_OF_THE_SPECIFICATION)
def test_compressors_of_version_2_are_read_in_version_3(array, codec):
    check(array, VALUES, chunks=CHUNKS, compressors=codec())


@pytest.mark.parametrize("index_location", ["start", "end"])
@pytest.mark.parametrize("crc", [True, False])
def test_shards_with_the_index_at_either_end_are_read(array, index_location, crc):
    codec = v3.ShardingCodec(
        chunk_shape=(1, 2, 4),
        codecs=[v3.TransposeCodec(order=(2, 0, 1)), v3.BytesCodec(), v3.ZstdCodec()],
        index_codecs=[v3.BytesCodec(), *([v3.Crc32cCodec()] if crc else [])],
        index_location=index_location,
    )
    check(array, VALUES, chunks=(4, 4, 4), serializer=codec, compressors=None)


# NumPy 2.5 warns of what zarr does when it writes times.
@pytest.mark.filterwarnings("ignore:The 'generic' unit:DeprecationWarning")
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", [">f4", "<u2", "?", "c16", "M8[ns]", "m8[s]", "S5", "U3"])
def test_types_and_byte_orders_are_read(array, dtype, zarr_format):
    check(array, VALUES.astype(dtype), chunks=CHUNKS, zarr_format=zarr_format)


def test_records_are_read(array):
    record = np.array([(1, 2.5), (3, 4.5)], [("a", "i4"), ("b", "f8")])
    check(array, record, chunks=(1,), zarr_format=2)


@pytest.mark.parametrize("key", [("v2", "."), ("v2", "/"), ("default", "."), ("default", "/")])
def test_each_kind_of_chunk_key_is_read(array, key):
    encoding = {"name": key[0], "separator": key[1]}
    check(array, VALUES, chunks=CHUNKS, chunk_key_encoding=encoding)


@given(
    values=hnp.arrays("i4", hnp.array_shapes(max_dims=3, max_side=5), elements=st.integers(0, 2)),
    data=st.data(),
)
@settings(deadline=None, max_examples=40)
def test_rows_in_any_order_are_equal_to_those_of_zarr(values, data):
    import zarr
    from zarr.storage import MemoryStore

    chunks = tuple(data.draw(st.integers(1, side)) for side in values.shape)
    shards = tuple(side * data.draw(st.integers(1, 2)) for side in chunks)
    store, reader = MemoryStore(), ZarrReader()
    made = zarr.create_array(
        store,
        shape=values.shape,
        dtype="i4",
        chunks=chunks,
        shards=data.draw(st.sampled_from([None, shards])),
        fill_value=data.draw(st.integers(0, 2)),
    )
    made[:] = values
    directory = MemoryDirectory({key: item.to_bytes() for key, item in store._store_dict.items()})
    index = reader.index(directory)
    for position in data.draw(st.permutations(range(len(values)))):
        assert np.array_equal(reader.read(directory, index, position)[1], values[position])
