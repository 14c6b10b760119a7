"""Deleting the files of replaced revisions that no database needs any more, for ``db-squash --prune``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from ampho._text import listed
from ampho.database.version_rows import Applied
from ampho.errors import RevisionInputError
from ampho.history.graph import Graph
from ampho.history.replaced import Replaced
from ampho.history.rewritten import REMARK, pruned_release
from ampho.migrate.queries import query
from ampho.revise.squash.files import Files
from ampho.revise.writer import below_header

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from ampho.database.journal import Journal
    from ampho.history.revision import Revision
    from ampho.migrate.project import Project


@dataclass(frozen=True, slots=True)
class Pruned:
    """The files of replaced revisions that ``db-squash --prune`` deleted, or would delete.

    :ivar package: the name of the package.
    :ivar files: the files.
    :ivar revisions: the revisions that replace those in the files.
    :ivar release: the release that databases with a part of the replaced revisions are told to upgrade with; empty if
        the package has no version.
    :ivar is_deleted: whether the files were deleted.
    """

    package: str
    files: tuple[Path, ...]
    revisions: tuple[Revision, ...]
    release: str
    is_deleted: bool = False

    @property
    def consequence(self) -> str:
        """What happens to databases that have only a part of the replaced revisions, as a sentence."""
        release = f"release {self.release}" if self.release else "an earlier release"
        return (
            f"A database that has only a part of what {listed([each.id for each in self.revisions])} replace"
            f"{'s' if len(self.revisions) == 1 else ''} cannot be upgraded any more. It is told to upgrade with"
            f" {release} of {self.package} first."
        )


def find_files(project: Project, package: str) -> Pruned:
    """Return the files of a package's replaced revisions.

    :raises RevisionInputError: if there are none.
    """
    owner = project.package(package)
    owner.check_writable()
    graph = project.graph
    old = [each for each in graph.replaced.by_id.values() if each.package == package]
    if not old:
        raise RevisionInputError(
            f"{package} has no files of replaced revisions: there is nothing to prune.", package=package
        )
    ids = {found for each in old for found in graph.replacements(each.id)}
    revisions = tuple(graph[each] for each in graph.sort(ids))
    return Pruned(package, tuple(each.path for each in old), revisions, release_of(package))


def release_of(package: str) -> str:
    """Return the version of the distribution that contains a package; empty if there is none."""
    top = package.partition(".")[0]
    for name in (*packages_distributions().get(top, ()), top):
        with suppress(PackageNotFoundError):
            return version(name)
    return ""


def check_not_needed(project: Project, connection: Connection, package: str, *, x: Sequence[str] = ()) -> None:
    """Check that a database does not need the files of a package's replaced revisions.

    :raises RevisionInputError: if it has only a part of what a revision replaces.
    """
    graph = project.graph
    query(project, connection, x, partial(_check, graph, _without_files(graph, package), package))


def _without_files(graph: Graph, package: str) -> Graph:
    left = [each for each in graph.replaced.by_id.values() if each.package != package]
    present = (graph.as_written(each) for each in graph.ids if graph.has_file(each))
    return Graph(present, graph.packages, graph.not_installed, Replaced(lambda: left), graph.kept)


def _check(graph: Graph, bare: Graph, package: str, rows: tuple[str, ...], journal: Journal) -> None:
    now, then = Applied.from_rows(graph, rows, journal), Applied.from_rows(bare, rows, journal)
    current = {*filter(graph.has_file, graph.ids)}
    if then.known & current == now.known & current and then.missing <= now.missing:
        return
    part = sorted(then.missing - now.missing) or sorted((now.known ^ then.known) & current)
    raise RevisionInputError(
        f"The database needs files of replaced revisions of {package}, because it has only a part of the revisions:"
        f" {listed(part)}. Upgrade it first, with 'ampho db-up'. No file was deleted.",
        package=package,
    )


def delete(found: Pruned, folder: Path) -> Pruned:
    """Delete the files, after the release that still has them is written into the files that replace them.

    :param folder: the folder of the replaced revisions, which is deleted if it is empty.
    :raises RevisionInputError: if a file cannot be changed.
    """
    with Files().together(found.package) as files:
        for revision in found.revisions if found.release else ():
            if revision.package == found.package and not pruned_release(revision):
                source = revision.path.read_bytes()
                files.change(revision.path, below_header(source, REMARK.format(found.release)))
        for path in found.files:
            files.delete(path)
    with suppress(OSError):
        folder.rmdir()
    return Pruned(found.package, found.files, found.revisions, found.release, is_deleted=True)
