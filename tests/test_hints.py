"""What an error says to do about well-known messages, as each driver words them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from servers import Database

from ampho.errors import RevisionFailedError

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

TABLE = "op.create_table('a', sa.Column('id', sa.Integer, primary_key=True), sa.Column('x', sa.Integer))"
NO_VALUE = "(give the column a server_default, or fill it before you make it NOT NULL)"
COLON = r"(a colon before a name makes it a parameter: write \: for a colon that is part of the SQL"
UNNAMED = "(pass its name in the database"
THERE = "(if the table is older than the migrations and matches this revision, mark the revision as applied with"
SQLITE: Mapping[str, str] = {
    TABLE: THERE,
    "op.execute(\"UPDATE a SET x = ':id'\")": COLON,
    "op.execute('UPDATE a SET x = 1; UPDATE a SET x = 2')": "(SQLite runs one statement at a time: call op.execute()",
    "op.create_table('t', sa.Column('id', sa.Integer), schema='nope')": "(SQLite has no schemas: leave out schema=",
    "with op.batch_alter_table('a') as a:\n    a.alter_column('x', nullable=False)": NO_VALUE,
    "op.add_column('a', sa.Column('y', sa.Integer, nullable=False))": NO_VALUE,
    "with op.batch_alter_table('a') as a:\n    a.drop_constraint(None, type_='unique')": "(name the constraint here",
}
POSTGRESQL: Mapping[str, str] = {
    TABLE: THERE,
    "op.execute(\"UPDATE a SET x = ':id'\")": COLON,
    "op.create_table('t', sa.Column('id', sa.Integer), schema='nope')": "(create the schema first, as in op"
    ".execute('CREATE SCHEMA IF NOT EXISTS NAME'))",
    "with op.batch_alter_table('a') as a:\n    a.alter_column('x', nullable=False)": NO_VALUE,
    "op.drop_constraint(None, 'a', type_='unique')": UNNAMED,
}
MARIADB: Mapping[str, str] = {
    TABLE: THERE,
    "op.execute(\"UPDATE a SET x = ':id'\")": COLON,
    "op.create_table('t', sa.Column('id', sa.Integer), schema='nope')": "(on this server, a schema is a database",
    "op.alter_column('a', 'x', existing_type=sa.Integer, nullable=False)": NO_VALUE,
    "op.drop_constraint(None, 'a', type_='unique')": UNNAMED,
}
TWO = "op.execute('UPDATE a SET x = 1; UPDATE a SET x = 2')"
HINTS: Mapping[str, Mapping[str, str]] = {
    "sqlite+pysqlite": SQLITE,
    "sqlite+aiosqlite": SQLITE,
    "postgresql+psycopg": POSTGRESQL,
    "postgresql+psycopg_async": POSTGRESQL,
    "postgresql+asyncpg": {
        **POSTGRESQL,
        TWO: "(asyncpg runs one statement at a time: call op.execute() once for each)",
    },
    "mariadb+pymysql": {**MARIADB, TWO: "(PyMySQL runs one statement at a time: if there are several, call"},
    "mariadb+asyncmy": MARIADB,
}


@pytest.fixture
def opened(project: Project, database: Database) -> Iterator[Facade]:
    project.package("core")
    project.revision("core", "core_1", upgrade=f"{TABLE}\nop.execute('INSERT INTO a (id) VALUES (1)')")
    with facade(project, "quart" if database.is_async else "flask", ["core"], database.url) as each:
        yield each


@pytest.mark.usefixtures("unmeasured")
def test_what_a_driver_says_of_a_revision_comes_with_a_remedy(
    opened: Facade, project: Project, database: Database
) -> None:
    opened.call("upgrade")
    for code, hint in HINTS[database.driver].items():
        project.revision("core", "core_2", "core_1", upgrade=code)
        with pytest.raises(RevisionFailedError) as failed:
            opened.call("upgrade")
        assert hint in str(failed.value), code
    assert database.rows() == ["core_1"]


def test_a_table_that_a_downgrade_creates_again_is_not_to_be_stamped_as_applied(
    opened: Facade, project: Project, database: Database
) -> None:
    again = TABLE.replace("'a'", "'b'")
    project.revision("core", "core_2", "core_1", upgrade=again, downgrade=again)
    opened.call("upgrade")
    with pytest.raises(RevisionFailedError) as failed:
        opened.call("downgrade", "core@-1")
    assert (
        "mark this revision as not applied by stamping an earlier revision, or PACKAGE@base, with 'ampho db-stamp'"
        in str(failed.value)
    )
    assert "mark the revision as applied" not in str(failed.value)
    assert database.rows() == ["core_2"]


@pytest.mark.drivers("sqlite", "postgresql+psycopg", "mariadb+asyncmy")
@pytest.mark.parametrize("command", ["db-check --scratch", "db-rev core More -a --scratch"])
def test_a_failure_on_the_throw_away_database_is_none_of_the_apps(
    opened: Facade, project: Project, database: Database, command: str
) -> None:
    opened.call("upgrade")
    project.revision(
        "core", "core_2", "core_1", upgrade="op.create_table('b', sa.Column('id', sa.Integer))\nop.execute('X')"
    )
    line = opened.error_line(*command.split())
    assert "Only a throwaway database is affected. Correct the revision's upgrade()" in line
    assert line.endswith("Completed before the failure: core_1.")
    assert "db-resolve" not in line
    assert database.rows() == ["core_1"]
    assert "b" not in database.tables()
    assert "unfinished" not in opened.run("db-current").stdout


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("command", ["db-up", "db-current", "db-status", "db-log"])
def test_a_folder_that_sqlite_lacks_is_named(project: Project, framework: str, command: str) -> None:
    project.package("core")
    project.revision("core", "core_1")
    missing = project.folder / "not" / "there"
    url = URLS[framework].replace("/app.db", f"/{missing}/app.db")
    with facade(project, framework, ["core"], url) as each:
        said = each.error_line(command)
    assert said.endswith(": the folder not/there does not exist. Create it, or correct SQLALCHEMY_DATABASE_URI.")
    assert not missing.exists()


APP = """
from {framework} import {app_class}
{before}
app = {app_class}("app")
app.config["SQLALCHEMY_DATABASE_URI"] = "{url}"
{after}
"""
OWN = {
    "flask": ("from flask_sqlalchemy import SQLAlchemy\nfrom ampho import Ampho", "Ampho(app, SQLAlchemy(app))"),
    "quart": (
        "from sqlalchemy.ext.asyncio import create_async_engine\nfrom ampho import AsyncAmpho",
        "AsyncAmpho(app, create_async_engine(app.config['SQLALCHEMY_DATABASE_URI']))",
    ),
}
MADE = {
    "flask": ("from ampho import Ampho", "Ampho(app)"),
    "quart": ("from ampho import AsyncAmpho", "AsyncAmpho(app)"),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("made", [MADE, OWN], ids=["Ampho's own", "the app's"])
@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("postgres://u:canary@h/x", "postgresql+{}://"),
        ("mysql+{}://u:canary@h/x", "nstall"),
    ],
    ids=["an old name", "a driver"],
)
def test_a_url_that_cannot_work_is_said_how_to_write(
    project: Project, framework: str, made: Mapping[str, tuple[str, str]], url: str, hint: str
) -> None:
    before, after = made[framework]
    # of the drivers that SQLAlchemy knows, two that the tests do not install
    url = url.format({"flask": "mysqldb", "quart": "aiomysql"}[framework])
    text = APP.format(framework=framework, app_class=framework.title(), before=before, after=after, url=url)
    project.write(Path("app.py"), text)
    done = project.run("ampho", "db-current", check=False)
    assert done.exit_code == 1
    assert hint.format({"flask": "psycopg", "quart": "asyncpg"}[framework]) in done.stderr
    assert done.stderr.count("\n") == 1
    assert "canary" not in done.output
