"""How a database stands to the code: each state by its name and exit code, and waiting for others."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from servers import Database

from ampho import Observer, Status
from ampho.errors import ConfigurationError, DivergedError, WaitTimeoutError

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


STATES = [
    (behind, Status.BEHIND, ("core_2",), 10),
    (edited, Status.EDITED, ("core_2",), 11),
    (ahead, Status.AHEAD, ("core_1700000000",), 12),
    (missing, Status.MISSING, ("gone_1",), 13),
    (diverged, Status.DIVERGED, ("core_1b",), 14),
    (interrupted, Status.INTERRUPTED, ("shop_1",), 15),
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
    if status in (Status.DIVERGED, Status.INTERRUPTED):
        assert revisions[0] in opened.error_line("db-up")
        assert revisions[0] in opened.run("db-current").stdout
    elif status is not Status.BEHIND:
        assert opened.call("upgrade").steps == ()


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_what_was_put_below_an_applied_revision_is_not_taken_for_applied(
    opened: Facade, project: Project, database: Database
) -> None:
    opened.call("upgrade", "core")
    diverged(project, opened, database)
    for specifier in ("heads", "core", "core_2"):
        with pytest.raises(DivergedError) as caught:
            opened.call("upgrade", specifier)
        assert caught.value.revisions == ("core_1b",)
    assert (
        "core_1b of core counts as applied, because a later revision is applied, but no record says that it ran"
        in str(caught.value)
    )
    assert "db-stamp core_2'. Nothing was changed." in str(caught.value)
    remedy = "no record says that it ran; revert what depends on it (core_2), "
    for command in ("db-current", "db-status"):
        assert (
            f"core_1b counts as applied because a later revision is applied, but {remedy}" in opened.run(command).stdout
        )
    assert remedy in opened.run("db-check", "--deploy").stdout
    assert [step.step.revision.id for step in opened.call("upgrade", "shop").steps] == ["shop_1"]
    assert opened.run("db-stamp", "core_2").stdout == (
        "Recorded that core_1b is applied, with its current file.\n"
        "Recorded that core_2 is applied, with its current file.\n"
    )
    assert opened.call("stamp", "core_2").recorded == ()
    assert opened.call("upgrade").steps == ()
    assert opened.call("deployment").status is Status.UP_TO_DATE


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_what_was_forgotten_and_is_back_is_not_said_to_have_never_run(
    opened: Facade, project: Project, database: Database
) -> None:
    opened.call("upgrade")
    text = (path := file_of(project, "core_2")).read_text("utf-8")
    path.unlink()
    opened.call("forget", "core_2")
    project.revision("core", "core_3", "core_1")
    opened.call("upgrade")
    path.write_text(text, "utf-8")
    project.revision("core", "core_3", "core_2")

    said = [
        opened.error_line("db-up", "core"),
        opened.run("db-current").stdout,
        opened.run("db-check", "--deploy").stdout,
    ]
    for line in said:
        assert "never run" not in line
        assert "as applied" in line
        assert "but no record says that it ran" in line
        assert "unless the database already has them, and record that with 'ampho db-stamp core_3'" in line
    opened.call("stamp", "core_3")
    assert opened.call("deployment").status is Status.UP_TO_DATE


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_who_takes_back_what_stands_above_gets_what_was_put_below(
    opened: Facade, project: Project, database: Database
) -> None:
    """No downgrade of what was never run runs, and its row never comes into being."""
    opened.call("upgrade", "core")
    before = database.tables()
    project.revision("core", "core_1a", "core_1", upgrade=TABLE.format("d"), downgrade="op.drop_table('d')")
    project.revision("core", "core_1b", "core_1a", upgrade=TABLE.format("e"), downgrade="op.drop_table('e')")
    project.revision("core", "core_2", "core_1b", upgrade=TABLE.format("b"), downgrade="op.drop_table('b')")
    with pytest.raises(DivergedError) as caught:
        opened.call("upgrade")
    assert caught.value.revisions == ("core_1a", "core_1b")
    assert "Revert what depends on them (core_2), and upgrade again" in str(caught.value)

    assert "core_1a" not in opened.call("downgrade_sql", "core_1")
    assert [step.step.revision.id for step in opened.call("downgrade", "-1").steps] == ["core_2"]
    assert database.rows() == ["core_1"]
    steps = [step.step.revision.id for step in opened.call("upgrade", "core").steps]
    assert steps == ["core_1a", "core_1b", "core_2"]
    assert sorted(database.tables()) == sorted([*before, "d", "e"])
    assert opened.call("deployment").findings[0].status is Status.BEHIND


@pytest.mark.drivers("sqlite+aiosqlite")
def test_all_that_a_later_dependency_stands_on_is_told(opened: Facade, project: Project, database: Database) -> None:
    project.package("more")
    opened.app.config["AMPHO_MIGRATION_PACKAGES"] = [*LISTED, "more"]
    project.revision("more", "more_1", upgrade=TABLE.format("m"), downgrade="op.drop_table('m')")
    opened.call("upgrade", "more")
    project.revision("more", "more_1", None, "core_2", upgrade=TABLE.format("m"), downgrade="op.drop_table('m')")
    assert opened.call("current").diverged == ("core_1", "core_2")
    for specifier in ("core_1", "core", "heads", "more"):
        with pytest.raises(DivergedError):
            opened.call("upgrade", specifier)
    assert [step.step.revision.id for step in opened.call("downgrade", "more@-1").steps] == ["more_1"]
    assert database.rows() == []
    assert len(opened.call("upgrade").steps) == 4
    assert opened.call("deployment").status is Status.UP_TO_DATE


@pytest.mark.drivers("sqlite+pysqlite")
def test_what_was_applied_without_a_journal_has_not_diverged(
    opened: Facade, project: Project, database: Database
) -> None:
    opened.app.config["AMPHO_JOURNAL_TABLE"] = None
    opened.call("upgrade", "core")
    del opened.app.config["AMPHO_JOURNAL_TABLE"]
    opened.call("upgrade")
    project.revision("shop", "shop_1", None, ["core_1", "core_2"], upgrade=TABLE.format("c"))  # which is a row
    assert opened.call("current").diverged == ()
    project.revision("core", "core_3", "core_2")
    opened.call("upgrade")
    file_of(project, "core_2").unlink()
    project.revision("core", "core_3", "core_1")
    project.revision("shop", "shop_1", None, "core_1", upgrade=TABLE.format("c"))
    assert opened.call("current").diverged == ()
    assert opened.call("upgrade").steps == ()


@pytest.mark.drivers("sqlite+aiosqlite")
def test_a_dependency_between_what_is_applied_corrupts_nothing(opened: Facade, project: Project) -> None:
    opened.call("upgrade")
    project.revision("shop", "shop_1", None, ["core_1", "core_2"], upgrade=TABLE.format("c"))
    assert [finding.status for finding in opened.call("deployment").findings] == [Status.EDITED]
    assert opened.run("db-up").stdout == "Nothing to do: everything is applied.\n"


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+psycopg")
def test_a_dependency_that_was_added_later_is_not_taken_for_applied(opened: Facade, project: Project) -> None:
    opened.call("upgrade", "core_1")
    opened.call("upgrade", "shop")
    project.revision("shop", "shop_1", None, ["core_1", "core_2"], upgrade=TABLE.format("c"))
    line = opened.error_line("db-up")
    assert line.startswith("core_2 of core counts as applied")
    assert "db-stamp core_2'" in line
    assert opened.run("db-stamp", "core_2").exit_code == 0
    assert opened.call("upgrade").steps == ()


@pytest.mark.drivers("sqlite+pysqlite", "mariadb+asyncmy")
def test_an_edited_file_is_marked(opened: Facade, project: Project, database: Database) -> None:
    opened.call("upgrade")
    assert opened.call("current", verbose=True).edited == ()
    project.revision("core", "core_3", "core_2")
    edited(project, opened, database)
    (finding, _) = opened.call("deployment").findings
    assert finding.means.endswith("if the edit makes no difference, accept it with 'ampho db-stamp core_2'")
    file_of(project, "core_3").unlink()
    assert opened.call("current").edited is None
    assert opened.call("current", verbose=True).edited == ("core_2",)
    assert "    applied  core_2  by hand  (head; edited)\n" in opened.run("db-current", "-v").stdout
    opened.call("stamp", "shop")
    assert opened.call("current", verbose=True).edited == ("core_2",)
    assert opened.call("stamp", "core").recorded == ("core_2",)
    assert opened.call("current", verbose=True).edited == ()
    edited(project, opened, database)
    assert opened.call("current", verbose=True).edited == ("core_2",)


Rows: TypeAlias = Sequence[str | None]

UNREADABLE: dict[str, tuple[Rows, str, str]] = {
    "null": ((None, "core_2"), "None", "cannot be a revision"),
    "empty": (("", "core_2", "shop_1"), "", "cannot be a revision"),
    "head": (("head",), "head", "cannot be a revision"),
    "twice": (("core_2", "core_2", "shop_1"), "core_2", "more than once"),
}


def put(database: Database, rows: Rows) -> None:
    """Write a version table as none of these tools would: without a primary key, and with any rows."""
    literals = ["NULL" if row is None else f"'{row}'" for row in rows]
    database.run(
        "DROP TABLE alembic_version",
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        *(f"INSERT INTO alembic_version VALUES ({literal})" for literal in literals),
    )


@pytest.mark.measured("pysqlite-twice", "pysqlite-null")
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_version_table_that_cannot_be_right_stops_what_relies_on_it(
    opened: Facade, database: Database, kind: str
) -> None:
    rows, row, words = UNREADABLE[kind]
    opened.call("upgrade", "core")
    before = database.data()
    put(database, rows)
    for command in ("db-up", "db-up core", "db-down", "db-down base", "db-stamp heads", "db-up -s"):
        assert words in opened.error_line(*command.split()), command
    told = [line for line in opened.run("db-current").stdout.splitlines() if words in line]
    assert len(told) == 1
    assert "'ampho db-stamp SPEC --purge'" in told[0]
    assert told[0] in opened.run("db-status").stdout
    drawn = opened.run("db-graph")
    assert (drawn.exit_code, drawn.stderr) == (0, f"Warning: {told[0]}\n")
    assert told[0] not in drawn.stdout
    found = opened.call("deployment")
    assert (found.status, found.findings[0].revisions) == (Status.CORRUPT, (row,))
    result = opened.run("db-check", "--deploy")
    assert (result.exit_code, words in result.stdout) == (16, True)
    assert "'ampho db-stamp SPEC --purge'" in result.stdout
    assert "Version rows to repair: " in opened.error_line("db-wait", "--timeout", "0", exit_code=3)

    assert opened.run("db-stamp", "core", "--purge").exit_code == 0
    assert opened.call("deployment").status is Status.BEHIND
    assert database.data() == before
    assert [step.step.revision.id for step in opened.call("upgrade").steps] == ["shop_1"]
    assert opened.call("deployment").status is Status.UP_TO_DATE


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+psycopg", "mariadb+asyncmy")
def test_a_row_beside_one_that_stands_on_it_is_told_and_does_no_harm(opened: Facade, database: Database) -> None:
    opened.call("upgrade", "core")
    put(database, ["core_1", "core_2"])
    found = opened.call("deployment")
    assert [(one.status, one.revisions, one.is_harmless) for one in found.findings] == [
        (Status.BEHIND, ("shop_1",), False),
        (Status.CORRUPT, ("core_1",), True),
    ]
    assert opened.run("db-check", "--deploy").exit_code == 10
    assert opened.call("upgrade", "core").steps == ()
    opened.call("upgrade")
    assert database.rows() == ["core_2", "shop_1"]

    put(database, ["core_1", "core_2", "shop_1"])
    result = opened.run("db-check", "--deploy")
    assert result.exit_code == 16
    assert result.stdout.startswith(
        "corrupt: core_1: not needed in the version table, which has the row of a revision that depends on it;"
    )
    assert [state.is_up_to_date for state in opened.call("current")] == [True, True]
    assert opened.call("wait", timeout=0).status is Status.CORRUPT
    assert opened.run("db-stamp", "core").exit_code == 0
    assert opened.call("deployment").status is Status.UP_TO_DATE


def test_the_worst_comes_first(opened: Facade, project: Project, database: Database) -> None:
    opened.call("upgrade", "core")
    edited(project, opened, database)
    assert [finding.status for finding in opened.call("deployment").findings] == [Status.EDITED, Status.BEHIND]


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_who_waits_goes_on_when_another_is_done(opened: Facade, project: Project, database: Database) -> None:
    framework = "quart" if database.is_async else "flask"
    with pytest.raises(WaitTimeoutError, match="Pending: core_1, core_2, shop_1"):
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
        assert "was not brought up to date within 0.1 s. Pending: core_1." in line
        each.call("upgrade")
        assert each.run("db-wait").stdout == "The database is up to date with the code.\n"
        project.revision("core", "core_2", "core_1")
        each.call("upgrade")
        file_of(project, "core_2").unlink()
        assert each.run("db-wait").stdout.startswith("ahead: core_2 of core: ")
        assert each.run("db-wait", "--timeout", "-1").exit_code == 2
        assert each.run("db-check", "core", "--deploy").exit_code == 2


class Heard(Observer):
    """Keeps what ``wait()`` says that it waits for, and the warnings."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warnings: list[str] = []

    def awaiting(self, what: str) -> None:
        self.said.append(what)

    def warned(self, message: str) -> None:
        self.warnings.append(message)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def waiting(project: Project, database: Database, url: object, **config: object) -> Iterator[Facade]:
    """Give an app whose one revision is applied to the database, which is reached by another address."""
    project.package("core")
    project.revision("core", "core_1", upgrade=TABLE.format("a"))
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["core"], database.url) as each:
        each.call("upgrade")
    with facade(project, framework, ["core"], url, **config) as each:  # type: ignore[arg-type]
        yield each


@pytest.mark.drivers("postgresql", "mariadb")
def test_a_server_that_is_not_up_yet_is_waited_for(project: Project, database: Database) -> None:
    assert database.url.host
    port, heard = free_port(), Heard()
    with (
        waiting(project, database, database.url.set(host="127.0.0.1", port=port)) as each,
        coming_up(port, (database.url.host, database.url.port or 0), 0.3),
    ):
        assert each.call("wait", timeout=30, observer=heard).status is Status.UP_TO_DATE
        each.dispose()  # which ends the connection
    (said,) = heard.said
    assert said.startswith("the database to answer: Cannot connect to ")
    assert f":{port}/" in said


@contextmanager
def coming_up(port: int, server: tuple[str, int], seconds: float) -> Iterator[None]:
    """Let two connections to a port reach a server, after some seconds in which nobody listens there."""

    def serve() -> None:
        time.sleep(seconds)
        with socket.create_server(("127.0.0.1", port)) as listener:
            for _ in range(2):  # the first one finds out whether the server answers
                with listener.accept()[0] as client, socket.create_connection(server) as other:
                    pass_on({client: other, other: client})

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    thread.join()


def pass_on(ends: dict[socket.socket, socket.socket]) -> None:
    while True:
        for ready in select.select(list(ends), [], [])[0]:
            data = ready.recv(1 << 16)
            if not data:
                return
            ends[ready].sendall(data)


@pytest.mark.drivers("sqlite")
def test_a_folder_that_is_not_there_yet_is_waited_for(project: Project, database: Database) -> None:
    late = Path(database.name).parent / "late" / "app.db"
    heard = Heard()

    def mount() -> None:
        late.parent.mkdir()
        late.write_bytes(Path(database.name).read_bytes())

    with waiting(project, database, database.url.set(database=str(late))) as each:
        threading.Timer(0.3, mount).start()
        assert each.call("wait", timeout=30, observer=heard).status is Status.UP_TO_DATE
    (said,) = heard.said
    assert f"the folder {late.parent} does not exist" in said


@pytest.mark.drivers("postgresql", "mariadb")
@pytest.mark.parametrize("what", [{"database": "not_there_yet"}, {"password": "wr0ng"}, {"host": "db.invalid"}])
def test_what_a_server_or_the_network_says_may_pass(project: Project, database: Database, what: dict[str, str]) -> None:
    with waiting(project, database, database.url.set(**what)) as each:  # type: ignore[arg-type]
        begun = time.monotonic()
        result = each.run("db-wait", "--timeout", "0.3", "--json")
    assert time.monotonic() - begun > 0.3
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["type"], error["exit_code"]) == (3, "WaitTimeoutError", 3)
    assert error["message"].startswith("The database did not become available within 0.3 s. Cannot connect to ")
    *told, last = result.stderr.splitlines()
    assert all(line.startswith("Waiting for the database to answer: Cannot connect to ") for line in told)
    assert last.startswith("Error: The database did not become available within 0.3 s. Cannot connect to ")
    assert "wr0ng" not in result.output


@pytest.mark.drivers("postgresql", "mariadb", "sqlite")
def test_what_the_driver_cannot_do_is_final(project: Project, database: Database) -> None:
    options = {"connect_args": {"no_such_argument": 1}}
    with waiting(project, database, database.url, SQLALCHEMY_ENGINE_OPTIONS=options) as each:
        heard = Heard()
        with pytest.raises(ConfigurationError, match="Check SQLALCHEMY_DATABASE_URI and SQLALCHEMY_ENGINE_OPTIONS"):
            each.call("wait", timeout=30, observer=heard)
        assert heard.said == []


@pytest.mark.drivers("postgresql", "mariadb")
def test_who_waits_says_what_for_and_who_works_on_it(opened: Facade, project: Project, database: Database) -> None:
    framework = "quart" if database.is_async else "flask"
    go = project.folder / "go"
    slow = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists():\n    time.sleep(0.05)"
    opened.call("upgrade", "core_1")
    project.revision("core", "core_2", "core_1", upgrade=slow)
    heard = Heard()

    class Helping(Heard):
        def awaiting(self, what: str) -> None:
            heard.awaiting(what)
            if what.endswith("; no process is migrating the database"):
                other.start()
            else:
                go.touch()

    project.app(framework, LISTED, database.url)
    other = threading.Thread(target=lambda: project.run("ampho", "db-up"))
    assert opened.call("wait", timeout=30, observer=Helping()).findings == ()
    other.join()
    first, second = heard.said[:2]
    assert first == "core_2, shop_1 to be applied; no process is migrating the database"
    assert second.startswith("core_2, shop_1 to be applied; the database is being migrated by ")
    assert f"{database.url.username}@" in second


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_warnings_are_said_once_while_it_waits(
    project: Project, framework: str, caplog: pytest.LogCaptureFixture
) -> None:
    project.package("core")
    project.package("empty")
    project.revision("core", "core_1")
    with facade(project, framework, ["core", "empty"], URLS[framework]) as each:
        heard = Heard()
        with pytest.raises(WaitTimeoutError):
            each.call("wait", timeout=1.1, observer=heard)
        assert heard.said == ["core_1 to be applied"]
        assert len(heard.warnings) == 1
        assert caplog.records == []
        result = each.run("db-wait", "--timeout", "0.6")
        assert (result.stdout, result.stderr.count("Warning: "), result.exit_code) == ("", 1, 3)
        assert "Waiting for core_1 to be applied.\n" in result.stderr
