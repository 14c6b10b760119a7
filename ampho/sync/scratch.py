"""A throw-away database for a sync engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, NullPool, StaticPool, create_engine

from ampho.extension import connecting
from ampho.scratch import scratch_of


@contextmanager
def scratch_engine(engine: Engine) -> Iterator[Engine]:
    """Give an engine on a throw-away database beside that of ``engine``, which is dropped in the end.

    :raises DatabaseError: if the database cannot be made.
    """
    scratch = scratch_of(engine.url)
    _execute(engine, scratch.create)
    made = create_engine(scratch.url, poolclass=NullPool if scratch.drop else StaticPool)
    try:
        yield made
    finally:
        made.dispose()
        _execute(engine, scratch.drop)


def _execute(engine: Engine, statement: str | None) -> None:
    if statement is not None:
        with connecting(engine.url), engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(statement)
