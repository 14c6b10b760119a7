"""Lead an app's engine to another database for a while, such as for one test.

The engine and its dialect stay the same objects, so that sessions, sessionmakers, and references to the engine keep
working, and compiled statements are used again. Its pool and its URL are replaced, as :meth:`Engine.dispose` replaces
the pool. All of this can be nested.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractContextManager, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeAlias, cast
from weakref import WeakKeyDictionary, WeakSet, ref

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session
from sqlalchemy.pool import Pool
from sqlalchemy.util import greenlet_spawn

from ampho.database.engine import initialize_on_connect
from ampho.database.url import is_in_memory
from ampho.errors import DatabaseError

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy import URL
    from sqlalchemy.engine import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

Lead: TypeAlias = Callable[[Engine], AbstractContextManager[object]]
"""Leads one engine elsewhere, while the context manager that it returns is active."""

_led: WeakKeyDictionary[Engine, tuple[Pool, URL]] = WeakKeyDictionary()
"""The engines that are led elsewhere, with their own pools and URLs."""

_SCHEMA_IS_DATABASE = ("mysql", "mariadb")


def is_led(engine: Engine) -> bool:
    """Return whether an engine is led elsewhere."""
    return engine in _led


class Led(ABC):
    """An engine that has another pool while this context manager is active."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @abstractmethod
    def _new_pool(self, pool: Pool) -> tuple[Pool, URL]:
        """Return the pool that replaces the engine's pool, and the URL that the engine is to have."""

    def _close(self) -> None:  # noqa: B027 (a pool that opens no connections need not be closed)
        """Close all connections of the pool."""

    def __enter__(self) -> Self:
        engine = self.engine
        self._before = engine.pool, engine.url
        self._dialect = None if engine in _led else dict(vars(engine.dialect))
        engine.pool, engine.url = self._new_pool(engine.pool)
        if self._dialect is not None:
            # The first connection to another server initializes the dialect.
            _led[engine] = self._before
            initialize_on_connect(engine)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._close()
        finally:
            self.engine.pool, self.engine.url = self._before
            if self._dialect is not None:
                _led.pop(self.engine, None)
                vars(self.engine.dialect).clear()
                vars(self.engine.dialect).update(self._dialect)
                self.engine.clear_compiled_cache()


class refused(Led):  # noqa: N801 (it is used like a function)
    """Makes an engine refuse to connect, while this context manager is active.

    :param message: the message of the error, which says what to do.
    :raises DatabaseError: whenever the engine connects.
    """

    def __init__(self, engine: Engine, message: str) -> None:
        super().__init__(engine)
        self._message = message

    def _new_pool(self, pool: Pool) -> tuple[Pool, URL]:
        def refuse() -> NoReturn:
            raise DatabaseError(self._message)

        return recreated(pool, Creator(refuse, pool)), self.engine.url


class restored(Led):  # noqa: N801
    """Makes an engine that is led elsewhere connect to its own database, while this context manager is active."""

    def _new_pool(self, pool: Pool) -> tuple[Pool, URL]:
        return _led.get(self.engine, (pool, self.engine.url))


class redirected(Led):  # noqa: N801
    """Makes an engine connect to another database, while this context manager is active.

    The engine keeps its options, its listeners, and the class and the options of its pool. At the end, all connections
    to the other database are closed, even if they are in use, and the sessions that used them are closed, too. The
    connections of an async engine are also closed at the end of their event loop.

    :param to: an engine for the other database, such as :meth:`Store.engine` returns. Its connections are opened like
        those of that engine.
    :param keeps: whether to keep the connections that are not in use for the next time.
    """

    def __init__(self, engine: Engine, to: Engine, *, keeps: bool = False) -> None:
        super().__init__(engine)
        self._to = to
        self._keeps = keeps
        self._pool: Pool | None = None
        self._used: Used

    def __enter__(self) -> Self:
        super().__enter__()
        dialect = self.engine.dialect
        self._schema = dialect.default_schema_name
        if dialect.name in _SCHEMA_IS_DATABASE:  # where the dialect was initialized for another database
            dialect.default_schema_name = self._to.url.database
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.engine.dialect.default_schema_name = self._schema
        self._pool = self.engine.pool
        super().__exit__(kind, error, traceback)

    def _new_pool(self, pool: Pool) -> tuple[Pool, URL]:
        if self._pool is not None and self._keeps:
            self._used.resume()
            return self._pool, self._to.url
        creator = self._to.pool._creator  # noqa: SLF001
        if is_in_memory(self._to.url) and not is_in_memory(self.engine.url) and self._to.dialect.name == "sqlite":
            # Each connection of the app's pool would have a database of its own.
            new = type(self._to.pool)(creator, dialect=self.engine.dialect, echo=pool.echo, _dispatch=pool.dispatch)
        else:
            new = recreated(pool, creator)
        if self._to.dialect.name in _SCHEMA_IS_DATABASE:
            _check_after_listeners(new, getattr(creator, "check", None))
        self._used = Used(self.engine, new)
        return new, self._to.url

    def _close(self) -> None:
        self._used.pause()
        if not self._keeps:
            self._used.close()

    def close(self) -> None:
        """Close the connections that were kept."""
        if self._pool is not None:
            self._used.close()
            self._pool.dispose()


class Redirects:
    """Leads engines to another database again and again. The connections of sync engines are kept in between.

    :param to: an engine for the other database, as for :class:`redirected`.
    """

    def __init__(self, to: Engine) -> None:
        self._to = to
        self._kept: dict[Engine, redirected] = {}

    def __call__(self, engine: Engine) -> AbstractContextManager[object]:
        """Lead an engine to the other database while the context manager is active."""
        if engine.dialect.is_async and not is_in_memory(self._to.url):
            return redirected(engine, self._to)  # its connections belong to an event loop, which usually ends
        return self._kept.setdefault(engine, redirected(engine, self._to, keeps=True))

    def close(self) -> None:
        """Close the connections that were kept."""
        for each in self._kept.values():
            each.close()


class Creator:
    """Opens the connections of an engine that is led elsewhere.

    :ivar replaced: what opens the connections of its own pool. Engines for other databases are made from it.
    """

    def __init__(self, connect: Callable[[], DBAPIConnection], pool: Pool) -> None:
        self._connect = connect
        creator = pool._creator  # noqa: SLF001
        self.replaced: object = getattr(creator, "replaced", creator)

    def __call__(self) -> DBAPIConnection:  # noqa: D102
        return self._connect()


_innermost: WeakKeyDictionary[Engine, list[Used]] = WeakKeyDictionary()
"""Who closes the connections of the engines that are led elsewhere, the innermost last."""


class Used:
    """The connections of an engine's pool, and the sessions that used them.

    The pool may be replaced by another one with the same listeners, as :meth:`Engine.dispose` does.

    :param waits: whether to close the connections of an async engine at the end of their event loop.
    """

    def __init__(self, engine: Engine, pool: Pool, *, waits: bool = True) -> None:
        self._engine = engine
        self._waits = waits
        self._pools: WeakSet[Pool] = WeakSet([pool])
        self._connections: WeakKeyDictionary[
            ConnectionPoolEntry, tuple[asyncio.AbstractEventLoop | None, ref[PoolProxiedConnection]]
        ] = WeakKeyDictionary()
        self._sessions: WeakSet[Session] = WeakSet()
        self._loops = _Loops(self._close_in)
        self.resume()
        event.listen(pool, "checkout", self._check_out)
        event.listen(Session, "after_begin", self._begin)

    def resume(self) -> None:
        """Notice from now on which connections and sessions are used."""
        _innermost.setdefault(self._engine, []).append(self)

    def pause(self) -> None:
        """Notice nothing more."""
        _innermost[self._engine].remove(self)

    def close(self) -> None:
        """Close all connections, and empty the sessions."""
        event.remove(Session, "after_begin", self._begin)
        self._loops.close()
        if self._waits and self._engine.dialect.is_async:
            for record, (_, connection) in list(self._connections.items()):
                _sever(self._engine.dialect, record, connection())
        else:
            self._close_in(None)
        for session in list(self._sessions):
            session.close()

    def _close_in(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Close the connections of one event loop, or those without a loop."""
        for record, (its_loop, connection) in list(self._connections.items()):
            if its_loop is loop:
                del self._connections[record]
                if record.dbapi_connection is not None:
                    with suppress(Exception):  # the connection is closed anyway
                        # A closed connection to an SQLite file keeps its locks while a cursor is open.
                        record.dbapi_connection.rollback()
                used = connection()
                (used if used is not None and used.is_valid else record).invalidate()

    def _check_out(
        self, dbapi_connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: PoolProxiedConnection
    ) -> None:
        pool = cast("Any", proxy)._pool  # noqa: SLF001
        if pool is self._engine.pool and self._is_innermost:
            self._pools.add(pool)
        if pool in self._pools:  # unlike the pools of engines that were made from this one
            loop = loop_of(self._engine) if self._waits else None
            if loop is not None:
                self._loops.add(loop)
            opened_in = self._connections.get(record, (loop, None))[0]
            self._connections[record] = loop, ref(proxy)
            if opened_in is not loop:
                _sever(self._engine.dialect, record, None)
                raise DisconnectionError("The connection belongs to another event loop.")  # the pool opens another one

    def _begin(self, session: Session, transaction: object, connection: Connection) -> None:
        if connection.engine.pool is self._engine.pool and self._is_innermost:
            self._sessions.add(session)

    @property
    def _is_innermost(self) -> bool:
        return _innermost[self._engine][-1:] == [self]


class _Loops:
    """The event loops in which connections were opened. They are closed before a loop ends, because they need it.

    asyncio closes the async generators of a loop before it closes the loop.

    :param close: closes the connections of a loop. It is called in a greenlet.
    """

    def __init__(self, close: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        self._close = close
        self._ends: dict[asyncio.AbstractEventLoop, AsyncGenerator[None]] = {}

    def add(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the end of the running loop."""
        if loop not in self._ends:
            self._ends[loop] = end = self._wait_for_end(loop)
            with suppress(StopIteration):
                end.asend(None).send(None)  # until it yields; from now on, the loop knows the generator

    async def _wait_for_end(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._ends.pop(loop, None)
            await greenlet_spawn(self._close, loop)

    def close(self) -> None:
        """Close the connections of all loops in which this thread can wait."""
        for loop, end in list(self._ends.items()):
            wait_in(loop, end.aclose)


def loop_of(engine: Engine) -> asyncio.AbstractEventLoop | None:
    """Return the running event loop if the connections of an engine cannot be used in another one."""
    is_bound = engine.dialect.is_async and not (engine.dialect.name == "sqlite" and is_in_memory(engine.url))
    return asyncio.get_running_loop() if is_bound else None


def wait_in(loop: asyncio.AbstractEventLoop, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Wait for an async function in an event loop, unless the loop is closed, or is running in this thread."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if loop.is_running() and loop is not running:
        asyncio.run_coroutine_threadsafe(function(), loop).result()
    elif running is None and not loop.is_closed():
        loop.run_until_complete(function())


def _sever(dialect: Dialect, record: Any, used: PoolProxiedConnection | None) -> None:  # noqa: ANN401 (a private class)
    """Close a connection of an async driver without its event loop, which is closed, or is running."""
    driver = record.driver_connection
    if driver is not None:
        try:
            if dialect.name == "sqlite":
                # aiosqlite has a thread of its own, and can be closed in any loop.
                closing = Thread(target=lambda: asyncio.run(driver.close()))
                closing.start()
                closing.join()
            elif dialect.has_terminate:
                dialect.do_terminate(record.dbapi_connection)
            elif hasattr(driver, "pgconn"):
                driver.pgconn.finish()
        except RuntimeError:  # the loop is closed
            transport = getattr(driver, "_transport", None) or driver._writer.transport  # noqa: SLF001
            transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        record.dbapi_connection = None
    if used is not None and used.is_valid:
        used.invalidate()


def _check_after_listeners(pool: Pool, check: Callable[[DBAPIConnection], None] | None) -> None:
    """Check a new connection once more, because a listener of the app may have selected another database."""

    def connected(connection: DBAPIConnection, record: Any) -> None:  # noqa: ANN401 (a private class)
        if check is not None and record._ConnectionRecord__pool is pool:  # noqa: SLF001 (others have the same listeners)
            check(connection)

    event.listen(pool, "connect", connected)


def recreated(pool: Pool, creator: Any) -> Pool:  # noqa: ANN401 (SQLAlchemy's type is private)
    """Return a pool with the class, the options, and the listeners of another pool."""
    new = pool.recreate()
    new._creator = creator  # noqa: SLF001
    return new
