"""The reader of directories that have a folder of images for each class."""

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
    """Reads a directory that has a folder for each class, as ``(path, (image, label))``.

    The image is a PIL image and the label is the number of its class, as with `ImageFolder` of torchvision.
    If the directory has a ``metadata.txt``, this list determines which files there are and in which order, as
    for the format ``folder``.

    Args:
        classes: The names of the classes, in the order of their numbers. By default, the classes are the
            folders with images, sorted by name. Name them if several directories must have the same numbers.
        extensions: The suffixes of images, in lower case. The case of file names does not matter.
        decode: Whether to decode images. With False, a sample has the bytes of the file instead.
        mode: The mode of Pillow to which images are converted, such as ``"RGBA"`` or ``"L"``. With None, each
            image keeps its own mode. The default, RGB, drops transparency, as torchvision does. An image
            whose values the mode cannot represent, such as a depth map of 16 bits, raises `FormatError`.
        frames: With ``"one"``, an image with several frames, such as an animation or a TIFF file with pages,
            raises `FormatError`. With ``"first"``, its first frame is the image.
        max_pixels: The maximum number of pixels; decoding a larger image raises `LimitError`.

    Raises:
        ValueError: `frames` is neither ``"one"`` nor ``"first"``.
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
            raise ValueError(f"frames= is 'one' or 'first', not {frames!r}")
        self._first_frame = frames == "first"
        self._max_pixels = max_pixels
        self._folder = cast("FolderReader", open_reader("folder"))

    def index(self, source: ObjectDirectory) -> FilesIndex:
        """Returns the paths and classes of the images; this reads only the directory and its list of files.

        Raises:
            FormatError: The source is a file, or the directory has no images or an invalid ``metadata.txt``.
            LimitError: There are too many images or classes.
        """
        if not isinstance(source, ObjectDirectory):
            raise FormatError(
                f"{source.name!r} is a file: the format 'images' reads a directory with a folder for each "
                "class."
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
        image = decode_image(data, self._max_pixels, self._mode, first_frame=self._first_frame)
        return image, label
