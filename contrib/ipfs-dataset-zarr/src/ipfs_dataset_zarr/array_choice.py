"""Which arrays are read where the user names none: those that share the leading axis of the largest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import FormatError

if TYPE_CHECKING:
    from ipfs_dataset_zarr.metadata import Document


def chosen(documents: dict[str, Document], name: str) -> list[Document]:
    """Returns the arrays along the leading axis of the largest one.

    So coordinates such as latitudes, which are the same for all samples, are left out, and times are not.
    Where axes have names, those that share the name of theirs are meant, else those of the same length.

    Raises:
        FormatError: There are none, or several of the largest have different axes.
    """
    axes = {d: axis for d in documents.values() if (axis := _axis(d)) is not None}
    if not axes:
        raise FormatError(
            f"{name!r} has no arrays with rows. Where its arrays are in groups, add the path of one to the "
            "URL, or name arrays by ZarrReader(variables=['group/array'])."
        )
    most = max(map(_size, axes))
    largest = {axes[document] for document in axes if _size(document) == most}
    if len(largest) > 1:
        shapes = ", ".join(f"{d.path}{d.fields['shape']}" for d in axes)
        raise FormatError(
            f"The arrays of {name!r} do not say along which axis its samples lie: {shapes}. Choose some by "
            "ZarrReader(variables=[…])."
        )
    return [document for document, axis in axes.items() if axis in largest]


def _axis(document: Document) -> tuple[Any, int] | None:
    """Returns the name and the length of an array's leading axis, None where it has none."""
    shape = document.fields.get("shape")
    if not isinstance(shape, list) or not shape or not all(type(n) is int for n in shape):
        return None
    name = document.dimensions[0] if document.dimensions else None
    return (name if isinstance(name, str) else None), shape[0]


def _size(document: Document) -> int:
    return math.prod(document.fields["shape"])
