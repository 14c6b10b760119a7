"""Call synchronous code with an app's engine: in Flask as it is, in Quart inside the loop, as the commands do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from facade import Facade
from sqlalchemy import Engine
from sqlalchemy.util import greenlet_spawn

T = TypeVar("T")


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
