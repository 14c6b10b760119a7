"""The fixtures work for apps of all kinds, and no file is created where an app is configured to have its database."""

from __future__ import annotations

import pytest
from project import Project
from suites import left_behind, run_pytest

PACKAGES = {"AMPHO_MIGRATION_PACKAGES": ["first", "second"], "AMPHO_DATABASES": {"reports": ["second"]}}
FLASK = {
    "SQLALCHEMY_DATABASE_URI": "sqlite:///own.db",
    "SQLALCHEMY_BINDS": {"reports": "sqlite:///reports.db", "others": "sqlite:///others.db"},
    "AMPHO_DATABASE_URI": "sqlite:///direct.db",
    "AMPHO_PROTECTED": True,
    **PACKAGES,
    "AMPHO_DATABASES": {"reports": ["second"], "others": []},
}
QUART = {
    "SQLALCHEMY_DATABASE_URI": "sqlite+aiosqlite:///own.db",
    "SQLALCHEMY_BINDS": {"reports": "sqlite+aiosqlite:///reports.db"},
    **PACKAGES,
}
ONE = {"AMPHO_MIGRATION_PACKAGES": ["first"]}
APPS = {
    "databases": ("Flask", FLASK, "Ampho(app)"),
    "memory": ("Flask", {"SQLALCHEMY_DATABASE_URI": "sqlite://", **ONE}, "Ampho(app)"),
    "async databases": ("Quart", QUART, "AsyncAmpho(app)"),
    "async memory": ("Quart", {"SQLALCHEMY_DATABASE_URI": "sqlite+aiosqlite://", **ONE}, "AsyncAmpho(app)"),
    "engine": ("Quart", ONE, "AsyncAmpho(app, create_async_engine('sqlite+aiosqlite:///own.db'), metadata=MetaData())"),
}
CONFTEST = """
import pytest
from flask import Flask
from quart import Quart
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import create_async_engine

from ampho import Ampho, AsyncAmpho


@pytest.fixture
def ampho_app():
    app = {}("app")
    app.config.update({!r})
    {}
    return app
"""
TESTS = {
    "Flask": """
import pytest
from sqlalchemy import text

from ampho import AmphoError

FIXTURES = ["ampho_database", "ampho_transaction", "ampho_database", "ampho_transaction"]


def insert(app, name):
    table = "second" if name == "reports" else "first"
    with app.app_context(), app.extensions["ampho"].engine(app, name).begin() as connection:
        connection.execute(text(f"INSERT INTO {table} VALUES (1)"))


@pytest.mark.parametrize("fixture", FIXTURES)
def test_all_databases(ampho_app, request, fixture):
    for name in request.getfixturevalue(fixture).urls:
        insert(ampho_app, name)
    with ampho_app.app_context():
        assert ampho_app.extensions["ampho"].current()["first"].is_up_to_date


def test_a_database_that_is_not_migrated(ampho_app, ampho_database):
    if "others" in ampho_app.config["SQLALCHEMY_BINDS"]:
        with pytest.raises(AmphoError, match="the database others"):
            ampho_app.extensions["ampho"].engine(ampho_app, "others").connect()


def test_migrations(ampho_app, migrations):
    migrations.upgrade_to("heads")
    insert(ampho_app, "default")
    migrations.downgrade_to("first@base", database="default")


def test_commands_without_a_database(ampho_app):
    with ampho_app.app_context(), pytest.raises(AmphoError, match="Use ampho_database"):
        ampho_app.extensions["ampho"].upgrade()
""",
    "Quart": """
import pytest
from sqlalchemy import text

from ampho import AmphoError

FIXTURES = ["ampho_database", "ampho_transaction", "ampho_database", "ampho_transaction"]


async def insert(app, name):
    table = "second" if name == "reports" else "first"
    async with app.app_context(), app.extensions["ampho"].engine(app, name).begin() as connection:
        await connection.execute(text(f"INSERT INTO {table} VALUES (1)"))


@pytest.mark.parametrize("fixture", FIXTURES)
@pytest.mark.parametrize("scope", [pytest.param(each, marks=pytest.mark.asyncio(loop_scope=each)) for each in SCOPES])
async def test_all_databases(ampho_app, request, fixture, scope):
    for name in request.getfixturevalue(fixture).urls:
        await insert(ampho_app, name)
    async with ampho_app.app_context():
        assert (await ampho_app.extensions["ampho"].current())["first"].is_up_to_date


@pytest.mark.asyncio
async def test_migrations(ampho_app, migrations):
    await migrations.upgrade_to("heads")
    await insert(ampho_app, "default")
    await migrations.downgrade_to("first@base", database="default")


@pytest.mark.asyncio
async def test_commands_without_a_database(ampho_app):
    async with ampho_app.app_context():
        with pytest.raises(AmphoError, match="Use ampho_database"):
            await ampho_app.extensions["ampho"].upgrade()
""".replace("for each in SCOPES", 'for each in ("function", "session")'),
}


@pytest.mark.parametrize("kind", APPS)
def test_apps(project: Project, kind: str) -> None:
    framework, config, extension = APPS[kind]
    for name in ("first", "second"):
        project.package(name)
        create = f'op.create_table("{name}", sa.Column("id", sa.Integer, primary_key=True))'
        project.revision(name, f"{name}_1", upgrade=create, downgrade=f'op.drop_table("{name}")')
    project.write("conftest.py", CONFTEST.format(framework, config, extension))
    project.write("test_app.py", TESTS[framework])
    project.write("test_history.py", "from ampho.testing.tests import test_every_downgrade_works\n")

    result = run_pytest(project)

    assert f"{8 if framework == 'Flask' else 11} passed" in result.stdout, str(result)
    assert result.exit_code == 0, str(result)
    assert not list(project.folder.rglob("*.db"))
    assert left_behind(project) == []
