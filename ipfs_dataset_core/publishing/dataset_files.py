"""Finds the files from which a dataset's samples are read, and the names of its classes.

All results are hints: an exporter publishes a file in place of an image only if both give the same image.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ipfs_dataset_core.datasets.composed import part_with
from ipfs_dataset_core.interfaces.dataset_card import MAX_CLASSES, class_numbers
from ipfs_dataset_core.runtime.user_warnings import warn_user

if TYPE_CHECKING:
    from collections.abc import Iterable

# Attributes in which datasets of torchvision, and similar ones, list their files.
_LISTS = ("samples", "imgs", "_samples", "_image_files", "_images", "images")
_LOSSY = (".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".jp2", ".avif")
# Data types of the image columns of Hugging Face datasets.
_ENCODED: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
# Bounds the search if a Subset contains itself.
_DEPTH = 16


def file_of(dataset: Any, index: int) -> str | None:
    """Returns the path of the file from which a sample is read; None if the dataset does not list files.

    Args:
        dataset: A map-style dataset, or a `Subset` or `ConcatDataset` of such datasets.
        index: Index of the sample.
    """
    try:
        dataset, index = _innermost(dataset, index)
        for name in _LISTS:
            listed = getattr(dataset, name, None)
            if isinstance(listed, Sequence) and not isinstance(listed, (str, bytes)):
                entry = listed[index]
                path = entry[0] if isinstance(entry, (tuple, list)) and entry else entry
                if isinstance(path, (str, os.PathLike)):
                    return os.fspath(path)
    except Exception:  # noqa: BLE001 - only a hint, and a dataset may raise anything
        return None
    return None


def with_file(sample: Any, dataset: Any, index: int) -> Any:
    """Returns a sample whose image is marked with its file, as Pillow marks images that it opens."""
    pil = sys.modules.get("PIL.Image")
    if pil is None:
        return sample
    image = pil.Image
    for part in _parts(sample):
        # Sooner than isinstance(), which looks for the __class__ of what is no image as well.
        if issubclass(type(part), image):
            if isinstance(sample, Mapping):
                _give_files(sample, dataset, index)
            if not getattr(part, "filename", ""):
                path = file_of(dataset, index)
                if path is not None:
                    part.filename = path
            break
    return sample


def _give_files(sample: Mapping[Any, Any], dataset: Any, index: int) -> None:
    """Marks the images in a sample of a Hugging Face dataset with their files, which it stores as bytes."""
    pil = sys.modules["PIL.Image"]
    images = {
        name: part
        for name, part in sample.items()
        if isinstance(part, pil.Image) and not getattr(part, "filename", "")
    }
    if not images:
        return
    try:
        dataset, index = _innermost(dataset, index)
        encoded = _encoded_columns(dataset)
        row = {} if encoded is None else encoded[index]
        files = {name: row[name]["bytes"] for name in images if row.get(name)}
    except Exception:  # noqa: BLE001 - only a hint, and a dataset may raise anything
        return
    for name, data in files.items():
        if isinstance(data, bytes):
            images[name].fp = io.BytesIO(data)


def _encoded_columns(dataset: Any) -> Any:
    """Returns the image columns of a Hugging Face dataset without decoding; None for other datasets."""
    if (columns := _image_columns(dataset)) is None:
        return None
    if dataset not in _ENCODED:
        kinds = {name: type(feature) for name, feature in columns.items()}
        found: Any = dataset.with_format(None).select_columns(list(kinds)) if kinds else None
        for name, kind in kinds.items():
            found = found.cast_column(name, kind(decode=False))
        _ENCODED[dataset] = found
    return _ENCODED[dataset]


def _image_columns(dataset: Any) -> dict[str, Any] | None:
    """Returns the image features of a Hugging Face dataset by column; None for other datasets."""
    features = getattr(dataset, "features", None)
    if not isinstance(features, Mapping) or not hasattr(dataset, "cast_column"):
        return None
    return {n: f for n, f in features.items() if type(f).__name__ == "Image" and f.decode}


def with_stored_images(dataset: Any) -> Iterable[Any]:
    """Returns the samples of an iterable dataset; images of a Hugging Face dataset carry their files.

    The image columns are read without decoding, and then decoded by their own features. If it is not certain
    that this yields the same samples, the dataset is returned unchanged.
    """
    try:
        columns = _image_columns(dataset)
        # The cast dataset has neither the format nor the state that was loaded.
        if not columns or dataset._formatting or dataset._starting_state_dict:  # noqa: SLF001 - not public
            return dataset  # type: ignore[no-any-return]
        stored = dataset
        for name, feature in columns.items():
            stored = stored.cast_column(name, type(feature)(mode=feature.mode, decode=False))
        stored.set_epoch(dataset.epoch)
    except Exception:  # noqa: BLE001 - only a hint, and a dataset may raise anything
        return dataset  # type: ignore[no-any-return]
    return (_decoded(row, columns, dataset) for row in stored)


def _decoded(row: Mapping[str, Any], columns: Mapping[str, Any], dataset: Any) -> dict[str, Any]:
    """Returns a row with decoded images, which carry their files."""
    decoded = dict(row)
    tokens = getattr(dataset, "_token_per_repo_id", None)
    for name, feature in columns.items():
        stored = decoded.get(name)
        if stored is None:
            continue
        if not isinstance(stored, (Mapping, str)):
            _warn_of_decoded(stored, name)
            continue
        image = decoded[name] = feature.decode_example(stored, token_per_repo_id=tokens)
        data = stored.get("bytes") if isinstance(stored, Mapping) else None
        if isinstance(data, bytes) and not getattr(image, "filename", ""):
            image.fp = io.BytesIO(data)
    return decoded


def _warn_of_decoded(image: Any, column: str) -> None:
    """Warns about a lossy image whose file is gone, because a function of the user got it decoded."""
    if f".{getattr(image, 'format', None)}".lower() in _LOSSY:
        warn_user(
            f"The images of the column {column!r} are decoded for a function of map or filter, so they are "
            "published as PNG, several times as large as their files. To publish the files, decode them "
            f"after the functions: call cast_column({column!r}, Image(decode=False)) first, give map the "
            f"features with Image(decode=False), and call cast_column({column!r}, Image()) last",
            UserWarning,
        )


def warn_of_transform(sample: Any, dataset: Any, index: int) -> None:
    """Warns if a dataset of lossy images yields arrays or tensors, which take many times as many bytes."""
    kinds = {type(part).__module__.partition(".")[0] for part in _parts(sample)}
    if not kinds & {"torch", "numpy", "torchvision"} or "PIL" in kinds:
        return
    path = file_of(dataset, index)
    if path is not None and path.lower().endswith(_LOSSY):
        warn_user(
            f"The images of {type(dataset).__name__} are published as the arrays that its transform or "
            "loader returns, many times as large as their files. Export the dataset without the transform to "
            "publish its files as they are, and give the transform to the imported dataset",
            UserWarning,
        )


def classes_of(dataset: Any) -> dict[str, int]:
    """Returns the class numbers of a dataset by class name; empty if its classes have no names.

    Args:
        dataset: Any dataset. Those of torchvision have ``class_to_idx`` or ``classes``, those of Hugging Face
            a feature with names.
    """
    try:
        return _classes_of(dataset, 0)
    except Warning:  # made an error by the user's filters
        raise
    except Exception:  # noqa: BLE001 - a dataset may raise anything
        return {}


def _classes_of(dataset: Any, depth: int) -> dict[str, int]:
    if depth > _DEPTH:
        return {}
    for name in ("class_to_idx", "classes"):
        listed = getattr(dataset, name, None)
        if isinstance(listed, (Mapping, list, tuple)) and listed:
            if len(listed) > MAX_CLASSES:
                warn_user(
                    f"The names of the {len(listed):,} classes of {type(dataset).__name__} are not "
                    f"published: at most {MAX_CLASSES:,} are",
                    UserWarning,
                )
                continue
            try:
                return class_numbers(listed)
            except ValueError:
                continue
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        named = [names for f in features.values() if (names := getattr(f, "names", None))]
        # If there are several, none can be taken for the class of the sample.
        if len(named) == 1:
            return class_numbers(named[0])
    parts = getattr(dataset, "datasets", None)
    if isinstance(parts, (list, tuple)) and parts:
        found = [_classes_of(part, depth + 1) for part in parts]
        return found[0] if all(other == found[0] for other in found) else {}
    inner = getattr(dataset, "dataset", None)
    return {} if inner is None else _classes_of(inner, depth + 1)


def _innermost(dataset: Any, index: int) -> tuple[Any, int]:
    """Returns the dataset that contains a sample, and the sample's index in that dataset."""
    data: Any = sys.modules.get("torch.utils.data")
    for _ in range(_DEPTH if data is not None else 0):
        if isinstance(dataset, data.Subset):
            dataset, index = dataset.dataset, int(dataset.indices[index])
        elif isinstance(dataset, data.ConcatDataset):
            part, index = part_with(dataset, index)
            dataset = dataset.datasets[part]
        else:
            break
    return dataset, index


def _parts(sample: Any) -> Iterable[Any]:
    # By far most samples are of the first types, whose check is the fastest.
    kind = type(sample)
    if kind is tuple or kind is list:
        return sample  # type: ignore[no-any-return]
    if kind is dict:
        return sample.values()  # type: ignore[no-any-return]
    if not _is_container(kind):  # type: ignore[arg-type] # classes are hashable
        return (sample,)
    return sample.values() if isinstance(sample, Mapping) else sample


@lru_cache(maxsize=256)
def _is_container(kind: type) -> bool:
    # Cached, because finding that a type is no mapping takes several times as long as a look-up.
    return issubclass(kind, (tuple, list, Mapping))
