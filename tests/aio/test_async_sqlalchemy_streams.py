"""AsyncSQLAlchemy's sessions in streams, websockets, and background tasks, on a server whose clients leave."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from async_server import request, serving
from async_shop import MEMORY, Shop, keeps_connections
from quart import Response, copy_current_request_context, stream_with_context, websocket
from sqlalchemy import select, text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from servers import Database

pytestmark = pytest.mark.asyncio

CHUNK = "x" * 1000
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
)
SLEEP = {"postgresql": "SELECT pg_sleep(0.1)", "mariadb": "SELECT SLEEP(0.1)", "sqlite": "SELECT 1"}


@asynccontextmanager
async def closed(shop: Shop) -> AsyncIterator[None]:
    """Check that nothing uses a connection soon after the block."""
    yield
    async with asyncio.timeout(5):
        while await shop.in_use():  # noqa: ASYNC110 (a pool tells nobody)
            await asyncio.sleep(0.01)


async def test_a_stream_has_a_session_that_is_closed_at_its_end(async_database: Database) -> None:
    shop = Shop(async_database.url)
    await shop.create()
    in_use: list[int] = []

    @shop.app.get("/numbers")
    async def numbers() -> AsyncIterator[str]:
        shop.db.session.add_all([shop.Note(number=number) for number in range(5)])
        await shop.db.session.commit()
        before = shop.db.session

        @stream_with_context
        async def lines() -> AsyncIterator[str]:
            assert shop.db.session is not before
            async for number in await shop.db.session.stream_scalars(select(shop.Note.number)):
                in_use.append(await shop.in_use())
                yield f"{number} "

        return lines()  # type: ignore[no-any-return]

    async with closed(shop):
        response = await shop.app.test_client().get("/numbers")
        assert await response.get_data(as_text=True) == "0 1 2 3 4 "
    async with serving(shop.app) as port, closed(shop):
        assert b"4 " in await request(port, "/numbers")
    assert set(in_use) == {1}


@keeps_connections
async def test_a_stream_whose_client_leaves_is_closed_and_rolled_back(async_database: Database) -> None:
    shop = Shop(async_database.url, pool_size=2, max_overflow=0, pool_timeout=1)
    await shop.create()
    ended: list[str] = []

    async def endless() -> AsyncIterator[str]:
        """Wait in the query, in the client, or in neither when the client leaves."""
        try:
            async with shop.db.session.begin():
                shop.db.session.add(shop.Note(number=1))
                await shop.db.session.flush()
                while True:
                    yield CHUNK
                    await shop.db.session.execute(text(SLEEP[async_database.backend]))
        finally:
            ended.append("stream")

    async def flood() -> AsyncIterator[str]:
        async for number in await shop.db.session.stream_scalars(select(shop.Note.number)):
            assert number
        while True:
            yield CHUNK * 100
            await asyncio.sleep(0)  # since a server drops what it cannot send without waiting

    @shop.app.get("/<kind>")
    async def view(kind: str) -> AsyncIterator[str]:
        return stream_with_context(endless if kind == "endless" else flood)()  # type: ignore[no-any-return]

    async with serving(shop.app) as port:
        for size in (500, 1500, 3000):
            for path in ("/endless", "/flood"):
                async with closed(shop):
                    assert len(await request(port, path, read=size)) == size
        async with asyncio.timeout(5):
            while len(ended) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await shop.numbers() == []


async def test_a_stream_without_its_context_is_told_what_it_needs() -> None:
    shop = Shop(MEMORY)
    errors: list[str] = []

    @shop.app.get("/<kind>")
    async def view(kind: str) -> AsyncIterator[str]:
        session = shop.db.session

        async def lines() -> AsyncIterator[str]:
            try:
                await (session if kind == "captured" else shop.db.session).execute(text("SELECT 1"))
            except RuntimeError as error:
                errors.append(str(error))
            yield ""

        return lines()

    for kind in ("captured", "own"):
        await shop.app.test_client().get(f"/{kind}")
    assert len(errors) == 2
    assert all("stream_with_context" in error for error in errors)
    await shop.db.dispose(shop.app)


@keeps_connections
async def test_server_sent_events_hold_no_connection_between_two_events(async_database: Database) -> None:
    shop = Shop(async_database.url, pool_size=1, max_overflow=0, pool_timeout=5)
    await shop.create()
    all_waiting = asyncio.Barrier(10)

    @shop.app.get("/events")
    async def events() -> Response:
        @stream_with_context
        async def send() -> AsyncIterator[str]:
            while True:
                number = await shop.db.session.scalar(select(shop.Note.number))
                await shop.db.session.rollback()
                await all_waiting.wait()
                yield f"data: {number}\n\n"

        response = Response(send(), mimetype="text/event-stream")
        response.timeout = None
        return response

    async with serving(shop.app) as port, closed(shop):
        requests = (request(port, "/events", read=200) for _ in range(10))
        assert all(b"data: None" in answer for answer in await asyncio.gather(*requests))


@keeps_connections
async def test_a_websocket_whose_client_leaves_is_closed_and_rolled_back(async_database: Database) -> None:
    shop = Shop(async_database.url)
    await shop.create()
    seen: list[Any] = []

    @shop.app.websocket("/talk")
    async def talk() -> None:
        seen.append(shop.db.session)
        shop.db.session.add(shop.Note(number=1))
        await shop.db.session.flush()
        await websocket.send(CHUNK)
        await websocket.receive()

    async with serving(shop.app) as port:
        async with closed(shop):
            answers = await asyncio.gather(*(request(port, "/talk", headers=UPGRADE, read=600) for _ in range(2)))
            assert all(b" 101 " in answer for answer in answers)
        assert await shop.numbers() == []
    assert len(set(seen)) == 2


async def test_background_tasks_end_with_their_sessions_closed_before_the_server_stops(
    async_database: Database,
) -> None:
    shop = Shop(async_database.url)
    await shop.create()
    shop.app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = 0.2
    shop.app.logger.disabled = True  # the error of a task
    begun = asyncio.Event()

    async def work(kind: str) -> None:
        await begun.wait()  # until the request has ended
        shop.db.session.add(shop.Note(number=len(kind)))
        await shop.db.session.flush()
        if kind == "fails":
            raise ValueError(kind)
        if kind == "never ends":
            await asyncio.sleep(60)
        await shop.db.session.commit()

    @shop.app.get("/")
    async def index() -> str:
        for kind in ("ends", "fails", "never ends"):
            shop.app.add_background_task(work, kind)
            if async_database.backend == "sqlite" and kind == "fails":
                break  # A file has one writer.
        return ""

    async with serving(shop.app) as port, closed(shop):
        await request(port, "/")
        begun.set()
    assert await shop.numbers() == [len("ends")]
    await shop.db.dispose(shop.app)


async def test_a_copied_request_context_does_not_outlive_the_request_unnoticed() -> None:
    shop = Shop(MEMORY)
    tasks: list[asyncio.Task[Any]] = []

    async def work() -> int:
        await asyncio.sleep(0.01)
        return int(await shop.db.session.scalar(text("SELECT 1")) or 0)

    @shop.app.get("/")
    async def index() -> str:
        tasks.append(asyncio.create_task(copy_current_request_context(work)()))
        return ""

    await shop.app.test_client().get("/")
    # Up to Quart 0.22, the copy has the app context of the request; later, it has one of its own.
    (result,) = await asyncio.gather(*tasks, return_exceptions=True)
    assert result == 1 or "copy_current_app_context" in str(result)
    assert await shop.in_use() == 0
    await shop.db.dispose(shop.app)
