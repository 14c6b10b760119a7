"""Answer questions about a database, without changing it.

The answers are computed from the version rows and the journal. Both are read directly if ``env.py`` is unchanged since
``db-init``, and otherwise inside a run of ``env.py``, which may configure a different version table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ampho.database.journal import Entry, Journal
from ampho.database.lock import import_alembic
from ampho.database.recorder import JournalTable
from ampho.database.schema import check_version_table, schema_of
from ampho.database.url import database_error
from ampho.database.version_rows import VERSION_TABLE, Applied, check_not_elsewhere
from ampho.database.version_tables import MOST, Places, rows_of, tables_like_it
from ampho.errors import ConfigurationError, DatabaseError, RevisionFileError
from ampho.history.files import read_bytes
from ampho.history.graph import Graph
from ampho.history.revision import check_syntax
from ampho.migrate.observers import Observer
from ampho.migrate.project import Project
from ampho.settings import JOURNAL_TABLE
from ampho.status import advice

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

    from ampho.status.deployment import Deployment
    from ampho.status.graph_view import Picture
    from ampho.status.state import CurrentState
    from ampho.status.summary import DatabaseStatus

T = TypeVar("T")
_TABLE_CHANGED = 1412  # the number of MariaDB's error "Table definition has changed, please retry transaction"
VersionTable: TypeAlias = tuple[Any, Any]
"""The name and the schema of a version table."""


def status(
    project: Project,
    connection: Connection,
    *,
    packages: Sequence[str] = (),
    all: bool = False,  # noqa: A002 (the option's name)
    check: bool = False,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> DatabaseStatus:
    """Return the state of the database, with counts per package; see :meth:`ampho.commands.Commands.status`."""
    from ampho.status.summary import database_status, unread_remedy

    if check:
        project.check_migratable(None)

    def count(rows: tuple[str, ...], journal: Journal) -> DatabaseStatus:
        journal.load()
        applied = Applied.from_rows(project.graph, rows, journal)
        _check_known(project, map(applied.package, applied.missing), packages)
        if check:
            advice.check_installed(applied)
        _warn_of_syntax(project.graph, applied, observer)
        found = database_status(
            project.graph,
            applied,
            journal,
            packages=packages,
            all=all,
            beginning=project.beginning,
            phases=project.phases,
        )
        unread = _unread_tables(project, connection, journal.places)
        return replace(found, unread_tables=(*unread,), unread_tables_remedy=unread_remedy(unread)) if unread else found

    return query(project, connection, x, count)


def _unread_tables(project: Project, connection: Connection, places: Places) -> dict[str, str]:
    """Map tables that look like version tables, but are not in the setting, to the packages they may belong to.

    A table of another database of the app, under another name for the same database, has revisions of that database.
    """
    whole, schema = project.whole or project, places.schema
    known, found = {places.shared, str(version_table(whole)[0]), *project.own_tables}, dict[str, str]()
    for name in tables_like_it(connection, "%version%", schema):
        if name in known or len(connection.dialect.get_columns(connection, name, schema=schema)) != 1:
            continue
        rows: tuple[str, ...] = ()
        with suppress(DBAPIError), connection.begin_nested():  # another user's table may not be readable
            rows = rows_of(connection, name, schema, MOST)
        owners = [whole.graph[row].package for row in rows if whole.graph.has_file(row)]
        here = [owner for owner in owners if owner in project.graph.packages]
        if here or (rows and not owners):
            found[name] = here[0] if here else ""
    return found


def current(project: Project, connection: Connection, *, verbose: bool = False, x: Sequence[str] = ()) -> CurrentState:
    """Return which revisions are applied, per package; see :meth:`ampho.commands.Commands.current`."""
    from ampho.status.state import current_state

    return query(project, connection, x, partial(current_state, project.graph, compare_files=verbose))


def graph(
    project: Project,
    connection: Connection | None,
    *,
    packages: Sequence[str] = (),
    full: bool = False,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Picture:
    """Return the history as a picture; see :meth:`ampho.commands.Commands.graph`.

    :param connection: the database whose applied revisions are marked; None to mark nothing.
    """
    from ampho.status.graph_view import all_packages, draw

    def look(rows: tuple[str, ...], journal: Journal) -> Picture:
        journal.load()
        applied = Applied.from_rows(project.graph, rows, journal)
        _check_known(project, all_packages(applied.graph), packages)
        _warn_of_syntax(project.graph, applied, observer)
        return draw(project.graph, applied, journal, packages=packages, full=full, phases=project.phases)

    if connection is not None:
        return query(project, connection, x, look)
    _check_known(project, all_packages(project.graph), packages)
    return draw(project.graph, packages=packages, full=full)


def _warn_of_syntax(graph: Graph, applied: Applied, observer: Observer | None) -> None:
    """Warn about the files of pending revisions that Python cannot compile."""
    for revision_id in (each for each in graph.ids if graph.has_file(each) and each not in applied.known):
        revision = graph[revision_id]
        try:
            check_syntax(revision, read_bytes(revision.file))
        except (OSError, RevisionFileError) as exc:
            (observer or Observer()).warned(str(exc))


def _check_known(project: Project, known: Iterable[str], packages: Iterable[str]) -> None:
    """Raise an error if a package is not configured and has no revisions in the database.

    :param known: the names of packages that have revisions, in files or in the database.
    """
    unlisted = set(known) - set(project.graph.packages)
    for name in packages:
        if name not in unlisted:
            project.check_addressed(name)
            project.package(name)


def deployment(
    project: Project,
    connection: Connection,
    *,
    read_files: bool = True,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Deployment:
    """Return how well the database matches the deployed code.

    :param read_files: whether to compare the files of applied revisions with those that ran, and to compile the files
        of pending revisions.
    """
    from ampho.status.deployment import assess

    project.check_migratable(None)

    def compare(rows: tuple[str, ...], journal: Journal) -> Deployment:
        applied = Applied.from_rows(project.graph, rows, journal)
        advice.check_installed(applied)
        if read_files:
            _warn_of_syntax(project.graph, applied, observer)
        return assess(applied, journal, project.phases, compare_files=read_files)

    return query(project, connection, x, compare)


def log(project: Project, connection: Connection, *, x: Sequence[str] = ()) -> tuple[Entry, ...]:
    """Return the entries of the journal; see :meth:`ampho.commands.Commands.log`."""
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
    :param about_change: whether the question is about a future run. If so, an error is raised if the version table is
        empty and another table has the rows.
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
    """Return whether the version table is known without ``env.py``, because the file is unchanged since ``db-init``."""
    name, schema = version_table(project)
    return (
        project.is_env_pristine
        and isinstance(name, str)
        and isinstance(schema, str | None)
        and name != project.settings.journal_table  # if the names are the same, journal_table() raises an error
    )


def query_known_table(
    project: Project,
    connection: Connection,
    question: Callable[[tuple[str, ...], Journal], T],
    known: VersionTable | None = None,
    *,
    about_change: bool = False,
) -> T:
    """Return the answer to a question without importing Alembic, because the import takes longer than most questions.

    :param known: the version table; by default, that of the options for ``env.py``.
    :raises DatabaseError: if the database reports an error, or its driver cannot decode a string.
    """
    name, schema = known or version_table(project)
    check_version_table(connection, schema)

    def look() -> T:
        rows: tuple[str, ...] = ()
        if connection.dialect.has_table(connection, name, schema=schema):
            rows = rows_of(connection, name, schema)
        journal_name = project.settings.journal_table
        places = Places(name, schema, rows={name: rows})
        if own := project.version_tables:
            rows, places = Places.read(connection, project.graph, (name, schema, journal_name), own, rows)
        table = None
        if journal_name:
            table = JournalTable(connection, journal_name, schema, keeps_sources=project.keeps_sources)
        journal = table.read(places) if table else Journal(places=places)
        if about_change and not rows:
            check_not_elsewhere(connection, project.graph, name, journal)
        return question(rows, journal)

    try:
        return _with_new_tables(connection, look)
    except (SQLAlchemyError, ValueError) as exc:
        frames = [frame for frame, _ in walk_tb(exc.__traceback__)]
        if not any(frame.f_globals.get("__name__", "").startswith("sqlalchemy.") for frame in frames):
            raise  # a ValueError from the question itself
        raise database_error(exc, project.url) from exc
    finally:
        with suppress(SQLAlchemyError):
            connection.rollback()


def _with_new_tables(connection: Connection, look: Callable[[], T]) -> T:
    """Return the result of ``look``, which is called again if MariaDB cannot read a table that was just created."""
    try:
        return look()
    except (DBAPIError, DatabaseError) as exc:
        error = exc.__cause__ if isinstance(exc, DatabaseError) else exc
        if not (isinstance(error, DBAPIError) and error.orig and error.orig.args[:1] == (_TABLE_CHANGED,)):
            raise
        connection.rollback()
        return look()


def version_table(project: Project) -> VersionTable:
    """Return the name and the schema of the version table from the options for ``env.py``; they may have any type."""
    return project.options.get("version_table") or VERSION_TABLE, project.options.get("version_table_schema")


def check_not_in_use(connection: Connection) -> None:
    """Raise a DatabaseError if the app has an open transaction on an in-memory SQLite database's only connection."""
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
    """Run the host's ``env.py``, and return the answer to a question that depends on its configuration.

    :param command: the equivalent Alembic command; by default, a command that changes nothing.
    """
    import_alembic(connection)
    from ampho.migrate.alembic import ASK, EnvironmentRun

    answers: list[T] = []

    def work(rows: tuple[str, ...], context: MigrationContext, script: object) -> tuple[()]:
        answers.append(question(rows, open_journal(project, context, rows)[1], context))
        return ()

    check_not_in_use(connection)
    _with_new_tables(connection, lambda: EnvironmentRun(project, connection, x, command or ASK).run(work))
    return answers[0]


def open_journal(
    project: Project, context: MigrationContext, rows: tuple[str, ...]
) -> tuple[JournalTable | None, Journal]:
    """Return the journal's table, as :func:`journal_table` does, and the journal, which knows where the rows are."""
    from ampho.migrate.alembic import places_of

    table, places = journal_table(project, context), places_of(context, rows)
    return table, table.read(places) if table else Journal(places=places)


def journal_table(project: Project, context: MigrationContext) -> JournalTable | None:
    """Return the journal's table in the schema that ``env.py`` configured; None if the app keeps no journal.

    :raises ConfigurationError: if the version table has the same name, or is in the wrong schema.
    """
    name = project.settings.journal_table
    if context.connection is None:
        return None
    check_version_table(context.connection, context.version_table_schema)
    if name is None:
        return None
    if name == context.version_table:
        raise ConfigurationError(
            f"{JOURNAL_TABLE} and version_table name the same table, {name}. Change one of them.",
            setting=JOURNAL_TABLE.name,
        )
    # With the schema, so that entries that are written while a revision runs do not depend on its search_path.
    schema = context.version_table_schema or schema_of(context.connection)
    return JournalTable(context.connection, name, schema, keeps_sources=project.keeps_sources)
