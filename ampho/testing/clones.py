"""Clones of one template for the tests of a session, made ahead and dropped in threads of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ampho.commands import Commands
    from ampho.migrate.template import Clone, Template
    from ampho.testing.databases import AppDatabases

_AT_ONCE = 20
"""The number of used clones that are dropped together."""


class Clones:
    """Clones of one template.

    On a server, creating a clone takes longer than most tests, and on PostgreSQL, dropping one may take a second. So a
    thread makes the next clone while a test runs, and another one drops those that were used.

    :param databases: the databases of the app, which run functions as commands.
    :param open_template: returns the template, with a connection of its own each time.
    """

    def __init__(self, databases: AppDatabases, open_template: Callable[[], Template]) -> None:
        self._databases = databases
        self._open = open_template
        self.template: Template = open_template()
        self._next: Future[Clone] | None = None
        self._used: list[Clone] = []
        self._dropping: Template | None = None
        self._maker, self._dropper = ThreadPoolExecutor(1, "ampho-clones"), ThreadPoolExecutor(1, "ampho-drops")

    def take(self) -> Clone:
        """Return a new clone."""
        made, self._next = self._next, None
        clone = self._make() if made is None else made.result()
        if not _is_file(clone):
            self._next = self._maker.submit(self._make)
        return clone

    def give_back(self, clone: Clone) -> None:
        """Drop a clone, not necessarily now."""
        self._used.append(clone)
        if _is_file(clone):
            self._drop(self.template)
        elif len(self._used) == _AT_ONCE:
            self._dropping = self._dropping or self._open()
            self._dropper.submit(self._drop, self._dropping)

    def close(self) -> None:
        """Drop all clones that are left, and close the connections to the server."""
        for thread in (self._maker, self._dropper):
            thread.shutdown()
        for template in filter(None, (self._dropping, self.template)):
            self._databases.run(partial(_close, template))

    def _make(self) -> Clone:
        return self._databases.run(lambda _: self.template.clone())

    def _drop(self, template: Template) -> None:
        used, self._used = self._used, []
        self._databases.run(lambda _: template.drop(used))


def _is_file(clone: Clone) -> bool:
    return clone.url.get_backend_name() == "sqlite"


def _close(template: Template, _: Commands) -> None:
    template.close()
