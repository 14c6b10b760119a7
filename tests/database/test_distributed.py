"""CockroachDB, which is not installed here: PostgreSQL with the version, or with the dialect, of CockroachDB."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from project import Project, Result
from servers import Database
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

pytestmark = [
    pytest.mark.usefixtures("unmeasured_processes"),
    pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg"),
]

VERSION = "CockroachDB CCL v25.2.0 (x86_64-pc-linux-gnu, built 2025/05/09 19:14:50, go1.23.7)"
# What apps do to connect without CockroachDB's dialect.
FORCED = """
from sqlalchemy.dialects.postgresql.base import PGDialect

PGDialect._get_server_version_info = lambda self, connection: (13, 0)
"""
DIALECT = """
from alembic.ddl.postgresql import PostgresqlImpl
from sqlalchemy.dialects import postgresql, registry
from sqlalchemy.dialects.postgresql import asyncpg, psycopg


class Impl(PostgresqlImpl):
    __dialect__ = "cockroachdb"
    transactional_ddl = False


class Psycopg(psycopg.PGDialect_psycopg):
    name = "cockroachdb"
    supports_statement_cache = True


class Asyncpg(asyncpg.PGDialect_asyncpg):
    name = "cockroachdb"
    supports_statement_cache = True


registry.register("cockroachdb.psycopg", __name__, "Psycopg")
registry.register("cockroachdb.asyncpg", __name__, "Asyncpg")
"""


@pytest.fixture
def cockroach(database: Database) -> Iterator[Database]:
    """A database of PostgreSQL that says that it is CockroachDB."""
    url = database.url.set(database=f"cockroach_{uuid4().hex[:8]}")
    other = Database(database.driver, url, database.client_program)
    database.run(f"CREATE DATABASE {url.database}")
    try:
        other.run(
            "CREATE OR REPLACE FUNCTION pg_catalog.version() RETURNS text LANGUAGE sql STABLE"
            f" AS $$ SELECT '{VERSION}' $$"
        )
        yield other
    finally:
        database.run(f"DROP DATABASE {url.database} WITH (FORCE)")


def write(project: Project, database: Database, scheme: str = "", body: str = "", **config: object) -> None:
    """Write an app; if it has a dialect of its own, that is in the module ``dialect``."""
    framework = "quart" if database.is_async else "flask"
    url = database.url.set(drivername=database.driver.replace("postgresql", scheme or "postgresql"))
    project.package("shop")
    project.revision("shop", "shop_1", upgrade="op.create_table('orders', sa.Column('id', sa.Integer))")
    imports = ["dialect"] if scheme else []
    text = url.render_as_string(hide_password=False)
    project.app(framework, ["shop"], text, extra_config=config, imports=imports, body=body)


def refused(project: Project) -> Result:
    result = project.run("ampho", "db-up", check=False)
    assert result.exit_code == 1
    return result


def tables(database: Database) -> list[str]:
    """Return the tables, through a connection that does not ask for the version."""
    engine = create_engine(database.sync_url, poolclass=NullPool, _initialize=False)
    with engine.connect() as connection:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        return sorted(connection.exec_driver_sql(query).scalars())


def test_the_dialect_of_postgresql_says_which_one_cockroachdb_needs(project: Project, cockroach: Database) -> None:
    write(project, cockroach)
    message = refused(project).stderr
    assert "CockroachDB needs a dialect of its own: install sqlalchemy-cockroachdb, and begin the URL with" in message


def test_cockroachdb_is_refused_before_anything_is_written(project: Project, cockroach: Database) -> None:
    write(project, cockroach, body=FORCED)
    message = refused(project).stderr
    assert "Ampho cannot lock CockroachDB" in message
    assert "set AMPHO_LOCK to False" in message
    assert tables(cockroach) == []

    write(project, cockroach, body=FORCED, AMPHO_LOCK=False)
    assert "Applied 1 revision" in project.run("ampho", "db-up").stdout
    assert tables(cockroach) == ["alembic_version", "ampho_journal", "orders"]


def test_the_dialect_of_cockroachdb_is_refused_in_the_same_way(project: Project, database: Database) -> None:
    write(project, database, "cockroachdb")
    project.write("dialect.py", DIALECT)
    assert "Ampho cannot lock cockroachdb" in refused(project).stderr
    assert database.tables() == []

    write(project, database, "cockroachdb", AMPHO_LOCK=False)
    assert "Applied 1 revision" in project.run("ampho", "db-up").stdout
    assert database.tables() == ["alembic_version", "orders"]

    # As on MariaDB, nothing says that a revision is rolled back.
    project.revision(
        "shop", "shop_2", "shop_1", upgrade="op.execute('CREATE TABLE half (id integer)'); op.execute('no')"
    )
    assert "'ampho db-resolve shop_2 --applied'" in refused(project).stderr
