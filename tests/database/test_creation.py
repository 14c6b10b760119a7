"""Databases and schemas that ``--create`` creates, also where several processes do so at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import zigzag
from facade import facade
from inside import inside, member
from project import Project
from servers import Database, Server
from sqlalchemy import URL, Engine, create_engine

from ampho.database.connection import connect
from ampho.database.creation import create_missing
from ampho.errors import DatabaseError

SCHEMA = 'Acme "50 %s"'
SECRET = "dr0wssap s3cret"
NAME = 'Tenant %s "`'


@contextmanager
def dropped(database: Database, names: list[str]) -> Iterator[None]:
    try:
        yield
    finally:
        with database.connect() as connection:
            quote = connection.dialect.identifier_preparer.quote_identifier
            for name in names:
                connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {quote(name)}")


def create(engine: Engine, url: URL | None = None, schema: str | None = None) -> tuple[str, ...]:
    """Create what is missing, and then connect to it."""
    own = member(engine, url, schema)
    created = create_missing(own, engine, "tenants")
    with connect(own, "tenants") as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    return created


@pytest.mark.drivers("postgresql")
def test_a_schema(project: Project, database: Database) -> None:
    project.package("core")
    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        assert inside(each, partial(create, schema=SCHEMA)) == (f"the schema {SCHEMA}",)
        assert inside(each, partial(create, schema=SCHEMA)) == ()


def test_a_database(project: Project, database: Database, tmp_path: Path) -> None:
    project.package("core")
    if database.backend == "sqlite":
        url, what = database.url.set(database=str(tmp_path / "a" / "b" / "x.db")), f"the folder {tmp_path / 'a' / 'b'}"
    else:
        name = f"{database.name} {NAME}"
        url, what = database.url.set(database=name), f"the database {name}"
    with (
        facade(project, zigzag.framework_of(database), ["core"], database.url) as each,
        dropped(database, [] if database.backend == "sqlite" else [name]),
    ):
        if database.backend == "postgresql":
            assert inside(each, partial(create, url=url, schema=SCHEMA)) == (what, f"the schema {SCHEMA}")
        else:
            assert inside(each, partial(create, url=url)) == (what,)
        assert inside(each, partial(create, url=url)) == ()
        if database.backend == "mariadb":
            query = "SELECT default_character_set_name FROM information_schema.schemata WHERE schema_name = :name"
            assert database.query(query, name=name) == [("utf8mb4",)]


def test_a_database_that_is_not_in_a_group(project: Project, database: Database, tmp_path: Path) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade="op.create_table('thing', sa.Column('id', sa.Integer))")
    is_file = database.backend == "sqlite"
    name = str(tmp_path / "a" / "x.db") if is_file else f"{database.name}_new"
    what = f"the folder {tmp_path / 'a'}" if is_file else f"the database {name}"
    with (
        dropped(database, [] if is_file else [name]),
        facade(project, zigzag.framework_of(database), ["core"], database.url.set(database=name)) as each,
    ):
        line = each.error_line("db-up")
        assert is_file or "('ampho db-up --create' creates the database, if the user may do that). Check" in line
        result = each.run("db-up", "--create")
        assert (result.exit_code, result.stderr) == (0, f"Created {what}.\n"), result.output
        assert "core_1" in each.run("db-current").stdout
        assert each.run("db-up", "--create").stderr == ""
        each.dispose()


@pytest.mark.drivers("postgresql+psycopg", "mariadb+pymysql")
def test_several_that_create_the_same_at_once(database: Database) -> None:
    """As several processes do: each has its own engine, and only the server is between them."""
    several, rounds = 4, int(os.environ.get("AMPHO_ROUNDS", "3"))
    is_postgres = database.backend == "postgresql"
    names = [f"{database.name}_{number}" for number in range(rounds)]
    barrier = threading.Barrier(several)
    errors: list[Exception] = []

    def run() -> None:
        engine = create_engine(database.url)
        try:
            for name in names:
                barrier.wait(30)
                create(engine, database.url.set(database=name), SCHEMA if is_postgres else None)
        except Exception as exc:  # noqa: BLE001 (the test's own thread reports it)
            errors.append(exc)
            barrier.abort()

    with dropped(database, names):
        threads = [threading.Thread(target=run) for _ in range(several)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


@pytest.mark.drivers("postgresql", "mariadb")
def test_a_user_who_may_not(project: Project, database: Database, find_server: Callable[[str], Server]) -> None:
    project.package("core")
    server, name = find_server(database.backend), f"{database.name}_new"
    url = database.url.set(username=f"{database.name}_user", password=SECRET)
    rights = "NOCREATEDB" if database.backend == "postgresql" else f"ALL ON {database.name}.*"
    with (
        server.user(str(url.username), rights, SECRET),
        facade(project, zigzag.framework_of(database), ["core"], url) as each,
    ):
        with pytest.raises(
            DatabaseError, match=f"The database {name} cannot be created: .*--create requires"
        ) as caught:
            inside(each, partial(create, url=url.set(database=name)))
        assert SECRET not in str(caught.value)
        if database.backend == "postgresql":
            with pytest.raises(DatabaseError, match=r"The schema acme cannot be created: .*permission denied"):
                inside(each, partial(create, schema="acme"))
            database.run("CREATE SCHEMA acme")
            with pytest.raises(DatabaseError, match=r"The user may not use the schema acme. Grant USAGE"):
                inside(each, partial(create, schema="acme"))
            database.run(f"GRANT ALL ON SCHEMA acme TO {url.username}")
            assert inside(each, partial(create, schema="acme")) == ()
            database.run("DROP SCHEMA acme CASCADE")


@pytest.mark.drivers("postgresql", "mariadb")
def test_a_server_that_cannot_be_reached(project: Project, database: Database) -> None:
    """The first error is reported, not that of another database that Ampho tried."""
    project.package("core")
    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        for changed in ({"password": SECRET, "username": "nobody_here"}, {"port": 9}):
            with pytest.raises(DatabaseError, match=r"Cannot connect to .*/wanted: ") as caught:
                inside(each, partial(create, url=database.url.set(database="wanted", **changed)))
            assert SECRET not in str(caught.value)
