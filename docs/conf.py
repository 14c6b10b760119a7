"""How Sphinx builds these pages: `make docs`. They are plain Markdown first, and read well without it."""

from __future__ import annotations

import re
from pydoc import locate
from typing import TYPE_CHECKING

import ampho

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "Ampho"
copyright = "the Ampho authors"  # noqa: A001 (Sphinx's name)
author = "The Ampho authors"
version = release = ampho.__version__

extensions = [
    "myst_parser",
    "pallets_sphinx_themes",
    "sphinx.ext.autodoc",
    "sphinx_click",
]
exclude_patterns = ["_build"]
# The anchors that a code host gives to headings, so that one link works in both.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_type_aliases = {"Initialized": "ampho.Initialized", "Revision": "ampho.Revision"}

nitpicky = True
# Options have two hyphens, and keep them.
smartquotes = False
# Classes of other projects. Links to them would want the network, or copies of their indexes.
nitpick_ignore_regex = [
    (r"py:\w+", r"(sqlalchemy|quart|flask|pathlib)\..+"),
    ("py:class", "AsyncEngine|AsyncSession|DeclarativeBase|Engine|Flask|MetaData|Migrate|Quart|SQLAlchemy|URL"),
]

html_theme = "flask"
html_title = f"Ampho {version}"
html_theme_options = {"index_sidebar_logo": False}
html_sidebars = {
    "index": ["globaltoc.html", "searchbox.html"],
    "**": ["localtoc.html", "relations.html", "searchbox.html"],
}
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_show_sourcelink = False
html_copy_source = False
# It asks a package index, from the reader's browser, for the newest version.
version_banner = False

SEE = re.compile(r"; see :func:`(ampho\.[\w.]+)`\.$")


def follow(*event: object) -> None:
    """Give a method the parameters that are described with the function which does its work."""
    lines = event[-1]
    if not lines or not (see := SEE.search(lines[0])):
        return
    function = locate(see[1])
    fields = re.split(r"^ *(?=:\w+)", function.__doc__ or "", flags=re.MULTILINE)[1:]
    lines[:] = [SEE.sub(".", lines[0]), *lines[1:], ""]
    for field in fields:
        lines.extend(field.strip().splitlines())


def setup(app: Sphinx) -> None:
    """Let Sphinx call what is above."""
    app.connect("autodoc-process-docstring", follow)
