"""Hypothesis strategies for samples of all kinds that can be exported."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(1 << 200), max_value=1 << 200),
    st.floats(),
    st.complex_numbers(),
    TEXT,
    st.binary(max_size=20),
    st.sampled_from(["$tuple", "$", "", "\ud83d\ude00", "\ud800", "a.b/c", "A", "a"]),
)
KEYS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)


NUMPY_CODES = [
    "?",
    "<i2",
    ">i4",
    "u8",
    "<f2",
    ">f8",
    "c8",
    "S3",
    "U2",
    ">U2",
    "M8[ns]",
    "m8[D]",
    "V5",
]
NUMPY_RECORDS = [[("a", "<i2"), ("b", ">f4", (2,))], [("größe", "u1")], [("x", [("y", "?")])]]


def containers(leaves, max_leaves=12):
    """Nested samples with these leaves."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=4).map(tuple),
            st.dictionaries(KEYS, inner, max_size=4),
        ),
        max_leaves=max_leaves,
    )


@st.composite
def tensors(draw):
    """Small tensors of every type that can be exported, some of them not contiguous."""
    import torch

    names = (
        "bool uint8 int8 int16 uint16 int32 int64 uint64 float16 bfloat16 float32 float64 complex64"
    )
    dtype = getattr(torch, draw(st.sampled_from(names.split())))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = int(np.prod(shape, dtype=int)) * dtype.itemsize
    data = draw(st.binary(min_size=count, max_size=count))
    if dtype is torch.bool:
        data = bytes(byte & 1 for byte in data)
    if not count:
        return torch.empty(shape, dtype=dtype)
    tensor = torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)
    return tensor.transpose(0, -1) if draw(st.booleans()) and shape else tensor


@st.composite
def arrays(draw):
    """Small arrays and numpy scalars, including big-endian, structured, text and time types."""
    code = draw(st.sampled_from([*NUMPY_CODES, *NUMPY_RECORDS]))
    dtype = np.dtype(code)
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    count = int(np.prod(shape, dtype=int)) * dtype.itemsize
    # Below 2: any byte would do but for the types with a rule, which are bool and text.
    data = bytes(draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    if code in ("U2", ">U2"):
        array = np.full(shape, "ä", dtype)
    else:
        array = np.frombuffer(data, dtype).reshape(shape) if count else np.empty(shape, dtype)
    if not shape and draw(st.booleans()) and dtype.names is None:
        return array[()]
    return np.asfortranarray(array) if draw(st.booleans()) else array
