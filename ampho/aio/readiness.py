"""The blueprint that answers whether a Quart app is ready."""

from __future__ import annotations

import asyncio
import os
import time
from contextvars import Context
from typing import TYPE_CHECKING

from quart import Blueprint, Quart, current_app

from ampho.errors import AmphoError
from ampho.settings import READINESS_DETAILS
from ampho.status.readiness import BLUEPRINT, FRESH, HEADERS, PATIENCE, UNKNOWN, WAITING, Readiness

if TYPE_CHECKING:
    from ampho.aio.extension import AsyncAmpho


class Probe:
    """Asks the databases of an app in a task of its own, at most once a second for all requests together.

    Once the app was ready, it stays ready, so that nothing is asked any more.
    """

    def __init__(self, extension: AsyncAmpho) -> None:
        self._extension = extension
        self._answer: Readiness | None = None
        self._task: asyncio.Task[Readiness] | None = None
        self._time = 0.0

    async def ask(self, app: Quart) -> Readiness:
        """Return whether an app is ready, after a bounded time."""
        if self._answer is not None and (self._answer.is_ready or time.monotonic() - self._time < FRESH):
            return self._answer
        task, loop = self._task, asyncio.get_running_loop()
        if task is None or task.done() or task.get_loop() is not loop:
            task = self._task = loop.create_task(self._look(app), context=Context())  # not of the request
        done, _ = await asyncio.wait([task], timeout=PATIENCE)
        return task.result() if done else WAITING

    async def _look(self, app: Quart) -> Readiness:
        try:
            async with app.app_context():
                answer = Readiness.of(await self._extension.deployment())
        except AmphoError as exc:
            answer = Readiness.failed(exc)
        except Exception as exc:  # of the app; otherwise, no request would get an answer
            app.logger.exception("Whether the app is ready is not known")
            answer = Readiness(is_ready=False, status=UNKNOWN, error=type(exc).__name__)
        answer.log(self._answer)
        self._answer, self._time = answer, time.monotonic()
        return answer


def blueprint(extension: AsyncAmpho, path: str) -> Blueprint:
    """Return a blueprint that answers at a path."""
    made, probe = Blueprint(BLUEPRINT, __name__), Probe(extension)

    @made.get(path)
    async def ready() -> tuple[dict[str, object], int, dict[str, str]]:
        app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 (documented)
        answer = await probe.ask(app)
        details = READINESS_DETAILS.read(app.config, os.environ)
        return answer.as_json(details=details), answer.code, dict(HEADERS)

    return made
