"""AsyncSQLAlchemy under load: clients leave, tasks are cancelled, and commits fail, and nothing is lost or left open.

``AMPHO_REQUESTS=500`` sends that many requests at once.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from async_server import request, serving
from async_shop import keeps_connections
from quart import Quart, stream_with_context
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from ampho.aio.sqlalchemy.extension import AsyncSQLAlchemy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from servers import Database

REQUESTS = int(os.environ.get("AMPHO_REQUESTS", "40"))
KNOWN = (
    "unexpected connection_lost() call",  # from asyncpg, which was cancelled while it connected
    "unclosed database in <sqlite3.Connection",  # from aiosqlite, likewise
    "Exception during reset or similar CancelledError()",  # from SQLAlchemy, which was cancelled in a rollback
)
SEED = int(os.environ.get("AMPHO_SEED", "0")) or random.randrange(1, 10**6)


class Load:
    """An app whose views write two rows for each request, and end in every possible way."""

    def __init__(self, database: Database) -> None:
        self.app = Quart(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database.url
        connect = {"connect_args": {"timeout": 300}} if database.backend == "sqlite" else {}
        self.app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
            "pool_size": 8,
            "max_overflow": 8,
            "pool_timeout": 300,
            **connect,
        }
        self.db = db = AsyncSQLAlchemy(self.app)

        class Entry(db.Model):  # type: ignore[name-defined, misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            request: Mapped[int | None]
            half: Mapped[int]
            unique: Mapped[int | None] = mapped_column(unique=True)

        self.Entry = Entry
        self.random = random.Random(SEED)
        self.tasks: set[asyncio.Task[None]] = set()
        self.app.logger.disabled = True
        for view in (self.write, self.fail, self.clash, self.cancel, self.leave, self.stream, self.later):
            self.app.post(f"/{view.__name__}/<int:number>")(view)

    async def add(self, number: int, unique: int | None = None) -> None:
        """Add both rows of a request, and check that no other request shares the transaction."""
        self.db.session.add(self.Entry(request=number, half=1))
        await self.db.session.flush()
        await asyncio.sleep(self.random.random() * 0.005)
        self.db.session.add(self.Entry(request=number, half=2, unique=unique))
        await self.db.session.flush()
        mine = await self.db.session.scalars(select(self.Entry).where(self.Entry.request == number))
        assert [entry.request for entry in mine] == [number] * 2

    async def write(self, number: int) -> str:
        await self.add(number)
        await self.db.session.commit()
        return "written"

    async def fail(self, number: int) -> str:
        await self.add(number)
        raise RuntimeError("refused")

    async def clash(self, number: int) -> str:
        """Commit what violates a constraint."""
        self.db.session.add_all([self.Entry(request=number, half=half, unique=-1) for half in (1, 2)])
        await self.db.session.commit()
        return "written"

    async def cancel(self, number: int) -> tuple[str, int]:
        """Cancel a task of its own, which is using the session."""
        task = self.start(self.add(number))
        await asyncio.sleep(self.random.random() * 0.01)
        task.cancel()
        await asyncio.wait([task])
        await self.db.session.rollback()
        return "refused", 409

    async def leave(self, number: int) -> str:
        """Return while a task of the request is still writing with the session of the request."""

        async def work() -> None:
            await self.add(number)
            await self.db.session.commit()

        self.start(work())
        await asyncio.sleep(self.random.random() * 0.02)
        return "left"

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        task.add_done_callback(self.tasks.discard)
        return task

    async def stream(self, number: int) -> AsyncIterator[str]:
        """Commit at the end of a stream, which is long after the view has returned."""

        @stream_with_context
        async def lines() -> AsyncIterator[str]:
            yield "begun " * 1000
            await self.add(number)
            yield "added " * 1000
            await self.db.session.commit()
            yield "written"

        return lines()  # type: ignore[no-any-return]

    async def later(self, number: int) -> str:
        """Write in a background task, which may outlive the request."""

        async def work() -> None:
            await self.add(number)
            await self.db.session.commit()

        self.app.add_background_task(work)
        return "written"

    async def rows(self) -> dict[int | None, list[int]]:
        async with self.app.app_context():
            found = await self.db.session.execute(select(self.Entry.request, self.Entry.half))
            rows: dict[int | None, list[int]] = {}
            for number, half in found:
                rows.setdefault(number, []).append(half)
            return rows

    def in_use(self) -> int:
        pool: Any = self.db.get_engine(app=self.app).pool
        return pool.checkedout()  # type: ignore[no-any-return]


@pytest.mark.usefixtures("unmeasured")
@keeps_connections
@pytest.mark.timeout(600)
def test_under_load_nothing_is_lost_and_nothing_is_left_open(
    async_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(_load(Load(async_database)))
        gc.collect()
    said = [f"{line.category.__name__}: {line.message}" for line in caught]
    said += [
        f"{record.getMessage()} {record.exc_info and record.exc_info[1]!r}"
        for record in caplog.records
        if record.name.startswith(("asyncio", "sqlalchemy"))
    ]
    said = [line for line in said if not any(known in line for known in KNOWN)]
    assert not said, f"AMPHO_SEED={SEED}: {Counter(said)}"


async def _load(load: Load) -> None:
    async with load.app.app_context():
        await load.db.create_all()
    views = ["write", "write", "fail", "clash", "cancel", "leave", "stream", "stream", "later"]
    answers: dict[int, bytes | None] = {}

    async def send(number: int) -> None:
        path = f"/{views[number % len(views)]}/{number}"
        answers[number] = None
        # Every third client leaves: at once, or at some moment while its request is handled.
        patience = random.Random(SEED + number).random() ** 2 * REQUESTS * 0.01 if number % 3 == 0 else None
        try:
            async with asyncio.timeout(patience):
                answers[number] = await request(port, path, method="POST")
        except TimeoutError:
            pass

    async with serving(load.app) as port:
        await asyncio.gather(*map(send, range(REQUESTS)))
        async with asyncio.timeout(60):
            while load.app.background_tasks or load.tasks or load.in_use():  # noqa: ASYNC110 (a pool tells nobody)
                await asyncio.sleep(0.01)
        rows = await load.rows()
        assert load.in_use() == 0
    written = {number for number, answer in answers.items() if answer is not None and b"written" in answer}
    # A task that outlives its request may have committed before the session was closed.
    unknown = {number for number, answer in answers.items() if answer is None or b"left" in answer}
    assert not written - rows.keys(), f"AMPHO_SEED={SEED}: lost"
    assert not rows.keys() - written - unknown, f"AMPHO_SEED={SEED}: foreign"
    assert all(sorted(halves) == [1, 2] for halves in rows.values()), f"AMPHO_SEED={SEED}: halves"
    refused = {n for n in range(REQUESTS) if views[n % len(views)] in {"fail", "clash", "cancel"}} & rows.keys()
    assert not refused, f"AMPHO_SEED={SEED}: {refused}"
    assert written
    assert any(answer is None for answer in answers.values())
