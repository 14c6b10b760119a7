"""A throw-away database for a sync engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, NullPool, StaticPool, create_engine

from ampho.extension import connecting
from ampho.scratch import Scratch, managing, scratch_of


@contextmanager
def scratch_engine(engine: Engine, options: Mapping[str, Any]) -> Iterator[Engine]:
    """Give an engine on a throw-away database beside that of ``engine``, which is dropped in the end.

    :param options: further arguments for the new engine.
    :raises DatabaseError: if the database cannot be made.
    """
    scratch = scratch_of(engine.url)
    made = create_engine(scratch.url, **options, poolclass=NullPool if scratch.drop else StaticPool)
    try:
        _execute(engine, scratch, scratch.create)
        yield made
    finally:
        made.dispose()
        _execute(engine, scratch, scratch.drop)


def _execute(engine: Engine, scratch: Scratch, statement: str | None) -> None:
    if statement is None:
        return
    with connecting(engine.url):
        connection = engine.connect()
    with connection, managing(scratch):
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(statement)
