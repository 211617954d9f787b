"""The files that describe a published dataset: its page, its README and its Croissant metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_plugins.tar_shards.page.croissant import croissant_json
from ipfs_dataset_plugins.tar_shards.page.html import PageContent, page_html

if TYPE_CHECKING:
    from ipfs_dataset_plugins.tar_shards.manifest import Manifest
    from ipfs_dataset_plugins.tar_shards.page.statistics import Statistics

PAGE, README, CROISSANT = "index.html", "README.md", "croissant.json"


def described(overview: Manifest, statistics: Statistics) -> dict[str, bytes]:
    """Returns the contents of the descriptive files, by name.

    Args:
        overview: The manifest.
        statistics: Statistics of the samples.
    """
    files = {CROISSANT: croissant_json(overview)}
    if overview.card is not None:
        files[README] = overview.card.to_readme().encode()
    content = PageContent(
        card=overview.card,
        classes=overview.classes,
        statistics=statistics,
        previews=statistics.shown(),
        shards=overview.shards,
        files=sorted((*files, "manifest.json", "metadata.txt")),
    )
    files[PAGE] = page_html(content)
    return files
