"""A throwaway database on the server of the app's database; for SQLite, in memory."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import URL, NullPool, StaticPool
from sqlalchemy.exc import DBAPIError, ProgrammingError

from ampho.database.engine import DATABASE_ARGUMENTS, database_of, served_database, with_database
from ampho.database.url import describe_without
from ampho.errors import ConfigurationError, DatabaseError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection

_PREFIX = "ampho_scratch_"
_PUBLIC = "public"
_OPTIONS = {"postgresql": "", "mysql": " CHARACTER SET utf8mb4", "mariadb": " CHARACTER SET utf8mb4"}
"""The options of ``CREATE DATABASE``."""


@contextmanager
def scratch_connection(engine: Engine, connect: Callable[[Engine], Connection]) -> Iterator[Connection]:
    """Create a throwaway database on the server of an engine, yield a connection to it, and drop it at the end.

    The connection has the options and listeners of the engine. Its database is checked twice, before and after the
    app's listeners run, because a listener may select another database.

    :param connect: opens a connection from an engine.
    :raises ConfigurationError: if the engine cannot connect to another database.
    :raises DatabaseError: if the database cannot be created, or a connection leads to another database.
    """
    url = _scratch_url(engine.url)
    backend = url.get_backend_name()
    schemas: list[str] = []

    def prepare(connection: DBAPIConnection) -> None:
        _check_served(url, served_database(connection, backend))
        while schemas:
            _create_schema(connection, schemas.pop())

    is_on_server = backend != "sqlite"
    scratch = with_database(engine, url, prepare, NullPool if is_on_server else StaticPool)
    with _existing(url, partial(connect, engine), schemas) if is_on_server else nullcontext():
        try:
            with connect(scratch) as connection:
                _check_served(url, database_of(connection))
                yield connection
        finally:
            scratch.dispose()


def _scratch_url(url: URL) -> URL:
    """Return the URL of a new throwaway database on the same server; for SQLite, of an in-memory database.

    :raises ConfigurationError: if Ampho does not support throwaway databases for this dialect.
    """
    backend = url.get_backend_name()
    if backend == "sqlite":
        return URL.create(url.drivername)
    if backend not in _OPTIONS:
        raise ConfigurationError(
            f"Ampho cannot create a throwaway database for {backend}. Compare with the app's database, without"
            " --scratch."
        )
    return url.difference_update_query(DATABASE_ARGUMENTS).set(database=f"{_PREFIX}{secrets.token_hex(6)}")


def _check_served(url: URL, served: str | None) -> None:
    """Check that a connection leads to the throwaway database, and not to the app's database.

    :param served: the name of the connection's database, as reported by the server.
    """
    wanted = url.database or ""
    if served != wanted:
        raise DatabaseError(
            f"The connection to the throwaway database {wanted or 'in memory'} leads to {served or 'no database'}, so"
            " nothing was run on it. Look for a pooler, or a listener of the engine, that redirects connections."
        )


@contextmanager
def _existing(url: URL, connect: Callable[[], Connection], schemas: list[str]) -> Iterator[None]:
    """Create the throwaway database, and drop it at the end.

    :param connect: opens a connection to the app's database.
    :param schemas: a list to which this adds the schemas that a new database lacks.
    """
    is_refused = False
    try:
        try:
            with connect() as connection:
                schemas.extend(_schema_in_use(connection))
                with _managing(connection, url) as managing:
                    managing.exec_driver_sql(f"CREATE DATABASE {url.database}{_OPTIONS[url.get_backend_name()]}")
        except DatabaseError:
            is_refused = True
            raise
        yield
    finally:
        if not is_refused:
            with connect() as connection, _managing(connection, url) as managing:
                _drop(managing, f"DROP DATABASE IF EXISTS {url.database}")


def _schema_in_use(connection: Connection) -> list[str]:
    """Return the PostgreSQL schema in which tables are created by default, unless every new database has it."""
    if connection.dialect.name != "postgresql":
        return []
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar()
    connection.rollback()
    return [] if schema in (None, _PUBLIC) else [str(schema)]


def _create_schema(connection: DBAPIConnection, schema: str) -> None:
    cursor = connection.cursor()
    quoted = schema.replace('"', '""')
    cursor.execute(f'CREATE SCHEMA IF NOT EXISTS "{quoted}"')
    cursor.close()
    connection.commit()


def _drop(connection: Connection, statement: str) -> None:
    if connection.dialect.name == "postgresql":
        try:
            connection.exec_driver_sql(f"{statement} WITH (FORCE)")
        except ProgrammingError:
            # Only a superuser may end an autovacuum worker. Without FORCE, the server ends the worker and waits for it.
            connection.rollback()
        else:
            return
    connection.exec_driver_sql(statement)


@contextmanager
def _managing(connection: Connection, url: URL) -> Iterator[Connection]:
    """Yield a connection outside of transactions, to create or drop the throwaway database, and explain errors."""
    try:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")
    except DBAPIError as exc:
        raise DatabaseError(
            f"The throwaway database {url.database} cannot be created or dropped:"
            f" {describe_without(exc, url).rstrip('.')}. --scratch requires a user who may do both."
        ) from None
