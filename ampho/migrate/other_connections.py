"""The connections that a revision opens besides the migrating connection, for example through the app's session.

Such a connection may need a lock that the migrating connection holds, or the other way around. No database detects
that deadlock, because the connection with the lock is idle: the code of the revision is blocked in the statement that
waits. So while such a connection is open, statements on both connections wait for locks for only a few seconds. This
does not affect connections to other databases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

from ampho.database.engine import WHICH_DATABASE
from ampho.database.exclusive import is_inside
from ampho.database.lock import LIMITS, Limit, was_refused_a_lock

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.pool import ConnectionPoolEntry

    from ampho.settings import Settings

_PATIENCE = 5.0  # seconds
_ONLY_ONE = "in-memory SQLite database has one connection"  # part of an error from AsyncSQLAlchemy
HINT = (
    "the revision opened another connection besides op.get_bind(), and the two are waiting for each other: use only"
    " op.get_bind(), or Session(op.get_bind())"
)


class OtherConnections:
    """Watches for connections that the revisions of a run open.

    :param connection: the migrating connection.
    """

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._migrating = connection
        self._limit = LIMITS.get(connection.dialect.name)
        self._seconds = min(_PATIENCE, settings.statement_lock_timeout or _PATIENCE)
        self._before: Sequence[object] | None = None
        self._is_in_step = False
        self._opened_here: list[ConnectionPoolEntry] = []
        event.listen(connection, "before_cursor_execute", self._end_limit)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the connections that are checked out of any pool while the body runs."""
        global _watching  # noqa: PLW0603 (a process has one run at a time)
        _watching = self
        try:
            yield
        finally:
            _watching = None
            self.end_step()

    def begin_step(self) -> None:
        """Start watching the connections of a revision."""
        self._is_in_step = True

    def end_step(self) -> None:
        """Stop watching, and restore the lock timeout of the migrating connection."""
        self._is_in_step = False
        self._forget()

    def _forget(self) -> None:
        self._opened_here.clear()
        if self._before is None or self._limit is None or self._migrating.closed or self._migrating.invalidated:
            return
        values, self._before = self._before, None
        with suppress(Exception):  # if the connection no longer works, it is not used again
            _execute(self._raw, self._limit.write.format(*values))
            if not self._migrating.in_transaction():
                self._raw.commit()

    @property
    def has_open(self) -> bool:
        """Whether the revision has opened other connections to the same database, and not closed them."""
        return any(entry.in_use for entry in self._opened_here)

    def are_waited_for(self, exc: BaseException) -> bool:
        """Return whether a statement waited for a lock while the revision had another connection open."""
        words = str(exc)
        return _ONLY_ONE in words or (bool(self._opened_here) and (was_refused_a_lock(exc) or "is locked" in words))

    @property
    def _raw(self) -> Any:  # noqa: ANN401 (a connection of any driver)
        return self._migrating.connection.dbapi_connection

    def opened(self, raw: Any, entry: ConnectionPoolEntry, proxy: Any) -> None:  # noqa: ANN401
        """Limit how long a revision's new connection to the same database waits for locks."""
        if not self._is_in_step or self._migrating.closed:
            return
        if raw is self._raw:
            from ampho.database.sqlite import Lent

            proxy.dbapi_connection = Lent(raw)
        elif self._limit is not None and proxy._pool._dialect.name == self._migrating.dialect.name:  # noqa: SLF001
            if self._is_elsewhere(raw):
                return
            self._opened_here.append(entry)
            entry.invalidate(soft=True)  # so that the connection is not reused with this limit
            self._limit_waiting(raw, self._limit)

    def _is_elsewhere(self, raw: Any) -> bool:  # noqa: ANN401
        """Return whether a new connection leads to a different database, by asking both servers."""
        query = WHICH_DATABASE[self._migrating.dialect.name]
        with suppress(Exception):
            here, there = (tuple(_execute(each, query)) for each in (self._raw, raw))
            if here != there:
                raw.rollback()
                return True
        return False

    def _end_limit(self, *args: object) -> None:
        """End the limit before a statement of the step if the revision has closed its other connections."""
        if self._opened_here and not self.has_open:
            self._forget()

    def _limit_waiting(self, raw: Any, limit: Limit) -> None:  # noqa: ANN401
        """Limit how long both connections wait for locks, because each may wait for the other."""
        hurry = limit.write.format(*[limit.convert(self._seconds)] * 2)
        with suppress(Exception):
            _execute(raw, hurry)
            raw.commit()
            if self._before is None:
                self._before = _execute(self._raw, limit.read)
                _execute(self._raw, hurry)


_watching: OtherConnections | None = None


def are_open() -> bool:
    """Return whether the running revision has other connections to the same database open."""
    return _watching is not None and _watching.has_open


# This listener is never removed, because other threads iterate over the listeners while they check connections out.
@event.listens_for(Pool, "checkout")
def _checked_out(raw: Any, entry: ConnectionPoolEntry, proxy: Any) -> None:  # noqa: ANN401
    watching = _watching  # a local copy, because another thread may end the run
    if watching is not None and is_inside():
        watching.opened(raw, entry, proxy)


def _execute(raw: Any, statement: str) -> Sequence[object]:  # noqa: ANN401
    """Execute a statement without SQLAlchemy, which would begin a transaction for it, and return the first row."""
    cursor = raw.cursor()
    try:
        cursor.execute(statement)
        row: Sequence[object] = cursor.fetchone() if cursor.description else ()
        return row
    finally:
        cursor.close()
