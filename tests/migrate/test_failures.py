"""What a revision that fails leaves behind, which is nothing wherever the database can, and what is said about it.

Every failure is followed by a run that succeeds, in the same process: a failure must not stay in the app, its pool or
Alembic's globals.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import alembic.context
import alembic.op
import anyio
import pytest
from facade import Facade, facade, one_error_line
from project import Project
from servers import Database
from sqlalchemy import Engine, event, inspect, text
from sqlalchemy.util import await_only

from ampho import AmphoError
from ampho.errors import DatabaseError, NestedRunError, RevisionFailedError, RevisionFileError

AUTHOR = """
op.create_table("author", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(50)))
op.execute("INSERT INTO author VALUES (1, 'Ann')")
"""
NO_AUTHOR = 'op.drop_table("author")'
BOOK = """
op.create_table("book", sa.Column("id", sa.Integer, primary_key=True), sa.Column("title", sa.String(50)))
op.execute("INSERT INTO book VALUES (1, 'Sagas')")
"""
RUNS = "print('it runs', flush=True)\n"
# Each fails for another reason, after it has made a table and filled it.
TRANSACTIONAL = ("sqlite", "postgresql")


def on(database: Database) -> str:
    return "quart" if database.is_async else "flask"


@contextmanager
def running(project: Project, database: Database, **config: object) -> Any:
    with facade(project, on(database), ["core"], database.url, **config) as each:
        yield each


def two_revisions(project: Project, second: str, **header: Any) -> Path:
    """Write ``core_1``, which is fine, and ``core_2``, whose path is returned."""
    project.package("core")
    project.revision("core", "core_1", upgrade=AUTHOR, downgrade=NO_AUTHOR)
    return project.revision("core", "core_2", "core_1", upgrade=second, downgrade='op.drop_table("book")', **header)


def line_of(path: Path, words: str) -> int:
    return next(number for number, line in enumerate(path.read_text("utf-8").splitlines(), 1) if words in line)


def failure(each: Facade, method: str = "upgrade", *args: object) -> AmphoError:
    with pytest.raises(AmphoError) as caught:
        each.call(method, *args)
    assert alembic.op._proxy is None
    assert alembic.context._proxy is None
    assert str(caught.value).isprintable()
    return caught.value


def assert_at_first(database: Database) -> None:
    """Exactly the first revision is in the database."""
    assert database.data() == {"alembic_version": [("core_1",)], "author": [(1, "Ann")]}


def assert_at_second(database: Database) -> None:
    assert database.data() == {"alembic_version": [("core_2",)], "author": [(1, "Ann")], "book": [(1, "Sagas")]}


def repair(project: Project, each: Facade, database: Database) -> None:
    """Correct the file, and run again in the same process."""
    two_revisions(project, BOOK)
    each.call("upgrade")
    assert_at_second(database)


# ---- halfway ----


@pytest.mark.drivers(*TRANSACTIONAL)
def test_a_revision_that_fails_half_way_leaves_nothing_of_itself(project: Project, database: Database) -> None:
    path = two_revisions(project, BOOK + "op.execute('SELECT nonsense')")
    with running(project, database) as each:
        error = failure(each)
        assert_at_first(database)

        assert isinstance(error, RevisionFailedError)
        assert (error.revision, error.package, error.path) == ("core_2", "core", path)
        assert error.applied == ("core_1",)
        place = f"core/migrations/versions/core_2_by_hand.py:{line_of(path, 'nonsense')}"
        assert str(error).startswith(f"Revision core_2 of core failed at {place}: ")
        assert "[SQL: SELECT nonsense]. Its transaction was rolled back. Completed before the failure: core_1." in str(
            error
        )

        repair(project, each, database)


@pytest.mark.drivers("mariadb")
def test_where_ddl_cannot_be_rolled_back_the_message_says_so(project: Project, database: Database) -> None:
    two_revisions(project, BOOK + "op.execute('SELECT nonsense')")
    with running(project, database) as each:
        error = failure(each)

        assert "rolled back" not in str(error)
        assert "changes made before the failing statement may remain" in str(error)
        assert database.rows() == ["core_1"]
        assert "book" in database.tables()

        assert "db-resolve core_2 --applied' or '--not-applied'" in str(error)
        again = failure(each)
        assert "failed halfway, so the changes of its first statement may remain" in str(again)
        assert "nonsense" in str(again)
        database.run("DROP TABLE book")
        each.call("resolve", "core_2", applied=False)
        repair(project, each, database)


@pytest.mark.drivers(*TRANSACTIONAL)
def test_a_downgrade_that_fails_half_way_takes_nothing_back(project: Project, database: Database) -> None:
    two_revisions(project, BOOK)
    with running(project, database) as each:
        each.call("upgrade")
        project.revision("core", "core_2", "core_1", downgrade="op.drop_table('book')\nop.execute('SELECT nonsense')")

        error = failure(each, "downgrade", "core@base")
        assert_at_second(database)
        assert "Revision core_2 of core failed" in str(error)
        assert "Completed before the failure: none." in str(error)

        project.revision("core", "core_2", "core_1", downgrade="op.drop_table('book')")
        each.call("downgrade", "core@-1")
        assert_at_first(database)


@pytest.mark.drivers(*TRANSACTIONAL)
def test_the_very_first_revision_leaves_an_empty_database(project: Project, database: Database) -> None:
    two_revisions(project, "pass")
    project.revision("core", "core_1", upgrade=AUTHOR + "op.execute('SELECT nonsense')")
    with running(project, database) as each:
        error = failure(each)

        assert database.tables() == []
        assert isinstance(error, RevisionFailedError)
        assert error.applied == ()
        repair(project, each, database)


@pytest.mark.drivers("sqlite", "postgresql+psycopg", "postgresql+asyncpg")
def test_what_ran_before_in_other_packages_stays(project: Project, database: Database) -> None:
    project.package("shop")
    project.revision("shop", "shop_1", upgrade='op.create_table("shop", sa.Column("id", sa.Integer, primary_key=True))')
    two_revisions(project, BOOK + "raise ValueError('no')", depends_on="shop_1")
    with facade(project, on(database), ["core", "shop"], database.url) as each:
        error = failure(each)

        assert database.rows() == ["core_1", "shop_1"]
        assert database.tables() == ["alembic_version", "author", "shop"]
        assert str(error).endswith("Completed before the failure: core_1, shop_1.")


def test_the_commands_say_the_same(project: Project, make_database: Callable[[str], Database]) -> None:
    path = two_revisions(project, BOOK + "op.execute('SELECT nonsense')")
    place = f"core/migrations/versions/core_2_by_hand.py:{line_of(path, 'nonsense')}"
    for framework, driver in (("flask", "sqlite+pysqlite"), ("quart", "sqlite+aiosqlite")):
        database = make_database(driver)
        project.app(framework, ["core"], database.url)

        result = project.run("ampho", "db-up", check=False)

        assert result.exit_code == 1
        assert one_error_line(result.stderr) == (
            f"Revision core_2 of core failed at {place}: OperationalError: no such column: nonsense"
            " [SQL: SELECT nonsense]. Its transaction was rolled back. Completed before the failure: core_1."
        )
        assert re.sub(r"\d+ ms", "N ms", result.stdout).splitlines() == [
            "Upgrading (heads): 2 revisions of core",
            "  + core_1  by hand ... N ms",
            "  + core_2  by hand ... failed",
        ]
        assert_at_first(database)


@pytest.mark.drivers("sqlite+pysqlite")
def test_an_env_py_that_fails_after_the_revisions_does_not_hide_them(project: Project, database: Database) -> None:
    project.package("core")
    with running(project, database) as each:
        each.call("init", "core")
        two_revisions(project, BOOK)
        env_py = project.migrations("core") / "env.py"
        intact = env_py.read_text("utf-8")
        for cause, words in {
            "raise ValueError('afterwards')": "env.py failed at core/migrations/env.py:",
            "context.execute('SELECT nonsense')": "The database reported an error: OperationalError: no such column:"
            " nonsense",
        }.items():
            env_py.write_text(f"{intact}\n{cause}\n", "utf-8")
            error = failure(each)

            assert str(error).startswith(words)
            assert str(error).endswith(" Completed before the failure: core_1, core_2.")
            assert_at_second(database)

            env_py.write_text(intact, "utf-8")
            each.call("downgrade", "base")


# ---- at the commit ----

DEFERRED = """
op.create_table("book", sa.Column("id", sa.Integer, primary_key=True), sa.Column("author", sa.Integer))
op.create_foreign_key("book_author", "book", "author", ["author"], ["id"], deferrable=True, initially="DEFERRED")
op.execute("INSERT INTO book VALUES (1, 77)")
"""


@pytest.mark.drivers("postgresql")
def test_a_failure_at_commit_is_the_revisions_own(project: Project, database: Database) -> None:
    two_revisions(project, DEFERRED)
    with running(project, database) as each:
        error = failure(each)

        assert_at_first(database)
        assert isinstance(error, RevisionFailedError)
        assert "core_2" in str(error)
        assert "book_author" in str(error)
        assert "rolled back" in str(error)
        repair(project, each, database)


class Enforcing(sqlite3.Connection):
    """A connection that enforces foreign keys, as apps have it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA foreign_keys = ON")


ENFORCING = {"SQLALCHEMY_ENGINE_OPTIONS": {"connect_args": {"factory": Enforcing}}}
CHILD = """
op.create_table(
    "book",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("author", sa.Integer, sa.ForeignKey("author.id", ondelete="CASCADE")),
)
"""


@pytest.mark.drivers("sqlite")
def test_sqlite_refuses_to_commit_rows_whose_parent_is_missing(project: Project, database: Database) -> None:
    two_revisions(project, CHILD + "op.execute('INSERT INTO book VALUES (1, 77)')")
    with running(project, database, **ENFORCING) as each:
        error = failure(each)

        assert_at_first(database)
        assert isinstance(error, RevisionFailedError)
        assert "Revision core_2 of core failed" in str(error)
        assert "book to author" in str(error)
        assert "rolled back" in str(error)
        repair(project, each, database)


@pytest.mark.drivers("sqlite")
def test_sqlite_file_that_is_no_database_is_told_by_an_app_that_enforces_keys(
    project: Project, database: Database
) -> None:
    two_revisions(project, CHILD)
    notes = project.write("notes.db", "These are notes, and no database at all. " * 30)
    other = replace(database, url=database.url.set(database=str(notes)))
    with running(project, other, **ENFORCING) as each, pytest.raises(DatabaseError, match="file is not a database"):
        each.call("upgrade")


@pytest.mark.drivers("sqlite")
def test_sqlite_does_not_check_what_the_app_does_not_enforce(project: Project, database: Database) -> None:
    two_revisions(project, CHILD + "op.execute('INSERT INTO book VALUES (1, 77)')")
    with running(project, database) as each:
        each.call("upgrade")

    assert database.query("SELECT * FROM book") == [(1, 77)]


@pytest.mark.drivers("sqlite")
def test_sqlite_old_violations_are_no_fault_of_a_revision(project: Project, database: Database) -> None:
    two_revisions(project, CHILD + "op.execute('INSERT INTO book VALUES (1, 77)')")
    with running(project, database) as each:
        each.call("upgrade")
    project.revision("core", "core_3", "core_2", upgrade="op.add_column('book', sa.Column('title', sa.String(9)))")
    project.revision("core", "core_4", "core_3", upgrade="op.execute('INSERT INTO book VALUES (2, 78, NULL)')")

    with running(project, database, **ENFORCING) as each:
        error = failure(each)

    assert isinstance(error, RevisionFailedError)
    assert error.revision == "core_4"
    assert error.applied == ("core_3",)
    assert database.query("SELECT * FROM book") == [(1, 77, None)]
    assert database.rows() == ["core_3"]


@pytest.mark.drivers("sqlite")
def test_sqlite_old_violations_may_move_with_a_renamed_table(project: Project, database: Database) -> None:
    two_revisions(project, CHILD + "op.execute('INSERT INTO book VALUES (1, 77)')")
    with running(project, database) as each:
        each.call("upgrade")
    project.revision("core", "core_3", "core_2", upgrade="op.rename_table('book', 'volume')")
    project.revision("core", "core_4", "core_3", upgrade="op.rename_table('author', 'writer')")
    project.revision("core", "core_5", "core_4", upgrade="op.execute('INSERT INTO volume VALUES (2, 78)')")

    with running(project, database, **ENFORCING) as each:
        error = failure(each)

    assert isinstance(error, RevisionFailedError)
    assert error.applied == ("core_3", "core_4")
    assert "volume to writer" in str(error)


@pytest.mark.drivers("sqlite")
def test_sqlite_a_schema_whose_keys_cannot_be_checked_is_no_obstacle(project: Project, database: Database) -> None:
    """ "foreign key mismatch": the key points at a column that is not unique. Such schemas are old and in use."""
    two_revisions(project, "op.execute('CREATE TABLE book (id INTEGER PRIMARY KEY, a TEXT REFERENCES author (name))')")
    project.revision("core", "core_3", "core_2", upgrade="op.add_column('author', sa.Column('born', sa.Integer))")
    with running(project, database, **ENFORCING) as each:
        each.call("upgrade")

    assert database.rows() == ["core_3"]


@pytest.mark.drivers("sqlite")
def test_sqlite_batch_mode_on_a_parent_keeps_its_children(project: Project, database: Database) -> None:
    """To rebuild a table is to drop it, and ON DELETE CASCADE would empty the tables that refer to it."""
    two_revisions(project, CHILD + "op.execute('INSERT INTO book VALUES (1, 1)')")
    rebuild = "with op.batch_alter_table('author', recreate='always') as batch:\n    batch.alter_column("
    project.revision("core", "core_3", "core_2", upgrade=f"{rebuild}'name', nullable=False)")
    with running(project, database, **ENFORCING) as each:
        each.call("upgrade")

    assert database.data() == {"alembic_version": [("core_3",)], "author": [(1, "Ann")], "book": [(1, 1)]}


# ---- the connection afterwards ----

SETTINGS = ("foreign_keys", "busy_timeout", "recursive_triggers")


def sqlite_state(connection: Any) -> dict[str, object]:
    """What a migration changes on a connection: the pragmas, and the driver's transaction handling."""
    fairy = connection.connection
    state = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in SETTINGS}
    return state | {
        "connection": id(fairy.driver_connection),
        "isolation_level": fairy.driver_connection.isolation_level,
        "in_transaction": fairy.driver_connection.in_transaction,
    }


@pytest.mark.parametrize("framework", ["flask", "quart"])
@pytest.mark.parametrize("second", [BOOK, BOOK + "raise ValueError('no')"], ids=["success", "failure"])
def test_sqlite_the_connection_in_memory_is_as_it_was(project: Project, framework: str, second: str) -> None:
    """It is the app's own; one to a file is opened for a migration, and closed."""
    two_revisions(project, second)
    url = {"flask": "sqlite://", "quart": "sqlite+aiosqlite://"}[framework]
    options = {"connect_args": {"factory": Enforcing, "timeout": 1.5}}

    def check(connection: Any, before: dict[str, object]) -> None:
        assert sqlite_state(connection) == before
        # The app's transactions are the driver's again, and roll back.
        connection.execute(text("INSERT INTO author VALUES (2, 'Bo')"))
        connection.rollback()
        assert connection.scalar(text("SELECT count(*) FROM author")) == 1
        assert inspect(connection).has_table("book") is (second is BOOK)

    def flask(each: Facade) -> None:
        with each.app.app_context():
            engine = each.ampho.db.engine
            with engine.connect() as connection:
                before = sqlite_state(connection)
            with suppress(RevisionFailedError):
                each.ampho.upgrade()
            with engine.connect() as connection:
                check(connection, before)

    async def quart(each: Facade) -> None:
        async with each.app.app_context():
            engine = each.ampho.db.engine
            async with engine.connect() as connection:
                before = await connection.run_sync(sqlite_state)
            with suppress(RevisionFailedError):
                await each.ampho.upgrade()
            async with engine.connect() as connection:
                await connection.run_sync(check, before)
            await each.ampho.dispose(each.app)

    with facade(project, framework, ["core"], url, SQLALCHEMY_ENGINE_OPTIONS=options) as each:
        asyncio.run(quart(each)) if framework == "quart" else flask(each)


new_in_python_3_12 = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="sqlite3.connect(autocommit=...) is new in Python 3.12"
)


@new_in_python_3_12
@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize("autocommit", [True, False])
def test_sqlite_pythons_own_autocommit_argument(project: Project, database: Database, autocommit: bool) -> None:
    two_revisions(project, BOOK + "raise ValueError('no')")
    options = {"connect_args": {"autocommit": autocommit}, "pool_size": 1}
    with running(project, database, SQLALCHEMY_ENGINE_OPTIONS=options) as each:
        assert isinstance(failure(each), RevisionFailedError)
        assert_at_first(database)
        repair(project, each, database)
        if not database.is_async:
            with each.app.app_context(), each.ampho.db.engine.connect() as connection:
                assert connection.connection.driver_connection.autocommit is autocommit


@new_in_python_3_12
def test_sqlite_in_memory_a_transaction_that_is_always_open_may_be_the_apps(project: Project) -> None:
    two_revisions(project, BOOK)
    for autocommit, refused in ((True, False), (False, True)):
        options = {"connect_args": {"autocommit": autocommit}}
        with facade(project, "flask", ["core"], "sqlite://", SQLALCHEMY_ENGINE_OPTIONS=options) as each:
            if refused:
                assert "is inside one of the app's transactions" in str(failure(each))
            else:
                each.call("upgrade")


@pytest.mark.parametrize("framework", ["flask", "quart"])
def test_sqlite_in_memory_the_apps_open_transaction_is_left_alone(project: Project, framework: str) -> None:
    two_revisions(project, BOOK)
    url = {"flask": "sqlite://", "quart": "sqlite+aiosqlite://"}[framework]
    insert = text("INSERT INTO author VALUES (2, 'Bo')")

    def flask(each: Facade) -> None:
        with each.app.app_context():
            each.ampho.upgrade("core_1")
            each.ampho.db.session.execute(insert)
            for method in (each.ampho.upgrade, each.ampho.current):
                with pytest.raises(DatabaseError, match="inside one of the app's transactions"):
                    method()
            each.ampho.db.session.commit()
            each.ampho.upgrade()
            assert each.ampho.db.session.execute(text("SELECT count(*) FROM author")).scalar() == 2

    async def quart(each: Facade) -> None:
        async with each.app.app_context():
            await each.ampho.upgrade("core_1")
            await each.ampho.db.session.execute(insert)
            for method in (each.ampho.upgrade, each.ampho.current):
                with pytest.raises(
                    DatabaseError,
                    match=r"^The in-memory SQLite database has one connection, which this task already uses",
                ):
                    await method()
            await each.ampho.db.session.commit()
            await each.ampho.upgrade()
            assert (await each.ampho.db.session.execute(text("SELECT count(*) FROM author"))).scalar() == 2
            await each.ampho.dispose(each.app)

    with facade(project, framework, ["core"], url) as each:
        asyncio.run(quart(each)) if framework == "quart" else flask(each)


def test_sqlite_in_memory_a_run_waits_for_the_session_of_another_task(project: Project) -> None:
    two_revisions(project, BOOK)

    async def write(each: Facade, has_written: asyncio.Event) -> None:
        async with each.app.app_context():
            await each.ampho.db.session.execute(text("INSERT INTO author VALUES (2, 'Bo')"))
            has_written.set()
            await asyncio.sleep(0.3)
            await each.ampho.db.session.commit()

    async def main(each: Facade) -> None:
        async with each.app.app_context():
            await each.ampho.upgrade("core_1")
            has_written = asyncio.Event()
            writing = asyncio.create_task(write(each, has_written))
            await has_written.wait()
            await each.ampho.upgrade()
            assert writing.done()
            assert (await each.ampho.db.session.execute(text("SELECT count(*) FROM author"))).scalar() == 2
            await each.ampho.dispose(each.app)

    with facade(project, "quart", ["core"], "sqlite+aiosqlite://") as each:
        asyncio.run(main(each))


@pytest.mark.drivers("sqlite+pysqlite")
@pytest.mark.parametrize("is_of_all", [False, True], ids=["of its engine", "of all engines"])
def test_sqlite_an_apps_own_transaction_hooks_do_not_get_in_the_way(
    project: Project, database: Database, *, is_of_all: bool
) -> None:
    """The recipe of SQLAlchemy's manual, which many apps have."""
    two_revisions(project, BOOK + "raise ValueError('no')")

    def leave_transactions_alone(dbapi_connection: Any, record: object) -> None:
        dbapi_connection.isolation_level = None

    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    with running(project, database) as each, each.app.app_context(), ExitStack() as stack:
        for name, listener in (("connect", leave_transactions_alone), ("begin", begin)):
            target = Engine if is_of_all else each.ampho.db.engine
            event.listen(target, name, listener)
            stack.callback(event.remove, target, name, listener)
        failure(each)
        assert_at_first(database)
        repair(project, each, database)


@pytest.mark.drivers("postgresql", "mariadb")
@pytest.mark.parametrize("second", [BOOK, BOOK + "raise ValueError('no')"], ids=["success", "failure"])
def test_an_engine_in_autocommit_mode_gets_transactions_and_keeps_its_mode(
    project: Project, database: Database, second: str
) -> None:
    two_revisions(project, second)
    options = {"isolation_level": "AUTOCOMMIT", "pool_size": 1}

    def assert_that_statements_are_committed_at_once(each: Facade) -> None:
        with each.app.app_context(), each.ampho.db.engine.connect() as connection:
            connection.execute(text("INSERT INTO author VALUES (2, 'Bo')"))
            assert database.query("SELECT count(*) FROM author") == [(2,)]

    with running(project, database, SQLALCHEMY_ENGINE_OPTIONS=options) as each:
        if second is BOOK:
            each.call("upgrade")
            assert_at_second(database)
        else:
            failure(each)
            assert database.rows() == ["core_1"]
            if database.backend == "postgresql":
                assert_at_first(database)
        if not database.is_async:
            assert_that_statements_are_committed_at_once(each)


# ---- what a revision may do ----

CAUSES = {
    "raise ValueError('not today')": "ValueError: not today",
    "raise SystemExit": "sys.exit() was called",
    "import sys; sys.exit(0)": "sys.exit(0) was called",
    "import sys; sys.exit(3)": "sys.exit(3) was called",
    "def deeper(): deeper()\ndeeper()": "RecursionError",
    "raise ExceptionGroup('several', [ValueError('a'), KeyError('b')])": "several",
    "raise StopIteration": "StopIteration",
    "assert 1 > 2": "AssertionError",
    "op.rename_table('nowhere', 'somewhere')": "nowhere",
    "op.nonsense()": "nonsense",
    "open('/nowhere/at/all')": "FileNotFoundError",
    "raise ValueError('two\\nlines \\x1b[31m and a colour')": "ValueError: two",
}


@pytest.mark.drivers("sqlite", "postgresql+psycopg", "postgresql+asyncpg")
def test_whatever_a_revision_raises_is_one_line_and_no_success(project: Project, database: Database) -> None:
    two_revisions(project, BOOK)
    with running(project, database) as each:
        each.call("upgrade", "core_1")
        for cause, words in CAUSES.items():
            path = two_revisions(project, BOOK + cause)
            line = each.error_line("db-up")

            assert words in line, cause
            assert line.startswith(f"Revision core_2 of core failed at {path.relative_to(project.folder)}:"), cause
            assert line.endswith("Its transaction was rolled back. Completed before the failure: none."), cause
            assert_at_first(database)
        repair(project, each, database)


@pytest.mark.drivers("sqlite", "postgresql+psycopg", "postgresql+asyncpg")
def test_an_interrupted_revision_is_one_line_and_exit_code_130(project: Project, database: Database) -> None:
    two_revisions(project, BOOK + "raise KeyboardInterrupt")
    with running(project, database) as each:
        result = each.run("db-up")

        assert result.exit_code == 130
        assert (
            one_error_line(result.stderr)
            == "Interrupted. A revision that was running was rolled back if the database supports that."
        )
        assert_at_first(database)
        assert alembic.op._proxy is None
        repair(project, each, database)


# A statement that SQLite works at for a second or two, and that nothing ends before.
COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000000) SELECT count(*) FROM n"
SIGNALLED = {
    "sqlite+pysqlite": "import time; time.sleep(30)",
    "sqlite+aiosqlite": f"op.execute({COUNT!r})",
    "postgresql+psycopg": "op.execute('SELECT pg_sleep(30)')",
    "postgresql+asyncpg": "op.execute('SELECT pg_sleep(30)')",
    "mariadb+pymysql": "op.execute('SELECT SLEEP(30)')",
    "mariadb+asyncmy": "op.execute('SELECT SLEEP(30)')",
}


# Coverage has a handler of its own for SIGTERM.
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*SIGNALLED)
@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "Interrupted."), (signal.SIGTERM, "Terminated.")])
def test_a_signal_ends_a_run_at_once(project: Project, database: Database, number: signal.Signals, word: str) -> None:
    two_revisions(project, BOOK + RUNS + SIGNALLED[database.driver])
    assert_a_signal_ends_it(project, database, number, word)


PYTHON = {
    "a sleep": "import time; time.sleep(30)",
    "a loop": "while True: pass",
    "a program": "import subprocess; subprocess.run(['sleep', '30'])",
}


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+aiosqlite")
@pytest.mark.parametrize("what", PYTHON)
def test_sigterm_ends_python_that_keeps_the_loop_busy(project: Project, database: Database, what: str) -> None:
    path = two_revisions(project, BOOK + RUNS + PYTHON[what])
    if what == "a loop":
        path.write_text(path.read_text("utf-8").replace("def upgrade(", "async def upgrade("), "utf-8")
    assert_a_signal_ends_it(project, database, signal.SIGTERM, "Terminated.")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("postgresql+psycopg_async", "postgresql+asyncpg", "mariadb+asyncmy")
def test_the_first_ctrl_c_ends_python_that_keeps_the_loop_busy(project: Project, database: Database) -> None:
    two_revisions(project, BOOK + RUNS + PYTHON["a loop"])
    assert_a_signal_ends_it(project, database, signal.SIGINT, "Interrupted.")


def assert_a_signal_ends_it(project: Project, database: Database, number: signal.Signals, word: str) -> None:
    """Upgrade, send a signal in the second revision, and check what is left; then repair, and upgrade."""
    project.app(on(database), ["core"], database.url)
    process = project.start("ampho", "db-up", fresh=True)  # where Python ends by itself, too
    assert process.stdout is not None
    while process.stdout.readline() != "it runs\n":
        assert process.poll() is None
    time.sleep(0.3)
    process.send_signal(number)
    begun = time.monotonic()
    stdout, stderr = process.communicate(timeout=20)

    assert time.monotonic() - begun < 10
    assert process.returncode == 128 + number
    assert stdout.endswith("interrupted\n")
    assert one_error_line(stderr.splitlines()[-1] + "\n").startswith(word)
    if database.backend != "mariadb":
        assert_at_first(database)
        return
    assert "Revision core_2 of core was running. Some of its changes may remain. Compare the database with" in stderr
    stopped = project.run("ampho", "db-up", check=False).stderr
    assert "The upgrade of core_2 of core, which began on" in one_error_line(stopped.splitlines()[-1] + "\n")
    assert "was interrupted, so the changes of its first statement may remain" in stopped
    assert "is unfinished" in project.run("ampho", "db-current").stdout
    database.run("DROP TABLE book")
    project.run("ampho", "db-resolve", "core_2", "--not-applied")
    two_revisions(project, BOOK)
    project.run("ampho", "db-up")
    assert_at_second(database)


CANCELLED = {
    "in a statement": f"op.execute({COUNT!r})",
    "between two": "import asyncio; from sqlalchemy.util import await_only; await_only(asyncio.sleep(30))",
}


async def cancel(work: Any) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0.3)
    task.cancel()
    await task


async def time_out(work: Any) -> None:
    async with asyncio.timeout(0.3):
        await work


async def fail_after(work: Any) -> None:
    with anyio.fail_after(0.3):
        await work


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+asyncpg")
@pytest.mark.parametrize(
    ("end", "error", "where"),
    [
        (cancel, asyncio.CancelledError, "in a statement"),
        (cancel, asyncio.CancelledError, "between two"),
        (time_out, TimeoutError, "in a statement"),
        (fail_after, TimeoutError, "in a statement"),
        (fail_after, TimeoutError, "between two"),
    ],
)
def test_a_cancelled_run_ends_as_its_caller_expects(
    project: Project, database: Database, end: Any, error: type[BaseException], where: str
) -> None:
    second = CANCELLED[where]
    if database.backend == "postgresql" and where == "in a statement":
        second = "op.execute('SELECT pg_sleep(30)')"
    two_revisions(project, BOOK + second)
    with running(project, database) as each:

        async def upgrade() -> None:
            async with each.app.app_context():
                try:
                    await each.ampho.upgrade()
                finally:
                    with anyio.CancelScope(shield=True):
                        await each.ampho.dispose(each.app)

        each.call("upgrade", "core_1")  # so that the second one has begun by then
        with pytest.raises(error):
            asyncio.run(end(upgrade()))

        assert_at_first(database)
        assert alembic.op._proxy is None
        repair(project, each, database)


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+asyncpg")
def test_a_caller_that_is_cancelled_waits_until_the_connection_is_closed(project: Project, database: Database) -> None:
    two_revisions(project, BOOK)
    closed: list[object] = []

    async def main(each: Facade) -> None:
        closing = asyncio.Event()

        def close(*event: object) -> None:
            closing.set()
            await_only(asyncio.sleep(0.2))
            closed.append(event)

        async with each.app.app_context():
            event.listen(each.ampho.db.engine.sync_engine.pool, "close", close)
            upgrading = asyncio.create_task(each.ampho.upgrade())
            await closing.wait()
            upgrading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upgrading
            assert len(closed) == 1
            await each.ampho.dispose(each.app)

    with running(project, database) as each:
        asyncio.run(main(each))
        assert_at_second(database)


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize(
    ("second", "words"),
    [
        ("import nowhere_at_all", "cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("raise ValueError('while importing')", "cannot be imported: ValueError: while importing"),
        ("import sys; sys.exit(0)", "cannot be imported: sys.exit(0) was called"),
        ("del upgrade", "has no function upgrade(). Add one; if there is nothing to do"),
        ("upgrade = 'a string'", "has no function upgrade()"),
    ],
)
def test_every_file_of_a_plan_is_loaded_before_anything_runs(
    project: Project, database: Database, second: str, words: str
) -> None:
    path = two_revisions(project, BOOK)
    with path.open("a") as file:
        file.write(f"\n\n{second}\n")
    with running(project, database) as each:
        error = failure(each)

        assert isinstance(error, RevisionFileError)
        assert (error.package, error.path) == ("core", path)
        assert words in str(error)
        assert database.tables() == []
        assert each.error_line("db-up") == str(error)

        each.call("upgrade", "core_1")  # its plan does not need the file
        assert_at_first(database)
        repair(project, each, database)


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_revision_without_a_downgrade_can_be_applied_and_not_taken_back(project: Project, database: Database) -> None:
    path = two_revisions(project, BOOK)
    with path.open("a") as file:
        file.write("\n\ndel downgrade\n")
    with running(project, database) as each:
        each.call("upgrade")

        error = failure(each, "downgrade", "core@base")

        assert "core_2_by_hand.py of core has no function downgrade()" in str(error)
        assert_at_second(database)


NESTED = {
    "flask": "from flask import current_app; current_app.extensions['ampho'].upgrade('core_1')",
    "quart": (
        "from quart import current_app; from sqlalchemy.util import await_only;"
        " await_only(current_app.extensions['ampho'].upgrade('core_1'))"
    ),
}


@pytest.mark.drivers("sqlite", "postgresql+psycopg", "postgresql+asyncpg")
def test_a_revision_that_starts_a_migration_fails(project: Project, database: Database) -> None:
    two_revisions(project, BOOK + NESTED[on(database)])
    with running(project, database) as each:
        error = failure(each)

        assert isinstance(error, RevisionFailedError)
        assert isinstance(error.__cause__, NestedRunError)
        assert "A migration was started inside another migration" in str(error)
        assert_at_first(database)
        repair(project, each, database)


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg")
def test_a_revision_that_starts_plain_alembic_fails(project: Project, database: Database) -> None:
    plain = (
        "from alembic import command, config; command.upgrade(config.Config('core/migrations/alembic.ini'), 'heads')"
    )
    project.package("core")
    with running(project, database) as each:
        each.call("init", "core")
        two_revisions(project, BOOK + plain)

        error = failure(each)

        assert "A migration was started inside another migration" in str(error)
        assert_at_first(database)
        repair(project, each, database)


# ---- what databases refuse ----


@pytest.mark.drivers("postgresql+asyncpg")
def test_asyncpg_several_statements_in_one_string(project: Project, database: Database) -> None:
    two_revisions(project, BOOK + "op.execute(\"INSERT INTO book VALUES (2, 'B'); INSERT INTO book VALUES (3, 'C')\")")
    with running(project, database) as each:
        error = failure(each)

        assert "cannot insert multiple commands into a prepared statement" in str(error)
        assert "(asyncpg runs one statement at a time: call op.execute() once for each)" in str(error)
        assert_at_first(database)
        repair(project, each, database)


ENUM = """
op.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
op.create_table("book", sa.Column("id", sa.Integer, primary_key=True), sa.Column("mood", sa.Text))
op.execute("ALTER TABLE book ALTER mood TYPE mood USING mood::mood")
"""
NEW_VALUE = "op.execute(\"ALTER TYPE mood ADD VALUE 'great'\")\n"
USED = "op.execute(\"INSERT INTO book VALUES (1, 'great')\")"


@pytest.mark.drivers("postgresql")
def test_a_new_value_of_an_enum_is_committed_before_it_is_used(project: Project, database: Database) -> None:
    two_revisions(project, ENUM)
    project.revision("core", "core_3", "core_2", upgrade=NEW_VALUE + USED)
    with running(project, database) as each:
        error = failure(each)
        assert "op.get_context().autocommit_block()" in str(error)
        assert database.rows() == ["core_2"]
        assert database.schema()["enums"][0]["labels"] == ["sad", "ok"]

        block = "with op.get_context().autocommit_block():\n    "
        project.revision("core", "core_3", "core_2", upgrade=block + NEW_VALUE + USED)
        each.call("upgrade")
        assert database.rows() == ["core_3"]
        assert database.query("SELECT id, CAST(mood AS TEXT) FROM book") == [(1, "great")]


@pytest.mark.drivers("postgresql")
def test_what_needs_to_be_outside_of_a_transaction_is_told_how(project: Project, database: Database) -> None:
    index = "op.create_index('author_name', 'author', ['name'], postgresql_concurrently=True)"
    two_revisions(project, index)
    with running(project, database) as each:
        error = failure(each)
        assert "run the statement inside 'with op.get_context().autocommit_block():'" in str(error)
        assert_at_first(database)

        two_revisions(project, f"with op.get_context().autocommit_block():\n    {index}\n{BOOK}")
        each.call("upgrade")
        assert_at_second(database)
        assert [index["name"] for index in database.schema()["tables"]["author"]["indexes"]] == ["author_name"]


@pytest.mark.drivers(*TRANSACTIONAL)
def test_what_an_autocommit_block_committed_is_not_said_to_be_rolled_back(project: Project, database: Database) -> None:
    block = "with op.get_context().autocommit_block():\n    op.execute('CREATE INDEX author_name ON author (name)')\n"
    two_revisions(project, BOOK + block + "op.execute('SELECT nonsense')")
    with running(project, database) as each:
        error = failure(each)

        assert "book" in database.tables()
        assert database.rows() == ["core_1"]
        assert "Its transaction was rolled back." not in str(error)
        assert "autocommit_block()" in str(error)
        assert "may remain" in str(error)

        assert "failed halfway, so some of its changes may remain" in str(failure(each))
        each.call("resolve", "core_2", applied=False)
        project.revision("core", "core_2", "core_1", upgrade="raise ValueError('no')")
        assert "Its transaction was rolled back." in str(failure(each))


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_an_index_that_was_left_invalid_is_named(project: Project, database: Database) -> None:
    index = "op.create_index('author_name', 'author', ['name'], unique=True, postgresql_concurrently=True)"
    block = f"with op.get_context().autocommit_block():\n    {index}\n"
    two_revisions(project, block)
    with running(project, database) as each:
        each.call("upgrade", "core_1")
        database.run("INSERT INTO author VALUES (2, 'Ann')")
        remedy = "To drop it, use 'DROP INDEX CONCURRENTLY author_name'. Compare"
        left = f"An invalid index remains: author_name of author. {remedy}"

        assert left in str(failure(each))
        assert left in str(failure(each))
        each.call("resolve", "core_2", applied=False)
        assert left in str(failure(each))  # since an index of that name is there already
        each.call("resolve", "core_2", applied=False)
        database.run("DELETE FROM author WHERE id = 2", "DROP INDEX author_name")
        each.call("upgrade")
        valid = database.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'author_name'::regclass")
        assert valid == [(True,)]


# ---- a connection that is lost ----

LOSE = {
    "postgresql": "SELECT pg_terminate_backend(:pid)",
    "mariadb": "KILL :pid",
}
PID = {"postgresql": "SELECT pg_backend_pid()", "mariadb": "SELECT connection_id()"}


@pytest.mark.drivers("postgresql", "mariadb")
def test_a_connection_that_is_lost_ends_the_run_and_no_more(project: Project, database: Database) -> None:
    """Another connection kills this one while its transaction is open."""
    url = database.sync_url.render_as_string(hide_password=False)
    kill = f"""
pid = op.get_bind().exec_driver_sql({PID[database.backend]!r}).scalar_one()
killer = sa.create_engine({url!r}, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT").connect()
killer.execute(sa.text({LOSE[database.backend]!r}), {{"pid": pid}})
killer.close()
import time; time.sleep(0.2)
op.execute("SELECT 1")
"""
    two_revisions(project, kill if database.backend == "mariadb" else BOOK + kill)
    with running(project, database) as each:
        error = failure(each)

        assert isinstance(error, RevisionFailedError)
        assert "Revision core_2 of core failed" in str(error)
        assert_at_first(database)
        repair(project, each, database)


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_a_bug_in_an_answer_is_not_reported_as_an_error_of_the_database(
    project: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise ValueError("a bug")

    project.package("core")
    monkeypatch.setattr("ampho.status.state.current_state", fails)
    with running(project, database) as shop, pytest.raises(ValueError, match="a bug"):
        shop.call("current")
