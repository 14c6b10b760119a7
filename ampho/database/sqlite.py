"""Real transactions for the migrating connection on SQLite.

The driver commits before DDL, so a revision that failed halfway could not be rolled back completely. Therefore, the
driver's transaction handling is off during a migration, and BEGIN IMMEDIATE and COMMIT are executed as statements.
Foreign keys are not enforced during a migration, because rebuilding a parent table would delete the rows of its
children. They are checked before each commit.
"""

from __future__ import annotations

import copy
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from ampho.database.url import database_error
from ampho.errors import DatabaseError

if TYPE_CHECKING:
    from sqlalchemy.pool import PoolProxiedConnection

_LEAST_MS = 5000
_UNCHECKED = "ampho_unchecked"  # the key in a connection's information while its commits are not checked
_DANGLING = """
SELECT DISTINCT child.name, key."table" FROM sqlite_master AS child JOIN pragma_foreign_key_list(child.name) AS key
WHERE child.type = 'table' AND lower(key."table") NOT IN (SELECT lower(name) FROM sqlite_master WHERE type = 'table')
ORDER BY 1, 2
"""


def check_not_in_use(connection: Connection) -> None:
    """Check that the app has no open transaction on a connection, which may be the only one to an in-memory database.

    :raises DatabaseError: if the app has an open transaction, which stays open.
    """
    if getattr(connection.connection.dbapi_connection, "is_lent", False):
        return  # in a test, all connections share one transaction
    if _Dbapi(connection.connection).in_transaction:
        fairy: Any = connection.connection
        fairy._close_special(transaction_reset=True)  # noqa: SLF001 (close() would roll back that transaction)
        raise DatabaseError(
            "The database's only connection is inside one of the app's transactions. Commit or close the session before"
            " migrating, or use a database file instead of an in-memory database."
        )


def pragma(connection: Connection, name: str) -> Any:
    """Return the value of a pragma. This bypasses SQLAlchemy, which would take ten times as long as SQLite."""
    return _Dbapi(connection.connection).pragma(name)[0][0]


def query(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a statement, which no listener sees."""
    return [tuple(row) for row in _Dbapi(connection.connection).query(statement)]


def dangling_keys(connection: Connection) -> list[str]:
    """Return the foreign keys to tables that do not exist, in words such as ``the table shirts to colors``."""
    try:
        return [f"the table {table} to {target}" for table, target in _Dbapi(connection.connection).query(_DANGLING)]
    except (sqlite3.Error, DBAPIError):  # an error, for example while another process is writing, must not end the run
        return []


def is_locked(connection: Connection, patience: float) -> bool:
    """Return whether another process keeps the database locked for longer than ``patience`` seconds.

    :param connection: a connection from :func:`transactional`, outside of a transaction.
    """
    dbapi = _Dbapi(connection.connection)
    before = dbapi.pragma("busy_timeout")[0][0]
    dbapi.pragma(f"busy_timeout = {round(patience * 1000)}")
    try:
        dbapi.query("BEGIN IMMEDIATE")
        dbapi.query("ROLLBACK")
    except (sqlite3.Error, connection.dialect.loaded_dbapi.Error) as exc:
        return "locked" in str(exc)  # the migration's own transaction will raise any other error
    finally:
        dbapi.pragma(f"busy_timeout = {before}")
    return False


@contextmanager
def transactional(connection: Connection, patience: float | None = None) -> Iterator[Connection]:
    """Yield a connection whose transactions include DDL, on the same DBAPI connection.

    :param patience: the seconds to wait for the write lock; by default, the connection's timeout, but at least five.
    :raises DatabaseError: if the DBAPI connection is inside one of the app's transactions.
    """
    check_not_in_use(connection)
    dbapi = _Dbapi(connection.connection)
    try:
        restore = dbapi.prepare(patience)
        shadow = _shadow(connection, dbapi)
    except (sqlite3.Error, connection.dialect.loaded_dbapi.Error) as exc:
        connection.invalidate()
        raise database_error(exc, connection.engine.url) from exc
    try:
        yield shadow
    except BaseException:
        with suppress(Exception):  # the connection may be lost; the first error is the one to raise
            _restore(connection, shadow, restore)
        raise
    _restore(connection, shadow, restore)


def turn_off_transactions(connection: PoolProxiedConnection) -> Callable[[], None]:
    """Turn off the transaction handling of the driver, which commits before DDL; return a function that restores it."""
    return _Dbapi(connection).turn_off_transactions()


def _restore(connection: Connection, shadow: Connection, restore: Callable[[], None]) -> None:
    """Restore the DBAPI connection, or invalidate it if that fails."""
    try:
        if shadow.in_transaction():
            shadow.rollback()
        restore()
    except BaseException:
        connection.invalidate()
        raise


class _Dbapi:
    """The DBAPI connection of an SQLAlchemy connection: pysqlite's, or SQLAlchemy's adapter for aiosqlite."""

    def __init__(self, connection: PoolProxiedConnection) -> None:
        self._connection: Any = connection.dbapi_connection
        self._driver: Any = connection.driver_connection
        self.foreign_keys = False

    @property
    def in_transaction(self) -> bool:
        """Whether the connection is inside a transaction that may belong to the app.

        With ``autocommit=False``, a transaction is always open; it is empty unless the app is using the connection. The
        app can only be using it if the database is in memory, because such a database has a single connection.
        """
        if self._autocommit is False:
            return any(name == "main" and not file for _, name, file in self.pragma("database_list"))
        return bool(self._driver.in_transaction)

    def pragma(self, statement: str) -> Any:
        return self.query(f"PRAGMA {statement}")

    def query(self, statement: str) -> Any:
        cursor = self._connection.cursor()
        try:
            cursor.execute(statement)
            return cursor.fetchall()
        finally:
            cursor.close()

    def prepare(self, patience: float | None) -> Any:
        """Prepare the connection for a migration, and return a function that restores it."""
        restore_transactions = self.turn_off_transactions()
        busy_timeout = self.pragma("busy_timeout")[0][0]
        wait = max(busy_timeout, _LEAST_MS) if patience is None else round(patience * 1000)
        self.pragma(f"busy_timeout = {wait}")
        self.foreign_keys = bool(self.pragma("foreign_keys")[0][0])
        if self.foreign_keys:
            self.pragma("foreign_keys = OFF")

        def restore() -> None:
            if self.foreign_keys:
                self.pragma("foreign_keys = ON")
            self.pragma(f"busy_timeout = {busy_timeout}")
            restore_transactions()

        return restore

    def turn_off_transactions(self) -> Callable[[], None]:
        """Turn the driver's transaction handling off, and return a function that restores it."""
        autocommit = self._autocommit
        if autocommit is not None:
            # From Python 3.12 on; see "Transaction control via the autocommit attribute" in Python's documentation.
            self._in_its_thread(setattr, "autocommit", sqlite3.LEGACY_TRANSACTION_CONTROL)  # type: ignore[attr-defined,unused-ignore]
            self._connection.rollback()  # ends the empty transaction that autocommit=False opens
        isolation_level = self._connection.isolation_level
        self._connection.isolation_level = None

        def restore() -> None:
            self._connection.isolation_level = isolation_level
            if autocommit is not None:
                self._in_its_thread(setattr, "autocommit", autocommit)

        return restore

    @property
    def _autocommit(self) -> bool | None:
        """The value of ``sqlite3.Connection.autocommit``; None in legacy mode and before Python 3.12."""
        value = self._in_its_thread(getattr, "autocommit", -1)
        return value if isinstance(value, bool) else None

    def _in_its_thread(self, call: Callable[..., Any], *args: object) -> Any:
        return in_its_thread(self._driver, call, *args)


def in_its_thread(driver: Any, call: Callable[..., Any], *args: object) -> Any:
    """Call a function with the ``sqlite3.Connection``; with aiosqlite, in the thread of that connection.

    :param driver: the connection of the driver.
    """
    if isinstance(driver, sqlite3.Connection):
        return call(driver, *args)
    from sqlalchemy.util import await_only

    # aiosqlite has no public names for the method and the connection.
    return await_only(driver._execute(call, driver._conn, *args))  # noqa: SLF001


def _shadow(connection: Connection, dbapi: _Dbapi) -> Connection:
    """Return a connection with real transactions and without the app's listeners, on the same DBAPI connection.

    Other connections that a revision opens from its ``engine`` use the app's pool and the driver's transactions.
    """
    dialect = copy.copy(connection.dialect)
    dialect.set_isolation_level = _leave_isolation_level  # type: ignore[method-assign]  # only on this copy
    dialect.skip_autocommit_rollback = False
    app_engine = connection.engine
    pool = app_engine.pool
    if isinstance(pool, StaticPool | SingletonThreadPool):
        lent: Any = Lent(connection.connection.dbapi_connection)
        pool = StaticPool(lambda: lent, dialect=dialect)
    engine = Engine(pool, dialect, app_engine.url, echo=cast("bool", app_engine.echo), hide_parameters=True)
    shadow = Connection(engine, connection=connection.connection, _has_events=False)
    event.listen(shadow, "begin", _begin_immediate)
    if dbapi.foreign_keys:
        _check_foreign_keys(shadow, dbapi)
    return shadow


def _leave_isolation_level(dbapi_connection: object, level: object) -> None:
    """Do nothing. The dialect's own method would turn the driver's transaction handling back on."""


class Lent:
    """The only DBAPI connection of an in-memory database, lent to other code during a migration.

    The other code takes part in the migration's transaction, but cannot end it.
    """

    def __init__(self, connection: object) -> None:
        self._lent = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lent, name)

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...

    def terminate(self) -> None: ...


def _begin_immediate(connection: Connection) -> None:
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _check_foreign_keys(connection: Connection, dbapi: _Dbapi) -> None:
    """Make each commit raise an error if it would add foreign key violations."""
    before = [(_violations(dbapi), _tables(dbapi))]

    @event.listens_for(connection, "commit")
    def check(connection: Connection) -> None:
        if connection.info.get(_UNCHECKED):
            return
        now, tables = _violations(dbapi), _tables(dbapi)
        then, earlier = before[0]
        if now is None or then is None:
            return  # SQLite cannot check the schema, because a key refers to columns that are not unique
        moved = tables ^ earlier  # violations in a renamed table are not new
        added = _anonymous(now, moved) - _anonymous(then, moved)
        if added:
            broken = ", ".join(f"{child} to {parent}" for child, parent in sorted(now - then))
            cause = sqlite3.IntegrityError(f"rows that violate a foreign key: {broken}")
            raise IntegrityError("PRAGMA foreign_key_check", None, cause)
        before[0] = now, tables


@contextmanager
def unchecked(connection: Connection) -> Iterator[None]:
    """Do not check foreign keys if the body commits, because that reads whole tables; the next commit does."""
    connection.info[_UNCHECKED] = True
    try:
        yield
    finally:
        connection.info.pop(_UNCHECKED, None)


def _anonymous(violations: Counter[tuple[str, str]], moved: frozenset[str]) -> Counter[tuple[str | None, str | None]]:
    """Count violations, with None in place of the names of tables that were created or dropped."""
    counts: Counter[tuple[str | None, str | None]] = Counter()
    for (child, parent), count in violations.items():
        counts[None if child.lower() in moved else child, None if parent.lower() in moved else parent] += count
    return counts


def _tables(dbapi: _Dbapi) -> frozenset[str]:
    return frozenset(name.lower() for (name,) in dbapi.query("SELECT name FROM sqlite_master WHERE type = 'table'"))


def _violations(dbapi: _Dbapi) -> Counter[tuple[str, str]] | None:
    """Count the rows that violate a foreign key, by table and parent; return None if SQLite cannot check them."""
    try:
        return Counter((table, parent) for table, _, parent, _ in dbapi.pragma("foreign_key_check"))
    except (sqlite3.OperationalError, DBAPIError):
        return None
