"""Packages that live in several databases: one plan, each database with its own version table, journal, and lock."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project

from ampho.errors import ConfigurationError, DatabaseNameError, DatabasesError, DependentsError, NotUpToDateError

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


def test_a_plug_in_names_its_database(three: Project) -> None:
    urls = binds("flask", reports="reports.db")
    with facade(three, "flask", ["shop"], URLS["flask"], SQLALCHEMY_BINDS=urls) as each:
        each.ampho.add_package("sales", database="reports")
        each.call("upgrade")
        assert list(each.call("status").databases) == ["default", "reports"]
