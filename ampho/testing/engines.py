"""Lead all engines of an app to other databases during a test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from ampho.database.one_transaction import in_one_transaction
from ampho.database.redirect import is_led, redirected, refused, restored
from ampho.database.url import BINDS_SETTING, URL_SETTING
from ampho.settings import DATABASE_URI, DEFAULT_DATABASE, PROTECTED

if TYPE_CHECKING:
    from flask.sansio.app import App
    from sqlalchemy import URL, Engine

    from ampho.database.redirect import Lead
    from ampho.extension import AsyncExtension, SyncExtension

_CHANGED = (URL_SETTING, BINDS_SETTING, DATABASE_URI.name, PROTECTED.name)


@contextmanager
def refuse_app(ampho: SyncExtension | AsyncExtension, app: App, message: str) -> Iterator[None]:
    """Make all engines of an app refuse to connect, also those for ``AMPHO_DATABASE_URI``.

    :param message: the message of the error, which says what to do. ``{database}`` in it stands for the name of the
        database.
    """
    with ExitStack() as stack:
        for name in ampho.engine_names(app):
            how = partial(refused, message=message.format(database=name))
            stack.enter_context(ampho.lead(app, name, how))
        stack.enter_context(_configured(app, {**configuration(app), DATABASE_URI.name: {}}))
        yield


@contextmanager
def redirect_app(
    ampho: SyncExtension | AsyncExtension, app: App, to: Mapping[str, Engine], leads: Mapping[str, Lead] | None = None
) -> Iterator[None]:
    """Make the engines of an app connect to other databases. Its configuration contains their URLs meanwhile.

    ``AMPHO_DATABASE_URI`` is ignored meanwhile, so that migrations use the other databases, too.

    :param to: an engine for each name of a database. Other databases of the app stay as they are.
    :param leads: what leads the engines of each database to that engine; by default, :class:`redirected`.
    """
    with ExitStack() as stack:
        for name, engine in to.items():
            stack.enter_context(ampho.lead(app, name, leads[name] if leads else partial(redirected, to=engine)))
        stack.enter_context(_configured(app, _redirected(app, {name: engine.url for name, engine in to.items()})))
        yield


def connected_engines(ampho: SyncExtension | AsyncExtension, app: App) -> list[str]:
    """Return the names of the databases to which an engine of the app has connected itself."""
    found = []

    def look(engine: Engine, name: str) -> AbstractContextManager[None]:
        # The first connection initializes the dialect.
        if "server_version_info" in vars(engine.dialect) and not is_led(engine):
            found.append(name)
        return nullcontext()

    for name in ampho.engine_names(app):
        with ampho.lead(app, name, partial(look, name=name)):
            pass
    return found


def configuration(app: App) -> dict[str, object]:
    """Return the part of an app's configuration that :func:`redirect_app` changes."""
    return {name: app.config[name] for name in _CHANGED if name in app.config}


@contextmanager
def app_in_one_transaction(ampho: SyncExtension | AsyncExtension, app: App, names: Iterable[str]) -> Iterator[None]:
    """Put everything that an app does in some of its databases into one transaction for each, and roll it back.

    :param names: the names of databases that are redirected.
    """
    with ExitStack() as stack:
        for name in names:
            # Engines for other event loops would not see the rows of this test.
            stack.enter_context(ampho.lead(app, name, partial(in_one_transaction, transactions=[])))
        yield


@contextmanager
def own_databases(ampho: SyncExtension | AsyncExtension, app: App, configured: Mapping[str, object]) -> Iterator[None]:
    """Make the engines of an app connect to its own databases, even if they are led elsewhere.

    :param configured: the configuration of the app before it was led elsewhere.
    """
    with ExitStack() as stack:
        for name in ampho.engine_names(app):
            stack.enter_context(ampho.lead(app, name, restored))
        stack.enter_context(_configured(app, configured))
        check, ampho.check_member = ampho.check_member, None
        stack.callback(setattr, ampho, "check_member", check)
        yield


def _redirected(app: App, urls: Mapping[str, URL]) -> dict[str, object]:
    """Return the part of an app's configuration that has to change for other URLs of its databases."""
    texts = {name: url.render_as_string(hide_password=False) for name, url in urls.items()}
    # These two override the environment.
    config: dict[str, object] = {**configuration(app), DATABASE_URI.name: {}, PROTECTED.name: False}
    if config.get(URL_SETTING) is not None and DEFAULT_DATABASE in texts:
        config[URL_SETTING] = texts[DEFAULT_DATABASE]
    if isinstance(binds := config.get(BINDS_SETTING), Mapping):
        config[BINDS_SETTING] = {key: _with_url(bind, texts.get(key)) for key, bind in binds.items()}
    return config


@contextmanager
def _configured(app: App, config: Mapping[str, object]) -> Iterator[None]:
    """Replace the part of an app's configuration that leads to its databases, and restore it at the end."""
    before = configuration(app)
    for name in _CHANGED:
        app.config.pop(name, None)
    app.config.update(config)
    try:
        yield
    finally:
        for name in _CHANGED:
            app.config.pop(name, None)
        app.config.update(before)


def _with_url(bind: object, url: str | None) -> object:
    """Return the value of a bind with another URL, if there is one."""
    if url is None:
        return bind
    return {**bind, "url": url} if isinstance(bind, Mapping) else url
