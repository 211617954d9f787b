"""The metadata documents of a Zarr store: consolidated where they are, else one by one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import attrs

from ipfs_dataset_core import FormatError, LimitError, ObjectNotFoundError, unique_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ipfs_dataset_zarr.borrowed_directory import Borrowed

_MOST_MEMBERS = 10_000
# What of an array's metadata decides which values it has; not its attributes.
_COMPARED = (
    *("shape", "chunks", "chunk_grid", "dtype", "data_type", "order", "fill_value", "filters"),
    *("compressor", "codecs", "chunk_key_encoding", "dimension_separator"),
)
_PATTERN_OF = {3: "zarr.json", 2: ".zarray"}


@attrs.frozen(eq=False)
class Document:
    """What a Zarr store says about one of its arrays.

    Attributes:
        path: The array's, empty where the store is one array.
        zarr_format: The version of the format.
        fields: The metadata.
        dimensions: The names of its axes, as xarray writes them; empty where there are none.
    """

    path: str
    zarr_format: Literal[2, 3]
    fields: dict[str, Any] = attrs.field(repr=False)
    dimensions: tuple[Any, ...] = ()


class Documents:
    """The arrays of a store.

    Args:
        directory: The store.

    Raises:
        FormatError: It is none, or its metadata are damaged.
    """

    def __init__(self, directory: Borrowed) -> None:
        self._directory = directory
        self._found: dict[str, Document] | None = None
        self._consolidated = False
        if (root := self._load("zarr.json")) is not None:
            self._format: Literal[2, 3] = 3
            consolidated = _member(root, "consolidated_metadata", {}).get("metadata")
            if root.get("node_type") == "array":
                self._found = dict(_of_version_3({"": root}))
            elif isinstance(consolidated, dict):
                self._found = dict(_of_version_3(consolidated))
                self._consolidated = True
        else:
            self._format = 2
            self._open_version_2()

    def _open_version_2(self) -> None:
        if (root := self._load(".zmetadata")) is not None:
            self._found = dict(_of_version_2(_member(root, "metadata", {})))
            self._consolidated = True
        elif (array := self._load(".zarray")) is not None:
            attributes = self._load(".zattrs") or {}
            self._found = dict(_of_version_2({".zarray": array, ".zattrs": attributes}))
        elif self._load(".zgroup") is None:
            raise FormatError(
                f"{self._directory.name!r} is no Zarr store: it has no zarr.json, .zgroup or .zarray. Add "
                "the path of the folder that has one to the URL; if none has, it was published without its "
                "hidden files, which 'ipfs add -r --hidden' adds too."
            )

    def all(self) -> dict[str, Document]:
        """Returns every array; without consolidated metadata, those directly in the store."""
        if self._found is None:
            self._found = {
                name: found for name in self._members() if (found := self._one(name)) is not None
            }
        return self._found

    def get(self, path: str) -> Document:
        """Returns one array.

        Raises:
            FormatError: There is none.
        """
        path = path.strip("/")
        found = self._one(path) if self._found is None else self._found.get(path)
        if found is None:
            raise FormatError(
                f"{self._directory.name!r} has no array {path!r}. It has "
                f"{', '.join(self.all()) or 'none'}."
            )
        return found

    def current(self, path: str) -> Document:
        """Returns one array, whose own document was compared with the consolidated metadata, if it has any.

        Raises:
            FormatError: There is none, or the consolidated metadata are older: an array to which rows were
                added afterwards would be shorter.
        """
        found = self.get(path)
        own = self._load(self._place(found.path)) if self._consolidated else None
        if own is None:
            return found
        for name in _COMPARED:
            if own.get(name) != found.fields.get(name):
                raise FormatError(
                    f"The consolidated metadata of {self._directory.name!r} are not those of its array "
                    f"{found.path!r}: there, {name} is {found.fields.get(name)!r}, and in its own "
                    f"{_PATTERN_OF[self._format]} {own.get(name)!r}. Call zarr.consolidate_metadata "
                    "again, and publish that."
                )
        return found

    def prefetch(self, paths: Iterable[str]) -> None:
        """Starts to read what `current` compares, of all arrays at once."""
        if self._consolidated:
            self._directory.get().prefetch([self._place(path) for path in paths])

    def _place(self, path: str) -> str:
        return f"{path}/{_PATTERN_OF[self._format]}".lstrip("/")

    def _members(self) -> list[str]:
        names = self._directory.get().names()
        if len(names) > _MOST_MEMBERS:
            raise LimitError(
                f"{self._directory.name!r} has {len(names)} members, more than the limit of {_MOST_MEMBERS} "
                "without consolidated metadata: name those to read, ZarrReader(variables=[…])."
            )
        self._directory.get().prefetch([f"{name}/{_PATTERN_OF[self._format]}" for name in names])
        return names

    def _one(self, path: str) -> Document | None:
        if self._format == 3:  # noqa: PLR2004 - the version
            fields = self._load(f"{path}/zarr.json")
            return None if fields is None else dict(_of_version_3({path: fields})).get(path)
        fields = self._load(f"{path}/.zarray")
        if fields is None:
            return None
        attributes = self._load(f"{path}/.zattrs") or {}
        parts = {f"{path}/.zarray": fields, f"{path}/.zattrs": attributes}
        return dict(_of_version_2(parts)).get(path)

    def _load(self, path: str) -> dict[str, Any] | None:
        try:
            file = self._directory.get().open(path)
        except (ObjectNotFoundError, FormatError):  # FormatError: there is a file on the way
            return None
        what = f"{path!r} of {self._directory.name!r}"
        self._directory.get().limits.check("listing_bytes", file.size, what)
        try:
            found = json.loads(file.read_at(0, file.size), object_pairs_hook=unique_names)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{what} is not usable JSON: {error}. Publish it again.") from error
        if not isinstance(found, dict):
            raise FormatError(f"{what} is no JSON object. Publish it again.")
        return found


def _of_version_3(members: Mapping[str, Any]) -> Iterator[tuple[str, Document]]:
    for path, fields in members.items():
        if isinstance(fields, dict) and fields.get("node_type") == "array":
            yield path, Document(path, 3, fields, _names(fields.get("dimension_names")))


def _of_version_2(members: Mapping[str, Any]) -> Iterator[tuple[str, Document]]:
    for key, fields in members.items():
        path, _, kind = key.rpartition("/")
        if kind == ".zarray" and isinstance(fields, dict):
            attributes = members.get(key.removesuffix(".zarray") + ".zattrs")
            names = attributes.get("_ARRAY_DIMENSIONS") if isinstance(attributes, dict) else None
            yield path, Document(path, 2, fields, _names(names))


def _names(found: object) -> tuple[Any, ...]:
    return tuple(found) if isinstance(found, list) else ()


def _member(fields: dict[str, Any], name: str, default: dict[str, Any]) -> dict[str, Any]:
    found = fields.get(name)
    return found if isinstance(found, dict) else default
