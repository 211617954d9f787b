"""Errors for all methods of fsspec that write: the base class does nothing in some, without an error."""

from __future__ import annotations

from typing import Any, NoReturn

from ipfs_dataset_fsspec.errors import ReadOnlyError


def refuse(what: str) -> NoReturn:
    """Raises `ReadOnlyError`.

    Args:
        what: What cannot be done, such as ``"remove 'CID/a'"``.
    """
    raise ReadOnlyError(
        f"Cannot {what}: the filesystem is read-only, because a CID always has the same content. To publish "
        "files, use `ipfs add` or `ipfs-dataset`"
    )


class ReadOnly:
    """A base class before that of fsspec, whose aliases of these methods, such as `delete`, call them too."""

    def mkdir(self, path: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"make directory {path!r}")

    def makedirs(self, path: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"make directory {path!r}")

    def rmdir(self, path: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"remove directory {path!r}")

    def rm(self, path: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"remove {path!r}")

    def rm_file(self, path: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"remove {path!r}")

    def mv(self, path1: Any, path2: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"move {path1!r} to {path2!r}")

    def copy(self, path1: Any, path2: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"copy to {path2!r}")

    def cp_file(self, path1: Any, path2: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"copy to {path2!r}")

    def put(self, lpath: Any, rpath: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"put {rpath!r}")

    def put_file(self, lpath: Any, rpath: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"put {rpath!r}")

    def pipe(self, path: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse("write " + (repr(path) if isinstance(path, str) else "files"))

    def pipe_file(self, path: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"write {path!r}")

    def touch(self, path: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"touch {path!r}")
