"""Reading what a database contains, and comparing it by meaning with another database on the same kind of server.

In contrast to :mod:`ampho.database.catalog`, this finds databases equal that were created in different ways. Both are
read in the same way, so the spelling of types and expressions is that of the database itself. Names that the
database generates for constraints do not count, nor does the order of columns.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ampho.database.inventory.differences import Differences, compare
from ampho.database.inventory.items import Inventory, Item
from ampho.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

__all__ = ["Differences", "Inventory", "Item", "compare", "read"]


def read(connection: Connection, schemas: Collection[str] | None = None) -> Inventory:
    """Return what a database contains.

    :param schemas: for PostgreSQL, the schemas to read besides the default one; by default, all.
    :raises ConfigurationError: if Ampho cannot read databases of this kind.
    """
    backend = connection.dialect.name
    if backend == "sqlite":
        from ampho.database.inventory import sqlite

        return sqlite.read(connection)
    if backend == "postgresql":
        from ampho.database.inventory import postgres

        return postgres.read(connection, schemas)
    if backend in ("mariadb", "mysql"):
        from ampho.database.inventory import mysql

        return mysql.read(connection)
    raise ConfigurationError(f"Ampho cannot read the schema of {backend}. Use SQLite, PostgreSQL, or MariaDB.")
