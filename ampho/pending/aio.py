"""The pending page of a Quart app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import Context
from typing import TYPE_CHECKING

from quart import Response, got_request_exception, request

from ampho.pending import answers
from ampho.pending.base import PendingPage
from ampho.pending.feed import PULSE, Feed
from ampho.pending.report import Action, look, run

if TYPE_CHECKING:
    from quart import Quart

    from ampho.aio.extension import AsyncAmpho


class QuartPage(PendingPage["AsyncAmpho"]):
    """Looks at the databases in a task that requests share, and applies revisions in a task of its own."""

    app: Quart

    def __init__(self, app: Quart, extension: AsyncAmpho) -> None:
        super().__init__(app, extension)
        self._task: asyncio.Task[None] | None = None
        self._runs: set[asyncio.Task[None]] = set()
        got_request_exception.connect(self._failed, app)
        app.after_serving_funcs.append(self._wait_for_run)

    async def before_request(self) -> Response | None:
        """Return the page if the databases do not match the code; otherwise, None."""
        if request.path == answers.PATH:
            return await self._press()
        watch = self.watch
        if watch.is_quiet or self.passes(request, request.endpoint):
            return None
        ignored = self.ignored(request)
        await self._look_if_needed(ignored)
        return None if watch.may_answer(ignored) else _reply(self.page(request))

    async def _failed(self, sender: object, **details: object) -> None:
        self.watch.has_failed = True

    async def _look_if_needed(self, ignored: str = "") -> None:
        """Look at the databases, or wait for the request that does, unless the last report holds."""
        if self.watch.holds(ignored):
            return
        task, loop = self._task, asyncio.get_running_loop()
        if task is None or task.done() or task.get_loop() is not loop:
            task = self._task = loop.create_task(self._look(), context=Context())  # not that of the request
        await asyncio.shield(task)

    async def _look(self) -> None:
        generation = self.watch.generation
        async with self.app.app_context():
            try:
                report = await self.extension.call(look, has_groups=self.watch.has_groups)
            except Exception as exc:  # noqa: BLE001 (the app answers)
                report = self.unknown(exc)
        self.watch.record(report, generation)

    async def _press(self) -> Response:
        if refused := self.refused(request):  # before the form is read
            return _reply(refused)
        form = await request.form
        action = self.pressed(request, form)
        if isinstance(action, answers.Answer):
            return _reply(action)
        events: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        feed = Feed(lambda event: loop.call_soon_threadsafe(events.put_nowait, event))
        # Not a background task of Quart, because Quart cancels those five seconds after it begins to shut down.
        task = loop.create_task(self._run(action, feed), context=Context())
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)
        stream = _stream(events, feed)
        if answers.wants(request) == answers.EVENTS:
            response = Response(stream, 200, answers.stream_headers())
            response.timeout = None  # otherwise, Quart ends it after a minute
            return response
        async for _ in stream:
            pass
        await self._look_if_needed()
        return _reply(self.after_run(request, form))

    async def _run(self, action: Action, feed: Feed) -> None:
        error: BaseException | None = None
        try:
            async with self.app.app_context():
                await self.extension.call(run, action, feed)
        except BaseException as exc:
            error = exc
            if not isinstance(exc, Exception):
                raise
        finally:
            self.end(error, feed)

    async def _wait_for_run(self) -> None:
        """Wait for a run before the server ends."""
        if self._runs:
            await asyncio.wait(self._runs)


def _reply(answer: answers.Answer) -> Response:
    return Response(answer.body, answer.code, dict(answer.headers))


async def _stream(events: asyncio.Queue[str | None], feed: Feed) -> AsyncIterator[str]:
    while True:
        try:
            event = await asyncio.wait_for(events.get(), PULSE)
        except TimeoutError:
            yield feed.pulse()
            continue
        if event is None:
            return
        yield event
