"""Plan and run upgrades and downgrades."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import event

from ampho._text import counted, listed, listed_last
from ampho.database.connection import migrating
from ampho.database.journal import Entry, Journal, Outcome
from ampho.database.lock import is_lock_timeout, pause
from ampho.database.postgres import describe_invalid_indexes
from ampho.database.protection import Protection
from ampho.database.recorder import JournalTable
from ampho.database.statement import Statement
from ampho.database.transaction import StepTransaction
from ampho.database.version_rows import Applied, check_not_elsewhere, owing_state
from ampho.errors import AmphoError, PlanChangedError
from ampho.history.graph import Graph
from ampho.history.revision import Phase
from ampho.migrate.across import segment_plan
from ampho.migrate.ddl import repeating_ddl
from ampho.migrate.observers import LogAndSignals, Observer, Observers
from ampho.migrate.other_connections import OtherConnections
from ampho.migrate.plan import (
    Direction,
    Plan,
    Run,
    StepRun,
    check_direction,
    check_finished,
    graph_of,
    plan_downgrade,
    plan_upgrade,
    rest_of,
    unfinished_error,
)
from ampho.migrate.project import Project
from ampho.migrate.queries import check_not_in_use, has_known_table, open_journal, query, query_known_table
from ampho.migrate.step import STEP, MigratingConnection, RowsChangedError, RunningStep, cause_of, code_of
from ampho.status import advice

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from sqlalchemy.engine import Connection

    from ampho.migrate.alembic import EnvironmentRun, GraphScripts
    from ampho.migrate.sqlite_batch import TableKeeper

MakePlan: TypeAlias = Callable[[Graph, tuple[str, ...], Journal], Plan]

_RETRIES = 5
_FIRST_PAUSE = 0.5  # seconds; doubled for each retry


def upgrade(
    project: Project,
    connection: Connection,
    specifier: str = "heads",
    *,
    phase: Phase | None = None,
    agreed: Plan | None = None,
    scratch: bool = False,
    looks_first: bool = True,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Run:
    """Upgrade a database; see :meth:`ampho.commands.Commands.upgrade`.

    :param scratch: whether the database is a throwaway database, whose runs are not logged and send no signals.
    :param looks_first: whether to look without the lock, and without Alembic, whether anything is pending.
    """
    project.check_migratable(specifier)

    def make_plan(graph: Graph, rows: Iterable[str], journal: Journal) -> Plan:
        phases = project.phases if phase else None
        planned = plan_upgrade(graph, rows, specifier, journal=journal, phases=phases, phase=phase)
        planned = planned.in_database(project.database, is_of_several=project.has_several_databases)
        planned.check_agreed(agreed)
        return planned

    command = ("upgrade", "--", specifier)
    is_agreed = agreed is not None
    executor = Executor(project, connection, make_plan, command, x, observer, is_agreed, is_scratch=scratch)
    return (executor.run_nothing() if looks_first else None) or executor.run()


def run_segment(
    project: Project,
    connection: Connection,
    segment: Plan,
    *,
    is_agreed: bool,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Run:
    """Run the steps of a segment of a plan of several databases that are still pending."""
    command = ("upgrade", "--", segment.specifier)
    make_plan = segment_plan(segment)
    return Executor(project, connection, make_plan, command, x, observer, is_agreed, is_segment=True).run()


def downgrade(
    project: Project,
    connection: Connection,
    specifier: str = "-1",
    *,
    cascade: bool = False,
    confirm: str | None = None,
    fingerprint: str | None = None,
    agreed: Plan | None = None,
    check: Callable[[Plan], None] = lambda plan: None,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Run:
    """Downgrade a database; see :meth:`ampho.commands.Commands.downgrade`.

    :param check: called with the plan before it is accepted.
    """
    from ampho.migrate.explain import with_empty_downgrades

    project.check_migratable(specifier)
    protection = Protection(project.settings.protected, confirm, fingerprint).on(connection)

    def make_plan(graph: Graph, rows: Iterable[str], journal: Journal) -> Plan:
        planned = plan_downgrade(graph, rows, specifier, cascade=cascade, journal=journal)
        planned = with_empty_downgrades(planned)
        planned = planned.in_database(project.database, is_of_several=project.has_several_databases)
        # Check this first, so that typing the name of the database cannot confirm a plan other than the agreed one.
        planned.check_agreed(agreed)
        check(planned)
        if protection.database:
            what = f"{counted(len(planned.steps))} of {', '.join(planned.packages)}" if planned.steps else "nothing"
            command = f"db-down {specifier}{' --cascade' if cascade else ''}{' -x ...' if x else ''}"
            protection.check(
                f"'ampho db-down {specifier}' reverts {what}.",
                f"{command}{' --yes' if any(step.revision.source for step in planned.steps) else ''}",
                lambda: planned.fingerprint_with(journal),
                removes=bool(planned.steps),
                review=f"{command} --plan",
            )
        return planned

    command = ("downgrade", "--", specifier)
    return Executor(project, connection, make_plan, command, x, observer, is_agreed=agreed is not None).run()


def revert_scratch(project: Project, connection: Connection, stops: Container[str], *, x: Sequence[str]) -> Run:
    """Revert the revisions of a throwaway database, latest first, until the next revision is irreversible.

    :param stops: the ids of irreversible revisions.
    """

    def make_plan(graph: Graph, rows: Iterable[str], journal: Journal) -> Plan:
        planned = plan_downgrade(graph, rows, "base", journal=journal)
        return replace(planned, steps=tuple(takewhile(lambda step: step.revision.id not in stops, planned.steps)))

    return Executor(project, connection, make_plan, ("downgrade", "base"), x, is_scratch=True).run()


def plan(
    project: Project,
    connection: Connection,
    specifier: str | None = None,
    *,
    direction: Direction | str = Direction.UPGRADE,
    cascade: bool = False,
    phase: Phase | None = None,
    x: Sequence[str] = (),
) -> Callable[[], Plan]:
    """Plan an upgrade or a downgrade; see :meth:`ampho.commands.Commands.plan`.

    :return: a function that returns the plan with an explanation of each step, without using the database.
    """
    project.check_migratable(specifier)
    is_upgrade = Direction(direction) is Direction.UPGRADE
    typed = specifier if specifier is not None else "heads" if is_upgrade else "-1"
    protection = Protection() if is_upgrade else Protection(project.settings.protected).on(connection)

    from ampho.migrate.explain import explained, with_empty_downgrades

    def make_plan(rows: tuple[str, ...], journal: Journal) -> Callable[[], Plan]:
        check_finished(journal)
        check_direction(journal, Direction(direction))
        if is_upgrade:
            phases = project.phases
            planned = plan_upgrade(project.graph, rows, typed, journal=journal, phases=phases, phase=phase)
        else:
            planned = plan_downgrade(project.graph, rows, typed, cascade=cascade, journal=journal)
            planned = with_empty_downgrades(planned)
            if planned.steps and protection.enabled:
                fingerprint = planned.fingerprint_with(journal)
                planned = replace(planned, protected=protection.database, fingerprint=fingerprint)
        planned = planned.in_database(project.database, is_of_several=project.has_several_databases)
        graph = graph_of(planned, project.graph, rows, journal)
        dialect = connection.dialect
        return partial(explained, planned, graph, lambda _: dialect.name, is_async=dialect.is_async)

    return query(project, connection, x, make_plan, about_change=True)


@dataclass
class Executor:
    """Makes a plan inside a run of ``env.py``, and passes its steps to Alembic.

    If a step cannot get a lock, if another process changes an SQLite database between two steps, or once revisions are
    recorded that replace others, ``env.py`` runs again with the remaining steps.

    :ivar connection: a new connection.
    :ivar make_plan: makes the plan from the graph, the version rows, and the journal.
    :ivar command: the equivalent Alembic command.
    :ivar x: values for ``context.get_x_argument()``.
    :ivar observer: receives the events of the run, like the log and the signals, unless ``is_scratch`` is true.
    :ivar is_agreed: whether the plan was confirmed, so that all of its steps must run.
    :ivar is_scratch: whether the database is a throwaway database, in which nothing needs repair.
    :ivar is_segment: whether the plan is a part of a larger plan, which the observer already knows.
    """

    project: Project
    connection: Connection
    make_plan: MakePlan
    command: Sequence[str]
    x: Sequence[str]
    observer: Observer | None = None
    is_agreed: bool = False
    is_scratch: bool = False
    is_segment: bool = False
    _plan: Plan | None = field(default=None, init=False)
    _done: list[StepRun] = field(default_factory=list, init=False)
    _running: RunningStep | None = field(default=None, init=False)
    _retries: int = field(default=0, init=False)
    _data_version: object = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._graph = self.project.graph  # read now, so that errors in the files are raised before database errors
        self._observers = Observers(self.project.url)
        if not self.is_scratch:
            given = Observer() if self.observer is None else self.observer
            is_async = self.connection.dialect.is_async
            own = LogAndSignals(
                self.project.app,
                self.project.database,
                self._observers.call,
                named=self.project.has_several_databases,
                is_async=is_async,
            )
            self._observers.members += [given, own]
        # The given observer receives the events of the whole run from the caller.
        self._of_run = self._observers.only(*self._observers.members[1:]) if self.is_segment else self._observers

    def run_nothing(self) -> Run | None:
        """Return an empty run, without importing Alembic, if there is nothing to do; otherwise, return None."""
        run = None
        if has_known_table(self.project):
            check_not_in_use(self.connection)
            with suppress(AmphoError):  # reported later, when the plan is made again under the lock
                run = query_known_table(self.project, self.connection, self._nothing_to_do)
        if run is not None:
            self._of_run.notify(Observer.finished, run)
        return run

    def _nothing_to_do(self, rows: tuple[str, ...], journal: Journal) -> Run | None:
        plan = None if journal.unfinished else self._planned(rows, journal)
        if plan is None or plan.steps or self._owing(rows, journal) is not None:
            return None
        self._of_run.announce(plan)
        return Run(plan, ())

    def run(self) -> Run:
        """Run the plan.

        :raises AmphoError: if the plan cannot be made, or if a revision fails; the error then names the revision.
        """

        def waiting(holder: str) -> None:
            self._observers.notify(Observer.waiting, holder)

        with (
            migrating(self.connection, self.project.url, self.project.settings, waiting) as connection,
            _warning_of_dangling_keys(connection, self._observers),
        ):
            run = self._run(connection)
        self._of_run.notify(Observer.finished, run)
        return run

    def _run(self, connection: Connection) -> Run:
        transaction = StepTransaction(connection)
        others = OtherConnections(connection, self.project.settings)
        if self._observers.want_statements:
            self._notify_of_statements(connection)
        run = None
        try:
            with (
                others.watched(),
                repeating_ddl(
                    connection, partial(self._may_wait, others), partial(self._may_repeat, others), self._forget_retries
                ),
                _keeping_tables(connection, transaction) as tables,
            ):
                migrating = MigratingConnection(connection, transaction, others, tables)
                while run is None:
                    self._running, transaction.is_own = None, True
                    run = self._run_once(migrating)
        finally:
            transaction.is_own = True  # for later statements on this connection
        return run

    def _run_once(self, migrating: MigratingConnection) -> Run | None:
        """Run ``env.py`` once; return None if it has to run again."""
        from ampho.migrate.alembic import EnvironmentRun

        environment = EnvironmentRun(self.project, migrating.connection, self.x, self.command)
        try:
            environment.execute(partial(self._steps, migrating))
        except RowsChangedError:
            migrating.connection.rollback()
            return None
        except (Exception, SystemExit) as raised:  # noqa: BLE001 (raised again as an error of Ampho)
            pause(migrating.connection, self._pause_after(cause_of(raised), environment))
            return None
        except BaseException as interruption:
            if self._running is not None:
                self._running.note_remains(interruption)
                self._observers.notify(Observer.interrupted, self._running.step)
            raise
        if self._plan is None or self._running is not None:
            failure = f"the failure of revision {self._running.step.revision.id}" if self._running else "a failure"
            raise environment.refused(f"suppresses {failure}. Do not catch the exception")
        return Run(self._plan, tuple(self._done))

    def _pause_after(self, exc: BaseException, environment: EnvironmentRun) -> float:
        """Return the seconds to wait before a retry if a step could not get a lock; otherwise, raise an error."""
        running = self._running
        if running is None:
            environment.fail(exc, self._finished)
        error, is_rolled_back = running.fail(exc, self._finished, is_scratch=self.is_scratch)
        may_retry = self.project.settings.statement_lock_timeout is not None and self._retries < _RETRIES
        if not (may_retry and is_rolled_back and running.is_refused_a_lock(exc)):
            self._observers.notify(Observer.failed, running.step, error)
            raise error from exc
        return self._next_pause(running)

    def _next_pause(self, running: RunningStep) -> float:
        # The factor is random so that several processes do not retry at the same time.
        seconds: float = _FIRST_PAUSE * 2**self._retries * random.uniform(0.5, 1.5)  # noqa: S311
        self._retries += 1
        self._observers.notify(Observer.retrying, running.step, seconds)
        return seconds

    def _may_wait(self, others: OtherConnections) -> bool:
        """Return whether another process may have the lock of a statement, and the statement may be tried again."""
        return (
            self._running is not None
            and self.project.settings.statement_lock_timeout is not None
            and not others.has_open
        )

    def _may_repeat(self, others: OtherConnections, error: BaseException) -> bool:
        """Pause, and return True, if a DDL statement could not get a lock that another process holds."""
        running = self._running
        if not (is_lock_timeout(error) and self._may_wait(others)) or running is None or self._retries >= _RETRIES:
            return False
        pause(self.connection, self._next_pause(running))
        self._observers.notify(Observer.started, running.step)
        return True

    def _forget_retries(self) -> None:
        self._retries = 0

    @property
    def _finished(self) -> list[str]:
        return [run.step.revision.id for run in self._done]

    def _notify_of_statements(self, connection: Connection) -> None:
        """Notify observers of each statement. The only event after a failed statement is the rollback."""

        def executing(connection: Connection, cursor: object, statement: str, *args: object) -> None:
            self._observers.notify(Observer.executing, Statement(statement, self.project.url))

        def executed(*args: object) -> None:
            self._observers.notify(Observer.executed)

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
        """Make the plan inside the run of ``env.py``, and yield its steps; Alembic runs a step when it is yielded."""
        from ampho.migrate.alembic import ensure_version_table, follow_in_blocks, load_steps

        connection = migrating.connection
        table, journal = open_journal(self.project, context, rows)
        if table is not None:
            table.aside = migrating.transaction.own
        self._check_finished(journal, table, connection)
        is_first = self._plan is None
        if is_first and not rows:
            check_not_elsewhere(connection, self._graph, context.version_table, journal)
        plan, graph = self._make_plan(rows, journal)
        owing = self._owing(rows, journal)
        left, then = plan.steps, rows
        if owing is not None:
            left, then = rest_of(plan, replace(owing, taken=())).steps, owing.rows
        steps = load_steps(script, graph, then, left, context, is_async=context.dialect.is_async)
        if is_first:
            self._of_run.announce(plan)
        if owing is not None:
            self._take_over(plan, owing, rows, context, table)
        parents = self._parents(graph)
        if steps and (graph.kept or not rows):
            ensure_version_table(context)
        follow_in_blocks(context)
        if migrating.tables is not None:
            migrating.tables.follow(context)
        callbacks = context.on_version_apply_callbacks
        expected = set(rows)
        earlier = _resumable(journal)
        for step, alembic_step in zip(plan.steps, steps, strict=True):
            self._check_not_overtaken(connection, context, expected)
            running = RunningStep(
                step,
                parents(step.revision.id),
                self.project,
                migrating,
                context,
                table,
                self._observers,
                earlier.get(step.revision.id, ()),
            )
            context.opts[STEP] = running
            self._running = running  # set before the observers are called, because a call may be interrupted
            self._observers.notify(Observer.started, step)
            running.begin()
            alembic_step.after_function = running.settle
            context.on_version_apply_callbacks = (*callbacks, running.record_success)
            yield alembic_step
            self._done.append(running.end())
            expected = alembic_step.rows_after(expected)
            self._running, self._retries = None, 0
            self._observers.notify(Observer.applied, step, self._done[-1].duration)

    def _parents(self, graph: Graph) -> Callable[[str], Sequence[str]]:
        """Return a function that returns what a revision depends on, apart from what it replaces."""
        if not self._graph.has_replacements:
            return self._graph.parents
        return lambda revision_id: (self._graph if revision_id in self._graph else graph).parents(revision_id)

    def _owing(self, rows: tuple[str, ...], journal: Journal) -> Applied | None:
        """Return the state of a database whose rows do not name yet what it has, or are in wrong tables; else None."""
        places = journal.places
        if not (places.own or self._graph.has_replacements):
            return None
        return owing_state(Applied.from_rows(self._graph, rows, journal), rows, places)

    def _take_over(
        self,
        plan: Plan,
        applied: Applied,
        rows: tuple[str, ...],
        context: MigrationContext,
        table: JournalTable | None,
    ) -> None:
        """Record the revisions that the database has because it has all that they replace, and move rows.

        :raises RowsChangedError: because that changes the version rows.
        """
        from ampho.migrate.alembic import places_of, write_rows

        graph, places = applied.graph, places_of(context, rows)
        wanted = places.wanted(applied.graph, applied.rows)
        outcomes = dict.fromkeys(places.moved(wanted), Outcome.MOVED) | dict.fromkeys(applied.taken, Outcome.REPLACED)

        def record() -> None:
            if table is not None:
                for revision_id in graph.sort(outcomes):
                    parents = graph.parents(revision_id)
                    table.note(graph[revision_id], "upgrade", parents, outcomes[revision_id])

        if table is not None:
            table.ensure()  # before the rows are written, because some databases would commit them here
        self._check_not_overtaken(self.connection, context, set(rows))
        steps, begun = [step for step in plan.steps if step.revision.id in applied.taken], time.perf_counter()
        for step in steps:
            self._observers.notify(Observer.started, step)
        write_rows(context, places.rows, wanted, record)
        for step in steps:
            self._done.append(StepRun(step, (time.perf_counter() - begun) / len(steps)))
            self._observers.notify(Observer.applied, step, self._done[-1].duration)
        raise RowsChangedError

    def _check_finished(self, journal: Journal, table: JournalTable | None, connection: Connection) -> None:
        """Check that no revision is unfinished; resolve unfinished revisions that changed nothing.

        Revisions that the next run continues are left as they are.

        :raises UnfinishedRevisionError: if a revision may have changed something.
        """
        if table is None:
            return
        check_direction(journal, self.command[0])
        for entry in journal.unfinished:
            if journal.stopped(entry):
                continue  # until its step runs again
            if not (entry.is_untouched or entry.is_resumable):
                code = code_of(self._graph[entry.revision]) if self._graph.has_file(entry.revision) else ""
                raise unfinished_error(entry, describe_invalid_indexes(connection, code))
            table.resolve(entry)
            connection.commit()  # now, because there may be no step whose transaction would include this

    def _planned(self, rows: tuple[str, ...], journal: Journal) -> Plan:
        plan = self.make_plan(self._graph, rows, journal)
        return plan.in_database(self.project.database, is_of_several=self.project.has_several_databases)

    def _make_plan(self, rows: tuple[str, ...], journal: Journal) -> tuple[Plan, Graph]:
        """Return the plan, or its remaining steps if ``env.py`` runs again, and the graph that it was made from."""
        if self._plan is None:
            self._plan = self._planned(rows, journal)
            return self._plan, graph_of(self._plan, self._graph, rows, journal)
        applied = Applied.from_rows(self._graph, rows, journal)
        if self._plan.direction is Direction.DOWNGRADE:
            applied = advice.as_ran(applied, journal)
        rest = rest_of(self._plan, applied)
        if self.is_agreed and len(rest.steps) < len(self._plan.steps) - len(self._done):
            done = f"this command ran {listed_last(self._finished)}" if self._done else "nothing was changed"
            raise PlanChangedError(
                "Another process ran part of the plan after you confirmed it. Review the remaining steps, and run"
                f" the command again; {done}."
            )
        return rest, applied.graph

    def _check_not_overtaken(self, connection: Connection, context: MigrationContext, expected: set[str]) -> None:
        """Check, in the transaction of the step, that the version rows are those that the step expects.

        SQLite's lock ends with each transaction, so another process may migrate the database between two steps.

        :raises RowsChangedError: if the rows are different.
        """
        if connection.dialect.name != "sqlite" or not self.project.settings.lock:
            return
        from ampho.database.sqlite import pragma

        if not connection.in_transaction():
            connection.begin()  # this takes SQLite's lock, so no other process can write afterwards
        version = pragma(connection, "data_version")  # changes when another connection has written
        if version != self._data_version and set(context.get_current_heads()) != expected:
            raise RowsChangedError
        self._data_version = version


def _resumable(journal: Journal) -> dict[str, list[Entry]]:
    """Return the entries of the revisions whose backfills continue, by the ids of the revisions."""
    found: dict[str, list[Entry]] = {}
    for entry in journal.unfinished:
        if entry.is_resumable:
            found.setdefault(entry.revision, []).append(entry)
    return found


@contextmanager
def _keeping_tables(connection: Connection, transaction: StepTransaction) -> Iterator[TableKeeper | None]:
    """Yield the object that keeps what belongs to the tables of an SQLite database."""
    if connection.dialect.name != "sqlite":
        yield None
        return
    from ampho.migrate.sqlite_batch import TableKeeper

    keeper = TableKeeper(connection)
    transaction.watch = keeper.watch
    with keeper.quiet():
        yield keeper


@contextmanager
def _warning_of_dangling_keys(connection: Connection, observers: Observers) -> Iterator[None]:
    """Warn if the run leaves foreign keys to tables that do not exist, which only SQLite accepts."""
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
            f"This run leaves foreign keys to tables that do not exist: from {listed(left)}. SQLite accepts that until"
            " a row is written with foreign keys enforced. If a revision drops or renames such a table too early, add"
            " to its depends_on the revisions that should run before it; 'ampho db-check --scratch' tests the order.",
        )
