"""The journal: one entry for each revision run, in its transaction, and what is read from it."""

from __future__ import annotations

import hashlib
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade, one_error_line
from inside import inside
from project import Project
from servers import Database
from sqlalchemy import Engine, event, inspect

from ampho.database.connection import connect
from ampho.database.engine import unpooled
from ampho.database.journal import Outcome
from ampho.errors import ConfigurationError, RevisionFailedError
from ampho.migrate import queries
from ampho.settings import Settings

TABLE = "op.create_table('{0}', sa.Column('id', sa.Integer, primary_key=True))"
DROP = "op.drop_table('{0}')"


def write(project: Project) -> list[Path]:
    for package in ("core", "shop"):
        project.package(package)
    return [
        project.revision("core", "core_1", upgrade=TABLE.format("a"), downgrade=DROP.format("a")),
        project.revision("core", "core_2", "core_1", upgrade=TABLE.format("b"), downgrade=DROP.format("b")),
        project.revision("shop", "shop_1", None, "core_1", upgrade=TABLE.format("c"), downgrade=DROP.format("c")),
    ]


@pytest.fixture
def opened(project: Project, database: Database) -> Iterator[Facade]:
    write(project)
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["core", "shop"], database.url) as each:
        yield each


@pytest.mark.drivers("mariadb")
@pytest.mark.parametrize("runs_env", [False, True])
def test_a_journal_that_is_created_while_it_is_looked_for_is_read(
    opened: Facade, database: Database, runs_env: bool
) -> None:
    """MariaDB refuses to read a table in a transaction that began before the table was created."""
    opened.call("upgrade")
    database.run("RENAME TABLE ampho_journal TO kept")
    created: list[str] = []

    def create(connection: object, cursor: object, statement: str, *args: object) -> None:
        if "FROM alembic_version" in statement and not created:
            created.append(statement)
            database.run("CREATE TABLE ampho_journal LIKE kept", "INSERT INTO ampho_journal SELECT * FROM kept")

    def look(engine: Engine) -> object:
        with connect(unpooled(engine), "the test") as connection:
            event.listen(connection, "after_cursor_execute", create)
            project = opened.ampho.project(opened.app)
            if runs_env:
                return queries.query_env(project, connection, (), lambda rows, journal, context: journal.unfinished)
            return queries.query_known_table(project, connection, lambda rows, journal: journal.unfinished)

    assert inside(opened, look) == ()
    assert created


def test_each_run_of_a_revision_has_an_entry(opened: Facade, project: Project, database: Database) -> None:
    begun = datetime.now(UTC)
    opened.call("upgrade", "core")
    opened.call("upgrade")
    opened.call("downgrade", "core_1")
    ended = datetime.now(UTC)

    entries = opened.call("log")
    assert [(one.revision, one.package, one.direction, one.outcome, one.parents) for one in entries] == [
        ("core_1", "core", "upgrade", Outcome.DONE, ()),
        ("core_2", "core", "upgrade", Outcome.DONE, ("core_1",)),
        ("shop_1", "shop", "upgrade", Outcome.DONE, ("core_1",)),
        ("core_2", "core", "downgrade", Outcome.DONE, ("core_1",)),
    ]
    second = timedelta(seconds=1)  # which databases round to
    times = [moment for one in entries for moment in (one.started, one.finished)]
    assert all(moment is not None and moment.tzinfo is not None for moment in times)
    assert begun - second <= min(times) <= max(times) <= ended + second
    assert all(0 < one.duration < 60 for one in entries)
    path = next((project.migrations("core") / "versions").glob("core_2*"))
    assert entries[1].checksum == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {one.host for one in entries} == {socket.gethostname()}
    assert {bool(one.db_user) for one in entries} == {database.backend != "sqlite"}
    assert re.fullmatch(r"Ampho [\d.]+, Alembic [\d.]+, SQLAlchemy [\d.]+\w*", entries[0].versions)
    assert [one.number for one in entries] == sorted(one.number for one in entries)


@pytest.mark.usefixtures("unmeasured")
def test_a_failure_has_an_entry_and_nothing_else(opened: Facade, project: Project, database: Database) -> None:
    opened.call("upgrade", "core_1")
    project.revision("core", "core_2", "core_1", upgrade="op.execute('SELECT nonsense')")
    with pytest.raises(RevisionFailedError):
        opened.call("upgrade", "core")

    last = opened.call("log")[-1]
    assert (last.revision, last.outcome, last.is_effective, last.is_unfinished) == ("core_2", "failed", False, False)
    assert "nonsense" in last.error
    assert database.rows() == ["core_1"]
    project.revision("core", "core_2", "core_1")
    opened.call("upgrade")
    assert database.rows() == ["core_2", "shop_1"]


@pytest.mark.usefixtures("unmeasured")
def test_stamps_have_entries(opened: Facade) -> None:
    opened.call("stamp", "shop")
    opened.call("stamp", "shop")
    opened.call("stamp", "shop@base")
    assert [(one.revision, one.direction, one.outcome) for one in opened.call("log")] == [
        ("core_1", "upgrade", Outcome.STAMPED),
        ("shop_1", "upgrade", Outcome.STAMPED),
        ("shop_1", "downgrade", Outcome.STAMPED),
    ]


def test_what_changes_nothing_writes_nothing(opened: Facade, database: Database) -> None:
    opened.call("upgrade_sql")
    opened.call("plan")
    opened.call("current")
    opened.call("downgrade", "base")
    with database.connect() as connection:
        assert inspect(connection).get_table_names() == []
    assert opened.call("log") == ()


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_another_name_and_none(project: Project, database: Database) -> None:
    write(project)
    framework = "quart" if database.is_async else "flask"
    for name, tables in (("history_of_changes", {"history_of_changes"}), (None, set())):
        with facade(project, framework, ["core", "shop"], database.url, AMPHO_JOURNAL_TABLE=name) as each:
            each.call("upgrade")
            with database.connect() as connection:
                found = set(inspect(connection).get_table_names())
            assert found == {"alembic_version", "a", "b", "c"} | tables
            each.call("downgrade", "base")
            if name is None:
                assert "keeps no journal" in each.error_line("db-log")
            else:
                assert len(each.call("log")) == 6
                database.run(f"DROP TABLE {name}")


@pytest.mark.parametrize("name", ["", "a b", "a-b", 'a"b', "1a", "n" * 64, "é", 7, ["x"]])
def test_a_name_that_no_table_can_have(name: object) -> None:
    with pytest.raises(ConfigurationError, match="AMPHO_JOURNAL_TABLE is"):
        Settings({"AMPHO_JOURNAL_TABLE": name}, {})


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_it_cannot_be_the_version_table(project: Project, framework: str) -> None:
    write(project)
    config = {"AMPHO_JOURNAL_TABLE": "alembic_version"}
    with facade(project, framework, ["core", "shop"], URLS[framework], **config) as each:
        assert "name the same table, alembic_version" in each.error_line("db-up")


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_it_lies_in_the_schema_of_the_version_table(project: Project, database: Database) -> None:
    framework = "quart" if database.is_async else "flask"
    database.run("CREATE SCHEMA ops")
    for package in ("core", "shop"):
        project.package(package)
    with facade(project, framework, ["core", "shop"], database.url) as each:
        each.call("init", "core")
        write(project)
        env_py = project.migrations("core") / "env.py"
        text = env_py.read_text("utf-8")
        env_py.write_text(
            text.replace("**environment.options()", "**environment.options(), version_table_schema='ops'"), "utf-8"
        )
        each.call("upgrade")
        assert [one.revision for one in each.call("log")] == ["core_1", "core_2", "shop_1"]
    assert database.tables() == ["a", "b", "c"]
    assert len(database.query("SELECT * FROM ops.ampho_journal")) == 3


@pytest.mark.usefixtures("unmeasured")
def test_db_log(opened: Facade, project: Project, database: Database) -> None:
    assert "no journal yet" in opened.run("db-log").stderr
    opened.call("upgrade")
    opened.call("downgrade", "shop@base")

    lines = opened.run("db-log").stdout.splitlines()
    assert len(lines) == 4
    user = "@" if database.backend != "sqlite" else ""
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d  \+ core_1  done, \d+ ms  \(.*{user}{socket.gethostname()}\)", lines[0]
    )
    assert lines[-1].split()[2:4] == ["-", "shop_1"]
    assert opened.run("db-log", "-n", "1").stdout.splitlines() == lines[-1:]
    verbose = opened.run("db-log", "-v", "-n", "1").stdout
    assert "    Package:    shop\n    Depends on: core_1\n    File:       SHA-256 " in verbose
    assert opened.run("db-log", "-n", "0").exit_code == 2


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_no_comparison_sees_it(project: Project, database: Database) -> None:
    framework = "quart" if database.is_async else "flask"
    project.app(framework, ["core", "shop"], database.url)
    for package in ("core", "shop"):
        project.package(package)
    with facade(project, framework, ["core", "shop"], database.url) as each:
        each.call("init", "core")
        write(project)
        each.call("upgrade")
        for table in ("a", "b", "c"):
            database.run(f"DROP TABLE {table}")

        assert "ampho_journal" not in each.run("db-check").output
    compared = project.run("alembic", "-c", "core/migrations/alembic.ini", "check", check=False)
    assert "No new upgrade operations detected" in compared.output, str(compared)


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_a_database_of_plain_alembic_gains_one_and_goes_on(project: Project, database: Database) -> None:
    write(project)
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["core", "shop"], database.url, AMPHO_JOURNAL_TABLE=None) as each:
        each.call("upgrade", "core")
    with facade(project, framework, ["core", "shop"], database.url) as each:
        assert each.call("log") == ()
        each.call("upgrade")
        assert [one.revision for one in each.call("log")] == ["shop_1"]
        assert "which of 2 revisions was applied last" in each.error_line("db-down")
        each.call("downgrade", "base")
        each.call("upgrade")
        each.call("downgrade")
        assert database.rows() == ["core_2"]


@pytest.mark.drivers("postgresql+psycopg", "mariadb+asyncmy")
def test_what_was_left_half_done_may_be_given_up_though_its_file_is_gone(
    opened: Facade, project: Project, database: Database
) -> None:
    opened.call("upgrade")
    block = "with op.get_context().autocommit_block():\n    op.execute('CREATE TABLE d (id INTEGER)')\n"
    path = project.revision("core", "core_3", "core_2", upgrade=block + "op.execute('SELECT nonsense')")
    with pytest.raises(RevisionFailedError):
        opened.call("upgrade")
    path.unlink()
    assert "core_3" in opened.error_line("db-up")
    assert "Restore its file first" in opened.error_line("db-resolve", "core_3", "--applied")
    database.run("DROP TABLE d")
    assert opened.run("db-resolve", "core_3", "--not-applied").exit_code == 0
    assert opened.call("upgrade").steps == ()
    assert database.rows() == ["core_2", "shop_1"]


EVERY_COMMAND = """
    db-log, db-current, db-current -v, db-status, db-status --all, db-status core, db-show core, db-check --deploy,
    db-wait --timeout 0, db-graph, db-graph --full, db-heads, db-up --plan, db-up -s, db-down --plan, db-down -s,
    db-down, db-up, db-stamp core_2, db-forget core, db-up shop, db-resolve core_1 --applied, db-lint, db-down core_1,
    db-down core@base, db-stamp heads --purge
"""
DAMAGE = {
    "parents that are no JSON": "parents = 'core_1'",
    "parents that are no list": "parents = '{\"core_1\": 1}'",
    "parents of numbers": "parents = '[1]'",
    "no parents": "parents = ''",
    "a date that is none": "started = 'yesterday'",
    "a date of another kind": "finished = 5",
    "a duration that is none": "duration = 'long'",
    "a number of statements that is none": "statements = 'many'",
    "bytes for a revision": "revision = x'636f72655f31'",
    "bytes for a package": "package = x'00ff'",
    "bytes for an outcome": "outcome = x'00'",
    "bytes for a checksum": "checksum = x'00'",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_row_is_named_by_every_command_that_reads_it(project: Project, damage: str) -> None:
    write(project)
    with facade(project, "flask", ["core", "shop"], URLS["flask"]) as each:
        each.call("upgrade", "core")
        with closing(sqlite3.connect(project.folder / "instance" / "app.db")) as connection:
            connection.execute(f"UPDATE ampho_journal SET {damage} WHERE id = 2")
            connection.commit()
        assert "Row 2 of the journal ampho_journal cannot be read: " in each.error_line("db-log")
        for command in re.split(r",\s+", EVERY_COMMAND.strip()):
            found = each.run(*command.split())
            assert isinstance(found.exception, SystemExit | None), (command, found.exception)
            if found.exit_code:
                one_error_line(found.stderr)
            elif command.startswith(("db-log", "db-status", "db-graph", "db-check --deploy", "db-current -v")):
                pytest.fail(f"{command} has not read the journal")


def test_a_row_of_another_release_is_read(project: Project) -> None:
    write(project)
    with facade(project, "flask", ["core", "shop"], URLS["flask"]) as each:
        each.call("upgrade")
        with closing(sqlite3.connect(project.folder / "instance" / "app.db")) as connection:
            connection.execute("UPDATE ampho_journal SET outcome = 'reviewed', duration = 1, error = NULL WHERE id = 2")
            connection.commit()
        assert each.call("log")[1].duration == 1
