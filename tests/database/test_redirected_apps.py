"""Apps whose engines lead to other databases, in Flask and in Quart, however the engines were made."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from quart import Quart
from servers import Database
from sqlalchemy import Engine, MetaData, column, create_engine, insert, select, table
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from ampho import Ampho, AsyncAmpho, AsyncSQLAlchemy
from ampho.errors import ConfigurationError, DatabaseError
from ampho.testing.engines import app_in_one_transaction, redirect_app, refuse_app

NOTE: Any = table("note", column("id"))
NOTES = select(NOTE.c.id).order_by(NOTE.c.id)
REFUSED = "Use a fixture for {database}."


def flask_app(database: Database, to: Database) -> Flask:
    app = Flask("shop")
    app.testing = True
    app.config.update(SQLALCHEMY_DATABASE_URI=database.url, SQLALCHEMY_BINDS={"other": {"url": database.url}})
    db = SQLAlchemy(app)
    Ampho(app, db)

    @app.post("/notes/<int:number>")
    def add(number: int) -> list[int]:
        db.session.execute(insert(NOTE).values(id=number))
        db.session.commit()
        return notes()

    @app.get("/notes")
    def notes() -> list[int]:
        return list(db.session.scalars(NOTES))

    return app


def quart_app(database: Database, kind: str) -> Quart:
    app = Quart("shop")
    if kind == "AsyncSQLAlchemy":
        app.config.update(SQLALCHEMY_DATABASE_URI=database.url)
        db = AsyncSQLAlchemy(app)
        AsyncAmpho(app, db)
    else:
        engine = create_async_engine(database.url)
        maker = async_sessionmaker(engine)
        kinds: dict[str, object] = {"engine": engine, "sessionmaker": maker, "function": lambda: engine}
        AsyncAmpho(app, kinds[kind], metadata=MetaData())

    @app.post("/notes/<int:number>")
    async def add(number: int) -> list[int]:
        async with db.session if kind == "AsyncSQLAlchemy" else maker() as session:
            await session.execute(insert(NOTE).values(id=number))
            await session.commit()
            return list(await session.scalars(NOTES))

    @app.get("/notes")
    async def notes() -> list[int]:
        async with db.session if kind == "AsyncSQLAlchemy" else maker() as session:
            return list(await session.scalars(NOTES))

    return app


def other(make_database: Callable[[str], Database], database: Database) -> Database:
    made = make_database(database.driver)
    made.run("CREATE TABLE note (id integer PRIMARY KEY)", "INSERT INTO note VALUES (100)")
    return made


@pytest.mark.parametrize("loops", ["one loop", "a loop for each test"])
@pytest.mark.parametrize("kind", ["AsyncSQLAlchemy", "engine", "sessionmaker", "function"])
def test_requests_of_quart(
    async_database: Database, make_database: Callable[[str], Database], kind: str, loops: str
) -> None:
    to = other(make_database, async_database)
    app = quart_app(async_database, kind)
    ampho, elsewhere = app.extensions["ampho"], {"default": create_async_engine(to.url).sync_engine}
    runner = asyncio.Runner()
    run: Any = runner.run if loops == "one loop" else asyncio.run

    async def notes(*numbers: int) -> list[int]:
        async with app.test_app() as running:  # which disposes of the engine at its end
            for number in numbers:
                await running.test_client().post(f"/notes/{number}")
            response = await running.test_client().get("/notes")
            return list(await response.get_json())

    async def current() -> None:
        async with app.app_context():
            await ampho.current()

    async def url() -> object:
        return ampho.project(app).url

    with runner, refuse_app(ampho, app, REFUSED):
        with pytest.raises(DatabaseError, match=r"^Use a fixture for default\.$"):
            run(current())
        with redirect_app(ampho, app, elsewhere):
            assert run(notes(1)) == [1, 100]
            for number in (2, 3):
                with app_in_one_transaction(ampho, app, ["default"]):
                    assert run(notes(number, number + 2)) == [1, number, number + 2, 100]
            assert run(notes()) == [1, 100]
            assert run(url()) == to.url
        assert run(url()).database == async_database.name
        with pytest.raises(DatabaseError, match=r"^Use a fixture for default\.$"):
            run(current())
    gc.collect()
    assert to.query("SELECT id FROM note ORDER BY id") == [(1,), (100,)]
    assert async_database.tables() == []


def test_requests_of_flask(sync_database: Database, make_database: Callable[[str], Database]) -> None:
    to = other(make_database, sync_database)
    app = flask_app(sync_database, to)
    ampho, client = app.extensions["ampho"], app.test_client()

    with refuse_app(ampho, app, REFUSED):
        with redirect_app(ampho, app, {"default": create_engine(to.url)}):
            assert app.config["SQLALCHEMY_BINDS"] == {"other": {"url": sync_database.url}}
            assert client.post("/notes/1").json == [1, 100]
            for number in (2, 3):
                with app_in_one_transaction(ampho, app, ["default"]):
                    assert client.post(f"/notes/{number}").json == [1, number, 100]
                    assert client.get("/notes").json == [1, number, 100]
            assert client.get("/notes").json == [1, 100]
        with redirect_app(ampho, app, {"other": create_engine(to.url)}):
            url = to.url.render_as_string(hide_password=False)
            assert app.config["SQLALCHEMY_BINDS"] == {"other": {"url": url}}
            with pytest.raises(DatabaseError, match=r"^Use a fixture for default\.$"):
                client.get("/notes")
    assert to.query("SELECT id FROM note ORDER BY id") == [(1,), (100,)]
    assert sync_database.tables() == []


def test_a_function_that_returns_several_engines_is_refused(async_database: Database) -> None:
    def of_loop() -> object:
        return asyncio.get_running_loop()

    for function in (lambda: create_async_engine(async_database.url), of_loop):
        app = Quart("shop")
        ampho = AsyncAmpho(app, function, metadata=MetaData())
        with pytest.raises(ConfigurationError, match=r"returns several engines, .* or use AsyncSQLAlchemy\.$"):
            refuse_app(ampho, app, REFUSED).__enter__()


@pytest.mark.parametrize("kind", ["AsyncSQLAlchemy", "engine"])
def test_a_transaction_has_one_loop(
    async_database: Database, make_database: Callable[[str], Database], kind: str
) -> None:
    to = other(make_database, async_database)
    app = quart_app(async_database, kind)
    ampho, elsewhere = app.extensions["ampho"], {"default": create_async_engine(to.url).sync_engine}

    async def notes(method: str, path: str) -> int:
        response = await app.test_client().open(path, method=method)
        return int(response.status_code)

    with asyncio.Runner() as one, redirect_app(ampho, app, elsewhere):
        for _ in range(2):
            with app_in_one_transaction(ampho, app, ["default"]), asyncio.Runner() as other_loop:
                assert other_loop.run(notes("GET", "/notes")) == 200
                assert one.run(notes("POST", "/notes/1")) == 200
                assert asyncio.run(notes("GET", "/notes")) == 500
                assert one.run(notes("GET", "/notes")) == 200
    gc.collect()
    assert to.query("SELECT id FROM note ORDER BY id") == [(100,)]


@pytest.mark.parametrize("ends", [True, False])
def test_an_engine_of_a_loop_that_ended_is_forgotten(async_database: Database, *, ends: bool) -> None:
    app = quart_app(async_database, "AsyncSQLAlchemy")
    led: list[str] = []
    db = app.extensions["sqlalchemy"]

    @contextmanager
    def lead(engine: Engine) -> Iterator[None]:
        led.append("in")
        yield
        led.append("out")

    async def make() -> None:
        async with app.app_context():
            assert db.engine

    with db.lead_engines(None, lead, app=app), asyncio.Runner() as runner:
        for _ in range(2):
            asyncio.run(make()) if ends else runner.run(make())
        assert led == (["in", "out", "in"] if ends else ["in"])
    assert led.count("in") == led.count("out")
