"""Adapters for the kinds of databases that ``AsyncAmpho`` accepts."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from sqlalchemy import Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.pool import QueuePool

from ampho.aio.sqlalchemy import AsyncSQLAlchemy
from ampho.errors import ConfigurationError, DriverError

if TYPE_CHECKING:
    from quart import Quart
    from sqlalchemy import URL


_ALEMBIC_CONFIG = {
    "version_table_name": "version_table",
    "version_table_schema": "version_table_schema",
    "render_as_batch": "render_as_batch",
    "compare_type": "compare_type",
    "user_module_prefix": "user_module_prefix",
}
"""Maps attributes of advanced-alchemy's ``alembic_config`` to arguments of ``context.configure``."""


@dataclass(frozen=True)
class Database:
    """A database of an app.

    :ivar given: the object that the app passed.
    :ivar url: returns the URL of the default database.
    :ivar engine: returns the engine for a bind key in the running loop.
    :ivar dispose: closes the connections in the running loop.
    :ivar metadata: the tables of the models, if they are known.
    :ivar options: arguments for Alembic's ``context.configure``.
    """

    given: object
    url: Callable[[], URL]
    engine: Callable[[str | None], AsyncEngine]
    dispose: Callable[[], Awaitable[None]]
    metadata: MetaData | None = None
    options: Mapping[str, object] = field(default_factory=dict[str, object])


def adapt(app: Quart, db: Any) -> Database:
    """Return a database in the form that ``AsyncAmpho`` uses.

    :param db: an ``AsyncSQLAlchemy``, an ``AsyncEngine``, a function that returns one, an ``async_sessionmaker``, or
        advanced-alchemy's ``SQLAlchemyAsyncConfig``.
    :raises ConfigurationError: if ``db`` is anything else. The message says what to pass instead.
    """
    if isinstance(db, AsyncSQLAlchemy):
        engine = partial(db.get_engine, app=app)
        return Database(db, partial(db.get_url, app=app), engine, partial(db.dispose, app), db.metadata)
    if isinstance(db, AsyncEngine):
        return _from_engine(db, lambda: db)
    if isinstance(db, async_sessionmaker):
        return _from_engine(db, partial(_bind_of, db))
    if inspect.isroutine(db):
        return _from_engine(db, partial(_made_by, db))
    if isinstance(db, Engine):
        raise DriverError(
            f"AsyncAmpho got a sync engine ({db.url.drivername}). Create an async engine with"
            " sqlalchemy.ext.asyncio.create_async_engine()."
        )
    home = type(db).__module__.partition(".")[0]
    if home == "advanced_alchemy" and hasattr(db, "get_engine"):
        made = db.get_engine()
        if not isinstance(made, AsyncEngine):
            raise DriverError("AsyncAmpho got a sync configuration of advanced-alchemy. Use SQLAlchemyAsyncConfig.")
        return _from_engine(db, lambda: made, db.metadata, _alembic_options(db.alembic_config))
    if home in ("flask_sqlalchemy", "flask_sqlalchemy_lite"):
        raise ConfigurationError(
            f"AsyncAmpho cannot use an object of {home}, which needs quart-flask-patch on Quart and blocks the loop."
            " Use ampho.AsyncSQLAlchemy, or pass an AsyncEngine and metadata=."
        )
    if home == "quart_db":
        raise ConfigurationError(
            "AsyncAmpho cannot use a QuartDB, which has no SQLAlchemy engine. Pass an AsyncSQLAlchemy or an AsyncEngine"
            " for the same database, and QuartDB(migrations_folder=None), so that only Ampho migrates it."
        )
    raise ConfigurationError(
        f"AsyncAmpho cannot use a {type(db).__module__}.{type(db).__qualname__} as the database. Pass an"
        " AsyncSQLAlchemy, an AsyncEngine (or a function that returns one, or an async_sessionmaker) with metadata=, or"
        " advanced-alchemy's SQLAlchemyAsyncConfig."
    )


def _bind_of(maker: async_sessionmaker[Any]) -> AsyncEngine:
    bind = maker.kw.get("bind")
    if isinstance(bind, AsyncEngine):
        return bind
    raise ConfigurationError(
        f"The async_sessionmaker that was passed to AsyncAmpho is bound to {_kind(bind)}, not to an AsyncEngine. Pass"
        " the engine, or a function that returns it."
    )


def _made_by(function: Callable[[], object]) -> AsyncEngine:
    made = function()
    if isinstance(made, AsyncEngine):
        return made
    if inspect.iscoroutine(made):
        made.close()
    raise ConfigurationError(
        f"The function {function.__name__} that was passed to AsyncAmpho returned {_kind(made)}, not an AsyncEngine."
    )


def _kind(found: object) -> str:
    return "None" if found is None else f"a {type(found).__module__}.{type(found).__qualname__}"


class _GivenEngine:
    """An engine that belongs to the app, and the event loop that last used it for migrations."""

    def __init__(self, find: Callable[[], AsyncEngine]) -> None:
        self.find = find
        self._loop: ref[asyncio.AbstractEventLoop] | None = None

    def get(self, bind_key: str | None) -> AsyncEngine:
        """Return the engine for the running loop, without the connections of a loop that is closed."""
        if bind_key is not None:
            raise ConfigurationError(f"The app passed a single engine, which has no bind {bind_key!r}.")
        engine = self.find()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return engine
        if self._loop is not None and self._loop() is not loop and _has_connections(engine):
            _leave_loop(engine, self._loop())
        self._loop = ref(loop)
        return engine

    async def dispose(self) -> None:
        await self.find().dispose()


def _has_connections(engine: AsyncEngine) -> bool:
    """Return whether an engine holds connections that belong to the event loop that opened them."""
    pool = engine.pool
    return engine.dialect.name != "sqlite" and isinstance(pool, QueuePool) and pool.checkedin() + pool.checkedout() > 0


def _leave_loop(engine: AsyncEngine, loop: asyncio.AbstractEventLoop | None) -> None:
    if loop is not None and not loop.is_closed():
        raise ConfigurationError(
            "The AsyncEngine that was passed to AsyncAmpho has connections of another event loop, which is still"
            " running. Pass a function that returns an engine for the running loop, or use AsyncSQLAlchemy, which has"
            " an engine for each loop."
        )
    # A connection cannot be closed without its loop.
    engine.sync_engine.dispose(close=False)


def _from_engine(
    given: object,
    find: Callable[[], AsyncEngine],
    metadata: MetaData | None = None,
    options: Mapping[str, object] | None = None,
) -> Database:
    engine = _GivenEngine(find)
    return Database(given, lambda: find().url, engine.get, engine.dispose, metadata, options or {})


def _alembic_options(config: Any) -> dict[str, object]:
    """Return the settings in advanced-alchemy's ``alembic_config`` as arguments for Alembic.

    The default prefix for user-defined types, ``sa.``, is left out, because it only works in files that add these types
    to the module ``sa``, like the files from advanced-alchemy's template.
    """
    found = {name: getattr(config, key) for key, name in _ALEMBIC_CONFIG.items() if hasattr(config, key)}
    if found.get("user_module_prefix") == "sa.":
        del found["user_module_prefix"]
    return found
