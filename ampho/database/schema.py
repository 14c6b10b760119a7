"""Engines for the databases of a group, which have their own address, or are schemas of one PostgreSQL database.

The ``search_path`` of a connection to a schema is that schema alone, so everything that Ampho and a revision create
without naming a schema lies in it: the version table, the journal, the tables, and the types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import NullPool, QueuePool, create_engine, event, text
from sqlalchemy.exc import DisconnectionError

from ampho.database.engine import has_connect_listeners, with_address, with_own_dialect
from ampho.database.pooler import check_pooler, drivers_pid
from ampho.database.url import missing_driver, require_driver
from ampho.errors import ConfigurationError, DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, Pool

_OPTION = "ampho_schema"  # the execution option that marks the engine of a schema, and its connections
_MAX_BYTES = 63  # PostgreSQL cuts longer names off, so that two schemas might become one
_USED = "ampho_used"  # the key in the information of a connection record whose connection was used before
_RESETTABLE = frozenset({"psycopg", "psycopg2"})
"""The drivers that notice that ``DISCARD ALL`` drops their prepared statements."""

SCHEMA_EXISTS = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")


def member_engine(engine: Engine, url: URL, setting: str) -> Engine:
    """Return an engine for a database of a group, with the options and listeners of the app's engine.

    If the URL names a different driver, these would not fit, so the engine then has neither.

    :param setting: where the URL came from, for errors.
    :raises ConfigurationError: if the engine cannot connect to that address.
    """
    require_driver(url, is_async=engine.dialect.is_async, setting=setting)
    if url.get_dialect(_is_async=engine.dialect.is_async).driver == engine.dialect.driver:
        return with_address(engine, url, setting)
    try:
        if not engine.dialect.is_async:
            return create_engine(url, poolclass=NullPool)
        from sqlalchemy.ext.asyncio import create_async_engine

        return create_async_engine(url, poolclass=NullPool).sync_engine
    except ImportError as exc:
        raise missing_driver(url, exc, setting) from exc


class KeptConnection:
    """The connection of a worker process, which migrates the schemas of one PostgreSQL database one after the other.

    The session is reset for each schema. That would also undo what the app's listeners do with a new connection, so if
    there are such listeners, each schema gets a new connection.
    """

    def __init__(self) -> None:
        self._engine: Engine | None = None

    def engine(self, make: Callable[[], Engine], schema: str, setting: str) -> Engine:
        """Return an engine that is limited to a schema until the next call.

        :param make: returns an engine without a pool for the database.
        :param setting: where the schema came from, for errors.
        :raises ConfigurationError: if the schema is invalid.
        """
        if self._engine is not None:
            _check_name(schema, self._engine.dialect.name, setting)
            _limit(self._engine, schema)
            return self._engine
        engine = make()
        if engine.dialect.driver not in _RESETTABLE or has_connect_listeners(engine):
            return with_schema(engine, schema, setting)
        self._engine = with_schema(engine, schema, setting, QueuePool)
        return self._engine

    def close(self) -> None:
        """Close the connection."""
        if self._engine is not None:
            self._engine.dispose()


def with_schema(engine: Engine, schema: str, setting: str, poolclass: type[Pool] = NullPool) -> Engine:
    """Return an engine whose connections are limited to a PostgreSQL schema, for reflection as well."""
    _check_name(schema, engine.dialect.name, setting)
    limited = with_own_dialect(engine, poolclass)
    _limit(limited, schema)

    # The app's listeners for "connect" and "checkout" run earlier. The path is committed, so no rollback changes it.
    @event.listens_for(limited.pool, "checkout")
    def set_search_path(connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: object) -> None:
        if _USED in record.info:
            _reset_session(connection)
        record.info[_USED] = True
        cursor = connection.cursor()
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone() or (None,)
        if drivers_pid(record.driver_connection) not in (None, pid):
            with engine.connect() as other:  # another user of a pooler would get the path
                check_pooler(other, "a migration cannot be limited to a schema")
        cursor.execute(_search_path(limited.get_execution_options()[_OPTION]))
        cursor.close()
        connection.commit()

    return limited


def _limit(engine: Engine, schema: str) -> None:
    engine.dialect.default_schema_name = schema
    engine.dialect._get_default_schema_name = lambda connection: schema  # type: ignore[method-assign]  # noqa: SLF001
    engine.update_execution_options(**{_OPTION: schema})


def _reset_session(connection: DBAPIConnection) -> None:
    """Undo all that a revision may have done to the session: settings, roles, locks, and temporary tables.

    :raises DisconnectionError: if that fails, so that SQLAlchemy opens a new connection.
    """
    driver: Any = connection
    try:
        before, driver.autocommit = driver.autocommit, True
        with driver.cursor() as cursor:
            cursor.execute("DISCARD ALL")
        driver.autocommit = before
    except Exception as exc:
        raise DisconnectionError(str(exc)) from exc


def schema_of(connection: Connection) -> str | None:
    """Return the schema that a connection from :func:`with_schema` is limited to, if any."""
    schema: str | None = connection.get_execution_options().get(_OPTION)
    return schema


def check_schema(connection: Connection) -> None:
    """Check that a new connection uses the schema that it is limited to; an app's listener may choose another one.

    :raises DatabaseError: if the schema does not exist, or the connection uses another one.
    """
    schema = schema_of(connection)
    if schema is None:
        return
    served = connection.exec_driver_sql("SELECT current_schema()").scalar()
    connection.rollback()
    if served == schema:
        return
    if not connection.execute(SCHEMA_EXISTS, {"name": schema}).scalar():
        raise DatabaseError(
            f"The schema {schema} does not exist. Create it, or run 'ampho db-up --create'. Nothing was changed.",
            is_missing=True,
        )
    if served is None:
        raise DatabaseError(f"The user may not use the schema {schema}. Grant USAGE on it. Nothing was changed.")
    raise DatabaseError(
        f"The connection to the schema {schema} leads to the schema {served}, so nothing was run on it. Look for a"
        " listener of the engine that sets search_path."
    )


def restore_schema(connection: Connection) -> None:
    """Limit a connection to its schema again, because a revision may have changed ``search_path``."""
    if (schema := schema_of(connection)) is not None:
        connection.exec_driver_sql(_search_path(schema), execution_options={"no_parameters": True})


def check_version_table(connection: Connection, configured: str | None) -> None:
    """Check that the version table of a schema is in that schema.

    :param configured: the value of Alembic's option ``version_table_schema``.
    :raises ConfigurationError: if several schemas would have one version table, so that only one would be migrated.
    """
    schema = schema_of(connection)
    if schema is not None and configured not in (None, schema):
        raise ConfigurationError(
            f"version_table_schema puts the version table of the schema {schema} into the schema {configured}. Remove"
            " this option from env.py or from the extension, so that each schema has its own version table."
        )


def select_schema(connection: Connection | None) -> str:
    """Return the line of an SQL script that limits it to the schema of a connection, if any."""
    schema = None if connection is None else schema_of(connection)
    return "" if schema is None else f"{_search_path(schema)};\n\n"


def _search_path(schema: str) -> str:
    quoted = schema.replace('"', '""')
    return f'SET search_path TO "{quoted}"'


def _check_name(schema: str, backend: str, setting: str) -> None:
    if backend != "postgresql":
        raise ConfigurationError(
            f"{setting} names the schema {schema}, but {backend} has no schemas inside a database. Use url= instead.",
            setting=setting,
        )
    if not 0 < len(schema.encode(errors="replace")) <= _MAX_BYTES:
        raise ConfigurationError(
            f"{setting} names the schema {schema!a}. Use a name of 1 to {_MAX_BYTES} bytes.", setting=setting
        )
