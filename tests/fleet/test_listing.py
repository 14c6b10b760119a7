"""Groups of databases: how an app lists them, and how commands select them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zigzag
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from servers import Database as Server
from tenants import files

from ampho import Database
from ampho.errors import ConfigurationError, DatabaseError, DatabaseNameError, DatabasesError

CREATE = "op.create_table('{0}', sa.Column('id', sa.Integer, primary_key=True))"
DROP = "op.drop_table('{0}')"
NAMES = ("acme", "apex", "zeta")


def table(name: str) -> dict[str, str]:
    return {"upgrade": CREATE.format(name), "downgrade": DROP.format(name)}


def url(framework: str, name: str) -> str:
    return f"{URLS[framework].partition(':')[0]}:///{name}.db"


@pytest.fixture
def shop(project: Project) -> Project:
    for name in ("shop", "orders"):
        project.package(name)
    project.revision("shop", "shop_1", **table("tenants"))
    project.revision("orders", "orders_1", **table("orders"), depends_on="shop_1")
    project.revision("orders", "orders_2", "orders_1", **table("lines"))
    return project


@pytest.fixture(params=FRAMEWORKS)
def each(request: pytest.FixtureRequest, shop: Project) -> Iterator[Facade]:
    """An app whose packages are ``shop``, in one database, and ``orders``, in one for each tenant."""
    with facade(shop, request.param, ["shop"], URLS[request.param]) as made:

        @made.ampho.databases("tenants", packages=["orders"])  # type: ignore[untyped-decorator]
        def tenants() -> Iterator[Database]:
            for name in NAMES:
                yield Database(name, url=url(request.param, name))

        yield made


def listing(each: Facade, function: Any, group: str = "clients") -> None:
    each.ampho.databases(group, packages=["orders"])(function)


def test_a_command_on_one_database_of_a_group_is_the_same_as_on_any_other(each: Facade) -> None:
    assert each.run("db-up").exit_code == 0
    result = each.run("db-up", "-d", "tenants/acme")
    assert result.exit_code == 0, result.output
    assert each.run("db-current", "-d", "tenants/acme").stdout == "orders  orders_2 (head)\n"
    assert each.run("db-current", "-d", "tenants/zeta").stdout.startswith("orders  nothing applied")
    assert each.run("db-down", "-y", "-d", "tenants/acme").exit_code == 0
    assert each.call("current", database="tenants/acme").packages[0].current == ("orders_1",)
    assert each.run("db-stamp", "orders", "-d", "tenants/apex").exit_code == 0
    assert each.call("status", database="tenants/apex").database == "tenants/apex"
    assert each.call("deployment", database="tenants/apex").status == "up to date"
    assert [entry.database for entry in each.call("log", database="tenants/apex")] == ["tenants/apex"] * 2
    assert "CREATE TABLE orders" in each.run("db-up", "--sql", "-d", "tenants/zeta").stdout
    assert each.run("db-graph", "-d", "tenants/acme").exit_code == 0
    assert each.run("db-lint", "-d", "tenants/acme").exit_code == 0
    assert each.run("db-up", "--plan", "-d", "tenants/zeta").exit_code == 0
    assert each.run("db-wait", "-d", "tenants/apex").exit_code == 0


def test_databases_in_which_nothing_was_found_are_counted(each: Facade, shop: Project) -> None:
    shop.package("blank")
    shop.revision("blank", "blank_1")
    framework = "quart" if each.ampho.is_async else "flask"
    each.ampho.databases("clients", packages=["blank"])(
        lambda: [Database(name, url=url(framework, f"client_{name}")) for name in NAMES]
    )
    each.call("upgrade", database=["default", "tenants", "clients"])
    assert each.run("db-check", "-d", "clients").stdout == "clients: no differences in 3 databases.\n"
    assert each.run("db-lint", "-d", "tenants").stdout == "tenants: no findings in 3 databases.\n"
    assert each.run("db-lint", "-d", "tenants/acme", "-d", "default").stdout.startswith("default:\n")

    shop.revision("orders", "orders_3", "orders_2", upgrade="op.drop_table('lines')")
    each.call("upgrade", database="tenants/a*")
    found = each.run("db-lint", "-d", "tenants").stdout
    assert found.startswith("tenants/zeta:\norders_3  (")
    assert found.endswith("\n\ntenants: no findings in 2 databases.\n")


def test_names_patterns_and_groups_select_databases(each: Facade) -> None:
    each.call("upgrade")
    assert list(each.call("current", database="tenants").databases) == [f"tenants/{name}" for name in NAMES]
    assert list(each.call("current", database="tenants/a*").databases) == ["tenants/acme", "tenants/apex"]
    assert list(each.call("current", database="*").databases) == ["default", *(f"tenants/{name}" for name in NAMES)]
    assert list(each.call("current", database=["tenants/zeta", "default"]).databases) == ["default", "tenants/zeta"]
    assert each.call("current").packages[0].package == "shop"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tenants/acne", r"The group tenants has no database tenants/acne. Did you mean tenants/acme\?"),
        ("tenants/x*", r"The group tenants has no database that matches tenants/x\*."),
        ("tenant", r"tenant is not a database in which a package lives. Did you mean tenants\?"),
        ("tenants/", "tenants/ is not a database in which a package lives"),
        ("acme", "The databases are default, tenants/NAME. For one of a group, write 'tenants/acme'."),
        ("a*", r"For databases of a group, write 'tenants/a\*'."),
        ("tenants/zet?", r"no database tenants/zet\?. In a pattern, only '\*' has a meaning."),
        ("", "^'' is not a database in which a package lives. The databases are default, tenants/NAME. To add one,"),
    ],
)
def test_a_name_that_selects_nothing_is_an_error(each: Facade, name: str, message: str) -> None:
    with pytest.raises(DatabaseNameError, match=message):
        each.call("current", database=name)


def test_a_pattern_that_the_shell_has_replaced_is_recognized(each: Facade, shop: Project) -> None:
    for name in ("acme", "zeta"):
        shop.write(f"tenants/{name}", "")
    quote = "The shell replaced {0} with the names of files. Quote it, as in -d '{0}'."
    for pattern, *names in (("*", "orders", "shop", "tenants"), ("tenants/*", "tenants/acme", "tenants/zeta", "x")):
        assert quote.format(pattern) in each.run("db-up", "-d", *names).stderr
    assert each.error_line("db-up", "-d", "tenants/acme", "tenants/zeta").endswith(quote.format("tenants/*"))
    assert each.error_line("db-check", "-d", "shop", "tenants").endswith(quote.format("*"))
    assert "shell" not in each.run("db-check", "-d", "tenants/apex", "shop").stderr
    assert "shell" not in each.run("db-up", "-d", "tenants/acme", "x", "y").stderr


def test_a_command_on_one_database_refuses_a_group(each: Facade) -> None:
    for name in ("tenants", "tenants/a*"):
        with pytest.raises(DatabaseNameError, match=rf"db-down uses one database, and {name[:7]}.* stands for several"):
            each.call("downgrade", database=name)
    with pytest.raises(DatabaseNameError, match="for example '--database tenants/NAME'"):
        each.call("downgrade", database="*")
    with pytest.raises(DatabaseNameError, match="the app has several: default, tenants/NAME"):
        each.call("downgrade")


def test_a_downgrade_is_refused_while_databases_of_a_group_depend_on_it(each: Facade) -> None:
    scheme = URLS["quart" if each.ampho.is_async else "flask"].partition(":")[0]
    places = {"folder": "/proc", "missing": "/nowhere/a.db"}
    listing(each, lambda: [Database(name, url=f"{scheme}:///{place}") for name, place in places.items()])
    each.call("upgrade")
    each.call("upgrade", database="tenants/a*")
    each.call("upgrade", "orders_1", database="tenants/zeta")
    refused = each.error_line("db-down", "-d", "default", "-y")
    assert (
        "Revisions in the databases tenants/acme, tenants/apex, tenants/zeta depend on those that '-1' reverts"
        in refused
    )
    assert "First revert them in each, with 'ampho db-down orders@-1 --database tenants/acme'." in refused

    for name in NAMES:
        each.call("downgrade", "orders@base", database=f"tenants/{name}")
    done = each.run("db-down", "-d", "default", "-y")
    assert done.exit_code == 0, done.output
    assert "cannot check whether these databases depend on what is reverted: clients/folder. To see why" in done.stderr


def test_a_package_of_a_group_is_not_in_the_default_database(each: Facade) -> None:
    each.call("upgrade")
    assert [package.package for package in each.call("status")] == ["shop"]
    with pytest.raises(DatabaseNameError, match=r"orders lives in the group tenants\. Add --database tenants/NAME"):
        each.call("upgrade", "orders")


def test_what_a_tenant_needs_in_the_default_database_comes_first(each: Facade) -> None:
    with pytest.raises(Exception, match="depends on shop_1, which is not applied to the database default"):
        each.call("upgrade", database="tenants/acme")


def failing() -> Iterator[Database]:
    yield Database("acme", url="sqlite:///acme.db")
    raise RuntimeError("postgresql://me:canary@host/db is down")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (failing, rf"failing, which lists the group clients, failed at .*{Path(__file__).name}:\d+: RuntimeError: "),
        (lambda: [Database("a", schema="a"), Database("a", schema="b")], "listed two databases with the name a"),
        (lambda: ["acme"], "listed an object of type str. List ampho.Database objects"),
        (lambda: None, "^(clients: )?The function <lambda>, which lists the group clients, returned an object of type"),
        (lambda: [Database("a/b", schema="a")], "'a/b', that has a name that is empty, or that contains '/'"),
        (lambda: [Database("a*", schema="a")], r"'a\*', that has a name"),
        (lambda: [Database("a b", schema="a")], "'a b', that has a name"),
        (lambda: [Database("", schema="a")], "'', that has a name"),
    ],
)
def test_a_function_that_fails_is_named(each: Facade, function: Any, message: str) -> None:
    listing(each, function)
    with pytest.raises(ConfigurationError, match=message) as raised:
        each.call("current", database="clients")
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "clients/acme has no url= and no schema="),
        ({"url": "postgresql//me:canary@host"}, "url= of clients/acme is not a database URL"),
        (
            {"schema": "acme"},
            "schema= of clients/acme names the schema acme, but sqlite has no schemas inside a database",
        ),
    ],
)
def test_a_database_that_cannot_be_used_is_named(each: Facade, given: dict[str, str], message: str) -> None:
    listing(each, lambda: [Database("acme", **given)])
    assert message in each.error_line("db-current", "-d", "clients/acme")
    assert "canary" not in repr(Database("acme", **given))


def test_a_driver_of_the_other_kind_is_an_error(each: Facade) -> None:
    other = "postgresql+psycopg2://me:canary@host/db" if each.ampho.is_async else url("quart", "acme")
    listing(each, lambda: [Database("acme", url=other)])
    line = each.error_line("db-current", "-d", "clients/acme")
    assert ("an async one is needed" if each.ampho.is_async else "a sync one is needed") in line
    assert "canary" not in line


@pytest.mark.parametrize("name", ["default", "a/b", "a*", "", "a b"])
def test_a_group_cannot_have_any_name(each: Facade, name: str) -> None:
    with pytest.raises(ConfigurationError, match="group"):
        each.ampho.databases(name, packages=["orders"])


def test_a_misspelled_package_of_a_group_is_an_error_for_the_group_only(each: Facade) -> None:
    each.ampho.databases("clients", packages=["orders", "ordrs"])(
        lambda: [Database("acme", url=url("quart" if each.ampho.is_async else "flask", "acme"))]
    )
    assert each.run("db-up").exit_code == 0
    assert each.run("db-up", "-d", "tenants").exit_code == 0
    for command in ("db-up", "db-status", "db-check --deploy"):
        line = each.error_line(*command.split(), "-d", "clients")
        assert line.startswith("There is no package ordrs. Check the spelling in packages= of the group clients, and ")


def test_a_group_and_a_bind_cannot_have_one_name(shop: Project) -> None:
    with facade(shop, "flask", ["shop"], URLS["flask"], SQLALCHEMY_BINDS={"clients": "sqlite:///x.db"}) as each:
        listing(each, list)
        with pytest.raises(ConfigurationError, match="The group clients has the name of a database in SQLALCHEMY_BIND"):
            each.call("current")
        with pytest.raises(ConfigurationError, match="The group clients exists"):
            listing(each, list)


def test_async_functions_list_databases_on_quart(each: Facade) -> None:
    async def generator() -> AsyncIterator[Database]:
        yield Database("acme", url=url("quart", "acme"))

    async def function() -> list[Database]:
        return [Database("acme", url=url("quart", "acme"))]

    for number, listed in enumerate((generator, function)):
        listing(each, listed, f"clients{number}")
        if each.ampho.is_async:
            found = each.call("current", database=[f"clients{number}", "default"])
            assert list(found.databases) == ["default", f"clients{number}/acme"]
        else:
            with pytest.raises(ConfigurationError, match=r"is async\. On Flask, write a plain function or generator"):
                each.call("current", database=f"clients{number}")


def test_a_function_that_needs_a_table_of_the_default_database(each: Facade) -> None:
    def waiting() -> Iterator[Database]:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("SELECT * FROM tenants")
        yield Database("acme", schema="acme")

    listing(each, waiting)
    line = each.error_line("db-current", "-d", "clients")
    assert line.endswith(
        "no such table: tenants. If a revision creates the table, first run 'ampho db-up --database default'."
    )


def test_a_function_that_fails_does_not_fail_what_needs_no_group(shop: Project) -> None:
    with facade(shop, "flask", ["shop"], URLS["flask"]) as each:
        listing(each, failing)
        result = each.run("db-up")
        assert result.exit_code == 0, result.output
        assert "Warning: The function failing, which lists the group clients, failed at " in result.stderr
        assert each.run("db-status").exit_code == 0


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg", "mariadb")
def test_a_wrong_password_is_not_printed(shop: Project, database: Server) -> None:
    secret = "canary-s3cret"
    with facade(shop, zigzag.framework_of(database), ["shop"], database.url) as each:
        wrong = database.url.set(password=secret, database="other")  # the database of the app is not one of a group
        listing(each, lambda: [Database("acme", url=wrong), Database("gone", url=wrong.set(port=9))])
        for command in (
            ("db-status", "-d", "clients"),
            ("db-status", "--json", "-d", "clients"),
            ("db-current", "-d", "clients/acme"),
            ("db-current", "-d", "clients"),
            ("db-up", "-d", "clients"),
            ("db-wait", "--timeout", "0", "-d", "clients"),
            ("db-check", "--deploy", "-d", "clients"),
        ):
            result = each.run(*command)
            assert "acme" in result.output, command
            assert secret not in result.output, command
            assert "Traceback" not in result.output, command
        errors = re.findall(r"unreachable: (.*)", each.run("db-status", "-d", "clients").output)
        assert len(errors) == 2
        for error in errors:
            assert "/other: " in error
            assert error in each.run("db-up", "-d", "clients").output  # nothing else is masked there


@pytest.mark.parametrize("command", ["db-up", "db-up --plan", "db-status", "db-check --deploy", "db-wait --timeout 1"])
def test_a_group_without_databases_is_up_to_date(each: Facade, command: str) -> None:
    listing(each, list)
    assert each.run("db-up").exit_code == 0

    result = each.run(*command.split(), "-d", "clients")

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("command", ["db-current", "db-log", "db-check", "db-lint", "db-graph"])
def test_what_looks_at_each_database_of_a_group_without_any_is_an_error(each: Facade, command: str) -> None:
    listing(each, list)

    line = each.error_line(command, "-d", "clients")

    assert line == "There are no databases yet: the app lists none for clients."


def test_two_names_for_one_database_are_refused_before_anything_runs(each: Facade, shop: Project) -> None:
    (shop.folder / "instance").mkdir(exist_ok=True)
    (shop.folder / "instance" / "real.db").touch()
    (shop.folder / "instance" / "link.db").symlink_to("real.db")
    scheme = URLS["quart" if each.ampho.is_async else "flask"].partition(":")[0]
    path = shop.folder / "instance"
    listed = [
        Database("a", url=f"{scheme}:///a.db"),
        Database("real", url=f"{scheme}:///{path}/real.db"),
        Database("link", url=f"{scheme}:///link.db"),
        Database("z", url=f"{scheme}:///{path}/../instance/z.db"),
    ]
    listing(each, lambda: listed)
    error = each.error_line("db-up", "-d", "clients")
    assert error.startswith("clients/real and clients/link are two names for one database. ")
    for command in ("db-status -d clients", "db-up --all -k", "db-current -d clients/*", "db-up --plan -d clients"):
        assert "clients/real and clients/link" in each.error_line(*command.split()), command
    assert (path / "a.db").stat().st_size == 0  # SQLite creates it when a command looks at it
    assert each.run("db-up", "-d", "clients/real").exit_code == 0  # which needs none of the others
    assert each.run("db-up", "-d", "clients/z").exit_code == 0

    listed[1:3] = []
    listing(each, lambda: [Database("same", url=f"{scheme}:///z.db")], "others")
    assert each.run("db-up", "-d", "others/same").stdout == "Nothing to do: everything is applied to others/same.\n"
    assert "clients/z and others/same" in each.error_line("db-up", "-d", "clients", "-d", "others")
    listing(each, lambda: [Database("same", url=f"{scheme}:///{path}/app.db")], "third")
    assert "default and third/same are two names for one database" in each.error_line("db-up", "-d", "third/same")


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg", "mariadb")
def test_two_names_for_one_database_of_a_server(shop: Project, database: Server) -> None:
    url = database.url
    with facade(shop, zigzag.framework_of(database), ["shop"], url) as each:
        listed = [Database("main", url=url.set(drivername=url.get_backend_name(), username="other", password="x" * 9))]
        listing(each, lambda: listed)
        assert "default and clients/main are two names" in each.error_line("db-up", "-d", "clients")
        if database.backend == "postgresql":
            listed[0] = Database("main", schema="public")
            assert "default and clients/main are two names" in each.error_line("db-up", "-d", "clients/main")
        assert database.tables() == []
    if database.driver == "postgresql+psycopg":
        chosen = url.update_query_dict({"options": "-csearch_path=acme,public"})
        with facade(shop, "flask", ["shop"], chosen) as each:
            listing(each, lambda: [Database("acme", schema="acme")])
            assert "default and clients/acme are two names" in each.error_line("db-up", "-d", "clients")


def test_a_rebase_looks_at_all_databases_of_the_group(each: Facade, shop: Project) -> None:
    each.call("upgrade")
    for number in (1, 2):
        shop.revision("orders", f"orders_180000000{number}", "orders_2")
    assert "has 2 parallel heads" in each.run("db-current", "-d", "tenants/acme").output
    each.call("upgrade", "orders_1800000002", database="tenants/apex")
    failed = each.error_line("db-rebase", "orders")
    assert failed.startswith("tenants/apex: Revisions of the later line are already applied: orders_1800000002.")

    each.call("downgrade", "orders_2", database="tenants/apex")
    result = each.run("db-rebase", "orders")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "orders_1800000002" in each.run("db-heads").stdout
    each.call("upgrade", database="tenants")
    assert each.call("survey", "tenants").others == ()


def test_a_database_of_a_group_that_cannot_be_used_only_fails_itself(each: Facade) -> None:
    framework, names = "quart" if each.ampho.is_async else "flask", ["here", "there"]
    gone = url(framework, "/dev/null/gone")
    listing(each, lambda: [Database("gone", url=gone), *(Database(name, url=url(framework, name)) for name in names)])
    each.call("upgrade")
    result = each.run("db-up", "--plan", "-d", "clients", "--json")
    assert result.exit_code == 4, result.output
    assert result.stderr.startswith("Warning: clients/gone: Cannot connect to ")
    plan = json.loads(result.stdout)["plan"]
    assert plan["left_out"] == ["clients/gone"]
    assert {step["database"] for step in plan["steps"]} == {"clients/here", "clients/there"}
    failed = each.run("db-up", "--sql", "-d", "clients/here", "-d", "clients/there")
    assert "db-up --sql works on one database at a time. Repeat the command for each." in failed.stderr
    failed = each.run("db-up", "--plan", "-d", "clients", "orders_3")
    assert failed.stderr.startswith("Error: 3 of 3 databases failed.\n")

    with pytest.raises(DatabasesError) as caught:
        each.call("upgrade", "+1", database="clients", create=True)
    assert list(caught.value.errors) == ["clients/gone"]
    assert list(caught.value.results) == ["clients/here"]
    with pytest.raises(DatabasesError):
        each.call("upgrade", database="clients")
    with pytest.raises(DatabaseError, match="clients/gone: Cannot connect to"):
        each.call("upgrade", database="clients")  # the others are up to date
    assert each.call("survey", "clients").counts[-1].number == 2
    with pytest.raises(DatabaseError, match="clients/gone: The folder"):
        each.call("upgrade", database="clients/gone", create=True)
    each.ampho.databases("closed", packages=["orders"])(lambda: [Database("a", url=gone), Database("b", url=gone[:-3])])
    assert each.run("db-up", "--plan", "-d", "closed").stderr.startswith("Error: 2 of 2 databases failed.\n")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_alembic_cannot_connect_to_a_database_of_a_group(project: Project, framework: str) -> None:
    files(project, framework, 2)
    shutil.rmtree(project.migrations("orders"))
    project.run("ampho", "db-init", "orders")

    def fails(*command: str) -> str:
        failed = project.run("alembic", "-c", "orders/migrations/alembic.ini", *command, check=False)
        assert failed.exit_code == 1
        return failed.stderr.splitlines()[-1]  # Alembic prints a traceback for each error of env.py

    for name in ("tenants/t001", "tenants/nobody"):
        assert f"Use ampho instead, as in 'ampho db-up --database {name}'" in fails("-x", f"database={name}", "current")
    assert "Name one of them" in fails("-x", "database=tenants", "current")
    assert "Use ampho instead, as in 'ampho db-up --database tenants/NAME'" in fails("current")


def test_an_upgrade_lists_a_group_once(each: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    each.call("upgrade")
    monkeypatch.setattr("ampho.migrate.project._REMEMBERED", 1)  # instead of more databases
    calls: list[str] = []

    def clients() -> Iterator[Database]:
        calls.append("clients")
        framework = "quart" if each.ampho.is_async else "flask"
        yield from (Database(name, url=url(framework, f"client_{name}")) for name in NAMES)

    listing(each, clients)
    assert len(each.call("plan", database="clients").steps) == 6
    assert calls == ["clients"]
    assert len(each.call("upgrade", database="clients", create=True).steps) == 6
    assert calls == ["clients"] * 3  # also to create them


def test_what_was_not_looked_at_is_said(each: Facade) -> None:
    listed: list[str] = []

    def clients() -> Iterator[Database]:
        listed.append("clients")
        return iter(())

    listing(each, clients)
    each.run("db-up")
    for command in ("db-check --deploy", "db-status", "db-wait"):
        listed.clear()
        result = each.run(*command.split())
        assert result.exit_code == 0, result.output
        note = f"Databases of groups were not looked at: {len(NAMES)} of tenants. "
        assert result.stderr == f'{note}To look at all databases, add --database "*".\n', command
        assert listed == ["clients"], command
        assert "not looked at" not in each.run(*command.split(), "-d", "default").stderr
    assert "not looked at" not in each.run("db-status", "shop").stderr


def test_ctrl_c_ends_an_upgrade_in_the_commands_own_process(each: Facade, shop: Project) -> None:
    each.call("upgrade")
    shop.revision("orders", "orders_3", "orders_2", upgrade="import os, time\nos.kill(os.getpid(), 2)\ntime.sleep(60)")
    waiting = threading.Event()
    thread = threading.Thread(target=waiting.wait)
    thread.start()  # so that the command cannot fork, and the app only exists in this process
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process ignores it
    try:
        result = each.run("db-up", "-d", "tenants", "--json")
    finally:
        signal.signal(signal.SIGINT, before)
        waiting.set()
        thread.join()
    assert result.exit_code == 130, result.output
    found = json.loads(result.stdout)["fleet"]
    assert found["outcomes"] == {"interrupted": 1, "skipped": 2}
    assert found["failures"][0]["cause"].startswith("The revision was rolled back")
    assert each.call("current", database="tenants/acme").packages[0].current == ("orders_2",)


def test_a_database_that_is_removed_from_its_group_is_not_waited_for(each: Facade) -> None:
    names = ["acme", "zeta"]
    framework = "quart" if each.ampho.is_async else "flask"

    def clients() -> Iterator[Database]:
        yield from (Database(name, url=url(framework, f"client_{name}")) for name in names)
        names[:] = ["acme"]

    listing(each, clients)
    each.call("upgrade", database=["default", "clients/acme"])
    names[:] = ["acme", "zeta"]
    assert each.call("wait", timeout=20, database="clients").findings == ()
    with pytest.raises(DatabaseNameError):
        each.call("wait", timeout=20, database=["clients/acme", "clients/zeta"])
