"""One session for each app context, which finds the engine of what it is asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Table, UpdateBase, inspect
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.exc import UnmappedClassError
from sqlalchemy.sql.visitors import iterate

from ampho.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from quart.ctx import AppContext
    from sqlalchemy import ClauseElement, Connection, Engine

    from ampho.aio.engines import Engines

_ENDED = (
    "The app context of this database session has ended. A task that outlives its request needs a context of its own: "
    "start it with app.add_background_task, or wrap its function in quart.copy_current_app_context."
)


class RoutingSession(Session):
    """A session that takes the engine of the bind key of the model or table in question, else the default one.

    Subclass it for ``session_options={"sync_session_class": ...}``.
    """

    engines: Engines
    ended: bool = False

    def get_bind(
        self,
        mapper: object = None,
        *,
        clause: ClauseElement | None = None,
        bind: Engine | Connection | None = None,
        **options: object,
    ) -> Engine | Connection:
        """Return the engine for a model or a statement.

        :raises ConfigurationError: if the bind key is in no setting.
        :raises RuntimeError: if the app context has ended.
        """
        if bind is not None:
            return bind
        if self.ended:
            raise RuntimeError(_ENDED)
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
    """The sessions of the app contexts that are open.

    They are kept by the context itself: up to Quart 0.22 ``g`` is shared with the copies that
    ``copy_current_app_context`` makes, whose end would close the session of the request.

    :param options: arguments of :class:`~sqlalchemy.ext.asyncio.AsyncSession`, and ``class_``, a subclass of it.
    """

    def __init__(self, options: Mapping[str, object]) -> None:
        given: dict[str, Any] = {"expire_on_commit": False, **options}
        self._class: type[AsyncSession] = given.pop("class_", AsyncSession)
        sync_class = given.pop("sync_session_class", self._class.sync_session_class)
        if sync_class is Session:
            sync_class = RoutingSession
        if not issubclass(sync_class, RoutingSession):
            raise ConfigurationError(
                f"session_options: the sync session class {sync_class.__name__} must be a subclass of RoutingSession."
            )
        self._options = {**given, "sync_session_class": sync_class}
        self._open: WeakKeyDictionary[AppContext, AsyncSession] = WeakKeyDictionary()
        self._ended: WeakSet[AppContext] = WeakSet()

    def get(self, context: AppContext, engines: Engines) -> AsyncSession:
        """Return the session of a context, made on first use.

        :raises RuntimeError: if the context has ended.
        """
        if context in self._ended:
            raise RuntimeError(_ENDED)
        session = self._open.get(context)
        if session is None:
            session = self._open[context] = self._class(**self._options)
            cast("RoutingSession", session.sync_session).engines = engines
        return session

    def reopen(self, context: AppContext) -> None:
        """Let a context have a session again: a copied one is pushed at each call of the function it was made for."""
        self._ended.discard(context)

    async def close(self, context: AppContext) -> None:
        """End the session of a context that ends."""
        self._ended.add(context)
        await self.discard(context)

    async def discard(self, context: AppContext) -> None:
        """Close the session of a context, also where the task is cancelled meanwhile."""
        session = self._open.pop(context, None)
        if session is not None:
            cast("RoutingSession", session.sync_session).ended = True
            await asyncio.shield(session.close())
