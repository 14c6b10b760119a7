"""What ``db-adopt`` does: checks a history of another tool, and moves it into a package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ampho._text import shown_path
from ampho.errors import PackageNotFoundError, RevisionInputError
from ampho.history.graph import Graph
from ampho.history.package import MigrationPackage
from ampho.migrate.project import Project
from ampho.revise import writer
from ampho.revise.adopt.env_py import Own, read_own
from ampho.revise.adopt.move import move
from ampho.revise.adopt.source import Source


@dataclass(frozen=True, slots=True)
class Adopted:
    """A history that was moved into a package, or that would be moved.

    :ivar source: where it was: a folder, or an ``alembic.ini``.
    :ivar package: the name of the package.
    :ivar folder: the migrations folder of the package.
    :ivar revisions: the ids of the revisions, each after its parents; empty if there was nothing to do.
    :ivar arguments: the arguments of ``context.configure()`` that were copied into the new ``env.py``, as text.
    :ivar by_hand: what was not copied, each with its file and line.
    :ivar left: the files of the old folder that are no longer used.
    :ivar hint: how to add the package to ``AMPHO_MIGRATION_PACKAGES``; None if it is already listed.
    :ivar is_planned: whether nothing was changed, because only the plan was asked for.
    """

    source: Path
    package: str
    folder: Path
    revisions: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()
    left: tuple[Path, ...] = ()
    hint: str | None = None
    is_planned: bool = False


def adopt(project: Project, source: Path, entry: str, *, planned: bool = False) -> Adopted:
    """Move the history of another tool into a package; see :meth:`ampho.commands.Commands.adopt`."""
    package = writer.package_to_write(project, entry)
    package.check_writable()
    old = Source.of(source, package.name)
    if not old.revisions or old.folder == package.folder.resolve():
        return Adopted(source, package.name, package.folder, is_planned=planned)
    graph = _check(project, package, old)
    own = read_own(old.env_py.read_text("utf-8", "replace")) if old.env_py else Own()
    hint = None if project.is_configured_now(package.name) else project.setting_hint(package.entry)
    adopted = Adopted(
        source,
        package.name,
        package.folder,
        graph.sort(revision.id for revision in old.revisions),
        tuple(f"{name}={value}" for name, value in own.arguments.items()),
        (*(f"{shown_path(old.folder / 'env.py')}:{line}: {text}" for line, text in own.notes), *old.settings()),
        tuple(old.left()),
        hint,
        planned,
    )
    if not planned:
        move(project, package, old, own)
    return adopted


def only_package(project: Project) -> str:
    """Return the only package that is configured, and that is not installed.

    :raises PackageNotFoundError: if there are several, or none.
    """
    own = [package.entry for package in project.packages if not package.installed]
    if len(own) != 1:
        have = f"{len(own)} packages are" if own else "no package is"
        raise PackageNotFoundError(
            f"Name the package that gets the history, with --into PACKAGE: {have} configured.", package=""
        )
    return own[0]


def _check(project: Project, package: MigrationPackage, old: Source) -> Graph:
    """Return the graph with the adopted revisions.

    :raises RevisionInputError: if the package has a history of its own.
    :raises HistoryError: if the revisions do not form a valid graph with those of the other packages.
    """
    if any(each.name == package.name for each in project.packages) and project.graph.of_package(package.name):
        raise RevisionInputError(
            f"{package.name} already has revisions, so that it would have two histories. Adopt {shown_path(old.path)}"
            " into another package, or into this one before its first revision.",
            package=package.name,
        )
    present = [project.graph[rid] for rid in project.graph.ids if project.graph.has_file(rid)]
    names = dict.fromkeys([*project.graph.packages, package.name])
    graph = Graph([*present, *old.revisions], [*names], project.not_installed)
    graph.check_files(graph.ancestors(revision.id for revision in old.revisions))
    return graph
