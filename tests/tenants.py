"""A throwaway app with a group of tenants, each of which is a schema of PostgreSQL, or an SQLite file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from project import Project
from servers import JOURNAL, Database
from sqlalchemy import text

BODY = """
import os

from ampho import Database


@app.extensions["ampho"].databases("tenants", packages=["orders"])
def tenants():
    for name in {names!r}:
        yield Database(name, **{{key: value.format(name) for key, value in {place!r}.items()}})
"""
FAILING = """
import os
connection = op.get_bind()
name = connection.engine.url.database.rpartition("/")[2].partition(".")[0]
if connection.dialect.name == "postgresql":
    name = connection.exec_driver_sql("SELECT current_schema()").scalar()
print("upgrading", name)
if name in os.environ.get("FAIL", "").split(","):
    op.execute("no SQL")
"""


@dataclass
class Fleet:
    """Tenants ``t000``, ``t001``, and so on, in which the package ``orders`` lives.

    :ivar database: the PostgreSQL database with the schemas; None if each tenant is an SQLite file.
    """

    project: Project
    count: int
    database: Database | None = None
    revisions: int = 0

    @property
    def names(self) -> list[str]:
        return [f"t{number:03}" for number in range(self.count)]

    def write(self, framework: str, url: str, *, place: dict[str, str], body: str = "", **config: Any) -> None:
        self.project.package("orders")
        self.add_revision(FAILING)
        text = body + BODY.format(names=self.names, place=place)
        self.project.app(framework, [], url, extra_config={"AMPHO_MIGRATION_PACKAGES": [], **config}, body=text)

    def add_revision(self, code: str = "") -> str:
        """Write another revision, which creates a table with one row."""
        self.revisions += 1
        name, before = f"orders_{self.revisions}", f"orders_{self.revisions - 1}" if self.revisions > 1 else None
        create = f"op.create_table('table_{self.revisions}', sa.Column('id', sa.Integer))"
        insert = f"op.execute('INSERT INTO table_{self.revisions} VALUES (1)')"
        self.project.revision("orders", name, before, upgrade=f"{code}\n{create}\n{insert}")
        return name

    def check_whole(self) -> None:
        """Check that each revision was applied exactly once to each tenant."""
        assert self.database is not None
        ids = [f"orders_{number}" for number in range(1, self.revisions + 1)]
        done = f"SELECT revision FROM {{}}.{JOURNAL} WHERE outcome = 'done' ORDER BY id"
        rows = " UNION ALL ".join(f"SELECT id FROM {{0}}.table_{number}" for number in range(1, self.revisions + 1))
        with self.database.connect() as connection:
            for name in self.names:

                def query(statement: str, name: str = name) -> list[Any]:
                    return list(connection.execute(text(statement.format(self.place(name)))).scalars())

                assert query("SELECT version_num FROM {}.alembic_version") == [ids[-1]], name
                assert query(done) == ids, name
                assert query(rows) == [1] * self.revisions, name

    def place(self, name: str) -> str:
        """Return the schema or the database of a tenant, as it is written in SQL."""
        return (
            name if self.database is None or self.database.backend == "postgresql" else f"{self.database.name}_{name}"
        )

    def resolve(self, failure: dict[str, Any]) -> None:
        """Undo what an upgrade that was killed has left in a database that cannot roll it back."""
        assert self.database is not None
        assert self.database.backend == "mariadb", failure
        (number,) = set(re.findall(r"orders_(\d+)", failure["cause"])) or {""}
        self.database.run(f"DROP TABLE IF EXISTS {self.place(failure['database'].partition('/')[2])}.table_{number}")
        self.project.run("ampho", "db-resolve", f"orders_{number}", "--not-applied", "-d", failure["database"])

    def query(self, name: str, statement: str) -> list[Any]:
        assert self.database is not None
        with self.database.connect() as connection:
            return list(connection.execute(text(statement.format(self.place(name)))).scalars())

    def rows(self, name: str) -> list[str]:
        """Return the version rows of a tenant."""
        if not self.query("information_schema", f"SELECT 1 FROM {{}}.tables WHERE table_schema = '{name}'"):
            return []
        return self.query(name, "SELECT version_num FROM {}.alembic_version")

    def locks(self) -> list[Any]:
        """Return the processes that hold a lock of Ampho in the database."""
        assert self.database is not None
        if self.database.backend == "mariadb":
            digests = [hashlib.blake2b(self.place(name).encode(), digest_size=16).hexdigest() for name in self.names]
            found = [self.database.query(f"SELECT IS_USED_LOCK('ampho_{digest}')") for digest in digests]
            return [holder for ((holder,),) in found if holder is not None]
        with self.database.connect() as connection:
            found = connection.execute(
                text(
                    "SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory'"
                    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                )
            )
            return list(found.scalars())


def schemas(project: Project, database: Database, count: int, *, body: str = "", **config: Any) -> Fleet:
    """Return tenants that are schemas of PostgreSQL."""
    fleet = Fleet(project, count, database)
    framework = "quart" if database.is_async else "flask"
    url = database.url.render_as_string(hide_password=False)
    fleet.write(framework, url, place={"schema": "{}"}, body=body, **config)
    database.run(*(f"CREATE SCHEMA {name}" for name in fleet.names))
    return fleet


@contextmanager
def servers_databases(project: Project, database: Database, count: int, **config: Any) -> Iterator[Fleet]:
    """Yield tenants that are databases of MariaDB."""
    fleet = Fleet(project, count, database)
    url = database.url.render_as_string(hide_password=False)
    place = {"url": url.replace(database.name, f"{database.name}_{{}}")}
    fleet.write("quart" if database.is_async else "flask", url, place=place, **config)
    names = [fleet.place(name) for name in fleet.names]
    database.run(*(f"CREATE DATABASE {name}" for name in names))
    try:
        yield fleet
    finally:
        database.run(*(f"DROP DATABASE {name}" for name in names))


def files(project: Project, framework: str, count: int, *, body: str = "", **config: Any) -> Fleet:
    """Return tenants that are SQLite files."""
    fleet = Fleet(project, count)
    scheme = "sqlite" if framework == "flask" else "sqlite+aiosqlite"
    fleet.write(framework, f"{scheme}:///app.db", place={"url": f"{scheme}:///{{}}.db"}, body=body, **config)
    return fleet


def processes_of(folder: Path) -> list[int]:
    """Return the ids of the processes whose current folder is that of a project."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _folder_of(path) == folder.resolve()]


def _folder_of(process: Path) -> Path | None:
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        return None if state == "Z" else (process / "cwd").resolve(strict=True)
    except (OSError, IndexError):
        return None


@contextmanager
def locked(fleet: Fleet, name: str) -> Iterator[None]:
    """Hold the lock of a tenant."""
    from ampho.database.lock import _key

    assert fleet.database is not None
    with fleet.database.connect() as connection:
        connection.execute(text(f"SELECT pg_advisory_lock({_key(name)})"))
        connection.commit()
        yield
