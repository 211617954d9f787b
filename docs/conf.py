"""How Sphinx builds these pages; the tables come from `tables`, so that they cannot drift."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

from tables import SUBSTITUTIONS

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx

project = "ipfs-dataset"
release = version = installed_version("ipfs-dataset")
html_title = f"{project} {version}"
html_theme = "furo"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["substitution"]
myst_substitutions = SUBSTITUTIONS
myst_heading_anchors = 3

# The docstrings are written so: `Name` is a name of ours where there is one.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # an attribute is described where its class is, and once


def _find_by_last_name(app: Sphinx, env: Any, node: Element, text: Element) -> Element | None:
    """Resolves the name of a class of ours wherever it is documented, not in one module alone."""
    if node.get("reftype") != "obj" or not node["reftarget"][:1].isupper():
        return None
    node["refspecific"] = True
    found: Element | None = env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, "obj", node["reftarget"], node, text
    )
    return found


def setup(app: Sphinx) -> None:
    """Connects what is defined here to Sphinx."""
    app.connect("missing-reference", _find_by_last_name)
