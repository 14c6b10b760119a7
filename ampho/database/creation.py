"""Create the databases and schemas that do not exist yet, for ``--create``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ampho._text import describe
from ampho.database.connection import connect
from ampho.database.engine import with_database
from ampho.database.schema import SCHEMA_EXISTS, schema_of
from ampho.database.url import describe_without, missing_folder
from ampho.errors import AmphoError, DatabaseError

if TYPE_CHECKING:
    from sqlalchemy import URL, TextClause
    from sqlalchemy.engine import Connection, Engine

_POSTGRES_HAS = text("SELECT 1 FROM pg_database WHERE datname = :name")
_MARIADB_HAS = text("SELECT 1 FROM information_schema.schemata WHERE schema_name = :name")
_DATABASE_EXISTS = {"postgresql": _POSTGRES_HAS, "mysql": _MARIADB_HAS, "mariadb": _MARIADB_HAS}
_OPTIONS = {"postgresql": "", "mysql": " CHARACTER SET utf8mb4", "mariadb": " CHARACTER SET utf8mb4"}

_REMEDY = "--create requires a user who may do that."


def create_missing(engine: Engine, app_engine: Engine, setting: str) -> tuple[str, ...]:
    """Create the database of an engine, and its schema, if they do not exist; for SQLite, create the folder.

    Another process may do the same at the same time.

    :param engine: the engine for the migrations of the database.
    :param app_engine: the app's engine; if its database is on the same server, it is used to create the other one.
    :return: what was created, such as ``the schema acme``.
    :raises DatabaseError: if the user may not create it, or if the server cannot be reached.
    """
    if engine.dialect.name == "sqlite":
        return _create_folder(engine)
    created: list[str] = []
    try:
        connection = connect(engine, setting, check=False)
    except DatabaseError:
        is_created = _create_database(engine, app_engine, setting)
        if is_created is None:
            raise
        if is_created:
            created.append(f"the database {engine.url.database}")
        # If the database exists, another process may just have created it; otherwise, this raises the error again.
        connection = connect(engine, setting, check=False)
    with connection:
        schema = schema_of(connection)
        if schema is not None and _create(connection, "schema", schema, SCHEMA_EXISTS):
            created.append(f"the schema {schema}")
    return tuple(created)


def _create_folder(engine: Engine) -> tuple[str, ...]:
    folder = missing_folder(engine.url)
    if not folder:
        return ()
    try:
        Path(str(engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise DatabaseError(f"The folder {folder} cannot be created: {describe(exc)}.") from None
    return (f"the folder {folder}",)


def _create_database(engine: Engine, app_engine: Engine, setting: str) -> bool | None:
    """Create the database of an engine if it does not exist, using another database on the server.

    :return: whether it was created; None if no other database can be used.
    """
    connection = _connect_to_server(engine, app_engine.url, setting)
    if connection is None:
        return None
    with connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        return create_database(connection, str(engine.url.database))


def create_database(connection: Connection, name: str, options: str | None = None, *, remedy: str = _REMEDY) -> bool:
    """Create a database if it does not exist, and return whether it was created.

    :param connection: a connection to another database on the server, outside of transactions.
    :param options: the options of ``CREATE DATABASE``, instead of the default ones.
    :param remedy: the last sentence of the error.
    :raises DatabaseError: if it cannot be created.
    """
    backend = connection.dialect.name
    options = _OPTIONS[backend] if options is None else options
    return _create(connection, "database", name, _DATABASE_EXISTS[backend], options, remedy=remedy)


def lacks_database(engine: Engine, app_url: URL, setting: str) -> bool:
    """Return whether the server of an engine can be reached, but has no database with the name in the engine's URL.

    :param app_url: the URL of the app's database, which may be on the same server.
    """
    connection = _connect_to_server(engine, app_url, setting)
    if connection is None:
        return False
    with connection:
        return connection.execute(_DATABASE_EXISTS[engine.dialect.name], {"name": engine.url.database}).first() is None


def _connect_to_server(engine: Engine, app_url: URL, setting: str) -> Connection | None:
    """Return a connection to another database on the server of an engine; None if none can be used."""
    url = engine.url
    if engine.dialect.name not in _DATABASE_EXISTS or url.database is None:
        return None
    try:
        other = with_database(engine, url.set(database=_other_database(url, app_url)), lambda connection: None)
        return connect(other, setting, check=False)
    except AmphoError:
        return None


def _other_database(url: URL, app: URL) -> str:
    """Return the name of a database on the same server to which the user can probably connect."""
    if (app.host, app.port) == (url.host, url.port) and app.database not in (None, url.database):
        return str(app.database)
    return "postgres" if url.get_backend_name() == "postgresql" else "information_schema"


def _create(
    connection: Connection, kind: str, name: str, exists: TextClause, options: str = "", *, remedy: str = _REMEDY
) -> bool:
    """Create a database or a schema if it does not exist, and return whether it was created.

    ``IF NOT EXISTS`` would require the permission to create it even if it exists, and would not prevent the error if
    another process creates it at the same moment.
    """

    def is_present() -> bool:
        found = connection.execute(exists, {"name": name}).first()
        connection.rollback()
        return found is not None

    if is_present():
        return False
    try:
        quoted = connection.dialect.identifier_preparer.quote_identifier(name)
        connection.exec_driver_sql(f"CREATE {kind.upper()} {quoted}{options}")
        connection.commit()
    except DBAPIError as exc:
        connection.rollback()
        if not is_present():
            why = describe_without(exc, connection.engine.url).rstrip(".")
            raise DatabaseError(f"The {kind} {name} cannot be created: {why}. {remedy}") from None
        return False
    return True
