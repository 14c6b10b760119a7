"""Roll back everything that a test does, although its sessions commit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast

from sqlalchemy import event
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only, greenlet_spawn

from ampho.database.redirect import Creator, Led, Used, is_led, loop_of, wait_in
from ampho.errors import DatabaseError

if TYPE_CHECKING:
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

_READ = re.compile(
    r"(\s|\(|--.*\n)*(SELECT|WITH|SHOW|DESCRIBE|DO 0|PRAGMA(?!.*=))\b(?!.*\b(INSERT|UPDATE|DELETE|MERGE|INTO)\b)",
    re.IGNORECASE | re.DOTALL,
)
"""The statements that only read. All others may write."""

_SAVEPOINT = re.compile(
    r"\s*(?P<what>SAVEPOINT|RELEASE|ROLLBACK(\s+(WORK|TRANSACTION))?\s+TO)\s+(SAVEPOINT\s+)?(?P<name>[^\s;]+)",
    re.IGNORECASE,
)

_EXECUTES = ("execute", "executemany", "executescript", "callproc", "copy", "stream")
"""The methods of connections and cursors that may write."""

_REMEDY = "Use the fixture ampho_database for this test."
_OVERLAP = (
    "Two transactions of this test overlap, and the first to write is rolled back, which one connection cannot do."
    " Commit or roll back one before the other writes, or use the fixture ampho_database."
)


class in_one_transaction(Led):  # noqa: N801 (it is used like a function)
    """Puts everything that an engine executes into one transaction, which is rolled back at the end.

    All connections of the engine share one connection of the driver. A commit cannot be rolled back by the app
    afterwards, but it does not end the transaction. A rollback undoes what its own connection wrote since the last
    commit, and raises an error if another connection wrote after it. A connection with the isolation level
    ``AUTOCOMMIT`` commits when it is returned. Other isolation levels have no effect. On MariaDB and MySQL, DDL raises
    an error, because it commits.

    Sequences and other counters are not rolled back, and deferred constraints are never checked.

    :param engine: an engine that is :class:`redirected <ampho.database.redirect.redirected>`. Its pool keeps the
        connection for the next test.
    :param transactions: the transactions of all engines for the same database, each of which has an event loop.
    :raises DatabaseError: if a rollback would undo what another connection wrote, and at the end, if a statement such
        as ``COMMIT`` ended the transaction.
    """

    def __init__(self, engine: Engine, transactions: list[Transaction] | None = None) -> None:
        super().__init__(engine)
        if not is_led(engine):
            raise RuntimeError("The transaction would be in the app's own database. Redirect the engine first.")
        self._transactions: list[Transaction] = []
        self._all_transactions = [] if transactions is None else transactions
        self._patches = ExitStack()
        self._locks: dict[object, _Lock] = {}

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
        with self._locks.setdefault(loop, _Lock(is_async=self.engine.dialect.is_async)).held():
            return self._transaction_in(loop).lend()

    def _transaction_in(self, loop: asyncio.AbstractEventLoop | None) -> Transaction:
        for transaction in self._transactions:
            if transaction.loop is loop:
                return transaction
        if any(transaction.has_commits for transaction in self._all_transactions):
            raise DatabaseError(
                "This test wrote to the database in another event loop, which has a transaction of its own. Use one"
                f" event loop for the test and its fixtures. {_REMEDY}"
            )
        transaction = Transaction(self._pool.connect(), self.engine.dialect, loop)
        self._transactions.append(transaction)
        self._all_transactions.append(transaction)
        return transaction

    def _close(self) -> None:
        with ExitStack() as stack:
            stack.callback(self._used.close)
            stack.callback(self._used.pause)
            for transaction in self._transactions:
                stack.callback(transaction.finish)


class _Lock:
    """Lets one thread or one task at a time use a connection."""

    def __init__(self, *, is_async: bool) -> None:
        self._lock = asyncio.Lock() if is_async else RLock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock while the context manager is active."""
        acquired: Any = self._lock.acquire()
        if not isinstance(acquired, bool):
            await_only(acquired)
        try:
            yield
        finally:
            self._lock.release()


class Transaction:
    """A transaction of one connection of the driver, in which the transactions of the app are savepoints.

    What the app's connections wrote since the last commit of all of them forms layers. Whenever another connection
    writes than before, a layer begins with the savepoint ``ampho_<index>``. The first one is that of the last commit.

    :ivar abandoned: connections of the app that were closed where they could not be rolled back.
    :ivar autocommits: whether the engine commits each statement by default.
    :ivar loop: the event loop of the connection.
    :ivar has_commits: whether the app has committed anything.
    """

    def __init__(
        self, connection: PoolProxiedConnection, dialect: Dialect, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        self._connection = connection
        self._dialect = dialect
        self._layers: list[Lent | None] = []  # who wrote each of them; None if it is committed
        self._lock = _Lock(is_async=dialect.is_async)
        self._error = ""  # why this transaction cannot go on
        self._failed: Lent | None = None
        self.abandoned: list[Lent] = []
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

    @contextmanager
    def _used(self, lent: Lent) -> Iterator[None]:
        with self._lock.held():
            while self.abandoned:
                self._end(self.abandoned.pop())
            if self._failed and (self._failed is not lent or lent.autocommits):
                self._recover()
            yield

    def execute(self, lent: Lent, statement: object, execute: Callable[[], Any]) -> Any:  # noqa: ANN401 (the driver's)
        """Execute a statement of a connection of the app, and remember whether it may have written."""
        with self._used(lent):
            self._raise_error()
            if isinstance(statement, str) and _READ.match(statement):
                with self._guarded(lent):
                    return execute()
            if isinstance(statement, str) and self._is_needless(lent, statement):
                return None
            with self._layer_of(lent), self._guarded(lent):
                result = execute()
            if lent.autocommits and self._dialect.name == "postgresql":
                self._commit(lent)  # because an error later on must not undo it
            found = _SAVEPOINT.match(statement) if isinstance(statement, str) else None
            if found and found["what"].upper() == "SAVEPOINT":
                lent.savepoints[found["name"]] = len(self._layers)
            return result

    def _is_needless(self, lent: Lent, statement: str) -> bool:
        """Return whether a statement would only release a savepoint, together with layers of other connections.

        :raises DatabaseError: if the statement would roll such layers back.
        """
        found = _SAVEPOINT.match(statement)
        since = lent.savepoints.get(found["name"], 0) if found else 0
        if found is None or not since or len(self._layers) == since:
            return False
        if found["what"].upper() == "RELEASE":
            return True
        if found["what"].upper() != "SAVEPOINT":
            self._refuse()
        return False

    @contextmanager
    def _layer_of(self, lent: Lent) -> Iterator[None]:
        """Begin a layer unless the last one is of the same connection. If a statement fails at once, end the layer."""
        if self._layers[-1:] == [lent]:
            yield
            return
        number = len(self._layers)
        if number:
            self._run(f"SAVEPOINT ampho_{number}")
        self._layers.append(lent)
        try:
            yield
        except BaseException:
            if number or lent.autocommits or self._dialect.name != "postgresql":
                with suppress(self._dialect.loaded_dbapi.Error):  # the first error is the one that matters
                    self._run(f"ROLLBACK TO SAVEPOINT ampho_{number}")
                self._layers.pop()
                self._failed = None
            raise

    @contextmanager
    def _guarded(self, lent: Lent) -> Iterator[None]:
        """Remember that a statement failed, after which PostgreSQL only goes back to a savepoint."""
        if self._dialect.name != "postgresql":
            yield
            return
        if self._failed is None and self._is_shared(lent):
            self._run("SAVEPOINT ampho_statement")
        self._failed = lent
        yield
        self._failed = None

    def _is_shared(self, lent: Lent) -> bool:
        return any(other is not lent for other in self._layers)

    def _recover(self) -> None:
        """Undo the statement that failed, or everything that its connection wrote if no other one did."""
        failed, self._failed = cast("Lent", self._failed), None
        if self._layers and not self._is_shared(failed):
            self._rollback(failed)
        else:
            self._run_or_explain(f"ROLLBACK TO SAVEPOINT {'ampho_statement' if self._layers else 'ampho_0'}")

    def commit(self, lent: Lent) -> None:
        """Commit a transaction of the app."""
        with self._used(lent):
            self._commit(lent)

    def rollback(self, lent: Lent) -> None:
        """Roll a transaction of the app back."""
        with self._used(lent):
            self._rollback(lent)

    def _end(self, lent: Lent) -> None:
        (self._commit if lent.autocommits else self._rollback)(lent)

    def _commit(self, lent: Lent) -> None:
        if self._failed is lent:
            self._rollback(lent)  # as PostgreSQL does
        if self._has_written(lent):
            self._raise_error()
            self._layers = [None if other is lent else other for other in self._layers]
            self.has_commits = True
            self._fold()

    def _rollback(self, lent: Lent) -> None:
        if self._ended or self._error:
            return
        if self._failed is lent:
            self._recover()
        if self._has_written(lent):
            first = self._layers.index(lent)
            if set(self._layers[first:]) != {lent}:
                self._refuse()
            with suppress(DatabaseError):  # which is raised at the end of the test, once
                self._run_or_explain(f"ROLLBACK TO SAVEPOINT ampho_{first}")
                del self._layers[first:]
                self._fold()

    def _has_written(self, lent: Lent) -> bool:
        lent.savepoints.clear()
        return not self._ended and lent in self._layers

    def _fold(self) -> None:
        """Make the savepoint of the last commit follow all layers, if all are committed."""
        if self._layers and set(self._layers) == {None}:
            self._run_or_explain("RELEASE SAVEPOINT ampho_0")
            self._run("SAVEPOINT ampho_0")
            self._layers.clear()

    def _refuse(self) -> NoReturn:
        self._error = _OVERLAP
        raise DatabaseError(_OVERLAP)

    def _raise_error(self) -> None:
        if self._error:
            raise DatabaseError(self._error)

    def finish(self) -> None:
        """Roll everything back, and return the connection to the pool. If that is impossible, close the connection."""
        self._ended = True
        if not self._dialect.is_async:
            self._finish()
        elif self._connection.is_valid:
            self._finish_in_loop()
        self._raise_error()  # a rollback may not have raised it

    def _finish_in_loop(self) -> None:
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
            self._error = (
                f"The transaction of the test was ended by a statement such as COMMIT, or by an error ({error})."
                f" {_REMEDY}"
            )
            raise DatabaseError(self._error) from None

    def _run(self, statement: str) -> None:
        cursor = self.dbapi_connection.cursor()
        try:
            cursor.execute(statement)
        finally:
            cursor.close()


class Lent:
    """The connection of a transaction, lent to one connection of the app. It behaves like a connection of the driver.

    :ivar autocommits: whether this connection commits each statement.
    :ivar savepoints: the savepoints of its transaction, each with the number of layers at that time.
    """

    is_lent: bool = True

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.autocommits: bool = transaction.autocommits
        self.savepoints: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (the driver's)
        if name in _EXECUTES:
            self._transaction.execute(self, None, lambda: None)
        return getattr(self._transaction.dbapi_connection, name)

    # The methods of a connection of the driver.
    # ruff: noqa: D102
    def cursor(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 (the driver's)
        return _Cursor(self._transaction, self, self._transaction.dbapi_connection.cursor(*args, **options))

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
        self._transaction.abandoned.append(self)  # it may be garbage, which nothing can wait for


class _Cursor:
    """A cursor of a connection that is lent."""

    def __init__(self, transaction: Transaction, lent: Lent, cursor: Any) -> None:  # noqa: ANN401 (the driver's)
        vars(self).update(_transaction=transaction, _lent=lent, _cursor=cursor)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (the driver's)
        if name in _EXECUTES:
            self._transaction.execute(self._lent, None, lambda: None)
        return getattr(self._cursor, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._cursor, name, value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._cursor.close()

    def execute(self, statement: object, *args: Any, **options: Any) -> Any:  # noqa: ANN401 (the driver's)
        return self._transaction.execute(
            self._lent, statement, lambda: self._cursor.execute(statement, *args, **options)
        )

    def executemany(self, statement: object, *args: Any, **options: Any) -> Any:  # noqa: ANN401 (the driver's)
        return self._transaction.execute(
            self._lent, statement, lambda: self._cursor.executemany(statement, *args, **options)
        )


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
