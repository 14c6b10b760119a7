"""AsyncAmpho with an engine of the app: in several loops, in a sessionmaker, or made when it is first needed."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from quart import Quart
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from ampho import AsyncAmpho
from ampho.errors import ConfigurationError

if TYPE_CHECKING:
    from servers import Database

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # the sockets of loops that were closed


def make(db: object) -> AsyncAmpho:
    app = Quart(__name__)
    app.config["AMPHO_MIGRATION_PACKAGES"] = ["notes"]
    return AsyncAmpho(app, db, metadata=MetaData())


@pytest.fixture(autouse=True)
def notes(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes" / "migrations" / "versions").mkdir(parents=True)
    (tmp_path / "notes" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)


async def use(ampho: AsyncAmpho, engine: AsyncEngine, *, end: bool = False) -> None:
    """Use an engine for migrations and in the app, and leave its connections open, or close them at the end."""
    await ampho.current()
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    if end:
        await engine.dispose()


def test_an_engine_goes_from_one_loop_to_the_next(async_database: Database) -> None:
    engine = create_async_engine(async_database.url)
    for kind in (engine, async_sessionmaker(engine), lambda: engine):
        ampho = make(kind)
        for end in (False, True):
            asyncio.run(use(ampho, engine, end=end))
    gc.collect()


@pytest.mark.drivers("postgresql+asyncpg")
def test_an_engine_that_another_running_loop_uses_is_refused(async_database: Database) -> None:
    engine = create_async_engine(async_database.url)
    ampho = make(engine)

    async def main() -> None:
        await use(ampho, engine)
        with pytest.raises(ConfigurationError, match=r"another event loop.*a function that returns an engine for the"):
            await asyncio.to_thread(asyncio.run, use(ampho, engine))
        await engine.dispose()
        await asyncio.to_thread(asyncio.run, use(ampho, engine, end=True))

    asyncio.run(main())
    gc.collect()


@pytest.mark.parametrize(
    ("db", "message"),
    [
        (async_sessionmaker(), "bound to None, not to an AsyncEngine"),
        (lambda: 3, r"The function <lambda> .* returned a builtins\.int, not an AsyncEngine"),
        (asyncio.sleep, r"not an AsyncEngine"),
    ],
    ids=["unbound", "wrong", "async"],
)
def test_what_has_no_engine_is_refused_when_it_is_needed(db: object, message: str) -> None:
    if db is asyncio.sleep:

        async def db() -> None: ...

    with pytest.raises(ConfigurationError, match=message):
        asyncio.run(make(db).current())
