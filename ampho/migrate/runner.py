"""One run: it plans inside ``env.py``, gives Alembic the steps, and keeps and tells what became of them."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeAlias, cast

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError

from ampho._text import listed_last, place, with_hint
from ampho.database.applied import Applied
from ampho.database.elsewhere import check_not_elsewhere
from ampho.database.journal import Entry, Journal, Outcome
from ampho.database.lock import pause, was_refused_a_lock
from ampho.database.postgres import describe_invalid_indexes
from ampho.database.recorder import SETTING, JournalTable
from ampho.database.statement import Statement
from ampho.database.transaction import TRANSACTIONAL, StepTransaction
from ampho.database.url import describe_without
from ampho.errors import (
    AmphoError,
    ConfigurationError,
    PlanChangedError,
    RevisionFailedError,
    UnfinishedRevisionError,
)
from ampho.history.graph import Graph
from ampho.history.revision import Revision
from ampho.migrate.observers import Observer, Observers
from ampho.migrate.other_connections import HINT, OtherConnections
from ampho.migrate.plan import Direction, Plan, Run, Step, StepRun, graph_of, rest_of
from ampho.migrate.project import Project

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from sqlalchemy.engine import Connection

    from ampho.migrate.alembic import EnvironmentRun, GraphScripts

_log = logging.getLogger("ampho")

MakePlan: TypeAlias = Callable[[Graph, tuple[str, ...], Journal], Plan]

_MAX_ERROR = 4000
_VALUES = re.compile(r"\s*(\[SQL: .*|DETAIL: .*|\[parameters: .*)", re.DOTALL)
_SCRATCH_REMEDIES = {
    Direction.UPGRADE: "Correct its upgrade(); or where it uses what another package makes, drops or renames, add the"
    " revision of that package to depends_on.",
    Direction.DOWNGRADE: "Correct its downgrade(); or where there is no way back, raise NotImplementedError in it.",
}
_TRIES = 5
_FIRST_PAUSE = 0.5  # seconds; doubled each time


def journal_table(project: Project, context: MigrationContext) -> JournalTable | None:
    """Return the journal beside the version table that ``env.py`` configured; None if there shall be none.

    :raises ConfigurationError: if both tables are called the same.
    """
    if project.journal is None or context.connection is None:
        return None
    if project.journal == context.version_table:
        raise ConfigurationError(
            f"{SETTING} and version_table name the same table, {project.journal}. Give one of them another name.",
            setting=SETTING,
        )
    return JournalTable(context.connection, project.journal, context.version_table_schema)


@dataclass
class Runner:
    """Plans inside the run of ``env.py``, gives Alembic the steps, and records their outcome.

    :param command: the equivalent Alembic command.
    :param is_agreed: whether the plan was confirmed, so that no part of it may be left out.
    :param is_scratch: whether the database is thrown away afterwards, so that nothing there needs repair.
    """

    project: Project
    make_plan: MakePlan
    command: Sequence[str]
    x: Sequence[str]
    observers: Observers
    is_agreed: bool = False
    is_scratch: bool = False
    plan: Plan | None = None
    current: Step | None = None
    done: list[StepRun] = field(default_factory=list)
    dialect: str = ""
    _transaction: StepTransaction = field(init=False)
    _others: OtherConnections = field(init=False)
    _table: JournalTable | None = field(default=None, init=False)
    _begun: float = field(default=0.0, init=False)
    _why: str | None = field(default=None, init=False)
    _tries: int = field(default=0, init=False)
    _data_version: object = field(default=None, init=False)
    _lost: bool = field(default=False, init=False)

    def nothing_to_do(self, rows: tuple[str, ...], journal: Journal) -> Run | None:
        """Return the run that there is, where nothing is to be done; else None."""
        if journal.unfinished:
            return None
        try:
            plan = self.make_plan(self.project.graph, rows, journal)
        except AmphoError:
            return None  # which is said by who reads rows and journal while nobody writes them
        if plan.steps:
            return None
        self._announce(plan)
        return Run(plan, ())

    def run(self, connection: Connection) -> Run:
        """Run ``env.py`` on a connection, and the plan within.

        :raises AmphoError: before anything is changed, or naming the revision that failed.
        """
        self._transaction = StepTransaction(connection, self._record_early_commit)
        self._others = OtherConnections(connection, self.project.lock)
        if self.observers.want_statements:
            self._notify_of_statements(connection)
        try:
            with self._others.watched():
                return self._run(connection)
        finally:
            self._transaction.is_own = True  # for what follows on this connection

    def _run(self, connection: Connection) -> Run:
        from ampho.migrate.alembic import EnvironmentRun

        while True:
            environment = EnvironmentRun(self.project, connection, self.x, self.command)
            try:
                environment.perform(self.work)
            except _OvertakenError:
                connection.rollback()
                self.current = None
                continue
            except (Exception, SystemExit) as raised:  # noqa: BLE001 (raised again as an error of Ampho)
                exc = _cause(raised)
                error, step = self.failure(exc, environment, connection), self.current
                outcome = self.record_failure(connection, exc)
                if step is None or not self._goes_on(connection, step, exc, outcome):
                    if step is not None:
                        self.observers.notify(Observer.failed, step, error)
                    raise_from(error, exc)
                continue
            except BaseException:
                self.interrupted()
                raise
            return self.result(environment)

    def _notify_of_statements(self, connection: Connection) -> None:
        """Notify observers of each statement. One that fails ends with the rollback that follows it."""

        def executing(connection: Connection, cursor: object, statement: str, *args: object) -> None:
            self.observers.notify(Observer.executing, Statement(statement, self.project.url))

        def executed(*args: object) -> None:
            self.observers.notify(Observer.executed)

        event.listen(connection, "before_cursor_execute", executing)
        for name in ("after_cursor_execute", "rollback", "rollback_savepoint"):
            event.listen(connection, name, executed)

    def _goes_on(self, connection: Connection, step: Step, exc: BaseException, outcome: Outcome) -> bool:
        """Wait, if a step shall be tried again: it met a lock, and was rolled back whole."""
        settings = self.project.lock
        if settings.statement_timeout is None or outcome is not Outcome.FAILED or not was_refused_a_lock(exc):
            return False
        if self._tries == _TRIES or self._others.are_waited_for(exc):
            return False
        seconds = _FIRST_PAUSE * 2**self._tries * random.uniform(0.5, 1.5)  # noqa: S311 (so that not all come back at once)
        self._tries += 1
        self.observers.notify(Observer.retrying, step, seconds)
        self.current = None
        pause(connection, seconds)
        return True

    def waiting(self, holder: str) -> None:
        """Notify observers that another process migrates the database."""
        self.observers.notify(Observer.waiting, holder)

    def work(self, rows: tuple[str, ...], context: MigrationContext, script: GraphScripts) -> Iterator[RevisionStep]:
        """Plan from the version rows, within the context that ``env.py`` configured, and give the plan's steps."""
        from ampho.migrate.alembic import ensure_version_table, follow_in_blocks, load_steps

        self.dialect = context.dialect.name
        self._table = journal_table(self.project, context)
        if self._table is not None:
            self._table.aside = self._transaction.own
        journal = self._table.read() if self._table else Journal()
        self._check_finished(journal, context)
        is_first = self.plan is None
        if is_first and not rows and context.connection is not None:
            check_not_elsewhere(context.connection, self.project.graph, context.version_table, journal)
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
            self._check_not_overtaken(context, expected)
            self.current = step
            self.observers.notify(Observer.started, step)
            self._begun = begun = time.perf_counter()
            self._transaction.begin_step()
            self._others.begin_step()
            if self.dialect not in TRANSACTIONAL:
                self._record_start(context)
            alembic_step.after_function = partial(self._settle, context)
            yield alembic_step
            self._others.end_step()
            expected = alembic_step.rows_after(expected)
            self.done.append(StepRun(step, time.perf_counter() - begun))
            self.current, self._tries = None, 0
            self.observers.notify(Observer.applied, step, self.done[-1].duration)

    def _announce(self, plan: Plan) -> None:
        self.observers.notify(Observer.planned, plan)
        if plan.warning:
            self.observers.notify(Observer.warned, plan.warning)

    def _make_plan(self, rows: tuple[str, ...], journal: Journal) -> tuple[Plan, Graph]:
        """Return the plan, or what is left of it after another process or a lock came between, and its graph."""
        if self.plan is None:
            self.plan = self.make_plan(self.project.graph, rows, journal)
            return self.plan, graph_of(self.plan, self.project.graph, rows, journal)
        applied = Applied.from_rows(self.project.graph, rows, journal)
        if self.plan.direction is Direction.DOWNGRADE:
            applied = applied.as_ran(journal)
        rest = rest_of(self.plan, applied)
        if self.is_agreed and len(rest.steps) < len(self.plan.steps) - len(self.done):
            raise self._overtaken_error()
        return rest, applied.graph

    def _overtaken_error(self) -> PlanChangedError:
        """Return the error for a plan of which another process has done a part meanwhile, as it can on SQLite."""
        done = listed_last([run.step.revision.id for run in self.done]) if self.done else ""
        return PlanChangedError(
            "Another process has done a part of this plan meanwhile, so what is left is not what was agreed to. Look at"
            f" it again, and run the command again; {f'done before: {done}' if done else 'nothing was changed'}."
        )

    def _check_not_overtaken(self, context: MigrationContext, expected: set[str]) -> None:
        """Check, within the transaction of the step, that the database is where the step expects it.

        SQLite's lock is for a transaction only, so between two steps another process may have gone on.

        :raises _OvertakenError: if it is not.
        """
        if self.dialect != "sqlite" or not self.project.lock.enabled or context.connection is None:
            return
        from ampho.database.sqlite import pragma

        # It is another one after another connection has written; see PRAGMA data_version in SQLite's documentation.
        if not context.connection.in_transaction():
            context.connection.begin()  # which takes SQLite's lock: nobody writes after this
        version = pragma(context.connection, "data_version")
        if version != self._data_version and set(context.get_current_heads()) != expected:
            raise _OvertakenError
        self._data_version = version

    def _settle(self, context: MigrationContext) -> None:
        """Make sure that what follows is committed with the step, whatever the revision did with its transaction.

        :raises AmphoError: if the revision rolled back what it had done, or closed the connection.
        """
        from ampho.migrate.alembic import ensure_version_table, follow_transaction

        transaction, connection = self._transaction, context.connection
        if connection is None or connection.closed:
            raise _EndedError("It closed op.get_bind(), which is for Ampho to close, as 'with op.get_bind()' does too")
        transaction.look(connection)
        if transaction.lost:
            raise _EndedError(
                "It rolled back on its own, and so took back what it had done before. Put what may fail into"
                " 'with op.get_bind().begin_nested():'"
            )
        with transaction.own():
            follow_transaction(context, is_over=transaction.is_over)
            if transaction.rolled_back:  # in the first step, this undid the tables of Alembic and Ampho, too
                ensure_version_table(context)
                if self._table is not None:
                    self._table.refresh()
        transaction.is_over = transaction.rolled_back = False

    def _check_finished(self, journal: Journal, context: MigrationContext) -> None:
        """Check that no revision is half done.

        :raises UnfinishedRevisionError: if one is.
        """
        for entry in journal.unfinished if self._table else ():
            if not entry.is_untouched:
                raise unfinished_error(entry, self._left_by(entry, context))
            cast("JournalTable", self._table).resolve(entry)

    def _left_by(self, entry: Entry, context: MigrationContext) -> str:
        graph = self.project.graph
        if context.connection is None or not graph.has_file(entry.revision):
            return ""
        return describe_invalid_indexes(context.connection, _code(graph[entry.revision]))

    def _entry_of_step(self) -> dict[str, object]:
        """Return what the journal has of the step that runs, whatever becomes of it."""
        step = cast("Step", self.current)
        revision = step.revision
        return {
            "revision": revision.id,
            "package": revision.package,
            "direction": step.direction.value,
            "parents": self.project.graph.parents(revision.id),
            "checksum": revision.checksum,
        }

    def _record_start(self, context: MigrationContext) -> None:
        if self._table is not None and self.current is not None and context.connection is not None:
            with self._transaction.own():
                self._table.start(self._entry_of_step(), counting=True)
                context.connection.commit()

    def _record_early_commit(self) -> None:
        """Record that the revision runs, if it commits before its end, as an ``autocommit_block()`` does."""
        if self._table is not None and self.dialect in TRANSACTIONAL:
            self._table.start(self._entry_of_step(), counting=False)

    def _record_success(self, ctx: MigrationContext, **event: object) -> None:
        """Write that the revision is done, in its own transaction; Alembic calls this at the end of each."""
        self._settle(ctx)
        self._transaction.is_own = True
        if self._table is not None and self.current is not None:
            duration = time.perf_counter() - self._begun
            self._table.finish(self._entry_of_step(), Outcome.DONE, duration)

    def record_failure(self, connection: Connection, exc: BaseException) -> Outcome:
        """Write that the revision failed, as far as the connection still works; return what is left of it."""
        if self.current is None:
            return Outcome.PARTIAL
        transactional = self.dialect in TRANSACTIONAL and not self._transaction.committed
        outcome = Outcome.FAILED if transactional or self._is_untouched() else Outcome.PARTIAL
        if _has_lost_connection(exc) or self._table is None or self._why is None:
            return outcome  # a connection that was made anew would not have the lock; the entry stays as it began
        duration = time.perf_counter() - self._begun
        try:
            with self._transaction.own():
                connection.rollback()
                self._table.refresh()
                self._table.finish(self._entry_of_step(), outcome, duration, _without_values(self._why)[:_MAX_ERROR])
                connection.commit()
        except Exception as another:  # noqa: BLE001 (the failure itself is what to hear of)
            why = describe_without(another, self.project.url)
            _log.debug("The failure could not be written into the journal: %s", why)
            with suppress(Exception):
                connection.rollback()
            return Outcome.PARTIAL
        return outcome

    def _is_untouched(self) -> bool:
        """Tell whether nothing of the revision can have stayed, where DDL is committed at once."""
        return self._table is not None and not self._transaction.committed and not self._table.left

    def failure(self, exc: BaseException, environment: EnvironmentRun, connection: Connection) -> AmphoError:
        """Return what was raised as an error that names the revision, if one was running."""
        finished = [run.step.revision.id for run in self.done]
        if self.current is None:
            return environment.failure(exc, finished)
        revision = self.current.revision
        where = place(exc, revision.path)
        self._why = why = self._describe(exc)
        self._lost = _has_lost_connection(exc)
        if self._table is not None and self._lost:
            self._table.lose()
        return RevisionFailedError(
            f"Revision {revision.id} of {revision.package} failed at {where}: {why}."
            f" {self._what_is_left(revision.id, connection)} Finished before it: {listed_last(finished)}.",
            revision=revision.id,
            package=revision.package,
            path=revision.path,
            applied=finished,
        )

    def _describe(self, exc: BaseException) -> str:
        why = describe_without(exc, self.project.url).rstrip(".")
        return f"{why} ({HINT})" if self._others.are_waited_for(exc) else with_hint(why)

    def interrupted(self) -> None:
        """Tell of an interruption, if it met a revision."""
        if self.current is not None:
            self.observers.notify(Observer.interrupted, self.current)

    def _what_is_left(self, revision_id: str, connection: Connection) -> str:
        if self.is_scratch:
            remedy = _SCRATCH_REMEDIES[cast("Step", self.current).direction]
            return f"Only the throw-away database of --scratch has seen this. {remedy}"
        if self.dialect not in TRANSACTIONAL:
            why = "This database commits DDL at once"
        elif self._transaction.committed:
            why = "It committed before its end, as an autocommit_block() does"
        elif self._lost and self._transaction.is_own:
            return "The connection was lost at its commit, so 'ampho db-current' knows whether it is applied."
        else:
            return "Its transaction was rolled back."
        if self._table is not None and self._is_untouched():
            return "Nothing of it was committed."
        stayed = f"{why}, so statements before the failing one may have stayed.{self._left_invalid(connection)}"
        if self._table is None:
            return f"{stayed} Compare, repair by hand, and run again."
        return f"{stayed} {_resolve_hint(revision_id)}"

    def _left_invalid(self, connection: Connection) -> str:
        """Name the indexes that a revision outside of a transaction left invalid, as far as the connection works."""
        if not self._transaction.committed or self._lost:
            return ""
        with suppress(SQLAlchemyError):
            connection.rollback()
            return describe_invalid_indexes(connection, _code(cast("Step", self.current).revision))
        return ""

    def result(self, environment: EnvironmentRun) -> Run:
        """Return the run, which came to its end."""
        if self.plan is None or self.current is not None:
            revision = self.current.revision.id if self.current else "of the run"
            raise environment.refused(f"hides the failure of revision {revision}. Let the error through")
        return Run(self.plan, tuple(self.done))


def _code(revision: Revision) -> str:
    return revision.path.read_text("utf-8", errors="replace")


class _EndedError(AmphoError):
    """A revision rolled back what it had done, or closed the connection, and still returned."""


class _OvertakenError(AmphoError):
    """Another process has migrated the database since its rows were read."""


def _has_lost_connection(exc: BaseException) -> bool:
    return isinstance(exc, DBAPIError) and exc.connection_invalidated


def _cause(exc: BaseException) -> BaseException:
    """Return what an exception stands on: where a connection is lost, to leave an ``autocommit_block()`` fails too."""
    lost = exc.__context__
    if isinstance(exc, PendingRollbackError) and lost is not None and _has_lost_connection(lost):
        return lost
    return exc


def _without_values(why: str) -> str:
    """Leave out of a driver's words the statement and the row, which may hold what the journal shall not keep."""
    return _VALUES.sub("", why).strip()


def raise_from(error: AmphoError, exc: BaseException) -> NoReturn:
    """Raise what became of an exception, which may be that exception itself, and then is no cause of its own."""
    if error is exc:
        raise error
    raise error from exc


def unfinished_error(entry: Entry, left: str = "") -> UnfinishedRevisionError:
    """Return the error for a revision that was interrupted where the database could not roll it back.

    :param left: what is known of what it left, in a sentence with a space before it.
    """
    began = f" on {entry.started:%Y-%m-%d at %H:%M:%S} UTC" if entry.started else ""
    what = "failed half-way" if entry.outcome is Outcome.PARTIAL else "was interrupted"
    stayed = "something of it may have stayed"
    if entry.statements is not None:
        first = "its first statement" if entry.statements == 1 else f"its first {entry.statements} statements"
        stayed = f"{first} may have stayed"
    why = f" It said: {entry.error.rstrip('.')}." if entry.error else ""
    return UnfinishedRevisionError(
        f"The {entry.direction} of {entry.revision} of {entry.package}, begun{began} by {entry.host}, {what}, and"
        f" {stayed}.{why}{left} {_resolve_hint(entry.revision)}",
        revision=entry.revision,
        package=entry.package,
    )


def _resolve_hint(revision_id: str) -> str:
    return (
        "Compare the database with its file, repair by hand, and say what came of it: 'ampho db-resolve"
        f" {revision_id} --applied' or '--not-applied'."
    )
