"""A pool for an in-memory SQLite database, with one connection that it lends to one user at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

from sqlalchemy.exc import InvalidRequestError, TimeoutError  # noqa: A004 (what pools raise)
from sqlalchemy.pool import StaticPool
from sqlalchemy.util import await_only

from ampho.database.exclusive import is_inside

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
    from sqlalchemy.pool import ConnectionPoolEntry

_callers: WeakKeyDictionary[asyncio.Task[Any], asyncio.Task[Any] | None] = WeakKeyDictionary()
"""Maps each task that may use the connection on behalf of its caller to that caller."""

_REMEDY = "Commit, roll back, or close the other one first, or use a database file."


def treat_as_current(task: asyncio.Task[Any]) -> None:
    """Make pools treat a new task like the current one, which waits for it and may already be using the connection."""
    _callers[task] = asyncio.current_task()


def _current_user() -> asyncio.Task[object] | None:
    task = asyncio.current_task()
    return None if task is None else _callers.get(task, task)


class OneConnectionPool(StaticPool):
    """Lends the only connection of an in-memory database to one session or connection at a time.

    :class:`sqlalchemy.pool.StaticPool` lends it to several users at once. They then share a transaction, so the
    rollback of one user silently discards the changes of the others. That pool also closes the connection if its user
    is cancelled during a statement, for example because a client disconnects, and the in-memory database is lost.

    The users may belong to different event loops and threads, and garbage collection may return the connection at any
    time. Therefore no lock is held while users wait, and a user that is woken up tries again.

    :param timeout: the number of seconds to wait for the connection, which is the engine's ``pool_timeout``.
    """

    def __init__(self, creator: Callable[..., DBAPIConnection], timeout: float = 30.0, **options: Any) -> None:  # noqa: ANN401
        super().__init__(creator, **options)
        self._timeout = timeout
        self._turn = threading.Lock()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._user: asyncio.Task[object] | None = None
        self._is_of_a_run = False  # a run may use several tasks
        self._interrupted: DBAPIConnection | None = None

    def status(self) -> str:
        """Return a description of the pool for logs, with the number of connections in use."""
        return f"OneConnectionPool in use: {self.checkedout()}"

    def checkedout(self) -> int:
        """Return the number of connections in use: 0 or 1."""
        return int(self._turn.locked())

    def is_used_by_current_task(self) -> bool:
        """Return whether the current task is using the connection, so that waiting for it would never end."""
        return self._turn.locked() and self._user is _current_user()

    def recreate(self) -> OneConnectionPool:
        """Return a new pool with the same options, for an engine that was disposed of."""
        pool = cast("OneConnectionPool", super().recreate())
        pool._timeout = self._timeout  # noqa: SLF001 (of its own class)
        return pool

    def dispose(self) -> None:
        """Close the connection. The contents of the database are lost."""
        super().dispose()
        if self._interrupted is not None:
            interrupted, self._interrupted = self._interrupted, None
            self._close_connection(interrupted)

    def _do_get(self) -> ConnectionPoolEntry:
        self._take_turn()
        try:
            if self._interrupted is not None:
                self._resume(self._interrupted)
            return super()._do_get()
        except BaseException:
            self._end_turn()
            raise

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        super()._do_return_conn(record)
        self._end_turn()

    def _close_connection(self, connection: DBAPIConnection, *, terminate: bool = False) -> None:
        if terminate:
            self._interrupted = connection
        else:
            super()._close_connection(connection)

    def _resume(self, connection: DBAPIConnection) -> None:
        dialect = cast("Dialect", self._dialect)  # set when the engine first connects
        try:
            # These calls are queued behind the interrupted statement, and run when it ends.
            connection.rollback()
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error:
            pass  # The connection is lost, so SQLAlchemy connects again.
        else:
            self.connection.dbapi_connection = connection
        # This comes last, because the database would otherwise be lost if the calls above were cancelled.
        self._interrupted = None

    def _take_turn(self) -> None:
        user = _current_user()
        if not self._turn.acquire(blocking=False):
            if user is self._user or (self._is_of_a_run and is_inside()):
                raise InvalidRequestError(
                    "The in-memory SQLite database has one connection, which this task already uses in another "
                    f"session or connection. {_REMEDY}"
                )
            await_only(self._wait())
        self._user = user
        self._is_of_a_run = is_inside()

    async def _wait(self) -> None:
        deadline = time.monotonic() + self._timeout
        while not self._turn.acquire(blocking=False):
            patience = deadline - time.monotonic()
            if patience <= 0:
                raise TimeoutError(
                    "The in-memory SQLite database has one connection, and another session or connection was still "
                    f"using it after {self._timeout:g} seconds (pool_timeout in SQLALCHEMY_ENGINE_OPTIONS). {_REMEDY}"
                )
            woken = asyncio.get_running_loop().create_future()
            self._waiting.append(woken)
            try:
                if self._turn.locked():  # otherwise, the turn ended before the future was in the queue
                    await asyncio.wait([woken], timeout=patience)
            except asyncio.CancelledError:
                if not self._withdraw(woken):
                    self._wake_next()
                raise
            self._withdraw(woken)

    def _withdraw(self, woken: asyncio.Future[None]) -> bool:
        try:
            self._waiting.remove(woken)
        except ValueError:
            return False
        return True

    def _wake_next(self) -> None:
        while self._waiting:
            woken = self._waiting.popleft()
            # The loop of a waiting user may be closed.
            with suppress(RuntimeError):
                woken.get_loop().call_soon_threadsafe(_wake, woken)
                return

    def _end_turn(self) -> None:
        self._user = None
        self._turn.release()
        self._wake_next()


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
