"""Running on a connection: where the database is, what would be done, and doing it.

Everything here takes a sync ``Connection``. Flask passes one; Quart passes the one that ``AsyncConnection.run_sync``
gives. Nothing is printed: an :class:`Observer` is told.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import String, column, select, table
from sqlalchemy.exc import SQLAlchemyError

from ampho._text import counted, listed
from ampho.database.applied import Applied
from ampho.database.connection import migrating
from ampho.database.elsewhere import DEFAULT, check_not_elsewhere
from ampho.database.journal import Entry, Journal
from ampho.database.lock import holder, import_alembic
from ampho.database.protection import Protection
from ampho.database.recorder import SETTING, JournalTable
from ampho.errors import ConfigurationError
from ampho.history.graph import Graph
from ampho.migrate.observers import Observer, Observers, observers_of
from ampho.migrate.plan import Direction, Plan, Run, graph_of, plan_downgrade, plan_upgrade
from ampho.migrate.project import Project
from ampho.migrate.runner import Runner, journal_table, raise_from, unfinished_error

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from sqlalchemy.engine import Connection

    from ampho.migrate.alembic import GraphScripts
    from ampho.status.deployment import Deployment
    from ampho.status.graph_view import Picture
    from ampho.status.state import CurrentState
    from ampho.status.summary import DatabaseStatus

T = TypeVar("T")


def upgrade(
    project: Project,
    connection: Connection,
    specifier: str = "heads",
    *,
    agreed: Plan | None = None,
    scratch: bool = False,
    x: Sequence[str] = (),
    observer: Observer | Observers | None = None,
) -> Run:
    """Upgrade the database of a connection.

    :param agreed: the plan that was confirmed; a different one is an error.
    :param scratch: whether it is a throw-away database; errors then say so.
    :param observer: receives the events of each step, as do the log and the signals; or the only observers.
    :param x: values for ``context.get_x_argument()``.
    :raises AmphoError: before anything is changed, or naming the revision that failed.
    """
    project.check_migratable(specifier)

    def make_plan(graph: Graph, rows: Iterable[str], journal: Journal) -> Plan:
        planned = plan_upgrade(graph, rows, specifier, journal=journal)
        planned.check_agreed(agreed)
        return planned

    command = ("upgrade", "--", specifier)
    observers = _observers(project, connection, observer)
    runner = Runner(project, make_plan, command, x, observers, is_agreed=agreed is not None, is_scratch=scratch)
    return _run(connection, runner, at_a_glance=True)


def downgrade(
    project: Project,
    connection: Connection,
    specifier: str = "-1",
    *,
    cascade: bool = False,
    confirm: str | None = None,
    agreed: Plan | None = None,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Run:
    """Downgrade the database of a connection.

    :param cascade: whether revisions of other packages that depend on what goes may go too.
    :param confirm: the database's name, where it is protected.
    :param agreed: the plan that was confirmed; a different one is an error.
    :param x: values for ``context.get_x_argument()``.
    :raises AmphoError: before anything is changed, or naming the revision that failed.
    """
    project.check_migratable(specifier)
    protection = project.protection.on(connection, confirm)

    def make_plan(graph: Graph, rows: Iterable[str], journal: Journal) -> Plan:
        planned = plan_downgrade(graph, rows, specifier, cascade=cascade, journal=journal)
        planned.check_agreed(agreed)  # before a name is asked for that would confirm something else
        if planned.steps or confirm is not None:
            what = f"{counted(len(planned.steps))} of {', '.join(planned.packages)}" if planned.steps else "nothing"
            protection.check(confirm, f"'ampho db-down {specifier}' takes back {what}.")
        return planned

    command = ("downgrade", "--", specifier)
    observers = _observers(project, connection, observer)
    runner = Runner(project, make_plan, command, x, observers, is_agreed=agreed is not None)
    return _run(connection, runner)


def take_back(
    project: Project, connection: Connection, stops: Container[str], *, x: Sequence[str], observer: Observers
) -> Run:
    """Revert what a throw-away database has, the latest first, up to a revision that has no way back.

    :param stops: the ids of revisions that have none.
    :param x: values for ``context.get_x_argument()``.
    :raises AmphoError: naming the revision that failed.
    """

    def make_plan(graph: Graph, rows: Iterable[str], journal: Journal) -> Plan:
        planned = plan_downgrade(graph, rows, "base", journal=journal)
        return replace(planned, steps=tuple(takewhile(lambda step: step.revision.id not in stops, planned.steps)))

    return _run(connection, Runner(project, make_plan, ("downgrade", "base"), x, observer, is_scratch=True))


def plan(
    project: Project,
    connection: Connection,
    specifier: str | None = None,
    *,
    direction: Direction | str = Direction.UPGRADE,
    cascade: bool = False,
    x: Sequence[str] = (),
) -> Callable[[], Plan]:
    """Plan what :func:`upgrade` or :func:`downgrade` would do now, and do nothing.

    :return: gives the plan, and in it why each step is there; it reads the files of the steps, and needs no database.
    :raises AmphoError: as they would before their first step.
    """
    project.check_migratable(specifier)
    upgrades = Direction(direction) is Direction.UPGRADE
    typed = specifier if specifier is not None else "heads" if upgrades else "-1"
    protection = Protection() if upgrades else project.protection.on(connection)

    from ampho.migrate.explain import explained

    def make_plan(rows: tuple[str, ...], journal: Journal) -> Callable[[], Plan]:
        for entry in journal.half_done:
            raise unfinished_error(entry)
        if upgrades:
            planned = plan_upgrade(project.graph, rows, typed, journal=journal)
        else:
            planned = plan_downgrade(project.graph, rows, typed, cascade=cascade, journal=journal)
            if planned.steps and protection.enabled:
                planned = replace(planned, protected=protection.database)
        graph = graph_of(planned, project.graph, rows, journal)
        return partial(explained, planned, graph, connection.dialect.name, is_async=connection.dialect.is_async)

    return ask(project, connection, x, make_plan, about_change=True)


def status(
    project: Project,
    connection: Connection,
    *,
    packages: Sequence[str] = (),
    all: bool = False,  # noqa: A002 (the option's name)
    check: bool = False,
    x: Sequence[str] = (),
) -> DatabaseStatus:
    """Return where the database is, counted per package.

    :param packages: the packages that are looked at; by default all.
    :param all: whether each revision is told of.
    :param check: whether it is an error that no package is listed, or one that is not there and never was, as it is
        for an upgrade.
    """
    from ampho.status.state import missing_states
    from ampho.status.summary import database_status

    if check:
        project.check_migratable(None)

    def count(rows: tuple[str, ...], journal: Journal) -> DatabaseStatus:
        journal.entries  # noqa: B018 (all of it is needed, so it is read once)
        applied = Applied.from_rows(project.graph, rows, journal)
        _check_known(project, (missing.package for missing in missing_states(applied)), packages)
        if check:
            applied.check_nothing_absent()
        return database_status(project.graph, applied, journal, packages=packages, all=all, beginning=project.beginning)

    return ask(project, connection, x, count)


def current(project: Project, connection: Connection, *, verbose: bool = False, x: Sequence[str] = ()) -> CurrentState:
    """Return what is applied, per package.

    :param verbose: whether the files of applied revisions are compared with those that were run.
    """
    from ampho.status.state import current_state

    return ask(project, connection, x, partial(current_state, project.graph, compare_files=verbose))


def graph(
    project: Project,
    connection: Connection | None,
    *,
    packages: Sequence[str] = (),
    full: bool = False,
    x: Sequence[str] = (),
) -> Picture:
    """Return the history as a picture, and in it what is applied.

    :param connection: None if nothing is to be told of a database.
    :param packages: show these, and of others what they touch; by default all.
    :param full: whether each revision is a node of its own.
    """
    from ampho.status.graph_view import all_packages, draw

    def look(rows: tuple[str, ...], journal: Journal) -> Picture:
        journal.entries  # noqa: B018 (all of it is needed, so it is read once)
        applied = Applied.from_rows(project.graph, rows, journal)
        _check_known(project, all_packages(applied.graph), packages)
        return draw(project.graph, applied, journal, packages=packages, full=full)

    if connection is not None:
        return ask(project, connection, x, look)
    _check_known(project, all_packages(project.graph), packages)
    return draw(project.graph, packages=packages, full=full)


def _check_known(project: Project, known: Iterable[str], packages: Iterable[str]) -> None:
    """Check that packages are configured, or at least known.

    :param known: the names of those of which something is known.
    """
    gone = set(known) - set(project.graph.packages)
    for name in packages:
        if name not in gone:
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
        applied.check_nothing_absent()
        return assess(project.graph, applied, journal, compare_files=compare_files)

    return ask(project, connection, x, compare)


def awaited(project: Project, connection: Connection, *, x: Sequence[str] = ()) -> tuple[Deployment, str | None]:
    """Return the state of the database, compared with the code, and the process that migrates it.

    :return: the process is empty if there is none, and None if it is not known or does not matter.
    """
    found = deployment(project, connection, compare_files=False, x=x)
    lacks_something = any(finding.is_waited_for for finding in found.findings)
    return found, holder(connection, project.lock) if lacks_something else None


def log(project: Project, connection: Connection, *, x: Sequence[str] = ()) -> tuple[Entry, ...]:
    """Return what was done to the database, the last thing last, as far as its journal tells.

    :raises ConfigurationError: if the app keeps no journal.
    """
    if project.journal is None:
        raise ConfigurationError(f"{SETTING} is None, so this app keeps no journal.", setting=SETTING)
    return ask(project, connection, x, lambda rows, journal: journal.entries)


def ask(
    project: Project,
    connection: Connection,
    x: Sequence[str],
    question: Callable[[tuple[str, ...], Journal], T],
    *,
    about_change: bool = False,
) -> T:
    """Return the answer to a question about the rows of the version table and the journal beside it.

    The host's ``env.py`` decides which version table that is. Without one there are no rows.

    :param about_change: whether it is about what a run would do, which is refused where the rows are in another table.
    """
    with suppress(_Unseen):
        return _at_a_glance(project, connection, question, about_change=about_change)
    found: list[T] = []

    def work(rows: tuple[str, ...], context: MigrationContext, script: GraphScripts) -> Iterable[RevisionStep]:
        table = journal_table(project, context)
        journal = table.read() if table else Journal()
        if about_change and not rows:
            check_not_elsewhere(connection, project.graph, context.version_table, journal)
        found.append(question(rows, journal))
        return ()

    perform(project, connection, x, work)
    return found[0]


class _Unseen(Exception):  # noqa: N818 (nothing is wrong)
    """Only ``env.py`` knows the version table, or the database has something against it that the usual way says."""


def _at_a_glance(
    project: Project,
    connection: Connection,
    question: Callable[[tuple[str, ...], Journal], T],
    *,
    about_change: bool = False,
) -> T:
    """Ask a question without Alembic, whose import takes longer than all else of a command.

    :raises _Unseen: if that cannot be.
    """
    name = project.options.get("version_table") or DEFAULT
    schema = project.options.get("version_table_schema")
    if not (project.is_env_pristine and isinstance(name, str) and isinstance(schema, str | None)):
        raise _Unseen
    if name == project.journal:
        raise _Unseen
    if connection.dialect.name == "sqlite":
        from ampho.database.sqlite import check_not_in_use

        check_not_in_use(connection)
    try:
        rows: tuple[str, ...] = ()
        if connection.dialect.has_table(connection, name, schema=schema):
            query = select(column("version_num", String)).select_from(table(name, schema=schema))
            rows = tuple(row[0] for row in connection.execute(query))
        journal = JournalTable(connection, project.journal, schema).read() if project.journal else Journal()
        if about_change and not rows:
            check_not_elsewhere(connection, project.graph, name, journal)
        return question(rows, journal)
    except (SQLAlchemyError, ValueError) as exc:
        raise _Unseen from exc
    finally:
        with suppress(SQLAlchemyError):
            connection.rollback()


def perform(
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

    if connection.dialect.name == "sqlite":
        from ampho.database.sqlite import check_not_in_use

        check_not_in_use(connection)
    environment = EnvironmentRun(project, connection, x, command or ASK)
    try:
        environment.perform(work)
    except (Exception, SystemExit) as exc:  # noqa: BLE001 (raised again as an error of Ampho)
        raise_from(environment.failure(exc), exc)


def _observers(project: Project, connection: Connection, observer: Observer | Observers | None) -> Observers:
    if isinstance(observer, Observers):
        return observer
    return observers_of(project.app, project.url, observer, is_async=connection.dialect.is_async)


def _run(connection: Connection, runner: Runner, *, at_a_glance: bool = False) -> Run:
    project = runner.project
    project.graph  # noqa: B018  # what is wrong with the files is said before the database is asked for anything
    run = None
    if at_a_glance:
        with suppress(_Unseen):
            run = _at_a_glance(project, connection, runner.nothing_to_do)
    if run is None:
        with (
            migrating(connection, project.url, project.lock, runner.waiting) as migrating_connection,
            _warning_of_keys(migrating_connection, runner.observers),
        ):
            run = runner.run(migrating_connection)
    runner.observers.notify(Observer.finished, run)
    return run


@contextmanager
def _warning_of_keys(connection: Connection, observers: Observers) -> Iterator[None]:
    """Warn of foreign keys to tables that do not exist, if a run leaves some: SQLite alone accepts that."""
    if connection.dialect.name != "sqlite":
        yield
        return
    from ampho.database.sqlite import dangling_keys

    before = dangling_keys(connection)
    yield
    left = [key for key in dangling_keys(connection) if key not in before]
    if left:
        observers.notify(
            Observer.warned,
            f"This run leaves foreign keys to tables that do not exist: of {listed(left)}. SQLite accepts that until a"
            " row is written with foreign keys enforced. If a revision has dropped or renamed the table too early, add"
            " to its depends_on what it should come after; 'ampho db-check --scratch' tries the order.",
        )
