"""Roll back everything that a test does, although its sessions commit."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Self, cast

from sqlalchemy import event
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.pool import NullPool
from sqlalchemy.util import greenlet_spawn

from ampho.database.redirect import Creator, Led, Used, is_led, loop_of, wait_in
from ampho.errors import DatabaseError

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

    from sqlalchemy import URL
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
    from sqlalchemy.pool import Pool, PoolProxiedConnection

_BEGIN = re.compile(r"\s*(BEGIN|START\s+TRANSACTION)\b", re.IGNORECASE)
_NOTHING = {"sqlite": "SELECT 1 WHERE 0", "mysql": "DO 0", "mariadb": "DO 0"}
"""The statements that replace ``BEGIN``, which an app's listener may execute."""

_COMMITS = re.compile(
    r"\s*((ALTER|CREATE|DROP)(?!\s+TEMPORARY)|TRUNCATE|RENAME|GRANT|REVOKE|LOCK\s+TABLES|ANALYZE|OPTIMIZE)\b",
    re.IGNORECASE,
)
"""The statements before which MariaDB and MySQL commit."""

_REMEDY = "Use the fixture ampho_database for this test."


class in_one_transaction(Led):  # noqa: N801 (it is used like a function)
    """Puts everything that an engine executes into one transaction, which is rolled back at the end.

    All connections of the engine share one connection of the driver. A commit cannot be rolled back by the app
    afterwards, but it does not end the transaction. A rollback goes back to the last commit, or to the begin of the
    app's own transaction if that is later. A connection with the isolation level ``AUTOCOMMIT`` commits when it is
    returned. Other isolation levels have no effect. On MariaDB and MySQL, DDL raises an error, because it commits.

    Sequences and other counters are not rolled back, and deferred constraints are never checked.

    :param engine: an engine that is :class:`redirected <ampho.database.redirect.redirected>`. Its pool keeps the
        connection for the next test.
    :param transactions: the transactions of all engines for the same database, each of which has an event loop.
    :raises DatabaseError: at the end, if a statement such as ``COMMIT`` ended the transaction.
    """

    def __init__(self, engine: Engine, transactions: list[Transaction] | None = None) -> None:
        super().__init__(engine)
        if not is_led(engine):
            raise RuntimeError("The transaction would be in the app's own database. Redirect the engine first.")
        self._transactions: list[Transaction] = []
        self._all_transactions = [] if transactions is None else transactions
        self._patches = ExitStack()

    def __enter__(self) -> Self:
        super().__enter__()
        _patch_isolation_level(self.engine.dialect, self._patches)
        if self.engine.dialect.name in _NOTHING:
            _listen(self.engine, self._patches)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._patches:
            super().__exit__(kind, error, traceback)

    def _new_pool(self, pool: Pool) -> tuple[Pool, URL]:
        self._pool = pool
        lending = NullPool(
            Creator(self._lend, pool),
            dialect=self.engine.dialect,
            echo=pool.echo,
            reset_on_return=pool._reset_on_return,  # noqa: SLF001
        )
        _copy_listeners(pool, lending)
        self._used = Used(self.engine, lending, waits=False)
        return lending, self.engine.url

    def _lend(self) -> Any:  # noqa: ANN401 (Lent has the attributes of any driver's connection)
        loop = loop_of(self.engine)
        for transaction in self._transactions:
            if transaction.loop is loop:
                return transaction.lend()
        if any(transaction.has_commits for transaction in self._all_transactions):
            raise DatabaseError(
                "This test wrote to the database in another event loop, which has a transaction of its own. Use one"
                f" event loop for the test and its fixtures. {_REMEDY}"
            )
        transaction = Transaction(self._pool.connect(), self.engine.dialect, loop)
        self._transactions.append(transaction)
        self._all_transactions.append(transaction)
        return transaction.lend()

    def _close(self) -> None:
        with ExitStack() as stack:
            stack.callback(self._used.close)
            stack.callback(self._used.pause)
            for transaction in self._transactions:
                stack.callback(transaction.finish)


class Transaction:
    """A transaction of one connection of the driver, in which the transactions of the app are savepoints.

    ``ampho_0`` is the savepoint of the last commit. If a transaction of the app begins during another one, it has a
    savepoint of its own.

    :ivar autocommits: whether the engine commits each statement by default.
    :ivar loop: the event loop of the connection.
    :ivar has_commits: whether the app has committed anything.
    """

    def __init__(
        self, connection: PoolProxiedConnection, dialect: Dialect, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        self._connection = connection
        self._dialect = dialect
        self._begun: list[Lent] = []  # in this order
        self._restore: Callable[[], None] = lambda: None
        self._ended = False
        self.loop: asyncio.AbstractEventLoop | None = loop
        self.has_commits: bool = False
        self.dbapi_connection: DBAPIConnection = cast("DBAPIConnection", connection.dbapi_connection)
        self.autocommits: bool = dialect.detect_autocommit_setting(self.dbapi_connection)
        self._start()

    def _start(self) -> None:
        if self._dialect.name == "sqlite":
            from ampho.database.sqlite import turn_off_transactions

            self._restore = turn_off_transactions(self._connection)
        elif self.autocommits:
            level = self._dialect.default_isolation_level
            level = "READ COMMITTED" if level in (None, "AUTOCOMMIT") else level
            self._set_isolation_level(level)
            self._restore = partial(self._set_isolation_level, "AUTOCOMMIT")
        if self._dialect.name in _NOTHING:
            self._run("BEGIN")
        self._run("SAVEPOINT ampho_0")

    def _set_isolation_level(self, level: Any) -> None:  # noqa: ANN401 (SQLAlchemy has a Literal of all levels)
        self._dialect.set_isolation_level(self.dbapi_connection, level)

    def lend(self) -> DBAPIConnection:
        """Return the connection for a connection of the app."""
        return cast("DBAPIConnection", Lent(self))

    def begin(self, lent: Lent) -> None:
        """Begin a transaction of the app."""
        if lent in self._begun or self._ended:
            return
        lent.savepoint = max((other.savepoint + 1 for other in self._begun), default=0)
        if lent.savepoint:
            try:
                self._run(f"SAVEPOINT ampho_{lent.savepoint}")
            except self._dialect.loaded_dbapi.Error:
                # On PostgreSQL, a statement of the other transaction failed, so that it can only be rolled back.
                self.rollback(self._begun[-1])
                self.begin(lent)
                return
        self._begun.append(lent)

    def commit(self, lent: Lent) -> None:
        """Commit a transaction of the app, together with everything else that was executed until now."""
        if self._end(lent):
            self._run_or_explain("RELEASE SAVEPOINT ampho_0")
            self._run("SAVEPOINT ampho_0")
            self.has_commits = True
            for other in self._begun:
                other.savepoint = 0

    def rollback(self, lent: Lent) -> None:
        """Roll a transaction of the app back."""
        if self._end(lent):
            self._run_or_explain(f"ROLLBACK TO SAVEPOINT ampho_{lent.savepoint}")
            for other in self._begun:
                other.savepoint = min(other.savepoint, lent.savepoint)

    def _end(self, lent: Lent) -> bool:
        if self._ended or lent not in self._begun:
            return False
        self._begun.remove(lent)
        return True

    def finish(self) -> None:
        """Roll everything back, and return the connection to the pool. If that is impossible, close the connection."""
        self._ended = True
        if not self._dialect.is_async:
            self._finish()
        elif self._connection.is_valid:
            self._finish_in_loop()

    def _finish_in_loop(self) -> None:
        import asyncio

        if self.loop is None:
            with asyncio.Runner() as runner:
                runner.run(greenlet_spawn(self._finish))
        else:
            wait_in(self.loop, partial(greenlet_spawn, self._finish))

    def _finish(self) -> None:
        try:
            self._run_or_explain("ROLLBACK TO SAVEPOINT ampho_0")
            self.dbapi_connection.rollback()
            self._restore()
        except BaseException:
            self._connection.invalidate()
            raise
        self._connection.close()

    def _run_or_explain(self, statement: str) -> None:
        try:
            self._run(statement)
        except self._dialect.loaded_dbapi.Error as error:
            raise DatabaseError(
                f"The transaction of the test was ended by a statement such as COMMIT, or by an error ({error})."
                f" {_REMEDY}"
            ) from error

    def _run(self, statement: str) -> None:
        cursor = self.dbapi_connection.cursor()
        try:
            cursor.execute(statement)
        finally:
            cursor.close()


class Lent:
    """The connection of a transaction, lent to one connection of the app. It behaves like a connection of the driver.

    :ivar autocommits: whether this connection commits each statement.
    :ivar savepoint: the number of the savepoint at which its transaction began.
    """

    is_lent: bool = True

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.autocommits: bool = transaction.autocommits
        self.savepoint: int = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (the driver's)
        return getattr(self._transaction.dbapi_connection, name)

    # The methods of a connection of the driver.
    # ruff: noqa: D102
    def cursor(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 (the driver's)
        self._transaction.begin(self)
        return self._transaction.dbapi_connection.cursor(*args, **options)

    def commit(self) -> None:
        self._transaction.commit(self)

    def rollback(self) -> None:
        if self.autocommits:
            self._transaction.commit(self)
        else:
            self._transaction.rollback(self)

    def close(self) -> None:
        self.rollback()

    def terminate(self) -> None:
        with suppress(MissingGreenlet):  # the connection is garbage
            self.rollback()


def _copy_listeners(pool: Pool, new: Pool) -> None:
    """Copy the listeners of a pool, except those for new connections, which prepared the connection that is lent."""
    dispatch: Any = pool.dispatch
    for listeners in dispatch._event_descriptors:  # noqa: SLF001
        if listeners.listeners and listeners.name not in ("connect", "first_connect"):
            getattr(new.dispatch, listeners.name).for_modify(new.dispatch)._update(listeners, only_propagate=False)  # noqa: SLF001


def _patch_isolation_level(dialect: Dialect, stack: ExitStack) -> None:
    """Make a dialect set the isolation level of lent connections without changing that of the connection itself."""
    original = dialect.set_isolation_level

    def set_isolation_level(dbapi_connection: object, level: Any) -> None:  # noqa: ANN401
        if isinstance(dbapi_connection, Lent):
            dbapi_connection.autocommits = level == "AUTOCOMMIT"
        else:
            original(dbapi_connection, level)  # type: ignore[arg-type]

    vars(dialect)["set_isolation_level"] = set_isolation_level
    stack.callback(vars(dialect).pop, "set_isolation_level", None)


def _listen(engine: Engine, stack: ExitStack) -> None:
    """Handle the statements that would begin another transaction, or commit."""
    nothing = _NOTHING[engine.dialect.name]
    commits = engine.dialect.name != "sqlite"

    def replace(connection: Connection, cursor: object, statement: str, *args: object) -> tuple[str, object]:
        if _BEGIN.match(statement):
            lent = connection.connection.dbapi_connection
            if isinstance(lent, Lent):
                lent.autocommits = False
                return nothing, args[0]
        if commits and _COMMITS.match(statement):
            raise DatabaseError(
                f"{engine.dialect.name} commits at {statement.split(maxsplit=1)[0].upper()}, so the test could not be"
                f" rolled back. {_REMEDY}"
            )
        return statement, args[0]

    has_events = engine._has_events  # noqa: SLF001
    stack.callback(setattr, engine, "_has_events", has_events)
    event.listen(engine, "before_cursor_execute", replace, retval=True)
    stack.callback(event.remove, engine, "before_cursor_execute", replace)
