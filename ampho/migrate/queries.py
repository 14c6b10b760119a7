"""Reading the version rows and the journal: by running ``env.py``, or directly if what it configures is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import String, column, select, table
from sqlalchemy.exc import SQLAlchemyError

from ampho._text import with_hint
from ampho.database.journal import Journal
from ampho.database.lock import import_alembic
from ampho.database.recorder import SETTING, JournalTable
from ampho.database.url import describe_without
from ampho.database.version_rows import VERSION_TABLE, check_not_elsewhere
from ampho.errors import ConfigurationError, DatabaseError
from ampho.project import Project

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from sqlalchemy.engine import Connection

    from ampho.migrate.alembic import GraphScripts

T = TypeVar("T")


def query(
    project: Project,
    connection: Connection,
    x: Sequence[str],
    question: Callable[[tuple[str, ...], Journal], T],
    *,
    about_change: bool = False,
) -> T:
    """Return the answer to a question about the version rows and the journal.

    :param x: values for ``context.get_x_argument()``.
    :param about_change: whether it is about what a run would do, which is refused if the rows are in another table.
    """
    if has_known_table(project):
        check_not_in_use(connection)
        return query_known_table(project, connection, question, about_change=about_change)
    answers: list[T] = []

    def work(rows: tuple[str, ...], context: MigrationContext, script: GraphScripts) -> Iterable[RevisionStep]:
        journal = read_journal(project, context)
        if about_change and not rows:
            check_not_elsewhere(connection, project.graph, context.version_table, journal)
        answers.append(question(rows, journal))
        return ()

    run_env(project, connection, x, work)
    return answers[0]


def has_known_table(project: Project) -> bool:
    """Return whether the version table is known without running ``env.py``, because ``db-init`` has written that."""
    name, schema = _version_table(project)
    return (
        project.is_env_pristine
        and isinstance(name, str)
        and isinstance(schema, str | None)
        and name != project.journal  # an error that needs env.py to be exact
    )


def query_known_table(
    project: Project,
    connection: Connection,
    question: Callable[[tuple[str, ...], Journal], T],
    *,
    about_change: bool = False,
) -> T:
    """Return the answer without importing Alembic, which takes longer than all else that most commands do.

    :raises DatabaseError: if the database refuses a statement.
    """
    name, schema = _version_table(project)
    try:
        rows: tuple[str, ...] = ()
        if connection.dialect.has_table(connection, name, schema=schema):
            query = select(column("version_num", String)).select_from(table(name, schema=schema))
            rows = tuple(row[0] for row in connection.execute(query))
        journal = JournalTable(connection, project.journal, schema).read() if project.journal else Journal()
        if about_change and not rows:
            check_not_elsewhere(connection, project.graph, name, journal)
        return question(rows, journal)
    except (SQLAlchemyError, ValueError) as exc:  # such as text in another encoding than the driver expects
        why = with_hint(describe_without(exc, project.url)).rstrip(".")
        raise DatabaseError(f"The database refused: {why}. This command changed nothing.") from exc
    finally:
        with suppress(SQLAlchemyError):
            connection.rollback()


def _version_table(project: Project) -> tuple[Any, Any]:
    """Return the name and the schema of the version table in the options of ``env.py``, which may be of any type."""
    return project.options.get("version_table") or VERSION_TABLE, project.options.get("version_table_schema")


def check_not_in_use(connection: Connection) -> None:
    """Check that the only connection of an in-memory SQLite database is not in a transaction of the app.

    :raises DatabaseError: if it is.
    """
    if connection.dialect.name == "sqlite":
        from ampho.database import sqlite

        sqlite.check_not_in_use(connection)


def run_env(
    project: Project,
    connection: Connection,
    x: Sequence[str],
    work: Callable[[tuple[str, ...], MigrationContext, GraphScripts], Iterable[RevisionStep]],
    command: Sequence[str] = (),
) -> None:
    """Run the host's ``env.py`` once with ``work`` inside, for work that runs no step.

    :param command: the equivalent Alembic command; by default, the one for work that changes nothing.
    """
    import_alembic(connection)
    from ampho.migrate.alembic import ASK, EnvironmentRun

    check_not_in_use(connection)
    EnvironmentRun(project, connection, x, command or ASK).run(work)


def journal_table(project: Project, context: MigrationContext) -> JournalTable | None:
    """Return the journal's table, which is in the schema that ``env.py`` configured; None without a journal.

    :raises ConfigurationError: if the version table has the same name.
    """
    if project.journal is None or context.connection is None:
        return None
    if project.journal == context.version_table:
        raise ConfigurationError(
            f"{SETTING} and version_table name the same table, {project.journal}. Give one of them another name.",
            setting=SETTING,
        )
    return JournalTable(context.connection, project.journal, context.version_table_schema)


def read_journal(project: Project, context: MigrationContext) -> Journal:
    """Return the journal; an empty one if the app keeps none."""
    table = journal_table(project, context)
    return table.read() if table else Journal()
