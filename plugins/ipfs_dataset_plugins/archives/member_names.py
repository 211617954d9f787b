"""Names of members in archives and folders: which are metadata of macOS, and which are unsafe."""

from __future__ import annotations

from ipfs_dataset_core import FormatError


def is_junk(name: str) -> bool:
    """Returns whether a member holds metadata that macOS stores beside the real files."""
    if "__MACOSX" in name and "__MACOSX" in name.split("/")[:-1]:
        return True
    return "._" in name and name.rpartition("/")[2].startswith("._")


def check_name(archive: str, name: str) -> None:
    """Refuses a name that would escape the target folder if the member were written to disk.

    Raises:
        FormatError: The name is absolute, contains a ``..`` segment or a NUL.
    """
    if name.startswith("/") or "\0" in name or (".." in name and ".." in name.split("/")):
        raise FormatError(
            f"{archive!r} has a member named {name!r}: absolute paths, '..' and NUL are refused in "
            "archives. Repack it with relative names."
        )
