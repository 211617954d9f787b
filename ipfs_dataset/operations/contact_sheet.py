"""Contact sheets: the samples of a dataset as one picture."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.datasets.describing import value_text
from ipfs_dataset_core.errors import FormatError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

# Sizes in pixels: a sample's picture, the line below it, and the gap between samples.
_SIDE, _LINE, _GAP = 128, 14, 8
# In characters.
_LONGEST_LABEL = 21
# Maximum number of parts of a sample in which to look for a picture.
_MOST_PARTS = 21
_COLOURS = (3, 4)


def contact_sheet(samples: Sequence[Any], classes: Sequence[str] | None = None) -> Image:
    """Returns a picture of all samples and their labels; tensors and arrays are drawn as heat maps.

    Args:
        samples: The samples.
        classes: Class names by label number.

    Raises:
        FormatError: There are no samples.
        MissingDependencyError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw  # noqa: PLC0415 - optional
    except ImportError as error:
        raise MissingDependencyError("Pictures need Pillow: pip install pillow") from error
    if not samples:
        raise FormatError("There are no samples to make a picture of")
    columns = math.ceil(math.sqrt(len(samples)))
    rows = math.ceil(len(samples) / columns)
    cell = _SIDE + _GAP, _SIDE + _LINE + _GAP
    sheet = Image.new("RGB", (columns * cell[0] + _GAP, rows * cell[1] + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, sample in enumerate(samples):
        left = _GAP + number % columns * cell[0]
        top = _GAP + number // columns * cell[1]
        picture = picture_of(sample)
        if picture is None:
            draw.rectangle((left, top, left + _SIDE - 1, top + _SIDE - 1), outline="silver")
        else:
            picture = _fitted(picture)
            place = left + (_SIDE - picture.width) // 2, top + (_SIDE - picture.height) // 2
            sheet.paste(picture, place)
        label = _label(sample, classes) or f"{number}"
        draw.text((left, top + _SIDE + 1), _drawable(label), fill="black")
    return sheet


def picture_of(sample: Any) -> Image | None:
    """Returns the first part of a sample that can be shown as an image; None if there is none."""
    from PIL import Image  # noqa: PLC0415 - optional

    if isinstance(sample, Image.Image):
        return sample.convert("RGB")
    if isinstance(sample, dict):
        sample = list(sample.values())
    if isinstance(sample, (tuple, list)):
        found = map(picture_of, sample[:_MOST_PARTS])
        return next((picture for picture in found if picture is not None), None)
    if isinstance(sample, bytes):
        try:
            return Image.open(io.BytesIO(sample)).convert("RGB")
        except Exception:  # noqa: BLE001 - bytes of any kind
            return None
    if hasattr(sample, "shape") and hasattr(sample, "dtype"):
        return _heat_map(sample)
    return None


def _heat_map(values: Any) -> Image | None:
    import numpy as np  # noqa: PLC0415 - not for images
    from PIL import Image  # noqa: PLC0415 - optional

    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):
        return None  # for example sparse, bfloat16 or requiring a gradient
    if array.size == 0 or array.dtype.kind not in "biuf" or array.ndim == 0:
        return None
    if array.ndim == 1:
        array = array[np.newaxis, :]
    while array.ndim > 3:  # noqa: PLR2004 - rows, columns, colours
        array = array[0]
    if array.ndim == 3 and array.shape[0] in (1, *_COLOURS):  # noqa: PLR2004 - colours come first
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] not in _COLOURS:  # noqa: PLR2004 - no colours
        array = array[..., 0]
    if array.dtype != np.uint8:
        array = array.astype(np.float64)
        finite = array[np.isfinite(array)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
        array = np.nan_to_num((array - low) / ((high - low) or 1), nan=0, posinf=1, neginf=0)
        array = (array * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _fitted(picture: Image) -> Image:
    from PIL import Image  # noqa: PLC0415 - optional

    scale = _SIDE / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    # Small pictures are enlarged without interpolation.
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _label(sample: Any, classes: Sequence[str] | None) -> str:
    if isinstance(sample, dict):
        sample = tuple(sample.values())
    if not isinstance(sample, tuple):
        return ""
    parts = [part for part in sample if isinstance(part, (int, str)) and not isinstance(part, bool)]
    if not parts:
        return ""
    part = parts[-1]
    if isinstance(part, int) and classes is not None and 0 <= part < len(classes):
        return classes[part]
    return part if isinstance(part, str) else value_text(part)


def _drawable(label: str) -> str:
    """Returns a label as one short line of characters that the built-in font contains."""
    line = " ".join(label.rpartition("/")[2].split())
    short = line if len(line) <= _LONGEST_LABEL else f"{line[: _LONGEST_LABEL - 3]}..."
    return short.encode("latin-1", "replace").decode("latin-1")
