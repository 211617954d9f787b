"""Samples as rows of columns, which is what Ray Data moves, and rows as samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ray.data.block import BlockAccessor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ray.data.block import Block

NAME, BYTES, VALUE = "name", "bytes", "value"
_SCALARS = (str, bytes, bool, int, float, type(None))


def row_of_file(sample: tuple[str, Any], columns: Sequence[str] | None) -> dict[str, Any]:
    """Returns the row of a sample ``(name, value)`` of an archive, folder or file.

    Args:
        sample: The sample.
        columns: The names of both columns; by default ``name`` and ``bytes``. A value that is a dict has a
            column for each key by default, and ``value`` is the column of any other than bytes.
    """
    name, value = sample
    if hasattr(value, "read") and hasattr(value, "seek"):
        raise TypeError(
            f"{name!r} is an open file, which stays in its process: read it as bytes, not as PLAIN_STREAM"
        )
    if columns is not None:
        return row_of_sample(sample, columns)
    row = {NAME: name}
    if isinstance(value, dict):
        row.update(_flattened(value))
    else:
        row.update(_flattened({BYTES if isinstance(value, bytes) else VALUE: value}))
    return row


def row_of_sample(sample: Any, columns: Sequence[str] | None) -> dict[str, Any]:
    """Returns the row of a sample of a published dataset.

    Args:
        sample: A tuple has a column for each part, a dict for each key, anything else is one column.
        columns: The names of the parts of a tuple, by default their numbers; one name for what is no
            container, by default ``value``.

    Raises:
        ValueError: There are not as many names as the sample has parts.
    """
    if isinstance(sample, dict):
        return dict(_flattened(sample))
    parts = sample if isinstance(sample, tuple) else (sample,)
    if columns is None:
        names = [VALUE] if not isinstance(sample, tuple) else list(map(str, range(len(parts))))
    else:
        names = list(columns)
    if len(names) != len(parts):
        raise ValueError(
            f"columns names {len(names)} parts ({', '.join(names)}), and a sample has {len(parts)}"
        )
    return dict(_flattened(dict(zip(names, parts, strict=True))))


def _flattened(values: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields a column for each value; those of dicts and tuples inside are called ``outer.inner``."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, tuple):
            yield from _flattened(dict(enumerate(value)), f"{name}.")
        elif isinstance(value, dict):
            yield from _flattened(value, f"{name}.")
        else:
            yield name, as_column_value(value)


def as_column_value(value: Any) -> Any:
    """Returns a value as a column holds it: arrays for tensors and images, in lists as well."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().resolve_conj().resolve_neg().cpu()
        if plain.dtype == torch.bfloat16:  # NumPy has none, and these are float32 with fewer digits
            plain = plain.float()
        return plain.numpy()[()]
    if isinstance(value, list):
        return list(map(as_column_value, value))
    if type(value).__module__.partition(".")[0] == "PIL":
        return _pixels(value)
    return value


def _pixels(image: Any) -> np.ndarray[Any, Any]:
    """Returns the pixels of an image of Pillow; a palette's numbers would mean nothing without it."""
    if image.mode in ("P", "PA"):
        transparent = image.mode == "PA" or "transparency" in image.info
        image = image.convert("RGBA" if transparent else "RGB")
    return np.array(image)


def weight(row: dict[str, Any]) -> int:
    """Returns about how many bytes of memory a row takes."""
    return sum(map(_weight, row.values())) + 16


def _weight(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, list):
        return sum(map(_weight, value))
    return int(getattr(value, "nbytes", 8))


def block_of(rows: Sequence[dict[str, Any]]) -> Block:
    """Returns rows as a block of Ray Data; a column that a row lacks is None there."""
    names = dict.fromkeys(name for row in rows for name in row)
    return BlockAccessor.batch_to_block(
        {name: _column([row.get(name) for row in rows]) for name in names}
    )


def _column(values: list[Any]) -> Any:
    if all(isinstance(value, np.ndarray) for value in values):
        alike = len({(value.shape, value.dtype) for value in values}) == 1
        # Of other types, such as complex numbers, Ray has no tensors; it pickles each array.
        if alike and values[0].dtype.kind in "biuf":
            return np.stack(values)
        return _objects(values)
    if all(isinstance(value, np.generic) for value in values):
        kinds = {value.dtype for value in values}
        return np.array(values, dtype=kinds.pop()) if len(kinds) == 1 else _objects(values)
    kinds_of_values = {type(value) for value in values}
    for kind, dtype in ((bool, np.bool_), (float, np.float64)):
        if kinds_of_values == {kind}:
            return np.array(values, dtype=dtype)
    if kinds_of_values == {int} and all(-(1 << 63) <= value < 1 << 63 for value in values):
        return np.array(values, dtype=np.int64)
    return _objects(values)


def _objects(values: list[Any]) -> np.ndarray[Any, Any]:
    # Not np.array(values), which would make one array of values that are lists or arrays of one shape.
    column = np.empty(len(values), dtype=object)
    for number, value in enumerate(values):
        column[number] = value
    return column


def samples_of(blocks: Iterable[Block], columns: Sequence[str] | None) -> Iterator[Any]:
    """Yields the samples that rows are published as.

    Args:
        blocks: Blocks of Ray Data.
        columns: Which columns make a sample, a tuple in their order; by default all, a dict.

    Raises:
        ValueError: There is no such column.
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
