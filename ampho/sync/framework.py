"""How commands run on Flask: at once, in the thread that calls them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar

from ampho.commands import Framework
from ampho.database.exclusive import exclusive

if TYPE_CHECKING:
    from flask.sansio.app import App
    from sqlalchemy.engine import Connection

    from ampho.extension import SyncExtension
    from ampho.migrate.project import Project

T = TypeVar("T")


class FlaskFramework(Framework):
    """Runs commands for a Flask app."""

    def __init__(self, extension: SyncExtension, app: App) -> None:
        self._extension = extension
        self._app = app

    def project(self) -> Project:
        """Return the migrations of the app, as they are on the disk now."""
        return self._extension.project(self._app)

    def exclusive(self) -> AbstractContextManager[None]:
        """Block this thread until no other run is in progress in this process."""
        return exclusive()

    def connect(self, *, scratch: bool = False, renews: bool = False) -> AbstractContextManager[Connection]:
        """Open the migrating connection. The pools of sync drivers never have to be renewed."""
        engine = self._extension.engine(self._app)
        return self._extension.migrating_connection(self._app, engine, scratch=scratch)

    def sleep(self, seconds: float) -> None:
        """Block this thread for some seconds."""
        time.sleep(seconds)

    def in_thread(self, function: Callable[[], T]) -> T:
        """Call a function in this thread, because there is no loop to block."""
        return function()
