"""Which images a folder has, and of which class each is: two bytes an image, plus its path."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, LimitError, MemberIndex, NameTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipfs_dataset_core import Limits, Span

_MOST_CLASSES = 1 << 16


class ImagesIndex(MemberIndex):
    """The images of a folder and their classes.

    Args:
        paths: The images, each in the folder of its class.
        classes: The names of the classes, in order; None for those that are there, sorted.
        name: What errors call the folder.
        limits: How many images there may be, and how long their paths.

    Raises:
        FormatError: There are no images, or some of a class that is not among `classes`.
        LimitError: There are too many images or classes.
    """

    def __init__(
        self, paths: Iterable[str], classes: Sequence[str] | None, name: str, limits: Limits
    ) -> None:
        self._paths = NameTable(paths, limits=limits)
        found = {class_of(path) for path in self._paths}
        if not found:
            raise FormatError(
                f"{name!r} has no images in folders of classes, such as 'cat/1.jpg': check the path, or "
                "name the suffixes of the images by ImagesReader(extensions=[…])."
            )
        self.classes = sorted(found) if classes is None else list(classes)
        if unknown := found.difference(self.classes):
            raise FormatError(
                f"{name!r} has images of the class {min(unknown)!r}, which classes= does not list."
            )
        if len(self.classes) > _MOST_CLASSES:
            raise LimitError(
                f"{name!r} has {len(self.classes)} classes, more than the limit of {_MOST_CLASSES}: "
                "read it as 'folder'."
            )
        numbers = {name: number for number, name in enumerate(self.classes)}
        self._labels = array("H", (numbers[class_of(path)] for path in self._paths))

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, position: int) -> str:
        return self._paths[position]

    def names(self, start: int, stop: int) -> list[str]:
        """Returns the paths of a range of images."""
        return self._paths[start:stop]

    def label(self, position: int) -> int:
        """Returns the number of an image's class."""
        return self._labels[position]

    def span(self, position: int) -> Span:
        return 0, 0


def class_of(path: str) -> str:
    """Returns the class of an image, empty where it lies in no folder."""
    return path.partition("/")[0] if "/" in path else ""
