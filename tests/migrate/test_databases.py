"""Packages that live in several databases: one plan, each database with its own version table, journal, and lock."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from jsonschema import Draft202012Validator
from project import Project, Result
from servers import PASSWORD, Database

from ampho.cli.json import SCHEMA
from ampho.errors import (
    ConfigurationError,
    DatabaseNameError,
    DatabasesError,
    DependentsError,
    NotUpToDateError,
    RevisionInputError,
)

CREATE = "op.create_table('{0}', sa.Column('id', sa.Integer, primary_key=True))"
DROP = "op.drop_table('{0}')"
HOMES = {"reports": ["sales"], "audit": ["trail"]}


def table(name: str) -> dict[str, str]:
    return {"upgrade": CREATE.format(name), "downgrade": DROP.format(name)}


@pytest.fixture
def three(project: Project) -> Project:
    """Three packages for three databases. Their revisions depend on each other, across the databases and back."""
    for name in ("shop", "sales", "trail"):
        project.package(name)
    project.revision("shop", "shop_1", **table("items"))
    project.revision("sales", "sales_1", depends_on="shop_1", **table("totals"))
    project.revision("shop", "shop_2", "shop_1", depends_on="sales_1", **table("orders"))
    project.revision("sales", "sales_2", "sales_1", depends_on="shop_2", **table("months"))
    project.revision("trail", "trail_1", **table("entries"))
    return project


def binds(framework: str, **names: str) -> dict[str, str]:
    scheme = URLS[framework].partition(":")[0]
    return {name: f"{scheme}:///{file}" for name, file in names.items()}


@pytest.fixture(params=FRAMEWORKS)
def each(request: pytest.FixtureRequest, three: Project) -> Iterator[Facade]:
    urls = binds(request.param, reports="reports.db", audit="audit.db")
    packages = ["shop", "sales", "trail"]
    config: dict[str, Any] = {"SQLALCHEMY_BINDS": urls, "AMPHO_DATABASES": HOMES}
    with facade(three, request.param, packages, URLS[request.param], **config) as made:
        yield made


def tables(project: Project, file: str) -> set[str]:
    path = project.folder / "instance" / file
    if not path.exists():
        return set()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {name for (name,) in rows if not name.startswith("sqlite_")}


OWN = {"alembic_version", "ampho_journal"}


def test_an_upgrade_runs_the_steps_of_all_databases_in_one_order(each: Facade, three: Project) -> None:
    plan = each.call("plan")
    run = each.call("upgrade")

    order = [(step.database, step.revision.id) for step in plan.steps]
    assert order.index(("default", "shop_1")) < order.index(("reports", "sales_1"))
    assert order.index(("reports", "sales_1")) < order.index(("default", "shop_2"))
    assert order.index(("default", "shop_2")) < order.index(("reports", "sales_2"))
    assert [(step.step.database, step.revision.id) for step in run.steps] == order
    assert tables(three, "app.db") == {"items", "orders", *OWN}
    assert tables(three, "reports.db") == {"totals", "months", *OWN}
    assert tables(three, "audit.db") == {"entries", *OWN}
    assert each.call("upgrade").steps == ()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_databases_that_cannot_be_created_do_not_stop_the_others(three: Project, framework: str) -> None:
    three.write("file", "")
    urls = binds(framework, reports=f"{three.folder}/file/reports.db", audit=f"{three.folder}/new/audit.db")
    config: dict[str, Any] = {"SQLALCHEMY_BINDS": urls, "AMPHO_DATABASES": {"reports": ["sales"], "audit": ["trail"]}}
    with facade(three, framework, ["shop", "sales", "trail"], URLS[framework], **config) as each:
        result = each.run("db-up", "--create")
        assert result.exit_code == 1
        assert "Error: reports: The folder file cannot be created: FileExistsError" in result.stderr
        result = each.run("db-up", "--create", "trail")  # the other databases are not concerned
        assert result.exit_code == 0, result.output
        assert "Created the folder new.\n" in result.stderr
        (three.folder / "new" / "audit.db").unlink()
        (three.folder / "new").rmdir()
        result = each.run("db-up", "--create", "-k")
        assert result.exit_code == 1
        assert "Warning: reports: The folder file cannot be created: " in result.stderr
        assert each.call("status", database="audit").status == "up to date"


def test_results_have_the_names_of_their_databases(each: Facade) -> None:
    each.call("upgrade")

    status = each.call("status")
    assert list(status.databases) == ["default", "reports", "audit"]
    assert [package.package for package in status] == ["shop", "sales", "trail"]
    assert status.databases["reports"].database == "reports"
    assert {entry.database for entry in each.call("log")} == {"default", "reports", "audit"}
    assert [each.package for each in each.call("status", database="reports")] == ["sales"]
    assert list(each.call("status", "sales", "trail").databases) == ["reports", "audit"]
    assert each.call("deployment").status == "up to date"


def test_the_output_names_each_database(each: Facade) -> None:
    result = each.run("db-up")
    assert result.exit_code == 0, result.output
    assert [line for line in result.stdout.splitlines() if not line.startswith(" ")][:-1] == [
        "Upgrading (heads): 5 revisions of shop, sales, trail, in the databases default, reports, audit",
        *("default:", "reports:", "audit:", "default:", "reports:"),
    ]
    result = each.run("db-current")
    assert result.stdout.splitlines() == [
        *("default:", "shop  shop_2 (head)", "", "reports:", "sales  sales_2 (head)", ""),
        *("audit:", "trail  trail_1 (head)"),
    ]
    found = json.loads(each.run("db-current", "--json").stdout)["databases"]
    assert [(one["database"], one["current"]["database"]) for one in found] == [
        (name, name) for name in ("default", "reports", "audit")
    ]
    assert json.loads(each.run("db-current", "--json", "-d", "audit").stdout)["current"]["database"] == "audit"


def test_what_an_upgrade_of_one_database_needs_elsewhere_comes_first(each: Facade) -> None:
    with pytest.raises(NotUpToDateError, match="shop_1, which is not applied to the database default"):
        each.call("upgrade", database="reports")

    each.call("upgrade", "sales_1")  # without a database, what it depends on is applied, too

    assert each.call("current", database="default")["shop"].current == ("shop_1",)
    assert each.call("current", database="reports")["sales"].current == ("sales_1",)


def test_a_failure_skips_what_depends_on_it(each: Facade, three: Project) -> None:
    three.revision("sales", "sales_1", depends_on="shop_1", upgrade="op.execute('no SQL')")

    with pytest.raises(DatabasesError) as stopped:
        each.call("upgrade")
    assert list(stopped.value.errors) == ["reports"]
    assert "audit" in stopped.value.skipped

    with pytest.raises(DatabasesError) as caught:
        each.call("upgrade", keep_going=True)
    assert list(caught.value.errors) == ["reports"]
    assert list(caught.value.results) == ["audit"]
    assert "sales_1" in caught.value.skipped["default"]
    assert "Revision sales_1 of sales failed" in str(caught.value)

    three.revision("sales", "sales_1", depends_on="shop_1", **table("totals"))
    each.call("upgrade")
    assert each.call("deployment").status == "up to date"


def test_a_command_that_changes_one_database_must_be_told_which(each: Facade) -> None:
    each.call("upgrade")

    for method, args in (("downgrade", ()), ("stamp", ("heads",)), ("forget", ("shop",)), ("upgrade_sql", ())):
        with pytest.raises(DatabaseNameError, match="default, reports, audit"):
            each.call(method, *args)
    with pytest.raises(DatabaseNameError, match="Did you mean reports"):
        each.call("downgrade", database="report")
    assert "--database default" in each.error_line("db-down")


def test_a_downgrade_is_refused_while_another_database_depends_on_it(each: Facade) -> None:
    each.call("upgrade")

    with pytest.raises(DependentsError, match="'ampho db-down sales@-1 --database reports'"):
        each.call("downgrade", database="default")

    each.call("downgrade", database="reports")
    each.call("downgrade", database="default")
    assert each.call("current", database="default")["shop"].current == ("shop_1",)


def test_a_database_that_does_not_answer_does_not_hide_the_others(each: Facade, three: Project) -> None:
    each.call("upgrade")
    (three.folder / "instance" / "audit.db").write_text("This is not a database.")

    with pytest.raises(DatabasesError) as caught:
        each.call("status")
    assert list(caught.value.results) == ["default", "reports"]
    result = each.run("db-current")
    assert "sales  sales_2 (head)" in result.stdout
    assert "Error: 1 of 3 databases failed." in result.stderr
    assert "audit: " in result.stderr


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_same_files_fill_one_database_or_several(framework: str, three: Project) -> None:
    packages = ["shop", "sales", "trail"]
    with facade(three, framework, packages, URLS[framework]) as together:
        together.call("upgrade")
        assert together.call("status").databases == {}
    assert tables(three, "app.db") == {"items", "orders", "totals", "months", "entries", *OWN}


def test_a_database_without_a_url_is_an_error(three: Project) -> None:
    homes = {"report": ["sales"]}
    urls = binds("flask", reports="reports.db")
    with (
        facade(three, "flask", ["shop"], URLS["flask"], SQLALCHEMY_BINDS=urls, AMPHO_DATABASES=homes) as each,
        pytest.raises(ConfigurationError, match="Did you mean reports"),
    ):
        each.call("upgrade")


def test_the_packages_of_a_database_are_a_list(three: Project) -> None:
    with facade(three, "flask", ["shop"], URLS["flask"], AMPHO_DATABASES={"default": "sales"}) as each:
        assert "Set it to a dictionary that maps names of databases to lists" in each.error_line("db-up")


def test_the_only_database_is_named(three: Project) -> None:
    with facade(three, "flask", ["shop"], URLS["flask"]) as each:
        assert "The app has one, default. To add one, list its packages" in each.error_line("db-up", "-d", "x")
        assert "Repeatable" not in each.run("db-stamp", "--help").stdout.partition("--database")[2].partition("-x ")[0]


def test_a_misspelled_package_is_named_with_its_setting(three: Project) -> None:
    urls = binds("flask", reports="reports.db")
    config: dict[str, Any] = {"SQLALCHEMY_BINDS": urls, "AMPHO_DATABASES": {"reports": ["sails"]}}
    with facade(three, "flask", ["shop"], URLS["flask"], **config) as each:
        line = each.error_line("db-up")
        assert line.startswith("reports: There is no package sails. Check the spelling in AMPHO_DATABASES, and ")
        status = each.run("db-status").stderr
        assert status.count("Warning: ") == 1
        assert status.endswith("Did you mean sales? Or remove it there.\n")
        each.ampho.add_package("shap")
        assert "Check the spelling in add_package(), and" in each.run("db-status").stderr


def test_a_plug_in_names_its_database(three: Project) -> None:
    urls = binds("flask", reports="reports.db")
    with facade(three, "flask", ["shop"], URLS["flask"], SQLALCHEMY_BINDS=urls) as each:
        each.ampho.add_package("sales", database="reports")
        each.call("upgrade")
        assert list(each.call("status").databases) == ["default", "reports"]


def test_keep_going_upgrades_the_other_databases(each: Facade, three: Project) -> None:
    three.revision("sales", "sales_1", depends_on="shop_1", upgrade="op.execute('no SQL')")

    result = each.run("db-up", "-k")

    assert result.exit_code == 1
    assert "trail_1" in result.stdout
    assert tables(three, "audit.db") == {"entries", *OWN}
    failed, *rest = [line for line in result.stderr.splitlines() if not line.startswith("Warning: ")]
    assert failed == "Error: 1 of 3 databases failed."
    assert "reports: Revision sales_1 of sales failed" in rest[0]
    assert rest[-1].startswith("default was skipped: shop_2 depends on sales_1, and reports failed")
    assert each.run("db-up", "-k", "--plan").exit_code == 2

    three.revision("sales", "sales_1", depends_on="shop_1", **table("totals"))
    assert each.run("db-up", "-k").exit_code == 0
    assert each.call("deployment").status == "up to date"


def test_the_table_of_a_plan_names_the_databases_if_there_are_several(each: Facade) -> None:
    first, titles, row, *_ = each.run("db-up", "--plan").stdout.splitlines()
    assert first.endswith("in the databases default, reports, audit")
    assert titles.split()[:3] == ["#", "Database", "Revision"]
    assert row.split()[:3] == ["1", "default", "shop_1"]

    first, titles, *_ = each.run("db-up", "--plan", "-d", "audit").stdout.splitlines()
    assert first == "Plan (db-up heads): 1 revision of trail, in the database audit"
    assert "Database" not in titles


def test_a_plan_of_one_of_several_databases_can_be_agreed_to(each: Facade) -> None:
    each.call("upgrade")

    plan = each.call("plan", direction="downgrade", database="reports")
    run = each.call("downgrade", agreed=plan, database="reports")

    assert [(step.step.database, step.revision.id) for step in run.steps] == [("reports", "sales_2")]
    assert run.plan.is_of_several


def test_a_picture_for_each_database(each: Facade, three: Project) -> None:
    each.call("upgrade", "trail_1")

    shown = each.run("db-graph")
    assert [line for line in shown.stdout.splitlines() if line.endswith(":")] == ["default:", "reports:", "audit:"]
    assert "--no-database" in each.error_line("db-graph", "-o", "graph.svg", exit_code=2)
    assert each.run("db-graph", "-d", "audit", "-o", "graph.svg").exit_code == 0
    assert "trail_1" in three.read("graph.svg")

    (three.folder / "instance" / "reports.db").write_text("This is not a database.")
    failed = each.run("db-graph")
    assert failed.exit_code == 1
    assert "trail_1" in failed.stdout
    assert "reports: " in failed.stderr


def test_waiting_names_the_database(each: Facade) -> None:
    each.call("upgrade", "trail_1")

    result = each.run("db-wait", "--timeout", "0.1")

    assert result.exit_code == 3  # as for one database
    assert result.stdout.splitlines() == ["audit:", "The database is up to date with the code."]
    assert "default: The database was not brought up to date within 0.1 s. Pending: shop_1, shop_2." in result.stderr
    assert "Run 'ampho db-up --database reports'" in result.stderr
    assert "Waiting for the database default: " in each.run("db-wait", "-d", "default", "--timeout", "0.6").stderr


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_database_that_does_not_answer_is_named_once(framework: str, three: Project) -> None:
    urls = binds(framework, reports="reports.db", audit="nowhere/audit")  # the error contains 'audit: ', too
    config: dict[str, Any] = {"SQLALCHEMY_BINDS": urls, "AMPHO_DATABASES": HOMES}
    with facade(three, framework, ["shop", "sales", "trail"], URLS[framework], **config) as each:
        assert each.error_line("db-current", "-d", "audit").startswith("audit: Cannot connect to ")
        waited = each.run("db-wait", "-d", "audit", "--timeout", "0.6").stderr.splitlines()
        assert waited[0].startswith("Waiting for the database audit to answer: Cannot connect to ")
        assert waited[-1].startswith("Error: audit: The database did not become available within 0.6 s. Cannot ")

        failed = json.loads(each.run("db-current", "--json").stdout)["error"]
        assert failed["errors"]["audit"]["message"].startswith("audit: Cannot connect to ")


def test_remedies_select_the_database(each: Facade, three: Project) -> None:
    assert "apply it with 'ampho db-up --database audit'" in each.run("db-check", "--deploy").stdout
    found = each.call("survey", "audit")
    assert found.others[0].findings[0].means == "pending; apply it with 'ampho db-up --database audit'"

    each.call("upgrade")
    with closing(sqlite3.connect(three.folder / "instance" / "audit.db")) as connection, connection:
        connection.execute("UPDATE ampho_journal SET outcome = 'partial'")
        connection.execute("DELETE FROM alembic_version")
    remedy = "see 'ampho db-log -v --database audit', and mark it as applied or not applied with 'ampho db-resolve"
    for command in ("db-current", "db-status", "db-current -d audit"):
        assert f"{remedy} --database audit'." in each.run(*command.split()).stdout, command
    (state,) = json.loads(each.run("db-check", "--deploy", "--json", "-d", "audit").stdout)["deployment"]["findings"]
    assert f"{remedy} --database audit'" in state["means"]
    for command in (("db-up",), ("db-up", "-d", "audit"), ("db-up", "--plan")):
        line = each.error_line(*command)
        assert line.startswith("audit: "), command
        assert "'ampho db-resolve trail_1 --applied --database audit'" in line, command


def test_remedies_for_missing_revisions_select_the_database(each: Facade, three: Project) -> None:
    each.call("upgrade")
    next(three.folder.glob("trail/migrations/versions/*")).unlink()

    missing = json.loads(each.run("db-current", "--json").stdout)["databases"][2]["current"]["missing"]
    assert "'ampho db-forget trail_1 --database audit'" in missing[0]["means"]
    assert "'ampho db-forget trail_1 --database audit'" in each.run("db-status").stdout
    warning = "Warning: There are missing revisions: trail_1 of trail in audit; see 'ampho db-current'.\n"
    assert each.run("db-up", "--plan").stderr == warning
    asked = each.run("db-forget", "trail_1", "-d", "audit").stderr
    assert "run 'ampho db-down --database audit'" in asked
    assert each.error_line("db-forget", "trail").startswith("db-forget works on one database, and the app has 3")


def test_errors_count_all_databases(each: Facade, three: Project) -> None:
    each.call("upgrade")
    for name in ("reports", "audit"):
        (three.folder / "instance" / f"{name}.db").write_text("This is not a database.")

    for command in ("db-up", "db-up --plan", "db-up -k", "db-rev -a More"):
        result = each.run(*command.split())
        assert result.exit_code == 1, command
        first, *rest = [line for line in result.stderr.splitlines() if not line.startswith("Warning: ")]
        assert first == "Error: 2 of 3 databases failed.", command
        assert [line.partition(":")[0] for line in rest] == ["reports", "audit"], command
        assert "Nothing to do" not in result.stdout, command


def test_a_database_that_is_up_to_date_is_named(each: Facade) -> None:
    each.call("upgrade", "trail_1")

    said = "Nothing to do: everything is applied to audit.\n"
    assert each.run("db-up", "-d", "audit").stdout == each.run("db-up", "--plan", "-d", "audit").stdout == said
    each.call("upgrade")
    assert each.run("db-up", "--all").stdout == said.replace("audit", "default, reports, audit")
    assert each.run("db-up").stdout == "Nothing to do: everything is applied.\n"


def test_a_package_of_another_database_is_an_error(each: Facade) -> None:
    for command in ("db-up shop", "db-down shop@-1", "db-down shop@-1 --plan", "db-stamp shop@head"):
        line = each.error_line(*command.split(), "-d", "audit")
        assert "lives in default, not in audit. Name that database" in line, command


def test_a_table_without_an_owner_is_warned_of_with_its_database(each: Facade, three: Project) -> None:
    each.call("upgrade")
    with closing(sqlite3.connect(three.folder / "instance" / "audit.db")) as connection:
        connection.execute("CREATE TABLE extra (id INTEGER)")

    assert "No package owns the table extra in the database audit." in each.run("db-check").stderr


def test_the_worst_state_is_the_exit_code(each: Facade) -> None:
    each.call("upgrade", "trail_1")

    assert each.run("db-check", "--deploy").exit_code == each.run("db-status", "--check").exit_code == 10
    assert each.run("db-check", "--deploy", "-d", "audit").exit_code == 0
    assert each.run("db-status", "--check", "trail").exit_code == 0


def test_json_has_the_database_only_if_there_are_several(each: Facade, three: Project) -> None:
    run = json.loads(each.run("db-up", "shop_1", "--json").stdout)["run"]
    assert [step["database"] for step in run["steps"]] == ["default"]  # although it is the only one of the plan

    with facade(three, "flask", ["shop", "sales", "trail"], URLS["flask"].replace("app", "one")) as one:
        for command in ("db-up", "db-status", "db-log", "db-check", "db-graph", "db-stamp heads"):
            assert '"database"' not in one.run(*command.split(), "--json").stdout, command


def test_the_json_of_several_databases_is_as_the_schema_says(each: Facade, three: Project) -> None:
    validator = Draft202012Validator(json.loads(SCHEMA.read_text("utf-8")))
    looking = ("db-status", "db-current", "db-log", "db-check", "db-lint", "db-graph", "db-check --deploy")
    upgrading = ("db-stamp sales -d reports", "db-up --plan", "db-up")
    changing = ("db-rev -a Nothing --dry-run", "db-down -d audit", "db-stamp trail -d audit")
    failing = ("db-down", "db-up -k")
    three.revision("sales", "sales_3", "sales_2", upgrade="op.execute('no SQL')")
    three.revision("trail", "trail_2", "trail_1", depends_on="sales_3")

    for command in (*failing, *upgrading, *looking, *changing):
        result = each.run(*command.split(), "--json")
        assert "Traceback" not in result.stderr
        found = json.loads(result.stdout)
        validator.validate(found)
        assert ("error" in found) is (command in failing), result.output
        if command in looking:
            assert [one["database"] for one in found["databases"]] == ["default", "reports", "audit"]
        if command == "db-up -k":
            assert list(found["error"]["errors"]) == ["reports"]
            assert list(found["error"]["results"]) == ["default", "audit"]
            assert "trail_2 depends on sales_3" in found["error"]["skipped"]["audit"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_package_in_several_databases(framework: str, project: Project) -> None:
    for name in ("shop", "trail"):
        project.package(name)
    project.revision("shop", "shop_1", **table("items"))
    project.revision("trail", "trail_1", **table("entries"))
    homes = {"default": ["shop", "trail"], "audit": ["trail"]}
    config: dict[str, Any] = {"SQLALCHEMY_BINDS": binds(framework, audit="audit.db"), "AMPHO_DATABASES": homes}
    with facade(project, framework, ["shop", "trail"], URLS[framework], **config) as each:
        each.call("upgrade")
        assert tables(project, "app.db") == {"items", "entries", *OWN}
        assert tables(project, "audit.db") == {"entries", *OWN}
        assert [each.database for each in each.call("log")] == ["default", "default", "audit"]

        written = each.call("autogenerate", "Drop everything", "trail")
        assert [len(one.revisions) for one in written] == [1]  # and not one for each database
        written[0].revisions[0].path.unlink()

        for number in (1, 2):
            project.revision("trail", f"trail_180000000{number}", "trail_1")
        each.call("upgrade", "trail_1800000001", database="audit")
        each.call("upgrade", "trail_1800000002", database="audit")
        with pytest.raises(RevisionInputError, match="trail_1800000002"):
            each.call("rebase", "trail")  # it is applied to one of the two databases


# ---- Three databases on three servers ----

SYNC = ("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
ASYNC = ("sqlite+aiosqlite", "postgresql+asyncpg", "mariadb+asyncmy")
NAMES = ("default", "reports", "audit")
DATA = {
    "flask": "from flask_sqlalchemy import SQLAlchemy\n\ndb = SQLAlchemy()\n",
    "quart": "from ampho import AsyncSQLAlchemy\n\ndb = AsyncSQLAlchemy()\n",
}
APP = """
from {framework} import {app}

import audit.models
import reports.models
import shop.models
from ampho import {extension}
from data import db

app = {app}(__name__)
app.config.update({config!r})
db.init_app(app)
{extension}(app, db)
"""
MODEL = """
from data import db


class {model}(db.Model):
    {bind}
    id = db.Column(db.Integer, primary_key=True)
"""


@pytest.fixture(params=FRAMEWORKS)
def servers(request: pytest.FixtureRequest, project: Project, make_database: Callable[[str], Database]) -> Project:
    """An app with a database on each kind of server, without any migrations."""
    drivers = SYNC if request.param == "flask" else ASYNC
    urls = [make_database(driver).url.render_as_string(hide_password=False) for driver in drivers]
    config = {
        "SQLALCHEMY_DATABASE_URI": urls[0],
        "SQLALCHEMY_BINDS": dict(zip(NAMES[1:], urls[1:], strict=True)),
        "AMPHO_MIGRATION_PACKAGES": ["shop", "reports", "audit"],
        "AMPHO_DATABASES": {"reports": ["reports"], "audit": ["audit"]},
    }
    project.write("data.py", DATA[request.param])
    for name, package in zip(NAMES, ("shop", "reports", "audit"), strict=True):
        bind = "" if name == "default" else f'__bind_key__ = "{name}"'
        project.package(package, MODEL.format(model=package.title(), bind=bind))
    extension = "Ampho" if request.param == "flask" else "AsyncAmpho"
    app = {"flask": "Flask", "quart": "Quart"}[request.param]
    project.write("app.py", APP.format(framework=request.param, app=app, extension=extension, config=config))
    return project


def test_every_command_on_three_servers(servers: Project) -> None:
    said: list[str] = []

    def run(*command: str, exit_code: int = 0) -> Result:
        result = servers.run("ampho", *command, check=False)
        said.append(result.output)
        assert result.exit_code == exit_code, str(result)
        return result

    def names(result: Result) -> list[str]:
        return [line[:-1] for line in result.stdout.splitlines() if line[:-1] in NAMES and line[-1:] == ":"]

    run("db-init")
    assert names(run("db-rev", "-a", "Initial")) == list(NAMES)
    plan = run("db-up", "--plan").stdout
    assert [line.split()[1] for line in plan.splitlines()[2:5]] == list(NAMES)
    assert names(run("db-up")) == list(NAMES)
    assert run("db-up").stdout == "Nothing to do: everything is applied.\n"
    looking = ["db-check --deploy", "db-status", "db-current", "db-log", "db-check", "db-lint", "db-graph", "db-wait"]
    for command in looking:
        assert names(run(*command.split())) == list(NAMES), command
        one = run(*command.split(), "--database", "audit")
        assert names(one) == [], command
        assert not {"reports", "shop"}.intersection(one.stdout.split()), command
        both = json.loads(run(*command.split(), "--json", "-d", "audit", "-d", "default").stdout)
        assert [each["database"] for each in both["databases"]] == ["default", "audit"], command

    assert "Add --database" in run("db-down", exit_code=1).stderr
    for name, package in zip(NAMES, ("shop", "reports", "audit"), strict=True):
        assert f", in the database {name}\n" in run("db-down", "-d", name, "--plan").stdout
        assert "DROP TABLE" in run("db-down", "-d", name, "--sql").stdout
        assert f", in the database {name}\n" in run("db-down", "-d", name).stdout
        state = json.loads(run("db-current", "--json", "-d", name).stdout)["current"]
        assert (state["database"], [each["package"] for each in state["packages"]]) == (name, [package])
        assert state["packages"][0]["pending"]
        run("db-stamp", package, "-d", name)
        run("db-stamp", f"{package}@base", "-d", name)
    run("db-check", "--deploy", exit_code=10)
    steps = json.loads(run("db-up", "--json", "-d", "reports").stdout)["run"]["steps"]
    assert [step["database"] for step in steps] == ["reports"]
    run("db-wait", "-d", "reports")
    run("db-wait", "--timeout", "0.1", exit_code=3)

    config = servers.read("app.py").replace("ampho:amphora@", "ampho:wrong-word@").replace(":amphora@", ":wrong-word@")
    servers.write("app.py", config)
    assert "2 of 3 databases failed" in run("db-status", exit_code=1).stderr
    assert not any(PASSWORD in each or "wrong-word" in each for each in said)


def test_dependencies_across_three_servers(servers: Project) -> None:
    def write(number: int, package: str, depends_on: str = "", upgrade: str = "") -> None:
        before = None if number == 1 else f"{package}_{number - 1}"
        upgrade = upgrade or CREATE.format(f"{package}_{number}")
        servers.revision(package, f"{package}_{number}", before, depends_on=depends_on or None, upgrade=upgrade)

    def fails(*command: str) -> dict[str, Any]:
        result = servers.run("ampho", "db-up", "--json", *command, check=False)
        assert result.exit_code == 1, str(result)
        found: dict[str, Any] = json.loads(result.stdout)["error"]
        return found

    write(1, "shop")
    write(1, "reports", "shop_1", upgrade="op.execute('no SQL')")
    write(2, "shop", "reports_1")
    write(1, "audit", "shop_2", upgrade="op.execute('no SQL')")
    write(2, "reports", "audit_1")

    failed = fails()
    assert (list(failed["errors"]), list(failed["skipped"])) == (["reports"], ["default", "audit"])
    failed = fails("-k")
    assert list(failed["errors"]) == ["reports"]
    assert "shop_2 depends on reports_1" in failed["skipped"]["default"]
    assert "audit_1 depends on shop_2" in failed["skipped"]["audit"]
    write(1, "reports", "shop_1")
    failed = fails("-k")
    assert list(failed["errors"]) == ["audit"]
    assert "reports_2 depends on audit_1" in failed["skipped"]["reports"]
    write(1, "audit", "shop_2")
    steps = json.loads(servers.run("ampho", "db-up", "--json").stdout)["run"]["steps"]
    assert [(step["database"], step["revision"]) for step in steps] == [
        ("audit", "audit_1"),
        ("reports", "reports_2"),
    ]
    assert servers.run("ampho", "db-up").stdout == "Nothing to do: everything is applied.\n"


def test_an_empty_revision_takes_no_database(each: Facade) -> None:
    assert "--database requires --autogenerate" in each.error_line("db-rev", "shop", "More", "-d", "audit", exit_code=2)
