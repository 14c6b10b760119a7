"""What the pages of Flask and Quart have in common."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Generic, TypeVar

from ampho.errors import AmphoError, DatabaseError
from ampho.extension import Extension
from ampho.pending import answers
from ampho.pending.feed import Feed
from ampho.pending.guard import refusal, refusal_of_press
from ampho.pending.report import Action, Report
from ampho.pending.watch import Watch
from ampho.status.readiness import BLUEPRINT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask.sansio.app import App
    from werkzeug.sansio.request import Request

E = TypeVar("E", bound=Extension)

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
        self._logged = ""

    def passes(self, request: Request, endpoint: str | None) -> bool:
        """Return whether the app answers a request in any case: for a static file, a probe, or a CORS preflight."""
        *blueprints, name = (endpoint or "").split(".")
        return request.method == "OPTIONS" or name == "static" or blueprints[-1:] == [BLUEPRINT]

    def unknown(self, error: Exception) -> Report:
        """Return the report if the databases could not be looked at, so that the app answers. Log a new reason."""
        if str(error) != self._logged:
            self._logged = str(error)
            if isinstance(error, DatabaseError):
                _log.warning("The pending page cannot look at the database: %s", error)
            else:
                _log.error("The pending page could not look at the databases", exc_info=error)
        return Report(is_known=False)

    def ignored(self, request: Request) -> str:
        """Return the key of the report that the user has seen, and ignores."""
        return request.cookies.get(answers.COOKIE, "")

    def page(self, request: Request) -> answers.Answer:
        """Return the page, or the same as JSON."""
        return answers.pending(request, self.watch, debug=self.app.debug)

    def refused(self, request: Request) -> answers.Answer | None:
        """Return the answer that refuses a request to the path of the buttons; None if it may proceed."""
        if request.method != "POST":
            return answers.not_pressed(request)
        why = refusal(request, debug=self.app.debug)
        return self._refuse(request, why) if why else None

    def pressed(self, request: Request, form: Mapping[str, str]) -> Action | answers.Answer:
        """Return the action of the button that was pressed, or the answer if there is nothing to run."""
        watch, wish = self.watch, form.get("do", "")
        if why := refusal_of_press(request, form.get("token", ""), watch.token):
            return self._refuse(request, why)
        if wish == watch.report.key:
            return answers.redirect_to(form.get("next", ""), ignoring=wish)
        action = watch.action(wish)
        if action is None or watch.is_running:
            return answers.refused(request, "The page is out of date. Reload it.")
        watch.is_running = True
        return action

    def _refuse(self, request: Request, why: str) -> answers.Answer:
        _log.warning("A request to the pending page was refused: %s", why)
        return answers.refused(request, why)

    def after_run(self, request: Request, form: Mapping[str, str]) -> answers.Answer:
        """Return the answer to a browser without JavaScript at the end of a run."""
        return self.page(request) if self.watch.error else answers.redirect_to(form.get("next", ""))

    def end(self, error: BaseException | None, feed: Feed) -> None:
        """Record the end of a run, and send it to the browser."""
        if error is not None and not isinstance(error, Exception):
            error = AmphoError("The server stopped the run. Reload the page to see what was applied.")
        elif error is not None and not isinstance(error, AmphoError):
            _log.error("A run that the pending page started failed", exc_info=error)
            error = AmphoError(f"Unexpected error: {type(error).__name__}. See the server's log.")
        self.watch.end("" if error is None else str(error))
        feed.ended(error)
