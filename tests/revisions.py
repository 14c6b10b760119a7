"""Graphs in a few lines, for tests that need no files."""

from __future__ import annotations

from textwrap import dedent

from ampho.history.graph import Graph
from ampho.history.revision import Revision


def revisions(text: str) -> list[Revision]:
    """Make revisions of lines such as ``blog: blog_3 < blog_1 blog_2 & app_1 core = some_label``.

    After ``<`` come the parents, after ``&`` the dependencies, after ``=`` the labels. The first revision of a package
    carries the package's name as its label, unless it says ``=`` itself.
    """
    made: list[Revision] = []
    for line in filter(None, map(str.strip, dedent(text).splitlines())):
        package, _, rest = line.partition(": ")
        rest, equals, labels = rest.partition(" =")
        rest, _, depends_on = rest.partition(" & ")
        revision, _, down = rest.partition(" < ")
        first = all(other.package != package for other in made)
        made.append(
            Revision(
                id=revision.strip(),
                package=package,
                file=f"/srv/{package}/{revision.strip()}.py",
                down_revisions=tuple(down.split()),
                depends_on=tuple(depends_on.split()),
                labels=tuple(labels.split()) if equals or not first else (package,),
                doc=f"make {revision.strip()}",
            )
        )
    return made


def graph(text: str, packages: str = "") -> Graph:
    """Make a graph of lines as :func:`revisions` takes them.

    :param packages: the packages as they are listed; in the order of their lines, unless given.
    """
    made = revisions(text)
    return Graph(made, packages.split() or list(dict.fromkeys(revision.package for revision in made)))
