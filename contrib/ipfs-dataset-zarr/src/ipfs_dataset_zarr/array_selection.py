"""The selection of arrays if the user names none: those that share the leading axis of the largest array."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError

if TYPE_CHECKING:
    from ipfs_dataset_zarr.metadata import Document


def select_arrays(documents: dict[str, Document], name: str) -> list[Document]:
    """Returns the largest array and those with the same leading axis.

    For a climate data set, this includes the times and leaves out coordinates such as latitudes, which are
    the same for all samples. Two axes are the same if they have the same name and length; without names, the
    length decides.

    Args:
        documents: The arrays of the store by path.
        name: The name of the store, for errors.

    Raises:
        FormatError: The store has no arrays with rows, or several largest arrays with different leading axes.
    """
    axes = {}
    for document in documents.values():
        if (axis := _leading_axis(document)) is not None:
            axes[document] = axis
    if not axes:
        raise FormatError(
            f"{name!r} has no arrays with rows. If its arrays are in groups, add the path of a group to the "
            "URL, or name arrays with ZarrReader(variables=['group/array'])."
        )
    largest_size = max(map(_size, axes))
    candidates = {axis for document, axis in axes.items() if _size(document) == largest_size}
    if len(candidates) > 1:
        shapes = ", ".join(f"{document.path}{document.fields['shape']}" for document in axes)
        raise FormatError(
            f"The largest arrays of {name!r} have different leading axes: {shapes}. Choose arrays with "
            "ZarrReader(variables=[…])."
        )
    (selected_axis,) = candidates
    return [document for document, axis in axes.items() if axis == selected_axis]


def _leading_axis(document: Document) -> tuple[str | None, int] | None:
    """Returns the name and the length of the leading axis of an array, or None if the array has no axes."""
    shape = document.fields.get("shape")
    if not isinstance(shape, list) or not shape or not all(type(n) is int for n in shape):
        return None
    name = document.dimensions[0] if document.dimensions else None
    return (name if isinstance(name, str) else None), shape[0]


def _size(document: Document) -> int:
    """Returns the number of items in an array."""
    return math.prod(document.fields["shape"])
