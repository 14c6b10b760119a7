"""Closing the connections of async engines, each in the event loop that opened it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

if TYPE_CHECKING:
    from sqlalchemy import Engine


class Loops:
    """The event loops in which the engines of an app have connected."""

    def __init__(self) -> None:
        self._used: dict[tuple[asyncio.AbstractEventLoop, Engine], AsyncGenerator[None]] = {}

    @contextmanager
    def watching(self, engine: Engine) -> Iterator[None]:
        """Close the connections of an engine before the event loop that opened them is closed."""

        def connected(*_: object) -> None:
            key = (asyncio.get_running_loop(), engine)
            if key not in self._used:
                # A loop closes the generators that were started in it before it is closed itself.
                self._used[key] = self._until_closed(*key)
                with suppress(StopIteration):
                    anext(self._used[key]).send(None)

        event.listen(engine, "connect", connected)
        yield

    async def _until_closed(self, loop: asyncio.AbstractEventLoop, engine: Engine) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._used.pop((loop, engine), None)
            await AsyncEngine(engine).dispose()

    def close_connections(self) -> None:
        """Close the connections in the loops that are still open, from outside of them."""
        for (loop, _), closing in list(self._used.items()):
            if loop.is_running():
                asyncio.run_coroutine_threadsafe(closing.aclose(), loop).result()
            elif not loop.is_closed():
                loop.run_until_complete(closing.aclose())
