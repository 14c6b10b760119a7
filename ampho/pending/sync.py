"""The pending page of a Flask app."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING

from flask import got_request_exception, request

from ampho.pending import answers
from ampho.pending.base import PendingPage
from ampho.pending.feed import PULSE, Feed
from ampho.pending.report import Action, Report, look, run

if TYPE_CHECKING:
    from typing import TypeAlias

    from flask import Flask

    from ampho.sync.extension import Ampho

    Events: TypeAlias = SimpleQueue[str | None]
    Reply: TypeAlias = tuple[str | Iterator[str], int, dict[str, str]]


class FlaskPage(PendingPage["Ampho"]):
    """Looks at the databases in the thread of a request, and applies revisions in a thread of its own."""

    app: Flask

    def __init__(self, app: Flask, extension: Ampho) -> None:
        super().__init__(app, extension)
        self._lock = Lock()
        got_request_exception.connect(self._failed, app)

    def before_request(self) -> Reply | None:
        """Return the page if the databases do not match the code; otherwise, None."""
        if request.path == answers.PATH:
            return self._press()
        watch = self.watch
        if watch.is_quiet or self.passes(request, request.endpoint):
            return None
        ignored = self.ignored(request)
        self._look_if_needed(ignored)
        return None if watch.may_answer(ignored) else _reply(self.page(request))

    def _failed(self, sender: object, **details: object) -> None:
        self.watch.has_failed = True

    def _look_if_needed(self, ignored: str = "") -> None:
        """Look at the databases, or wait for the request that does, unless the last report holds."""
        with self._lock:
            if not self.watch.holds(ignored):
                generation = self.watch.generation
                self.watch.record(self._look(), generation)

    def _look(self) -> Report:
        try:
            return self.extension.call(look, has_groups=self.watch.has_groups)
        except Exception as exc:  # noqa: BLE001 (the app answers)
            return self.unknown(exc)

    def _press(self) -> Reply:
        if refused := self.refused(request):  # before the form is read
            return _reply(refused)
        form = request.form
        with self._lock:
            action = self.pressed(request, form)
        if isinstance(action, answers.Answer):
            return _reply(action)
        events: Events = SimpleQueue()
        feed = Feed(events.put)
        # Not a daemon, so that a server that restarts, because a file was changed, ends only after the run.
        thread = Thread(target=self._run, args=(action, feed), name="ampho-pending", daemon=False)
        try:
            thread.start()
        except BaseException:
            self.watch.is_running = False
            raise
        stream = _stream(events, feed)
        if answers.wants(request) == answers.EVENTS:
            return stream, 200, answers.stream_headers()
        for _ in stream:
            pass
        self._look_if_needed()
        return _reply(self.after_run(request, form))

    def _run(self, action: Action, feed: Feed) -> None:
        error: BaseException | None = None
        try:
            with self.app.app_context():
                self.extension.call(run, action, feed)
        except BaseException as exc:  # noqa: BLE001 (the browser must be told that the run ended)
            error = exc
        finally:
            self.end(error, feed)


def _reply(answer: answers.Answer) -> Reply:
    return answer.body, answer.code, dict(answer.headers)


def _stream(events: Events, feed: Feed) -> Iterator[str]:
    while True:
        try:
            event = events.get(timeout=PULSE)
        except Empty:
            yield feed.pulse()
            continue
        if event is None:
            return
        yield event
