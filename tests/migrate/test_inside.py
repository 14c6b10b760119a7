"""What a revision may do on its own: be async, end its transaction, and open connections of its own."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from facade import URLS, Facade, facade
from project import Project
from servers import Database
from sqlalchemy import text

from ampho.errors import RevisionFailedError, RevisionFileError, UnfinishedRevisionError
from ampho.migrate import other_connections

T = 'op.create_table("t", sa.Column("id", sa.Integer, primary_key=True, autoincrement=False))'
NO_T = 'op.drop_table("t")'
U = 'op.create_table("u", sa.Column("id", sa.Integer))'


@contextmanager
def running(project: Project, database: Database, **config: object) -> Iterator[Facade]:
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["core"], database.url, **config) as each:
        yield each


def make_async(path: Path, parameters: str = "") -> Path:
    """Make the functions of a revision file async, and give them parameters."""
    text = path.read_text("utf-8")
    for name in ("upgrade", "downgrade"):
        text = text.replace(f"def {name}():", f"async def {name}({parameters}):")
    path.write_text(text, "utf-8")
    return path


def write(project: Project, upgrade: str, downgrade: str = "pass") -> Path:
    """Write ``core_1``, which makes a table, and ``core_2``, whose path is returned."""
    project.package("core")
    project.revision("core", "core_1", upgrade=T, downgrade=NO_T)
    return project.revision("core", "core_2", "core_1", upgrade=upgrade, downgrade=downgrade)


def failed(each: Facade) -> RevisionFailedError:
    with pytest.raises(RevisionFailedError) as caught:
        each.call("upgrade")
    assert str(caught.value).isprintable()
    return caught.value


# ---- async functions ----

ASYNC_UP = """
import asyncio
op.execute("INSERT INTO t VALUES (1)")
await asyncio.sleep(0)
op.create_table("u", sa.Column("id", sa.Integer))
async with asyncio.timeout(20):
    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0.001))
op.execute("INSERT INTO t VALUES (2)")
"""
WITH_CONNECTION = """
op.execute("INSERT INTO t VALUES (3)")
await connection.execute(sa.text("INSERT INTO t SELECT 1 + id FROM t WHERE id = 3"))
assert (await connection.scalar(sa.text("SELECT max(id) FROM t"))) == 4
"""


def test_an_async_revision_runs(project: Project, async_database: Database) -> None:
    make_async(write(project, ASYNC_UP, "op.drop_table('u')\nop.execute('DELETE FROM t')"))
    path = project.revision("core", "core_3", "core_2", upgrade=WITH_CONNECTION)
    make_async(path, "connection")
    with running(project, async_database) as each:
        each.call("upgrade")
        assert async_database.query("SELECT id FROM t ORDER BY id") == [(1,), (2,), (3,), (4,)]
        assert "u" in async_database.tables()
        assert async_database.rows() == ["core_3"]

        each.call("downgrade", "core_1")
        assert async_database.data() == {"alembic_version": [("core_1",)], "t": []}


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg_async")
@pytest.mark.parametrize("parameters", ["", "connection"])
def test_an_async_revision_that_fails_leaves_nothing(
    project: Project, async_database: Database, parameters: str
) -> None:
    path = write(project, f"{ASYNC_UP}\nawait asyncio.sleep(0)\nop.execute('SELECT nonsense')")
    make_async(path, parameters)
    line = next(n for n, text in enumerate(path.read_text("utf-8").splitlines(), 1) if "nonsense" in text)
    with running(project, async_database) as each:
        error = failed(each)

    assert str(error).startswith(f"Revision core_2 of core failed at core/migrations/versions/{path.name}:{line}: ")
    assert "Its transaction was rolled back." in str(error)
    assert async_database.data() == {"alembic_version": [("core_1",)], "t": []}


@pytest.mark.drivers("sqlite+pysqlite")
def test_an_async_revision_is_refused_where_nothing_can_await_it(project: Project, sync_database: Database) -> None:
    path = make_async(write(project, ASYNC_UP))
    words = f"{path.name} of core has a function upgrade() that is 'async def'. Such a function only runs on an async"
    with running(project, sync_database) as each:
        for method in ("upgrade", "plan", "upgrade_sql"):
            with pytest.raises(RevisionFileError) as caught:
                each.call(method)
            assert words in str(caught.value), method
        assert sync_database.tables() == []
        assert words in each.error_line("db-up")
    with facade(project, "quart", ["core"], URLS["quart"]) as each:
        assert each.call("plan").steps
        with pytest.raises(RevisionFileError) as caught:
            each.call("upgrade_sql")
        assert "cannot be written as SQL" in str(caught.value)


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_would_never_run_is_refused_before_anything_does(
    project: Project, database: Database, asynchronous: bool
) -> None:
    path = write(project, f"{U}\nyield")
    if asynchronous:
        make_async(path)
    with running(project, database) as each:
        for method in ("upgrade", "plan", "upgrade_sql"):
            with pytest.raises(RevisionFileError, match="has a function upgrade\\(\\) that contains 'yield'"):
                each.call(method)
    assert database.tables() == []


RETURNED = {
    "a coroutine": ("async def work():\n    pass\nreturn work()", "coroutine"),
    "a generator": ("return (each for each in ())", "generator"),
    "an async generator": ("async def work():\n    yield\nreturn work()", "async_generator"),
    "a future": ("import concurrent.futures\nreturn concurrent.futures.Future()", "Future"),
    "an object": ("return False", "bool"),
}


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_what_is_returned_is_not_done(project: Project, database: Database) -> None:
    path = write(project, "pass")
    with running(project, database) as each:
        for body, kind in RETURNED.values():
            project.revision("core", "core_2", "core_1", upgrade=f"{U}\n{body}")
            error = failed(each)
            assert path.name in str(error)
            assert f"upgrade() returned an object of type '{kind}'" in str(error)
            assert database.data() == {"alembic_version": [("core_1",)], "t": []}


@pytest.mark.drivers("mariadb+pymysql")
def test_what_is_returned_leaves_the_revision_unfinished_where_ddl_stays(project: Project, database: Database) -> None:
    write(project, f"{U}\nreturn iter(())")
    with running(project, database) as each:
        assert "--applied" in str(failed(each))
        assert database.rows() == ["core_1"]
        with pytest.raises(UnfinishedRevisionError):
            each.call("upgrade")


@pytest.mark.drivers("sqlite+aiosqlite")
def test_plain_alembic_runs_an_async_revision_by_the_generated_env_py(project: Project, database: Database) -> None:
    project.package("core")
    project.app("quart", ["core"], database.url)
    project.run("ampho", "db-init", "core")
    make_async(write(project, ASYNC_UP))
    project.run("alembic", "-c", "core/migrations/alembic.ini", "upgrade", "heads")

    assert database.query("SELECT id FROM t ORDER BY id") == [(1,), (2,)]


@pytest.mark.drivers("sqlite+aiosqlite")
@pytest.mark.parametrize(
    "start",
    ["asyncio.run(waiting)", "asyncio.Runner().run(waiting)", "loop.run_until_complete(waiting)", "anyio.run(work)"],
)
def test_a_revision_that_starts_a_loop_is_told_what_to_do(project: Project, database: Database, start: str) -> None:
    begin = "import asyncio, anyio\nasync def work():\n    pass\nwaiting, loop = work(), asyncio.new_event_loop()"
    write(project, f"{begin}\ntry:\n    {start}\nfinally:\n    waiting.close()\n    loop.close()")
    with running(project, database) as each:
        assert "op.run_async()" in str(failed(each))


FORGOTTEN = {
    "in its own line": "connection.execute(sa.text('INSERT INTO t VALUES (1)'))",
    "in a name": "done = connection.execute(sa.text('INSERT INTO t VALUES (1)'))",
    "in a function": "def work():\n    connection.execute(sa.text('INSERT INTO t VALUES (1)'))\nwork()",
}


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+asyncpg", "mariadb+asyncmy")
def test_a_forgotten_await_fails_the_revision(project: Project, async_database: Database) -> None:
    path, stays = write(project, "pass"), async_database.driver.startswith("mariadb")
    with running(project, async_database) as each:
        for body in list(FORGOTTEN.values())[: 1 if stays else None]:
            make_async(project.revision("core", "core_2", "core_1", upgrade=f"{U}\n{body}"), "connection")
            line = next(n for n, text in enumerate(path.read_text("utf-8").splitlines(), 1) if "INSERT" in text)
            error = str(failed(each))
            assert path.name in error
            assert f"on line {line}, AsyncConnection.execute() is called but never awaited" in error
            assert error.count("await it") == 1
            assert async_database.rows() == ["core_1"]
    assert ("u" in async_database.tables()) is stays


@pytest.mark.drivers("sqlite+aiosqlite")
def test_a_forgotten_await_is_told_of_where_something_else_fails(
    project: Project, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    insert = "connection.execute(sa.text('INSERT INTO t VALUES (1)'))"
    make_async(write(project, f"{insert}\nop.execute('SELECT nonsense')"), "connection")
    with running(project, database) as each:
        assert "nonsense" in str(failed(each))
    assert "AsyncConnection.execute() is called but never awaited." in caplog.text


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_coroutine_that_is_dropped_fails_a_sync_revision(project: Project, database: Database) -> None:
    write(project, f"import asyncio\n{U}\nasyncio.sleep(0)")
    with running(project, database) as each:
        assert "sleep() is called but never awaited, so its code did not run: await it in op.run_async()" in str(
            failed(each)
        )
    assert database.data() == {"alembic_version": [("core_1",)], "t": []}


@pytest.mark.drivers("sqlite+aiosqlite")
@pytest.mark.filterwarnings("error")
def test_a_loop_that_did_not_start_leaves_no_warning(
    project: Project, database: Database, recwarn: pytest.WarningsRecorder
) -> None:
    make_async(write(project, "import asyncio\nasyncio.run(asyncio.sleep(0))"))
    with running(project, database) as each:
        assert "op.run_async()" in str(failed(each))
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


# ---- the transaction ----

COMMITS = {
    "commit()": "{insert}\nop.get_bind().commit()",
    "the transaction's commit()": "{insert}\nop.get_bind().get_transaction().commit()",
    "COMMIT": "{insert}\nop.execute('COMMIT')",
    "COMMIT in the middle": "op.execute('COMMIT')\n{insert}",
    "commit() and begin()": "op.get_bind().commit()\nwith op.get_bind().begin():\n    {insert}",
    "commit(), and more": "op.get_bind().commit()\n{insert}",
    "commit() and autocommit": (
        "op.get_bind().commit()\n{insert}\nwith op.get_context().autocommit_block():\n    op.execute('SELECT 1')"
    ),
    "rollback() of nothing": "op.execute('SELECT id FROM t')\nop.get_bind().rollback()\n{insert}",
    "ROLLBACK of nothing": "op.execute('ROLLBACK')\n{insert}",
}
AWAITED = {
    "await commit()": (
        "async def work(connection):\n    await connection.execute(sa.text('INSERT INTO t VALUES ({number})'))\n"
        "    await connection.commit()\nop.run_async(work)"
    ),
    "await rollback()": "async def work(connection):\n    await connection.rollback()\nop.run_async(work)\n{insert}",
}


def test_a_revision_that_commits_by_itself_is_recorded(project: Project, database: Database) -> None:
    write(project, "pass")
    last = "core_2"
    with running(project, database) as each:
        for number, body in enumerate((COMMITS | (AWAITED if database.is_async else {})).values(), 3):
            insert = f"op.execute('INSERT INTO t VALUES ({number})')"
            upgrade = body.format(insert=insert, number=number)
            project.revision("core", f"core_{number}", last, upgrade=upgrade)
            last = f"core_{number}"
            each.call("upgrade")

            assert database.rows() == [last], body
            assert database.query("SELECT max(id) FROM t") == [(number,)], body
            entry = each.call("log")[-1]
            assert (entry.revision, str(entry.outcome)) == (last, "done"), body
        assert [entry for entry in each.call("log") if entry.is_unfinished] == []


def test_the_first_revision_may_commit_or_roll_back_too(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=f"op.get_bind().rollback()\n{T}\nop.get_bind().commit()")
    with running(project, database) as each:
        each.call("upgrade")

        assert database.data() == {"alembic_version": [("core_1",)], "t": []}
        assert [str(entry.outcome) for entry in each.call("log")] == ["done"]


@pytest.mark.parametrize("rollback", ["op.get_bind().rollback()", "op.execute('ROLLBACK')"])
def test_a_revision_that_takes_back_its_own_work_does_not_count(
    project: Project, database: Database, rollback: str
) -> None:
    write(project, f"op.execute('INSERT INTO t VALUES (1)')\n{rollback}")
    with running(project, database) as each:
        error = failed(each)

        assert "core_2_by_hand.py: It rolled back the transaction, including its earlier changes." in str(error)
        assert "op.get_bind().begin_nested()" in str(error)
        assert database.data() == {"alembic_version": [("core_1",)], "t": []}


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "postgresql+asyncpg")
@pytest.mark.parametrize("commit", ["op.get_bind().commit()", "op.execute('COMMIT')"])
def test_what_ends_after_its_own_commit_is_unfinished(project: Project, database: Database, commit: str) -> None:
    write(project, f"import os\n{U}\n{commit}\nos._exit(7)")
    project.app("quart" if database.is_async else "flask", ["core"], database.url)

    assert project.run("ampho", "db-up", check=False).exit_code == 7
    assert database.rows() == ["core_1"]
    assert "u" in database.tables()
    again = project.run("ampho", "db-up", check=False)
    assert again.exit_code == 1
    assert "core_2 of core" in again.stderr
    assert "db-resolve core_2 --applied" in again.stderr


@pytest.mark.drivers("sqlite+pysqlite")
def test_sqlite_a_script_commits_what_comes_before_it(project: Project, database: Database) -> None:
    script = "op.get_bind().connection.executescript('CREATE TABLE u (id INTEGER);{more}')"
    write(project, f"op.execute('INSERT INTO t VALUES (1)')\n{script.format(more='')}")
    project.revision("core", "core_3", "core_2", upgrade=f"op.drop_table('u')\n{script.format(more='SELECT nonsense')}")
    with running(project, database) as each:
        error = failed(each)

        assert "The revision committed partway through" in str(error)
        assert database.data() == {"alembic_version": [("core_2",)], "t": [(1,)], "u": []}
        assert [str(entry.outcome) for entry in each.call("log")] == ["done", "done", "partial"]


@pytest.mark.drivers("postgresql")
def test_a_commit_that_the_database_turns_into_a_rollback_fails(project: Project, database: Database) -> None:
    """A statement that fails ends PostgreSQL's transaction; to hide the error does not save what came before."""
    hidden = "try:\n    op.execute('SELECT nonsense')\nexcept sa.exc.ProgrammingError:\n    pass"
    write(project, f"op.execute('INSERT INTO t VALUES (1)')\n{hidden}\nop.get_bind().commit()")
    with running(project, database) as each:
        assert "current transaction is aborted" in str(failed(each))
        assert database.data() == {"alembic_version": [("core_1",)], "t": []}
        assert [str(entry.outcome) for entry in each.call("log")] == ["done", "failed"]
        project.revision("core", "core_2", "core_1", upgrade="op.execute('INSERT INTO t VALUES (1)')")
        each.call("upgrade")
    assert database.rows() == ["core_2"]


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_a_callback_of_env_py_that_commits_loses_nothing(project: Project, database: Database) -> None:
    project.package("core")
    with running(project, database) as each:
        each.call("init", "core")
        write(project, "op.execute('INSERT INTO t VALUES (1)')")
        path = project.migrations("core") / "env.py"
        callback = "on_version_apply=lambda ctx, **event: ctx.connection.commit(), **environment.options("
        path.write_text(path.read_text("utf-8").replace("**environment.options(", callback), "utf-8")
        each.call("upgrade")

        assert database.rows() == ["core_2"]
        assert [entry.revision for entry in each.call("log")] == ["core_1", "core_2"]
        assert not [entry for entry in each.call("log") if entry.is_unfinished]


# ---- other connections ----

LOOKS = """
engine = op.get_bind().engine
assert "t" in sa.inspect(engine).get_table_names()
assert sa.Table("t", sa.MetaData(), autoload_with=engine).c.keys() == ["id"]
with engine.connect() as connection:
    assert connection.execute(sa.text("SELECT id FROM t")).all() == []
"""
LOOKS_ASYNC = """
async def look(connection):
    async with connection.engine.connect() as other:
        assert (await other.execute(sa.text("SELECT id FROM t"))).all() == []
op.run_async(look)
"""


def test_a_revision_may_look_through_its_engine(project: Project, database: Database) -> None:
    looks = LOOKS + (LOOKS_ASYNC if database.is_async else "")
    write(project, f"{looks}\nop.execute('INSERT INTO t VALUES (1)')")
    with running(project, database) as each:
        each.call("upgrade")
    assert database.data() == {"alembic_version": [("core_2",)], "t": [(1,)]}


@pytest.mark.parametrize("framework", ["flask", "quart"])
def test_a_revision_may_look_through_its_engine_in_memory(project: Project, framework: str) -> None:
    looks = LOOKS + (LOOKS_ASYNC if framework == "quart" else "")
    body = f"{LOOKS.replace('[]', '[(1,)]')}\nraise ValueError('no')"
    write(project, f"{looks}\nop.execute('INSERT INTO t VALUES (1)')\n{looks.replace('[]', '[(1,)]')}")
    project.revision("core", "core_3", "core_2", upgrade=f"op.execute('INSERT INTO t VALUES (2)')\n{body}")
    url = {"flask": "sqlite://", "quart": "sqlite+aiosqlite://"}[framework]
    found: list[object] = []
    with facade(project, framework, ["core"], url) as each:
        assert "assert connection.execute" in body
        error = one_run(each, found)
    assert "core_3 of core failed" in error
    assert found == [("core_2",), (1,)]


def one_run(each: Facade, found: list[object]) -> str:
    """Upgrade a database in memory, which is gone when the loop is; return the error, and find what was left."""
    query = text("SELECT version_num FROM alembic_version UNION ALL SELECT id FROM t")
    if not each.ampho.is_async:
        with each.app.app_context():
            with pytest.raises(RevisionFailedError) as caught:
                each.ampho.upgrade()
            found.extend(map(tuple, each.ampho.db.session.execute(query)))
        return str(caught.value)

    async def run() -> str:
        async with each.app.app_context():
            with pytest.raises(RevisionFailedError) as caught:
                await each.ampho.upgrade()
            found.extend(map(tuple, await each.ampho.db.session.execute(query)))
            await each.ampho.db.dispose()
            return str(caught.value)

    return asyncio.run(run())


# ---- waiting for oneself ----

BESIDE = """
op.execute("INSERT INTO t VALUES (1)")
with op.get_bind().engine.begin() as other:
    other.execute(sa.text("INSERT INTO t VALUES (1)"))
"""
BESIDE_ASYNC = """
op.execute("INSERT INTO t VALUES (1)")
async with connection.engine.begin() as other:
    await other.execute(sa.text("INSERT INTO t VALUES (1)"))
"""
BEFORE = """
with op.get_bind().engine.connect() as other:
    other.execute(sa.text("SELECT id FROM t")).all()
    op.add_column("t", sa.Column("more", sa.Integer))
"""
SETTINGS = {
    "sqlite": "PRAGMA busy_timeout",
    "postgresql": "SELECT current_setting('lock_timeout')",
    "mariadb": "SELECT concat(@@SESSION.lock_wait_timeout, ' ', @@SESSION.innodb_lock_wait_timeout)",
}


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_connections, "_PATIENCE", 0.3)


def assert_waited_for_itself(each: Facade, path: Path, words: str) -> None:
    """The failure names the line that waited, and what to do."""
    line = next(n for n, text in enumerate(path.read_text("utf-8").splitlines(), 1) if words in text)
    error = str(failed(each))
    assert f"{path.name}:{line}: " in error
    assert (
        "the revision opened another connection besides op.get_bind(), and the two are waiting for each other: use only"
        in error
    )
    assert "another process" not in error


@pytest.mark.usefixtures("quickly")
def test_a_connection_that_waits_for_the_migration_ends_it(project: Project, database: Database) -> None:
    path = write(project, BESIDE_ASYNC if database.is_async else BESIDE)
    if database.is_async:
        make_async(path, "connection")
    with running(project, database, AMPHO_STATEMENT_LOCK_TIMEOUT=30) as each:
        assert_waited_for_itself(each, path, "other.execute")
        assert database.data() == {"alembic_version": [("core_1",)], "t": []}

        project.revision("core", "core_2", "core_1", upgrade="op.execute('INSERT INTO t VALUES (1)')")
        each.call("upgrade")
        assert database.rows() == ["core_2"]


@pytest.mark.usefixtures("quickly")
@pytest.mark.drivers("postgresql", "mariadb")
def test_a_migration_that_waits_for_a_connection_of_its_own_ends(project: Project, database: Database) -> None:
    path = write(project, BEFORE)
    with running(project, database) as each:
        assert_waited_for_itself(each, path, "op.add_column")
    assert database.columns("t") == ["id"]


@pytest.mark.usefixtures("quickly")
@pytest.mark.drivers("sqlite+pysqlite")
def test_sqlite_a_commit_that_waits_for_a_reader_of_its_own_ends(project: Project, database: Database) -> None:
    reads = "\n".join(f"readers[0].exec_driver_sql({sql!r})" for sql in ("BEGIN", "SELECT id FROM t"))
    opened = "global readers\nreaders = [op.get_bind().engine.connect()]"
    path = write(project, f"{opened}\n{reads}\nop.execute('INSERT INTO t VALUES (1)')")
    with running(project, database) as each:
        error = str(failed(each))
        assert f"{path.name}: OperationalError: database is locked (the revision opened another" in error
        assert database.data() == {"alembic_version": [("core_1",)], "t": []}


@pytest.mark.usefixtures("quickly")
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_the_apps_session_in_a_revision_is_told_of(project: Project, sync_database: Database) -> None:
    session = "from flask import current_app\nsession = current_app.extensions['ampho'].db.session\n"
    insert = "sa.text('INSERT INTO t VALUES (1)')"
    body = f"{session}op.execute('INSERT INTO t VALUES (1)')\ntry:\n    session.execute({insert})\nfinally:\n"
    path = write(project, f"{body}    session.remove()")
    with running(project, sync_database) as each:
        assert_waited_for_itself(each, path, "session.execute")


def test_other_connections_that_wait_for_nothing_do_no_harm(project: Project, database: Database) -> None:
    """Their limit ends with them or the step, on the connection that migrates and for whoever connects later."""
    setting = SETTINGS[database.backend]
    keep = f"text = str(op.get_bind().exec_driver_sql({setting!r}).scalar())\n"
    made = 'op.create_table("u", sa.Column("number", sa.Integer), sa.Column("text", sa.String(40)))'
    insert = "op.bulk_insert(sa.table('u', sa.column('number'), sa.column('text')), [{'number': %d, 'text': text}])"
    look = "with op.get_bind().engine.connect() as other:\n    other.execute(sa.text('SELECT id FROM t')).all()\n"
    write(project, f"{keep}{made}\n{insert % 1}")
    project.revision("core", "core_3", "core_2", upgrade=f"{look}    {keep}{insert % 2}\n{keep}{insert % 5}")
    project.revision("core", "core_4", "core_3", upgrade=f"{keep}{insert % 3}")
    project.revision("core", "core_5", "core_4", upgrade=f"op.get_bind().commit()\n{look}op.get_bind().commit()")
    project.revision("core", "core_6", "core_5", upgrade=f"{keep}{insert % 4}")
    with running(project, database) as each:
        each.call("upgrade")
        found = dict(database.query("SELECT number, text FROM u"))
        assert found[3] == found[4] == found[5] == found[1]
        assert found[2] != found[1]


@pytest.mark.usefixtures("quickly")
@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_a_lock_of_somebody_else_is_not_blamed_on_connections_that_are_closed(
    project: Project, database: Database
) -> None:
    look = "with op.get_bind().engine.connect() as other:\n    other.execute(sa.text('SELECT 1')).all()\n"
    write(project, f"{look}op.add_column('t', sa.Column('more', sa.Integer))")
    with running(project, database, AMPHO_STATEMENT_LOCK_TIMEOUT=30) as each:
        each.call("upgrade", "core_1")
        with database.connect() as connection:
            for statement in ("BEGIN", "SELECT * FROM t"):
                connection.exec_driver_sql(statement)
            timer = threading.Timer(0.8, connection.exec_driver_sql, ["ROLLBACK"])
            timer.start()
            each.call("upgrade")
            timer.join()
    assert database.columns("t") == ["id", "more"]


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_connections_to_another_database_are_not_hurried(
    project: Project, sync_database: Database, tmp_path: Path
) -> None:
    url = sync_database.url
    name = {"sqlite": str(tmp_path / "another.db"), "mariadb": "information_schema"}.get(url.get_backend_name())
    other = url.set(database=name or "postgres").render_as_string(hide_password=False)
    ask = f"before = op.get_bind().exec_driver_sql({SETTINGS[sync_database.backend]!r}).scalar()"
    again = ask.replace("before", "    meanwhile")
    another = f"with sa.create_engine({other!r}, poolclass=sa.NullPool).connect():"
    write(project, f"{ask}\n{another}\n{again}\nassert meanwhile == before")
    with running(project, sync_database) as each:
        each.call("upgrade")
    assert sync_database.rows() == ["core_2"]


@pytest.mark.drivers("postgresql+psycopg")
def test_connections_of_other_threads_wait_as_long_as_they_do(project: Project, database: Database) -> None:
    look = f"other.exec_driver_sql({SETTINGS['postgresql']!r}).scalar()"
    threads = "import threading\nfound = []\ndef work():\n    with op.get_bind().engine.connect() as other:\n"
    body = f"{threads}        found.append({look})\n"
    write(
        project, f"{body}thread = threading.Thread(target=work)\nthread.start()\nthread.join()\nassert found == ['0']"
    )
    with running(project, database) as each:
        each.call("upgrade")
    assert database.rows() == ["core_2"]


def test_the_apps_session_in_memory_takes_part_in_the_migration(project: Project) -> None:
    session = "from flask import current_app\nsession = current_app.extensions['ampho'].db.session\n"
    statements = "session.execute(sa.text('INSERT INTO t VALUES (%d)'))\nsession.%s()\nsession.remove()\n"
    write(project, f"{session}{statements % (1, 'commit')}{statements % (2, 'rollback')}")
    project.revision("core", "core_3", "core_2", upgrade=f"{session}{statements % (3, 'commit')}raise ValueError('no')")
    found: list[object] = []
    with facade(project, "flask", ["core"], "sqlite://") as each:
        assert "core_3 of core failed" in one_run(each, found)
    assert found == [("core_2",), (1,), (2,)]


def test_the_apps_session_in_memory_is_told_of_in_quart(project: Project) -> None:
    session = "from quart import current_app\nsession = current_app.extensions['ampho'].db.session\n"
    make_async(write(project, f"{session}await session.execute(sa.text('SELECT id FROM t'))"))
    found: list[object] = []
    with facade(project, "quart", ["core"], "sqlite+aiosqlite://") as each:
        assert "Session(op.get_bind())" in one_run(each, found)
    assert found == [("core_1",)]


@pytest.mark.drivers("sqlite", "postgresql+psycopg", "postgresql+asyncpg")
def test_a_revision_that_closes_the_connection_is_told_not_to(project: Project, database: Database) -> None:
    write(project, "with op.get_bind() as connection:\n    connection.execute(sa.text('INSERT INTO t VALUES (1)'))")
    with running(project, database) as each:
        assert "It closed the connection of op.get_bind(), for example with" in str(failed(each))
        assert database.data() == {"alembic_version": [("core_1",)], "t": []}

        project.revision("core", "core_2", "core_1", upgrade="op.execute('INSERT INTO t VALUES (2)')")
        each.call("upgrade")
        assert database.data() == {"alembic_version": [("core_2",)], "t": [(2,)]}
