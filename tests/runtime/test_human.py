"""Sizes as people read them."""

from __future__ import annotations

import pytest

from ipfs_dataset_core.runtime.human import human_size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_600_000, "1.6 MB"),
        (999_940, "999.9 kB"),
        (999_960, "1.0 MB"),
        (57_400_000_000, "57.4 GB"),
        (12_345_600_000_000_000_000, "12,345.6 PB"),
    ],
)
def test_sizes_have_a_unit(size, text):
    assert human_size(size) == text
