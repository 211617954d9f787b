r"""The three hooks with which plugins extend the core.

A plugin is a module or object with any of these functions, marked with `hookimpl` and named in the entry
point group ``ipfs_dataset``::

    # my_package/my_plugin.py
    from ipfs_dataset_core import Reader, ReaderPlugin, hookimpl


    class Lines(Reader):
        def samples(self, source):
            for number, line in enumerate(source):
                yield f"{source.name}:{number}", line.rstrip(b"\n")


    @hookimpl
    def ipfs_dataset_readers():
        return [ReaderPlugin(name="lines", summary="one sample per line", factory=Lines)]

    # pyproject.toml
    [project.entry-points.ipfs_dataset]
    lines = "my_package.my_plugin"

An entry point may name a subclass of `Reader`, `Transport` or `Exporter` instead, which declares itself by
its attributes. Hooks are for plugins whose classes should not be imported before they are needed.

Each hook is called once per process, when something is looked up that the plugin may provide, and returns
declarations. It must do no work, and its module must not import anything slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipfs_dataset_core.interfaces import ExporterPlugin, ReaderPlugin, TransportPlugin

PROJECT = "ipfs_dataset"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def ipfs_dataset_transports() -> Sequence[TransportPlugin]:  # type: ignore[empty-body]
    """Declares sources of blocks; called when an address is looked up that they may serve.

    Returns:
        One `TransportPlugin` per kind of source. Two plugins that claim one scheme are a conflict, raised
        when that scheme is used.
    """


@hookspec
def ipfs_dataset_readers() -> Sequence[ReaderPlugin]:  # type: ignore[empty-body]
    """Declares formats; called when an object is opened that may be in one of them.

    Returns:
        One `ReaderPlugin` per format. Two plugins that claim one name, one suffix or equal first bytes are
        a conflict, raised when those are used.
    """


@hookspec
def ipfs_dataset_exporters() -> Sequence[ExporterPlugin]:  # type: ignore[empty-body]
    """Declares forms of published datasets; called when a dataset is exported or imported.

    Returns:
        One `ExporterPlugin` per form. Two plugins that claim one name are a conflict, raised when that name
        is used.
    """
