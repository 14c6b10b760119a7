"""Runs the histories on an empty, throw-away database, and reverts them as far as possible."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ampho._text import counted, listed
from ampho.errors import DatabaseError, RevisionFailedError
from ampho.history.losses import functions
from ampho.migrate.executor import revert_scratch, upgrade
from ampho.project import Project
from ampho.revise.lint import is_empty, why_irreversible

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_NO_SCHEMA = ("bulk_insert", "execute", "f", "get_bind", "get_context", "inline_literal", "run_async")
"""The functions of ``alembic.op`` that change no table."""


def replay(project: Project, connection: Connection, specifier: str, x: Sequence[str]) -> None:
    """Build tables on an empty database by running the histories, without notifying observers.

    :param specifier: ``heads`` for all packages, or one package.
    :raises RevisionFailedError: naming the revision that failed.
    :raises DatabaseError: if all packages leave a foreign key to a table that does not exist, which SQLite accepts.
    """
    if specifier in project.graph.packages and not project.graph.of_package(specifier):
        return
    upgrade(project, connection, specifier, scratch=True, x=x)
    connection.rollback()  # of what was read where there was nothing to do
    if connection.dialect.name == "sqlite" and specifier == "heads":  # a part may lack what another part makes
        _check_keys(connection)


def _check_keys(connection: Connection) -> None:
    from ampho.database.sqlite import dangling_keys

    if lost := dangling_keys(connection):
        raise DatabaseError(
            f"The histories leave foreign keys to tables that do not exist: of {listed(lost)}. SQLite accepts that, and"
            " other databases refuse the revision. Where another package drops or renames the table, or makes it later,"
            " add its revision to depends_on. Only the throw-away database of --scratch has seen this."
        )


def replay_back(project: Project, connection: Connection, x: Sequence[str]) -> Iterator[str]:
    """Revert what :func:`replay` ran, the latest first, up to a revision that has no way back by design.

    That is one without ``downgrade()``, or whose ``downgrade()`` raises an exception at once, or NotImplementedError
    anywhere, or does nothing though its ``upgrade()`` changes tables.

    :return: a warning, where some revisions are left.
    :raises RevisionFailedError: naming the revision whose downgrade failed.
    """
    stops = {revision_id for revision_id in project.graph.ids if _has_no_way_back(project, revision_id)}
    taken: Sequence[str] = ()
    try:
        run = revert_scratch(project, connection, stops, x=x)
    except RevisionFailedError as exc:
        if not isinstance(exc.__cause__, NotImplementedError):
            raise
        stops, taken = {exc.revision}, exc.applied
    else:
        taken = [step.step.revision.id for step in run.steps]
    left = [revision_id for revision_id in project.graph.ids if revision_id not in taken]
    for revision_id in reversed(left):
        if revision_id in stops:
            done = f"only {counted(len(taken))} after it went down again" if taken else "no revision went down again"
            yield f"{revision_id} of {project.graph[revision_id].package} has no way back, so {done}."
            return


def _has_no_way_back(project: Project, revision_id: str) -> bool:
    """Return whether the file of a revision says that it has none; one that changes only data may do nothing there."""
    try:
        defined = functions(project.graph[revision_id].path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    if is_empty(defined.get("downgrade")):
        return _changes_schema(defined.get("upgrade"))
    return bool(why_irreversible(defined))


def _changes_schema(function: ast.stmt | None) -> bool:
    return function is not None and any(
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "op"
        and node.attr not in _NO_SCHEMA
        for node in ast.walk(function)
    )
