"""Lead all engines of an app to other databases during a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ampho.database.redirect import redirected, refused
from ampho.database.url import BINDS_SETTING, URL_SETTING
from ampho.settings import DATABASE_URI, DEFAULT_DATABASE

if TYPE_CHECKING:
    from flask.sansio.app import App
    from sqlalchemy import URL, Engine

    from ampho.extension import AsyncExtension, SyncExtension


@contextmanager
def refuse_app(ampho: SyncExtension | AsyncExtension, app: App, message: str) -> Iterator[None]:
    """Make all engines of an app refuse to connect.

    :param message: the message of the error, which says what to do. ``{database}`` in it stands for the name of the
        database.
    """
    with ExitStack() as stack:
        for name in ampho.engine_names(app):
            how = partial(refused, message=message.format(database=name))
            stack.enter_context(ampho.lead(app, name, how))
        yield


@contextmanager
def redirect_app(ampho: SyncExtension | AsyncExtension, app: App, to: Mapping[str, Engine]) -> Iterator[None]:
    """Make the engines of an app connect to other databases. Its configuration contains their URLs meanwhile.

    ``AMPHO_DATABASE_URI`` is ignored meanwhile, so that migrations use the other databases, too.

    :param to: an engine for each name of a database. Other databases of the app stay as they are.
    """
    with ExitStack() as stack:
        for name, engine in to.items():
            stack.enter_context(ampho.lead(app, name, partial(redirected, to=engine)))
        stack.enter_context(_configured(app, {name: engine.url for name, engine in to.items()}))
        yield


@contextmanager
def _configured(app: App, urls: Mapping[str, URL]) -> Iterator[None]:
    """Set the URLs in an app's configuration, and restore it at the end."""
    config: dict[str, Any] = app.config
    names = (URL_SETTING, BINDS_SETTING, DATABASE_URI.name)
    before = {name: config[name] for name in names if name in config}
    texts = {name: url.render_as_string(hide_password=False) for name, url in urls.items()}
    if config.get(URL_SETTING) is not None and DEFAULT_DATABASE in texts:
        config[URL_SETTING] = texts[DEFAULT_DATABASE]
    if binds := config.get(BINDS_SETTING):
        config[BINDS_SETTING] = {key: _with_url(bind, texts.get(key)) for key, bind in binds.items()}
    config[DATABASE_URI.name] = {}  # overrides the environment
    try:
        yield
    finally:
        for name in names:
            config.pop(name, None)
        config.update(before)


def _with_url(bind: object, url: str | None) -> object:
    """Return the value of a bind with another URL, if there is one."""
    if url is None:
        return bind
    return {**bind, "url": url} if isinstance(bind, Mapping) else url
