"""The survey finds the states of many databases at the same time, on each driver, in files, databases, and schemas."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import zigzag
from facade import URLS, Facade, facade
from project import Project
from servers import Database as Server
from sqlalchemy import create_engine, make_url, text

import ampho
from ampho import Database, FleetStatus, Status

CREATE = "op.create_table('{0}', sa.Column('id', sa.Integer, primary_key=True))"
NAMES = ("ok1", "ok2", "behind", "empty", "ahead", "unfinished", "started", "gone")
SECRET = "canary-s3cret"


def write(project: Project) -> None:
    project.package("orders")
    project.revision("orders", "orders_1", upgrade=CREATE.format("one"), downgrade="op.drop_table('one')")
    project.revision("orders", "orders_2", "orders_1", upgrade=CREATE.format("two"), downgrade="op.drop_table('two')")


def databases_of(server: Server, folder: Any, *, schemas: bool) -> dict[str, Database]:
    """Return the databases of the group, which do not exist yet."""
    if schemas:
        return {name: Database(name, schema=f'{name} "%s') for name in NAMES}
    if server.backend == "sqlite":
        return {name: Database(name, url=server.url.set(database=str(folder / f"{name}.db"))) for name in NAMES}
    return {name: Database(name, url=server.url.set(database=f"{server.name}_{name}")) for name in NAMES}


@contextmanager
def created(server: Server, databases: dict[str, Database]) -> Iterator[None]:
    """Create the databases, except for ``gone``, which needs a password to be sure that none is printed."""
    gone = databases["gone"]
    if gone.url is not None:
        url = make_url(gone.url).set(username="me", password=SECRET, host="127.0.0.1", port=1)
        if server.backend == "sqlite":
            url = make_url(gone.url).set(database="/nowhere/gone.db")
        databases["gone"] = Database("gone", url=url)
    made = [one for name, one in databases.items() if name != "gone"]
    with server.connect() as connection:
        quote = connection.dialect.identifier_preparer.quote_identifier
        for each in made if server.backend != "sqlite" else ():
            what = f"SCHEMA {quote(each.schema)}" if each.schema else f"DATABASE {quote(make_url(each.url).database)}"
            connection.exec_driver_sql(f"CREATE {what}")
        try:
            yield
        finally:
            for each in made if server.backend != "sqlite" else ():
                if each.url is not None:
                    connection.exec_driver_sql(f"DROP DATABASE {quote(make_url(each.url).database)}")


def change(server: Server, database: Database, statement: str) -> None:
    """Run a statement on a database of the group."""
    url = server.sync_url if database.url is None else make_url(database.url).set(drivername=server.sync_url.drivername)
    engine = create_engine(url)
    with engine.begin() as connection:
        if database.schema:
            quoted = connection.dialect.identifier_preparer.quote_identifier(database.schema)
            connection.exec_driver_sql(f"SET search_path TO {quoted}")
        connection.execute(text(statement))
    engine.dispose()


@contextmanager
def fleet(project: Project, server: Server, folder: Any, *, schemas: bool) -> Iterator[tuple[Facade, Any]]:
    write(project)
    databases = databases_of(server, folder, schemas=schemas)
    with (
        created(server, databases),
        facade(project, zigzag.framework_of(server), [], server.url) as each,
    ):
        each.ampho.databases("tenants", packages=["orders"])(lambda: list(databases.values()))
        for name in ("ok1", "ok2", "ahead", "unfinished", "started"):
            each.call("upgrade", database=f"tenants/{name}")
        each.call("upgrade", "orders_1", database="tenants/behind")
        change(server, databases["ahead"], "UPDATE alembic_version SET version_num = 'orders_9'")
        for name, count in (("unfinished", 1), ("started", 0)):
            outcome = f"UPDATE ampho_journal SET outcome = 'started', statements = {count} WHERE revision = 'orders_2'"
            change(server, databases[name], outcome)
        yield each, databases


def check(each: Facade) -> FleetStatus:
    found = each.call("survey", "tenants")
    others = {state.database.partition("/")[2]: state for state in found.others}
    gone = others["gone"].status
    assert gone is (Status.NOT_CREATED if "does not exist" in str(others["gone"].error) else Status.UNREACHABLE)
    assert {name: state.status for name, state in others.items()} == {
        "ahead": Status.AHEAD,
        "behind": Status.BEHIND,
        "empty": Status.BEHIND,
        "gone": gone,
        "unfinished": Status.INTERRUPTED,
    }, [state.error for state in found.others]
    assert others["behind"].rows == ("orders_1",)
    assert others["ahead"].rows == ("orders_9",)
    assert [finding.revisions for finding in others["empty"].findings] == [("orders_1", "orders_2")]
    assert found.total == len(NAMES)
    assert Counter({(each.status, each.rows): each.number for each in found.counts})[
        Status.UP_TO_DATE, ("orders_2",)
    ] == found.total - len(others)
    assert found.status is gone
    return found


def test_databases(project: Project, database: Server, tmp_path: Any) -> None:
    with fleet(project, database, tmp_path, schemas=False) as (each, _):
        found = check(each)
        (gone,) = [state for state in found.others if state.database == "tenants/gone"]
        assert "Cannot connect to" in str(gone.error)
        assert SECRET not in repr(found) + str(gone.error)
        assert each.call("survey", "tenants", connections=1) == found
        states = {state.database: state.status for state in found.others}
        for name in NAMES[:-1]:  # the slow and complete way says the same
            single = each.call("deployment", database=f"tenants/{name}")
            assert single.status == states.get(f"tenants/{name}", Status.UP_TO_DATE)


@pytest.mark.drivers("postgresql")
def test_schemas_share_a_connection(project: Project, database: Server, tmp_path: Any) -> None:
    with fleet(project, database, tmp_path, schemas=True) as (each, databases):
        found = check(each)
        (gone,) = [state for state in found.others if state.database == "tenants/gone"]
        assert str(gone.error) == (
            f"The schema {databases['gone'].schema} does not exist. Create it, or run"
            " 'ampho db-up --create --database tenants/gone'. Nothing was changed."
        )
        for name in NAMES[:-1]:
            single = each.call("deployment", database=f"tenants/{name}")
            states = {state.database: state.status for state in found.others}
            assert single.status == states.get(f"tenants/{name}", Status.UP_TO_DATE)
        assert each.call("survey", "tenants", connections=1) == found


@pytest.fixture(params=["flask", "quart"])
def many(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    """Thirty files, of which 25 are behind."""
    write(project)
    scheme = URLS[request.param].partition(":")[0]
    with facade(project, request.param, [], URLS[request.param]) as each:

        @each.ampho.databases("tenants", packages=["orders"])  # type: ignore[untyped-decorator]
        def tenants() -> Iterator[Database]:
            for number in range(30):
                yield Database(f"t{number:02}", url=f"{scheme}:///t{number:02}.db")

        for number in range(5):
            each.call("upgrade", database=f"tenants/t{number:02}")
        yield each


def test_status_counts_and_lists_at_most_twenty(many: Facade) -> None:
    result = many.run("db-status", "-d", "tenants")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:5] == [
        "tenants: 30 databases",
        "",
        "databases  status      version rows",
        "       25  behind      nothing",
        "        5  up to date  orders_2",
    ]
    assert lines[6] == "tenants/t05: behind: orders_1, orders_2"
    assert lines[-2:] == [
        "... and 5 more. To list them, run 'ampho db-status --all -d tenants'.",
        "To upgrade those that are behind, run 'ampho db-up -d tenants'.",
    ]
    assert len(lines) == 6 + 20 + 2
    for listing in (["db-status", "--all"], ["--verbose", "db-status"]):
        assert many.run(*listing, "-d", "tenants").stdout.count("tenants/t") == 25
    found = json.loads(many.run("db-status", "--json", "-d", "tenants/t0*").stdout)["survey"]
    assert (found["total"], found["status"], found["exit_code"]) == (10, "behind", 10)
    assert [one["database"] for one in found["others"]] == [f"tenants/t{number:02}" for number in range(5, 10)]


def test_check_and_wait_have_the_exit_code_of_the_worst(many: Facade) -> None:
    assert many.run("db-check", "--deploy", "-d", "tenants").exit_code == 10
    assert many.run("db-status", "--check", "-d", "tenants").exit_code == 10
    assert many.run("db-status", "--check", "-d", "tenants/t00", "-d", "tenants/t01").exit_code == 0
    line = many.error_line("db-wait", "--timeout", "0", "-d", "tenants", exit_code=3)
    assert line.startswith("25 of 30 databases were not up to date within 0 s: tenants/t05 (behind), ")
    assert "'ampho db-status --database tenants' shows the reasons." in line
    assert many.run("db-wait", "-d", "tenants/t00", "-d", "tenants/t0*", "--timeout", "0").exit_code == 3
    result = many.run("db-wait", "-d", "tenants/t00", "-d", "tenants/t01", "--timeout", "0")
    assert (result.exit_code, result.stdout) == (0, "All databases are up to date with the code.\n"), result.output
    assert many.call("wait", timeout=0, database=["tenants/t03", "tenants/t04"]).status == "up to date"


def test_nothing_of_alembic_is_imported(project: Project) -> None:
    write(project)
    urls = "url=f'sqlite:///{name}.db'"
    body = f"""
from ampho import Database

@app.extensions["ampho"].databases("tenants", packages=["orders"])
def tenants():
    for name in ("a", "b"):
        yield Database(name, {urls})
"""
    project.app("flask", [], "sqlite:///app.db", extra_config={"AMPHO_MIGRATION_PACKAGES": []}, body=body)
    code = (
        "import sys, app; s = app.app.extensions['ampho'].survey('tenants'); print(s.total, 'alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project.folder, check=True, capture_output=True, text=True)
    assert done.stdout == "2 False\n"


def test_up_to_date_and_unreachable_databases_need_no_worker(many: Facade) -> None:
    many.ampho.databases("clients", packages=["orders"])(
        lambda: [
            Database("here", url=f"{URLS['quart' if many.ampho.is_async else 'flask'].partition(':')[0]}:///t00.db"),
            Database("gone", url=f"{URLS['quart' if many.ampho.is_async else 'flask'].partition(':')[0]}:////no/x.db"),
        ]
    )
    result = many.run("db-up", "--json", "-d", "clients", "--canary", "here")
    assert result.exit_code == 4, result.output
    report = json.loads(result.stdout)
    (found,) = [each for key, each in report.items() if isinstance(each, dict)]
    assert found["outcomes"] == {"up to date": 1, "not created": 1}
    assert found["failures"][0]["database"] == "clients/gone"
    assert "Cannot connect to" in found["failures"][0]["cause"]
    assert many.run("db-up", "-d", "clients", "--canary", "nobody").exit_code == 2


@contextmanager
def running_thread() -> Iterator[None]:
    """Run a thread, so that a command cannot fork; and no other process could load the app of a test."""
    waiting = threading.Event()
    thread = threading.Thread(target=waiting.wait)
    thread.start()
    try:
        yield
    finally:
        waiting.set()
        thread.join()


def test_an_app_that_no_other_process_can_load_is_upgraded_by_the_command_itself(many: Facade) -> None:
    with running_thread():
        result = many.run("db-up", "-d", "tenants", "-j", "2", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["fleet"]["outcomes"] == {"up to date": 5, "upgraded": 25}
    assert many.call("survey", "tenants").others == ()


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_a_command_that_upgrades_schemas_itself_keeps_no_connection(project: Project, database: Server) -> None:
    write(project)
    names = ("acme", "zeta")
    database.run(*(f"CREATE SCHEMA {name}" for name in names))
    with facade(project, zigzag.framework_of(database), [], database.url) as each:
        each.ampho.databases("tenants", packages=["orders"])(lambda: [Database(name, schema=name) for name in names])
        with running_thread():
            result = each.run("db-up", "-d", "tenants")
        assert "2 upgraded" in result.stdout, result.output
        assert each.ampho.kept is None
        each.dispose()
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert database.query(others) == [(0,)]


@pytest.mark.parametrize("framework", ["flask", "quart"])
def test_an_edited_env_py_is_asked_once_for_the_version_table(project: Project, framework: str) -> None:
    write(project)
    template = (
        Path(ampho.__file__).parent / "templates" / {"flask": "sync", "quart": "aio"}[framework] / "env.py"
    ).read_text()
    edited = template.replace("**environment.options(),", "**environment.options(), version_table='versions',")
    (project.folder / "orders" / "migrations" / "env.py").write_text(f"{edited}\nprint('asked')\n")
    scheme = URLS[framework].partition(":")[0]
    with facade(project, framework, [], URLS[framework], AMPHO_ENV_PACKAGE="orders") as each:
        each.ampho.databases("tenants", packages=["orders"])(
            lambda: [
                Database("gone", url=f"{scheme}:////nowhere/gone.db"),
                *(Database(f"t{number}", url=f"{scheme}:///t{number}.db") for number in range(6)),
            ]
        )
        for number in range(4):
            each.call("upgrade", database=f"tenants/t{number}")
        with redirect_stdout(StringIO()) as out:
            found = each.call("survey", "tenants")
        assert out.getvalue() == "asked\n"
        assert {(count.status, count.number) for count in found.counts} == {
            (Status.NOT_CREATED, 1),
            (Status.BEHIND, 2),
            (Status.UP_TO_DATE, 4),
        }


def test_a_request_signs_a_tenant_up(project: Project) -> None:
    """Ten requests at once, each of which migrates a database of its own, while another one is answered."""
    write(project)
    with facade(project, "quart", [], URLS["quart"]) as each:
        names: list[str] = []

        @each.ampho.databases("tenants", packages=["orders"])  # type: ignore[untyped-decorator]
        async def tenants() -> AsyncIterator[Database]:
            for name in names:
                await asyncio.sleep(0)
                yield Database(name, url=f"sqlite+aiosqlite:///{name}.db")

        @each.app.post("/sign-up/<name>")  # type: ignore[untyped-decorator]
        async def create(name: str) -> dict[str, Any]:
            names.append(name)
            run = await each.ampho.upgrade(database=f"tenants/{name}")
            return {"applied": [step.revision.id for step in run.steps]}

        async def requests() -> None:
            async with each.app.test_app():
                client = each.app.test_client()
                answers = await asyncio.gather(*(client.post(f"/sign-up/t{number}") for number in range(10)))
                for answer in answers:
                    assert await answer.get_json() == {"applied": ["orders_1", "orders_2"]}
                async with each.app.app_context():
                    found = await each.ampho.survey("tenants")
                assert (found.total, found.others) == (10, ())
                await each.ampho.dispose(each.app)

        asyncio.run(requests())


def test_threads_of_flask_sign_tenants_up(project: Project) -> None:
    """Six requests at once, two for each tenant: one upgrades its database, and the other finds nothing to do."""
    write(project)
    with facade(project, "flask", [], URLS["flask"]) as each:
        names = ["acme", "apex", "zeta"]
        each.ampho.databases("tenants", packages=["orders"])(
            lambda: [Database(name, url=f"sqlite:///{name}.db") for name in names]
        )

        @each.app.post("/sign-up/<name>")  # type: ignore[untyped-decorator]
        def create(name: str) -> dict[str, Any]:
            return {"steps": len(each.ampho.upgrade(database=f"tenants/{name}").steps)}

        def sign_up(name: str) -> int:
            answer: dict[str, int] = each.app.test_client().post(f"/sign-up/{name}").get_json()
            return answer["steps"]

        with ThreadPoolExecutor(6) as pool:
            assert sorted(pool.map(sign_up, names * 2)) == [0, 0, 0, 2, 2, 2]
        found = each.call("survey", "tenants")
        assert (found.total, found.others) == (3, ())


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_a_database_is_not_looked_at_in_the_schema_of_another(project: Project, database: Server) -> None:
    write(project)
    database.run("CREATE SCHEMA acme", "CREATE SCHEMA zeta")
    found = [
        Database("first", url=database.url, schema="acme"),
        Database("plain", url=database.url),
        Database("second", schema="zeta"),
    ]
    with facade(project, zigzag.framework_of(database), [], database.url) as each:
        each.ampho.databases("tenants", packages=["orders"])(lambda: found)
        each.call("upgrade", database="tenants/first")
        states = each.call("survey", "tenants", connections=1)
        assert states.total == len(found)
        assert [state.database for state in states.others] == ["tenants/plain", "tenants/second"]
