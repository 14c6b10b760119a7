"""The lock that keeps other processes from migrating the same database, and how long statements wait for other locks.

The migrating connection holds the lock, because a lock on another connection could be released while a migration runs.
PostgreSQL's advisory lock and MariaDB's named lock belong to the session. They outlive transactions, and end with the
connection, however it ends. Ampho polls them, and each attempt is a transaction of its own, because a process that
waited while holding a snapshot would block ``CREATE INDEX CONCURRENTLY`` forever. SQLite only allows one writer at a
time, so on SQLite, each step checks whether another process has migrated the database since the last step.
"""

from __future__ import annotations

import hashlib
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import BigInteger, bindparam, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ampho.database.pooler import check_pooler, drivers_pid
from ampho.database.schema import schema_of
from ampho.errors import LockError, LockTimeoutError
from ampho.settings import LOCK, LOCK_TIMEOUT

if TYPE_CHECKING:
    from sqlalchemy import Row, TextClause
    from sqlalchemy.engine import Connection, Engine

    from ampho.settings import Settings

_POLL_SECONDS = 0.2
_KEY = bindparam("key", type_=BigInteger)
_LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL's SQLSTATE
_LOCK_WAIT_TIMEOUT = 1205  # the error number of MariaDB and MySQL
_PUBLIC = "public"


@contextmanager
def locked(connection: Connection, settings: Settings, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the database's lock while the body runs.

    :param connection: the migrating connection, outside of a transaction.
    :param waiting: called with a description of the process that holds the lock, if there is one.
    :raises LockError: if the lock cannot be acquired in time, or does not exist, or is useless behind a pooler.
    """
    lock = _lock_of(connection, settings)
    if lock is None:
        yield
        return
    _acquire(lock, settings, waiting)
    try:
        yield
    finally:
        _release(lock)


def holder(connection: Connection, settings: Settings) -> str | None:
    """Return a description of the process that holds the database's lock; an empty string if the lock is free.

    :return: None if this cannot be determined, as on SQLite.
    """
    with suppress(LockError, SQLAlchemyError), _invalidated_on_failure(connection):
        connection.rollback()
        lock = _lock_of(connection, settings)
        return None if lock is None else lock.holder()
    return None


@contextmanager
def patient(connection: Connection, settings: Settings) -> Iterator[None]:
    """Limit how long statements wait for a lock on a table or row, if the database supports that.

    MariaDB and MySQL count in whole seconds. SQLite only has one lock, which the migrating connection already holds.

    :param connection: the migrating connection, outside of a transaction.
    """
    limit = LIMITS.get(connection.dialect.name)
    if settings.statement_lock_timeout is None or limit is None or connection.dialect.name == "sqlite":
        yield
        return
    before = connection.exec_driver_sql(limit.read).one()
    connection.exec_driver_sql(limit.write.format(*[limit.convert(settings.statement_lock_timeout)] * 2))
    connection.commit()
    try:
        yield
    finally:
        if not (connection.closed or connection.invalidated):
            with _invalidated_on_failure(connection):
                connection.rollback()
                connection.exec_driver_sql(limit.write.format(*before))
                connection.commit()


@dataclass(frozen=True, slots=True)
class Limit:
    """The statements that read and set a connection's lock timeout.

    :ivar read: the query for the timeout, which returns one row.
    :ivar write: the statement that sets the timeout, with placeholders for the values of such a row.
    :ivar convert: converts seconds to such a value.
    """

    read: str
    write: str
    convert: Callable[[float], object]


LIMITS: Mapping[str, Limit] = {
    "sqlite": Limit("PRAGMA busy_timeout", "PRAGMA busy_timeout = {0}", lambda seconds: round(seconds * 1000)),
    "postgresql": Limit(
        "SELECT current_setting('lock_timeout')",
        "SET lock_timeout = '{0}'",
        lambda seconds: f"{round(seconds * 1000)}ms",
    ),
    **dict.fromkeys(
        ("mysql", "mariadb"),
        Limit(
            "SELECT @@SESSION.lock_wait_timeout, @@SESSION.innodb_lock_wait_timeout",
            "SET SESSION lock_wait_timeout = {0}, SESSION innodb_lock_wait_timeout = {1}",
            math.ceil,
        ),
    ),
}


def was_refused_a_lock(error: BaseException) -> bool:
    """Return whether a statement was cancelled because it waited too long for a lock."""
    return isinstance(error, DBAPIError) and is_lock_timeout(error.orig)


def is_lock_timeout(error: BaseException | None) -> bool:
    """Return whether an error of a driver says that a statement waited too long for a lock."""
    return has_code(error, _LOCK_NOT_AVAILABLE, _LOCK_WAIT_TIMEOUT)


def has_code(error: BaseException | None, *codes: str | int) -> bool:
    """Return whether an error of a driver has one of these SQLSTATEs or error numbers."""
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    number = error.args[0] if error is not None and error.args else None
    return state in codes or number in codes


def _acquire(lock: _Lock, settings: Settings, waiting: Callable[[str], None]) -> None:
    deadline = time.monotonic() + settings.lock_timeout
    reported: str | None = None
    while not lock.try_acquire():
        holder = lock.holder()
        lock.connection.rollback()
        left = deadline - time.monotonic()
        if left <= 0:
            raise LockTimeoutError(
                f"Timed out after {settings.lock_timeout:g} s waiting for another migration of this database"
                f"{holder and f' ({holder})'}. Wait for it to finish, stop it, or raise {LOCK_TIMEOUT}. This command"
                " changed nothing.",
                holder=holder,
            )
        if holder != reported:
            waiting(holder)
            reported = holder
        pause(lock.connection, min(left, _POLL_SECONDS * random.uniform(0.5, 1.5)))  # noqa: S311 (random, so that processes do not all try at once)


def _release(lock: _Lock) -> None:
    """Release the lock. If that fails, close the connection, which also releases the lock."""
    connection = lock.connection
    if connection.closed or connection.invalidated:
        return
    with _invalidated_on_failure(connection):
        connection.rollback()
        released = lock.release()
        connection.rollback()
        if not released:
            connection.invalidate()


@contextmanager
def _invalidated_on_failure(connection: Connection) -> Iterator[None]:
    """Invalidate a connection, and suppress the error, if the body fails to restore it."""
    try:
        yield
    except BaseException as exc:
        connection.invalidate()
        if not isinstance(exc, Exception):
            raise


def pause(connection: Connection | Engine, seconds: float) -> None:
    """Sleep, without blocking the event loop of an async connection or engine."""
    if not connection.dialect.is_async:
        time.sleep(seconds)
        return
    import anyio
    from sqlalchemy.util import await_only

    await_only(anyio.sleep(seconds))


def import_alembic(connection: Connection) -> None:
    """Import Alembic without blocking the event loop of an async connection; the import is slower than most runs."""
    name = "ampho.migrate.alembic"
    if connection.dialect.is_async and name not in sys.modules:
        import asyncio

        from sqlalchemy.util import await_only

        await_only(asyncio.to_thread(import_module, name))


class _Lock:
    """A database's lock, and the connection that acquires it."""

    TRY: ClassVar[TextClause]
    FREE: ClassVar[TextClause]
    HOLDER: ClassVar[TextClause]

    def __init__(self, connection: Connection, **parameters: object) -> None:
        self.connection = connection
        self._parameters = parameters

    def try_acquire(self) -> bool:
        """Acquire the lock if it is free, and return whether that succeeded."""
        acquired = self.connection.execute(self.TRY, self._parameters).scalar()
        self.connection.rollback()
        if acquired is None:  # GET_LOCK() returns NULL after an error
            raise LockError(
                "The database could not acquire a lock with GET_LOCK(). Check the server's log, or set"
                f" {LOCK} to False if only one process migrates this database."
            )
        return bool(acquired)

    def release(self) -> bool:
        """Release the lock, and return whether this connection held it."""
        return bool(self.connection.execute(self.FREE, self._parameters).scalar())

    def holder(self) -> str:
        """Return a description of the process that holds the lock; an empty string if the lock is free."""
        row = self.connection.execute(self.HOLDER, self._parameters).first()
        return "" if row is None else self._describe(row)

    @staticmethod
    def _describe(row: Row[Any]) -> str:
        return "connection {}, {}@{}".format(*row)


def mariadb_lock(database: str) -> str:
    """Return the name of the lock of a database on MariaDB, which is short, and unique among those on the server."""
    return f"ampho_{hashlib.blake2b(database.encode(), digest_size=16).hexdigest()}"


class _MariaDBLock(_Lock):
    TRY = text("SELECT GET_LOCK(:name, 0)")
    FREE = text("SELECT RELEASE_LOCK(:name)")
    HOLDER = text("SELECT id, user, host FROM information_schema.processlist WHERE id = IS_USED_LOCK(:name)")

    def __init__(self, connection: Connection) -> None:
        database = connection.execute(text("SELECT DATABASE()")).scalar()
        connection.rollback()
        super().__init__(connection, name=mariadb_lock(str(database)))


class _PostgresLock(_Lock):
    TRY = text("SELECT pg_try_advisory_lock(:key)").bindparams(_KEY)
    FREE = text("SELECT pg_advisory_unlock(:key)").bindparams(_KEY)
    HOLDER = text(
        "SELECT a.pid, a.usename, a.client_addr, a.application_name, a.backend_start FROM pg_locks l"
        " JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.granted"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (l.classid::bigint << 32) + l.objid::bigint = :key AND l.objsubid = 1"
    ).bindparams(_KEY)

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, key=_key(schema_of(connection)))
        pid, version = connection.execute(text("SELECT pg_backend_pid(), version()")).one()
        connection.rollback()
        if "CockroachDB" in version:
            raise _no_lock("CockroachDB")
        if drivers_pid(connection.connection.driver_connection) not in (None, pid):
            check_pooler(connection, "no lock can protect the migration")

    @staticmethod
    def _describe(row: Row[Any]) -> str:
        if row.backend_start is None:  # PostgreSQL shows this column only to the same role and to monitoring roles
            return f"pid {row.pid}, {row.usename}"
        program = f" ({row.application_name})" if row.application_name else ""
        return (
            f"pid {row.pid}, {row.usename}@{row.client_addr or 'localhost'}{program}, connected since"
            f" {row.backend_start:%Y-%m-%d %H:%M:%S %Z}"
        )


def _key(schema: str | None) -> int:
    """Return the key of the lock of a PostgreSQL schema; None is the schema that the app's own connections use.

    ``public`` has the same key as None, because it almost always is that schema.
    """
    name = "ampho" if schema in (None, _PUBLIC) else f"ampho:{schema}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def _lock_of(connection: Connection, settings: Settings) -> _Lock | None:
    """Return the lock of a database; None on SQLite, or if the settings disable it."""
    name = connection.dialect.name
    if name == "sqlite" or not settings.lock:
        return None
    if name == "postgresql":
        return _PostgresLock(connection)
    if name in ("mysql", "mariadb"):
        return _MariaDBLock(connection)
    raise _no_lock(name)


def _no_lock(name: str) -> LockError:
    return LockError(
        f"Ampho cannot lock {name}, so it cannot keep two processes from migrating this database at the same time. If"
        f" you prevent that yourself, set {LOCK} to False."
    )
