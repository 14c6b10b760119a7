"""A schema of PostgreSQL as a database: all that belongs to it lies in it, and nothing of it is left elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import zigzag
from facade import facade
from inside import inside
from project import Project
from servers import Database
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    inspect,
)
from sqlalchemy.exc import IntegrityError

from ampho.database.connection import connect
from ampho.database.engine import unpooled
from ampho.database.lock import holder, locked
from ampho.database.postgres import describe_invalid_indexes
from ampho.database.protection import Protection
from ampho.database.schema import KeptConnection, member_engine, schema_of, with_schema
from ampho.errors import ConfigurationError, DatabaseError, DriverError, LockTimeoutError, RevisionFailedError
from ampho.migrate import executor, queries
from ampho.migrate.sql import upgrade_sql
from ampho.revise.autogenerate import generate
from ampho.settings import Settings

NAMES = ("acme", "Upper Case", 'quo"te', "per%cent%s", "apo's", "back\\slash", "a,b", "ü", ":x $1", "x" * 63)

CREATE = """
op.create_table(
    "thing",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("person_id", sa.Integer, sa.ForeignKey("public.person.id")),
    sa.Column("mood", sa.Enum("good", "bad", name="mood")),
)
with op.get_context().autocommit_block():
    op.execute("CREATE INDEX CONCURRENTLY ix_thing_mood ON thing (mood)")
"""
CHANGE = """
bind = op.get_bind()
savepoint = bind.begin_nested()
op.execute("DROP TABLE thing")
savepoint.rollback()
op.add_column("thing", sa.Column("name", sa.String(20)))
op.execute("INSERT INTO thing (id, name) VALUES (1, current_schema())")
with bind.engine.connect() as other:
    assert other.scalar(sa.text("SELECT current_schema()")) == bind.scalar(sa.text("SELECT name FROM thing"))
"""


def write(project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=CREATE, downgrade="op.drop_table('thing')\nop.execute('DROP TYPE mood')")
    project.revision("core", "core_2", "core_1", upgrade=CHANGE, downgrade="op.drop_column('thing', 'name')")


def models(*more: Column[Any]) -> MetaData:
    metadata = MetaData()
    Table("person", metadata, Column("id", Integer, primary_key=True), schema="public")
    Table(
        "thing",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("person_id", ForeignKey("public.person.id")),
        Column("mood", Enum("good", "bad", name="mood"), index=True),
        Column("name", String(20)),
        *more,
    )
    return metadata


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def tables(database: Database, schema: str | None = None) -> list[str]:
    with database.connect() as connection:
        return sorted(inspect(connection).get_table_names(schema))


def versions(database: Database, schema: str) -> list[tuple[Any, ...]]:
    return database.query(f"SELECT version_num FROM {quoted(schema).replace(':', chr(92) + ':')}.alembic_version")


def opened(engine: Engine, schema: str) -> Connection:
    return connect(with_schema(unpooled(engine), schema, "tenants"), "tenants")


@pytest.mark.drivers("postgresql")
def test_all_that_belongs_to_a_schema_lies_in_it(project: Project, database: Database) -> None:
    write(project)
    database.run("CREATE TABLE person (id integer PRIMARY KEY)", 'CREATE SCHEMA "Te%n""ant"', "CREATE SCHEMA other")
    own = ["alembic_version", "ampho_journal", "thing"]
    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        each.call("upgrade")
        packages = each.ampho.project(each.app)
        for schema in ('Te%n"ant', "other"):

            def up(engine: Engine, schema: str = schema) -> None:
                with opened(engine, schema) as connection:
                    assert [run.step.revision.id for run in executor.upgrade(packages, connection).steps] == [
                        "core_1",
                        "core_2",
                    ]
                with opened(engine, schema) as connection:
                    assert executor.upgrade(packages, connection).steps == ()

            inside(each, up)
            assert tables(database, schema) == own
            assert versions(database, schema) == [("core_2",)]
        assert database.query("SELECT name FROM other.thing") == [("other",)]

        def compare(engine: Engine) -> None:
            for more, changes in (((), 0), ((Column("size", Integer),), 1)):
                compared = replace(packages, metadata=models(*more))
                with opened(engine, "other") as connection:
                    drifts = generate.check(compared, connection, ("core",))
                    (drift,) = (each for each in drifts if each.package == "core")
                    assert len(drift.changes) == changes, drift

        inside(each, compare)

        def down(engine: Engine) -> None:
            with opened(engine, "other") as connection:
                executor.downgrade(packages, connection, "base")

        inside(each, down)
        assert tables(database, "other") == ["alembic_version", "ampho_journal"]
        assert database.query("SELECT count(*) FROM pg_type WHERE typname = 'mood'") == [(2,)]
        assert tables(database, 'Te%n"ant') == own
        assert tables(database) == [*own[:2], "person", "thing"]
        assert database.rows() == ["core_2"]

        # The app's own engine, its pool, and its dialect know nothing of it.
        def look(engine: Engine) -> None:
            with engine.connect() as connection:
                assert connection.exec_driver_sql("SHOW search_path").scalar() == '"$user", public'
                assert schema_of(connection) is None
                assert connection.dialect.default_schema_name == "public"
                assert inspect(connection).get_table_names() != []

        inside(each, look)


@pytest.mark.drivers("postgresql")
def test_a_failed_revision_is_recorded_in_its_schema(project: Project, database: Database) -> None:
    project.package("core")
    project.revision(
        "core", "core_1", upgrade="op.create_table('t', sa.Column('id', sa.Integer))\nop.execute('nonsense')"
    )
    database.run("CREATE SCHEMA acme")
    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        packages = each.ampho.project(each.app)

        def fail(engine: Engine) -> None:
            with opened(engine, "acme") as connection, pytest.raises(RevisionFailedError):
                executor.upgrade(packages, connection)

        inside(each, fail)
    assert tables(database, "acme") == ["ampho_journal"]
    assert database.query("SELECT outcome FROM acme.ampho_journal") == [("failed",)]
    assert tables(database) == []


LEAVES = """
op.execute("SET search_path TO public")
with op.get_context().autocommit_block():
    op.execute("CREATE TABLE in_public (id integer)")
"""


@pytest.mark.drivers("postgresql")
def test_a_revision_that_leaves_the_schema_leaves_nothing_of_ampho_elsewhere(
    project: Project, database: Database
) -> None:
    """As one does that pg_dump wrote, which sets search_path and does not set it back."""
    project.package("core")
    project.revision("core", "core_1", upgrade=LEAVES)
    project.revision("core", "core_2", "core_1", upgrade="op.create_table('t', sa.Column('id', sa.Integer))")
    project.revision("core", "core_3", "core_2", upgrade=LEAVES)
    database.run("CREATE SCHEMA acme")
    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        each.call("stamp", "core_1")
        packages = each.ampho.project(each.app)

        def use(engine: Engine) -> None:
            with opened(engine, "acme") as connection:
                executor.upgrade(packages, connection, "core_2")
            with opened(engine, "acme") as connection, pytest.raises(RevisionFailedError, match="already exists"):
                executor.upgrade(packages, connection)

        inside(each, use)
    assert tables(database, "acme") == ["alembic_version", "ampho_journal", "t"]
    assert tables(database) == ["alembic_version", "ampho_journal", "in_public"]
    assert versions(database, "acme") == [("core_2",)]
    query = "SELECT revision, outcome FROM {}.ampho_journal ORDER BY id"
    assert database.query(query.format("public")) == [("core_1", "stamped")]
    assert database.query(query.format("acme")) == [("core_1", "done"), ("core_2", "done"), ("core_3", "partial")]


@pytest.mark.drivers("postgresql")
def test_the_version_table_of_a_schema_may_not_be_shared(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade="op.create_table('t', sa.Column('id', sa.Integer))")
    database.run("CREATE SCHEMA acme")
    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        packages = each.ampho.project(each.app)
        shared = replace(packages, options={**packages.options, "version_table_schema": "public"})

        def use(engine: Engine) -> None:
            for run in (executor.upgrade, queries.status):
                with (
                    opened(engine, "acme") as connection,
                    pytest.raises(
                        ConfigurationError, match="the version table of the schema acme into the schema public"
                    ),
                ):
                    run(shared, connection)

        inside(each, use)
    assert tables(database, "acme") == tables(database) == []


@pytest.mark.drivers("postgresql")
def test_a_script_begins_with_its_schema(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade="op.create_table('t', sa.Column('id', sa.Integer))")
    name = 'Te%n"ant'
    database.run(f"CREATE SCHEMA {quoted(name)}")
    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        packages = each.ampho.project(each.app)

        def render(engine: Engine) -> str:
            with opened(engine, name) as connection:
                return upgrade_sql(packages, connection)

        database.client(inside(each, render))
        assert inside(each, render) == ""
    assert tables(database, name) == ["alembic_version", "t"]
    assert tables(database) == []


@pytest.mark.drivers("postgresql")
def test_any_name_and_the_path_that_no_rollback_undoes(project: Project, database: Database) -> None:
    project.package("core")
    database.run(*[f"CREATE SCHEMA {quoted(name)}" for name in NAMES])

    def use(engine: Engine) -> None:
        for name in NAMES:
            with opened(engine, name) as connection:
                connection.exec_driver_sql("CREATE TABLE t (id integer)")
                connection.rollback()
                connection.exec_driver_sql("CREATE TABLE t (id integer)")
                assert inspect(connection).get_table_names() == ["t"]
                assert inspect(connection).default_schema_name == name
                connection.commit()
                assert connection.exec_driver_sql("SELECT current_schemas(false)").scalar() == [name]

    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        inside(each, use)
    assert all(tables(database, name) == ["t"] for name in NAMES)
    assert tables(database) == []


@pytest.mark.drivers("postgresql")
def test_a_schema_that_does_not_exist(project: Project, database: Database) -> None:
    project.package("core")

    def use(engine: Engine) -> None:
        with pytest.raises(
            DatabaseError, match=r"schema nowhere does not exist. Create it, or run .ampho db-up --create"
        ):
            opened(engine, "nowhere")

    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        inside(each, use)
        for name in ("", "x" * 64, "ä" * 32):
            with pytest.raises(ConfigurationError, match="1 to 63 bytes"):
                inside(each, partial(opened, schema=name))


@pytest.mark.drivers("sqlite+pysqlite", "mariadb")
def test_other_databases_have_no_schemas(project: Project, database: Database) -> None:
    project.package("core")
    with (
        facade(project, zigzag.framework_of(database), ["core"], database.url) as each,
        pytest.raises(ConfigurationError, match="tenants names the schema acme, but "),
    ):
        inside(each, partial(opened, schema="acme"))


@contextmanager
def listening(engine: Engine, name: str, statement: str) -> Iterator[None]:
    """A listener of the app that chooses a schema, as for a tenant."""

    def choose(connection: Any, *args: object) -> None:
        cursor = connection.connection.cursor() if name == "begin" else connection.cursor()
        cursor.execute(statement)
        cursor.close()

    event.listen(engine, name, choose)
    try:
        yield
    finally:
        event.remove(engine, name, choose)


@pytest.mark.drivers("postgresql")
def test_listeners_of_the_app_that_choose_a_schema(project: Project, database: Database) -> None:
    project.package("core")
    database.run("CREATE SCHEMA acme", "CREATE SCHEMA wrong")

    def use(engine: Engine) -> None:
        for name in ("connect", "checkout"):
            with listening(engine, name, "SET search_path TO wrong"), opened(engine, "acme") as connection:
                assert connection.exec_driver_sql("SHOW search_path").scalar() == "acme"
        with (
            listening(engine, "begin", "SET LOCAL search_path TO wrong"),
            pytest.raises(DatabaseError, match="to the schema acme leads to the schema wrong, so nothing was run"),
        ):
            opened(engine, "acme")

    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        inside(each, use)


@pytest.mark.drivers("postgresql")
def test_each_schema_has_its_own_lock(project: Project, database: Database) -> None:
    project.package("core")
    database.run("CREATE SCHEMA one", "CREATE SCHEMA two")
    settings = Settings({"AMPHO_LOCK_TIMEOUT": 0.1}, {})

    def use(engine: Engine) -> None:
        waits: list[str] = []
        with (
            opened(engine, "one") as one,
            opened(engine, "two") as two,
            opened(engine, "one") as again,
            opened(engine, "public") as public,
            engine.connect() as default,
            locked(one, settings, waits.append),
            locked(two, settings, waits.append),
            locked(default, settings, waits.append),
        ):
            assert waits == []
            for connection, by in ((again, one), (public, default)):
                pid = by.exec_driver_sql("SELECT pg_backend_pid()").scalar()
                assert str(holder(connection, settings)).startswith(f"pid {pid}, ")
                with pytest.raises(LockTimeoutError, match=f"pid {pid}, "), locked(connection, settings, waits.append):
                    raise AssertionError("the lock was held")
        with opened(engine, "one") as one:
            assert holder(one, settings) == ""

    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        inside(each, use)


@pytest.mark.drivers("postgresql")
def test_what_is_said_of_a_schema_is_not_said_of_its_neighbor(project: Project, database: Database) -> None:
    project.package("core")
    for schema in ("one", "two"):
        database.run(f"CREATE SCHEMA {schema}", f"CREATE TABLE {schema}.t AS SELECT 1 AS id FROM generate_series(1, 2)")
    with pytest.raises(IntegrityError):
        database.run("CREATE UNIQUE INDEX CONCURRENTLY ix_t ON two.t (id)")

    def use(engine: Engine) -> None:
        with opened(engine, "one") as one, opened(engine, "two") as two:
            assert Protection(enabled=True).on(one).database == "one"  # the name to type
            assert describe_invalid_indexes(one, "create ix_t") == ""
            assert "An invalid index remains: ix_t of t. " in describe_invalid_indexes(two, "create ix_t")

    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        inside(each, use)


@pytest.mark.drivers("postgresql")
def test_the_lock_of_a_database_has_the_key_of_earlier_releases(project: Project, database: Database) -> None:
    project.package("core")

    def use(engine: Engine) -> None:
        with engine.connect() as connection, locked(connection, Settings({}, {}), print):
            found = database.query(
                "SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory' AND database ="
                " (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            assert found == [(1253326954, 1240793850)]

    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        inside(each, use)


def test_another_address(project: Project, database: Database, make_database: Any) -> None:
    """With the options and listeners of the app, or of another driver, without them."""
    project.package("core")
    other, third = (
        make_database(database.driver),
        make_database("sqlite+aiosqlite" if database.is_async else "sqlite+pysqlite"),
    )
    seen: list[object] = []

    def use(engine: Engine) -> None:
        def listener(*args: object) -> None:
            seen.append(args)

        event.listen(engine, "connect", listener)
        with connect(member_engine(engine, other.url, "tenants/x"), "tenants/x") as connection:
            connection.exec_driver_sql("CREATE TABLE t (id integer)")
            connection.commit()
            assert len(seen) == 1
        with connect(member_engine(engine, third.url, "tenants/x"), "tenants/x") as connection:
            assert connection.dialect.name == "sqlite"
        event.remove(engine, "connect", listener)

    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        inside(each, use)
        wrong = other.url.set(drivername="sqlite+pysqlite" if database.is_async else "sqlite+aiosqlite")
        with pytest.raises(DriverError, match="tenants/x: "):
            inside(each, lambda engine: member_engine(engine, wrong, "tenants/x"))
    assert (database.tables(), other.tables()) == ([], ["t"])


def pid(connection: Connection) -> int:
    found = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    connection.rollback()
    return int(found)


STATE = (
    "SELECT current_schema(), current_setting('role'), current_setting('statement_timeout'),"
    " (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    " AND pid = pg_backend_pid()), to_regclass('pg_temp.draft')"
)


@pytest.mark.drivers("postgresql+psycopg")
def test_a_kept_connection_is_reset_for_each_schema(database: Database) -> None:
    database.run("CREATE SCHEMA first", "CREATE SCHEMA second")
    engine, kept = create_engine(database.url), KeptConnection()
    make = partial(unpooled, engine)
    with connect(kept.engine(make, "first", "tenants"), "tenants") as connection:
        before, session = connection.exec_driver_sql(STATE).one(), pid(connection)
        for statement in (
            "SET ROLE pg_monitor",
            "SET statement_timeout = 12345",
            "SET search_path TO public",
            "PREPARE one AS SELECT 1",
            "SELECT pg_advisory_lock(1)",
            "CREATE TEMP TABLE draft (id int)",
        ):
            connection.exec_driver_sql(statement)
            connection.commit()
        assert connection.exec_driver_sql(STATE).one() != before
    with connect(kept.engine(make, "second", "tenants"), "tenants") as connection:
        assert pid(connection) == session
        assert schema_of(connection) == connection.dialect.default_schema_name == "second"
        assert tuple(connection.exec_driver_sql(STATE).one()) == ("second", *before[1:])

    database.query("SELECT pg_terminate_backend(:pid)", pid=session)
    with connect(kept.engine(make, "first", "tenants"), "tenants") as connection:
        assert pid(connection) != session
        assert connection.exec_driver_sql("SELECT current_schema()").scalar() == "first"
    with pytest.raises(ConfigurationError, match="tenants names the schema ''"):
        kept.engine(make, "", "tenants")
    kept.engine(make, "first", "tenants").dispose()


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
@pytest.mark.parametrize("listens", ["connect", "do_connect", None])
def test_a_connection_that_the_app_prepares_is_not_kept(
    project: Project, database: Database, listens: str | None
) -> None:
    database.run("CREATE SCHEMA first")

    def sessions(engine: Engine) -> set[int]:
        if listens:
            event.listen(engine, listens, lambda *args: None)
        kept, found = KeptConnection(), set[int]()
        for _ in range(2):
            with connect(kept.engine(partial(unpooled, engine), "first", "tenants"), "tenants") as connection:
                found.add(pid(connection))
        kept.engine(partial(unpooled, engine), "first", "tenants").dispose()
        return found

    with facade(project, zigzag.framework_of(database), [], database.url) as each:
        is_kept = listens is None and "psycopg" in database.url.drivername
        assert len(inside(each, sessions)) == (1 if is_kept else 2)
