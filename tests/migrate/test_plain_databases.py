"""Plain Alembic, ``flask db``, and pytest-alembic in an app with several databases."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from project import Project, Result
from servers import Database
from store import BOOKS, CUSTOMERS, Store, open_store

on_sqlite = pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")

EVENTS = CUSTOMERS.replace("Customer", "Event").replace("customers", "events") + "    __bind_key__ = 'events'\n"
COPIES = EVENTS.replace("Event", "Copy").replace('"events"', '"customers"')
HOMES = {"default": ["accounts", "books"], "events": ["events", "copies", "books"]}


@pytest.fixture
def shop(project: Project, database: Database) -> Store:
    """An app with two databases, in which ``books`` lives in both, and ``events`` depends on the other database."""
    file = Path(str(database.url.database)).with_name("events.db")
    models = {"accounts": CUSTOMERS, "books": BOOKS, "events": EVENTS, "copies": COPIES}
    binds = {"events": database.url.set(database=str(file)).render_as_string(hide_password=False)}
    store = open_store(project, database, models, SQLALCHEMY_BINDS=binds, AMPHO_DATABASES=HOMES)
    for name in models:
        shutil.rmtree(project.migrations(name))
        store.run("db-init", name)
    store.run("db-rev", "-a", "First")
    store.run("db-up")
    store.run("db-rev", "events", "Later", "--depends-on", "accounts")
    return store


def alembic(shop: Store, package: str, *command: str, check: bool = True) -> Result:
    return shop.project.run("alembic", "-c", f"{package}/migrations/alembic.ini", *command, check=check)


def tables(shop: Store, bind: str | None = None) -> set[str]:
    url = shop.extra_config["SQLALCHEMY_BINDS"][bind] if bind else str(shop.url)
    with closing(sqlite3.connect(url.partition(":///")[2])) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


OWN = {"alembic_version", "ampho_journal"}


@on_sqlite
def test_alembic_migrates_the_database_of_the_ini_file_or_of_an_argument(shop: Store) -> None:
    assert tables(shop) == {"customers", "books", *OWN}
    assert tables(shop, "events") == {"customers", "events", "books", *OWN}

    # The package of the ini file lives in only one database.
    alembic(shop, "events", "upgrade", "heads")
    assert shop.run("db-check", "--deploy", exit_code=None).exit_code == 0
    alembic(shop, "events", "downgrade", "base")
    assert tables(shop, "events") == OWN
    alembic(shop, "accounts", "-x", "database=events", "upgrade", "events@heads")
    assert tables(shop, "events") == {"events", *OWN}
    assert tables(shop) == {"customers", "books", *OWN}

    # This one lives in both.
    result = alembic(shop, "books", "upgrade", "heads", check=False)
    assert result.exit_code != 0
    assert (
        "Alembic migrates one database, and the app has several: default, events. Add -x, for example" in result.stderr
    )
    alembic(shop, "books", "-x", "database=events", "upgrade", "heads")
    assert tables(shop, "events") == {"customers", "events", "books", *OWN}
    assert "Did you mean events" in alembic(shop, "books", "-x", "database=event", "current", check=False).stderr
    sql = alembic(shop, "books", "-x", "database=default", "upgrade", "base:heads", "--sql").stdout
    assert ("CREATE TABLE customers" in sql, "CREATE TABLE events" in sql) == (True, False)


@on_sqlite
def test_alembic_compares_each_database_with_its_own_models(shop: Store) -> None:
    for name in ("accounts", "events"):
        alembic(shop, name, "upgrade", "heads")
        assert "No new upgrade operations" in alembic(shop, name, "check").stdout

    shop.models("events", EVENTS.replace("'events'\n", "'other'\n"))
    for command in (("check",), ("revision", "--autogenerate", "--head", "events@head", "-m", "Wrong")):
        assert (
            "uses the bind other, but events lives in events" in alembic(shop, "events", *command, check=False).stderr
        )


@pytest.mark.drivers("sqlite+pysqlite")
def test_flask_db_migrates_the_database_of_an_argument(shop: Store) -> None:
    def flask_db(*command: str, check: bool = True) -> Result:
        return shop.project.run("flask", "--app", "wsgi", "db", *command, check=check)

    assert "-x database=default" in flask_db("upgrade", check=False).stderr.replace("'", "")
    flask_db("upgrade", "-x", "database=events", "heads")
    flask_db("downgrade", "-x", "database=events", "events@base")
    assert tables(shop, "events") == {"customers", "books", *OWN}

    shop.project.write("migrations/env.py", "raise RuntimeError('this env.py ran')\n")
    refused = flask_db("upgrade", "-x", "database=events", check=False).stderr
    assert "migrations/env.py migrates one database, and the app has several: default, events." in refused
