"""Discovery: each plugin on its own, so that a broken one is a warning and harms no other."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import ReaderPlugin, hookimpl
from ipfs_dataset_core.errors import PluginError
from ipfs_dataset_core.registry.discovery import declarations, disabled_names, discover, unmet

HERE = "tests.registry.test_discovery"


class Installed(Distribution):
    """A distribution as `importlib.metadata` gives it, without files."""

    def __init__(self, name: str, version: str = "1.0") -> None:
        self._text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"

    def read_text(self, filename):
        return self._text if filename == "METADATA" else None

    def locate_file(self, path):
        raise NotImplementedError


def entry_point(name, value, distribution="some-dist"):
    point: Any = EntryPoint(name, value, "ipfs_dataset")
    return point._for(Installed(distribution))


def reader(name: str = "lines") -> ReaderPlugin:
    return ReaderPlugin(name=name, summary="for tests", factory="no.such:Reader")


class Good:
    @hookimpl
    def ipfs_dataset_readers(self):
        return [reader()]


class Typo:
    @hookimpl
    def ipfs_dataset_raeders(self):
        return [reader()]


class WrongArgument:
    @hookimpl
    def ipfs_dataset_readers(self, config):
        return [reader()]


class ForgotReturn:
    @hookimpl
    def ipfs_dataset_readers(self):
        reader()


class WrongItem:
    @hookimpl
    def ipfs_dataset_transports(self):
        return [reader()]


class NoList:
    @hookimpl
    def ipfs_dataset_readers(self):
        return reader()


class Generator:
    @hookimpl
    def ipfs_dataset_readers(self):
        yield reader()


class Raises:
    @hookimpl
    def ipfs_dataset_readers(self):
        raise KeyError("missing")


class Exits:
    @hookimpl
    def ipfs_dataset_readers(self):
        sys.exit("no licence")


class Nothing:
    def ipfs_dataset_readers(self):
        return [reader()]


good, typo, wrong_argument, forgot_return = Good(), Typo(), WrongArgument(), ForgotReturn()
wrong_item, no_list, generator, raises = WrongItem(), NoList(), Generator(), Raises()
exits, nothing = Exits(), Nothing()


def test_a_plugin_keeps_its_origin():
    found = discover([entry_point("one", f"{HERE}:good", "my-lines")])
    assert found.failures == ()
    [loaded] = found.loaded
    assert loaded.declaration == reader()
    assert str(loaded.origin) == "my-lines 1.0 (one)"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_module_at_all:X", "Its entry point names 'no_such_module_at_all:X'. Update"),
        (
            "tests.registry.test_discovry",
            "names the module 'tests.registry.test_discovry', .* mean 'tests.registry.test_discovery'",
        ),
        (f"{HERE}:no_such_object", "AttributeError: .*no_such_object"),
        (f"{HERE}:typo", "ipfs_dataset_raeders"),
        (f"{HERE}:wrong_argument", "config"),
        (f"{HERE}:forgot_return", "ipfs_dataset_readers must return a list .*, not None"),
        (f"{HERE}:wrong_item", "ipfs_dataset_transports must return a list of TransportPlugin"),
        (f"{HERE}:no_list", "must return a list of ReaderPlugin, not ReaderPlugin"),
        (f"{HERE}:generator", "must return a list of ReaderPlugin, not <generator"),
        (f"{HERE}:raises", "KeyError: 'missing'"),
        (f"{HERE}:exits", "SystemExit: no licence"),
        (f"{HERE}:nothing", "implements none of the hooks"),
    ],
)
def test_a_broken_plugin_is_a_warning_with_its_name_and_others_work(value, reason, caplog):
    with caplog.at_level(logging.WARNING, "ipfs_dataset_core"):
        found = discover([entry_point("bad", value, "bad-dist"), entry_point("ok", f"{HERE}:good")])
    assert [str(loaded.origin) for loaded in found.loaded] == ["some-dist 1.0 (ok)"]
    [failure] = found.failures
    assert str(failure.origin) == "bad-dist 1.0 (bad)"
    assert "Traceback" in failure.details
    [record] = caplog.records
    assert "bad-dist 1.0 (bad)" in record.getMessage()
    assert re.search(reason, failure.reason), failure.reason


def same_name(format_name):
    class Plugin:
        """Its class has the name that the class of another plugin has."""

        @staticmethod
        @hookimpl
        def ipfs_dataset_readers():
            return [reader(format_name)]

        @staticmethod
        @hookimpl(optionalhook=True)
        def ipfs_dataset_hooks_of_the_future():
            return []

    return Plugin


first_of_two, second_of_two = same_name("first"), same_name("second")


def test_plugins_of_one_name_and_entry_points_of_one_plugin_are_all_used():
    found = discover(
        [
            entry_point("one", f"{HERE}:first_of_two", ""),
            entry_point("one", f"{HERE}:second_of_two", ""),
            entry_point("two", f"{HERE}:second_of_two"),
        ]
    )
    assert found.failures == ()
    assert [item.declaration.name for item in found.loaded] == ["first", "second", "second"]


def test_a_plugin_that_was_broken_leaves_nothing_behind():
    for _ in range(2):
        found = discover([entry_point("bad", f"{HERE}:typo"), entry_point("ok", f"{HERE}:good")])
        assert [failure.origin.entry_point for failure in found.failures] == ["bad"]
        assert [item.origin.entry_point for item in found.loaded] == ["ok"]


def test_threads_that_look_for_the_same_plugins_find_the_same():
    points = [entry_point(f"{n}", f"{HERE}:{name}") for n, name in enumerate(["good", "typo"] * 9)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(discover, [points] * 8))
    assert all(one == found[0] for one in found)
    assert (len(found[0].loaded), len(found[0].failures)) == (9, 9)


def test_an_entry_point_without_a_distribution_still_loads():
    found = discover([EntryPoint("one", f"{HERE}:good", "ipfs_dataset")])
    assert str(found.loaded[0].origin) == "(unknown) (one)"


@pytest.mark.parametrize("listed", ["one", "x, my-lines ,", "my-lines"])
def test_a_plugin_is_disabled_by_its_entry_point_or_distribution(monkeypatch, listed):
    monkeypatch.setenv("IPFS_DATASET_DISABLE_PLUGINS", listed)
    points = [
        entry_point("one", "no.such.module", "my-lines"),
        entry_point("two", f"{HERE}:good", "other"),
    ]
    found = discover(points)
    assert [loaded.origin.entry_point for loaded in found.loaded] == ["two"]
    assert found.failures == ()


def test_an_empty_list_disables_nothing():
    assert disabled_names(None) == disabled_names(" , ") == frozenset()


def test_hooks_are_checked_for_objects_too():
    assert declarations(Good(), "mine") == [reader()]
    with pytest.raises(PluginError, match="mine implements none of the hooks"):
        declarations(object(), "mine")


def test_the_built_in_plugins_are_installed_entry_points():
    names = {point.name for point in entry_points(group="ipfs_dataset")}
    assert {"api", "gateway", "store", "plain", "folder", "tar", "zip", "tar_shards"} <= names


def run(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def install(folder, distribution: str, points: dict[str, str]) -> None:
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[ipfs_dataset]\n{lines}")


PLUGIN = """
from ipfs_dataset_core import ReaderPlugin, hookimpl

@hookimpl
def ipfs_dataset_readers():
    return [ReaderPlugin(name="lines", summary="", factory="x:Y", suffixes=(".lines",))]
"""


def test_installed_distributions_are_found_and_conflicts_name_both(tmp_path):
    (tmp_path / "lines_one.py").write_text(PLUGIN)
    (tmp_path / "lines_two.py").write_text(PLUGIN)
    # The same entry point name in two distributions, which pluggy's own loader would drop.
    install(tmp_path, "lines-one", {"lines": "lines_one"})
    install(tmp_path, "lines-two", {"lines": "lines_two", "broken": "lines_three"})
    (tmp_path / "no_metadata-1.0.dist-info").mkdir()
    (tmp_path / "no_metadata-1.0.dist-info" / "entry_points.txt").write_text(
        "[ipfs_dataset]\nodd = lines_three\n"
    )
    out = run(
        f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from ipfs_dataset_core.registry.lookup import Registry
        registry = Registry()
        print(registry.reader("zip").name)
        for look, key in ((registry.reader, "lines"), (registry.reader_for_suffix, "a.lines")):
            try:
                look(key)
            except ValueError as error:
                print(type(error).__name__, error)
        try:
            registry.reader("no-such-format")
        except LookupError as error:
            print(error)
        """
    )
    assert out.startswith("zip\n")
    both = "lines-one 1.0 (lines) and lines-two 1.0 (lines) both claim"
    assert f"PluginConflictError {both} the format 'lines'" in out
    assert f"PluginConflictError {both} the suffix '.lines'" in out
    assert "Plugin lines-two 1.0 (broken) could not be loaded: ModuleNotFoundError" in out
    assert "(odd) could not be loaded" in out


def test_importing_the_core_and_listing_plugins_imports_nothing_heavy():
    out = run(
        """
        import sys
        import ipfs_dataset_core
        early = {name.partition(".")[0] for name in sys.modules}
        assert not early & {"torch", "numpy", "requests", "ipfs_dataset_plugins"}, early
        from ipfs_dataset.cli import main
        main(["plugins"])
        late = {name.partition(".")[0] for name in sys.modules}
        assert not late & {"torch", "numpy"}, late
        own = "ipfs_dataset_plugins."
        assert {name for name in sys.modules if name.startswith(own)} == {own + "declarations"}
        """
    )
    assert "zip" in out


@pytest.mark.parametrize(
    ("requirement", "version", "meets"),
    [
        ("ipfs-dataset<0.2,>=0.1", "0.1.0", True),
        ("ipfs-dataset<0.2,>=0.1", "0.1.9.post1", True),
        ("ipfs-dataset<0.2,>=0.1", "0.2.0", False),
        ("ipfs-dataset<0.2,>=0.1", "0.2.0.dev1", False),
        ("ipfs-dataset<0.2,>=0.1", "0.0.9", False),
        ("IPFS_Dataset [zstd] (>=0.1, <0.2)", "0.3", False),
        ("ipfs.dataset==0.1.*", "0.1.7", True),
        ("ipfs.dataset==0.1.*", "0.10", False),
        ("ipfs-dataset!=0.1", "0.1.0", False),
        ("ipfs-dataset~=0.1.2", "0.1.3", True),
        ("ipfs-dataset~=0.1.2", "0.1.1", False),
        ("ipfs-dataset~=0.1.2", "0.2", False),
        ("ipfs-dataset>=7.0rc1", "0.1", False),
        ("ipfs-dataset>=0.1", "0.2.0.dev1", True),
        ("ipfs-dataset>=7; python_version >= '3'", "0.1", False),
        # These are about another distribution, do not apply, or cannot be compared.
        ("ipfs-dataset", "0.1", True),
        ("ipfs-dataset-mat>=7", "0.1", True),
        ("ipfs-dataset>=7; extra == 'all'", "0.1", True),
        ("ipfs-dataset>=7; python_version < '3'", "0.1", True),
        ("ipfs-dataset @ file:///somewhere>=7", "0.1", True),
        ("ipfs-dataset>=7", "unknown", True),
        ("ipfs-dataset>=7", "1!0.1", True),
        ("ipfs-dataset>=7; os_name ~= '1'", "0.1", True),
        ("", "0.1", True),
        (">>>", "0.1", True),
    ],
)
def test_a_requirement_is_met_or_not(requirement, version, meets):
    found = unmet(["torch>=2", requirement], "ipfs-dataset", version)
    assert (found is None) is meets
    assert meets or found == requirement


@given(
    st.text(alphabet="ipfs-dataset<>=!~.,*0123456789 ;()[]@\n"),
    st.text("0123456789.a!", max_size=9),
)
def test_any_text_is_accepted_as_a_requirement(requirement, version):
    unmet([f"ipfs-dataset{requirement}"], "ipfs-dataset", version)
