"""Adapters for the kinds of databases that ``AsyncAmpho`` accepts."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from sqlalchemy import Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.pool import QueuePool

from ampho.aio.sqlalchemy import AsyncSQLAlchemy
from ampho.aio.sqlalchemy.engines import BINDS
from ampho.errors import ConfigurationError, DriverError
from ampho.settings import DATABASES, DEFAULT_DATABASE

if TYPE_CHECKING:
    from quart import Quart
    from sqlalchemy import URL

    from ampho.database.redirect import Lead

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
    :ivar url: returns the URL of a database, by its name.
    :ivar engine: returns the engine of a database in the running loop, by its name.
    :ivar lead: leads the engines of a database elsewhere, by its name.
    :ivar names: returns the names of the databases that have an engine.
    :ivar dispose: closes the connections in the running loop.
    :ivar binds: returns the names of the databases besides ``default``.
    :ivar metadatas: the tables of the models, by bind key, if they are known.
    :ivar options: returns arguments for Alembic's ``context.configure`` for a database, by its name.
    """

    given: object
    url: Callable[[str], URL]
    engine: Callable[[str], AsyncEngine]
    lead: Callable[[str, Lead], AbstractContextManager[object]]
    dispose: Callable[[], Awaitable[None]]
    binds: Callable[[], Collection[str]] = tuple
    names: Callable[[], Collection[str]] = lambda: [DEFAULT_DATABASE]
    metadatas: Mapping[str | None, MetaData] = field(default_factory=dict[str | None, MetaData])
    options: Callable[[str], Mapping[str, object]] = lambda _: {}


def adapt(app: Quart, db: Any) -> Database:
    """Return a database in the form that ``AsyncAmpho`` uses.

    :param db: an ``AsyncSQLAlchemy``, an ``AsyncEngine``, a function that returns one, an ``async_sessionmaker``, or
        advanced-alchemy's ``SQLAlchemyAsyncConfig``; or several: a dictionary by name, or a list of such
        configurations.
    :raises ConfigurationError: if ``db`` is anything else. The message says what to pass instead.
    """
    if isinstance(db, AsyncSQLAlchemy):
        return _from_extension(app, db)
    if isinstance(db, Mapping):
        return _several(db, {_checked_name(name): _adapt_engine(one) for name, one in db.items()})
    if isinstance(db, (list, tuple)):
        names = [_name_of(one) for one in db]
        if several := next((name for name in names if names.count(name) > 1), ""):
            raise ConfigurationError(
                f"AsyncAmpho got several configurations for the database {several}. Give each its own bind_key."
            )
        return _several(db, dict(zip(names, map(_adapt_engine, db), strict=True)))
    return _adapt_engine(db)


def _adapt_engine(db: Any) -> Database:
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


def _from_extension(app: Quart, db: AsyncSQLAlchemy) -> Database:
    return Database(
        db,
        url=lambda name: db.get_url(_key(name), app=app),
        engine=lambda name: db.get_engine(_key(name), app=app),
        lead=lambda name, how: db.lead_engines(_key(name), how, app=app),
        dispose=partial(db.dispose, app),
        binds=lambda: app.config.get(BINDS) or (),
        names=lambda: [key or DEFAULT_DATABASE for key in db.get_bind_keys(app=app)],
        metadatas=db.metadatas,
    )


def _several(given: object, parts: Mapping[str, Database]) -> Database:
    if not parts:
        raise ConfigurationError(
            'AsyncAmpho got no database. Pass a dictionary of engines by name, as in {"default": engine}.'
        )

    def part(name: str) -> Database:
        if name in parts:
            return parts[name]
        raise ConfigurationError(
            f"AsyncAmpho got no database {name!a}. It got {', '.join(parts)}. Pass it, too, or list its packages in"
            f" {DATABASES}."
        )

    async def dispose() -> None:
        for each in parts.values():
            await each.dispose()

    return Database(
        given,
        url=lambda name: part(name).url(DEFAULT_DATABASE),
        engine=lambda name: part(name).engine(DEFAULT_DATABASE),
        lead=lambda name, how: part(name).lead(DEFAULT_DATABASE, how),
        dispose=dispose,
        names=lambda: [*parts],
        binds=lambda: [name for name in parts if name != DEFAULT_DATABASE],
        metadatas={_key(name): tables for name, each in parts.items() for tables in each.metadatas.values()},
        options=lambda name: parts.get(name, next(iter(parts.values()))).options(DEFAULT_DATABASE),
    )


def _checked_name(name: object) -> str:
    if isinstance(name, str) and name:
        return name
    raise ConfigurationError(
        f"AsyncAmpho got a database with the name {name!a}. Use a string, such as {DEFAULT_DATABASE!a} for the app's"
        " main database."
    )


def _key(name: str) -> str | None:
    return None if name == DEFAULT_DATABASE else name


def _name_of(config: object) -> str:
    """Return the name of the database of one of advanced-alchemy's configurations."""
    if type(config).__module__.partition(".")[0] != "advanced_alchemy":
        raise ConfigurationError(
            f"AsyncAmpho got a list with {_kind(config)}, which has no name. Pass a dictionary of databases by name, as"
            ' in {"default": engine, "reports": other}.'
        )
    return str(getattr(config, "bind_key", None) or DEFAULT_DATABASE)


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

    def get(self, name: str) -> AsyncEngine:
        """Return the engine for the running loop, without the connections of a loop that is closed."""
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


def _only_engine(find: Callable[[], AsyncEngine]) -> Engine:
    """Return the engine that the app uses in all event loops.

    :raises ConfigurationError: if there are several, so that a test could not lead all of them to another database.
    """
    try:
        engine = find()
        if find() is engine:
            return engine.sync_engine
    except RuntimeError:  # there is no running loop
        pass
    raise ConfigurationError(
        "The function that was passed to AsyncAmpho returns several engines, so tests cannot lead them to other"
        " databases. Return the same engine in every event loop, or use AsyncSQLAlchemy."
    )


def _from_engine(
    given: object,
    find: Callable[[], AsyncEngine],
    metadata: MetaData | None = None,
    options: Mapping[str, object] | None = None,
) -> Database:
    engine = _GivenEngine(find)
    metadatas: dict[str | None, MetaData] = {} if metadata is None else {None: metadata}
    return Database(
        given,
        url=lambda _: find().url,
        engine=engine.get,
        lead=lambda _, how: how(_only_engine(find)),
        dispose=engine.dispose,
        metadatas=metadatas,
        options=lambda _: options or {},
    )


def _alembic_options(config: Any) -> dict[str, object]:
    """Return the settings in advanced-alchemy's ``alembic_config`` as arguments for Alembic.

    The default prefix for user-defined types, ``sa.``, is left out, because it only works in files that add these types
    to the module ``sa``, like the files from advanced-alchemy's template.
    """
    found = {name: getattr(config, key) for key, name in _ALEMBIC_CONFIG.items() if hasattr(config, key)}
    if found.get("user_module_prefix") == "sa.":
        del found["user_module_prefix"]
    return found
