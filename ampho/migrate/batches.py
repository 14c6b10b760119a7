"""The batches of a backfill: each is a transaction of its own, which also records how far the backfill has come."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from ampho.database.journal import Backfill
from ampho.database.lock import has_code, pause, was_refused_a_lock
from ampho.database.transaction import TRANSACTIONAL
from ampho.errors import OperationError
from ampho.migrate.observers import BackfillProgress, Observer
from ampho.migrate.step import STEP, RowsChangedError, RunningStep

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

_RETRIES = 10
_LONGEST_PAUSE = 10.0  # seconds
_DEADLOCKS = ("40P01", "40001", 1213)  # PostgreSQL's SQLSTATEs, and an error number of MariaDB and MySQL


class Batches:
    """Runs the batches of one backfill. Without a journal, it does not know where an interrupted backfill was.

    :param context: Alembic's context.
    :param table: the name of the table.
    :param key: the names of the columns by which the table is divided.
    :ivar place: how far the backfill has come.
    :ivar is_recorded: whether each batch also records its place, so that an interrupted backfill continues.
    """

    def __init__(self, context: MigrationContext, table: str, key: str) -> None:
        self._context = context
        self.connection: Connection = connection_of(context)
        self._running: RunningStep | None = context.opts.get(STEP)
        self._journal = self._running.table if self._running else None
        self.is_recorded: bool = self._journal is not None
        self._is_transactional = self.connection.dialect.name in TRANSACTIONAL
        self._is_started = self._is_saved = False
        self._refusals = 0
        self.place: Backfill = self._opened(table, key)

    def _opened(self, table: str, key: str) -> Backfill:
        """Return where the backfill continues, or begins.

        :raises OperationError: if the backfill cannot run in batches here.
        """
        running, recorded = self._running, self._journal.backfills if self._journal else None
        if running is None:
            return Backfill("", "", 1, table, key)
        running.backfills += 1
        if running.has_changed:
            raise OperationError(
                f"the revision changes something before its backfill of {table}, so an interrupted backfill could not"
                " continue. Put the backfill into a revision of its own, after this one"
            )
        revision = running.step.revision
        new = Backfill(revision.id, str(running.step.direction), running.backfills, table, key)
        new = replace(new, checksum=revision.checksum)
        with self.aside():
            if recorded is not None and not self._is_transactional:
                recorded.create()  # now, because that commits what the revision has changed by then
            found: Backfill | None = recorded.find(new) if recorded is not None and recorded.exists else None
        if found is None:
            return new
        running.stopped = found
        self._is_saved = True
        restart = f"'ampho db-resolve {revision.id} --not-applied'"
        if (found.table, found.key) != (table, key):
            raise OperationError(
                f"the file has changed since the backfill of {found.table} by {found.key} was interrupted after"
                f" {found.rows:,} rows, and now has a backfill of {table} by {key} in its place. Restore the file, or"
                f" run {restart} to start over"
            )
        if found.checksum != revision.checksum:
            running.observers.notify(
                Observer.warned,
                f"The file of {revision.id} has changed since its backfill of {table} was interrupted. It continues"
                f" after the {found.rows:,} rows that the earlier file has changed. To start over, interrupt"
                f" this command, and run {restart}.",
            )
        renewed: Backfill = replace(found, checksum=revision.checksum)
        return renewed

    def is_done(self) -> bool:
        """Return whether the backfill is complete."""
        return self.place.is_done

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Keep the statements in the body apart from those of the revision."""
        running = self._running
        journal = self._journal.writing() if self._journal else nullcontext()
        with running.migrating.transaction.own() if running else nullcontext(), journal:
            yield

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Commit what the body does. If it fails, roll that back, and leave Alembic a new transaction."""
        before, is_saved = self.place, self._is_saved
        with self.aside():
            try:
                if self._journal is not None and not self._is_started:
                    self._journal.backfills.create()
                if self._running is not None and not self._is_started:
                    self._running.start_backfill()
                self._refresh()
                yield
                self._commit()
            except Exception:  # of whatever kind, because the batch must not stay open; it is raised again
                self.place, self._is_saved = before, is_saved
                if not self.connection.invalidated:
                    if self.connection.in_transaction():
                        self.connection.rollback()
                    else:  # SQLAlchemy considers the transaction ended even if the commit fails
                        self.connection.dialect.do_rollback(self.connection.connection)
                    if self._running is not None and not self._is_started:
                        self._running.lose_start()
                    self.follow()
                raise
        self._is_started = True
        self._refusals = 0
        if self._running is not None:
            self._running.stopped = self.place

    def _commit(self) -> None:
        """Commit a batch. On SQLite, foreign keys are only checked after the first one and at the revision's end."""
        if self.connection.dialect.name != "sqlite" or not self._is_started:
            self.connection.commit()
            return
        from ampho.database.sqlite import unchecked

        with unchecked(self.connection):
            self.connection.commit()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Leave what the body does in the revision's own transaction."""
        with self.aside():
            yield
        if self._running is not None:
            self._running.hold(replace(self.place, is_done=True))

    def _refresh(self) -> None:
        """Read the place in the transaction of a batch, because on SQLite another process may run the same backfill."""
        if self._journal is None or not self._is_saved or self.connection.dialect.name != "sqlite":
            return
        found = self._journal.backfills.find(self.place)
        if found is None or found.is_done:
            raise RowsChangedError
        self.place = replace(found, checksum=self.place.checksum)

    def save(self, **changes: Any) -> None:  # noqa: ANN401 (the fields of the place)
        """Record, inside of a batch, how far the backfill has come."""
        after = replace(self.place, **changes)
        if self._journal is not None:
            if not self._is_saved:
                self._journal.backfills.add(after)
            elif not self._journal.backfills.move(self.place, after):
                raise RowsChangedError
        self.place, self._is_saved = after, True

    def follow(self) -> None:
        """Leave Alembic a new transaction for the rest of the revision."""
        from ampho.migrate.alembic import follow_transaction

        follow_transaction(self._context)

    def wait_after(self, exc: DBAPIError) -> bool:
        """Pause if a batch was rolled back because of other transactions; return whether to try it again.

        The first batch is not, because the rollback also undid what the revision did before.
        """
        is_refused = was_refused_a_lock(exc) or has_code(exc.orig, *_DEADLOCKS)
        if not (is_refused and self._is_started) or exc.connection_invalidated or self._refusals >= _RETRIES:
            return False
        self._refusals += 1
        seconds = min(_LONGEST_PAUSE, 0.1 * 2**self._refusals) * random.uniform(0.5, 1.5)  # noqa: S311 (see the executor)
        self._end_and_sleep(seconds)
        return True

    def sleep(self, seconds: float) -> None:
        """Sleep between two batches, outside of a transaction."""
        if seconds > 0:
            self._end_and_sleep(seconds)

    def _end_and_sleep(self, seconds: float) -> None:
        with self.aside():
            self.connection.rollback()
        pause(self.connection, seconds)

    def report(self, progress: BackfillProgress) -> None:
        """Report how far the backfill has come."""
        if self._running is not None:
            self._running.observers.notify(Observer.progressed, self._running.step, progress)

    def report_waiting(self, what: str) -> None:
        """Report what the backfill waits for."""
        if self._running is not None:
            self._running.observers.notify(Observer.awaiting, what)


def connection_of(context: MigrationContext) -> Connection:
    """Return the connection of a revision that runs.

    :raises OperationError: if it has none.
    """
    if context.connection is None:
        raise OperationError("a backfill needs a connection")
    return context.connection
