"""DDL that could not get its lock, executed again on databases that cannot run its step again.

MariaDB and MySQL commit each DDL statement, so a step that has executed one cannot start from its beginning. But a
statement that timed out while it waited for a lock has changed nothing, and holds no lock during the pause.

While a statement waits, later transactions of the app wait behind it, and MariaDB ends those that have read the table
and then write to it, as a deadlock. So on MariaDB, a statement first tries to get its lock without waiting.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from ampho.database.lock import is_lock_timeout, pause
from ampho.database.transaction import TRANSACTIONAL

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, ExecutionContext

_DDL = re.compile(r"(?:\s+|--[^\n]*|/\*.*?\*/)*(?:ALTER|CREATE|DROP|RENAME|TRUNCATE)\b", re.IGNORECASE | re.DOTALL)
_TRYING = 5.0  # seconds
_TICK = 0.02  # seconds; the transactions of an app rarely take longer
_LONG = 0.5  # seconds; a statement that failed after more than that has done work, which it would do again


@contextmanager
def repeating_ddl(
    connection: Connection,
    may_wait: Callable[[], bool],
    may_repeat: Callable[[BaseException], bool],
    executed: Callable[[], None],
) -> Iterator[None]:
    """Let the DDL statements of a connection be executed again, if the database commits each of them.

    :param may_wait: returns whether the lock of a statement may become free while the statement is tried again.
    :param may_repeat: called with the driver's error; pauses, and returns whether to execute the statement again.
    :param executed: called after each DDL statement.
    """
    if connection.dialect.name in TRANSACTIONAL:
        yield
        return

    def execute(cursor: Any, statement: str, parameters: Any, context: ExecutionContext) -> bool:  # noqa: ANN401 (the driver's)
        if context.root_connection is not connection or not _DDL.match(statement):
            return False
        run = partial(connection.dialect.do_execute, cursor, statement, parameters, context)
        while True:
            try:
                if not (may_wait() and _runs_at_once(connection, run)):
                    run()
            except Exception as exc:  # the driver's own, which SQLAlchemy has not wrapped here
                if not may_repeat(exc):
                    raise
            else:
                executed()
                return True

    event.listen(connection.engine, "do_execute", execute)
    try:
        yield
    finally:
        event.remove(connection.engine, "do_execute", execute)


def _runs_at_once(connection: Connection, run: Callable[[], object]) -> bool:
    """Try a statement of MariaDB for some seconds, without waiting for its lock; return whether it was executed."""
    if not getattr(connection.dialect, "is_mariadb", False):
        return False
    deadline = time.monotonic() + _TRYING
    with _not_waiting(connection):
        while True:
            begun = time.monotonic()
            try:
                run()
            except Exception as exc:  # the driver's own, too
                if not is_lock_timeout(exc):
                    raise
            else:
                return True
            now = time.monotonic()
            if now - begun > _LONG or now > deadline:
                return False
            pause(connection, _TICK)


@contextmanager
def _not_waiting(connection: Connection) -> Iterator[None]:
    """Let each DDL statement in the body fail at once if it cannot get its lock."""
    cursor: Any = connection.connection.cursor()
    try:
        cursor.execute("SELECT @@SESSION.lock_wait_timeout")
        (before,) = cursor.fetchone()
        cursor.execute("SET SESSION lock_wait_timeout = 0")
        try:
            yield
        finally:
            with suppress(Exception):  # if the connection is lost, the error of the statement says so
                cursor.execute(f"SET SESSION lock_wait_timeout = {before:d}")
    finally:
        cursor.close()
