"""The blueprint that answers whether a Flask app is ready."""

from __future__ import annotations

import os
import time
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from flask import Blueprint, current_app

from ampho.errors import AmphoError
from ampho.settings import READINESS_DETAILS
from ampho.status.readiness import BLUEPRINT, FRESH, HEADERS, PATIENCE, UNKNOWN, WAITING, Readiness

if TYPE_CHECKING:
    from flask import Flask

    from ampho.sync.extension import Ampho


class Probe:
    """Asks the databases of an app in a thread of its own, at most once a second for all requests together.

    Once the app was ready, it stays ready, so that nothing is asked any more.
    """

    def __init__(self, extension: Ampho) -> None:
        self._extension = extension
        self._lock = Lock()
        self._answer: Readiness | None = None
        self._asked: Event | None = None
        self._time = 0.0

    def ask(self, app: Flask) -> Readiness:
        """Return whether an app is ready, after a bounded time."""
        if self._answer is not None and self._answer.is_ready:
            return self._answer
        with self._lock:
            if self._asked is None or (self._asked.is_set() and time.monotonic() - self._time >= FRESH):
                self._asked = Event()
                Thread(target=self._look, args=(app, self._asked), name="ampho-readiness", daemon=True).start()
            asked = self._asked
        asked.wait(PATIENCE)
        return self._answer if self._answer is not None and asked.is_set() else WAITING

    def _look(self, app: Flask, asked: Event) -> None:
        try:
            with app.app_context():
                answer = Readiness.of(self._extension.deployment())
        except AmphoError as exc:
            answer = Readiness.failed(exc)
        except Exception as exc:  # of the app; otherwise, no request would get an answer
            app.logger.exception("Whether the app is ready is not known")
            answer = Readiness(is_ready=False, status=UNKNOWN, error=type(exc).__name__)
        answer.log(self._answer)
        self._answer, self._time = answer, time.monotonic()
        asked.set()


def blueprint(extension: Ampho, path: str) -> Blueprint:
    """Return a blueprint that answers at a path."""
    made, probe = Blueprint(BLUEPRINT, __name__), Probe(extension)

    @made.get(path)
    def ready() -> tuple[dict[str, object], int, dict[str, str]]:
        app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 (documented)
        answer = probe.ask(app)
        details = READINESS_DETAILS.read(app.config, os.environ)
        return answer.as_json(details=details), answer.code, dict(HEADERS)

    return made
