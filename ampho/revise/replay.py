"""Running the histories on an empty throwaway database, and reverting them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ampho._text import counted, listed
from ampho.errors import DatabaseError, RevisionFailedError
from ampho.history.losses import changes_schema, functions, is_empty
from ampho.migrate.executor import revert_scratch, upgrade
from ampho.migrate.project import Project
from ampho.migrate.template import check_schemas
from ampho.revise.lint.code import why_irreversible

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def replay(project: Project, connection: Connection, specifier: str, x: Sequence[str]) -> None:
    """Create tables in an empty database by running the histories, without notifying observers.

    :param specifier: ``heads`` for all packages, or the name of one package.
    :raises RevisionFailedError: if a revision fails.
    :raises DatabaseError: if the histories of all packages leave a foreign key to a table that does not exist, which
        SQLite accepts; or if a revision changes another database than the throwaway one.
    """
    if specifier in project.graph.packages and not project.graph.of_package(specifier):
        return
    check_schemas(project, connection)
    upgrade(project, connection, specifier, scratch=True, x=x)
    connection.rollback()  # ends the transaction of a run that had nothing to do
    if connection.dialect.name == "sqlite" and specifier == "heads":  # a single package may reference tables of others
        _check_keys(connection)


def _check_keys(connection: Connection) -> None:
    from ampho.database.sqlite import dangling_keys

    if lost := dangling_keys(connection):
        raise DatabaseError(
            f"The histories leave foreign keys to tables that do not exist: from {listed(lost)}. SQLite accepts that,"
            " but other databases do not. If another package drops, renames, or creates the table, add its revision to"
            " depends_on. Only a throwaway database is affected."
        )


def replay_back(project: Project, connection: Connection, x: Sequence[str]) -> str:
    """Revert the revisions that :func:`replay` ran, down to the last one that is irreversible by design.

    Such a revision has no ``downgrade()``, or its ``downgrade()`` raises an exception immediately, raises
    NotImplementedError anywhere, or does nothing although ``upgrade()`` changes the schema.

    :return: a warning if some revisions could not be reverted; otherwise, an empty string.
    :raises RevisionFailedError: if a downgrade fails.
    """
    stops = {revision_id for revision_id in project.graph.ids if is_irreversible(project, revision_id)}
    taken: Sequence[str] = ()
    try:
        run = revert_scratch(project, connection, stops, x=x)
    except RevisionFailedError as exc:
        if not isinstance(exc.__cause__, NotImplementedError):
            raise
        stops, taken = {exc.revision}, exc.applied
    else:
        taken = [step.step.revision.id for step in run.steps]
    stopped_at = [revision_id for revision_id in project.graph.ids if revision_id in stops and revision_id not in taken]
    if not stopped_at:
        return ""
    name = f"{stopped_at[-1]} of {project.graph[stopped_at[-1]].package}"
    done = f"only {counted(len(taken))} after it" if taken else "nothing"
    return f"{name} cannot be reverted, so Ampho reverted {done}."


def is_irreversible(project: Project, revision_id: str) -> bool:
    """Return whether a revision is irreversible by design. If it only changes data, downgrade() may be empty."""
    try:
        defined = functions(project.graph[revision_id].path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    if is_empty(defined.get("downgrade")):
        return changes_schema(defined.get("upgrade"))
    return bool(why_irreversible(defined))
