"""One step while it runs: its transaction, its entry in the journal, and its error if it fails."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError

from ampho._text import listed_last, of_database, place, sentences, with_hint
from ampho.database.journal import Backfill, Entry, Outcome
from ampho.database.lock import was_refused_a_lock
from ampho.database.postgres import describe_invalid_indexes
from ampho.database.schema import restore_schema
from ampho.database.transaction import TRANSACTIONAL, StepTransaction
from ampho.database.url import describe_without
from ampho.errors import AmphoError, RevisionFailedError
from ampho.history.revision import Revision
from ampho.migrate.other_connections import HINT, OtherConnections
from ampho.migrate.plan import Direction, Step, StepRun, repair_hint
from ampho.migrate.project import Project

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

    from ampho.database.recorder import JournalTable
    from ampho.migrate.observers import Observers
    from ampho.migrate.sqlite_batch import TableKeeper

_log = logging.getLogger("ampho")

STEP = "ampho_step"
"""The key of the running step in the options of Alembic's context."""

_MAX_ERROR = 4000
_VALUES = re.compile(r"\s*(\[SQL: .*|DETAIL: .*|\[parameters: .*)", re.DOTALL)
_SCRATCH_REMEDIES = {
    Direction.UPGRADE: "Correct the revision's upgrade(). If it uses a table that another package creates, drops, or"
    " renames, add that package's revision to depends_on.",
    Direction.DOWNGRADE: "Correct the revision's downgrade(). If the revision is irreversible, raise"
    " NotImplementedError there.",
}


@dataclass(frozen=True, slots=True)
class MigratingConnection:
    """The connection on which the steps of a run are executed, and the objects that watch it."""

    connection: Connection
    transaction: StepTransaction
    others: OtherConnections
    tables: TableKeeper | None


@dataclass
class RunningStep:
    """A step while it runs.

    :ivar parents: the ids of the revisions that the revision depends on.
    :ivar context: Alembic's context in the run of ``env.py``.
    :ivar table: the journal's table; None without a journal.
    :ivar observers: the observers of the run.
    :ivar earlier: the entries of earlier runs of the revision, whose backfills continue.
    :ivar stopped: the last backfill of the revision that has committed a batch; None if there is none.
    :ivar backfills: the number of backfills that the revision has begun.
    """

    step: Step
    parents: Sequence[str]
    project: Project
    migrating: MigratingConnection
    context: MigrationContext
    table: JournalTable | None
    observers: Observers
    earlier: Sequence[Entry] = ()

    def __post_init__(self) -> None:
        self._connection = self.migrating.connection
        self._transaction = self.migrating.transaction
        self._others = self.migrating.others
        self._tables = self.migrating.tables
        self._is_transactional = self._connection.dialect.name in TRANSACTIONAL
        self._begun = time.perf_counter()
        self.stopped: Backfill | None = None
        self.backfills = 0
        self._held: list[Backfill] = []

    @property
    def entry(self) -> dict[str, object]:
        """The columns of the step's entry in the journal that do not depend on its outcome."""
        revision = self.step.revision
        return {
            "revision": revision.id,
            "package": revision.package,
            "direction": self.step.direction.value,
            "parents": self.parents,
            "checksum": revision.checksum,
        }

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._begun

    def begin(self) -> None:
        """Start the step, and record that in the journal if the database cannot roll the step back."""
        self._begun = time.perf_counter()
        self._transaction.begin_step(self._record_early_commit)
        self._others.begin_step()
        if self._tables is not None:
            self._tables.begin_step()
        if self.table is not None and not self._is_transactional:
            with self._transaction.own():
                self._resolve_earlier()
                outcome = Outcome.BACKFILL if self.earlier else Outcome.STARTED
                self.table.start(self.entry, counting=True, outcome=outcome)
                self._connection.commit()

    def start_backfill(self) -> None:
        """Record, in the transaction of a batch, that the revision continues if it is interrupted."""
        if self.table is not None:
            self._resolve_earlier()
            self.table.start_backfill(self.entry)
            for each in self._held:
                self.table.backfills.add(each)
            self._held.clear()

    def lose_start(self) -> None:
        """Note that the first batch of a backfill was rolled back, with the entry in the journal."""
        if self.table is not None and self._is_transactional:
            self.table.drop_start()

    def hold(self, backfill: Backfill) -> None:
        """Note that a backfill is complete in the revision's own transaction."""
        self._held.append(backfill)
        if self.table is not None:
            self.table.hold_change()

    def _resolve_earlier(self) -> None:
        if self.table is not None:
            for entry in self.earlier:
                self.table.resolve(entry, continues=True)

    @property
    def has_changed(self) -> bool:
        """Whether the revision has changed something itself, outside of its backfills."""
        has_counted = self.table is not None and self.table.has_counted
        return has_counted or self._transaction.committed or self._transaction.has_written

    def _record_early_commit(self) -> None:
        """Record that the step has begun, because the revision is about to commit, as ``autocommit_block()`` does."""
        self._check_tables()
        if self.table is not None and self._is_transactional:
            self.table.start(self.entry, counting=False)

    def settle(self) -> None:
        """Make Alembic commit the statements that follow, even if the revision has ended its transaction itself.

        :raises AmphoError: if the revision rolled back its changes, closed the connection, or lost part of a table.
        """
        from ampho.migrate.alembic import ensure_version_table, follow_transaction

        transaction = self._transaction
        if self._connection.closed:
            raise _BrokenStepError(
                "It closed the connection of op.get_bind(), for example with 'with op.get_bind():'. Leave it open"
            )
        transaction.notice_end(self._connection)
        if transaction.lost:
            raise _BrokenStepError(
                "It rolled back the transaction, including its earlier changes. Put statements that may fail into"
                " 'with op.get_bind().begin_nested():'"
            )
        with transaction.own():
            self._check_tables()
            if self._connection.dialect.name == "postgresql":
                restore_schema(self._connection)
            follow_transaction(self.context, is_over=transaction.is_over)
            if transaction.rolled_back:  # in the first step, the rollback also removed the tables of Alembic and Ampho
                ensure_version_table(self.context)
                if self.table is not None:
                    self.table.refresh()
        transaction.is_over = transaction.rolled_back = False

    def _check_tables(self) -> None:
        if self._tables is not None:
            self._tables.check()

    def record_success(self, **event: object) -> None:
        """Record the step's success in its transaction, which Alembic commits next.

        :param event: the arguments of Alembic's ``on_version_apply`` callbacks.
        """
        self.settle()
        self._transaction.is_own = True
        if self.table is not None:
            outcome = Outcome.REPLACED if self.step.is_recorded else Outcome.DONE
            self.table.finish(self.entry, outcome, self._seconds)
            if self.earlier or self.backfills:
                self._resolve_earlier()
                self.table.backfills.forget(self.step.revision.id)
            if self.table.keeps_sources:
                self.table.keep_source(self.step.revision, is_applied=self.step.direction is Direction.UPGRADE)

    def end(self) -> StepRun:
        """Return the result of the committed step."""
        self._others.end_step()
        return StepRun(self.step, time.perf_counter() - self._begun)

    def fail(
        self, exc: BaseException, finished: Sequence[str], *, is_scratch: bool
    ) -> tuple[RevisionFailedError, bool]:
        """Record that the step failed; return the error, and whether the whole step was rolled back.

        :param finished: the ids of the revisions that the run has completed.
        :param is_scratch: whether the database is a throwaway database, in which nothing needs repair.
        """
        revision = self.step.revision
        why, is_lost = self._why(exc), has_lost_connection(exc)
        if self.table is not None and is_lost:
            self.table.lose()
        remains = self._what_remains(is_lost=is_lost)
        if is_scratch:
            remains = f"Only a throwaway database is affected. {_SCRATCH_REMEDIES[self.step.direction]}"
        error = RevisionFailedError(
            sentences(
                f"Revision {revision.id} of {revision.package} failed at {place(exc, revision.path)}: {why}",
                remains,
                f"Completed before the failure: {listed_last(finished)}.",
            ),
            revision=revision.id,
            package=revision.package,
            path=revision.path,
            applied=finished,
        )
        return error, self._record_failure(why, is_lost=is_lost)

    def _why(self, exc: BaseException) -> str:
        why = describe_without(exc, self.project.url).rstrip(".")
        if self._others.are_waited_for(exc):
            return f"{why} ({HINT})"
        return with_hint(why, is_downgrade=self.step.direction is Direction.DOWNGRADE)

    def _what_remains(self, *, is_lost: bool) -> str:
        if not self._is_transactional:
            why = "This database commits DDL immediately"
        elif self._transaction.committed:
            why = "The revision committed partway through (for example, in an autocommit_block())"
        elif is_lost and self._transaction.is_own:
            return (
                "The connection was lost during the commit. 'ampho db-current' shows whether the revision is applied."
            )
        elif self._transaction.repeated:
            return (
                "Its last transaction was rolled back. What it committed before, with ampho.operations, is kept."
                f" Correct the cause, and run the command again, which skips what is done.{self._continues}"
            )
        else:
            return f"Its transaction was rolled back.{self._continues}"
        if self._is_untouched:
            return f"None of its changes were committed.{self._continues}"
        remains = (
            f"{why}, so changes made before the failing statement may remain.{self._left_invalid(is_lost=is_lost)}"
        )
        return f"{remains} {repair_hint(self.step.revision.id, has_journal=self.table is not None)}"

    @property
    def _continues(self) -> str:
        """A sentence about the backfill that the next run continues; empty if there is none."""
        if self.stopped is None:
            return ""
        kept = f"The {self.stopped.rows:,} rows that its backfill of {self.stopped.table} has changed stay"
        return f" {kept}, and {self.stopped.continued_by} continues from there."

    def note_remains(self, interruption: BaseException) -> None:
        """Add a note about what the revision leaves in the database to an exception such as ``KeyboardInterrupt``."""
        revision, project = self.step.revision, self.project
        remains = self._continues
        if not self._is_rolled_back:
            hint = repair_hint(revision.id, has_journal=self.table is not None)
            remains = f" Some of its changes may remain. {hint}"
        if remains:
            note = f"Revision {revision.id} of {revision.package} was running.{remains}"
            interruption.add_note(of_database(note, project.database) if project.has_several_databases else note)

    @property
    def _is_rolled_back(self) -> bool:
        """Whether nothing remains of the step but the batches of its backfills."""
        return (self._is_transactional and not self._transaction.committed) or self._is_untouched

    @property
    def _is_untouched(self) -> bool:
        """Whether the step left no changes behind, even on a database that commits DDL immediately."""
        return self.table is not None and not self._transaction.committed and not self.table.left

    def _left_invalid(self, *, is_lost: bool) -> str:
        """Return a sentence about the invalid indexes that the revision left outside of its transaction."""
        if self._transaction.committed and not is_lost:
            with suppress(SQLAlchemyError):
                self._connection.rollback()
                return describe_invalid_indexes(self._connection, code_of(self.step.revision))
        return ""

    def _record_failure(self, why: str, *, is_lost: bool) -> bool:
        """Record that the step failed if the connection still works; return whether the whole step was rolled back."""
        is_rolled_back = self._is_rolled_back
        if is_lost or self.table is None:
            return is_rolled_back  # a new connection would not hold the lock, so the entry is not updated
        outcome = Outcome.FAILED if is_rolled_back else Outcome.PARTIAL
        if is_rolled_back and (self.stopped is not None or self.earlier):
            outcome = Outcome.BACKFILL
        seconds, why = self._seconds, _VALUES.sub("", why).strip()[:_MAX_ERROR]  # keep data of rows out of the journal
        try:
            with self._transaction.own():
                self._connection.rollback()
                self.table.refresh()
                self._resolve_earlier()
                self.table.finish(self.entry, outcome, seconds, why)
                self._connection.commit()
        except Exception as another:  # noqa: BLE001 (the error of the step matters more)
            text = "Ampho could not record the failure in the journal: %s"
            _log.debug(text, describe_without(another, self.project.url))
            with suppress(Exception):
                self._connection.rollback()
            return False
        return is_rolled_back

    def is_refused_a_lock(self, exc: BaseException) -> bool:
        """Return whether the step failed because another process holds a lock, so that it may succeed later."""
        return was_refused_a_lock(exc) and not self._others.are_waited_for(exc)


class RowsChangedError(AmphoError):
    """The version rows have changed since the run of ``env.py`` began, so it has to run again."""


class _BrokenStepError(AmphoError):
    """A revision rolled back its changes or closed the connection, without raising an error."""


def has_lost_connection(exc: BaseException) -> bool:
    """Return whether an exception was raised because the connection was lost."""
    return isinstance(exc, DBAPIError) and exc.connection_invalidated


def cause_of(exc: BaseException) -> BaseException:
    """Return ``exc``, or the error of the lost connection that led to it, for example in an ``autocommit_block()``."""
    lost = exc.__context__
    if isinstance(exc, PendingRollbackError) and lost is not None and has_lost_connection(lost):
        return lost
    return exc


def code_of(revision: Revision) -> str:
    """Return the text of a revision's file."""
    return revision.path.read_text("utf-8", errors="replace")
