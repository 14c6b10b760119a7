"""What ``AsyncAmpho`` needs of a database extension, and the kinds of extensions that it accepts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

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

_PREFIX_OF_THEIR_TEMPLATE = "sa."


@dataclass(frozen=True)
class OwnDatabase:
    """An app's ``AsyncSQLAlchemy``."""

    app: Quart
    db: AsyncSQLAlchemy

    def url(self) -> URL:
        return self.db.get_url(app=self.app)

    def engine(self, bind_key: str | None) -> AsyncEngine:
        return self.db.get_engine(bind_key, app=self.app)

    def metadata(self) -> MetaData | None:
        return self.db.metadata

    def options(self) -> Mapping[str, object]:
        return {}

    async def dispose(self) -> None:
        await self.db.dispose(self.app)


@dataclass(frozen=True)
class EngineDatabase:
    """An ``AsyncEngine`` that the app created, with what is known about its models and migrations."""

    made: AsyncEngine
    tables: MetaData | None = None
    configured: Mapping[str, object] = field(default_factory=dict[str, object])

    def url(self) -> URL:
        return self.made.url

    def engine(self, bind_key: str | None) -> AsyncEngine:
        if bind_key is not None:
            raise ConfigurationError(f"There is only one engine, so there is no bind {bind_key!r}.")
        return self.made

    def metadata(self) -> MetaData | None:
        return self.tables

    def options(self) -> Mapping[str, object]:
        return self.configured

    async def dispose(self) -> None:
        await self.made.dispose()


Database: TypeAlias = OwnDatabase | EngineDatabase
"""What ``AsyncAmpho`` uses: the default database's address, its engines for the running loop, the tables of the models,
and arguments for Alembic's ``context.configure``."""


def _alembic_options(config: Any) -> dict[str, object]:
    """Return the settings in advanced-alchemy's ``alembic_config`` as arguments for Alembic.

    Its default prefix for user-defined types, ``sa.``, is left out, because it only works in files that add these types
    to that module, like those from advanced-alchemy's template.
    """
    found = {name: getattr(config, key) for key, name in _ALEMBIC_CONFIG.items() if hasattr(config, key)}
    if found.get("user_module_prefix") == _PREFIX_OF_THEIR_TEMPLATE:
        del found["user_module_prefix"]
    return found


def adapt(app: Quart, db: Any) -> Database:
    """Return a database in the form that ``AsyncAmpho`` uses.

    :param db: an ``AsyncSQLAlchemy``, an ``AsyncEngine``, or advanced-alchemy's ``SQLAlchemyAsyncConfig``.
    :raises ConfigurationError: if it is anything else, with what to pass instead.
    """
    if isinstance(db, AsyncSQLAlchemy):
        return OwnDatabase(app, db)
    if isinstance(db, AsyncEngine):
        return EngineDatabase(db)
    if isinstance(db, Engine):
        raise DriverError(
            f"AsyncAmpho was given a sync engine ({db.url.drivername}). Make one with"
            " sqlalchemy.ext.asyncio.create_async_engine()."
        )
    home = type(db).__module__.partition(".")[0]
    if home == "advanced_alchemy" and hasattr(db, "get_engine"):
        engine = db.get_engine()
        if not isinstance(engine, AsyncEngine):
            raise DriverError(
                "AsyncAmpho was given a sync configuration of advanced-alchemy. Use SQLAlchemyAsyncConfig."
            )
        return EngineDatabase(engine, db.metadata, _alembic_options(db.alembic_config))
    if home in ("flask_sqlalchemy", "flask_sqlalchemy_lite"):
        raise ConfigurationError(
            f"AsyncAmpho cannot use {home}'s object, which works on Quart only under quart-flask-patch, and blocks the"
            " loop. Use ampho.AsyncSQLAlchemy, or pass an AsyncEngine and metadata=."
        )
    raise ConfigurationError(
        f"AsyncAmpho cannot use a {type(db).__module__}.{type(db).__qualname__} as database. Pass an AsyncSQLAlchemy,"
        " an AsyncEngine with metadata=, or advanced-alchemy's SQLAlchemyAsyncConfig."
    )
