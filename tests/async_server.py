"""A Quart app on a real socket, and clients that leave when they like."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from hypercorn.asyncio import serve
from hypercorn.config import Config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hypercorn.typing import Framework
    from quart import Quart


@asynccontextmanager
async def serving(app: Quart) -> AsyncIterator[int]:
    """Serve an app with hypercorn in this loop, and yield the port."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(1024)
    port: int = listening.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.loglevel = "CRITICAL"  # the requests of clients that left, which a server reports as errors
    config.graceful_timeout = 0.2
    stop = asyncio.Event()
    server = asyncio.create_task(serve(cast("Framework", app), config, shutdown_trigger=stop.wait))
    try:
        yield port
    finally:
        stop.set()
        await server


async def request(port: int, path: str, *, method: str = "GET", headers: str = "", read: int | None = None) -> bytes:
    """Return the response to a request, or only its first bytes, after which the client leaves."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers or 'Connection: close'}\r\n\r\n".encode()
        )
        return await (reader.read() if read is None else reader.readexactly(read))
    finally:
        # Without the lines of a proper end, as if the network had failed.
        writer.transport.abort()
