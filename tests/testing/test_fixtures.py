"""The fixtures give each test migrated databases of its own, and never the app's."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path

import pytest
from project import Project
from servers import Database
from suites import copy_shop, left_behind, run_pytest

FLASK = """
import pytest
import sqlalchemy as sa
from accounts.models import Customer
from flask_app import app, db


def count():
    with app.app_context():
        return db.session.scalar(sa.select(sa.func.count()).select_from(Customer))


def add(name):
    with app.app_context():
        db.session.add(Customer(email=f"{name}@example.com", name=name))
        db.session.commit()


@pytest.mark.parametrize("number", range(3))
def test_a_database_of_its_own(ampho_database, number):
    assert count() == 0
    add("Ann")
    assert count() == 1
    assert app.test_client().get("/orders/Ann@example.com").json == []
    with app.app_context():
        assert ampho_database.url == ampho_database.urls["default"] == db.engine.url


def test_a_database_of_the_module(ampho_module_database):
    before = count()
    add(str(before))


def test_the_same_database_of_the_module(ampho_module_database):
    assert count() >= 0


@pytest.mark.parametrize("number", range(2))
def test_a_transaction(ampho_transaction, number):
    assert count() == 0
    add("Ann")
    assert count() == 1
    assert app.test_client().get("/orders/Ann@example.com").json == []


def test_one_more_database(ampho_database):
    assert count() == 0
    engine = sa.create_engine(ampho_database.clone("default"))
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(Customer)) == 0
    engine.dispose()


def test_commands_of_the_app(ampho_database):
    with app.app_context():
        app.extensions["ampho"].downgrade("orders@base")
        assert app.extensions["ampho"].current()["orders"].pending


def test_migrations(migrations):
    run = migrations.upgrade_to("accounts@+1")
    assert len(run.steps) == 1
    add("ANN")
    migrations.upgrade_to("accounts")
    with app.app_context():
        assert db.session.scalar(sa.select(Customer.email)) == "ann@example.com"
    assert migrations.downgrade_to("accounts@-1").steps
"""

QUART = """
import asyncio

import anyio
import pytest
import sqlalchemy as sa
from accounts.models import Customer
from quart_app import app, db


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def count():
    async with app.app_context():
        return await db.session.scalar(sa.select(sa.func.count()).select_from(Customer))


async def add(name):
    async with app.app_context():
        db.session.add(Customer(email=f"{name}@example.com", name=name))
        await db.session.commit()


@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(2))
async def test_with_pytest_asyncio(ampho_database, number):
    assert await count() == 0
    await add("Ann")
    assert await count() == 1
    found = await app.test_client().get("/orders/Ann@example.com")
    assert await found.get_json() == []
    assert ampho_database.clone("default") != ampho_database.url


@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(2))
async def test_a_transaction(ampho_transaction, number):
    assert await count() == 0
    await add("Ann")
    await asyncio.gather(*(add(name) for name in ("Bob", "Cyd", "Dan")))
    assert await count() == 4


@pytest.mark.anyio
@pytest.mark.parametrize("number", range(2))
async def test_with_anyio(ampho_module_database, number):
    assert await count() <= number  # with several workers, the other test may run in another one
    await add(str(number))


def test_without_a_plug_in(ampho_database):
    assert anyio.run(count) == 0


@pytest.mark.asyncio
async def test_migrations(migrations):
    run = await migrations.upgrade_to("accounts@+1")
    assert len(run.steps) == 1
    await add("ANN")
    await migrations.upgrade_to("accounts")
    async with app.app_context():
        assert await db.session.scalar(sa.select(Customer.email)) == "ann@example.com"
    assert (await migrations.downgrade_to("accounts@-1")).steps
"""


WITHOUT_DATABASE = """
import anyio
import pytest
import sqlalchemy as sa
from ampho.errors import DatabaseError


def connect(app, db):
    with app.app_context():
        db.session.execute(sa.text("SELECT 1"))


async def connect_async(app, db):
    async with app.app_context():
        await db.session.execute(sa.text("SELECT 1"))


def test_no_database(ampho_app):
    db = ampho_app.extensions["sqlalchemy"]
    with pytest.raises(DatabaseError, match="Use ampho_database, ampho_transaction, or migrations"):
        connect(ampho_app, db) if ampho_app.name == "flask_app" else anyio.run(connect_async, ampho_app, db)
"""


TENANTS = """
import pytest
import sqlalchemy as sa

from ampho import Database
from ampho.errors import AmphoError
from flask_app import app

ampho = app.extensions["ampho"]
listed = ["sqlite:///acme.db"]


@ampho.databases("tenants", packages=["accounts", "catalog", "orders"])
def tenants():
    yield from (Database(f"tenant{number}", url=url) for number, url in enumerate(listed))


def test_a_tenant_of_the_developer(ampho_app, ampho_database):
    with app.app_context():
        for call in (ampho.upgrade, ampho.current):
            with pytest.raises(AmphoError, match="tenants/tenant0, which is not a clone"):
                call(database="tenants/tenant0")
        with pytest.raises(AmphoError, match="tenants/tenant0, which is not a clone"):
            ampho.provision("tenants/tenant0")


def test_a_tenant_that_is_a_clone(ampho_app, ampho_database):
    listed[:] = [ampho_database.clone("tenants")]
    with app.app_context():
        assert ampho.current(database="tenants/tenant0")["orders"].is_up_to_date
"""

SCHEMAS = """
import sqlalchemy as sa

from ampho import Database
from flask_app import app, db

ampho = app.extensions["ampho"]


@ampho.databases("tenants", packages=["accounts", "catalog", "orders"])
def tenants():
    yield Database("acme", schema="acme")


def test_a_tenant_that_is_a_schema(ampho_app, ampho_database):
    with app.app_context():
        ampho.provision("tenants/acme")
        assert db.session.scalar(sa.text("SELECT count(*) FROM acme.books")) == 3
        assert ampho.current(database="tenants/acme")["orders"].is_up_to_date
"""


@pytest.fixture
def shop(project: Project) -> Project:
    """The example, with a database of its developer."""
    copy_shop(project)
    developers = project.folder / "instance" / "shop.db"
    developers.parent.mkdir()
    with sqlite3.connect(developers) as connection:
        connection.execute("CREATE TABLE customers (id INTEGER PRIMARY KEY)")
    connection.close()
    return project


def state(project: Project) -> list[tuple[Path, int, bytes]]:
    files = (project.folder / "instance").iterdir()
    return [(path, path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(files)]


ALL_BUT_TEMPLATES = {
    "postgresql": "SELECT datname FROM pg_database WHERE datname NOT LIKE 'ampho_template_%'",
    "mariadb": "SELECT schema_name FROM information_schema.schemata WHERE schema_comment NOT LIKE 'ampho_template_%'",
}


COLD_STARTS = int(os.environ.get("AMPHO_COLD_STARTS", "1"))
RUNS = """
import time

import pytest


@pytest.mark.parametrize("number", range(8))
def test_a_clone_of_the_run(ampho_database, number):
    print(ampho_database.url)
    time.sleep(0.05)  # so that each worker runs some
"""
APPS = pytest.mark.parametrize(
    ("app", "tests", "passed"), [("flask_app", FLASK, 10), ("quart_app", QUART, 8)], ids=["flask", "quart"]
)


FOR_EACH_TEST = """
import pytest
from accounts.models import Customer
from flask_app import app, db


@pytest.mark.parametrize("fixture", ["ampho_database", "ampho_transaction", "ampho_database", "ampho_transaction"])
def test_a_database(ampho_app, request, fixture):
    request.getfixturevalue(fixture)
    with app.app_context():
        db.session.add(Customer(email="ann@example.com", name="Ann"))
        db.session.commit()
        assert db.session.query(Customer).count() == 1
"""
ENDS_THE_TRANSACTION = """
import pytest
import sqlalchemy as sa
from flask_app import app, db


@pytest.fixture
def context(ampho_app, ampho_transaction):
    with app.app_context():
        yield


def test_that_commits(context):
    db.session.execute(sa.text("COMMIT"))
"""
OWN_APP = """
import pytest


@pytest.fixture
def ampho_app(ampho_app):
    ampho_app.config["SECRET_KEY"] = "secret"
    return ampho_app
"""


def test_a_fixture_that_changes_the_app_for_each_test(shop: Project) -> None:
    shop.write("conftest.py", OWN_APP)
    shop.write("test_shop.py", FOR_EACH_TEST)
    before = state(shop)

    result = run_pytest(shop, ini="ampho_app = flask_app")

    assert "4 passed" in result.stdout, str(result)
    assert state(shop) == before
    assert left_behind(shop) == []


def test_the_end_of_a_transaction_is_reported_in_one_sentence(shop: Project) -> None:
    shop.write("test_shop.py", ENDS_THE_TRANSACTION)

    result = run_pytest(shop, ini="ampho_app = flask_app")

    assert "1 passed, 1 error" in result.stdout, str(result)
    assert "\nThe transaction of the test was ended by a statement such as COMMIT" in result.stdout
    assert len(result.stdout.splitlines()) < 12


@APPS
def test_the_fixtures(shop: Project, app: str, tests: str, passed: int) -> None:
    shop.write("test_first.py", WITHOUT_DATABASE)
    shop.write("test_shop.py", tests)
    before = state(shop)

    result = run_pytest(shop, ini=f"ampho_app = {app}")

    assert f"{passed + 1} passed" in result.stdout, str(result)
    assert state(shop) == before
    assert left_behind(shop) == []


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
@pytest.mark.timeout(120 + 120 * COLD_STARTS)
@pytest.mark.usefixtures("unmeasured")
def test_workers_of_xdist_build_one_template_and_leave_nothing(shop: Project, database: Database) -> None:
    """With ``AMPHO_COLD_STARTS=20``, this is repeated with templates that do not exist yet, also on 8 workers."""
    app, tests, passed = ("quart_app", QUART, 8) if database.is_async else ("flask_app", FLASK, 10)
    shop.write("test_shop.py", tests)
    shop.write("test_runs.py", RUNS)
    *_, revision = sorted((shop.migrations("orders") / "versions").glob("*.py"))
    source, ran = revision.read_text("utf-8"), shop.folder / "ran"
    url = database.url.render_as_string(hide_password=False)
    for number in range(COLD_STARTS):
        for workers in (2,) if COLD_STARTS == 1 else (2, 8):
            append = f"with open({str(ran)!r}, 'a') as file:\n        file.write('{number} on {workers}\\n')"
            revision.write_text(source.replace("def upgrade():\n", f"def upgrade():\n    {append}\n"), "utf-8")
            ran.unlink(missing_ok=True)

            env, ini = {"SHOP_DATABASE_URL": url}, f"ampho_app = {app}"
            result = run_pytest(shop, "-n", str(workers), ini=ini, env=env, timeout=120)

            assert f"{passed + 8} passed" in result.stdout, str(result)
            assert ran.read_text("utf-8") == f"{number} on {workers}\n"
            runs = {*re.findall(r"ampho_clone_([0-9a-f]{12})", result.stdout)}
            assert 1 < len(runs) <= workers
            if database.backend != "sqlite":
                names = [name for (name,) in database.query(ALL_BUT_TEMPLATES[database.backend])]
                assert [name for name in names if any(run in name for run in runs)] == []
            assert left_behind(shop) == database.tables() == []


@pytest.mark.drivers("postgresql", "mariadb")
@pytest.mark.usefixtures("unmeasured")
def test_the_fixtures_on_servers(shop: Project, database: Database) -> None:
    app, tests, passed = ("quart_app", QUART, 8) if database.is_async else ("flask_app", FLASK, 10)
    shop.write("test_first.py", WITHOUT_DATABASE)
    shop.write("test_shop.py", tests)
    database.run("CREATE TABLE customers (id INTEGER PRIMARY KEY)")
    before = database.schema(), database.data()

    url = database.url.render_as_string(hide_password=False)
    result = run_pytest(shop, ini=f"ampho_app = {app}", env={"SHOP_DATABASE_URL": url})

    assert f"{passed + 1} passed" in result.stdout, str(result)
    assert (database.schema(), database.data()) == before


def test_databases_of_a_group_are_only_used_if_they_are_clones(shop: Project) -> None:
    before = state(shop)
    shop.write("test_tenants.py", TENANTS)

    done = run_pytest(shop, "test_tenants.py", ini="ampho_app = flask_app")

    assert "2 passed" in done.stdout, done
    assert state(shop) == before


@pytest.mark.drivers("postgresql+psycopg")
def test_a_schema_of_a_group_is_in_a_clone_even_if_no_package_lives_there(shop: Project, database: Database) -> None:
    shop.write("test_tenants.py", SCHEMAS)
    before = database.schema()
    url = database.url.render_as_string(hide_password=False)

    result = run_pytest(shop, ini="ampho_app = flask_app", env={"SHOP_DATABASE_URL": url})

    assert "1 passed" in result.stdout, str(result)
    assert database.schema() == before
