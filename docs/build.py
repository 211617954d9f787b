"""Builds these pages into site/, or the folder given; every warning is an error."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from sphinx.cmd.build import main

HERE = Path(__file__).parent
STRICT = ("--fail-on-warning", "--keep-going", "--fresh-env", "--write-all", "--quiet")


def build(site: Path) -> int:
    """Returns Sphinx's exit status."""
    with tempfile.TemporaryDirectory() as doctrees:
        return main([*STRICT, "-b", "html", "-d", doctrees, str(HERE), str(site)])


if __name__ == "__main__":
    site = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "site"
    status = build(site)
    print(f"{'failed' if status else 'built'}: {site / 'index.html'}")
    sys.exit(status)
