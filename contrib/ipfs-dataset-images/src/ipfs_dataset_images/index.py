"""Which images a folder has, and of which class each is: two bytes an image, plus its path."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from ipfs_dataset_core import FilesIndex, FormatError, LimitError, NameTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipfs_dataset_core import Limits

_MOST_CLASSES = 1 << 16


def index_of_images(
    paths: Iterable[str], classes: Sequence[str] | None, name: str, limits: Limits
) -> FilesIndex:
    """Returns the images of a folder, with the number of each one's class as ``index.labels``.

    Args:
        paths: The images, each in the folder of its class.
        classes: The names of the classes, in order; None for those that are there, sorted.
        name: What errors call the folder.
        limits: How many images there may be, and how long their paths.

    Raises:
        FormatError: There are no images, or some of a class that is not among `classes`.
        LimitError: There are too many images or classes.
    """
    images = NameTable(paths, limits=limits)
    found = {class_of(path) for path in images}
    if not found:
        raise FormatError(
            f"{name!r} has no images in folders of classes, such as 'cat/1.jpg': check the path, or "
            "name the suffixes of the images by ImagesReader(extensions=[…])."
        )
    names = sorted(found) if classes is None else list(classes)
    if unknown := found.difference(names):
        raise FormatError(
            f"{name!r} has images of the class {min(unknown)!r}, which classes= does not list."
        )
    if len(names) > _MOST_CLASSES:
        raise LimitError(
            f"{name!r} has {len(names)} classes, more than the limit of {_MOST_CLASSES}: "
            "read it as 'folder'."
        )
    numbers = {name: number for number, name in enumerate(names)}
    return FilesIndex(images, labels=array("H", (numbers[class_of(path)] for path in images)))


def class_of(path: str) -> str:
    """Returns the class of an image, empty where it lies in no folder."""
    return path.partition("/")[0] if "/" in path else ""
