"""Lead an app's engine to another database for a while, such as for one test.

The engine and its dialect stay the same objects, so that sessions, sessionmakers, and references to the engine keep
working, and compiled statements are used again. Its pool and its URL are replaced, as :meth:`Engine.dispose` replaces
the pool. All of this can be nested.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import Pool

from ampho.database.engine import initialize_on_connect
from ampho.database.url import is_in_memory
from ampho.errors import DatabaseError

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy import URL
    from sqlalchemy.engine import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

Lead: TypeAlias = Callable[[Engine], AbstractContextManager[object]]
"""Leads one engine elsewhere, while the context manager that it returns is active."""

_led: WeakKeyDictionary[Engine, tuple[Pool, URL]] = WeakKeyDictionary()
"""The engines that are led elsewhere, with their own pools and URLs."""


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
            # The dialect is initialized by the first connection to another server, and only then.
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
        def refuse() -> DBAPIConnection:
            raise DatabaseError(self._message)

        return _recreated(pool, refuse), self.engine.url


class restored(Led):  # noqa: N801
    """Makes an engine that is led elsewhere connect to its own database, while this context manager is active."""

    def _new_pool(self, pool: Pool) -> tuple[Pool, URL]:
        return _led.get(self.engine, (pool, self.engine.url))


class redirected(Led):  # noqa: N801
    """Makes an engine connect to another database, while this context manager is active.

    The engine keeps its options, its listeners, and the class and the options of its pool. At the end, all connections
    to the other database are closed, even if they are in use, and the sessions that used them are closed, too.

    :param to: an engine for the other database, such as :meth:`Store.engine` returns. Its connections are opened like
        those of that engine.
    """

    def __init__(self, engine: Engine, to: Engine) -> None:
        super().__init__(engine)
        self._to = to

    def _new_pool(self, pool: Pool) -> tuple[Pool, URL]:
        creator = self._to.pool._creator  # noqa: SLF001
        if is_in_memory(self._to.url) and not is_in_memory(self.engine.url) and self._to.dialect.name == "sqlite":
            # Each connection of the app's pool would have a database of its own.
            new = type(self._to.pool)(creator, dialect=self.engine.dialect, echo=pool.echo, _dispatch=pool.dispatch)
        else:
            new = _recreated(pool, creator)
        self._used = _Used(self.engine, new)
        return new, self._to.url

    def _close(self) -> None:
        self._used.close()


@contextmanager
def all_refused(message: str) -> Iterator[None]:
    """Make all engines refuse to connect, including engines that are created meanwhile.

    :param message: the message of the error, which says what to do.
    """

    def refuse(*args: object) -> None:
        raise DatabaseError(message)

    with ExitStack() as stack:
        # An engine with creator= only has the second event, as soon as it has connected.
        for target, name in ((Engine, "do_connect"), (Pool, "connect")):
            event.listen(target, name, refuse)
            stack.callback(event.remove, target, name, refuse)
        yield


class _Used:
    """The connections of a pool that are in use, and the sessions that used the pool."""

    def __init__(self, engine: Engine, pool: Pool) -> None:
        self._engine = engine
        self._pool = pool
        self._connections: WeakSet[PoolProxiedConnection] = WeakSet()
        self._sessions: WeakSet[Session] = WeakSet()
        event.listen(pool, "checkout", self._check_out)
        event.listen(Session, "after_begin", self._begin)

    def close(self) -> None:
        """Close all connections of the pool, and empty the sessions."""
        event.remove(Session, "after_begin", self._begin)
        for connection in list(self._connections):
            if connection.is_valid:
                connection.invalidate()
        for session in list(self._sessions):
            session.close()
        self._pool.dispose()

    def _check_out(
        self, dbapi_connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: PoolProxiedConnection
    ) -> None:
        if cast("Any", proxy)._pool is self._pool:  # noqa: SLF001 (pools with the same listeners are made from this one)
            self._connections.add(proxy)

    def _begin(self, session: Session, transaction: object, connection: Connection) -> None:
        if connection.engine.pool is self._pool:
            self._sessions.add(session)


def _recreated(pool: Pool, creator: Any) -> Pool:  # noqa: ANN401 (SQLAlchemy's type is private)
    """Return a pool with the class, the options, and the listeners of another pool."""
    new = pool.recreate()
    new._creator = creator  # noqa: SLF001
    return new
