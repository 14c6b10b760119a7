"""The transaction of a step, which its revision may end on its own.

Alembic then writes the version row into the next transaction, and commits the one that is over: where no other revision
follows, the row is lost. This module tracks who ended what, so that the row and the journal are always committed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from ampho.history.sql import CHANGES_NOTHING, ENDS_TRANSACTION, ROLLS_BACK

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

TRANSACTIONAL = ("sqlite", "postgresql")
"""The dialects of the databases that can roll back what changes the schema."""


class StepTransaction:
    """Follows the transaction of each step on the connection that migrates.

    :param before_commit: called when a revision is about to commit on its own, for the first time in its step, and in
        the transaction that is committed then.
    :ivar is_own: whether what ends the transaction now is Ampho or Alembic, and not the revision.
    :ivar committed: whether something of the step is committed before its end.
    :ivar is_over: whether a statement has ended the transaction without SQLAlchemy noticing.
    :ivar rolled_back: whether the revision has rolled back.
    :ivar lost: whether that undid something that the revision had done.
    """

    is_own: bool
    committed: bool
    is_over: bool
    rolled_back: bool
    lost: bool

    def __init__(self, connection: Connection, before_commit: Callable[[], None]) -> None:
        self._before_commit = before_commit
        self._is_transactional = connection.dialect.name in TRANSACTIONAL
        self.begin_step()
        self.is_own = True
        for name, listener in (
            ("commit", self._commit),
            ("rollback", self._rollback),
            ("before_cursor_execute", self._before_statement),
            ("after_cursor_execute", self._after_statement),
        ):
            event.listen(connection, name, listener)

    def begin_step(self) -> None:
        """Follow the transaction of the next step."""
        self.is_own = self.committed = self.is_over = self.rolled_back = self.lost = self._has_written = False

    @contextmanager
    def own(self) -> Iterator[None]:
        """Ignore what is executed meanwhile: it is not the revision's."""
        before, self.is_own = self.is_own, True
        try:
            yield
        finally:
            self.is_own = before

    def look(self, connection: Connection) -> None:
        """Notice that the transaction has ended without an event, as after SQLite's ``executescript()``."""
        if connection.invalidated:  # as a cancelled task leaves it; another error must not hide that
            return
        if connection.dialect.name == "sqlite" and not connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]  # which is open
            self.committed = self.is_over = True

    def _commit(self, connection: Connection) -> None:
        if self.is_own:
            return
        if not self.committed:
            with _rolling_back(connection), self.own():
                self._before_commit()
        self.committed = True
        self.is_over = self._has_written = False

    def _rollback(self, connection: Connection) -> None:
        if self.is_own:
            return
        if not isinstance(sys.exc_info()[1], DBAPIError):  # of which some end a transaction of SQLite
            self.look(connection)
        self.rolled_back = True
        self.lost = self.lost or self._has_written
        self.is_over = self._has_written = False

    def _before_statement(self, connection: Connection, cursor: object, statement: str, *args: object) -> None:
        found = None if self.is_own else ENDS_TRANSACTION.match(statement)
        if found is None:
            return
        if found[1].upper() in ("COMMIT", "END"):
            self._commit(connection)
        else:
            self._rollback(connection)
            self.committed = True  # with some drivers each statement after it is committed at once
        self.is_over = True

    def _after_statement(self, connection: Connection, cursor: object, statement: str, *args: object) -> None:
        if not self.is_own and not CHANGES_NOTHING.match(statement):
            # Where DDL cannot be rolled back, it commits what came before it.
            self._has_written = self._is_transactional or ROLLS_BACK.match(statement) is not None


@contextmanager
def _rolling_back(connection: Connection) -> Iterator[None]:
    """Roll back at once where a commit fails, since SQLAlchemy takes it for the end of the transaction."""
    try:
        yield
    except BaseException:
        connection.dialect.do_rollback(connection.connection)
        raise
