"""The session of each app context, and the engine that a session uses for each model and statement."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Table, UpdateBase, event, inspect
from sqlalchemy.exc import DBAPIError, IllegalStateChangeError, NoInspectionAvailable
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.exc import UnmappedClassError
from sqlalchemy.sql.visitors import iterate
from sqlalchemy.util import greenlet_spawn

from ampho._text import describe
from ampho.aio.sqlalchemy.guard import ENDED, REMEDY, guarded
from ampho.aio.sqlalchemy.pool import OneConnectionPool
from ampho.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from quart.ctx import AppContext
    from sqlalchemy import ClauseElement, Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ampho.aio.sqlalchemy.engines import Engines

_log = logging.getLogger("ampho")
_POLL_SECONDS = 0.05
_UNUSABLE = (DBAPIError, RuntimeError)
"""The errors that SQLAlchemy and drivers raise if a connection is lost, or a task is still reading from it."""
_LOST = f"Either its connection was lost, or a task that outlives the request is using it. {REMEDY}"


class RoutingSession(Session):
    """A session that uses the engine for the bind key of a model or table, or otherwise the default engine.

    A class that is passed as ``session_options={"sync_session_class": ...}`` must be a subclass of this class.
    """

    engines: Engines
    ended: bool = False
    user: asyncio.Task[object] | None = None

    if not TYPE_CHECKING:  # which keeps the signatures of Session
        execute = guarded(Session.execute, is_query=True)
        scalar = guarded(Session.scalar, is_query=True)
        scalars = guarded(Session.scalars, is_query=True)
        connection = guarded(Session.connection)
        begin_nested = guarded(Session.begin_nested)
        flush = guarded(Session.flush)
        commit = guarded(Session.commit)
        rollback = guarded(Session.rollback)

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (SQLAlchemy's own arguments)
        super().__init__(*args, **options)
        self.connections: WeakSet[Connection] = WeakSet()
        event.listen(self, "after_begin", lambda session, transaction, connection: self.connections.add(connection))

    def get_bind(
        self,
        mapper: object = None,
        *,
        clause: ClauseElement | None = None,
        bind: Engine | Connection | None = None,
        **options: object,
    ) -> Engine | Connection:
        """Return the engine for a model or a statement.

        :raises ConfigurationError: if the bind key is not configured.
        :raises RuntimeError: if the app context has ended.
        """
        if bind is not None:
            return bind
        if self.ended:
            raise RuntimeError(ENDED)
        for table in _tables(mapper, clause):
            if "bind_key" in table.metadata.info:
                return self.engines.get(table.metadata.info["bind_key"]).sync_engine
        if None in self.engines.specs:
            return self.engines.get(None).sync_engine
        return super().get_bind(mapper, clause=clause)  # type: ignore[arg-type]  # the type of mappers is private


def _tables(mapper: object, clause: ClauseElement | None) -> Iterator[Table]:
    if mapper is not None:
        try:
            table = cast("Mapper[object]", inspect(mapper)).local_table
        except NoInspectionAvailable:
            if isinstance(mapper, type):
                raise UnmappedClassError(mapper) from None
            raise
        if isinstance(table, Table):
            yield table
    if isinstance(clause, UpdateBase) and isinstance(clause.table, Table):
        yield clause.table
    if clause is not None:
        yield from (element for element in iterate(clause) if isinstance(element, Table))


class Sessions:
    """The sessions of all app contexts that have not ended.

    A session belongs to a context and not to its ``g``. Quart up to 0.22 shares ``g`` with the copies that
    ``copy_current_app_context`` makes, so the end of a copy would close the session of the request.

    :param options: arguments of :class:`~sqlalchemy.ext.asyncio.AsyncSession`, and ``class_``, a subclass of it.
    """

    def __init__(self, options: Mapping[str, object]) -> None:
        given: dict[str, Any] = {"expire_on_commit": False, **options}
        if "scopefunc" in given:
            raise ConfigurationError("session_options: a session belongs to its app context. Remove 'scopefunc'.")
        self._class: type[AsyncSession] = given.pop("class_", AsyncSession)
        sync_class = given.pop("sync_session_class", self._class.sync_session_class)
        if sync_class is Session:
            sync_class = RoutingSession
        if not issubclass(sync_class, RoutingSession):
            raise ConfigurationError(
                f"session_options: the sync session class {sync_class.__name__} must be a subclass of RoutingSession."
            )
        self._options: dict[str, Any] = {**given, "sync_session_class": sync_class}
        self._open: WeakKeyDictionary[AppContext, AsyncSession] = WeakKeyDictionary()
        self._ended: WeakSet[AppContext] = WeakSet()
        self._ending: set[asyncio.Task[None]] = set()

    def get(self, context: AppContext, engines: Engines) -> AsyncSession:
        """Return the session of a context, which is created when it is first used.

        :raises RuntimeError: if the context has ended.
        """
        if context in self._ended:
            raise RuntimeError(ENDED)
        session = self._open.get(context)
        if session is None:
            session = self._open[context] = self._class(**self._options)
            cast("RoutingSession", session.sync_session).engines = engines
        return session

    def idle_connection(self, engine: AsyncEngine) -> Connection | None:
        """Return the connection of an in-memory database if the current task uses it without a transaction.

        A session keeps its connection after it has read something, until it ends its transaction.
        """
        if not isinstance(engine.pool, OneConnectionPool) or not engine.pool.is_used_by_current_task():
            return None
        for session in self._open.values():
            for connection in cast("RoutingSession", session.sync_session).connections:
                is_open = not connection.closed and not connection.invalidated
                if is_open and connection.engine is engine.sync_engine:
                    driver_connection = connection.connection.driver_connection
                    return None if driver_connection is None or driver_connection.in_transaction else connection
        return None

    def reopen(self, context: AppContext) -> None:
        """Allow a context that has ended to have a session again. A copied context is pushed again for each call."""
        self._ended.discard(context)

    async def close(self, context: AppContext) -> None:
        """Close the session of a context that ends.

        If the task is cancelled in the meantime, the cancellation takes effect when the task next waits. If it were
        raised here, Quart 0.22 would skip the other teardown functions, and Quart 0.23 would raise a
        BaseExceptionGroup, which servers do not expect.
        """
        self._ended.add(context)
        try:
            await self.discard(context)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                raise
            task.uncancel()
            task.cancel()

    async def discard(self, context: AppContext) -> None:
        """Close the session of a context, even if the task is cancelled in the meantime.

        If a task that outlives the request is using the session, the session is closed when that call ends. The
        response to the request is not affected.
        """
        session = self._open.pop(context, None)
        if session is None:
            return
        sync_session = cast("RoutingSession", session.sync_session)
        sync_session.ended = True
        ending = asyncio.create_task(_end(session))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        if sync_session.user is None:
            await asyncio.shield(ending)
        else:
            _log.warning("A database session could not be closed yet: another task is using it. %s", REMEDY)


async def _end(session: AsyncSession) -> None:
    """Close a session once no task is using it, and close its connections if they cannot be reused.

    Closing it earlier would empty the objects that the task is writing.
    """
    sync_session = cast("RoutingSession", session.sync_session)
    while True:
        try:
            if sync_session.user is None:
                await session.close()
                return
        except IllegalStateChangeError:
            pass  # A task is ending a transaction.
        except _UNUSABLE as exc:
            _log.warning("A database session could not be closed: %s. %s", describe(exc), _LOST)
            break
        await asyncio.sleep(_POLL_SECONDS)
    for connection in sync_session.connections:
        if not connection.closed:
            with suppress(*_UNUSABLE):
                await greenlet_spawn(connection.invalidate)
            with suppress(*_UNUSABLE):
                await greenlet_spawn(connection.close)
