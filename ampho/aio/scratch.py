"""A throw-away database for an async engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from sqlalchemy import NullPool, StaticPool
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ampho.extension import connecting
from ampho.scratch import Scratch, managing, scratch_of


@asynccontextmanager
async def scratch_engine(engine: AsyncEngine, options: Mapping[str, Any]) -> AsyncIterator[AsyncEngine]:
    """Give an engine on a throw-away database beside that of ``engine``, which is dropped in the end.

    :param options: further arguments for the new engine.
    :raises DatabaseError: if the database cannot be made.
    """
    scratch = scratch_of(engine.url)
    made = create_async_engine(scratch.url, **options, poolclass=NullPool if scratch.drop else StaticPool)
    try:
        await _execute(engine, scratch, scratch.create)
        yield made
    finally:
        with anyio.CancelScope(shield=True):
            await made.dispose()
            await _execute(engine, scratch, scratch.drop)


async def _execute(engine: AsyncEngine, scratch: Scratch, statement: str | None) -> None:
    if statement is None:
        return
    with connecting(engine.url):
        connection = await engine.connect()
    try:
        with managing(scratch):
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.exec_driver_sql(statement)
    finally:
        await connection.close()
