"""How a database stands to the code: each state by its name and exit code, and waiting for others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from servers import Database

from ampho import Status
from ampho.errors import WaitTimeoutError

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

TABLE = "op.create_table('{0}', sa.Column('id', sa.Integer, primary_key=True))"
LISTED = ["core", "shop"]

Spoil: TypeAlias = Callable[[Project, Facade, Database], None]


@pytest.fixture
def opened(project: Project, database: Database) -> Iterator[Facade]:
    for package in LISTED:
        project.package(package)
    project.revision("core", "core_1", upgrade=TABLE.format("a"))
    project.revision("core", "core_2", "core_1", upgrade=TABLE.format("b"))
    project.revision("shop", "shop_1", None, "core_1", upgrade=TABLE.format("c"))
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, LISTED, database.url) as each:
        yield each


def file_of(project: Project, revision: str) -> Path:
    return next(project.folder.rglob(f"{revision}_*.py"))


def behind(project: Project, each: Facade, database: Database) -> None:
    each.call("downgrade", "core@-1")


def edited(project: Project, each: Facade, database: Database) -> None:
    path = file_of(project, "core_2")
    path.write_text(path.read_text("utf-8") + "\n# more\n", "utf-8")


def ahead(project: Project, each: Facade, database: Database) -> None:
    project.revision("core", "core_1700000000", "core_2")
    each.call("upgrade")
    file_of(project, "core_1700000000").unlink()


def missing(project: Project, each: Facade, database: Database) -> None:
    project.package("gone")
    project.revision("gone", "gone_1")
    each.app.config["AMPHO_MIGRATION_PACKAGES"] = [*LISTED, "gone"]
    each.call("upgrade")
    each.app.config["AMPHO_MIGRATION_PACKAGES"] = LISTED


def diverged(project: Project, each: Facade, database: Database) -> None:
    project.revision("core", "core_1b", "core_1")
    file_of(project, "core_2").unlink()
    project.revision("core", "core_2", "core_1b", upgrade=TABLE.format("b"))


def interrupted(project: Project, each: Facade, database: Database) -> None:
    each.call("downgrade", "shop@-1")
    database.run("UPDATE ampho_journal SET outcome = 'started' WHERE revision = 'shop_1' AND direction = 'downgrade'")


def corrupt(*rows: str) -> Spoil:
    def spoil(project: Project, each: Facade, database: Database) -> None:
        for row in rows:
            database.run(f"INSERT INTO alembic_version VALUES ('{row}')")

    return spoil


STATES = [
    (behind, Status.BEHIND, ("core_2",), 10),
    (edited, Status.EDITED, ("core_2",), 11),
    (ahead, Status.AHEAD, ("core_1700000000",), 12),
    (missing, Status.MISSING, ("gone_1",), 13),
    (diverged, Status.DIVERGED, ("core_1b",), 14),
    (interrupted, Status.INTERRUPTED, ("shop_1",), 15),
    (corrupt(""), Status.CORRUPT, ("",), 16),
    (corrupt("head"), Status.CORRUPT, ("head",), 16),
]


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
@pytest.mark.parametrize("state", STATES, ids=[f"{status}-{revisions}" for _, status, revisions, _ in STATES])
def test_each_state_has_its_name_and_exit_code(
    opened: Facade, project: Project, database: Database, state: tuple[Spoil, Status, tuple[str, ...], int]
) -> None:
    spoil, status, revisions, exit_code = state
    opened.call("upgrade")
    assert opened.run("db-check", "--deploy").stdout == "The database is up to date with the code.\n"
    spoil(project, opened, database)

    found = opened.call("deployment")
    assert found.status is status
    assert found.findings[0].revisions == revisions
    result = opened.run("db-check", "--deploy")
    assert result.exit_code == exit_code
    assert result.stdout.startswith(f"{status}: ")
    if status in (Status.CORRUPT, Status.INTERRUPTED):
        assert opened.run("db-up").exit_code == 1


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+psycopg", "mariadb+asyncmy")
def test_rows_that_other_tools_leave_are_understood(opened: Facade, database: Database) -> None:
    """An ancestor beside its descendant says nothing else than the descendant alone."""
    opened.call("upgrade")
    database.run("INSERT INTO alembic_version VALUES ('core_1')")
    assert opened.call("deployment").status is Status.UP_TO_DATE
    assert opened.call("upgrade").steps == ()
    assert [state.is_up_to_date for state in opened.call("current")] == [True, True]


def test_the_worst_comes_first(opened: Facade, project: Project, database: Database) -> None:
    opened.call("upgrade", "core")
    edited(project, opened, database)
    assert [finding.status for finding in opened.call("deployment").findings] == [Status.EDITED, Status.BEHIND]


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_who_waits_goes_on_when_another_is_done(opened: Facade, project: Project, database: Database) -> None:
    framework = "quart" if database.is_async else "flask"
    with pytest.raises(WaitTimeoutError, match="behind: core_1, core_2; behind: shop_1"):
        opened.call("wait", timeout=0)
    project.app(framework, LISTED, database.url)
    other = threading.Timer(0.5, lambda: project.run("ampho", "db-up"))
    other.start()
    begun = time.monotonic()
    assert opened.call("wait", timeout=30).findings == ()
    assert time.monotonic() - begun > 0.5
    other.join()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_db_wait_and_its_exit_code(project: Project, framework: str) -> None:
    project.package("core")
    project.revision("core", "core_1")
    with facade(project, framework, ["core"], URLS[framework]) as each:
        line = each.error_line("db-wait", "--timeout", "0.1", exit_code=3)
        assert "was not brought up to date within 0.1 s. It is behind: core_1." in line
        each.call("upgrade")
        assert each.run("db-wait").stdout == "The database is up to date with the code.\n"
        project.revision("core", "core_2", "core_1")
        each.call("upgrade")
        file_of(project, "core_2").unlink()
        assert each.run("db-wait").stdout.startswith("ahead: core_2 of core: ")
        assert each.run("db-wait", "--timeout", "-1").exit_code == 2
        assert each.run("db-check", "core", "--deploy").exit_code == 2
