"""Writes a project into a folder, completely or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Mapping


def write_project(folder: Path, files: Mapping[str, str]) -> None:
    """Writes files below a folder that does not exist yet or is empty.

    They are written under a temporary name and then moved, so that a failure leaves nothing behind.

    Args:
        folder: The target folder; its parent must exist.
        files: The text of each file, by path.

    Raises:
        PluginError: The folder is not empty, or cannot be written.
    """
    try:
        if folder.exists():
            _fill(folder, files)
        else:
            _make(folder, files)
    except OSError as error:
        raise PluginError(
            f"The project cannot be written to {str(folder)!r}: {error.strerror or error}. "
            "Choose another folder with --directory"
        ) from error


def _make(folder: Path, files: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix=".new-plugin-", dir=folder.parent) as staging:
        project = Path(staging, "project")
        _write(project, files)
        project.rename(folder)


def _fill(folder: Path, files: Mapping[str, str]) -> None:
    """Fills an empty folder in place, because it may be the working folder of a process."""
    if not folder.is_dir() or any(folder.iterdir()):
        raise PluginError(
            f"{str(folder)!r} exists and is not an empty folder: nothing was written. "
            "Choose another with --directory"
        )
    moved: list[Path] = []
    with tempfile.TemporaryDirectory(prefix=".new-plugin-", dir=folder) as staging:
        project = Path(staging, "project")
        _write(project, files)
        try:
            for entry in sorted(project.iterdir()):
                moved.append(folder / entry.name)
                entry.rename(moved[-1])
        except BaseException:
            for path in moved:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            raise


def _write(project: Path, files: Mapping[str, str]) -> None:
    project.mkdir()
    for path, text in files.items():
        file = project / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")
