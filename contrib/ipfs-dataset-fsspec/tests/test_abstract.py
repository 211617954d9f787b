"""fsspec's own suite for reading: copies to local files, from trees that are published first.

The suite for opening files is about writing only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

if TYPE_CHECKING:
    from pathlib import Path


class TestGet(AbstractFixtures, AbstractGetTests):
    @pytest.fixture
    def fs(self, reading):
        return reading()

    @pytest.fixture
    def fs_join(self):
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def publish(self, store, tmp_path):
        """Returns a function that runs one of the suite's builders on this disk and publishes the result."""

        def published(build):
            made = tmp_path / "made"
            build(made)
            files = {p.relative_to(made).as_posix(): p for p in made.rglob("*") if p.is_file()}
            return store.tree({name: path.read_bytes() for name, path in files.items()})

        return published

    @pytest.fixture
    def scenario(self, publish, local_fs):
        def made(build):
            return publish(lambda folder: build(local_fs, os.path.join, str(folder))) + "/source"

        return made

    @pytest.fixture
    def fs_path(self, publish):
        def build(folder: Path):
            (folder / "src").mkdir(parents=True)
            (folder / "src" / "file").touch()

        return publish(build)

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, scenario):
        return scenario(self._bulk_operations_scenario_0)

    @pytest.fixture
    def fs_glob_edge_cases_files(self, scenario):
        return scenario(self._glob_edge_cases_files)

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self, scenario):
        return scenario(self._dir_and_file_with_same_name_prefix)

    @pytest.fixture
    def fs_10_files_with_hashed_names(self, scenario):
        return scenario(self._10_files_with_hashed_names)

    def test_get_directory_recursive(  # noqa: PLR0917 - as the suite has it
        self, fs, fs_join, fs_path, local_fs, local_join, local_target, monkeypatch
    ):
        # What this test makes itself in the others' filesystems is in `fs_path` already.
        for name in ("mkdir", "touch"):
            monkeypatch.setattr(type(fs), name, lambda self, path: None)
        super().test_get_directory_recursive(
            fs, fs_join, fs_path, local_fs, local_join, local_target
        )
