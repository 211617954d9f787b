import pytest

from ipfs_dataset_core.ipld.murmur3 import murmur3_64


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"hello", 0xCBD8A7B341BD9B02),
        (b"hello, world", 0x342FAC623A5EBC8E),
        (b"The quick brown fox jumps over the lazy dog.", 0xCD99481F9EE902C9),
    ],
)
def test_published_vectors(data, expected):
    assert murmur3_64(data) == expected


def test_every_tail_length_changes_the_hash():
    assert len({murmur3_64(b"x" * size) for size in range(100)}) == 100
