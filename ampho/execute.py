"""Running on a connection: where the database is, what would be done, and doing it.

Everything here takes a sync ``Connection``. Flask passes one; Quart passes the one that ``AsyncConnection.run_sync``
gives. Nothing is printed: an :class:`Observer` is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import DBAPIError

from ampho._hints import with_hint
from ampho.applied import Applied
from ampho.deploy import Deployment, assess
from ampho.errors import ConfigurationError, DatabaseError, LockTimeoutError
from ampho.graph import Graph
from ampho.journal import Entry, Journal
from ampho.journal_table import SETTING
from ampho.lock import TIMEOUT_SETTING, LockSettings, locked, patient
from ampho.plan import Direction, Plan, plan_downgrade, plan_upgrade
from ampho.project import Project
from ampho.runner import MakePlan, Observer, Run, Runner, StepRun, journal_table, raise_from
from ampho.state import CurrentState, current_state
from ampho.url import describe_without

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from alembic.script import ScriptDirectory
    from sqlalchemy.engine import Connection

T = TypeVar("T")

__all__ = [
    "Observer",
    "Run",
    "StepRun",
    "ask",
    "changing",
    "current",
    "deployment",
    "downgrade",
    "log",
    "migrating",
    "perform",
    "plan",
    "raise_from",
    "upgrade",
]


@contextmanager
def changing(
    project: Project, connection: Connection, waiting: Callable[[str], None] | None = None
) -> Iterator[Connection]:
    """Give the connection on which a database is changed, while nobody else changes it.

    :param connection: a fresh connection, on which nothing was executed.
    :param waiting: told who changes it, if somebody else does.
    :raises LockTimeoutError: if somebody else is not done in time.
    """
    settings = project.lock
    with _sqlites_lock(connection, settings), ExitStack() as stack:
        patience = settings.timeout if settings.enabled else None
        migrating_connection = stack.enter_context(migrating(connection, patience))
        try:
            stack.enter_context(locked(migrating_connection, settings, waiting or Observer().waiting))
            stack.enter_context(patient(migrating_connection, settings))
        except DBAPIError as exc:
            why = with_hint(describe_without(exc, project.url)).rstrip(".")
            raise DatabaseError(f"The database refused: {why}. This command changed nothing.") from exc
        yield migrating_connection


@contextmanager
def _sqlites_lock(connection: Connection, settings: LockSettings) -> Iterator[None]:
    """Say of SQLite's own lock what is said of the others'."""
    try:
        yield
    except DatabaseError as exc:
        if not (settings.enabled and connection.dialect.name == "sqlite" and "database is locked" in str(exc)):
            raise
        raise LockTimeoutError(
            f"Another process writes to this database, and was not done within {settings.timeout:g} s. Wait for it, end"
            f" it, or set {TIMEOUT_SETTING}, in seconds. {exc}",
            holder="",
        ) from exc


@contextmanager
def migrating(connection: Connection, patience: float | None = None) -> Iterator[Connection]:
    """Give the connection on which revisions run, with real transactions; what it needs ends with it.

    :param connection: a fresh connection, on which nothing was executed.
    :param patience: seconds to wait for SQLite's write lock; None to wait as the engine says.
    """
    if connection.dialect.name == "sqlite":
        from ampho._sqlite import transactional

        with transactional(connection, patience) as shadow:
            yield shadow
        return
    if _autocommits(connection):
        level = connection.default_isolation_level
        connection = connection.execution_options(
            isolation_level="READ COMMITTED" if level in (None, "AUTOCOMMIT") else level
        )
    yield connection


def _autocommits(connection: Connection) -> bool:
    """Tell whether the driver commits each statement; ``get_isolation_level()`` knows that on few drivers."""
    try:
        return connection.dialect.detect_autocommit_setting(connection.connection.dbapi_connection)  # type: ignore[arg-type]  # never None here
    except (AttributeError, NotImplementedError):  # SQLAlchemy before 2.0.43, or another dialect
        options = connection.get_execution_options()
        engines_own = getattr(connection.dialect, "_on_connect_isolation_level", None)
        return "AUTOCOMMIT" in (options.get("isolation_level"), engines_own, connection.get_isolation_level())


def upgrade(
    project: Project,
    connection: Connection,
    specifier: str = "heads",
    *,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Run:
    """Upgrade the database of a connection.

    :param x: values for ``context.get_x_argument()``.
    :raises AmphoError: before anything is changed, or naming the revision that failed.
    """
    project.check_migratable(specifier)

    def make_plan(graph: Graph, rows: Iterable[str], journal: Journal) -> Plan:
        return plan_upgrade(graph, rows, specifier, journal=journal)

    return _run(project, connection, make_plan, x, observer)


def downgrade(
    project: Project,
    connection: Connection,
    specifier: str = "-1",
    *,
    cascade: bool = False,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Run:
    """Downgrade the database of a connection.

    :param cascade: whether revisions of other packages that depend on what goes may go too.
    :param x: values for ``context.get_x_argument()``.
    :raises AmphoError: before anything is changed, or naming the revision that failed.
    """
    project.check_migratable(specifier)

    def make_plan(graph: Graph, rows: Iterable[str], journal: Journal) -> Plan:
        return plan_downgrade(graph, rows, specifier, cascade=cascade, journal=journal)

    return _run(project, connection, make_plan, x, observer)


def plan(
    project: Project,
    connection: Connection,
    specifier: str | None = None,
    *,
    direction: Direction | str = Direction.UPGRADE,
    cascade: bool = False,
    x: Sequence[str] = (),
) -> Plan:
    """Return what :func:`upgrade` or :func:`downgrade` would do now, and do nothing."""
    project.check_migratable(specifier)
    upgrades = Direction(direction) is Direction.UPGRADE
    typed = specifier if specifier is not None else "heads" if upgrades else "-1"

    def make_plan(rows: tuple[str, ...], journal: Journal) -> Plan:
        if upgrades:
            return plan_upgrade(project.graph, rows, typed, journal=journal)
        return plan_downgrade(project.graph, rows, typed, cascade=cascade, journal=journal)

    return ask(project, connection, x, make_plan)


def current(project: Project, connection: Connection, *, x: Sequence[str] = ()) -> CurrentState:
    """Return what is applied, per package."""
    return ask(project, connection, x, partial(current_state, project.graph))


def deployment(project: Project, connection: Connection, *, files: bool = True, x: Sequence[str] = ()) -> Deployment:
    """Return how the database stands to the code that is deployed.

    :param files: whether the files are compared with those that were run.
    """

    def compare(rows: tuple[str, ...], journal: Journal) -> Deployment:
        return assess(project.graph, Applied.from_rows(project.graph, rows, journal), journal, files=files)

    return ask(project, connection, x, compare)


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
) -> T:
    """Return the answer to a question about the rows of the version table and the journal beside it.

    Which version table that is, the host's ``env.py`` says. Without one there are no rows.
    """
    found: list[T] = []

    def work(rows: tuple[str, ...], context: MigrationContext, script: ScriptDirectory) -> Iterable[RevisionStep]:
        table = journal_table(project, context)
        found.append(question(rows, table.read() if table else Journal()))
        return ()

    perform(project, connection, x, work)
    return found[0]


def perform(
    project: Project,
    connection: Connection,
    x: Sequence[str],
    work: Callable[[tuple[str, ...], MigrationContext, ScriptDirectory], Iterable[RevisionStep]],
) -> None:
    """Run the host's ``env.py`` once with ``work`` inside, for work that runs no step."""
    from ampho._alembic import EnvironmentRun

    if connection.dialect.name == "sqlite":
        from ampho._sqlite import check_not_in_use

        check_not_in_use(connection)
    environment = EnvironmentRun(project, connection, x)
    try:
        environment.perform(work)
    except (Exception, SystemExit) as exc:  # noqa: BLE001 (raised again as an error of Ampho)
        raise_from(environment.failure(exc), exc)


def _run(
    project: Project,
    connection: Connection,
    make_plan: MakePlan,
    x: Sequence[str],
    observer: Observer | None,
) -> Run:
    project.graph  # noqa: B018  # what is wrong with the files is said before the database is asked for anything
    runner = Runner(project, make_plan, x, observer or Observer())
    with changing(project, connection, runner.waiting) as migrating_connection:
        return runner.run(migrating_connection)
