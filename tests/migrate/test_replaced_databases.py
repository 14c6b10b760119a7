"""What the commands do on a database whose revisions have been replaced, on every driver."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from servers import JOURNAL, Database
from tenants import files, schemas

from ampho.errors import DuplicateRevisionError

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

LISTED = ["core", "shop"]
OLD = ("core_1", "core_2", "core_3")
CREATE = "op.create_table('{0}', sa.Column('id', sa.Integer, primary_key=True))"
DROP = "op.drop_table('{0}')"


@pytest.fixture
def opened(project: Project, database: Database) -> Iterator[Facade]:
    for package in LISTED:
        project.package(package)
    for number, table in enumerate("abc", 1):
        down = f"core_{number - 1}" if number > 1 else None
        up, back = CREATE.format(table), DROP.format(table)
        project.revision("core", f"core_{number}", down, upgrade=up, downgrade=back)
    project.revision("shop", "shop_1", None, "core_3", upgrade=CREATE.format("s"), downgrade=DROP.format("s"))
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, LISTED, database.url) as each:
        yield each


def replace(project: Project, *, keep_files: bool = True, depends_on: str = "core_9") -> None:
    """Replace the revisions of ``core`` by one, as a squash does."""
    folder = project.migrations("core")
    (folder / "replaced").mkdir()
    for old in OLD:
        path = file_of(project, old)
        path.rename(folder / "replaced" / path.name)
        if not keep_files:
            (folder / "replaced" / path.name).unlink()
    every = [(CREATE.format(table), DROP.format(table)) for table in "abc"]
    up, back = ("\n".join(lines) for lines in zip(*every, strict=True))
    path = project.revision("core", "core_9", upgrade=up, downgrade=back, message="All of it")
    path.write_text(path.read_text().replace("depends_on = None", f"depends_on = None\nreplaces = {OLD!r}"))
    shop = file_of(project, "shop_1")
    shop.write_text(shop.read_text().replace("core_3", depends_on))


def file_of(project: Project, revision: str) -> Path:
    return next(project.folder.rglob(f"{revision}_*.py"))


def outcomes(database: Database) -> list[tuple[str, ...]]:
    return [tuple(row) for row in database.query(f"SELECT revision, outcome FROM {JOURNAL} ORDER BY id")]


@pytest.mark.parametrize("depends_on", ["core_9", "core_3"])
def test_a_database_that_has_all_has_the_replacement(
    opened: Facade, project: Project, database: Database, depends_on: str
) -> None:
    opened.call("upgrade", "core")
    before = database.schema()
    replace(project, depends_on=depends_on)
    looked = json.loads(opened.run("db-status", "--json").stdout)["status"]
    assert [(each["package"], each["applied"], each["pending"]) for each in looked["packages"]] == [
        ("core", 1, 0),
        ("shop", 0, 1),
    ]
    assert database.rows() == ["core_3"], "a command that only looks writes nothing"

    plan = opened.run("db-up", "core", "--plan").stdout
    assert re.search(r"core_9 .*replaces core_1 and 2 more", plan), plan
    result = opened.run("db-up", "core")
    assert result.exit_code == 0, result.output
    assert "+ core_9  All of it ... recorded" in result.stdout
    assert (database.rows(), database.schema()) == (["core_9"], before)
    assert outcomes(database)[3:] == [("core_9", "replaced")]
    assert "replaced" in opened.run("db-log").stdout
    assert opened.run("db-up", "core").stdout.startswith("Nothing to do")

    assert opened.run("db-up").exit_code == 0
    assert set(database.rows()) == ({"shop_1"} if depends_on == "core_9" else {"core_9", "shop_1"})
    assert opened.run("db-down", "core@base", "--yes").exit_code == 1, "shop_1 depends on it"
    assert opened.run("db-down", "core@base", "--cascade", "--yes").exit_code == 0
    assert set(database.tables()) <= {"alembic_version", JOURNAL}
    assert opened.call("upgrade") is not None
    assert {"a", "b", "c", "s"} <= set(database.tables())


@pytest.mark.drivers("sqlite", "postgresql+asyncpg")
@pytest.mark.parametrize("applied", [1, 3])
def test_sql_needs_a_database_that_has_the_replacement(
    opened: Facade, project: Project, database: Database, applied: int
) -> None:
    opened.call("upgrade", f"core_{applied}")
    replace(project)
    line = opened.error_line("db-up", "-s")
    assert (
        f"The database has core_{applied}, which core_9 replaced, and SQL cannot record that. Run 'ampho db-up'" in line
    )
    assert "CREATE TABLE s " in opened.run("db-up", "-s", "--start", "core_9").stdout
    assert opened.run("db-up").exit_code == 0
    assert opened.run("db-up", "-s").exit_code == 0


def test_a_database_of_another_tool_has_the_replacement(opened: Facade, project: Project, database: Database) -> None:
    opened.call("upgrade", "core")
    database.run(f"DROP TABLE {JOURNAL}")
    replace(project)
    assert [step.revision.id for step in opened.call("upgrade", "core").steps] == ["core_9"]
    assert (database.rows(), outcomes(database)) == (["core_9"], [("core_9", "replaced")])


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
@pytest.mark.parametrize("depends_on", ["core_9", "core_3"])
@pytest.mark.parametrize("applied", [1, 2])
def test_a_database_that_has_a_part_runs_the_rest(
    opened: Facade, project: Project, database: Database, applied: int, depends_on: str
) -> None:
    opened.call("upgrade", f"core_{applied}")
    replace(project, depends_on=depends_on)
    result = opened.run("db-up")
    assert result.exit_code == 0, result.output
    ran = [*OLD[applied:], "core_9", "shop_1"]
    assert re.findall(r"^  \+ (\w+)", result.stdout, re.MULTILINE) == ran
    assert [row for row in outcomes(database) if row[1] == "replaced"] == [("core_9", "replaced")]
    assert set(database.rows()) == ({"shop_1"} if depends_on == "core_9" else {"core_9", "shop_1"})
    assert {"a", "b", "c", "s"} <= set(database.tables())
    assert opened.run("db-up").stdout.startswith("Nothing to do")


@pytest.mark.drivers("sqlite", "postgresql+psycopg")
def test_a_part_can_be_reverted_by_the_old_files(opened: Facade, project: Project, database: Database) -> None:
    opened.call("upgrade", "core_2")
    replace(project)
    current = opened.run("db-current").stdout
    assert "core_2" in current
    assert opened.run("db-down", "-1", "--yes").exit_code == 0
    assert database.rows() == ["core_1"]
    assert "b" not in database.tables()


def test_an_empty_database_runs_the_replacement_only(opened: Facade, project: Project, database: Database) -> None:
    replace(project)
    assert [step.revision.id for step in opened.call("upgrade").steps] == ["core_9", "shop_1"]
    assert outcomes(database) == [("core_9", "done"), ("shop_1", "done")]


@pytest.mark.drivers("sqlite", "postgresql+asyncpg", "mariadb+pymysql")
@pytest.mark.parametrize("keeps_journal", [True, False])
def test_after_the_old_files_are_gone_a_part_is_told_what_it_needs(
    opened: Facade, project: Project, database: Database, keeps_journal: bool
) -> None:
    opened.call("upgrade", "core_2")
    if not keeps_journal:
        database.run(f"DELETE FROM {JOURNAL}")
    replace(project, keep_files=False)
    before = database.schema()
    line = opened.error_line("db-up")
    assert "core_9 of core replaces core_1, core_2, core_3. The database has some of these" in line
    assert "First upgrade the database with an earlier release of core" in line
    assert (database.rows(), database.schema()) == (["core_2"], before)
    assert opened.run("db-status").exit_code in (0, 1)


@pytest.mark.drivers("sqlite", "postgresql+asyncpg")
@pytest.mark.parametrize("keeps_journal", [True, False])
def test_a_part_that_only_a_dependency_names_is_told_that_too(
    opened: Facade, project: Project, database: Database, keeps_journal: bool
) -> None:
    shop = file_of(project, "shop_1")
    shop.write_text(shop.read_text().replace("core_3", "core_1"))
    opened.call("upgrade", "shop")
    if not keeps_journal:
        database.run(f"DELETE FROM {JOURNAL}")
    replace(project, keep_files=False)
    before = database.schema()
    assert "The database has some of these (core_1), and the files" in opened.error_line("db-up")
    assert (database.rows(), database.schema()) == (["shop_1"], before)
    shown = " ".join(opened.run("db-status").stdout.split())
    assert "has no file: core_9 replaced it, and the old files were deleted. First upgrade the database" in shown
    assert "forget" not in shown


@pytest.mark.drivers("sqlite", "postgresql+asyncpg", "mariadb+pymysql")
@pytest.mark.parametrize("keeps_journal", [True, False])
def test_after_the_old_files_are_gone_a_whole_one_goes_on(
    opened: Facade, project: Project, database: Database, keeps_journal: bool
) -> None:
    opened.call("upgrade", "core")
    if not keeps_journal:
        database.run(f"DELETE FROM {JOURNAL}")
    replace(project, keep_files=False)
    assert [step.revision.id for step in opened.call("upgrade").steps] == ["core_9", "shop_1"]
    assert database.rows() == ["shop_1"]


@pytest.mark.drivers("sqlite")
def test_a_stamp_and_a_downgrade_record_what_is_replaced(opened: Facade, project: Project, database: Database) -> None:
    opened.call("upgrade")
    replace(project, depends_on="core_3")
    assert opened.call("stamp", "shop@base").after == ("core_9",)
    assert outcomes(database)[-2:] == [("core_9", "replaced"), ("shop_1", "stamped")]
    assert opened.call("stamp", "core_9").after == ("core_9",)


@pytest.mark.drivers("sqlite")
def test_a_replaced_id_is_told_what_has_replaced_it(opened: Facade, project: Project, database: Database) -> None:
    replace(project)
    for command in ("db-up core_2", "db-show core_2", "db-up core@core_2", "db-stamp core_2"):
        assert "core_2 was replaced. Type core_9, which has replaced it." in opened.error_line(*command.split())


@pytest.mark.drivers("sqlite")
def test_a_replaced_file_that_is_still_a_revision_is_refused(
    opened: Facade, project: Project, database: Database
) -> None:
    replace(project)
    path = project.revision("core", "core_2", "core_1")
    with pytest.raises(
        DuplicateRevisionError, match=r"core_9 of core .* replaces core_2, but that is a revision of core"
    ):
        opened.call("upgrade")
    path.unlink()
    assert opened.call("upgrade").steps


@pytest.mark.drivers("sqlite")
def test_revisions_that_replace_each_other_are_refused(opened: Facade, project: Project, database: Database) -> None:
    opened.call("upgrade", "core_2")
    replace(project)
    for old, other in (("core_1", "core_2"), ("core_2", "core_1")):
        path = file_of(project, old)
        path.write_text(path.read_text().replace("depends_on = None", f"depends_on = None\nreplaces = {other!r}"))
    assert "Revisions replace each other in a cycle: core_1, core_2" in opened.error_line("db-up")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_each_of_several_databases_is_taken_over(framework: str, project: Project) -> None:
    scheme = URLS[framework].partition(":")[0]
    project.package("core")
    for number, table in enumerate("abc", 1):
        down = f"core_{number - 1}" if number > 1 else None
        up, back = CREATE.format(table), DROP.format(table)
        project.revision("core", f"core_{number}", down, upgrade=up, downgrade=back)
    project.package("shop")
    project.revision("shop", "shop_1", None, "core_3", upgrade=CREATE.format("s"))
    binds = {"SQLALCHEMY_BINDS": {"more": f"{scheme}:///more.db"}}
    homes = {"AMPHO_DATABASES": {"default": ["core"], "more": ["core", "shop"]}}
    with facade(project, framework, LISTED, URLS[framework], **binds, **homes) as each:
        each.call("upgrade", "core")
        each.call("downgrade", "core@-1", database="more")
        replace(project)
        assert [step.revision.id for step in each.call("plan").steps] == ["core_9", "core_3", "core_9", "shop_1"]
        result = each.run("db-up")
        assert result.exit_code == 0, result.output
        assert result.stdout.count("recorded") == 2
        current = each.call("current")
        found = {name: state["core"].current for name, state in current.databases.items()}
        assert found == {"default": ("core_9",), "more": ("core_9",)}
        assert "Nothing to do" in each.run("db-up").stdout


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_databases_of_a_group_are_taken_over(framework: str, project: Project) -> None:
    fleet = files(project, framework, 3)
    for _ in range(2):
        fleet.add_revision()
    for name, specifier in (("t000", "heads"), ("t001", "orders_2"), ("t002", "heads")):
        project.run("ampho", "db-up", specifier, "-d", f"tenants/{name}")
    _replace_orders(project)
    looked = project.run("ampho", "db-status", "-d", "tenants", check=False)
    assert re.search(r"2  up to date  orders_3", looked.stdout), looked
    assert "behind: orders_3, orders_9" in looked.stdout, looked
    result = project.run("ampho", "db-up", "-d", "tenants")
    assert "3 upgraded" in result.output, result
    again = project.run("ampho", "db-up", "-d", "tenants")
    assert "3 up to date" in again.output, again


@pytest.mark.drivers("postgresql")
def test_schemas_are_taken_over(database: Database, project: Project) -> None:
    fleet = schemas(project, database, 2)
    for _ in range(2):
        fleet.add_revision()
    project.run("ampho", "db-up", "-d", "tenants")
    _replace_orders(project)
    assert "2 upgraded" in project.run("ampho", "db-up", "-d", "tenants").output
    assert [fleet.rows(name) for name in fleet.names] == [["orders_9"]] * 2
    assert "2 up to date" in project.run("ampho", "db-up", "-d", "tenants").output


def _replace_orders(project: Project) -> None:
    folder = project.migrations("orders")
    (folder / "replaced").mkdir()
    old = sorted((folder / "versions").glob("orders_*.py"))
    for path in old:
        path.rename(folder / "replaced" / path.name)
    path = project.revision("orders", "orders_9", upgrade="op.create_table('table_9', sa.Column('id', sa.Integer))")
    ids = tuple(each.name.removesuffix("_by_hand.py") for each in old)
    path.write_text(path.read_text().replace("depends_on = None", f"depends_on = None\nreplaces = {ids!r}"))
