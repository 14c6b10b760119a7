"""Each test uses the databases of the fixture that it requests, whichever tests ran before."""

from __future__ import annotations

import pytest
from project import Project
from suites import copy_shop, left_behind, run_pytest

SHARED = """
import anyio
import pytest
import sqlalchemy as sa
from accounts.models import Customer
from ampho.errors import DatabaseError
from {app} import app, db

STATEMENT = sa.select(Customer.name).order_by(Customer.name)


async def run_async(name):
    async with app.app_context():
        if name:
            db.session.add(Customer(email=f"{{name}}@example.com", name=name))
            await db.session.commit()
        return list(await db.session.scalars(STATEMENT))


def names(name=None):
    if app.import_name == "quart_app":
        return anyio.run(run_async, name)
    with app.app_context():
        if name:
            db.session.add(Customer(email=f"{{name}}@example.com", name=name))
            db.session.commit()
        return list(db.session.scalars(STATEMENT))


@pytest.fixture(scope="session")
def of_session(ampho_session_database):
    assert names("session") == ["session"]
    yield
    print("end of the session:", names())


@pytest.fixture(scope="module")
def of_module(ampho_module_database):
    assert names("module") == ["module"]
    yield
    print("end of the module:", names())


def refused(*_):
    with pytest.raises(DatabaseError, match="without a fixture"):
        names()


def test_session(of_session):
    assert names() == ["session"]


def test_none():
    refused()


def test_none_but_the_app(ampho_app):
    refused()


def test_module(of_module):
    assert names() == ["module"]


def test_none_again(ampho_app):
    refused()


def test_only_the_session(ampho_session_database):
    assert names("second") == ["second", "session"]
    assert ampho_session_database.clone("default").drivername == ampho_session_database.url.drivername


def test_its_own(ampho_database):
    assert names() == []


def test_only_the_module(ampho_module_database):
    assert names() == ["module"]


def test_a_transaction(ampho_transaction):
    assert names("rolled back") == ["rolled back"]


def test_both_later(ampho_session_database, request):
    for name in ("ampho_database", "migrations", "ampho_transaction"):
        with pytest.raises(pytest.fail.Exception, match=f"ampho_session_database and {{name}}, and each"):
            request.getfixturevalue(name)
    assert names() == ["second", "session"]


def test_an_empty_one(migrations, request):
    with pytest.raises(sa.exc.DatabaseError):
        names()


def test_none_at_last():
    refused()
"""
SECOND = """
from test_first import names, of_module, refused


def test_module(of_module):
    assert names() == ["module"]


def test_session(ampho_session_database):
    assert names() == ["second", "session"]


def test_none():
    refused()
"""


@pytest.fixture
def shop(project: Project) -> Project:
    return copy_shop(project)


@pytest.mark.parametrize("memory", [False, True], ids=["file", "memory"])
@pytest.mark.parametrize("app", ["flask_app", "quart_app"])
def test_shared_databases_are_only_used_by_the_tests_that_request_them(
    shop: Project, app: str, *, memory: bool
) -> None:
    shop.write("test_first.py", SHARED.format(app=app))
    shop.write("test_second.py", SECOND)
    driver = "aiosqlite" if app == "quart_app" else "pysqlite"
    env = {"SHOP_DATABASE_URL": f"sqlite+{driver}://"} if memory else {}

    result = run_pytest(shop, ini=f"ampho_app = {app}", env=env)

    assert "15 passed" in result.stdout, str(result)
    assert result.stdout.count("end of the module: ['module']\n") == 2, str(result)
    assert "end of the session: ['second', 'session']\n" in result.stdout
    assert not list(shop.folder.rglob("*.db"))
    assert left_behind(shop) == []


CONTRADICTORY = """
import pytest


@pytest.fixture
def client(ampho_app, ampho_database):
    raise AssertionError("it ran")


def test_both(client, {other}):
    raise AssertionError("it ran")


def test_one(ampho_database):
    pass
"""


@pytest.mark.parametrize("other", ["ampho_transaction", "migrations", "ampho_session_database"])
def test_a_test_with_two_kinds_of_databases_is_refused_before_anything_runs(shop: Project, other: str) -> None:
    shop.write("test_it.py", CONTRADICTORY.format(other=other))

    result = run_pytest(shop, ini="ampho_app = flask_app")

    names = f"ampho_database and {other}"
    message = f"The test and its fixtures request {names}, and each of these provides other databases. Use one of them."
    assert message in result.stdout, str(result)
    assert "it ran" not in result.stdout
    assert "ampho/testing" not in result.stdout
    assert "1 passed" in result.stdout
    assert "1 error" in result.stdout
