"""Tests in which everything is rolled back, although sessions commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from servers import Database
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.util import greenlet_spawn

from ampho.database.one_transaction import in_one_transaction
from ampho.database.redirect import redirected
from ampho.errors import DatabaseError


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)


def engine_for(database: Database, **options: Any) -> Engine:
    if database.is_async:
        return create_async_engine(database.url, **options).sync_engine
    return create_engine(database.url, **options)


def ids(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT id FROM note ORDER BY id")))


def add(target: Session | Engine, *numbers: int) -> None:
    if isinstance(target, Engine):
        with Session(target) as session:
            add(session, *numbers)
            session.commit()
    else:
        target.add_all(Note(id=number) for number in numbers)
        target.flush()


class Suite:
    """Runs tests on one database, each in one transaction, all in one event loop if the driver is async."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self.database = database
        self.engine = engine
        self.runner = asyncio.Runner() if database.is_async else None

    def __call__(self, test: Callable[[Engine], None]) -> None:
        with in_one_transaction(self.engine):
            self.run(test)
        assert self.database.query("SELECT id FROM note") == [(100,)]

    def run(self, test: Callable[[Engine], None]) -> None:
        if self.runner is None:
            test(self.engine)
        else:
            self.runner.run(greenlet_spawn(test, self.engine))


@contextmanager
def suite_on(database: Database, **options: Any) -> Iterator[Suite]:
    database.run("CREATE TABLE note (id integer PRIMARY KEY)", "INSERT INTO note VALUES (100)")
    engine = engine_for(database, **options)
    with redirected(engine, engine_for(database)):
        tests = Suite(database, engine)
        yield tests
    if tests.runner:
        tests.runner.close()


def commits(engine: Engine) -> None:
    add(engine, 1)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO note VALUES (2)"))
    assert ids(engine) == [1, 2, 100]


def rolls_back_to_the_last_commit(engine: Engine) -> None:
    with Session(engine) as session:
        add(session, 1)
        session.commit()
        add(session, 2)
        session.rollback()
        assert ids(engine) == [1, 100]
        add(session, 3)
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(text("INSERT INTO note VALUES (4), (100)"))
    assert ids(engine) == [1, 100]


def uses_savepoints(engine: Engine) -> None:
    with Session(engine) as session:
        add(session, 1)
        with session.begin_nested() as nested:
            add(session, 2)
            nested.rollback()
        with session.begin_nested():
            add(session, 3)
        session.commit()
    assert ids(engine) == [1, 3, 100]


def goes_on_after_an_error(engine: Engine) -> None:
    with Session(engine) as session:
        add(session, 1)
        session.commit()
        with pytest.raises(IntegrityError):
            add(session, 2, 100)
        session.rollback()
        add(session, 3)
        session.commit()
    assert ids(engine) == [1, 3, 100]


def other_sessions_read_what_is_not_committed_and_leave_it(engine: Engine) -> None:
    with Session(engine) as session:
        add(session, 1)
        assert ids(engine) == [1, 100]
        add(engine, 2)
        assert ids(engine) == [1, 2, 100]
        session.commit()
    assert ids(engine) == [1, 2, 100]


def what_others_commit_stays(engine: Engine) -> None:
    with Session(engine) as session, Session(engine) as other:
        session.connection().execute(text("SELECT 1"))
        add(engine, 1)
        add(other, 2)
        session.rollback()
        assert ids(engine) == [1, 2, 100]
        other.rollback()
        assert ids(engine) == [1, 100]
        add(other, 3)
        other.rollback()
        assert ids(engine) == [1, 100]


def reads_end_nothing(engine: Engine) -> None:
    for end in (Session.rollback, Session.commit, Session.close):
        with Session(engine) as reader, Session(engine) as writer:
            reader.scalars(text("WITH found AS (SELECT 1) SELECT * FROM found")).all()
            add(writer, 1)
            end(reader)
            assert ids(engine) == [1, 100]
            with suppress(DBAPIError):
                reader.execute(text("SELECT * FROM missing"))
            end(reader)
            add(writer, 2)
            assert ids(engine) == [1, 2, 100]
            writer.rollback()
            assert ids(engine) == [100]


def transactions_overlap_and_commit(engine: Engine) -> None:
    with Session(engine) as one, Session(engine) as two, Session(engine) as three:
        add(one, 1)
        add(two, 2)
        add(one, 3)
        two.commit()
        with suppress(IntegrityError), three.begin_nested():
            add(three, 4, 100)
        add(three, 5)
        three.rollback()
        with one.begin_nested():
            add(one, 6)
            add(two, 7)
        two.commit()
        one.commit()
        add(one, 8)
        one.rollback()
    assert ids(engine) == [1, 2, 3, 6, 7, 100]


def other_sessions_work_after_an_error(engine: Engine) -> None:
    with Session(engine) as session:
        add(engine, 1)
        with pytest.raises(DBAPIError):
            session.execute(text("SELECT * FROM missing"))
        assert ids(engine) == [1, 100]
        add(engine, 2)
    with engine.connect() as connection:
        with pytest.raises(IntegrityError):
            connection.execute(text("INSERT INTO note VALUES (100)"))
        add(engine, 3)
    assert ids(engine) == [1, 2, 3, 100]


def autocommits(engine: Engine) -> None:
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("INSERT INTO note VALUES (1)"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("INSERT INTO note VALUES (2)"))
        for failing in ("INSERT INTO note VALUES (100)", "SELECT * FROM missing"):
            with pytest.raises(DBAPIError):
                connection.execute(text(failing))
        connection.execute(text("INSERT INTO note VALUES (4)"))
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO note VALUES (3)"))
    assert ids(engine) == [1, 2, 4, 100]


def disposes_of_the_engine(engine: Engine) -> None:
    add(engine, 1)
    engine.dispose()
    assert ids(engine) == [1, 100]


def creates_tables(engine: Engine) -> None:
    with engine.begin() as connection:
        if engine.dialect.name != "mariadb":
            connection.exec_driver_sql("CREATE TABLE more (id integer)")
        else:
            connection.exec_driver_sql("CREATE TEMPORARY TABLE more (id integer)")
            with pytest.raises(DatabaseError, match=r"^mariadb commits at CREATE, .* Use the fixture ampho_database"):
                connection.exec_driver_sql("CREATE TABLE most (id integer)")


def raw_cursors(engine: Engine) -> None:
    connection = engine.raw_connection()
    cursor = connection.cursor()
    cursor.arraysize = 2
    cursor.executemany("INSERT INTO note VALUES (1)", [()])
    cursor.execute("SELECT id FROM note ORDER BY id")
    assert list(cursor) == [(1,), (100,)]
    cursor.close()
    connection.close()
    assert ids(engine) == [100]


TESTS = (
    raw_cursors,
    commits,
    rolls_back_to_the_last_commit,
    uses_savepoints,
    goes_on_after_an_error,
    other_sessions_read_what_is_not_committed_and_leave_it,
    what_others_commit_stays,
    reads_end_nothing,
    transactions_overlap_and_commit,
    other_sessions_work_after_an_error,
    autocommits,
    disposes_of_the_engine,
    creates_tables,
)
WHO = {"postgresql": "SELECT pg_backend_pid()", "mariadb": "SELECT connection_id()"}


def test_everything_is_rolled_back_and_one_connection_serves_all_tests(database: Database) -> None:
    opened: list[object] = []
    with suite_on(database) as tests:
        event.listen(tests.engine, "connect", lambda connection, record: opened.append(connection))
        for test in TESTS:
            tests(test)
        assert len(opened) == 1
        assert database.tables() == ["note"]
        tests.run(lambda engine: add(engine, 1))
        assert len(opened) == 1  # which commits again
    assert database.query("SELECT id FROM note ORDER BY id") == [(1,), (100,)]


def rolls_back_below_a_commit(engine: Engine) -> None:
    with Session(engine) as one, Session(engine) as two:
        add(one, 1)
        add(two, 2)
        two.commit()
        one.rollback()


def rolls_back_below_a_transaction(engine: Engine) -> None:
    with Session(engine) as one, Session(engine) as two:
        add(one, 1)
        add(two, 2)
        with suppress(DatabaseError):
            one.rollback()
        two.commit()


def rolls_back_to_a_savepoint_below_another_transaction(engine: Engine) -> None:
    with Session(engine) as one, Session(engine) as two:
        nested = one.begin_nested()
        add(one, 1)
        add(two, 2)
        nested.rollback()


OVERLAPS = (
    rolls_back_below_a_commit,
    rolls_back_below_a_transaction,
    rolls_back_to_a_savepoint_below_another_transaction,
)


def test_a_rollback_that_would_undo_what_another_connection_wrote_is_refused(database: Database) -> None:
    with suite_on(database) as tests:
        for test in OVERLAPS:
            with (
                pytest.raises(DatabaseError, match=r"^Two transactions of this test overlap.* Commit or roll back one"),
                in_one_transaction(tests.engine),
                pytest.raises(DatabaseError, match="overlap"),
            ):
                tests.run(test)
            assert database.query("SELECT id FROM note") == [(100,)]
        tests(commits)


def test_tasks_may_write_at_the_same_time(async_database: Database) -> None:
    async def insert(engine: AsyncEngine, number: int) -> None:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT id FROM note"))
            await connection.execute(text("INSERT INTO note VALUES (:id)"), {"id": number})
            await connection.execute(text("SELECT id FROM note"))

    async def gather(engine: AsyncEngine) -> None:
        await asyncio.gather(*(insert(engine, number) for number in (1, 2, 3)))
        await asyncio.gather(*(insert(engine, number) for number in (4, 5)))
        assert await greenlet_spawn(ids, engine.sync_engine) == [1, 2, 3, 4, 5, 100]

    with suite_on(async_database) as tests:
        assert tests.runner
        with in_one_transaction(tests.engine):
            tests.runner.run(gather(AsyncEngine(tests.engine)))
        assert async_database.query("SELECT id FROM note") == [(100,)]


def test_threads_may_write_at_the_same_time(sync_database: Database) -> None:
    with suite_on(sync_database) as tests, in_one_transaction(tests.engine), ThreadPoolExecutor(4) as threads:
        list(threads.map(partial(add, tests.engine), range(20)))
        assert ids(tests.engine) == [*range(20), 100]


def test_each_test_may_have_an_event_loop_of_its_own(async_database: Database) -> None:
    with suite_on(async_database) as tests:
        for test in TESTS:
            with in_one_transaction(tests.engine):
                asyncio.run(greenlet_spawn(test, tests.engine))
            assert async_database.query("SELECT id FROM note") == [(100,)]
        with in_one_transaction(tests.engine):
            asyncio.run(greenlet_spawn(ids, tests.engine))
            asyncio.run(greenlet_spawn(add, tests.engine, 1))
            with pytest.raises(DatabaseError, match=r"in another event loop.* Use one event loop"):
                asyncio.run(greenlet_spawn(ids, tests.engine))
        assert async_database.query("SELECT id FROM note") == [(100,)]


def test_a_session_that_outlives_a_test_is_emptied(sync_database: Database) -> None:
    with suite_on(sync_database) as tests, Session(tests.engine) as session:
        for ends in (True, False):
            with in_one_transaction(tests.engine):
                assert session.get(Note, 1) is None
                add(session, 1)
                if ends:
                    session.commit()
                assert session.get(Note, 1)
            assert not session.in_transaction()
            assert not list(session)


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK"])
def test_the_end_of_the_transaction_is_noticed(database: Database, statement: str) -> None:
    def end(engine: Engine) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    with suite_on(database) as tests:
        with pytest.raises(DatabaseError, match=r"^The transaction of the test was ended by a statement"):
            tests(end)
        tests(commits)


def test_an_engine_that_commits_each_statement_commits_in_the_transaction(database: Database) -> None:
    def insert(engine: Engine) -> None:
        with engine.connect() as connection:
            connection.execute(text("INSERT INTO note VALUES (1)"))
        assert ids(engine) == [1, 100]

    with suite_on(database, isolation_level="AUTOCOMMIT") as tests:
        tests(insert)
        tests(insert)
        tests.run(insert)
    assert database.query("SELECT id FROM note ORDER BY id") == [(1,), (100,)]


@pytest.mark.drivers("postgresql", "mariadb")
def test_a_statement_may_be_cancelled(async_database: Database) -> None:
    """A cancelled statement ends the connection of asyncmy, which is noticed at the end of the test."""
    sleep = text("SELECT pg_sleep(5)" if async_database.backend == "postgresql" else "SELECT SLEEP(5)")

    async def wait(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO note VALUES (2)"))
            await connection.execute(sleep)

    async def cancel(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO note VALUES (1)"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(engine), 0.1)
        if async_database.backend == "postgresql":
            async with engine.connect() as connection:
                assert list(await connection.scalars(text("SELECT id FROM note"))) == [100, 1]

    ends = (
        nullcontext() if async_database.backend == "postgresql" else pytest.raises(DatabaseError, match="by an error")
    )
    with suite_on(async_database) as tests:
        assert tests.runner
        with ends, in_one_transaction(tests.engine):
            tests.runner.run(cancel(AsyncEngine(tests.engine)))
        tests(commits)


@pytest.mark.drivers("sqlite", "mariadb")
def test_listeners_may_begin_transactions(database: Database) -> None:
    with suite_on(database) as tests:

        @event.listens_for(tests.engine, "connect")
        def turn_off(connection: Any, record: object) -> None:
            if database.backend == "sqlite":
                connection.isolation_level = None

        @event.listens_for(tests.engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN")

        for test in (commits, rolls_back_to_the_last_commit, what_others_commit_stays):
            tests(test)
        tests.run(lambda engine: add(engine, 1))
    assert database.query("SELECT id FROM note ORDER BY id") == [(1,), (100,)]


@pytest.mark.parametrize("driver", ["sqlite+pysqlite", "sqlite+aiosqlite"])
def test_a_database_in_memory_is_rolled_back(driver: str) -> None:
    memory = Database(driver, make_url(f"{driver}://"), "")
    engine, to = engine_for(memory), engine_for(memory)
    with redirected(engine, to):
        tests = Suite(memory, engine)

        def create(engine: Engine) -> None:
            Base.metadata.create_all(engine)
            add(engine, 100)

        tests.run(create)
        for test in TESTS:
            with in_one_transaction(engine):
                tests.run(test)
            tests.run(lambda engine: _check(ids(engine), [100]))
    if tests.runner:
        tests.runner.close()


def _check(found: list[int], expected: list[int]) -> None:
    assert found == expected


def test_an_engine_that_is_not_redirected_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Redirect the engine first"):
        in_one_transaction(create_engine(f"sqlite:///{tmp_path}/own.db"))
