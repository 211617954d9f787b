"""The index of a directory of images: the path and the class of each image, at two bytes plus the path."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from ipfs_dataset_core import FilesIndex, FormatError, LimitError, NameTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipfs_dataset_core import Limits

_MAX_CLASSES = 1 << 16  # a label takes two bytes


def index_of_images(
    paths: Iterable[str], classes: Sequence[str] | None, name: str, limits: Limits
) -> FilesIndex:
    """Returns the index of a directory of images; its column ``labels`` has the number of each class.

    Args:
        paths: The paths of the images, each in the folder of its class.
        classes: The names of the classes, in the order of their numbers. With None, the classes are those of
            the images, sorted by name.
        name: The name of the directory, for errors.
        limits: The limits for the number of images and the length of their paths.

    Raises:
        FormatError: There are no images, or images whose class is not in `classes`.
        LimitError: There are too many images or classes.
    """
    images = NameTable(paths, limits=limits)
    found = {class_of(path) for path in images}
    if not found:
        raise FormatError(
            f"{name!r} has no images in folders of classes, such as 'cat/1.jpg': check the path, or "
            "name the suffixes of the images with ImagesReader(extensions=[…])."
        )
    names = sorted(found) if classes is None else list(classes)
    if unknown := found.difference(names):
        raise FormatError(
            f"{name!r} has images of the class {min(unknown)!r}, which classes= does not list."
        )
    if len(names) > _MAX_CLASSES:
        raise LimitError(
            f"{name!r} has {len(names)} classes, more than the limit of {_MAX_CLASSES}: "
            "read it as 'folder'."
        )
    numbers = {class_name: number for number, class_name in enumerate(names)}
    return FilesIndex(images, labels=array("H", (numbers[class_of(path)] for path in images)))


def class_of(path: str) -> str:
    """Returns the class of an image: the first part of its path, or an empty string if it is in no folder."""
    return path.partition("/")[0] if "/" in path else ""
