"""The filesystem: the base class of fsspec with the verified files and directories of this library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractFileSystem
from fsspec.utils import tokenize

from ipfs_dataset_core import Limits, ObjectDirectory, ObjectFile, Options, redacted
from ipfs_dataset_fsspec.bulk_reads import BulkReading
from ipfs_dataset_fsspec.open_file import IPFSFile
from ipfs_dataset_fsspec.paths import PROTOCOLS, canonical, join, split_name
from ipfs_dataset_fsspec.read_only import ReadOnly, refuse
from ipfs_dataset_fsspec.shared_connections import connections
from ipfs_dataset_fsspec.tree import NOT_FOUND_ERRORS, Symlink, Tree
from ipfs_dataset_fsspec.walking import Walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ipfs_dataset_core import CID
    from ipfs_dataset_fsspec.tree import Node

_NAME_SECONDS = 60.0


class IPFSDatasetFileSystem(BulkReading, ReadOnly, AbstractFileSystem):  # type: ignore[misc]
    """IPFS, read-only. A path is ``CID/a/b``, or ``ipns/name/a/b`` for a mutable name.

    A file is only missing if verified directories prove that it does not exist. If a source fails, an error
    is raised, so that Zarr, for example, does not take a chunk that could not be fetched for an empty one.

    Args:
        ipfs_api_address: The source, as for `ipfs_dataset_core.IPFSDataset`: the API of a node, a folder or a
            `.car` file of blocks. By default, `gateways`, or the sources that the environment configures.
        use_listings_cache: Whether listings and the targets of mutable names are cached.
        listings_expiry_time: The number of seconds after which a mutable name is resolved again; None for
            never. Paths that begin with a CID never change.
        asynchronous: Has no effect; fsspec passes it. All methods are synchronous.
        loop: Has no effect; fsspec passes it.
        **options: Fields of `ipfs_dataset_core.Options`; `limits` may be a mapping.
    """

    protocol = PROTOCOLS
    fsid = "ipfs"  # the same for all sources, because a CID has the same content everywhere

    def __init__(
        self,
        ipfs_api_address: str | None = None,
        *,
        use_listings_cache: bool = True,
        listings_expiry_time: float | None = _NAME_SECONDS,
        asynchronous: bool = False,
        loop: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(asynchronous=asynchronous, loop=loop)
        if isinstance(limits := options.get("limits"), Mapping):
            options["limits"] = Limits(**limits)
        self._connections = connections(ipfs_api_address, Options.from_arguments(options))
        self._memory = self._connections.options.memory
        seconds = listings_expiry_time if use_listings_cache else 0.0
        self._tree = Tree(self._connections, seconds, keep_listings=use_listings_cache)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return [canonical(one) for one in path] if isinstance(path, list) else canonical(path)

    @classmethod
    def _parent(cls, path: Any) -> str:
        """Returns the directory of a path. A CID or mutable name is in no directory, and its own parent."""
        path = cls._strip_protocol(path)
        name, rest = split_name(path)
        if not (path if name is None else rest):
            return str(path)
        parent, separator, _ = path.rpartition("/")
        return parent if separator else str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        # The connections are pickled only for the plugins that are registered in this process alone.
        return (*super().__reduce__(), self._connections)

    def __setstate__(self, _: object) -> None:
        pass

    def __dask_tokenize__(self) -> str:
        # Like that of fsspec, but without process and thread: the content is the same in all of them.
        token: str = tokenize(type(self), self.storage_args, self.storage_options)
        return token

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Returns the arguments of an equal filesystem; without `include_password`, without credentials."""
        described: dict[str, Any] = super().to_dict()
        if include_password:
            return described
        kept = {key: item for key, item in described.items() if key not in ("auth", "headers")}
        return {key: _redacted(item) for key, item in kept.items()}

    def close(self) -> None:
        """Closes the connections of this process; the next use opens them again."""
        self._connections.close()

    def invalidate_cache(self, path: str | None = None) -> None:
        """Discards the targets of mutable names. Listings stay, because they are cached by CID."""
        super().invalidate_cache(path)
        self._tree.forget_names()

    def object_file(self, path: str) -> ObjectFile:
        """Returns the file at a path as an unbuffered file of this library."""
        return self._tree.file(self._strip_protocol(path))

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Returns ``name``, ``size``, ``type`` (file, directory, link) and ``CID``.

        Raises:
            FileNotFoundError: Verified directories prove that the path does not exist.
            OSError: The sources failed.
            ValueError: The path begins with neither a CID nor a mutable name.
        """
        path = self._strip_protocol(path)
        return _info_of(path, self._tree.node(path))

    def ls(
        self, path: str, detail: bool = True, *, refresh: bool = False, **kwargs: Any
    ) -> list[Any]:
        """Returns the entries of a directory, or the file itself, as in fsspec."""
        path = self._strip_protocol(path)
        if refresh:
            self._tree.forget_names()
        return self._listed(path, path, detail=detail)

    def _listed(self, path: str, pinned: str, *, detail: bool = True) -> list[Any]:
        """Returns the entries of the directory at `pinned`, with names as if it were at `path`."""
        node = self._tree.node(pinned)
        if not isinstance(node, ObjectDirectory):
            return [_info_of(path, node)] if detail else [path]
        if not detail:
            return [join(path, name) for name in node.names()]
        return [
            _info(join(path, child.name), child.kind, child.size, child.cid)
            for child in self._tree.children(node)
        ]

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Returns whether a path exists; raises OSError if the sources fail."""
        return self._tree.exists(self._strip_protocol(path))

    def isdir(self, path: str) -> bool:
        """Returns whether a path is a directory; raises OSError if the sources fail."""
        return self._is(path, "directory")

    def isfile(self, path: str) -> bool:
        """Returns whether a path is a file; raises OSError if the sources fail."""
        return self._is(path, "file")

    def _is(self, path: str, kind: str) -> bool:
        try:
            return bool(self.info(path)["type"] == kind)
        except NOT_FOUND_ERRORS:
            return False

    def walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: Any = "omit",
        **kwargs: Any,
    ) -> Iterator[tuple[str, Any, Any]]:
        """Yields each directory with its directories and files. Symlinks are left out, and logged.

        Args:
            path: The directory to start from.
            maxdepth: The number of levels to descend, at least 1.
            topdown: Whether a directory is yielded before the directories in it.
            on_error: ``"omit"`` leaves out directories that are proven not to exist, and raises other
                errors; ``"raise"`` raises all; a function is called with each error instead.
            **kwargs: With ``detail=True``, directories and files are dicts of the results of `info`, by name.

        Raises:
            LimitError: The tree is nested too deeply, or has too many entries.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError(f"maxdepth must be at least 1, not {maxdepth}")
        detail = kwargs.pop("detail", False)
        limits = self._connections.options.limits
        if kwargs.get("refresh"):
            self._tree.forget_names()
        path = self._strip_protocol(path)
        return Walk(self._listed, limits, topdown, on_error, detail).below(path, path, maxdepth)

    def du(
        self,
        path: str,
        total: bool = True,
        maxdepth: int | None = None,
        withdirs: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Returns the total size of the files below a path, or the size of each, as in fsspec.

        The sizes are those in listings; no file is opened.
        """
        found = self.find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True, **kwargs)
        sizes = {name: info["size"] or 0 for name, info in found.items()}
        return sum(sizes.values()) if total else sizes

    def ukey(self, path: str) -> str:
        """Returns the CID of a path, with which caches detect changes.

        If nothing is verified (``verify=False``), the CID may be unknown; then it is a hash of `info`.
        """
        return str(self.info(path)["CID"] or super().ukey(path))

    def checksum(self, path: str) -> int:
        """Returns `ukey` as a number."""
        return int(tokenize(self.ukey(path)), 16)

    def created(self, path: str) -> datetime:
        """Returns the same as `modified`, because IPFS does not record times."""
        return self.modified(path)

    def modified(self, path: str) -> datetime:
        """Returns a time at or after the last change of a path, which caches compare.

        It is 1970-01-01 for a path that begins with a CID, because its content never changes. For a mutable
        name, it is the time when this filesystem first resolved the name to its current CID.

        Raises:
            FileNotFoundError: Verified directories prove that the path does not exist.
            OSError: The sources failed.
        """
        path = self._strip_protocol(path)
        self._tree.node(path)
        return self._tree.changed_at(path)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> IPFSFile:
        if mode != "rb":
            refuse(f"open {path!r} as {mode!r}")
        return IPFSFile(self, path, block_size=block_size)


def _info_of(path: str, node: Node) -> dict[str, Any]:
    if isinstance(node, ObjectFile):
        return _info(path, "file", node.size, node.cid)
    return _info(path, "link" if isinstance(node, Symlink) else "directory", 0, node.cid)


def _info(path: str, kind: str, size: int | None, cid: CID | str | None) -> dict[str, Any]:
    return {"name": path, "size": size, "type": kind, "CID": None if cid is None else str(cid)}


def _redacted(item: Any) -> Any:
    if isinstance(item, str):
        return redacted(item)
    return list(map(_redacted, item)) if isinstance(item, (list, tuple)) else item
