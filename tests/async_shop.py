"""A Quart app that notes down what it is sent, for the tests of AsyncSQLAlchemy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy
from packaging.version import Version
from quart import Quart, websocket
from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, mapped_column

from ampho.aio.sqlalchemy.extension import AsyncSQLAlchemy

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent, HTTPScope
    from sqlalchemy import URL

MEMORY = "sqlite+aiosqlite://"

keeps_connections = pytest.mark.skipif(
    Version(sqlalchemy.__version__) < Version("2.0.55"),
    reason="SQLAlchemy before 2.0.55 may keep the connection of a client that disconnects",
)


class Shop:
    """An app that notes down what it is sent."""

    def __init__(self, url: str | URL, **options: Any) -> None:
        self.app = Quart(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.app.config["SQLALCHEMY_ENGINE_OPTIONS"] = options
        self.db = db = AsyncSQLAlchemy(self.app)
        self.waiting = asyncio.Semaphore(0)

        class Note(db.Model):  # type: ignore[name-defined, misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            number: Mapped[int]

        self.Note = Note
        self.app.post("/notes/<int:number>")(self.add)
        self.app.post("/slow/<int:number>")(self.add_slowly)
        self.app.websocket("/feed")(self.feed)

    async def add(self, number: int) -> tuple[str, int]:
        before = await self.db.session.scalar(select(func.count()).select_from(self.Note))
        self.db.session.add(self.Note(number=number))
        await self.db.session.flush()
        await asyncio.sleep(0.001)
        if number % 3 == 0:
            await self.db.session.rollback()
            return "refused", 409
        await self.db.session.commit()
        return str(before), 200

    async def add_slowly(self, number: int) -> str:
        self.db.session.add(self.Note(number=number))
        await self.db.session.flush()
        self.waiting.release()
        await asyncio.sleep(30)
        return ""

    async def feed(self) -> None:
        while True:
            number = int(await websocket.receive())
            self.db.session.add(self.Note(number=number))
            await self.db.session.commit()
            await websocket.send(f"{id(self.db.session)}")

    async def create(self) -> None:
        async with self.app.app_context():
            await self.db.create_all()

    async def numbers(self) -> list[int]:
        async with self.app.app_context():
            return sorted((await self.db.session.scalars(select(self.Note.number))).all())

    async def in_use(self) -> int:
        async with self.app.app_context():
            return self.db.engine.pool.checkedout()  # type: ignore[attr-defined, no-any-return]

    async def disconnected(self, path: str, after: float, written: asyncio.Event | None = None) -> None:
        """Send a request whose client goes away: after some seconds, or on an event."""
        scope: HTTPScope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},  # type: ignore[typeddict-item]
            "extensions": {},
        }
        events: list[Any] = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> ASGIReceiveEvent:
            if events:
                return events.pop()  # type: ignore[no-any-return]
            await (written.wait() if written else asyncio.sleep(after))
            return {"type": "http.disconnect"}

        async def send(event: ASGISendEvent) -> None: ...

        try:
            await self.app(scope, receive, send)
        except ExceptionGroup as group:
            # Quart 0.23 raises it if a client disconnects while its request ends.
            if group.split(lambda error: type(error).__name__ == "ClientDisconnectedError")[1] is not None:
                raise
