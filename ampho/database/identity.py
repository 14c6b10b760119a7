"""Find out whether two connections lead to the same database, whatever their addresses are."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING

from ampho.database.engine import database_of

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# A restored copy of a server keeps the identifier of the original, but does not start at the same microsecond.
_POSTGRES = "SELECT pg_postmaster_start_time(), current_setting('port'), current_database(), current_schema()"
_MARIADB_SERVER = (
    "SHOW GLOBAL VARIABLES WHERE variable_name IN"
    " ('hostname', 'port', 'socket', 'datadir', 'server_uuid', 'server_uid', 'wsrep_node_name')"
)
_MARIADB_DATABASE = "SELECT IF(@@lower_case_table_names, LOWER(DATABASE()), DATABASE())"


def identity(connection: Connection) -> Hashable:
    """Return a value that is equal for two connections if they lead to the same database and schema of one server.

    For other databases than SQLite, PostgreSQL, MariaDB, and MySQL, this compares their addresses.

    :param connection: a new connection, or one outside of a transaction.
    """
    name = connection.dialect.name
    if name == "sqlite":
        return _identity_of_file(connection)
    found: tuple[object, ...]
    if name == "postgresql":
        found = tuple(connection.exec_driver_sql(_POSTGRES).one())
    elif name in ("mysql", "mariadb"):
        server = sorted((row[0].lower(), row[1]) for row in connection.exec_driver_sql(_MARIADB_SERVER))
        name, found = "mariadb", (*server, connection.exec_driver_sql(_MARIADB_DATABASE).scalar())
    else:
        url = connection.engine.url
        found = (url.host, url.port, url.database, connection.dialect.default_schema_name)
    connection.rollback()
    return name, *found


def _identity_of_file(connection: Connection) -> Hashable:
    path = database_of(connection)
    if not path:
        return "sqlite", connection.connection.dbapi_connection  # in memory, so its only connection is the database
    file = Path(path).stat()
    return "sqlite", file.st_dev, file.st_ino
