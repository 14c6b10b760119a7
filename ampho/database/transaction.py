"""The transaction of a step, which the revision may end itself.

In that case, Alembic writes the version row in the next transaction, but commits the previous one, so the row is lost
if no other revision follows. This module notices when a transaction ends, so that the row and the entry in the
journal are always committed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from ampho.history.sql import CHANGES_NOTHING, CHANGES_OBJECTS, ENDS_TRANSACTION, ROLLS_BACK

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

TRANSACTIONAL = ("sqlite", "postgresql")
"""The dialects of the databases that can roll back changes to the schema."""


class StepTransaction:
    """Tracks the transaction of each step on the migrating connection.

    :ivar is_own: whether the current statements come from Ampho or Alembic, rather than from the revision.
    :ivar committed: whether part of the step was committed before its end, which a second run may not repeat.
    :ivar repeats: whether the current statements have the same result if the step runs again from its start.
    :ivar repeated: whether part of the step was committed that a second run repeats; see :meth:`repeatable`.
    :ivar is_over: whether a statement has ended the transaction without SQLAlchemy noticing.
    :ivar rolled_back: whether the revision has rolled back the transaction.
    :ivar lost: whether that rollback undid changes of the revision.
    :ivar has_written: whether the revision has changed something since its transaction began.
    :ivar watch: called with each statement of the revision that matches ``CHANGES_OBJECTS``; None on most databases.
    """

    is_own: bool
    committed: bool
    repeats: bool
    repeated: bool
    is_over: bool
    rolled_back: bool
    lost: bool
    has_written: bool
    watch: Callable[[re.Match[str]], None] | None = None

    def __init__(self, connection: Connection) -> None:
        self._is_transactional = connection.dialect.name in TRANSACTIONAL
        self.begin_step(lambda: None)
        self.is_own = True
        for name, listener in (
            ("commit", self._commit),
            ("rollback", self._rollback),
            ("before_cursor_execute", self._before_statement),
            ("after_cursor_execute", self._after_statement),
        ):
            event.listen(connection, name, listener)

    def begin_step(self, before_commit: Callable[[], None]) -> None:
        """Start tracking the transaction of the next step.

        :param before_commit: called inside the transaction, before the revision commits it for the first time.
        """
        self._before_commit = before_commit
        self.is_own = self.committed = self.is_over = self.rolled_back = self.lost = self.has_written = False
        self.repeats = self.repeated = self._is_mixed = False

    @contextmanager
    def own(self) -> Iterator[None]:
        """Treat the statements in the body as Ampho's own, and not as the revision's."""
        before, self.is_own = self.is_own, True
        try:
            yield
        finally:
            self.is_own = before

    def notice_end(self, connection: Connection) -> None:
        """Detect that the transaction ended without firing an event, as happens after SQLite's ``executescript()``."""
        if connection.invalidated:  # using the connection would hide the exception that invalidated it
            return
        if connection.dialect.name == "sqlite" and not connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]  # never None here
            self.committed = self.is_over = True

    def _commit(self, connection: Connection) -> None:
        if self.is_own:
            return
        if self.repeats and not self._is_mixed:
            self.repeated = True
        elif not self.committed:
            try:
                with self.own():
                    self._before_commit()
            except BaseException:
                # SQLAlchemy considers the transaction ended even if the commit fails.
                connection.dialect.do_rollback(connection.connection)
                raise
            self.committed = True
        self.is_over = self.has_written = False

    def _rollback(self, connection: Connection) -> None:
        if self.is_own:
            return
        if not isinstance(sys.exc_info()[1], DBAPIError):  # some of these errors end SQLite's transaction
            self.notice_end(connection)
        self.rolled_back = True
        self.lost = self.lost or self.has_written
        self.is_over = self.has_written = False

    def _before_statement(self, connection: Connection, cursor: object, statement: str, *args: object) -> None:
        if self.is_own:
            return
        if self.watch is not None and (change := CHANGES_OBJECTS.match(statement)):
            self.watch(change)
        found = ENDS_TRANSACTION.match(statement)
        if found is None:
            return
        if found[1].upper() in ("COMMIT", "END"):
            self._commit(connection)
        else:
            self._rollback(connection)
            self.committed = True  # with some drivers, each later statement is committed immediately
        self.is_over = True

    def _after_statement(self, connection: Connection, cursor: object, statement: str, *args: object) -> None:
        if not self.is_own and not CHANGES_NOTHING.match(statement):
            # If the database cannot roll back DDL, a DDL statement also commits the statements before it.
            self.has_written = self._is_transactional or ROLLS_BACK.match(statement) is not None
            self._is_mixed = self._is_mixed or not self.repeats

    @contextmanager
    def repeatable(self) -> Iterator[None]:
        """Treat the statements and commits in the body as safe to repeat, if the step runs again from its start.

        As long as a step has committed nothing else, it counts as rolled back if it fails or is killed, so that the
        next run simply starts it again.
        """
        before, self.repeats = self.repeats, True
        try:
            yield
        finally:
            self.repeats = before
