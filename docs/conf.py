"""How Sphinx builds these pages: `make docs`. They are plain Markdown first, and read well without it."""

from __future__ import annotations

import ampho

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
autodoc_type_aliases = {"Revision": "ampho.Revision"}

nitpicky = True
# Options have two hyphens, and keep them.
smartquotes = False
# Classes of other projects. Links to them would want the network, or copies of their indexes.
nitpick_ignore_regex = [
    (r"py:\w+", r"(collections|sqlalchemy|quart|flask|pathlib)\..+"),
    ("py:class", r"(ampho\.aio\.sqlalchemy\..+\.)?(BindTable|Pagination|Select|T)|ampho\.extension\.L"),
    (
        "py:class",
        "AsyncEngine|AsyncSession|Blueprint|DeclarativeBase|Engine|Flask|MetaData|Migrate|Path|Quart|SQLAlchemy|Table|URL",
    ),
    ("py:class", "Column|ColumnElement|Row|TextClause|TypeEngine"),
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
