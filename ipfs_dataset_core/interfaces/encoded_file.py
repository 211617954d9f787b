"""A value that is published as an encoded file."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from ipfs_dataset_core.errors import ExportError


def _extension_of(source: object) -> str:
    """Returns the suffix of a path, in a form that is allowed in the name of a member."""
    if not isinstance(source, (str, os.PathLike)):
        return ""
    found = Path(source).suffix[1:].lower()
    return found if found.isascii() and found.isalnum() and len(found) <= 16 else ""  # noqa: PLR2004


@attrs.frozen
class EncodedFile:
    """A value of a sample, given as an encoded file instead of the decoded value.

    The file is published byte for byte, and decoded when the sample is read::

        samples = [(EncodedFile("cat.jpg"), 0), (EncodedFile(jpeg_bytes, "image:RGB"), 1)]
        cid = IPFSDatasetExporter().export_to_ipfs(samples)
        image, label = IPFSDatasetExporter().import_from_ipfs(cid)[0]  # a PIL image and 0

    Args:
        source: The path of the file, or its content.
        decoder: How to decode it: ``"image"`` gives a PIL image in the mode of the file, ``"image:RGB"``
            converts it to a mode, like the loader of `torchvision.datasets.ImageFolder`; any other value is
            the name of a `ValueCodec` that is given to the exporter and to the importer.
    """

    source: bytes | str | os.PathLike[str]
    decoder: str = "image"

    @property
    def extension(self) -> str:
        """Suffix of the file name, without the dot; empty if it has none."""
        return _extension_of(self.source)

    def read(self) -> bytes:
        """Returns the content of the file.

        Raises:
            ExportError: The file cannot be read.
        """
        if isinstance(self.source, (bytes, bytearray, memoryview)):
            return bytes(self.source)
        try:
            return Path(self.source).read_bytes()
        except (OSError, TypeError, ValueError) as error:
            raise ExportError(
                f"is the file {self.source!r:.200}, which cannot be read: {error}"
            ) from error
