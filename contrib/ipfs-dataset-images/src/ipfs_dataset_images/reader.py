"""The reader: an image and the number of its class, which the image's folder names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from ipfs_dataset_core import FormatError, ObjectDirectory, Reader, open_reader
from ipfs_dataset_images.decoding import MAX_PIXELS, decode_image
from ipfs_dataset_images.index import class_of, index_of_images

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from PIL.Image import Image

    from ipfs_dataset_core import FilesIndex, FolderReader

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class ImagesReader(Reader):
    """Reads a directory with a folder for each class, as ``(path, (image, class))``.

    The image is a PIL image, the class a number, as torchvision's `ImageFolder` has them. A
    ``metadata.txt`` is followed as with the format ``folder``: it says which files, in which order.

    Args:
        classes: The names of the classes in the order of their numbers; by default those that the directory
            has, sorted. Give them where several directories must agree.
        extensions: What the names of images end in, in lower case.
        decode: False gives the bytes of each file in place of the image.
        mode: The mode of Pillow to which images are converted, such as ``"RGBA"`` or ``"L"``; None leaves
            each in its own. By default RGB, without transparency, as in torchvision. Numbers of more than 8
            bits, as depth and X-ray images have them, are a `FormatError` where the mode does not hold them.
        frames: ``"one"`` makes an image of several frames, such as an animation or a TIFF file of pages, a
            `FormatError`; ``"first"`` gives the first.
        max_pixels: A larger image is a `LimitError`.

    Raises:
        ValueError: There is no such choice of frames.
    """

    cheap_index = True

    def __init__(
        self,
        *,
        classes: Sequence[str] | None = None,
        extensions: Iterable[str] = EXTENSIONS,
        decode: bool = True,
        mode: str | None = "RGB",
        frames: Literal["one", "first"] = "one",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._classes = None if classes is None else list(classes)
        self._extensions = tuple(extensions)
        self._decodes = decode
        self._mode = mode
        if frames not in ("one", "first"):
            raise ValueError(f"frames is {frames!r}, and 'one' or 'first' are possible")
        self._first_frame = frames == "first"
        self._max_pixels = max_pixels
        self._folder = cast("FolderReader", open_reader("folder"))

    def index(self, source: ObjectDirectory) -> FilesIndex:
        """Returns the images; reads no more than the directory.

        Raises:
            FormatError: It has none, or is a file, or its list of members cannot be used.
        """
        if not isinstance(source, ObjectDirectory):
            raise FormatError(
                f"{source.name!r} is a file: the format 'images' reads a directory of folders."
            )
        images = (
            path
            for path in self._folder.members(source)
            if class_of(path) and path.lower().endswith(self._extensions)
        )
        return index_of_images(images, self._classes, source.name, source.limits)

    def decode(self, data: bytes, index: FilesIndex, position: int) -> tuple[Image | bytes, int]:
        label: int = index.labels[position]
        if not self._decodes:
            return data, label
        return decode_image(
            data, self._max_pixels, self._mode, first_frame=self._first_frame
        ), label
