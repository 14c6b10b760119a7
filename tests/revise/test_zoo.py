"""What autogenerate sees: no differences after an upgrade, for all kinds, and each change, apart from those listed.

The revision of the changes runs up, down, and up again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import kinds
import pytest
import sqlalchemy as sa
from comparing import compare, connected, run
from project import Project, Result
from servers import Database
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from ampho.revise.autogenerate.operations.describe import describe
from ampho.revise.autogenerate.write.render import body

DOCS = Path(__file__).parents[2] / "docs"
DRIVERS = ["sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql"]
ALL = os.environ.get("AMPHO_ZOO") == "all"
if ALL:
    DRIVERS += ["sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg_async", "mariadb+asyncmy"]

UNREAD = {"postgresql": {"collation of a column, added"}} if sa.__version__ < "2.1" else {}
"""The changes that are not seen only because SQLAlchemy 2.0 does not read collations of columns from PostgreSQL."""


@pytest.mark.timeout(240)
@pytest.mark.drivers(*DRIVERS)
def test_what_was_just_migrated_does_not_differ_and_changes_run_in_both_directions(
    project: Project, database: Database
) -> None:
    zoo = kinds.kinds(database.backend)
    assert len(zoo) >= 290
    _write(project, database, [kind.before for kind in zoo])
    _run(project, "db-init", "zoo")
    _run(project, "db-rev", "zoo", "Begin", "-a")
    _run(project, "db-up")
    assert len(database.tables()) > 20

    assert _run(project, "db-check").stdout == "zoo  matches its models\n"

    _write_models(project, [kind.after for kind in zoo])
    found = _run(project, "db-check", check=False).stdout
    seen = {kind.name for kind in zoo if re.search(rf"{kind.id}(?!\d)", found)}
    assert seen == {kind.name for kind in zoo if kind.seen} - UNREAD.get(database.backend, set())

    _run(project, "db-rev", "zoo", "Change", "-a")
    _run(project, "db-up")
    _run(project, "db-down", "zoo@-1")
    (change,) = project.folder.glob("zoo/migrations/versions/*_change.py")
    hidden = change.rename(change.with_suffix(".txt"))
    _write_models(project, [kind.before for kind in zoo])
    assert _run(project, "db-check").stdout == "zoo  matches its models\n"

    hidden.rename(change)
    _write_models(project, [kind.after for kind in zoo])
    _run(project, "db-up")
    assert _run(project, "db-check").stdout == "zoo  matches its models\n"

    if ALL:
        _run(project, "db-down", "zoo@-1")
        change.unlink()
        _check_drops(project, [kind.before for kind in zoo])


def _check_drops(project: Project, sources: list[str]) -> None:
    """Drop all tables, and check that the downgrade creates them again as they were."""
    models = project.folder / "zoo" / "models.py"
    models.write_text("from sqlalchemy import MetaData\n\nmetadata = MetaData()\n", "utf-8")
    _run(project, "db-rev", "zoo", "Drop", "-a")
    _run(project, "db-up")
    _run(project, "db-down", "zoo@-1")
    (drop,) = project.folder.glob("zoo/migrations/versions/*_drop.py")
    drop.unlink()
    _write_models(project, sources)
    assert _run(project, "db-check").stdout == "zoo  matches its models\n"


def _write(project: Project, database: Database, sources: list[str]) -> None:
    framework = "quart" if database.is_async else "flask"
    extension = "AsyncAmpho, AsyncSQLAlchemy" if database.is_async else "Ampho"
    project.package("zoo")
    project.write(
        "app.py",
        f"""\
        from {framework} import {framework.capitalize()}
        from ampho import {extension}
        {"" if database.is_async else "from flask_sqlalchemy import SQLAlchemy"}
        from zoo.models import metadata

        app = {framework.capitalize()}("app")
        app.config["SQLALCHEMY_DATABASE_URI"] = {database.url.render_as_string(hide_password=False)!r}
        app.config["AMPHO_MIGRATION_PACKAGES"] = ["zoo"]
        db = {"Async" if database.is_async else ""}SQLAlchemy(app, metadata=metadata)
        {extension.split(",", maxsplit=1)[0]}(app, db)
        """,
    )
    _write_models(project, sources)


def _write_models(project: Project, sources: list[str]) -> None:
    (project.folder / "zoo" / "models.py").write_text(kinds.module(sources), "utf-8")


def _run(project: Project, *command: str, check: bool = True) -> Result:
    return project.run("ampho", *command, check=check, timeout=120)


@pytest.mark.parametrize("type_", [postgresql.CITEXT(), postgresql.HSTORE()], ids=str)
@pytest.mark.drivers("postgresql+psycopg")
def test_types_of_extensions_that_a_server_may_lack(type_: TypeEngine[Any], database: Database) -> None:
    extension = str(type_).lower()
    if not database.query(f"SELECT 1 FROM pg_available_extensions WHERE name = '{extension}'"):
        pytest.skip(f"the server has no extension {extension}")
    database.run(f"CREATE EXTENSION {extension}")
    before, after = sa.MetaData(), sa.MetaData()
    for metadata, each in ((before, type_), (after, sa.Text())):
        sa.Table("zoo", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("x", each))
    with connected(database) as connection:
        for old, new in ((sa.MetaData(), before), (before, after), (after, before), (before, sa.MetaData())):
            written = body(compare(connection, new).packages["shop"])
            for code, present in (written.upgrades, new), (written.downgrades, old), (written.upgrades, new):
                run(connection, code, written.imports)
                assert describe(compare(connection, present).packages["shop"]) == ()


def test_the_page_lists_what_is_not_seen() -> None:
    page = (DOCS / "autogenerate.md").read_text("utf-8")
    begin = page.index("| change |")
    assert page[begin : page.index("\n\n", begin)] == kinds.table()


def test_each_kind_has_a_name_of_its_own() -> None:
    for database in kinds.DATABASES:
        names = [kind.name for kind in kinds.kinds(database)]
        assert sorted(set(names)) == sorted(names)
