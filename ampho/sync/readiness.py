"""The blueprint that answers whether a Flask app is ready."""

from __future__ import annotations

import os
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from flask import Blueprint, current_app

from ampho.commands import readiness
from ampho.settings import READINESS_DETAILS
from ampho.status.readiness import BLUEPRINT, GIVE_UP, HEADERS, PATIENCE, WAITING, Answers, Readiness

if TYPE_CHECKING:
    from flask import Flask

    from ampho.sync.extension import Ampho


class Probe(Answers):
    """Asks the databases of an app in a thread of its own."""

    def __init__(self, extension: Ampho) -> None:
        super().__init__()
        self._extension = extension
        self._lock = Lock()
        self._answered: Event | None = None

    def ask(self, app: Flask) -> Readiness:
        """Return whether an app is ready, after a bounded time."""
        with self._lock:
            if self.holds():
                return self.last
            if self._answered is None or self._answered.is_set():
                self._answered = Event()
                Thread(target=self._look, args=(app, self._answered), name="ampho-readiness", daemon=True).start()
            answered = self._answered
        return self.last if answered.wait(PATIENCE) else WAITING

    def _look(self, app: Flask, answered: Event) -> None:
        try:
            with app.app_context():
                answer = self._extension.call(readiness, GIVE_UP)
        except Exception as exc:  # noqa: BLE001 (otherwise, no request would get an answer)
            answer = Readiness.failed(exc)
        self.record(answer)
        answered.set()


def blueprint(extension: Ampho, path: str) -> Blueprint:
    """Return a blueprint that answers at a path."""
    made = Blueprint(BLUEPRINT, __name__)
    probes: WeakKeyDictionary[Flask, Probe] = WeakKeyDictionary()  # a blueprint may be registered on several apps

    @made.get(path)
    def ready() -> tuple[dict[str, object], int, dict[str, str]]:
        app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 (documented)
        answer = probes.setdefault(app, Probe(extension)).ask(app)
        details = READINESS_DETAILS.read(app.config, os.environ)
        return answer.as_json(details=details), answer.code, dict(HEADERS)

    return made
