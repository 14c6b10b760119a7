"""What ``AsyncAmpho`` asks of a database extension, and the kinds that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

from ampho.aio.sqlalchemy import AsyncSQLAlchemy
from ampho.errors import ConfigurationError, DriverError

if TYPE_CHECKING:
    from quart import Quart
    from sqlalchemy import URL


class Database(Protocol):
    """One app's database, whoever made it."""

    def url(self) -> URL:
        """Return the address of the default database."""

    def engine(self, bind_key: str | None) -> AsyncEngine:
        """Return an engine for the running loop."""

    def metadata(self) -> MetaData | None:
        """Return the tables of the models."""

    async def dispose(self) -> None:
        """Close the connections of the running loop."""


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

    async def dispose(self) -> None:
        await self.db.dispose(self.app)


@dataclass(frozen=True)
class EngineDatabase:
    """An ``AsyncEngine`` that the app made, with the ``MetaData`` of its models."""

    made: AsyncEngine
    tables: MetaData | None

    def url(self) -> URL:
        return self.made.url

    def engine(self, bind_key: str | None) -> AsyncEngine:
        if bind_key is not None:
            raise ConfigurationError(f"There is one engine, and so no bind {bind_key!r}.")
        return self.made

    def metadata(self) -> MetaData | None:
        return self.tables

    async def dispose(self) -> None:
        await self.made.dispose()


def adapt(app: Quart, db: Any, metadata: MetaData | None) -> Database:
    """Return a database as ``AsyncAmpho`` uses it.

    :param db: an ``AsyncSQLAlchemy``, an ``AsyncEngine``, or advanced-alchemy's ``SQLAlchemyAsyncConfig``.
    :param metadata: the tables of the models, for an engine.
    :raises ConfigurationError: if it is anything else; names what to pass instead.
    """
    if isinstance(db, AsyncSQLAlchemy):
        return OwnDatabase(app, db)
    if isinstance(db, AsyncEngine):
        return EngineDatabase(db, metadata)
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
        return EngineDatabase(engine, metadata or db.metadata)
    if home in ("flask_sqlalchemy", "flask_sqlalchemy_lite"):
        raise ConfigurationError(
            f"AsyncAmpho cannot use {home}'s object, which works on Quart only under quart-flask-patch, and blocks the"
            " loop. Use ampho.AsyncSQLAlchemy, or pass an AsyncEngine and metadata=."
        )
    raise ConfigurationError(
        f"AsyncAmpho cannot use a {type(db).__module__}.{type(db).__qualname__} as database. Pass an AsyncSQLAlchemy,"
        " an AsyncEngine with metadata=, or advanced-alchemy's SQLAlchemyAsyncConfig."
    )
