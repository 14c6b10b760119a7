"""AsyncSQLAlchemy's sessions: one for each app context, on every driver, with nothing lost and nothing left open."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from async_shop import MEMORY, Shop
from quart import Quart, copy_current_app_context
from sqlalchemy import Column, Integer, MetaData, Table, insert, select, text, union_all, update
from sqlalchemy.exc import InvalidRequestError, OperationalError, TimeoutError  # noqa: A004 (what pools raise)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.orm.exc import UnmappedClassError

from ampho.aio.sqlalchemy.extension import AsyncSQLAlchemy
from ampho.aio.sqlalchemy.sessions import RoutingSession
from ampho.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from servers import Database

pytestmark = pytest.mark.asyncio


# Concurrency


async def test_60_concurrent_requests_keep_their_writes_apart_and_leak_nothing(async_database: Database) -> None:
    shop = Shop(async_database.url, pool_size=5, max_overflow=5)
    await shop.create()
    client = shop.app.test_client()
    responses = await asyncio.gather(*(client.post(f"/notes/{number}") for number in range(60)))
    assert {r.status_code for r in responses} == {200, 409}
    assert await shop.numbers() == [n for n, r in enumerate(responses) if r.status_code == 200]
    assert await shop.in_use() == 0
    await shop.db.dispose(shop.app)


# How long a statement takes that is left behind.
SLEEP = {"postgresql": "SELECT pg_sleep(0.3)", "mariadb": "SELECT SLEEP(0.3)", "sqlite": "SELECT 1"}


@pytest.mark.parametrize("begun", [0.0, 0.1], ids=["while it connects", "in its statement"])
async def test_a_task_that_a_request_leaves_behind_costs_neither_the_answer_nor_a_connection(
    async_database: Database, begun: float, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(async_database.url, pool_size=1, max_overflow=1, pool_timeout=5)
    left: list[asyncio.Future[object]] = []

    @shop.app.get("/left")
    async def leave() -> str:
        statement = text(SLEEP[async_database.backend])
        left.append(asyncio.ensure_future(shop.db.session.execute(statement)))
        await asyncio.sleep(begun)
        return "ok"

    client = shop.app.test_client()
    assert [(await client.get("/left")).status_code for _ in range(4)] == [200] * 4
    async with asyncio.timeout(5):
        while await shop.in_use():  # noqa: ASYNC110 (a pool tells nobody)
            await asyncio.sleep(0.02)
    if begun == 0 or async_database.backend != "sqlite":
        said = [record.getMessage() for record in caplog.records if record.name == "ampho"]
        assert len(said) == 4
        assert all(
            line.startswith("A database session could not be closed yet: another task is using it. ")
            and "add_background_task, or wrap its function in quart.copy_current_app_context" in line
            for line in said
        ), said
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await shop.db.dispose(shop.app)


async def test_a_task_that_a_request_leaves_behind_writes_no_empty_row(async_database: Database) -> None:
    shop = Shop(async_database.url, pool_size=1, max_overflow=0)
    await shop.create()
    left: list[asyncio.Task[None]] = []

    @shop.app.get("/left")
    async def leave() -> str:
        shop.db.session.add(shop.Note(number=7))
        left.append(asyncio.create_task(shop.db.session.commit()))
        await asyncio.sleep(0.01)
        return "ok"

    async with shop.db.get_engine(app=shop.app).connect():
        assert (await shop.app.test_client().get("/left")).status_code == 200
        await asyncio.sleep(0.1)
    with pytest.raises(RuntimeError, match=r"has ended.*copy_current_app_context"):
        await left[0]
    assert await shop.numbers() == []
    await shop.db.dispose(shop.app)


async def test_in_memory_no_answered_write_is_lost() -> None:
    shop = Shop(MEMORY)
    await shop.create()
    client = shop.app.test_client()
    responses = await asyncio.gather(*(client.post(f"/notes/{number}") for number in range(60)))
    written = [n for n, r in enumerate(responses) if r.status_code == 200]
    assert written == [n for n in range(60) if n % 3]
    assert await shop.numbers() == written
    seen = [int(await r.get_data(as_text=True)) for r in responses if r.status_code == 200]
    assert sorted(seen) == list(range(40)), "each request saw what those before it had committed, and nothing else"
    assert await shop.in_use() == 0
    await shop.db.dispose(shop.app)


async def test_in_memory_a_connection_beyond_saving_is_replaced() -> None:
    shop = Shop(MEMORY)
    async with shop.app.app_context():
        connection = await shop.db.session.connection()
        raw = await connection.get_raw_connection()
        await raw.driver_connection.close()  # type: ignore[union-attr]
        await connection.invalidate()
    async with shop.app.app_context():
        assert await shop.db.session.scalar(text("SELECT 1")) == 1
    await shop.db.dispose(shop.app)


async def test_in_memory_waiting_for_ones_own_task_is_an_error_at_once() -> None:
    shop = Shop(MEMORY)
    async with shop.app.app_context():
        await shop.db.session.execute(text("SELECT 1"))
        began = time.monotonic()
        async with shop.app.app_context():
            with pytest.raises(InvalidRequestError, match=r"this task already uses.*Commit, roll back, or close"):
                await shop.db.session.execute(text("SELECT 1"))
        assert time.monotonic() - began < 1
        await shop.db.session.commit()
        async with shop.app.app_context():
            assert await shop.db.session.scalar(text("SELECT 2")) == 2
    await shop.db.dispose(shop.app)


async def test_in_memory_waiting_for_a_task_that_waits_for_oneself_ends_with_words() -> None:
    shop = Shop(MEMORY, pool_timeout=1)

    async def other() -> None:
        async with shop.app.app_context():
            await shop.db.session.execute(text("SELECT 1"))

    async with shop.app.app_context():
        await shop.db.session.execute(text("SELECT 1"))
        with pytest.raises(TimeoutError, match=r"was still using it after 1 seconds.*Commit, roll back, or close"):
            await asyncio.create_task(other())
        await shop.db.dispose()
    async with shop.app.app_context():
        assert shop.db.engine.pool.status() == "OneConnectionPool in use: 0"
        # A pool that was disposed of has a successor with the same patience.
        async with shop.db.engine.connect():
            with pytest.raises(TimeoutError, match="after 1 seconds"):
                await asyncio.create_task(other())
        await shop.db.dispose()


@pytest.mark.parametrize("freed", [False, True], ids=["while it waits", "when it has just been woken"])
async def test_in_memory_one_that_is_cancelled_while_it_waits_does_not_hold_up_the_next(freed: bool) -> None:
    shop = Shop(MEMORY)

    async def other() -> Any:
        async with shop.app.app_context():
            return await shop.db.session.scalar(text("SELECT 1"))

    async with shop.app.app_context():
        await shop.db.session.execute(text("SELECT 1"))
        first, second = (asyncio.create_task(other()) for _ in range(2))
        await asyncio.sleep(0.01)
        if freed:
            await shop.db.session.commit()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await shop.db.session.commit()
        assert await asyncio.wait_for(second, 5) == 1
    await shop.db.dispose(shop.app)


# What a context is


async def test_a_context_has_one_session_closed_at_its_end() -> None:
    shop = Shop(MEMORY)
    async with shop.app.app_context():
        session = shop.db.session
        assert session is shop.db.session
        assert isinstance(session, AsyncSession)
        await session.execute(text("SELECT 1"))
        assert await shop.in_use() == 1
    assert await shop.in_use() == 0
    with pytest.raises(RuntimeError, match=r"context .* has ended.*add_background_task.*copy_current_app_context"):
        await session.execute(text("SELECT 1"))
    async with shop.app.app_context():
        assert shop.db.session is not session
    await shop.db.dispose(shop.app)


async def test_a_view_that_fails_leaves_nothing_open(async_database: Database) -> None:
    shop = Shop(async_database.url)
    await shop.create()

    @shop.app.get("/fails")
    async def fails() -> str:
        shop.db.session.add(shop.Note(number=1))
        await shop.db.session.flush()
        raise ValueError

    assert (await shop.app.test_client().get("/fails")).status_code == 500
    assert await shop.in_use() == 0
    assert await shop.numbers() == []
    await shop.db.dispose(shop.app)


async def test_websockets_have_sessions_of_their_own_for_as_long_as_they_live(async_database: Database) -> None:
    shop = Shop(async_database.url)
    await shop.create()
    client = shop.app.test_client()

    async def talk(number: int) -> set[str | bytes]:
        async with client.websocket("/feed") as connection:
            answers: set[str | bytes] = set()
            for _ in range(3):
                await connection.send(str(number))
                answers.add(await connection.receive())
                await talking.wait()
        return answers

    talking = asyncio.Barrier(10)
    answers = await asyncio.gather(*(talk(number) for number in range(10)))
    assert [len(answer) for answer in answers] == [1] * 10
    assert len(set.union(*answers)) == 10
    assert await shop.numbers() == sorted([*range(10)] * 3)
    assert await shop.in_use() == 0
    await shop.db.dispose(shop.app)


async def test_a_copied_context_has_its_own_session() -> None:
    shop = Shop(MEMORY)
    found: list[AsyncSession] = []

    @shop.app.get("/")
    async def index() -> str:
        @copy_current_app_context
        async def work() -> None:
            found.append(shop.db.session)
            await shop.db.session.execute(text("SELECT 1"))

        mine = shop.db.session
        await work()
        await asyncio.create_task(work())
        await mine.execute(text("SELECT 1"))
        assert shop.db.session is mine
        found.append(mine)
        return ""

    assert (await shop.app.test_client().get("/")).status_code == 200
    assert len(set(map(id, found))) == 3
    assert await shop.in_use() == 0
    await shop.db.dispose(shop.app)


async def test_a_background_task_has_its_own_session() -> None:
    shop = Shop(MEMORY)
    await shop.create()

    async def work() -> None:
        shop.db.session.add(shop.Note(number=5))
        await shop.db.session.commit()

    @shop.app.get("/")
    async def index() -> str:
        shop.app.add_background_task(work)
        return ""

    assert (await shop.app.test_client().get("/")).status_code == 200
    await asyncio.gather(*shop.app.background_tasks)
    assert await shop.numbers() == [5]
    await shop.db.dispose(shop.app)


async def test_a_task_that_outlives_its_request_is_told_so() -> None:
    shop = Shop(MEMORY)
    tasks = []
    gone = asyncio.Event()

    async def work() -> None:
        await gone.wait()
        await shop.db.session.execute(text("SELECT 1"))

    @shop.app.get("/")
    async def index() -> str:
        tasks.append(asyncio.create_task(work()))
        return ""

    assert (await shop.app.test_client().get("/")).status_code == 200
    gone.set()
    with pytest.raises(RuntimeError, match=r"has ended.*add_background_task"):
        await tasks[0]
    await shop.db.dispose(shop.app)


async def test_the_session_works_before_during_and_after_serving() -> None:
    shop = Shop(MEMORY)

    @shop.app.before_serving
    async def before() -> None:
        await shop.db.create_all()
        shop.db.session.add(shop.Note(number=1))
        await shop.db.session.commit()

    @shop.app.after_serving
    async def after() -> None:
        assert (await shop.db.session.scalars(select(shop.Note.number))).all() == [1, 2]

    async with shop.app.test_app() as serving:
        assert (await serving.test_client().post("/notes/2")).status_code == 200
    with pytest.raises(OperationalError, match="no such table"):
        await shop.numbers()
    await shop.db.dispose(shop.app)


@pytest.mark.anyio
async def test_the_session_works_under_anyios_plugin_too() -> None:
    shop = Shop(MEMORY)
    await shop.create()
    assert (await shop.app.test_client().post("/notes/1")).status_code == 200
    assert await shop.numbers() == [1]
    await shop.db.dispose(shop.app)


# Options and binds


async def test_attributes_stay_loaded_after_a_commit_unless_the_options_say_otherwise() -> None:
    app = Quart(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = MEMORY
    for options, expected in (({}, False), ({"expire_on_commit": True}, True)):
        app.extensions.clear()
        db = AsyncSQLAlchemy(app, session_options=options)
        async with app.app_context():
            assert db.session.sync_session.expire_on_commit is expected


async def test_session_classes_of_yours_are_used() -> None:
    class Sync(RoutingSession): ...

    class Mine(AsyncSession):
        sync_session_class = Sync

    app = Quart(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = MEMORY
    db = AsyncSQLAlchemy(app, session_options={"class_": Mine, "autoflush": False})
    async with app.app_context():
        assert isinstance(db.session, Mine)
        assert isinstance(db.session.sync_session, Sync)
        assert db.session.autoflush is False


async def test_a_sync_session_class_that_cannot_route_is_refused() -> None:
    class Sync(Session): ...

    with pytest.raises(ConfigurationError, match="Sync must be a subclass of RoutingSession"):
        AsyncSQLAlchemy(session_options={"sync_session_class": Sync})


async def test_models_and_tables_find_the_engine_of_their_bind(tmp_path: Path) -> None:
    app = Quart(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite+aiosqlite:///{tmp_path}/main.db"
    app.config["SQLALCHEMY_BINDS"] = {"audit": f"sqlite+aiosqlite:///{tmp_path}/audit.db"}
    db = AsyncSQLAlchemy(app)

    class User(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    class Entry(db.Model):  # type: ignore[name-defined, misc]
        __bind_key__ = "audit"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]

    log = Table("log", db.metadatas["audit"], Column("id", Integer, primary_key=True))
    async with app.app_context():
        await db.create_all()
        db.session.add_all([User(), Entry(text="a")])
        await db.session.execute(insert(log).values(id=3))
        await db.session.execute(update(Entry).values(text="b"))
        await db.session.commit()
        assert (await db.session.scalars(select(Entry.text))).all() == ["b"]
        assert (await db.session.scalars(select(log.c.id))).all() == [3]
        assert (await db.session.scalars(union_all(select(log.c.id), select(log.c.id)))).all() == [3, 3]
        assert (await db.session.scalars(select(User.id))).all() == [1]
        assert (await db.session.scalars(select(Table("user", MetaData(), Column("id", Integer))))).all() == [1]
        files = {
            str(await db.session.scalar(text("SELECT file FROM pragma_database_list"), bind_arguments=arguments))
            for arguments in ({}, {"mapper": Entry}, {"clause": log}, {"bind": db.get_engine("audit").sync_engine})
        }
        assert files == {f"{tmp_path}/main.db", f"{tmp_path}/audit.db"}
        await db.dispose()


async def test_a_bind_that_no_setting_has_and_a_class_that_is_no_model_are_errors() -> None:
    app = Quart(__name__)
    app.config["SQLALCHEMY_BINDS"] = {"audit": MEMORY}
    db = AsyncSQLAlchemy(app)
    lost = Table("lost", db.metadatas["adit"], Column("id", Integer, primary_key=True))
    async with app.app_context():
        with pytest.raises(ConfigurationError, match="bind key 'adit'"):
            await db.session.execute(select(lost))
        with pytest.raises(InvalidRequestError, match="Could not locate a bind"):
            await db.session.execute(text("SELECT 1"))
        with pytest.raises(UnmappedClassError):
            db.session.sync_session.get_bind(Shop)
        with pytest.raises(InvalidRequestError, match="No inspection system"):
            db.session.sync_session.get_bind(42)  # type: ignore[arg-type]
