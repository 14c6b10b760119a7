"""Answers about a database that change nothing.

They are made from the version rows and the journal, which are read directly if it is known what ``env.py`` configures,
and otherwise by running it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import String, column, select, table
from sqlalchemy.exc import SQLAlchemyError

from ampho.database.journal import Entry, Journal
from ampho.database.lock import import_alembic
from ampho.database.recorder import JournalTable
from ampho.database.url import database_error
from ampho.database.version_rows import VERSION_TABLE, Applied, check_not_elsewhere
from ampho.errors import ConfigurationError
from ampho.migrate.project import Project
from ampho.settings import JOURNAL_TABLE
from ampho.status import advice

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from sqlalchemy.engine import Connection

    from ampho.migrate.alembic import GraphScripts
    from ampho.status.deployment import Deployment
    from ampho.status.graph_view import Picture
    from ampho.status.state import CurrentState
    from ampho.status.summary import DatabaseStatus

T = TypeVar("T")


def status(
    project: Project,
    connection: Connection,
    *,
    packages: Sequence[str] = (),
    all: bool = False,  # noqa: A002 (the option's name)
    check: bool = False,
    x: Sequence[str] = (),
) -> DatabaseStatus:
    """Return the state of the database, counted per package.

    :param packages: the packages to include; by default all.
    :param all: whether to include each revision.
    :param check: whether to raise the errors that an upgrade raises if packages are not listed or not installed.
    """
    from ampho.status.summary import database_status

    if check:
        project.check_migratable(None)

    def count(rows: tuple[str, ...], journal: Journal) -> DatabaseStatus:
        journal.load()
        applied = Applied.from_rows(project.graph, rows, journal)
        _check_known(project, map(applied.package, applied.missing), packages)
        if check:
            advice.check_installed(applied)
        return database_status(project.graph, applied, journal, packages=packages, all=all, beginning=project.beginning)

    return query(project, connection, x, count)


def current(project: Project, connection: Connection, *, verbose: bool = False, x: Sequence[str] = ()) -> CurrentState:
    """Return what is applied, per package.

    :param verbose: whether to compare the files of applied revisions with those that ran.
    """
    from ampho.status.state import current_state

    return query(project, connection, x, partial(current_state, project.graph, compare_files=verbose))


def graph(
    project: Project,
    connection: Connection | None,
    *,
    packages: Sequence[str] = (),
    full: bool = False,
    x: Sequence[str] = (),
) -> Picture:
    """Return the history as a picture, with marks for what is applied.

    :param connection: None for a picture without a database.
    :param packages: the packages to show, with what they are connected to in others; by default all.
    :param full: whether each revision is a node of its own.
    """
    from ampho.status.graph_view import all_packages, draw

    def look(rows: tuple[str, ...], journal: Journal) -> Picture:
        journal.load()
        applied = Applied.from_rows(project.graph, rows, journal)
        _check_known(project, all_packages(applied.graph), packages)
        return draw(project.graph, applied, journal, packages=packages, full=full)

    if connection is not None:
        return query(project, connection, x, look)
    _check_known(project, all_packages(project.graph), packages)
    return draw(project.graph, packages=packages, full=full)


def _check_known(project: Project, known: Iterable[str], packages: Iterable[str]) -> None:
    """Check that packages are configured, or that the database has missing revisions of them.

    :param known: names of packages that the files or the database have revisions of.
    """
    unlisted = set(known) - set(project.graph.packages)
    for name in packages:
        if name not in unlisted:
            project.check_addressed(name)
            project.package(name)


def deployment(
    project: Project, connection: Connection, *, compare_files: bool = True, x: Sequence[str] = ()
) -> Deployment:
    """Return how well the database matches the deployed code.

    :param compare_files: whether to compare the files of applied revisions with those that ran.
    """
    from ampho.status.deployment import assess

    project.check_migratable(None)

    def compare(rows: tuple[str, ...], journal: Journal) -> Deployment:
        applied = Applied.from_rows(project.graph, rows, journal)
        advice.check_installed(applied)
        return assess(project.graph, applied, journal, compare_files=compare_files)

    return query(project, connection, x, compare)


def log(project: Project, connection: Connection, *, x: Sequence[str] = ()) -> tuple[Entry, ...]:
    """Return the entries of the journal, in their order.

    :raises ConfigurationError: if the app keeps no journal.
    """
    if project.settings.journal_table is None:
        raise ConfigurationError(f"{JOURNAL_TABLE} is None, so this app keeps no journal.", setting=JOURNAL_TABLE.name)
    return query(project, connection, x, lambda rows, journal: journal.entries)


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

    def ask(rows: tuple[str, ...], journal: Journal, context: MigrationContext) -> T:
        if about_change and not rows:
            check_not_elsewhere(connection, project.graph, context.version_table, journal)
        return question(rows, journal)

    return query_env(project, connection, x, ask)


def has_known_table(project: Project) -> bool:
    """Return whether the version table is known without running ``env.py``, because ``db-init`` has written that."""
    name, schema = _version_table(project)
    return (
        project.is_env_pristine
        and isinstance(name, str)
        and isinstance(schema, str | None)
        and name != project.settings.journal_table  # an error that needs env.py to be exact
    )


def query_known_table(
    project: Project,
    connection: Connection,
    question: Callable[[tuple[str, ...], Journal], T],
    *,
    about_change: bool = False,
) -> T:
    """Return the answer without importing Alembic, which takes longer than everything else in most commands.

    :raises DatabaseError: if the database reports an error.
    """
    name, schema = _version_table(project)
    try:
        rows: tuple[str, ...] = ()
        if connection.dialect.has_table(connection, name, schema=schema):
            query = select(column("version_num", String)).select_from(table(name, schema=schema))
            rows = tuple(row[0] for row in connection.execute(query))
        journal = (
            JournalTable(connection, project.settings.journal_table, schema).read()
            if project.settings.journal_table
            else Journal()
        )
        if about_change and not rows:
            check_not_elsewhere(connection, project.graph, name, journal)
        return question(rows, journal)
    except (SQLAlchemyError, ValueError) as exc:  # such as text in another encoding than the driver expects
        raise database_error(exc, project.url) from exc
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


def query_env(
    project: Project,
    connection: Connection,
    x: Sequence[str],
    question: Callable[[tuple[str, ...], Journal, MigrationContext], T],
    command: Sequence[str] = (),
) -> T:
    """Return the answer to a question that needs what ``env.py`` configures.

    :param command: as for :func:`run_env`.
    """
    answers: list[T] = []

    def work(rows: tuple[str, ...], context: MigrationContext, script: GraphScripts) -> Iterable[RevisionStep]:
        answers.append(question(rows, read_journal(project, context), context))
        return ()

    run_env(project, connection, x, work, command)
    return answers[0]


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
    name = project.settings.journal_table
    if name is None or context.connection is None:
        return None
    if name == context.version_table:
        raise ConfigurationError(
            f"{JOURNAL_TABLE} and version_table name the same table, {name}. Give one of them another name.",
            setting=JOURNAL_TABLE.name,
        )
    return JournalTable(context.connection, name, context.version_table_schema)


def read_journal(project: Project, context: MigrationContext) -> Journal:
    """Return the journal; an empty one if the app keeps none."""
    table = journal_table(project, context)
    return table.read() if table else Journal()
