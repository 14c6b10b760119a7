"""A throwaway database on the server of the app's database; for SQLite, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from ampho.database.store import store_for

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine


@contextmanager
def scratch_connection(engine: Engine, connect: Callable[[Engine], Connection]) -> Iterator[Connection]:
    """Create a throwaway database on the server of an engine, yield a connection to it, and drop it at the end.

    The connection has the options and listeners of the engine.

    :param connect: opens a connection from an engine.
    :raises ConfigurationError: if the engine cannot connect to another database.
    :raises DatabaseError: if the database cannot be created, or a connection leads to another database.
    """
    with closing(store_for(engine, connect, in_memory=True)) as store:
        name = store.new_name("scratch")
        store.create(name)
        try:
            with store.connection(name) as connection:
                yield connection
        finally:
            store.drop(name)
