"""Phases across many databases: what waits, in the reports, the status, and the check before a release starts."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from facade import FRAMEWORKS, URLS, facade
from jsonschema import Draft202012Validator
from project import Project
from servers import Database as Server
from tenants import Fleet, files, schemas

from ampho import Database, Status
from ampho.cli.json import SCHEMA
from ampho.cli.show import print_text
from ampho.fleet.report import Ending, FleetOutcome, Tally
from ampho.history.revision import Phase, Revision
from ampho.migrate.plan import Direction, Step

ON_TENANTS = ("-d", "tenants")
PRE = ("--phase", "pre")


def begin(fleet: Fleet) -> None:
    """Apply the first revision; then come a table, the end of one, nothing, and the end of another one."""
    fleet.project.run("ampho", "db-up", *ON_TENANTS)
    fleet.add_revision()
    fleet.project.revision("orders", "orders_3", "orders_2", upgrade="op.drop_table('table_1')", message="Drop one")
    fleet.project.revision("orders", "orders_4", "orders_3", message="Nothing")
    fleet.project.revision("orders", "orders_5", "orders_4", upgrade="op.drop_table('table_2')", message="Drop two")


def result(fleet: Fleet, *command: str) -> Any:
    """Return the result of a command, as JSON that matches the schema."""
    found = json.loads(fleet.project.run("ampho", *command, "--json", check=False).stdout)
    Draft202012Validator(json.loads(SCHEMA.read_text("utf-8"))).validate(found)
    return next(each for each in found.values() if isinstance(each, dict))


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+psycopg", "postgresql+asyncpg")
def test_a_group_is_upgraded_in_two_phases(project: Project, database: Server) -> None:
    framework = FRAMEWORKS[database.is_async]
    fleet = files(project, framework, 3) if database.backend == "sqlite" else schemas(project, database, 3)
    begin(fleet)
    up, to = "'ampho db-up --phase", "-d tenants"
    ids = "orders_2; orders_3 (post), orders_4, orders_5 (post)"
    assert project.run("ampho", "db-status", *ON_TENANTS).stdout.splitlines() == [
        "tenants: 3 databases",
        "",
        "databases  status  pending     version rows",
        "        3  behind  4 (2 post)  orders_1",
        "",
        *(f"tenants/{name}: behind: {ids}" for name in fleet.names),
        f"To upgrade those that are behind, run {up} pre {to}', and once the old release is gone, {up} post {to}'.",
    ]
    behind = project.run("ampho", "db-check", "--deploy", *PRE, *ON_TENANTS, check=False)
    assert behind.exit_code == 10
    assert "orders_3" not in behind.stdout
    assert behind.stdout.endswith("run 'ampho db-up --phase pre -d tenants'.\n")

    done = project.run("ampho", "db-up", *ON_TENANTS, *PRE).stdout
    counts, *held = done.splitlines()[4:]
    assert counts.startswith("3 upgraded, in ")
    assert held == [
        "Held back in tenants/t000, tenants/t001, tenants/t002 for 'ampho db-up --phase post -d tenants':",
        "  orders_3  Drop one (post, inferred: drops the table table_1)",
        "  orders_4  Nothing (because of what it depends on)",
        "  orders_5  Drop two (post, inferred: drops the table table_2)",
    ]
    status = project.run("ampho", "db-status", *ON_TENANTS).stdout
    assert "        3  behind  3 (2 post)  orders_2\n" in status
    assert status.endswith("Once the old release is gone, run 'ampho db-up --phase post -d tenants'.\n")
    ready = project.run("ampho", "db-check", "--deploy", *PRE, *ON_TENANTS)
    assert ready.stdout == "All 3 databases have what this release of the app needs.\n"
    assert project.run("ampho", "db-check", "--deploy", *ON_TENANTS, check=False).exit_code == 10
    waited = project.run("ampho", "db-wait", *ON_TENANTS, "--timeout", "0").stdout
    assert waited == "tenants: only revisions in phase post are pending in 3 databases.\n"

    project.run("ampho", "db-up", "orders_3", "-d", "tenants/t000")
    again = project.run("ampho", "db-up", "-d", "tenants/t*", *PRE)
    assert again.stdout.splitlines()[-4:] == [
        "Held back for 'ampho db-up --phase post -d 'tenants/t*'':",
        "  orders_3  Drop one (post, inferred: drops the table table_1) in tenants/t001, tenants/t002",
        "  orders_4  Nothing (because of what it depends on) in tenants/t001, tenants/t002",
        "  orders_5  Drop two (post, inferred: drops the table table_2) in tenants/t000, tenants/t001, tenants/t002",
    ]
    report = result(fleet, "db-up", "--all", *PRE)
    assert report["outcomes"] == {"up to date": 3}
    assert [(each["revision"], each["phase"], len(each["databases"])) for each in report["held_back"]] == [
        ("orders_3", "post", 2),
        ("orders_4", "pre", 2),
        ("orders_5", "post", 3),
    ]
    assert report["held_back"][0]["phase_reason"] == "drops the table table_1"
    counts = result(fleet, "db-status", *ON_TENANTS)["counts"]
    assert [(each["number"], each["pending"], each["post"]) for each in counts] == [(2, 3, 2), (1, 1, 1)]

    done = project.run("ampho", "db-up", *ON_TENANTS, "--phase", "post").stdout
    assert "3 upgraded" in done
    assert "Held back" not in done
    assert "pending" not in project.run("ampho", "db-status", *ON_TENANTS).stdout


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_check_has_the_exit_code_of_the_worst_database(project: Project, framework: str) -> None:
    project.package("orders")
    first = project.revision("orders", "orders_1", upgrade="op.create_table('one', sa.Column('id', sa.Integer))")
    scheme = URLS[framework].partition(":")[0]
    names = ["edited", "ready", "behind"]
    with facade(project, framework, [], URLS[framework]) as each:
        each.ampho.databases("tenants", packages=["orders"])(
            lambda: [Database(name, url=f"{scheme}:///{name}.db") for name in names]
        )

        def code(*databases: str) -> int:
            options = [option for name in databases for option in ("-d", f"tenants/{name}")]
            return each.run("db-check", "--deploy", *PRE, *options).exit_code

        each.call("upgrade", database="tenants/edited")
        first.write_text(first.read_text("utf-8") + "\n# another word\n", "utf-8")
        each.call("upgrade", database=["tenants/ready", "tenants/behind"])
        project.revision("orders", "orders_2", "orders_1", upgrade="op.add_column('one', sa.Column('two', sa.Text()))")
        project.revision("orders", "orders_3", "orders_2", upgrade="op.drop_column('one', 'id')")
        each.call("upgrade", phase="pre", database=["tenants/edited", "tenants/ready"])
        assert [code(name) for name in names] == [11, 0, 10]
        assert code("ready", "edited", "behind") == 11
        single = each.run("db-check", "--deploy", *PRE, "-d", "tenants/ready").stdout
        assert single == "The database has what this release of the app needs.\n"
        found = each.call("survey", "tenants", thorough=True)
        assert found.in_phase(None) is found
        assert found.in_phase(Phase.PRE) == found.in_phase("pre")
        found = found.in_phase("pre")
        assert [(count.status, count.pending, count.post) for count in found.counts] == [
            (Status.EDITED, 0, 0),
            (Status.BEHIND, 1, 0),
            (Status.UP_TO_DATE, 0, 0),
        ]
        each.ampho.databases("others", packages=["orders"])(lambda: [Database("x", url=f"{scheme}:////nowhere/x.db")])
        assert each.run("db-check", "--deploy", *PRE, "-d", "tenants/ready", "-d", "others").exit_code == 1
        each.ampho.databases("none", packages=["orders"])(list)
        none = each.run("db-check", "--deploy", *PRE, "-d", "none")
        assert (none.exit_code, none.stdout) == (0, "none: 0 databases\n")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_several_named_databases_say_what_they_hold_back(project: Project, framework: str) -> None:
    project.package("app")
    project.revision("app", "app_1", upgrade="op.create_table('users', sa.Column('name', sa.Text()))")
    urls = {name: URLS[framework].replace("app.db", f"{name}.db") for name in ("a", "b")}
    config: dict[str, Any] = {"SQLALCHEMY_BINDS": urls, "AMPHO_DATABASES": {"a": ["app"], "b": ["app"]}}
    with facade(project, framework, [], URLS[framework], **config) as each:
        each.call("upgrade")
        project.revision("app", "app_2", "app_1", upgrade="op.drop_table('users')", message="Drop the users")
        command = ("db-up", *PRE, "-d", "a", "-d", "b")
        line = "  app_2  Drop the users (post, inferred: drops the table users)"
        held = f"Held back in a, b for 'ampho db-up --phase post -d a -d b':\n{line}\n"
        assert each.run(*command).stdout.endswith(held)
        assert each.run(*command, "--plan").stdout.endswith(held)
        found = json.loads(each.run(*command, "--json").stdout)["run"]["plan"]["held_back"]
        assert [(step["revision"], step["database"]) for step in found] == [("app_2", "a"), ("app_2", "b")]
        ready = each.run("db-check", "--deploy", *PRE)
        assert (ready.exit_code, ready.stdout) == (0, "All 2 databases have what this release of the app needs.\n")


def test_many_databases_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """The steps of different databases are equal, but not the same objects, since worker processes send them."""

    def step(name: str) -> Step:
        return Step(Revision(name, "orders", ""), Direction.UPGRADE, phase=Phase.POST, database="tenants/t0")

    tally = Tally("ampho db-up --phase pre -d")
    for number in range(1200):
        kept = (step("orders_2"), step("orders_3")) if number % 2 else (step("orders_3"),)
        tally.add(Ending(f"tenants/t{number:04}", FleetOutcome.UP_TO_DATE, held_back=kept))
    report = tally.report()
    assert [(each.step.revision.id, len(each.databases)) for each in report.held_back] == [
        ("orders_2", 600),
        ("orders_3", 1200),
    ]
    with click.Context(click.Command("db-up")) as ctx:
        print_text(report, ctx)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "Held back for 'ampho db-up --phase post':",
        "  orders_2   (post) in 600 databases",
        "  orders_3   (post) in 1,200 databases",
    ]
