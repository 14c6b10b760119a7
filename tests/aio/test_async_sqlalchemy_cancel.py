"""AsyncSQLAlchemy where clients go away and tasks are cancelled: no connection, lock or data is lost."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import TYPE_CHECKING

import pytest
from async_server import request, serving
from async_shop import MEMORY, Shop, keeps_connections
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from servers import Database

# A driver that is cancelled while it connects may leave what it had opened to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def run_to_the_end(test: Coroutine[None, None, None]) -> None:
    asyncio.run(test)
    # PostgreSQL waits for a connection that was left behind to log in, before it drops the database.
    gc.collect()


@keeps_connections
def test_clients_that_disconnect_leak_no_connection(async_database: Database) -> None:
    run_to_the_end(_clients_that_disconnect_leak_no_connection(async_database))


async def _clients_that_disconnect_leak_no_connection(async_database: Database) -> None:
    shop = Shop(async_database.url, pool_size=4, max_overflow=0)
    await shop.create()
    for round_ in range(10):
        await asyncio.gather(*(shop.disconnected(f"/notes/{n}", after=round_ * 0.0007) for n in range(1, 3)))
    for _ in range(3):
        written = asyncio.Event()
        client = asyncio.create_task(shop.disconnected("/slow/1000000", 0, written))
        await shop.waiting.acquire()
        assert await shop.in_use() == 1
        written.set()
        await client
    assert await shop.in_use() == 0
    assert 1000000 not in await shop.numbers()
    assert (await shop.app.test_client().post("/notes/1")).status_code == 200
    await shop.db.dispose(shop.app)


@keeps_connections
def test_in_memory_a_client_that_disconnects_leaves_the_database_alone() -> None:
    run_to_the_end(_in_memory_a_client_that_disconnects_leaves_the_database_alone())


async def _in_memory_a_client_that_disconnects_leaves_the_database_alone() -> None:
    shop = Shop(MEMORY)
    await shop.create()
    assert (await shop.app.test_client().post("/notes/1")).status_code == 200
    for round_ in range(40):
        await shop.disconnected("/notes/2", after=round_ * 0.0002)
        await shop.disconnected("/slow/5", after=round_ * 0.0002)
    numbers = await shop.numbers()
    assert numbers[0] == 1
    assert set(numbers) <= {1, 2}
    assert await shop.in_use() == 0
    await shop.db.dispose(shop.app)


def test_in_memory_a_statement_that_is_cancelled_is_rolled_back_before_the_next() -> None:
    run_to_the_end(_in_memory_a_statement_that_is_cancelled_is_rolled_back_before_the_next())


async def _in_memory_a_statement_that_is_cancelled_is_rolled_back_before_the_next() -> None:
    shop = Shop(MEMORY)
    await shop.create()
    slow = text(
        "INSERT INTO note (number) WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 900000) "
        "SELECT count(*) FROM c"
    )

    async def run() -> None:
        async with shop.app.app_context():
            await shop.db.session.execute(slow)

    for _ in range(2):
        task = asyncio.create_task(run())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await shop.numbers() == []
    task = asyncio.create_task(run())
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait([task])
    await shop.db.dispose(shop.app)
    with pytest.raises(OperationalError, match="no such table"):
        await shop.numbers()
    await shop.db.dispose(shop.app)


@pytest.mark.drivers("sqlite+aiosqlite")
def test_a_statement_that_is_cancelled_keeps_no_lock_on_a_file(async_database: Database) -> None:
    run_to_the_end(_a_statement_that_is_cancelled_keeps_no_lock_on_a_file(async_database))


async def _a_statement_that_is_cancelled_keeps_no_lock_on_a_file(async_database: Database) -> None:
    shop = Shop(async_database.url)
    await shop.create()
    for number in range(2):
        async_database.run(f"INSERT INTO note (number) VALUES ({number})")
    slow = text(
        "SELECT number, (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 200000 + number) "
        "SELECT count(*) FROM c) FROM note"
    )

    async def run() -> None:
        async with shop.app.app_context():
            await shop.db.session.execute(slow)

    task = asyncio.create_task(run())
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    async_database.run("INSERT INTO note (number) VALUES (2)")
    assert caught.value.__traceback__ is not None, "which keeps whatever the statement left behind"
    await shop.db.dispose(shop.app)


def test_a_server_that_stops_amid_requests_leaves_no_connection_open(async_database: Database) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_to_the_end(_a_server_that_stops_amid_requests_leaves_no_connection_open(async_database))
    assert [str(warning.message) for warning in caught] == []


async def _a_server_that_stops_amid_requests_leaves_no_connection_open(async_database: Database) -> None:
    shop = Shop(async_database.url)
    await shop.create()

    @shop.app.get("/")
    async def index() -> str:
        await shop.db.session.execute(text("SELECT 1"))
        shop.waiting.release()
        await asyncio.sleep(1)  # for which hypercorn waits from Python 3.12 on
        return ""

    async with serving(shop.app) as port:
        clients = [asyncio.create_task(request(port, "/")) for _ in range(3)]
        for _ in clients:
            await shop.waiting.acquire()
    await asyncio.gather(*clients, return_exceptions=True)


def test_a_cancelled_end_of_a_context_still_closes_the_session(async_database: Database) -> None:
    run_to_the_end(_a_cancelled_end_of_a_context_still_closes_the_session(async_database))


async def _a_cancelled_end_of_a_context_still_closes_the_session(async_database: Database) -> None:
    shop = Shop(async_database.url)
    in_teardown = asyncio.Event()

    @shop.app.teardown_appcontext
    async def slow(error: BaseException | None) -> None:
        in_teardown.set()

    async def work() -> None:
        async with shop.app.app_context():
            await shop.db.session.execute(text("SELECT 1"))

    for wait in (False, True):
        task = asyncio.create_task(work())
        if wait:
            await in_teardown.wait()
        else:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0.05)
        assert await shop.in_use() == 0
    await shop.db.dispose(shop.app)
