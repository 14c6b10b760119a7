"""Templates and clones: databases at a point of the history, which take milliseconds to copy.

A template is a database that Ampho migrated, and that is found again by its key. A clone is a copy of a template. A
store is where both are: a server, or a folder of SQLite files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ampho.database.store.base import Store
from ampho.database.url import is_in_memory
from ampho.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

__all__ = ["Store", "store_for"]


def store_for(engine: Engine, connect: Callable[[Engine], Connection], *, in_memory: bool = False) -> Store:
    """Return the store for the databases of an app's engine. It connects when it is first used.

    :param engine: an engine without a pool for the app's database, as for migrations. The store only connects to that
        database if it can connect to no other one on the server, and never changes it.
    :param connect: opens a connection from an engine, and explains errors.
    :param in_memory: whether clones of SQLite databases are in memory, even if the app's database is a file.
    :raises ConfigurationError: if there is no store for this database.
    """
    backend = engine.dialect.name
    if backend == "sqlite":
        from ampho.database.store.sqlite import MemoryStore, SQLiteStore

        return (MemoryStore if in_memory or is_in_memory(engine.url) else SQLiteStore)(engine, connect)
    if backend == "postgresql":
        from ampho.database.store.postgres import PostgresStore

        return PostgresStore(engine, connect)
    if backend in ("mariadb", "mysql"):
        from ampho.database.store.mariadb import MariaDBStore

        return MariaDBStore(engine, connect)
    raise ConfigurationError(
        f"Ampho cannot create throwaway databases for {backend}. Use SQLite, PostgreSQL, or MariaDB."
    )
