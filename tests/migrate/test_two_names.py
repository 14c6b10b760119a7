"""Two names for one database are refused, because each would wait for the lock of the other."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import Project
from servers import Database
from sqlalchemy import URL
from store import BOOKS, CUSTOMERS, open_store


def same(database: Database, project: Project) -> URL:
    """Return another address of a database."""
    url = database.url
    if database.backend != "sqlite":
        return url.set(host={"localhost": "127.0.0.1"}.get(str(url.host), "localhost"))
    link = project.folder.parent / "link.db"
    link.symlink_to(Path(str(url.database)))
    return url.set(database=str(link))


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite", "postgresql+psycopg", "postgresql+asyncpg", "mariadb")
def test_two_names_for_one_database(project: Project, database: Database) -> None:
    other = same(database, project).render_as_string(hide_password=False)
    shop = open_store(
        project,
        database,
        {"accounts": CUSTOMERS, "books": BOOKS},
        SQLALCHEMY_BINDS={"copies": other},
        AMPHO_DATABASES={"copies": ["books"]},
    )
    for name in ("accounts", "books"):
        project.revision(name, f"{name}_1", upgrade=f"op.create_table({name!r}, sa.Column('id', sa.Integer))")

    for command in ("db-up", "db-up -k", "db-up --plan", "db-status", "db-check --deploy", "db-rev -a Change"):
        assert "default and copies are two names for one database" in shop.refused(*command.split()), command
    assert database.tables() == []
    shop.run("db-up", "-d", "default")  # a command that uses only one of the names does not ask the other
    assert "accounts" in database.tables()
