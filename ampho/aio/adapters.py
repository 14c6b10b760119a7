"""Adapters for the kinds of databases that ``AsyncAmpho`` accepts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

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

    :param db: an ``AsyncSQLAlchemy``, an ``AsyncEngine``, or advanced-alchemy's ``SQLAlchemyAsyncConfig``.
    :raises ConfigurationError: if ``db`` is anything else. The message says what to pass instead.
    """
    if isinstance(db, AsyncSQLAlchemy):
        engine = partial(db.get_engine, app=app)
        return Database(db, partial(db.get_url, app=app), engine, partial(db.dispose, app), db.metadata)
    if isinstance(db, AsyncEngine):
        return _from_engine(db, db)
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
        return _from_engine(db, made, db.metadata, _alembic_options(db.alembic_config))
    if home in ("flask_sqlalchemy", "flask_sqlalchemy_lite"):
        raise ConfigurationError(
            f"AsyncAmpho cannot use an object of {home}, which needs quart-flask-patch on Quart and blocks the loop."
            " Use ampho.AsyncSQLAlchemy, or pass an AsyncEngine and metadata=."
        )
    raise ConfigurationError(
        f"AsyncAmpho cannot use a {type(db).__module__}.{type(db).__qualname__} as the database. Pass an"
        " AsyncSQLAlchemy, an AsyncEngine with metadata=, or advanced-alchemy's SQLAlchemyAsyncConfig."
    )


def _from_engine(
    given: object, made: AsyncEngine, metadata: MetaData | None = None, options: Mapping[str, object] | None = None
) -> Database:
    def engine(bind_key: str | None) -> AsyncEngine:
        if bind_key is not None:
            raise ConfigurationError(f"The app passed a single engine, which has no bind {bind_key!r}.")
        return made

    return Database(given, lambda: made.url, engine, made.dispose, metadata, options or {})


def _alembic_options(config: Any) -> dict[str, object]:
    """Return the settings in advanced-alchemy's ``alembic_config`` as arguments for Alembic.

    The default prefix for user-defined types, ``sa.``, is left out, because it only works in files that add these types
    to the module ``sa``, like the files from advanced-alchemy's template.
    """
    found = {name: getattr(config, key) for key, name in _ALEMBIC_CONFIG.items() if hasattr(config, key)}
    if found.get("user_module_prefix") == "sa.":
        del found["user_module_prefix"]
    return found
