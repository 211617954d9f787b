"""Conversion of samples to rows of columns, which Ray Data uses, and of rows to samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ray.data.block import BlockAccessor

from ipfs_dataset_core import repeated_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ray.data.block import Block

NAME, BYTES, VALUE = "name", "bytes", "value"
_SCALARS = (str, bytes, bool, int, float, type(None))


def row_of_file(sample: tuple[str, Any], columns: Sequence[str] | None) -> dict[str, Any]:
    """Returns the row of a sample ``(name, value)`` of an archive, folder or file.

    Args:
        sample: The sample.
        columns: The names of both columns. By default, these are ``name`` and, for a value of bytes,
            ``bytes``; for a dict, a column for each key, of which ``name`` replaces the name of the sample;
            for any other value, ``value``.

    Raises:
        TypeError: The value is an open file.
        ValueError: The number of columns is wrong, or two values would have the same column.
    """
    name, value = sample
    if hasattr(value, "read") and hasattr(value, "seek"):
        raise TypeError(
            f"{name!r} is an open file, which cannot leave its process: read it as bytes, not as PLAIN_STREAM"
        )
    if columns is not None:
        return row_of_sample(sample, columns)
    if isinstance(value, dict):
        return {NAME: name, **_row(value)}
    return _row({NAME: name, BYTES if isinstance(value, bytes) else VALUE: value})


def row_of_sample(sample: Any, columns: Sequence[str] | None) -> dict[str, Any]:
    """Returns the row of a sample of a published dataset.

    Args:
        sample: The sample. A tuple has a column for each part, a dict one for each key, and any other value
            is one column.
        columns: The names of the columns of a tuple, by default the numbers of its parts; or one name for any
            value other than a tuple or dict, by default ``value``.

    Raises:
        ValueError: The number of columns is not that of the parts, two values would have the same column, or
            there are no values.
    """
    if isinstance(sample, dict):
        return _not_empty(_row(sample))
    parts = sample if isinstance(sample, tuple) else (sample,)
    if columns is None:
        names = [VALUE] if not isinstance(sample, tuple) else list(map(str, range(len(parts))))
    else:
        names = list(columns)
    if len(names) != len(parts):
        raise ValueError(
            f"columns names {len(names)} parts ({', '.join(names)}), and a sample has {len(parts)}"
        )
    return _not_empty(_row(dict(zip(names, parts, strict=True))))


def _not_empty(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row after checking that it has columns: Ray would silently drop one without any."""
    if not row:
        raise ValueError(
            "a sample has no values, and a row needs at least one column: leave it out, or give it a value "
            "with transform="
        )
    return row


def _row(values: dict[Any, Any]) -> dict[str, Any]:
    """Returns a row with a column for each value in a sample.

    Raises:
        ValueError: Two values would have the same column.
    """
    pairs = list(_flattened(values))
    row = dict(pairs)
    if len(row) < len(pairs):
        repeated = repeated_name([name for name, _ in pairs])
        raise ValueError(
            f"two values of a sample have the column {repeated!r}, of which one would be lost: rename a key "
            "with transform="
        )
    return row


def _flattened(values: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields a column for each value; those inside dicts and tuples have names like ``outer.inner``."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, tuple):
            yield from _flattened(dict(enumerate(value)), f"{name}.")
        elif isinstance(value, dict):
            yield from _flattened(value, f"{name}.")
        else:
            yield name, as_column_value(value)


def as_column_value(value: Any) -> Any:
    """Returns a value as it is stored in a column: tensors and images become arrays, also inside lists."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().resolve_conj().resolve_neg().cpu()
        if plain.dtype == torch.bfloat16:  # NumPy lacks this type; float32 has all of its values
            plain = plain.float()
        return plain.numpy()[()]
    if isinstance(value, list):
        return list(map(as_column_value, value))
    if type(value).__module__.partition(".")[0] == "PIL":
        return _pixels(value)
    return value


def _pixels(image: Any) -> np.ndarray[Any, Any]:
    """Returns the pixels of a Pillow image. Numbers of a palette become colours, because it is not stored."""
    if image.mode in ("P", "PA"):
        transparent = image.mode == "PA" or "transparency" in image.info
        image = image.convert("RGBA" if transparent else "RGB")
    return np.array(image)


def row_bytes(row: dict[str, Any]) -> int:
    """Returns the approximate size of a row in memory, in bytes."""
    return sum(map(_value_bytes, row.values())) + 16


def _value_bytes(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, list):
        return sum(map(_value_bytes, value))
    return int(getattr(value, "nbytes", 8))


def block_of(rows: Sequence[dict[str, Any]]) -> Block:
    """Returns rows as a block of Ray Data, with None for the columns that a row lacks."""
    names = dict.fromkeys(name for row in rows for name in row)
    return BlockAccessor.batch_to_block(
        {name: _column([row.get(name) for row in rows]) for name in names}
    )


def _column(values: list[Any]) -> Any:
    if all(isinstance(value, np.ndarray) for value in values):
        are_alike = len({(value.shape, value.dtype) for value in values}) == 1
        # Ray has no tensors of other types, such as complex numbers, and pickles each array.
        if are_alike and values[0].dtype.kind in "biuf":
            return np.stack(values)
        return _objects(values)
    if all(isinstance(value, np.generic) for value in values):
        dtypes = {value.dtype for value in values}
        return np.array(values, dtype=dtypes.pop()) if len(dtypes) == 1 else _objects(values)
    kinds = {type(value) for value in values}
    for kind, dtype in ((bool, np.bool_), (float, np.float64)):
        if kinds == {kind}:
            return np.array(values, dtype=dtype)
    if kinds == {int} and all(-(1 << 63) <= value < 1 << 63 for value in values):
        return np.array(values, dtype=np.int64)
    return _objects(values)


def _objects(values: list[Any]) -> np.ndarray[Any, Any]:
    # np.array(values) would combine lists, or arrays of the same shape, to one array.
    column = np.empty(len(values), dtype=object)
    for number, value in enumerate(values):
        column[number] = value
    return column


def samples_of(blocks: Iterable[Block], columns: Sequence[str] | None) -> Iterator[Any]:
    """Yields the samples for the rows of blocks.

    Args:
        blocks: Blocks of Ray Data.
        columns: The columns that make a sample, which is a tuple in this order; None for a dict of all.

    Raises:
        ValueError: The rows lack one of the columns.
    """
    for block in blocks:
        accessor: Any = BlockAccessor.for_block(block)
        for row in accessor.iter_rows(public_row_format=True):
            if columns is None:
                yield dict(row)
                continue
            if missing := [name for name in columns if name not in row]:
                raise ValueError(
                    f"the rows have no column {missing[0]!r}; they have {', '.join(row) or 'none'}"
                )
            yield tuple(row[name] for name in columns)
