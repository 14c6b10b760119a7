"""Version tables of packages, from a tool that keeps one for each plug-in: taken over, and kept."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from facade import Facade, facade
from project import Project
from servers import JOURNAL, Database
from tenants import schemas

from ampho.errors import RevisionFailedError
from ampho.history.host import TEMPLATES

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

LISTED = ["core", "plug"]
TABLE = "plug_alembic_version"
TAKEN: dict[str, Any] = {"plug": TABLE}
KEPT: dict[str, Any] = {"plug": {"table": TABLE, "keep": True}}
CREATE = "op.create_table('{0}', sa.Column('id', sa.Integer, primary_key=True))"
DROP = "op.drop_table('{0}')"
ONE_EACH = pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
OTHERS = pytest.mark.drivers("sqlite+aiosqlite", "postgresql+psycopg", "mariadb+asyncmy")
EITHER = pytest.mark.parametrize("tables", [TAKEN, KEPT], ids=["taken", "kept"])


def add(project: Project, package: str, number: int, depends_on: str | None = None, **how: str) -> Path:
    """Add a revision that creates a table of the same name."""
    name, down = f"{package}_{number}", f"{package}_{number - 1}" if number > 1 else None
    functions = {"upgrade": CREATE.format(name), "downgrade": DROP.format(name)} | how
    return project.revision(package, name, down, depends_on, **functions)


@pytest.fixture
def histories(project: Project) -> Project:
    for package in LISTED:
        project.package(package)
        for number in (1, 2, 3):
            add(project, package, number)
    return project


@contextmanager
def opened(
    project: Project, database: Database, tables: object, listed: Sequence[str] = LISTED, **config: Any
) -> Iterator[Facade]:
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, list(listed), database.url, AMPHO_VERSION_TABLES=tables, **config) as each:
        yield each


def tool(project: Project, database: Database, *command: str) -> str:
    """Run ``alembic`` with an environment that knows only the files of the plug-in, and its version table."""
    if not (project.folder / "plug.ini").exists():
        project.write(
            "plug_env/env.py",
            f"""\
            from alembic import context
            from sqlalchemy import create_engine

            with create_engine(context.config.get_main_option("url")).connect() as connection:
                context.configure(connection=connection, version_table={TABLE!r})
                with context.begin_transaction():
                    context.run_migrations()
            """,
        )
        url = database.sync_url.render_as_string(hide_password=False).replace("%", "%%")
        versions = project.migrations("plug") / "versions"
        ini = f"[alembic]\nscript_location = plug_env\nversion_locations = {versions}\nurl = {url}\n"
        project.write("plug.ini", ini)
    return project.run("alembic", "-c", "plug.ini", *command).output


def with_env(project: Project, framework: str, arguments: str = "") -> None:
    """Give the first package the files of ``db-init``, with more arguments of ``configure()``."""
    folder = project.migrations("core")
    env = TEMPLATES / ("aio" if framework == "quart" else "sync") / "env.py"
    given = "**environment.options()"
    project.write(folder / "env.py", env.read_text("utf-8").replace(given, f"{given}{arguments}"))
    project.write(folder / "alembic.ini", "[alembic]\nscript_location = core/migrations\nprepend_sys_path = .\n")


def had(database: Database, applied: int = 2, table: str = TABLE) -> None:
    """Leave the database as the other tool does, with the first revisions of the plug-in."""
    names = [f"plug_{number}" for number in range(1, applied + 1)]
    database.run(
        f"CREATE TABLE {table} (version_num VARCHAR(32) NOT NULL, CONSTRAINT {table}_pkc PRIMARY KEY (version_num))",
        *(f"CREATE TABLE {name} (id INTEGER NOT NULL, PRIMARY KEY (id))" for name in names),
        *(f"INSERT INTO {table} VALUES ('{name}')" for name in names[-1:]),
    )


def state(database: Database) -> tuple[list[str], list[str]]:
    """Return the rows of the app's version table, and those of the plug-in's."""
    return database.rows(), database.rows(TABLE)


def outcomes(database: Database) -> list[tuple[str, ...]]:
    return [tuple(row) for row in database.query(f"SELECT revision, outcome FROM {JOURNAL} ORDER BY id")]


def ran(run: Any) -> list[str]:
    return [step.step.revision.id for step in run.steps]


# ---- Taken over ----


@pytest.mark.measured("pysqlite")
def test_rows_are_read_where_they_are_and_moved_by_the_first_run(histories: Project, database: Database) -> None:
    had(database)
    with opened(histories, database, TAKEN) as app:
        looked = json.loads(app.run("db-status", "--json").stdout)["status"]
        assert [(each["applied"], each["pending"]) for each in looked["packages"]] == [(0, 3), (2, 1)]
        assert looked["unread_tables"] == []
        assert "plug  plug_2" in app.run("db-current").stdout
        assert app.run("db-check", "--deploy").exit_code == 10
        plan = app.run("db-up", "--plan").stdout
        assert re.findall("plug_.", plan) == ["plug_3"], plan
        assert state(database) == ([], ["plug_2"]), "commands that only look change nothing"

        assert ran(app.call("upgrade", "core_2")) == ["core_1", "core_2"]
        assert state(database) == (["core_2", "plug_2"], [])
        assert outcomes(database) == [("plug_2", "moved"), ("core_1", "done"), ("core_2", "done")]
        assert "moved" in app.run("db-log").stdout
        assert ran(app.call("upgrade")) == ["core_3", "plug_3"]
        assert ran(app.call("downgrade", "plug@base")) == ["plug_3", "plug_2", "plug_1"]
        assert state(database) == (["core_3"], [])
        assert TABLE in database.tables()


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_a_run_with_nothing_pending_moves_the_rows(histories: Project, database: Database) -> None:
    had(database, 3)
    with opened(histories, database, lambda name: f"{name}_alembic_version", ["plug"]) as app:
        assert app.run("db-up", "--plan").stdout.startswith("Nothing to do")
        assert app.run("db-up", "-s").exit_code == 0
        assert state(database) == ([], ["plug_3"])
        assert app.run("db-up").stdout.startswith("Nothing to do")
        assert (state(database), outcomes(database)) == ((["plug_3"], []), [("plug_3", "moved")])
        assert app.run("db-check", "--deploy").exit_code == 0
        assert app.run("db-up").stdout.startswith("Nothing to do")
        assert ran(app.call("downgrade")) == ["plug_3"]


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_downgrade_moves_the_rows_first(histories: Project, database: Database) -> None:
    had(database)
    with opened(histories, database, TAKEN, AMPHO_JOURNAL_TABLE=None) as app:
        assert ran(app.call("downgrade", "-1")) == ["plug_2"]
        assert state(database) == (["plug_1"], [])


@pytest.mark.drivers("postgresql+asyncpg", "mariadb+pymysql")
def test_all_rows_move_or_none(histories: Project, database: Database) -> None:
    """The process is killed after the rows were inserted, and before they are deleted where they were."""
    had(database)
    framework = "quart" if database.is_async else "flask"
    config = {"AMPHO_MIGRATION_PACKAGES": LISTED, "AMPHO_VERSION_TABLES": TAKEN}
    killing = f"""
    import os, signal
    from sqlalchemy import Engine, event

    @event.listens_for(Engine, "before_cursor_execute")
    def kill(connection, cursor, statement, *args):
        if os.environ.get("KILLED") and statement.startswith("DELETE FROM {TABLE}"):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    url = database.url.render_as_string(hide_password=False)
    histories.app(framework, [], url, extra_config=config, body=killing)
    killed = histories.run("ampho", "db-up", env={"KILLED": "1"}, check=False)
    assert killed.exit_code == -9, killed
    assert state(database) == ([], ["plug_2"])
    assert histories.run("ampho", "db-up").exit_code == 0
    assert state(database) == (["core_3", "plug_3"], [])


@pytest.mark.drivers("sqlite+pysqlite")
def test_all_rows_move_or_none_if_a_statement_fails(histories: Project, database: Database) -> None:
    had(database)
    database.run(f"CREATE TRIGGER t BEFORE DELETE ON {TABLE} BEGIN SELECT RAISE(ABORT, 'not allowed'); END")
    with opened(histories, database, TAKEN) as app:
        assert "not allowed" in app.error_line("db-up")
        assert state(database) == ([], ["plug_2"])
        database.run("DROP TRIGGER t")
        assert ran(app.call("upgrade")) == ["core_1", "core_2", "core_3", "plug_3"]
        assert state(database) == (["core_3", "plug_3"], [])


# ---- Kept ----


@ONE_EACH
def test_both_tools_take_turns(histories: Project, database: Database) -> None:
    add(histories, "core", 4, "plug_1")
    tool(histories, database, "upgrade", "plug_1")
    with opened(histories, database, KEPT) as app:
        assert ran(app.call("upgrade")) == ["core_1", "core_2", "core_3", "core_4", "plug_2", "plug_3"]
        assert state(database) == (["core_4"], ["plug_3"])
        tool(histories, database, "downgrade", "-1")
        assert state(database) == (["core_4"], ["plug_2"])
        assert "plug  plug_2 (1 pending)" in app.run("db-current").stdout
        assert ran(app.call("upgrade")) == ["plug_3"]
        assert ran(app.call("downgrade", "plug@-2")) == ["plug_3", "plug_2"]
        assert state(database) == (["core_4"], ["plug_1"])
        tool(histories, database, "upgrade", "head")
        assert state(database) == (["core_4"], ["plug_3"])
        assert ran(app.call("upgrade")) == []
        assert app.run("db-check", "--deploy").stdout.startswith("The database is up to date")
        assert set(ran(app.call("downgrade", "base"))) == {f"{name}_{n}" for name in LISTED for n in (1, 2, 3)} | {
            "core_4"
        }
        assert state(database) == ([], [])
        assert ran(app.call("upgrade"))[-1] == "plug_3"
        assert "plug_3 (head)" in tool(histories, database, "current")


@OTHERS
def test_a_table_is_created_with_the_first_row_and_written_with_its_step(
    histories: Project, database: Database
) -> None:
    failing = "op.execute('INSERT INTO plug_3 (id) VALUES (1)')\nop.execute('no SQL')"
    add(histories, "plug", 4, upgrade=failing)
    with opened(histories, database, KEPT) as app:
        app.call("upgrade", "core_1")
        assert TABLE not in database.tables()
        with pytest.raises(RevisionFailedError):
            app.call("upgrade", "plug")
        assert state(database) == (["core_1"], ["plug_3"])
        assert outcomes(database)[-1] == ("plug_4", "failed" if database.backend != "mariadb" else "partial")
        add(histories, "plug", 4)
        if database.backend == "mariadb":
            app.call("resolve", "plug_4", applied=False)
        assert ran(app.call("upgrade", "plug")) == ["plug_4"]
        assert state(database) == (["core_1"], ["plug_4"])


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg")
def test_a_revision_that_ends_the_transaction_leaves_both_tables(histories: Project, database: Database) -> None:
    add(histories, "plug", 1, upgrade=f"op.get_bind().commit()\n{CREATE.format('plug_1')}\nop.get_bind().commit()")
    with opened(histories, database, KEPT) as app:
        assert len(ran(app.call("upgrade", "plug"))) == 3
        assert state(database) == ([], ["plug_3"])
        assert ran(app.call("upgrade"))[0] == "core_1"


@pytest.mark.drivers("sqlite+aiosqlite", "mariadb+asyncmy")
def test_rows_follow_the_setting(histories: Project, database: Database) -> None:
    """A package whose rows were in the app's table keeps its own one from now on, and the other way round."""
    add(histories, "core", 4, "plug_2")
    with opened(histories, database, {}) as app:
        app.call("upgrade", "core")
    assert state(database) == (["core_4"], [])
    with opened(histories, database, KEPT) as app:
        assert "plug  plug_2 (1 pending)" in app.run("db-current").stdout
        assert ran(app.call("upgrade", "core")) == []
        assert state(database) == (["core_4"], ["plug_2"])
        assert ran(app.call("upgrade")) == ["plug_3"]
    with opened(histories, database, TAKEN) as app:
        assert ran(app.call("downgrade", "plug@-1")) == ["plug_3"]
        assert state(database) == (["core_4"], [])


@pytest.mark.drivers("postgresql+asyncpg")
def test_what_the_other_tool_reverts_below_a_dependency_is_reported(histories: Project, database: Database) -> None:
    add(histories, "core", 4, "plug_2")
    with opened(histories, database, KEPT) as app:
        app.call("upgrade")
        database.run("DROP TABLE plug_3", "DROP TABLE plug_2", f"UPDATE {TABLE} SET version_num = 'plug_1'")
        assert app.run("db-check", "--deploy").exit_code == 14
        remark = re.search("plug_2 counts as applied .*", app.run("db-status").stdout.replace("\n", " "))
        assert remark
        assert "db-stamp plug_2" in remark[0]
        assert "plug_2 of plug counts as applied" in app.error_line("db-up")
        assert state(database) == (["core_4"], ["plug_1"])

        assert ran(app.call("downgrade", "core@-1")) == ["core_4"]
        assert ran(app.call("upgrade")) == ["plug_2", "core_4", "plug_3"]
        database.run(f"UPDATE {TABLE} SET version_num = 'plug_1'")
        assert app.run("db-stamp", "plug_3").exit_code == 0
        assert state(database) == (["core_4"], ["plug_3"])
        assert app.run("db-check", "--deploy").exit_code == 0
        database.run(f"DELETE FROM {TABLE}", "DROP TABLE plug_1", "DROP TABLE plug_2", "DROP TABLE plug_3")
        assert ran(app.call("downgrade", "base")) == ["core_4", "core_3", "core_2", "core_1"]


# ---- Commands that write rows without running revisions ----


@pytest.mark.drivers("sqlite+pysqlite", "mariadb+asyncmy")
@EITHER
def test_a_stamp_writes_the_right_tables(histories: Project, database: Database, tables: dict[str, Any]) -> None:
    had(database)
    with opened(histories, database, tables) as app:
        stamped = app.call("stamp", "core_1")
        assert (stamped.before, stamped.after) == (("plug_2",), ("core_1", "plug_2"))
        assert state(database) == ((["core_1", "plug_2"], []) if tables is TAKEN else (["core_1"], ["plug_2"]))
        assert outcomes(database) == [*([("plug_2", "moved")] if tables is TAKEN else []), ("core_1", "stamped")]
        assert app.call("stamp", "plug_3").after == ("core_1", "plug_3")
        assert state(database) == ((["core_1", "plug_3"], []) if tables is TAKEN else (["core_1"], ["plug_3"]))
        assert app.call("stamp", "plug_1", purge=True).after == ("plug_1",)
        assert state(database) == ((["plug_1"], []) if tables is TAKEN else ([], ["plug_1"]))
        assert app.call("stamp", "base").after == ()
        assert state(database) == ([], [])


@pytest.mark.drivers("sqlite+pysqlite")
@EITHER
def test_a_purge_empties_all_tables(histories: Project, database: Database, tables: dict[str, Any]) -> None:
    had(database)
    database.run(f"INSERT INTO {TABLE} VALUES ('plug_9')")
    with opened(histories, database, tables) as app:
        app.call("stamp", "core_1", purge=True)
        assert state(database) == (["core_1"], [])
    database.run(f"INSERT INTO {TABLE} VALUES ('plug_9')")
    with opened(histories, database, tables) as app:
        assert "1 revision of plug will be forgotten" in app.run("db-forget", "plug_9", "--yes").output
        assert state(database) == (["core_1"], [])


@pytest.mark.drivers("sqlite+pysqlite")
@EITHER
def test_a_stamp_is_verified_without_the_tables(histories: Project, database: Database, tables: dict[str, Any]) -> None:
    had(database)
    with opened(histories, database, tables) as app:
        app.call("upgrade", "core_1")
        app.call("stamp", "core@base")
        assert app.run("db-stamp", "core_1", "--verify").exit_code == 0
        assert app.run("db-check", "plug", "core").exit_code == 1, "without models"
        assert TABLE not in app.run("db-check", "plug", "core").output


# ---- Rows that are not as they should be ----


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+psycopg")
@EITHER
def test_a_row_without_a_file_is_missing_and_stays(
    histories: Project, database: Database, tables: dict[str, Any]
) -> None:
    had(database)
    database.run(f"UPDATE {TABLE} SET version_num = 'abc123'")
    with opened(histories, database, tables) as app:
        line = app.error_line("db-up")
        assert f"abc123 of plug is applied but missing: the version table {TABLE} has it, and the file was" in line
        assert app.run("db-check", "--deploy").exit_code == 12
        assert TABLE in app.run("db-status").stdout
        assert state(database) == ([], ["abc123"])
        histories.revision("plug", "abc123", "plug_2")
        assert ran(app.call("upgrade", "core_1")) == ["core_1"]
        assert state(database) == ((["abc123", "core_1"], []) if tables is TAKEN else (["core_1"], ["abc123"]))


@pytest.mark.drivers("sqlite+pysqlite")
@EITHER
def test_wrong_rows_and_settings_are_refused(histories: Project, database: Database, tables: dict[str, Any]) -> None:
    had(database)
    database.run(f"UPDATE {TABLE} SET version_num = 'core_1'")
    with opened(histories, database, tables) as app:
        line = app.error_line("db-status")
        assert (
            f"The table {TABLE} contains core_1 of core, but AMPHO_VERSION_TABLES says that it is the version" in line
        )
    for name, what in (("alembic_version", "version_table"), (JOURNAL, "AMPHO_JOURNAL_TABLE")):
        for command in ("db-status", "db-up", "db-stamp core"):
            with opened(histories, database, {"plug": name}) as app:
                line = app.error_line(*command.split())
                assert f"AMPHO_VERSION_TABLES and {what} name the same table, {name}" in line
    wrong: list[tuple[object, str]] = [
        ({"plugg": TABLE}, "AMPHO_VERSION_TABLES names 'plugg', which is not a listed package. Did you mean plug?"),
        ({"plug": 1}, "AMPHO_VERSION_TABLES is {'plug': 1}. Set it to a dictionary that maps packages to"),
        ({"plug": {"table": TABLE, "kept": True}}, "Set it to a dictionary"),
        ({1: TABLE}, "Set it to a dictionary"),
        ("plug", "Set it to a dictionary"),
        (lambda name: 1, "The function in AMPHO_VERSION_TABLES fails for core, or returns neither None"),
        (lambda name: name[9], "returns neither None, a name, nor a dictionary with table and keep: IndexError"),
    ]
    for setting, message in wrong:
        with opened(histories, database, setting) as app:
            assert message in app.error_line("db-status")
    with opened(histories, database, {"not_here": "other_version", "plug": None}) as app:
        assert app.run("db-status").exit_code == 0


@OTHERS
def test_a_table_that_is_nobodys_is_named(histories: Project, database: Database) -> None:
    had(database)
    database.run(
        "CREATE TABLE document_versions (id INTEGER, version_num VARCHAR(32))",
        "CREATE TABLE empty_version (version_num VARCHAR(32))",
        "CREATE TABLE a_version (version_num VARCHAR(32))",
        "INSERT INTO document_versions VALUES (1, 'x')",
        "INSERT INTO a_version VALUES ('abc123')",
    )
    with opened(histories, database, None) as app:
        app.call("stamp", "core_1")
        looked = app.run("db-status").stdout.replace("\n", " ")
        assert (
            f"Ampho does not read the version tables a_version, {TABLE}; if they belong to packages, set"
            f' AMPHO_VERSION_TABLES = {{"PACKAGE": "a_version", "plug": "{TABLE}"}}.'
        ) in looked, looked
        found = json.loads(app.run("db-status", "--json").stdout)["status"]
        assert found["unread_tables"] == ["a_version", TABLE]
        assert found["unread_tables_remedy"].startswith("if they belong")
    for tables in ({"plug": TABLE, "nobody": "a_version"}, {"core": "a_version", "plug": TABLE}):
        with opened(histories, database, tables) as app:
            found = json.loads(app.run("db-status", "--json").stdout)["status"]
            assert (found["unread_tables"], found["unread_tables_remedy"]) == ([], None)
    with opened(histories, database, None) as app:
        database.run("DELETE FROM alembic_version")
        assert "belongs to one package, set AMPHO_VERSION_TABLES" in app.error_line("db-up")


@pytest.mark.drivers("postgresql+psycopg")
def test_a_table_that_may_not_be_read_is_left_alone(histories: Project, database: Database) -> None:
    role = f"r{uuid4().hex}"
    had(database)
    database.run(f"CREATE ROLE {role}", f"GRANT USAGE ON SCHEMA public TO {role}", f"GRANT INSERT ON {TABLE} TO {role}")
    try:
        url = database.url.update_query_dict({"options": f"-c role={role}"})
        with facade(histories, "flask", LISTED, url) as app:
            assert app.call("status").unread_tables == ()
    finally:
        database.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


# ---- SQL ----


@ONE_EACH
@EITHER
def test_sql_does_the_same(histories: Project, database: Database, tables: dict[str, Any]) -> None:
    had(database)
    with opened(histories, database, tables) as app:
        database.client(app.run("db-up", "-s").stdout)
        assert state(database) == ((["core_3", "plug_3"], []) if tables is TAKEN else (["core_3"], ["plug_3"]))
        assert ran(app.call("upgrade")) == []
        assert app.run("db-up", "-s").stdout == ""
        database.client(app.run("db-down", "plug@-2", "-s").stdout)
        assert state(database) == ((["core_3", "plug_1"], []) if tables is TAKEN else (["core_3"], ["plug_1"]))
        assert ran(app.call("upgrade")) == ["plug_2", "plug_3"]
    database.run(*(f"DROP TABLE {table}" for table in database.tables()), f"DROP TABLE IF EXISTS {JOURNAL}")
    with opened(histories, database, tables) as app:
        database.client(app.run("db-up", "-s").stdout)
        assert state(database) == ((["core_3", "plug_3"], []) if tables is TAKEN else (["core_3"], ["plug_3"]))
        assert ran(app.call("upgrade")) == []
        text = app.run("db-up", "-s", "--start", "core").stdout
        assert (f"INSERT INTO {TABLE} (version_num) VALUES ('plug_1')" in text) is (tables is KEPT)


# ---- With what else there is ----


@OTHERS
@pytest.mark.parametrize(("tables", "applied"), [(TAKEN, 2), (KEPT, 2), (KEPT, 3)])
def test_replaced_revisions(histories: Project, database: Database, tables: dict[str, Any], applied: int) -> None:
    had(database, applied)
    folder, old = histories.migrations("plug"), ("plug_1", "plug_2", "plug_3")
    shutil.move(folder / "versions", folder / "replaced")
    path = histories.revision("plug", "plug_9")
    path.write_text(path.read_text().replace("depends_on = None", f"depends_on = None\nreplaces = {old!r}"))
    with opened(histories, database, tables) as app:
        assert ran(app.call("upgrade", "plug")) == [*old[applied:], "plug_9"]
        assert state(database) == ((["plug_9"], []) if tables is TAKEN else ([], ["plug_9"]))
        assert ("plug_9", "replaced") in outcomes(database)
        assert ran(app.call("upgrade", "plug")) == []
        assert app.run("db-check", "--deploy").exit_code == 10


@pytest.mark.drivers("postgresql+psycopg")
@EITHER
def test_a_schema_of_the_version_table(histories: Project, database: Database, tables: dict[str, Any]) -> None:
    database.run("CREATE SCHEMA meta")
    had(database)
    database.run(f"ALTER TABLE {TABLE} SET SCHEMA meta", "CREATE TABLE meta.a_version (version_num VARCHAR(32))")
    database.run("INSERT INTO meta.a_version VALUES ('abc123')")
    with opened(histories, database, tables) as app:
        with_env(histories, "quart" if database.is_async else "flask", ", version_table_schema='meta'")
        assert "plug  plug_2" in app.run("db-current").stdout
        assert json.loads(app.run("db-status", "--json").stdout)["status"]["unread_tables"] == ["a_version"]
        assert ran(app.call("upgrade")) == ["core_1", "core_2", "core_3", "plug_3"]
        rows = database.query(f"SELECT version_num FROM meta.{TABLE}")
        assert [tuple(row) for row in rows] == ([("plug_3",)] if tables is KEPT else [])
        rows = database.query("SELECT version_num FROM meta.alembic_version ORDER BY 1")
        assert [row[0] for row in rows] == ["core_3", *(["plug_3"] if tables is TAKEN else [])]


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
@EITHER
def test_several_databases_under_one_plan(histories: Project, database: Database, tables: dict[str, Any]) -> None:
    had(database, 3)
    scheme = "sqlite+aiosqlite" if database.is_async else "sqlite"
    config: dict[str, Any] = {
        "SQLALCHEMY_BINDS": {"other": f"{scheme}:///other.db"},
        "AMPHO_DATABASES": {"other": ["core"]},
    }
    with opened(histories, database, tables, **config) as app:
        assert [len(package.pending) for package in app.call("current")] == [0, 3]
        assert ran(app.call("upgrade")) == ["core_1", "core_2", "core_3"]
        assert state(database) == ((["plug_3"], []) if tables is TAKEN else ([], ["plug_3"]))
        assert ran(app.call("upgrade")) == []


@pytest.mark.drivers("postgresql+psycopg")
def test_databases_of_a_group(database: Database, project: Project) -> None:
    fleet = schemas(project, database, 3, AMPHO_VERSION_TABLES={"orders": "orders_version"})
    for name in fleet.names[:2]:
        database.run(
            f"CREATE TABLE {name}.orders_version (version_num VARCHAR(32))",
            f"INSERT INTO {name}.orders_version VALUES ('orders_1')",
        )

    def looked() -> str:
        return project.run("ampho", "db-status", "-d", "tenants").stdout

    assert re.search("2  up to date  orders_1", looked()), looked()
    assert "2 up to date, 1 upgraded" in project.run("ampho", "db-up", "-d", "tenants").output
    assert [fleet.rows(name) for name in fleet.names] == [["orders_1"]] * 3
    assert "3 up to date" in project.run("ampho", "db-up", "-d", "tenants").output


@pytest.mark.drivers("sqlite+pysqlite")
def test_plain_alembic_through_the_env_py_of_ampho(histories: Project, database: Database) -> None:
    had(database)
    url = database.url.render_as_string(hide_password=False)

    def plain(tables: object, *command: str) -> Any:
        config = {"AMPHO_MIGRATION_PACKAGES": LISTED, "AMPHO_VERSION_TABLES": tables}
        histories.app("flask", [], url, extra_config=config)
        return histories.run("alembic", "-c", "core/migrations/alembic.ini", *command, check=False)

    with_env(histories, "flask")
    assert "plug_2" in plain(TAKEN, "current").stdout
    assert (
        "Not all version rows are in the tables that AMPHO_VERSION_TABLES says"
        in plain(TAKEN, "upgrade", "heads").output
    )
    assert state(database) == ([], ["plug_2"])
    assert plain(KEPT, "upgrade", "heads").exit_code == 0
    assert state(database) == (["core_3"], ["plug_3"])
    assert "cannot write the tables in AMPHO_VERSION_TABLES" in plain(KEPT, "stamp", "core_2").output
    assert plain(KEPT, "downgrade", "plug@base").exit_code == 0
    assert state(database) == (["core_3"], [])
