"""The filesystem: fsspec's own base on top of files and directories that this library verifies."""

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
from ipfs_dataset_fsspec.tree import NOT_THERE, Symlink, Tree
from ipfs_dataset_fsspec.walking import Walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ipfs_dataset_core import CID
    from ipfs_dataset_fsspec.tree import Node

_NAME_SECONDS = 60.0


class IPFSDatasetFileSystem(BulkReading, ReadOnly, AbstractFileSystem):  # type: ignore[misc]
    """What is in IPFS, read-only; a path is ``CID/a/b``, or ``ipns/name/a/b`` for a mutable name.

    Only what verified directories prove to be absent is missing. A source that fails is an error, so that
    Zarr for one never takes a chunk that did not arrive for one that was never written.

    Args:
        ipfs_api_address: Where to read, as for `ipfs_dataset_core.IPFSDataset`: a node's API, a folder or
            `.car` file of blocks; None for `gateways`, else what the environment configures.
        use_listings_cache: Whether listings, and what names point to, are remembered.
        listings_expiry_time: After how many seconds a mutable name is looked up again; None is never. What
            is below a CID never changes.
        asynchronous: Accepted since fsspec passes it; this filesystem waits.
        loop: Likewise.
        **options: Fields of `ipfs_dataset_core.Options`; `limits` may be a mapping.
    """

    protocol = PROTOCOLS
    fsid = "ipfs"  # of whomever one reads: a CID is the same everywhere

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
        """Returns the directory of a path; a CID or mutable name alone is its own, as nothing lists it."""
        path = cls._strip_protocol(path)
        name, rest = split_name(path)
        if not (path if name is None else rest):
            return str(path)
        parent, separator, _ = path.rpartition("/")
        return parent if separator else str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        # The connections take along what was registered in this process only; nothing else of them is used.
        return (*super().__reduce__(), self._connections)

    def __setstate__(self, _: object) -> None:
        pass

    def __dask_tokenize__(self) -> str:
        # As fsspec does it, but without process and thread: the content is the same in all of them.
        token: str = tokenize(type(self), self.storage_args, self.storage_options)
        return token

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Returns what makes an equal filesystem; without `include_password`, one without credentials."""
        described: dict[str, Any] = super().to_dict()
        if include_password:
            return described
        kept = {key: item for key, item in described.items() if key not in ("auth", "headers")}
        return {key: _redacted(item) for key, item in kept.items()}

    def close(self) -> None:
        """Closes what this process opened; a later use opens it again."""
        self._connections.close()

    def invalidate_cache(self, path: str | None = None) -> None:
        """Makes names be looked up again; what was listed by its CID is still so."""
        super().invalidate_cache(path)
        self._tree.forget_names()

    def object_file(self, path: str) -> ObjectFile:
        """Returns the file at a path as the library has it, unbuffered."""
        return self._tree.file(self._strip_protocol(path))

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Returns ``name``, ``size``, ``type`` (file, directory, link) and ``CID``.

        Raises:
            FileNotFoundError: Verified directories prove that nothing is there.
            OSError: The sources did not deliver.
            ValueError: The path begins with neither a CID nor a name.
        """
        path = self._strip_protocol(path)
        return _info_of(path, self._tree.node(path))

    def ls(
        self, path: str, detail: bool = True, *, refresh: bool = False, **kwargs: Any
    ) -> list[Any]:
        """Returns what is in a directory, or the file itself; as of fsspec."""
        path = self._strip_protocol(path)
        if refresh:
            self._tree.forget_names()
        return self._listed(path, path, detail=detail)

    def _listed(self, path: str, pinned: str, *, detail: bool = True) -> list[Any]:
        """Returns what is at `pinned`, called as if it were at `path`."""
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
        """Tells whether there is anything at a path; an error where the sources do not say."""
        return self._tree.exists(self._strip_protocol(path))

    def isdir(self, path: str) -> bool:
        """Tells whether a path is a directory; an error where the sources do not say."""
        return self._is(path, "directory")

    def isfile(self, path: str) -> bool:
        """Tells whether a path is a file; an error where the sources do not say."""
        return self._is(path, "file")

    def _is(self, path: str, kind: str) -> bool:
        try:
            return bool(self.info(path)["type"] == kind)
        except NOT_THERE:
            return False

    def walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: Any = "omit",
        **kwargs: Any,
    ) -> Iterator[tuple[str, Any, Any]]:
        """Yields each directory with its directories and files; symlinks are left out, with a warning.

        Args:
            path: Where to start.
            maxdepth: Levels to descend.
            topdown: Whether a directory comes before those in it.
            on_error: ``"omit"`` leaves out what is proven to be absent, and only that; ``"raise"`` does
                not; a function is called with the error.
            **kwargs: ``detail=True`` gives mappings from names to what `info` says.

        Raises:
            LimitError: It is nested too deep, or too large.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError(f"maxdepth is at least 1, not {maxdepth}")
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
        """Returns the bytes below a path, or those of each file; as of fsspec, from listings alone."""
        found = self.find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True, **kwargs)
        sizes = {name: info["size"] or 0 for name, info in found.items()}
        return sum(sizes.values()) if total else sizes

    def ukey(self, path: str) -> str:
        """Returns the CID of what is at a path, by which caches find out whether it changed.

        Where nothing is proven (``verify=False``) there may be none: then a hash of what `info` returns.
        """
        return str(self.info(path)["CID"] or super().ukey(path))

    def checksum(self, path: str) -> int:
        """Returns a number that is different for different content, as `ukey`."""
        return int(tokenize(self.ukey(path)), 16)

    def created(self, path: str) -> datetime:
        """Returns the same as `modified`, since IPFS records no time of creation."""
        return self.modified(path)

    def modified(self, path: str) -> datetime:
        """Returns a time at or after the last change of what a path names, for caches to compare.

        What a CID names has never changed: that is 1970-01-01. What a mutable name points to may have
        changed until this filesystem first saw it point to what it does now.

        Raises:
            FileNotFoundError: Verified directories prove that nothing is there.
            OSError: The sources did not deliver.
        """
        path = self._strip_protocol(path)
        self._tree.node(path)
        return self._tree.changed(path)

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
