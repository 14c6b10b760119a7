"""Loading the app of a test session, without connecting to the databases that it is configured with."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from typing import TYPE_CHECKING, NoReturn

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from ampho._text import running_line
from ampho.apps import AppLoader, load_env_files
from ampho.errors import AmphoError

if TYPE_CHECKING:
    from flask.sansio.app import App

_CONNECTS = (
    "The app connects to a database while it is created{}. Tests must not touch the databases that the app is"
    " configured with, so ampho_app refuses this. Connect later, such as in a view or a command."
)


def setting(config: pytest.Config, name: str) -> str:
    """Return an option of the command line, or otherwise of ``pytest.ini``."""
    try:
        value = config.getoption(name) or config.getini(name)
    except TypeError:  # in a table of pyproject.toml in which pytest checks types
        value = None
    if not isinstance(value, str):
        fail(f"{name} in {getattr(config.inipath, 'name', 'pytest.ini')} is not a string. Write a string.")
    return value


def fail(message: object) -> NoReturn:
    """Raise the failure of a test or a fixture, with a message instead of a traceback through this package."""
    raise pytest.fail.Exception(str(message), pytrace=False) from None


def fail_for_several(fixtures: Sequence[str]) -> NoReturn:
    """Raise the failure of a test that uses several fixtures which lead the engines of the app elsewhere."""
    fail(
        f"The test and its fixtures request {' and '.join(fixtures)}, and each of these provides other databases. Use"
        " one of them."
    )


def load_app(config: pytest.Config) -> App:
    """Return the app that ``ampho_app`` names, found as the command ``ampho`` does in the folder of ``pytest.ini``."""
    on_command_line = os.environ.get("FLASK_RUN_FROM_CLI")
    try:
        with chdir(config.rootpath):
            load_env_files()
            app = AppLoader(setting(config, "ampho_app") or None).load_app()
    except AmphoError as exc:
        text = str(exc).replace("the app with --app", "the app with ampho_app in pytest.ini, --ampho-app,")
        fail(re.sub(r"(?<!\S)--app\b", "--ampho-app" if config.getoption("ampho_app") else "ampho_app", text))
    finally:
        # A server that a test starts with app.run() would do nothing.
        if on_command_line is None:
            os.environ.pop("FLASK_RUN_FROM_CLI", None)
    app.config["TESTING"] = True
    return app


@contextmanager
def never_connecting() -> Iterator[None]:
    """Make the test fail if any engine connects meanwhile, even if the app catches all exceptions."""

    def refuse(*_: object) -> NoReturn:
        place = running_line()
        fail(_CONNECTS.format(f" (at {place})" if place else ""))

    events = ((Engine, "do_connect"), (Pool, "connect"))  # an engine with creator= only has the second one
    for target, name in events:
        event.listen(target, name, refuse)
    try:
        yield
    finally:
        for target, name in events:
            event.remove(target, name, refuse)
