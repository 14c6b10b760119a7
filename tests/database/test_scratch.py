"""``--scratch``: the history runs on a throwaway database, which is gone afterwards, and the app's is not touched."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import forks
import pytest
from facade import Facade, facade
from project import Project
from servers import Database, Server
from store import BOOKS, CUSTOMERS, MODELS, Store, open_store

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

PASSWORD = "p%40:/@#'"
ON_SERVERS = ("postgresql", "mariadb")
DATABASES = {
    "postgresql": "SELECT datname FROM pg_database",
    "mariadb": "SELECT schema_name FROM information_schema.schemata WHERE schema_comment = ''",
}


def scratch_databases(database: Database) -> set[str]:
    return {name for (name,) in database.query(DATABASES[database.backend]) if name.startswith("ampho_scratch_")}


@contextmanager
def nothing_left(database: Database) -> Iterator[None]:
    """Check that the app's database is as before, and that no throwaway database is left on the server."""
    as_it_was = (database.schema(), database.data())
    before = set() if database.backend == "sqlite" else scratch_databases(database)
    yield
    assert (database.schema(), database.data()) == as_it_was
    if database.backend != "sqlite":
        left = scratch_databases(database) - before
        for _ in range(50):  # what another worker's test has there goes away by itself
            left &= scratch_databases(database)
            if not left:
                return
            time.sleep(0.1)
        raise AssertionError(left)


@pytest.fixture
def bookshop(project: Project, database: Database) -> Store:
    """Accounts is written and applied; catalog is written and not applied; rows in the app's database."""
    bookshop = open_store(project, database)
    bookshop.auto("accounts")
    bookshop.run("db-up")
    bookshop.auto("catalog")
    database.run("INSERT INTO customers (id, email) VALUES (1, 'ann@example.com')", "CREATE TABLE by_hand (id INTEGER)")
    return bookshop


def test_revisions_and_checks_leave_the_apps_database_alone(bookshop: Store, database: Database) -> None:
    with nothing_left(database):
        assert bookshop.nothing_to_do("catalog", "--scratch").stderr == ""
        bookshop.auto("orders", "--scratch")
        checked = bookshop.run("db-check", "--scratch")
        assert checked.stdout.count("matches its models") == 3
        bookshop.models("catalog", BOOKS + "    isbn = sa.Column(sa.String(13))\n")
        drifted = bookshop.run("db-check", "catalog", "--scratch", exit_code=1)
        assert drifted.stdout.startswith("catalog  1 difference\n    + column books."), str(drifted)


@pytest.mark.drivers("sqlite")
def test_no_file_is_made_where_there_is_no_database(project: Project, database: Database) -> None:
    """SQLite's throwaway database is in memory: the app's may be unreachable, and is not looked at."""
    url = database.url.set(database=str(project.folder / "no" / "such" / "folder" / "app.db"))
    bookshop = open_store(project, database, {"accounts": CUSTOMERS, "catalog": BOOKS}, url=url)

    bookshop.auto("accounts", "--scratch")
    bookshop.auto("catalog", "--scratch")

    bookshop.run("db-check", "--scratch")
    assert not (project.folder / "no").exists()
    assert "Cannot connect" in bookshop.refused("db-check")


FAILURES = {
    "revision": ("op.execute('nonsense')", "failed at"),
    "import": ("pass\nimport no_such_module", "no_such_module"),
    "exit": ("raise SystemExit(3)", "sys.exit(3)"),
}


def test_it_is_dropped_after_a_failure(bookshop: Store, database: Database) -> None:
    parent = bookshop.read("catalog", bookshop.files("catalog")[0]).id
    for failure, (statements, words) in FAILURES.items():
        path = bookshop.project.revision("catalog", "catalog_9", parent, upgrade=statements)
        if failure == "import":
            path.write_text("import no_such_module\n" + path.read_text("utf-8"), "utf-8")

        with nothing_left(database):
            assert words in bookshop.refused("db-check", "--scratch")
            assert words in bookshop.refused("db-rev", "catalog", "More", "-a", "--scratch")


@pytest.mark.drivers(*ON_SERVERS)
def test_it_is_dropped_when_the_models_cannot_be_imported(bookshop: Store, database: Database) -> None:
    bookshop.models("catalog", "raise RuntimeError('no luck')")

    with nothing_left(database):
        assert "no luck" in bookshop.refused("db-check", "--scratch")


@pytest.mark.drivers(*ON_SERVERS)
def test_it_is_dropped_after_control_c(bookshop: Store, database: Database) -> None:
    """A real process, interrupted in the middle of a revision that runs on the throwaway database."""
    running = bookshop.project.folder / "running"
    wait = f"""
    import pathlib, time
    pathlib.Path({str(running)!r}).touch()
    for _ in range(100):
        time.sleep(0.1)
        op.execute("SELECT 1")
    """
    parent = bookshop.read("catalog", bookshop.files("catalog")[0]).id
    bookshop.project.revision("catalog", "catalog_9", parent, upgrade=wait)

    with nothing_left(database):
        process = bookshop.project.start("ampho", "db-check", "--scratch")
        wait_for(running, process)
        process.send_signal(signal.SIGINT)
        output = "".join(process.communicate(timeout=30))
        assert process.returncode not in (0, None)
        assert "Traceback" not in output


def wait_for(path: Path, process: subprocess.Popen[str] | forks.Process) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("may", [True, False], ids=["allowed", "refused"])
@pytest.mark.drivers(*ON_SERVERS)
def test_a_password_with_special_characters_works_and_is_told_to_nobody(
    project: Project, database: Database, request: pytest.FixtureRequest, may: bool
) -> None:
    server: Server = request.getfixturevalue(
        "postgres_server" if database.backend == "postgresql" else "mariadb_server"
    )
    name = f"scratch_{os.getpid()}_{time.monotonic_ns()}"
    rights = {
        "postgresql": "CREATEDB" if may else "NOCREATEDB",
        "mariadb": "ALL ON *.*" if may else f"ALL ON {database.name}.*",
    }[database.backend]
    with server.user(name, rights, PASSWORD):
        url = database.url.set(username=name, password=PASSWORD)
        bookshop = open_store(project, database, {"accounts": CUSTOMERS}, url=url)
        with nothing_left(database):
            results = [
                bookshop.run("db-rev", "accounts", "Tables", "-a", "--scratch", exit_code=0 if may else 1),
                bookshop.run("db-check", "--scratch", exit_code=0 if may else 1),
            ]

    for result in results:
        assert not any(secret in result.output for secret in (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD)))
        if not may:
            assert "cannot be created" in result.stderr
            assert "Use a database user who may create and drop databases." in result.stderr
    files = {path: data for path, data in project.files().items() if path != "wsgi.py"}
    assert not any(PASSWORD.encode() in data or quote(PASSWORD).encode() in data for data in files.values())


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_models_become_a_history_without_any_database(project: Project, database: Database) -> None:
    bookshop = open_store(project, database)

    for package in MODELS:
        bookshop.auto(package, "--scratch")
        bookshop.nothing_to_do(package, "--scratch")

    assert database.tables() == []
    bookshop.run("db-up")
    bookshop.run("db-check")


# ---- the histories run from nothing and back

COLORS = "op.create_table('colors', sa.Column('id', sa.Integer, primary_key=True))"
SHIRTS = "op.create_table('shirts', sa.Column('color', sa.Integer, sa.ForeignKey('colors.id')))"
ON_THREE = pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")


@dataclass
class Tables:
    """Two packages: ``a`` makes colors and drops them, and ``b`` makes and drops shirts, with a key to colors."""

    project: Project
    database: Database
    ids: tuple[str, str, str, str] = ("a_1600000001", "b_1600000002", "b_1600000003", "a_1600000004")

    def write(self, **downgrades: str) -> None:
        """Write the revisions.

        :param downgrades: what the downgrade of a revision does instead of undoing the upgrade, by its id.
        """
        first, second, third, fourth = self.ids
        steps = {
            first: (None, COLORS, "op.drop_table('colors')"),
            second: (None, SHIRTS, "op.drop_table('shirts')"),
            third: (second, "op.drop_table('shirts')", SHIRTS),
            fourth: (first, "op.drop_table('colors')", COLORS),
        }
        for revision, (down, upgrade, downgrade) in steps.items():
            self.project.package(revision[0])
            undo = downgrades.get(revision, downgrade)
            self.project.revision(revision[0], revision, down, upgrade=upgrade, downgrade=undo)

    @contextmanager
    def opened(self, **config: object) -> Iterator[Facade]:
        framework = "quart" if self.database.is_async else "flask"
        with facade(self.project, framework, ["a", "b"], self.database.url, **config) as each:
            yield each


@pytest.fixture
def tables(project: Project, database: Database) -> Tables:
    return Tables(project, database)


@ON_THREE
def test_a_check_runs_the_histories_from_nothing_and_back(tables: Tables) -> None:
    """Nothing is confirmed for that, where the app's database is protected; data may have nothing to undo."""
    tables.write()
    tables.project.revision("a", "a_1600000005", "a_1600000004", upgrade="op.execute('SELECT 1')")
    with tables.opened(AMPHO_PROTECTED=True) as each, nothing_left(tables.database):
        result = each.run("db-check", "--scratch")
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        assert result.stdout.count("matches its models") == 2


@pytest.mark.drivers("postgresql+asyncpg", "mariadb+pymysql")  # SQLite makes shirts without colors, and drops them
@pytest.mark.parametrize("typed", ["db-check --scratch", "db-check a --scratch"])
def test_a_check_names_the_revision_that_does_not_run_from_nothing(tables: Tables, typed: str) -> None:
    """Nothing tells that the colors have to stay until the shirts are gone: no date, and no ``depends_on``."""
    tables.ids = ("a_1", "b_1", "b_2", "a_2")
    tables.write()
    with tables.opened() as each, nothing_left(tables.database):
        line = each.error_line(*typed.split())
    assert line.startswith("Revision b_1 of b failed at ")
    only = "Only a throwaway database is affected."
    assert f"{only} Correct the revision's upgrade(). If it uses a table that another" in line
    assert "db-resolve" not in line


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_a_check_names_a_key_to_a_table_that_is_gone(tables: Tables) -> None:
    tables.ids = ("a_1", "b_1", "b_2", "a_2")
    tables.write()
    tables.project.revision("a", "a_2", "a_1", upgrade="op.rename_table('colors', 'hues')")
    for path in tables.project.folder.glob("b/migrations/versions/b_2*"):
        path.unlink()
    with tables.opened() as each:
        line = each.error_line("db-check", "--scratch")
    assert line.startswith(
        "The histories leave foreign keys to tables that do not exist: from the table shirts to colors."
    )
    assert line.endswith("Only a throwaway database is affected.")


@ON_THREE
def test_a_check_names_the_revision_that_does_not_go_back(tables: Tables) -> None:
    tables.write(b_1600000003="op.drop_table('no_such_table')")
    with tables.opened() as each, nothing_left(tables.database):
        line = each.error_line("db-check", "--scratch")
    assert line.startswith("Revision b_1600000003 of b failed at ")
    assert "Only a throwaway database is affected. Correct the revision's downgrade()" in line
    assert line.endswith("Completed before the failure: a_1600000004.")


NO_WAY_BACK = {
    "none at all": ("b_1600000003", None, "only 1 revision after it"),
    "an exception": ("a_1600000001", "raise RuntimeError('no way')", "only 3 revisions after it"),
    "nothing is done": ("a_1600000004", "pass", "nothing"),
    "NotImplementedError": ("b_1600000003", "if True: raise NotImplementedError", "only 1 revision after it"),
}


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
@pytest.mark.parametrize(("revision", "downgrade", "words"), NO_WAY_BACK.values(), ids=NO_WAY_BACK)
def test_a_check_goes_back_as_far_as_there_is_a_way(
    tables: Tables, revision: str, downgrade: str | None, words: str
) -> None:
    tables.write(**{revision: downgrade or "pass"})
    if downgrade is None:
        (path,) = tables.project.folder.glob(f"*/migrations/versions/{revision}*")
        path.write_text(path.read_text("utf-8").partition("def downgrade")[0], "utf-8")
    with tables.opened() as each:
        result = each.run("db-check", "--scratch")
    assert result.exit_code == 0, result.output
    assert f"Warning: {revision} of {revision[0]} cannot be reverted, so Ampho reverted {words}." in " ".join(
        result.stderr.split()
    )


@pytest.mark.drivers("sqlite+pysqlite", "mariadb+pymysql")
def test_a_history_with_a_schema_does_not_run_where_that_is_another_database(
    project: Project, database: Database
) -> None:
    project.package("blog")
    project.revision("blog", "blog_1", upgrade="op.drop_table('posts', schema='archive')")
    with facade(project, "flask", ["blog"], database.url) as each:
        line = each.error_line("db-check", "--scratch")

    assert "blog_1_by_hand.py names a schema, which is a database of its own here" in line
