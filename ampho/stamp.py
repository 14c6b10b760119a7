"""Saying what is applied without running anything: what a specifier makes of the version rows, and writing them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ampho.applied import Applied, exact_rows
from ampho.errors import DependentsError, SpecifierError
from ampho.execute import migrating, perform
from ampho.graph import Branch, Graph
from ampho.project import Project
from ampho.specifier import Specifier, find_branch, find_target, parse

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class Stamped:
    """What became of the version rows.

    :ivar before: the rows that were there.
    :ivar after: the rows that are there now.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]


def stamp(
    project: Project, connection: Connection, specifier: str, *, purge: bool = False, x: Sequence[str] = ()
) -> Stamped:
    """Write the version rows of what a specifier says is applied, and run no revision.

    :param specifier: ``heads``, a package, an id, ``PACKAGE@head(s)``, ``PACKAGE@base`` or ``base``.
    :param purge: whether to forget all rows before, those that no file explains included.
    :param x: values for ``context.get_x_argument()``.
    :raises SpecifierError: if the specifier does not say what is applied.
    :raises DependentsError: if applied revisions of other packages depend on what would be applied no longer.
    """
    from ampho._alembic import write_rows

    project.check_specifier(specifier)
    graph = project.graph
    found: list[Stamped] = []

    def work(rows: tuple[str, ...], context: MigrationContext, script: ScriptDirectory) -> tuple[()]:
        after = rows_after_stamp(graph, () if purge else rows, specifier)
        write_rows(context, rows, after)
        found.append(Stamped(tuple(sorted(map(str, rows))), after))  # of another tool's making, a row may be NULL
        return ()

    with migrating(connection) as migrating_connection:
        perform(project, migrating_connection, x, work)
    return found[0]


def rows_after_stamp(graph: Graph, rows: Iterable[str], specifier: str) -> tuple[str, ...]:
    """Return the version rows after a stamp, sorted."""
    applied = Applied.from_rows(graph, rows)
    known = _stamped(graph, applied.known, parse(specifier))
    return tuple(sorted({*exact_rows(graph, known), *applied.unknown}))


def _stamped(graph: Graph, applied: frozenset[str], spec: Specifier) -> set[str]:
    match spec:
        case Specifier(branch=None, target="heads"):
            return set(graph.ids)
        case Specifier(branch=None, target="base"):
            return set()
        case Specifier(branch=str(name), target="base"):
            return _without(graph, applied, set(find_branch(graph, name, spec.text).ids), spec)
        case Specifier(branch=str(name), target="head" | "heads"):
            branch = find_branch(graph, name, spec.text)
            _check_one_head(graph, branch, spec)
            return set(applied) | graph.ancestors(branch.ids)
        case Specifier(offset=offset, target=target) if offset or target == "head":
            raise SpecifierError(
                f"{spec.text}: that does not say what is applied. Type 'heads', a package, an id, PACKAGE@base or"
                " 'base'.",
                specifier=spec.text,
            )
    named = find_target(graph, spec)
    if isinstance(named, Branch):
        return set(applied) | graph.ancestors(named.ids)
    later = graph.descendants([named], within=graph[named].package)
    return _without(graph, applied, later, spec) | graph.ancestors([named])


def _check_one_head(graph: Graph, branch: Branch, spec: Specifier) -> None:
    heads = graph.tips(branch.ids)
    if spec.target == "head" and len(heads) > 1:
        raise SpecifierError(
            f"{spec.text}: {branch.name} has {len(heads)} heads: {', '.join(heads)}. Type {branch.name}@heads for all"
            " of it, or the id of one.",
            specifier=spec.text,
        )


def _without(graph: Graph, applied: frozenset[str], removed: set[str], spec: Specifier) -> set[str]:
    along = (graph.descendants(removed & applied) & applied) - removed
    if along:
        ids = graph.sort(along)
        raise DependentsError(
            f"Applied revisions depend on what '{spec.text}' says is not applied: {', '.join(ids)}. Stamp"
            f" {' and '.join(f'{name}@base' for name in dict.fromkeys(graph[rid].package for rid in ids))}, or less of"
            " it, first.",
            specifier=spec.text,
            dependents=ids,
        )
    return set(applied) - removed
