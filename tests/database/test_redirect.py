"""Engines that are led to another database for a while."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from servers import Database
from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.pool import NullPool, StaticPool

from ampho import Ampho
from ampho.database.engine import with_database
from ampho.database.redirect import Redirects, redirected, refused
from ampho.errors import DatabaseError
from ampho.testing.engines import redirect_app, refuse_app

SESSIONS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'",
    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE db = :name AND id <> connection_id()",
}


class Shop:
    """A Flask app whose configured database nothing may ever touch."""

    def __init__(self, database: Database, **binds: str) -> None:
        self.app = Flask("shop")
        url = database.url.render_as_string(hide_password=False)
        self.app.config.update(SQLALCHEMY_DATABASE_URI=url, SQLALCHEMY_BINDS=binds)
        self.db = SQLAlchemy()

        class Note(self.db.Model):  # type: ignore[name-defined,misc]
            id: Mapped[int] = mapped_column(primary_key=True)

        self.Note: Any = Note
        self.db.init_app(self.app)
        self.ampho = Ampho(self.app, self.db)
        self.app.add_url_rule("/notes", view_func=self.notes)
        self.app.add_url_rule("/notes/<int:number>", view_func=self.add, methods=["POST"])

    def notes(self) -> list[int]:
        return sorted(self.db.session.scalars(select(self.Note.id)))

    def add(self, number: int) -> str:
        self.db.session.add(self.Note(id=number))
        self.db.session.commit()
        return ""

    @property
    def engine(self) -> Engine:
        with self.app.app_context():
            return self.db.engine


def engine_for(database: Database) -> Engine:
    return create_engine(database.url)


def other(make_database: Callable[[str], Database], database: Database) -> Database:
    made = make_database(database.driver)
    made.run("CREATE TABLE note (id integer PRIMARY KEY)")
    return made


def test_an_app_uses_another_database_and_no_longer_its_own(
    sync_database: Database, make_database: Callable[[str], Database]
) -> None:
    shop, to = Shop(sync_database), other(make_database, sync_database)
    sessions, engine, before = shop.db.session, shop.engine, (shop.engine.pool, shop.engine.url)
    dialect = dict(vars(engine.dialect))
    configured = dict(shop.app.config)
    elsewhere = engine_for(to)
    with refuse_app(shop.ampho, shop.app, "Use ampho_database for {database}."):
        for number in (1, 2):
            with shop.app.app_context(), pytest.raises(DatabaseError, match=r"^Use ampho_database for default\.$"):
                shop.db.session.connection()
            with redirect_app(shop.ampho, shop.app, {"default": elsewhere}):
                shop.app.test_client().post(f"/notes/{number}")
                assert shop.app.test_client().get("/notes").json == [1, 2][:number]
                assert shop.engine is engine
                assert shop.engine.url == to.url
                assert shop.app.config["SQLALCHEMY_DATABASE_URI"] == to.url.render_as_string(hide_password=False)
                assert not shop.ampho.current().unknown
    assert shop.db.session is sessions
    assert (engine.pool, engine.url) == before
    assert vars(engine.dialect) == dialect
    assert dict(shop.app.config) == configured
    assert to.query("SELECT id FROM note ORDER BY id") == [(1,), (2,)]
    assert sync_database.tables() == []
    with shop.app.app_context():
        shop.db.create_all()
    assert sync_database.tables() == ["note"]
    engine.dispose()
    elsewhere.dispose()


def test_connections_and_sessions_in_use_are_closed_at_the_end(
    sync_database: Database, make_database: Callable[[str], Database]
) -> None:
    shop, to = Shop(sync_database), other(make_database, sync_database)
    elsewhere, engine = engine_for(to), shop.engine
    closed: list[object] = []
    event.listen(engine, "close", lambda connection, record: closed.append(connection))
    with shop.app.app_context():
        with redirected(engine, elsewhere):
            note = shop.Note(id=1)
            shop.db.session.add(note)
            shop.db.session.flush()
            held = engine.connect()
            used = [held.connection.dbapi_connection, shop.db.session.connection().connection.dbapi_connection]
            engine.connect().close()
        assert {*map(id, closed)} >= {*map(id, used)}
        assert not held.connection.is_valid
        assert note not in shop.db.session
        shop.db.session.execute(text("SELECT 1"))
        assert shop.db.session.connection().connection.dbapi_connection not in used
        held.close()
    if to.backend == "postgresql":
        assert to.query("SELECT count(*) FROM pg_stat_activity WHERE datname = :name", name=to.name) == [(1,)]
    engine.dispose()
    elsewhere.dispose()


def test_an_engine_keeps_its_listeners_and_its_pool(tmp_path: Path) -> None:
    asked: list[object] = []
    for options, to_pool, kind in (
        ({"pool_size": 3}, NullPool, None),
        ({"poolclass": NullPool}, NullPool, NullPool),
        ({}, StaticPool, StaticPool),  # each connection of the app's pool would have a database of its own
    ):
        engine = create_engine(f"sqlite:///{tmp_path}/own.db", **options)
        event.listen(engine, "connect", lambda connection, record: asked.append(connection))
        in_memory = to_pool is StaticPool
        to = create_engine("sqlite://" if in_memory else f"sqlite:///{tmp_path}/other.db", poolclass=to_pool)
        with redirected(engine, to), engine.connect() as connection:
            assert asked.pop() is connection.connection.dbapi_connection
            assert type(engine.pool) is (kind or type(create_engine(f"sqlite:///{tmp_path}/own.db").pool))
            assert "pool_size" not in options or engine.pool.size() == 3  # type: ignore[attr-defined]
    assert not (tmp_path / "own.db").exists()


def test_an_engine_with_options_of_its_own_is_led_elsewhere_too(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/own.db")
    autocommits = engine.execution_options(isolation_level="AUTOCOMMIT")
    with refused(engine, "Use a fixture."), pytest.raises(DatabaseError, match=r"^Use a fixture\.$"):
        autocommits.connect()
    with redirected(engine, create_engine(f"sqlite:///{tmp_path}/other.db")), autocommits.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (i)")
    assert not (tmp_path / "own.db").exists()


def connections(database: Database) -> int:
    if database.backend == "sqlite":
        return [link.resolve() for link in Path("/proc/self/fd").iterdir()].count(Path(database.name))
    return int(database.query(SESSIONS[database.backend], name=database.name)[0][0])


def wait_until_closed(database: Database) -> None:
    deadline = time.monotonic() + 5
    while connections(database):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("loops", ["one loop", "a loop for each test"])
def test_connections_of_async_engines_are_closed_in_their_loops(
    async_database: Database, make_database: Callable[[str], Database], loops: str
) -> None:
    """Before each loop ends, or before; also if redirections are nested, and connections and sessions are in use."""
    outer, inner = other(make_database, async_database), other(make_database, async_database)
    engine = create_async_engine(async_database.url)
    held: list[object] = []

    async def use(number: int) -> None:
        async with engine.begin() as connection:
            await connection.execute(text(f"INSERT INTO note VALUES ({number})"))
        held.append(session := AsyncSession(engine))
        await session.execute(text("SELECT 1"))
        held.append(connection := await engine.connect())
        await connection.execute(text("SELECT 1"))

    with ExitStack() as stack, refused(engine.sync_engine, "Use a fixture."):
        run = stack.enter_context(asyncio.Runner()).run if loops == "one loop" else asyncio.run
        with redirected(engine.sync_engine, create_async_engine(outer.url).sync_engine):
            run(use(1))
            for number in (2, 3):
                with redirected(engine.sync_engine, create_async_engine(inner.url).sync_engine):
                    run(use(number))
                wait_until_closed(inner)
                held.clear()
            run(use(4))
        wait_until_closed(outer)
        held.clear()
    gc.collect()
    assert outer.query("SELECT id FROM note ORDER BY id") == [(1,), (4,)]
    assert inner.query("SELECT id FROM note ORDER BY id") == [(2,), (3,)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # asyncio's, of an unclosed transport
def test_connections_of_a_loop_that_was_only_closed_are_closed(
    async_database: Database, make_database: Callable[[str], Database]
) -> None:
    to = other(make_database, async_database)
    engine = create_async_engine(async_database.url)
    loop = asyncio.new_event_loop()

    async def connect() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    with redirected(engine.sync_engine, create_async_engine(to.url).sync_engine):
        loop.run_until_complete(connect())
        loop.close()
    wait_until_closed(to)
    gc.collect()


def test_several_loops_may_take_turns(async_database: Database, make_database: Callable[[str], Database]) -> None:
    to = other(make_database, async_database)
    engine = create_async_engine(async_database.url)

    async def insert(number: int) -> None:
        async with engine.begin() as connection:
            await connection.execute(text(f"INSERT INTO note VALUES ({number})"))

    with asyncio.Runner() as runner, redirected(engine.sync_engine, create_async_engine(to.url).sync_engine):
        for number in range(4):
            (runner.run if number % 2 == 0 else asyncio.run)(insert(number))
    gc.collect()
    assert to.query("SELECT count(*) FROM note") == [(4,)]


def test_connections_of_a_running_loop_are_closed_at_once(
    async_database: Database, make_database: Callable[[str], Database]
) -> None:
    to = other(make_database, async_database)
    engine, elsewhere = create_async_engine(async_database.url), create_async_engine(to.url)

    async def main() -> None:
        with redirected(engine.sync_engine, elsewhere.sync_engine):
            connection = await engine.connect()
            await connection.execute(text("SELECT 1"))
            async with engine.connect():
                pass
        assert connection.closed or not connection.sync_connection._dbapi_connection.is_valid  # type: ignore[union-attr]
        await connection.close()

    asyncio.run(main())
    gc.collect()


@pytest.mark.drivers("mariadb+pymysql")
def test_a_listener_that_selects_the_apps_own_database_is_refused(
    sync_database: Database, make_database: Callable[[str], Database]
) -> None:
    shop, to = Shop(sync_database), other(make_database, sync_database)
    elsewhere = engine_for(to)

    def check(connection: Any, record: object = None) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT DATABASE()")
            if cursor.fetchone() != (to.name,):
                raise DatabaseError("elsewhere")

    elsewhere = with_database(elsewhere, to.url, check)
    listener = lambda connection, record: connection.select_db(sync_database.name)  # noqa: E731
    event.listen(shop.engine, "connect", listener)
    with redirected(shop.engine, elsewhere), pytest.raises(DatabaseError, match="elsewhere"):
        shop.engine.connect()


def test_an_engine_that_is_led_elsewhere_repeatedly_keeps_its_connection(
    sync_database: Database, make_database: Callable[[str], Database]
) -> None:
    engine, elsewhere = engine_for(sync_database), engine_for(other(make_database, sync_database))
    redirects, used = Redirects(elsewhere), []
    for _ in range(2):
        with redirects(engine), engine.connect() as connection:
            used.append(connection.connection.dbapi_connection)
        with redirected(engine, elsewhere), engine.connect() as connection:
            assert connection.connection.dbapi_connection not in used
    assert used[0] is used[1]
    redirects.close()
    if sync_database.backend == "postgresql":
        assert getattr(used[0], "closed")  # noqa: B009 (the driver's)
