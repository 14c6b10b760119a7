"""What the pages of Flask and Quart have in common."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Generic, TypeVar

from ampho.errors import AmphoError, DatabaseError, DatabasesError
from ampho.extension import Extension
from ampho.pending import answers
from ampho.pending.guard import refusal_of_press
from ampho.pending.report import Action, Report
from ampho.pending.watch import Watch
from ampho.status.readiness import BLUEPRINT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask.sansio.app import App
    from werkzeug.sansio.request import Request

E = TypeVar("E", bound=Extension)

IGNORE = "ignore"
"""What the button sends that lets the app answer nevertheless."""

_log = logging.getLogger("ampho")


class PendingPage(Generic[E]):
    """The pending page of an app.

    :param app: the app.
    :param extension: its extension.
    :ivar watch: what is known about the databases.
    """

    def __init__(self, app: App, extension: E) -> None:
        self.app = app
        self.extension = extension
        self.watch: Watch = Watch()

    def passes(self, request: Request, endpoint: str | None) -> bool:
        """Return whether the app answers a request in any case: for a static file, a probe, or a question of CORS."""
        name = endpoint or ""
        return request.method == "OPTIONS" or name.rpartition(".")[2] == "static" or name.startswith(f"{BLUEPRINT}.")

    def unknown(self, error: Exception) -> Report:
        """Return the report if the databases could not be looked at, so that the app answers. Log the reason."""
        if isinstance(error, (DatabaseError, DatabasesError)):
            _log.warning("The pending page cannot look at the database: %s", error)
        else:
            _log.error("The pending page failed", exc_info=error)
        return Report()

    def page(self, request: Request, error: str = "") -> answers.Answer:
        """Return the page, or the same as JSON.

        :param error: why the run failed that a button started.
        """
        return answers.pending(request, self.watch, debug=self.app.debug, error=error)

    def pressed(self, request: Request, form: Mapping[str, str]) -> Action | answers.Answer:
        """Return what a button that was pressed starts, or the answer if it starts nothing."""
        if request.method != "POST":
            return answers.wrong_method()
        watch = self.watch
        if why := refusal_of_press(request, form.get("token", ""), watch.token, debug=self.app.debug):
            _log.warning("A request to the pending page was refused: %s", why)
            return answers.refused(request, why)
        if form.get("do") == IGNORE:
            watch.ignore()
            return answers.gone_on(form.get("next", ""))
        action = watch.action(form.get("do", ""))
        if action is None or watch.is_running:
            return answers.refused(request, "The page is out of date. Load it again.")
        watch.is_running = True
        return action

    def ended(self, request: Request, error: str, form: Mapping[str, str]) -> answers.Answer:
        """Return the answer to a browser without JavaScript at the end of a run."""
        return self.page(request, error) if error else answers.gone_on(form.get("next", ""))

    def failure(self, error: BaseException) -> AmphoError:
        """Return why a run failed, and log it if it is an error of Ampho."""
        if isinstance(error, AmphoError):
            return error
        _log.error("The pending page failed", exc_info=error)
        return AmphoError(f"{type(error).__name__}. See the log of the server.")
