"""A throw-away database on the same server as the app's; for SQLite, in memory."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import URL, NullPool, StaticPool
from sqlalchemy.exc import DBAPIError, ProgrammingError

from ampho.database.engine import DATABASE_ARGUMENTS, beside, database_of, served_database
from ampho.database.url import describe_without
from ampho.errors import ConfigurationError, DatabaseError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection

_PREFIX = "ampho_scratch_"
_PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Scratch:
    """A throw-away database: how to create it, connect to it, and drop it.

    :ivar url: its address.
    :ivar create: the statement that creates it, on a connection to the app's database; empty if none is needed.
    :ivar drop: the statement that drops it, likewise.
    """

    url: URL
    create: str = ""
    drop: str = ""

    def check(self, served: str | None) -> None:
        """Check that a connection is on this database, before anything runs there.

        :param served: the name of the connection's database according to the server.
        :raises DatabaseError: if it is another one, which may be the app's.
        """
        wanted = self.url.database or ""
        if served != wanted:
            raise DatabaseError(
                f"The connection to the throw-away database {wanted or 'in memory'} leads to"
                f" {served or 'no database'}, so nothing was run on it. Look for what makes the app's connections, or"
                " changes them: a pooler, or a listener of the engine."
            )


def scratch_of(url: URL) -> Scratch:
    """Return a throw-away database with a new name on the same server as a database.

    :raises ConfigurationError: if Ampho does not support them for this kind of database.
    """
    backend = url.get_backend_name()
    if backend == "sqlite":
        return Scratch(URL.create(url.drivername))
    name = f"{_PREFIX}{secrets.token_hex(6)}"
    address = url.difference_update_query(DATABASE_ARGUMENTS).set(database=name)
    if backend == "postgresql":
        drop = f'DROP DATABASE IF EXISTS "{name}"'
        return Scratch(address, f'CREATE DATABASE "{name}"', drop)
    if backend in ("mysql", "mariadb"):
        return Scratch(
            address,
            f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4",
            f"DROP DATABASE IF EXISTS `{name}`",
        )
    raise ConfigurationError(
        f"Ampho knows no throw-away database for {backend}. Compare with the app's, without --scratch."
    )


@contextmanager
def scratch_connection(engine: Engine, connect: Callable[[Engine], Connection]) -> Iterator[Connection]:
    """Create a throw-away database on the server of an engine, yield a connection to it, and drop it at the end.

    The connection is made in the same way as those of the engine. The server is asked twice whether it is on the right
    database: before the app's listeners run, and after them, because a listener may select another database.

    :param connect: opens a connection of an engine.
    :raises ConfigurationError: if the engine cannot connect to another database.
    :raises DatabaseError: if the database cannot be created, or a connection is on another one.
    """
    scratch = scratch_of(engine.url)
    schemas: list[str] = []

    def prepare(connection: DBAPIConnection) -> None:
        scratch.check(served_database(connection, scratch.url.get_backend_name()))
        while schemas:
            _create_schema(connection, schemas.pop())

    made = beside(engine, scratch.url, prepare, NullPool if scratch.drop else StaticPool)
    with _existing(scratch, partial(connect, engine), schemas) if scratch.drop else nullcontext():
        try:
            with connect(made) as connection:
                scratch.check(database_of(connection))
                yield connection
        finally:
            made.dispose()


@contextmanager
def _existing(scratch: Scratch, connect: Callable[[], Connection], schemas: list[str]) -> Iterator[None]:
    """Create a database on a server, and drop it at the end if it was created.

    :param schemas: receives the schemas that a new database lacks.
    """
    refused = False
    try:
        try:
            with connect() as connection:
                schemas.extend(_schema_in_use(connection))
                _execute(connection, scratch, scratch.create)
        except DatabaseError:
            refused = True
            raise
        yield
    finally:
        if not refused:
            with connect() as connection:
                _drop(connection, scratch)


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


def _execute(connection: Connection, scratch: Scratch, statement: str) -> None:
    with _managing(scratch):
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(statement)


def _drop(connection: Connection, scratch: Scratch) -> None:
    with _managing(scratch):
        autocommit = connection.execution_options(isolation_level="AUTOCOMMIT")
        if connection.dialect.name == "postgresql":
            try:
                autocommit.exec_driver_sql(f"{scratch.drop} WITH (FORCE)")
            except ProgrammingError:
                # Only a superuser may end a worker of autovacuum. Without FORCE, the server ends it and waits for it.
                connection.rollback()
            else:
                return
        autocommit.exec_driver_sql(scratch.drop)


@contextmanager
def _managing(scratch: Scratch) -> Iterator[None]:
    """Raise one clear error if a throw-away database cannot be created or dropped.

    :raises DatabaseError: if the server refuses.
    """
    try:
        yield
    except DBAPIError as exc:
        why = describe_without(exc, scratch.url).rstrip(".")
        raise DatabaseError(
            f"The throw-away database {scratch.url.database} cannot be made or dropped: {why}."
            " --scratch needs a user that may do both."
        ) from None
