"""The metadata documents of a Zarr store, read from the consolidated metadata if the store has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import attrs

from ipfs_dataset_core import FormatError, LimitError, ObjectNotFoundError, unique_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ipfs_dataset_zarr.directory_reference import DirectoryReference

_MAX_MEMBERS = 10_000
# The metadata that decide which values an array has. Attributes are not among them.
_COMPARED_FIELDS = (
    *("shape", "chunks", "chunk_grid", "dtype", "data_type", "order", "fill_value", "filters"),
    *("compressor", "codecs", "chunk_key_encoding", "dimension_separator"),
)
_DOCUMENT_NAMES = {3: "zarr.json", 2: ".zarray"}


@attrs.frozen(eq=False)
class Document:
    """The metadata of an array.

    Attributes:
        path: The path of the array in the store, empty if the store is a single array.
        zarr_format: The version of the format.
        fields: The content of ``zarr.json`` or ``.zarray``.
        dimensions: The names of the axes, as xarray writes them, or an empty tuple.
    """

    path: str
    zarr_format: Literal[2, 3]
    fields: dict[str, Any] = attrs.field(repr=False)
    dimensions: tuple[Any, ...] = ()


class Documents:
    """The metadata documents of the arrays of a store.

    Args:
        directory: The directory of the store.

    Raises:
        FormatError: The directory is not a Zarr store, or its metadata are damaged.
        LimitError: A document is larger than `Limits.listing_bytes`.
    """

    def __init__(self, directory: DirectoryReference) -> None:
        self._directory = directory
        self._documents: dict[str, Document] | None = None  # None until all are known
        self._consolidated = False
        if (root := self._load("zarr.json")) is not None:
            self._format: Literal[2, 3] = 3
            consolidated = _object_in(root, "consolidated_metadata").get("metadata")
            if root.get("node_type") == "array":
                self._documents = dict(_documents_version_3({"": root}))
            elif isinstance(consolidated, dict):
                self._documents = dict(_documents_version_3(consolidated))
                self._consolidated = True
        else:
            self._format = 2
            self._open_version_2()

    def _open_version_2(self) -> None:
        if (root := self._load(".zmetadata")) is not None:
            self._documents = dict(_documents_version_2(_object_in(root, "metadata")))
            self._consolidated = True
        elif (array := self._load(".zarray")) is not None:
            attributes = self._load(".zattrs") or {}
            self._documents = dict(_documents_version_2({".zarray": array, ".zattrs": attributes}))
        elif self._load(".zgroup") is None:
            raise FormatError(
                f"{self._directory.name!r} is not a Zarr store: it has no zarr.json, .zgroup or .zarray. Add "
                "the path of the folder that has one to the URL. If there is none, the store was published "
                "without its hidden files, which 'ipfs add -r --hidden' includes."
            )

    def all(self) -> dict[str, Document]:
        """Returns the arrays by path. Without consolidated metadata, they are those directly in the store."""
        if self._documents is None:
            documents = ((name, self._read(name)) for name in self._members())
            self._documents = {name: found for name, found in documents if found is not None}
        return self._documents

    def get(self, path: str) -> Document:
        """Returns one array.

        Raises:
            FormatError: The store has no such array.
        """
        path = path.strip("/")
        document = self._read(path) if self._documents is None else self._documents.get(path)
        if document is None:
            raise FormatError(
                f"{self._directory.name!r} has no array {path!r}. It has "
                f"{', '.join(self.all()) or 'none'}."
            )
        return document

    def current(self, path: str) -> Document:
        """Returns one array; if its metadata are consolidated, they are compared with its own document.

        Raises:
            FormatError: The store has no such array, or its consolidated metadata are outdated. An array to
                which rows were added afterwards would be too short.
        """
        document = self.get(path)
        own = self._load(self._document_path(document.path)) if self._consolidated else None
        if own is None:
            return document
        for name in _COMPARED_FIELDS:
            if own.get(name) != document.fields.get(name):
                raise FormatError(
                    f"The consolidated metadata of {self._directory.name!r} differ from those of its array "
                    f"{document.path!r}: {name} is {document.fields.get(name)!r} in the former, and "
                    f"{own.get(name)!r} in {_DOCUMENT_NAMES[self._format]}. Call zarr.consolidate_metadata "
                    "again, and publish the result."
                )
        return document

    def prefetch(self, paths: Iterable[str]) -> None:
        """Starts reading the documents that `current` compares for these arrays."""
        if self._consolidated:
            self._directory.get().prefetch([self._document_path(path) for path in paths])

    def _document_path(self, path: str) -> str:
        return f"{path}/{_DOCUMENT_NAMES[self._format]}".lstrip("/")

    def _members(self) -> list[str]:
        """Returns the names of the files and folders in the store, and prefetches their documents."""
        names = self._directory.get().names()
        if len(names) > _MAX_MEMBERS:
            raise LimitError(
                f"{self._directory.name!r} has {len(names)} members, more than the limit of {_MAX_MEMBERS} "
                "without consolidated metadata: name the arrays with ZarrReader(variables=[…])."
            )
        self._directory.get().prefetch(
            [f"{name}/{_DOCUMENT_NAMES[self._format]}" for name in names]
        )
        return names

    def _read(self, path: str) -> Document | None:
        """Reads the document of an array; returns None if there is no array at this path."""
        if self._format == 3:  # noqa: PLR2004 - the version
            fields = self._load(f"{path}/zarr.json")
            return None if fields is None else dict(_documents_version_3({path: fields})).get(path)
        fields = self._load(f"{path}/.zarray")
        if fields is None:
            return None
        attributes = self._load(f"{path}/.zattrs") or {}
        parts = {f"{path}/.zarray": fields, f"{path}/.zattrs": attributes}
        return dict(_documents_version_2(parts)).get(path)

    def _load(self, path: str) -> dict[str, Any] | None:
        """Returns the content of a JSON file, or None if the store has no such file."""
        try:
            file = self._directory.get().open(path)
        except (ObjectNotFoundError, FormatError):  # FormatError: a part of the path is a file
            return None
        what = f"{path!r} of {self._directory.name!r}"
        self._directory.get().limits.check("listing_bytes", file.size, what)
        try:
            fields = json.loads(file.read_at(0, file.size), object_pairs_hook=unique_names)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{what} is not valid JSON: {error}. Publish it again.") from error
        if not isinstance(fields, dict):
            raise FormatError(f"{what} is not a JSON object. Publish it again.")
        return fields


def _documents_version_3(members: Mapping[str, Any]) -> Iterator[tuple[str, Document]]:
    for path, fields in members.items():
        if isinstance(fields, dict) and fields.get("node_type") == "array":
            yield path, Document(path, 3, fields, _names(fields.get("dimension_names")))


def _documents_version_2(members: Mapping[str, Any]) -> Iterator[tuple[str, Document]]:
    for key, fields in members.items():
        path, _, kind = key.rpartition("/")
        if kind == ".zarray" and isinstance(fields, dict):
            attributes = members.get(key.removesuffix(".zarray") + ".zattrs")
            names = attributes.get("_ARRAY_DIMENSIONS") if isinstance(attributes, dict) else None
            yield path, Document(path, 2, fields, _names(names))


def _names(value: object) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else ()


def _object_in(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns the JSON object in a field, or an empty dict if the field has another type."""
    value = fields.get(name)
    return value if isinstance(value, dict) else {}
