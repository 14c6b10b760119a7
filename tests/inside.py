"""Call synchronous code with an app's engine: in Flask as it is, in Quart inside the loop, as the commands do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from facade import Facade
from sqlalchemy import URL, Engine
from sqlalchemy.util import greenlet_spawn

from ampho.database.engine import unpooled
from ampho.database.schema import member_engine, with_schema

T = TypeVar("T")


def member(engine: Engine, url: URL | None, schema: str | None) -> Engine:
    """Return the engine of a database of a group, as a command makes it."""
    own = unpooled(engine) if url is None else member_engine(engine, url, "tenants")
    return own if schema is None else with_schema(own, schema, "tenants")


def inside(each: Facade, function: Callable[[Engine], T]) -> T:
    """Return what a function makes of the app's engine."""
    if not each.ampho.is_async:
        with each.app.app_context():
            return function(each.ampho.engine(each.app))

    async def call() -> T:
        async with each.app.app_context():
            try:
                return await greenlet_spawn(function, each.ampho.engine(each.app).sync_engine)
            finally:
                await each.ampho.dispose(each.app)

    return asyncio.run(call())
