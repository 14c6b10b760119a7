"""Upgrades and downgrades: planning one, and running its plan on the connection that migrates."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import event

from ampho._text import counted, listed, listed_last
from ampho.database.connection import migrating
from ampho.database.journal import Entry, Journal
from ampho.database.lock import pause
from ampho.database.postgres import describe_invalid_indexes
from ampho.database.protection import Protection
from ampho.database.recorder import JournalTable
from ampho.database.statement import Statement
from ampho.database.transaction import StepTransaction
from ampho.database.version_rows import Applied, check_not_elsewhere
from ampho.errors import AmphoError, PlanChangedError
from ampho.history.graph import Graph
from ampho.migrate.observers import LogAndSignals, Observer, Observers
from ampho.migrate.other_connections import OtherConnections
from ampho.migrate.plan import (
    Direction,
    Plan,
    Run,
    StepRun,
    check_finished,
    graph_of,
    plan_downgrade,
    plan_upgrade,
    rest_of,
    unfinished_error,
)
from ampho.migrate.project import Project
from ampho.migrate.queries import check_not_in_use, has_known_table, journal_table, query, query_known_table
from ampho.migrate.step import MigratingConnection, RunningStep, cause_of, code_of
from ampho.status import advice

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from sqlalchemy.engine import Connection

    from ampho.migrate.alembic import EnvironmentRun, GraphScripts

MakePlan: TypeAlias = Callable[[Graph, tuple[str, ...], Journal], Plan]

_RETRIES = 5
_FIRST_PAUSE = 0.5  # seconds; doubled for each retry


def upgrade(
    project: Project,
    connection: Connection,
    specifier: str = "heads",
    *,
    agreed: Plan | None = None,
    scratch: bool = False,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Run:
    """Upgrade the database of a connection.

    :param agreed: the plan that was confirmed; a different one is an error.
    :param scratch: whether it is a throw-away database, whose runs are not logged and send no signals.
    :param x: values for ``context.get_x_argument()``.
    :param observer: receives the events of the run, as do the log and the signals.
    :raises AmphoError: before anything is changed, or naming the revision that failed.
    """
    project.check_migratable(specifier)

    def make_plan(graph: Graph, rows: Iterable[str], journal: Journal) -> Plan:
        planned = plan_upgrade(graph, rows, specifier, journal=journal)
        planned.check_agreed(agreed)
        return planned

    observers = _observers(project, connection, observer, is_scratch=scratch)
    command = ("upgrade", "--", specifier)
    is_agreed = agreed is not None
    executor = Executor(project, make_plan, command, x, observers, is_agreed=is_agreed, is_scratch=scratch)
    return executor.run_nothing(connection) or executor.run(connection)


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

    :param cascade: whether to revert revisions of other packages, too, if they depend on what is reverted.
    :param confirm: the database's name, if it is protected.
    :param agreed: the plan that was confirmed; a different one is an error.
    :param x: values for ``context.get_x_argument()``.
    :param observer: receives the events of the run, as do the log and the signals.
    :raises AmphoError: before anything is changed, or naming the revision that failed.
    """
    project.check_migratable(specifier)
    protection = Protection(project.settings.protected).on(connection, confirm)

    def make_plan(graph: Graph, rows: Iterable[str], journal: Journal) -> Plan:
        planned = plan_downgrade(graph, rows, specifier, cascade=cascade, journal=journal)
        planned.check_agreed(agreed)  # before the name is checked, which must not confirm a different plan
        if planned.steps or confirm is not None:
            what = f"{counted(len(planned.steps))} of {', '.join(planned.packages)}" if planned.steps else "nothing"
            protection.check(confirm, f"'ampho db-down {specifier}' reverts {what}.")
        return planned

    observers = _observers(project, connection, observer)
    command = ("downgrade", "--", specifier)
    return Executor(project, make_plan, command, x, observers, is_agreed=agreed is not None).run(connection)


def revert_scratch(project: Project, connection: Connection, stops: Container[str], *, x: Sequence[str]) -> Run:
    """Revert what is applied to a throw-away database, the latest first, up to an irreversible revision.

    :param stops: the ids of irreversible revisions.
    :param x: values for ``context.get_x_argument()``.
    :raises AmphoError: naming the revision that failed.
    """

    def make_plan(graph: Graph, rows: Iterable[str], journal: Journal) -> Plan:
        planned = plan_downgrade(graph, rows, "base", journal=journal)
        return replace(planned, steps=tuple(takewhile(lambda step: step.revision.id not in stops, planned.steps)))

    observers = _observers(project, connection, None, is_scratch=True)
    return Executor(project, make_plan, ("downgrade", "base"), x, observers, is_scratch=True).run(connection)


def _observers(
    project: Project, connection: Connection, observer: Observer | None, *, is_scratch: bool = False
) -> Observers:
    if is_scratch:
        return Observers(project.url)
    log_and_signals = LogAndSignals(project.app, project.url, is_async=connection.dialect.is_async)
    return Observers(project.url, Observer() if observer is None else observer, log_and_signals)


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

    :return: a function that returns the plan with an explanation of each step; it reads the files of the steps, and
        needs no database.
    :raises AmphoError: as they would before their first step.
    """
    project.check_migratable(specifier)
    is_upgrade = Direction(direction) is Direction.UPGRADE
    typed = specifier if specifier is not None else "heads" if is_upgrade else "-1"
    protection = Protection() if is_upgrade else Protection(project.settings.protected).on(connection)

    from ampho.migrate.explain import explained

    def make_plan(rows: tuple[str, ...], journal: Journal) -> Callable[[], Plan]:
        check_finished(journal)
        if is_upgrade:
            planned = plan_upgrade(project.graph, rows, typed, journal=journal)
        else:
            planned = plan_downgrade(project.graph, rows, typed, cascade=cascade, journal=journal)
            if planned.steps and protection.enabled:
                planned = replace(planned, protected=protection.database)
        graph = graph_of(planned, project.graph, rows, journal)
        return partial(explained, planned, graph, connection.dialect.name, is_async=connection.dialect.is_async)

    return query(project, connection, x, make_plan, about_change=True)


@dataclass
class Executor:
    """Runs a plan: makes it inside the run of ``env.py``, and passes its steps to Alembic.

    If a step cannot get a lock, or another process changes an SQLite database between two steps, ``env.py`` runs again
    with the remaining steps.

    :ivar command: the equivalent Alembic command.
    :ivar is_agreed: whether the plan was confirmed, so that no part of it may be left out.
    :ivar is_scratch: whether the database is thrown away, so that nothing in it needs repair.
    :ivar plan: the plan; None until it is made.
    :ivar done: the steps that are committed.
    """

    project: Project
    make_plan: MakePlan
    command: Sequence[str]
    x: Sequence[str]
    observers: Observers
    is_agreed: bool = False
    is_scratch: bool = False
    plan: Plan | None = None
    done: list[StepRun] = field(default_factory=list)
    _running: RunningStep | None = field(default=None, init=False)
    _retries: int = field(default=0, init=False)
    _data_version: object = field(default=None, init=False)

    def run_nothing(self, connection: Connection) -> Run | None:
        """Return the run if nothing is to be done, without Alembic and without the lock; None if they are needed."""
        self.project.graph  # noqa: B018  # errors in the files come before those of the database
        run = None
        if has_known_table(self.project):
            check_not_in_use(connection)
            with suppress(AmphoError):  # reported later, when the plan is made again under the lock
                run = query_known_table(self.project, connection, self._nothing_to_do)
        if run is not None:
            self.observers.notify(Observer.finished, run)
        return run

    def _nothing_to_do(self, rows: tuple[str, ...], journal: Journal) -> Run | None:
        plan = None if journal.unfinished else self.make_plan(self.project.graph, rows, journal)
        if plan is None or plan.steps:
            return None
        self._announce(plan)
        return Run(plan, ())

    def _announce(self, plan: Plan) -> None:
        self.observers.notify(Observer.planned, plan)
        if plan.warning:
            self.observers.notify(Observer.warned, plan.warning)

    def run(self, connection: Connection) -> Run:
        """Run the plan on a new connection.

        :raises AmphoError: before anything is changed, or naming the revision that failed.
        """
        self.project.graph  # noqa: B018  # errors in the files come before those of the database

        def waiting(holder: str) -> None:
            self.observers.notify(Observer.waiting, holder)

        with (
            migrating(connection, self.project.url, self.project.settings, waiting) as migrating_connection,
            _warning_of_dangling_keys(migrating_connection, self.observers),
        ):
            run = self._run(migrating_connection)
        self.observers.notify(Observer.finished, run)
        return run

    def _run(self, connection: Connection) -> Run:
        transaction = StepTransaction(connection, self._record_early_commit)
        others = OtherConnections(connection, self.project.settings)
        if self.observers.want_statements:
            self._notify_of_statements(connection)
        run = None
        try:
            with others.watched():
                while run is None:
                    self._running = None
                    run = self._run_once(MigratingConnection(connection, transaction, others))
        finally:
            transaction.is_own = True  # for what follows on this connection
        return run

    def _run_once(self, migrating: MigratingConnection) -> Run | None:
        """Run ``env.py`` once; return None if it should run again."""
        from ampho.migrate.alembic import EnvironmentRun

        environment = EnvironmentRun(self.project, migrating.connection, self.x, self.command)
        try:
            environment.execute(partial(self._steps, migrating))
        except _OvertakenError:
            migrating.connection.rollback()
            return None
        except (Exception, SystemExit) as raised:  # noqa: BLE001 (raised again as an error of Ampho)
            pause(migrating.connection, self._pause_after(cause_of(raised), environment))
            return None
        except BaseException:
            if self._running is not None:
                self.observers.notify(Observer.interrupted, self._running.step)
            raise
        if self.plan is None or self._running is not None:
            failure = f"the failure of revision {self._running.step.revision.id}" if self._running else "a failure"
            raise environment.refused(f"hides {failure}. Let the error through")
        return Run(self.plan, tuple(self.done))

    def _pause_after(self, exc: BaseException, environment: EnvironmentRun) -> float:
        """Return the seconds after which a step that could not get a lock is retried; raise the error of any other."""
        running = self._running
        if running is None:
            environment.fail(exc, self._finished)
        error, is_rolled_back = running.fail(exc, self._finished, is_scratch=self.is_scratch)
        may_retry = self.project.settings.statement_lock_timeout is not None and self._retries < _RETRIES
        if not (may_retry and is_rolled_back and running.is_refused_a_lock(exc)):
            self.observers.notify(Observer.failed, running.step, error)
            raise error from exc
        # The factor is random so that several processes do not retry at the same time.
        seconds: float = _FIRST_PAUSE * 2**self._retries * random.uniform(0.5, 1.5)  # noqa: S311
        self._retries += 1
        self.observers.notify(Observer.retrying, running.step, seconds)
        return seconds

    @property
    def _finished(self) -> list[str]:
        return [run.step.revision.id for run in self.done]

    def _notify_of_statements(self, connection: Connection) -> None:
        """Notify observers of each statement. One that fails ends with the rollback that follows it."""

        def executing(connection: Connection, cursor: object, statement: str, *args: object) -> None:
            self.observers.notify(Observer.executing, Statement(statement, self.project.url))

        def executed(*args: object) -> None:
            self.observers.notify(Observer.executed)

        event.listen(connection, "before_cursor_execute", executing)
        for name in ("after_cursor_execute", "rollback", "rollback_savepoint"):
            event.listen(connection, name, executed)

    def _steps(
        self,
        migrating: MigratingConnection,
        rows: tuple[str, ...],
        context: MigrationContext,
        script: GraphScripts,
    ) -> Iterator[RevisionStep]:
        """Make the plan inside the run of ``env.py``, and yield its steps; Alembic runs each of them first."""
        from ampho.migrate.alembic import ensure_version_table, follow_in_blocks, load_steps

        connection = migrating.connection
        table = journal_table(self.project, context)
        if table is not None:
            table.aside = migrating.transaction.own
        journal = table.read() if table else Journal()
        self._check_finished(journal, table, connection)
        is_first = self.plan is None
        if is_first and not rows:
            check_not_elsewhere(connection, self.project.graph, context.version_table, journal)
        plan, graph = self._make_plan(rows, journal)
        steps = load_steps(script, graph, rows, plan.steps, is_async=context.dialect.is_async)
        if is_first:
            self._announce(plan)
        if steps and not rows:
            ensure_version_table(context)
        follow_in_blocks(context)
        context.on_version_apply_callbacks = (*context.on_version_apply_callbacks, self._record_success)
        expected = set(rows)
        for step, alembic_step in zip(plan.steps, steps, strict=True):
            self._check_not_overtaken(connection, context, expected)
            running = RunningStep(step, self.project, migrating, context, table)
            self._running = running  # before observers are called, which may be interrupted
            self.observers.notify(Observer.started, step)
            running.begin()
            alembic_step.after_function = running.settle
            yield alembic_step
            self.done.append(running.end())
            expected = alembic_step.rows_after(expected)
            self._running, self._retries = None, 0
            self.observers.notify(Observer.applied, step, self.done[-1].duration)

    def _record_early_commit(self) -> None:
        if self._running is not None:
            self._running.record_early_commit()

    def _record_success(self, **event: object) -> None:
        if self._running is not None:
            self._running.record_success()

    def _check_finished(self, journal: Journal, table: JournalTable | None, connection: Connection) -> None:
        """Check that no revision is unfinished; one that changed nothing is recorded as resolved.

        :raises UnfinishedRevisionError: if one is.
        """
        for entry in journal.unfinished if table else ():
            if not entry.is_untouched:
                raise unfinished_error(entry, self._left_by(entry, connection))
            if table is not None:
                table.resolve(entry)

    def _left_by(self, entry: Entry, connection: Connection) -> str:
        graph = self.project.graph
        if not graph.has_file(entry.revision):
            return ""
        return describe_invalid_indexes(connection, code_of(graph[entry.revision]))

    def _make_plan(self, rows: tuple[str, ...], journal: Journal) -> tuple[Plan, Graph]:
        """Return the plan, or its remaining steps if ``env.py`` runs again, and its graph."""
        if self.plan is None:
            self.plan = self.make_plan(self.project.graph, rows, journal)
            return self.plan, graph_of(self.plan, self.project.graph, rows, journal)
        applied = Applied.from_rows(self.project.graph, rows, journal)
        if self.plan.direction is Direction.DOWNGRADE:
            applied = advice.as_ran(applied, journal)
        rest = rest_of(self.plan, applied)
        if self.is_agreed and len(rest.steps) < len(self.plan.steps) - len(self.done):
            done = f"run before that: {listed_last(self._finished)}" if self.done else "nothing was changed"
            raise PlanChangedError(
                "Another process has run a part of the plan since you confirmed it. Review what is left, and run the"
                f" command again; {done}."
            )
        return rest, applied.graph

    def _check_not_overtaken(self, connection: Connection, context: MigrationContext, expected: set[str]) -> None:
        """Check, in the transaction of the step, that the version rows are those that the step expects.

        SQLite's lock does not outlive a transaction, so between two steps another process may migrate the database.

        :raises _OvertakenError: if they are not.
        """
        if connection.dialect.name != "sqlite" or not self.project.settings.lock:
            return
        from ampho.database.sqlite import pragma

        if not connection.in_transaction():
            connection.begin()  # this takes SQLite's lock: no other process writes after it
        version = pragma(connection, "data_version")  # changes when another connection has written
        if version != self._data_version and set(context.get_current_heads()) != expected:
            raise _OvertakenError
        self._data_version = version


class _OvertakenError(AmphoError):
    """Another process has migrated the database since its rows were read."""


@contextmanager
def _warning_of_dangling_keys(connection: Connection, observers: Observers) -> Iterator[None]:
    """Warn of foreign keys to tables that do not exist, if a run leaves some: only SQLite accepts that."""
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
