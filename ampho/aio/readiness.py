"""The blueprint that answers whether a Quart app is ready."""

from __future__ import annotations

import asyncio
import os
from contextvars import Context
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from quart import Blueprint, Quart, current_app

from ampho.commands import readiness
from ampho.settings import READINESS_DETAILS
from ampho.status.readiness import BLUEPRINT, GIVE_UP, HEADERS, PATIENCE, WAITING, Answers, Readiness

if TYPE_CHECKING:
    from ampho.aio.extension import AsyncAmpho


class Probe(Answers):
    """Asks the databases of an app in a task of its own, which is cancelled if a database hangs."""

    def __init__(self, extension: AsyncAmpho) -> None:
        super().__init__()
        self._extension = extension
        self._task: asyncio.Task[None] | None = None

    async def ask(self, app: Quart) -> Readiness:
        """Return whether an app is ready, after a bounded time."""
        if self.holds():
            return self.last
        task, loop = self._task, asyncio.get_running_loop()
        if task is None or task.done() or task.get_loop() is not loop:
            task = self._task = loop.create_task(self._look(app), context=Context())  # not of the request
        done, _ = await asyncio.wait([task], timeout=PATIENCE)
        return self.last if done else WAITING

    async def _look(self, app: Quart) -> None:
        try:
            async with app.app_context(), asyncio.timeout(GIVE_UP):
                answer = await self._extension.call(readiness)
        except Exception as exc:  # noqa: BLE001 (otherwise, no request would get an answer)
            answer = Readiness.failed(exc)
        self.record(answer)


def blueprint(extension: AsyncAmpho, path: str) -> Blueprint:
    """Return a blueprint that answers at a path."""
    made = Blueprint(BLUEPRINT, __name__)
    probes: WeakKeyDictionary[Quart, Probe] = WeakKeyDictionary()  # a blueprint may be registered on several apps

    @made.get(path)
    async def ready() -> tuple[dict[str, object], int, dict[str, str]]:
        app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 (documented)
        answer = await probes.setdefault(app, Probe(extension)).ask(app)
        details = READINESS_DETAILS.read(app.config, os.environ)
        return answer.as_json(details=details), answer.code, dict(HEADERS)

    return made
