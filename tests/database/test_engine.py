"""Connections for migrations: made as the app's are, never to a database that is not meant, and closed for good."""

from __future__ import annotations

import asyncio
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zigzag
from facade import URLS, Facade, facade
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from project import Project
from quart import Quart
from servers import Database
from sqlalchemy import URL, Connection, Engine, MetaData, event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from ampho import Ampho, AsyncAmpho, AsyncSQLAlchemy
from ampho.errors import ConfigurationError, DatabaseError, DriverError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its present release uses what SQLAlchemy 2.1 deprecates
    from advanced_alchemy.config import SQLAlchemyAsyncConfig

ON_SERVERS = ("postgresql", "mariadb")
WHICH = {"postgresql": "SELECT current_database()", "mariadb": "SELECT DATABASE()"}
SESSIONS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'",
    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE db = :name AND id <> connection_id()",
}


def names_of(database: Database) -> tuple[str, ...]:
    """What the driver calls the argument that names the database."""
    return ("database", "db") if database.backend == "mariadb" else NAMES[database.driver]


NAMES = {
    "postgresql+psycopg": ("dbname",),
    "postgresql+psycopg_async": ("dbname",),
    "postgresql+asyncpg": ("database",),
}


def write(project: Project, database: Database, package: str = "core") -> None:
    """Write a revision that runs on a throwaway database only."""
    project.package(package)
    project.revision(
        package,
        f"{package}_1",
        upgrade=f"""
        name = op.get_bind().scalar(sa.text({WHICH[database.backend]!r}))
        assert name.startswith(("ampho_build_", "ampho_scratch_")), name
        op.create_table("{package}_thing", sa.Column("id", sa.Integer))
        """,
    )


@contextmanager
def service(database: Database, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """A service file of libpq that names the database."""
    (folder / "services").write_text(f"[shop]\ndbname={database.name}\n", "utf-8")
    patch.setenv("PGSERVICEFILE", str(folder / "services"))
    patch.setenv("PGSERVICE", "shop")
    yield


def nameless(url: URL) -> URL:
    """Leave the name of the database out; a driver then has it from elsewhere, or takes the user's."""
    return URL.create(url.drivername, url.username, url.password, url.host, url.port)


# ---- a throwaway database, wherever the name of the app's comes from ----


@pytest.mark.filterwarnings("ignore:'db' is deprecated")
@pytest.mark.drivers(*ON_SERVERS)
def test_scratch_overrides_the_name_in_the_query_and_in_the_arguments(project: Project, database: Database) -> None:
    write(project, database)
    bare, framework = nameless(database.url), zigzag.framework_of(database)
    for name in names_of(database):
        for url, options in (
            (bare.update_query_dict({name: database.name}), {}),
            (bare, {"connect_args": {name: database.name}}),
        ):
            with facade(project, framework, ["core"], url, SQLALCHEMY_ENGINE_OPTIONS=options) as each:
                each.call("check", scratch=True)
                assert database.tables() == []


@pytest.mark.drivers("postgresql")
def test_scratch_overrides_the_name_in_the_environment(
    project: Project, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, database)
    framework = zigzag.framework_of(database)
    with monkeypatch.context() as patch, facade(project, framework, ["core"], nameless(database.url)) as each:
        patch.setenv("PGDATABASE", database.name)
        each.call("check", scratch=True)
    if "psycopg" in database.driver:
        with (
            monkeypatch.context() as patch,
            service(database, tmp_path, patch),
            facade(project, framework, ["core"], nameless(database.url)) as each,
        ):
            each.call("check", scratch=True)
    assert database.tables() == []


@contextmanager
def listening(target: Any, name: str, listener: Callable[..., Any]) -> Iterator[None]:
    event.listen(target, name, listener)
    try:
        yield
    finally:
        event.remove(target, name, listener)


@pytest.mark.drivers(*ON_SERVERS)
def test_scratch_overrides_the_name_that_a_listener_gives(project: Project, database: Database) -> None:
    """It changes the arguments of the connection, as those do that add a token to them."""
    write(project, database)
    (name, *_) = names_of(database)

    def name_it(dialect: object, record: object, args: list[Any], arguments: dict[str, Any]) -> None:
        arguments[name] = database.name

    with (
        facade(project, zigzag.framework_of(database), ["core"], database.url) as each,
        listening(Engine, "do_connect", name_it),
    ):
        each.call("check", scratch=True)
    assert database.tables() == []


@pytest.mark.drivers(*ON_SERVERS)
def test_the_server_is_asked_where_a_connection_leads_before_anything_runs(
    project: Project, database: Database
) -> None:
    write(project, database)
    (name, *_) = names_of(database)

    def connect(dialect: Any, record: object, args: list[Any], arguments: dict[str, Any]) -> Any:
        return dialect.connect(*args, **arguments | {name: database.name})

    with (
        facade(project, zigzag.framework_of(database), ["core"], database.url) as each,
        listening(Engine, "do_connect", connect),
        pytest.raises(DatabaseError) as caught,
    ):
        each.call("check", scratch=True)
    assert f" leads to {database.name}, so nothing was run on it." in str(caught.value)
    assert database.tables() == []
    assert database.name not in scratch_databases(database)


@pytest.mark.drivers("mariadb")
@pytest.mark.parametrize("name", ["connect", "begin"])
def test_the_server_is_asked_again_after_the_apps_listeners(project: Project, database: Database, name: str) -> None:
    """One that selects a database, as for a tenant, leads back from the throwaway one."""
    write(project, database)

    def connect(connection: Any, record: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(f"USE {database.name}")
        cursor.close()

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"USE {database.name}")

    with (
        facade(project, zigzag.framework_of(database), ["core"], database.url) as each,
        listening(Engine, name, {"connect": connect, "begin": begin}[name]),
        pytest.raises(DatabaseError, match=f" leads to {database.name}, so nothing was run on it"),
    ):
        each.call("check", scratch=True)
    assert database.tables() == []


@pytest.mark.drivers("sqlite")
def test_a_file_is_not_taken_for_the_database_in_memory(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade="op.create_table('thing', sa.Column('id', sa.Integer))")

    def connect(dialect: Any, record: object, args: list[Any], arguments: dict[str, Any]) -> Any:
        return dialect.connect(database.name, **arguments)

    with (
        facade(project, zigzag.framework_of(database), ["core"], database.url) as each,
        listening(Engine, "do_connect", connect),
        pytest.raises(DatabaseError, match=f" leads to {database.name}, so nothing was run"),
    ):
        each.call("check", scratch=True)
    assert database.tables() == []


def scratch_databases(database: Database) -> list[str]:
    names = {
        "postgresql": "SELECT datname FROM pg_database",
        "mariadb": "SELECT schema_name FROM information_schema.schemata WHERE schema_comment = ''",
    }
    return [name for (name,) in database.query(names[database.backend]) if name.startswith("ampho_scratch_")]


# ---- connections are made as the app's are ----

ARGUMENTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "postgresql+psycopg": ({"options": "-csearch_path=shop"}, "SHOW search_path", "shop"),
    "postgresql+psycopg_async": ({"options": "-csearch_path=shop"}, "SHOW search_path", "shop"),
    "postgresql+asyncpg": ({"server_settings": {"search_path": "shop"}}, "SHOW search_path", "shop"),
    "mariadb+pymysql": ({"init_command": "SET group_concat_max_len=12345"}, "SELECT @@group_concat_max_len", "12345"),
    "mariadb+asyncmy": ({"init_command": "SET group_concat_max_len=12345"}, "SELECT @@group_concat_max_len", "12345"),
}
"""Arguments for the driver, a question about what they make of a connection, and the answer."""


def make(kind: str, url: URL, options: dict[str, Any]) -> Facade:
    """Make an app whose database extension is of that kind, with options for its engine."""
    if kind == "SQLAlchemy":
        flask_app = Flask("app", root_path=".")
        flask_app.config.update(SQLALCHEMY_DATABASE_URI=url, AMPHO_MIGRATION_PACKAGES=["core"])
        return Facade(flask_app, Ampho(flask_app, SQLAlchemy(flask_app, engine_options=options)))
    app = Quart("app", root_path=".")
    app.config.update(SQLALCHEMY_DATABASE_URI=url, AMPHO_MIGRATION_PACKAGES=["core"])
    db: object
    if kind == "AsyncSQLAlchemy":
        db = AsyncSQLAlchemy(app, engine_options=options)
    else:
        db = create_async_engine(url, **options)
    if kind == "SQLAlchemyAsyncConfig":
        db = SQLAlchemyAsyncConfig(engine_instance=db, metadata=MetaData())  # type: ignore[arg-type]
    return Facade(app, AsyncAmpho(app, db, metadata=MetaData() if kind == "AsyncEngine" else None))


def kinds_of(database: Database) -> tuple[str, ...]:
    return ("AsyncSQLAlchemy", "AsyncEngine", "SQLAlchemyAsyncConfig") if database.is_async else ("SQLAlchemy",)


@pytest.mark.drivers(*ON_SERVERS)
def test_tokens_and_arguments_of_the_app_count_for_migrations(project: Project, database: Database) -> None:
    """The password is made when a connection is, and the arguments are in the engine only; both are not in any URL."""
    options, question, answer = ARGUMENTS[database.driver]
    project.package("core")
    project.revision(
        "core",
        "core_1",
        upgrade=f"""
        assert str(op.get_bind().scalar(sa.text({question!r}))) == {answer!r}
        op.create_table("thing", sa.Column("id", sa.Integer))
        """,
        downgrade="op.drop_table('thing')",
    )
    if database.backend == "postgresql":
        database.run("CREATE SCHEMA shop")
    address = database.url.set(password="no_password")
    connected: list[object] = []

    def token(dialect: object, record: object, args: list[Any], arguments: dict[str, Any]) -> None:
        if arguments["password"] == "no_password":  # which the tests' own questions do not use
            arguments["password"] = database.url.password

    def connect(connection: object, record: ConnectionPoolEntry) -> None:
        connected.append(connection)

    with project.importing(), listening(Engine, "do_connect", token), listening(Engine, "connect", connect):
        for kind in kinds_of(database):
            each = make(kind, address.set(host="no.such.host"), {"connect_args": options})
            # A URL that names no driver means the app's.
            each.app.config["AMPHO_DATABASE_URI"] = address.set(drivername=address.get_backend_name())
            connected.clear()
            assert len(each.call("upgrade").steps) == 1, kind
            assert connected, kind
            each.call("downgrade", "base")

            each = make(kind, address, {"connect_args": options})
            connected.clear()
            each.call("check", scratch=True)
            assert len(connected) in {2, 3, 4}, "to make and drop databases, to work on one, and to build its template"
            each.call("upgrade")
            if database.backend == "postgresql":
                schemas = database.query(
                    "SELECT DISTINCT table_schema FROM information_schema.tables"
                    " WHERE table_name IN ('thing', 'alembic_version', 'ampho_journal')"
                )
                assert schemas == [("shop",)], kind
            each.call("downgrade", "base")
            each.dispose()


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg", "mariadb+pymysql")
def test_a_creator_is_not_left_out(project: Project, database: Database) -> None:
    """It connects wherever it likes: what needs another address says that it cannot."""
    write(project, database)

    def create() -> Any:
        url = database.sync_url
        dialect = url.get_dialect()
        args, arguments = dialect().create_connect_args(url)
        return dialect.import_dbapi().connect(*args, **arguments)

    async def create_async(*args: object, **arguments: object) -> Any:
        import asyncpg

        url = database.url
        return await asyncpg.connect(
            host=url.host, port=url.port, user=url.username, password=url.password, database=url.database
        )

    options = {"async_creator": create_async} if database.is_async else {"creator": create}
    url = URL.create(database.url.drivername)
    with project.importing():
        each = make(kinds_of(database)[0], url, options)
        assert each.call("current")["core"].applied == ()
        with pytest.raises(ConfigurationError, match=r"creator= .* so Ampho cannot connect to a throwaway database"):
            each.call("check", scratch=True)
        each.app.config["AMPHO_DATABASE_URI"] = database.url
        for method in ("current", "upgrade"):
            with pytest.raises(
                ConfigurationError, match=r"with creator= or pool=, so Ampho cannot use AMPHO_DATABASE_URI\."
            ):
                each.call(method)
        each.dispose()
    assert database.tables() == []


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg", "mariadb+pymysql")
def test_an_address_without_a_name_leads_to_the_apps_database(project: Project, database: Database) -> None:
    """PostgreSQL would else take the one that is called like the user, whatever is in it."""
    project.package("core")
    project.revision("core", "core_1", upgrade="op.create_table('thing', sa.Column('id', sa.Integer))")
    address = nameless(database.url)
    apps = database.url.set(host="no.such.host")
    with facade(project, zigzag.framework_of(database), ["core"], apps, AMPHO_DATABASE_URI=address) as each:
        each.call("upgrade")
    assert database.tables() == ["alembic_version", "thing"]


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg", "mariadb+pymysql", "mariadb+asyncmy")
def test_an_address_for_migrations_has_throw_away_databases_beside_it(project: Project, database: Database) -> None:
    """The dialect of each of the two engines is initialized, though the app's never is."""
    write(project, database)
    apps = database.url.set(host="no.such.host")
    with facade(project, zigzag.framework_of(database), ["core"], apps, AMPHO_DATABASE_URI=database.url) as each:
        assert [drift.package for drift in each.call("check", scratch=True)] == ["core"]
    assert database.tables() == []


@pytest.mark.parametrize("framework", ["flask", "quart"])
def test_a_relative_path_means_the_file_that_it_means_to_the_app(project: Project, framework: str) -> None:
    project.package("core")
    project.revision("core", "core_1")
    url = URLS[framework]
    with facade(project, framework, ["core"], url, AMPHO_DATABASE_URI=url) as each:
        each.call("upgrade")
        del each.app.config["AMPHO_DATABASE_URI"]
        assert each.call("current")["core"].is_up_to_date
        assert not (project.folder / "app.db").exists()


def test_an_address_with_another_driver_is_refused(project: Project) -> None:
    project.package("core")
    url = URL.create("postgresql+psycopg", "tester", host="no.such.host")
    with (
        facade(project, "flask", ["core"], "sqlite:///app.db", AMPHO_DATABASE_URI=url) as each,
        pytest.raises(DriverError, match=r"names the driver postgresql.psycopg, but the app uses sqlite"),
    ):
        each.call("current")


@pytest.mark.drivers("mariadb")
def test_the_app_does_not_learn_names_of_the_throw_away_database(project: Project, database: Database) -> None:
    """MySQL's dialect keeps the name of the database that it first connected to, and looks for tables there."""
    write(project, database)
    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:

        async def test() -> str:
            async with each.app.app_context():
                await each.ampho.check(scratch=True)
                async with each.ampho.db.engine.connect() as connection:
                    name = str(connection.dialect.default_schema_name)
                await each.ampho.dispose(each.app)
                return name

        if database.is_async:
            assert asyncio.run(test()) == database.name
        else:
            each.call("check", scratch=True)
            with each.app.app_context(), each.ampho.db.engine.connect() as connection:
                assert connection.dialect.default_schema_name == database.name


# ---- the name of a protected database ----


@pytest.mark.drivers(*ON_SERVERS)
def test_the_name_that_confirms_is_the_servers(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1")
    (name, *_) = names_of(database)
    options = {"connect_args": {name: database.name}}
    framework = zigzag.framework_of(database)
    for url in (nameless(database.url), database.url.set(database="no_such_database")):
        settings = {"SQLALCHEMY_ENGINE_OPTIONS": options, "AMPHO_PROTECTED": True}
        with facade(project, framework, ["core"], url, **settings) as each:
            each.call("upgrade")
            for command in ("db-down", "db-stamp"):
                line = each.error_line(command, "base")
                assert f"protects the database {database.name}, and without a terminal" in line
                assert f"ampho {command} base --confirm {database.name}'" in line
            assert each.call("plan", "base", direction="downgrade").protected == database.name
            assert f"is not the name of the database {database.name}." in each.error_line(
                "db-down", "base", "--confirm", "no_such_database"
            )
            assert len(each.call("downgrade", "base", confirm=database.name).steps) == 1


# ---- closed for good ----


def sessions(database: Database) -> int:
    """Count the connections to a database that stay open, of this process where it is a file."""
    if database.backend == "sqlite":
        return settled(lambda: [file.readlink() for file in open_files()].count(Path(database.name)))
    with database.connect() as connection:  # one for all questions, since each that ends is counted for a moment
        question = text(SESSIONS[database.backend])
        return settled(lambda: int(connection.execute(question, {"name": database.name}).scalar_one()))


def open_files() -> list[Path]:
    return [file for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]


def settled(count: Callable[[], int], seconds: float = 10) -> int:
    """Count until there is none, for which a server needs a moment, or until the time is over."""
    deadline = time.monotonic() + seconds
    while (found := count()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


METHODS: tuple[tuple[Any, ...], ...] = (
    ("upgrade",),
    ("current",),
    ("status",),
    ("plan",),
    ("deployment",),
    ("log",),
    ("graph",),
    ("upgrade_sql",),
    ("stamp", "heads"),
    ("downgrade", "base"),
)


def test_no_method_leaves_a_connection_open(project: Project, database: Database) -> None:
    """Whoever forks afterwards, as gunicorn does with --preload, would share it with each child."""
    project.package("core")
    project.revision(
        "core",
        "core_1",
        upgrade="op.create_table('thing', sa.Column('id', sa.Integer))",
        downgrade="op.drop_table('thing')",
    )
    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:

        async def call_all() -> None:
            async with each.app.app_context():
                for method, *arguments in METHODS:
                    await getattr(each.ampho, method)(*arguments)
                    assert await asyncio.to_thread(sessions, database) == 0, method

        if database.is_async:
            asyncio.run(call_all())
        else:
            for method, *arguments in METHODS:
                each.call(method, *arguments)
                assert sessions(database) == 0, method


FORKS = """
import asyncio, os, sys
from sqlalchemy import text
from app import app

ampho, db = app.extensions["ampho"], app.extensions["sqlalchemy"]
QUESTION = text("SELECT :word || (SELECT '' FROM pg_sleep(0.002))")


def ask(words):
    with app.app_context():
        return all(db.session.scalar(QUESTION, {"word": word}) == word for word in words)


async def ask_async(words):
    async with app.app_context():
        return all([await db.session.scalar(QUESTION, {"word": word}) == word for word in words])


async def upgrade():
    async with app.app_context():
        return await ampho.upgrade()


if ampho.is_async:
    asyncio.run(upgrade())
else:
    with app.app_context():
        ampho.upgrade()
children = []
for child in range(4):
    pid = os.fork()
    if not pid:
        words = [f"{child}-{i}" for i in range(20)]
        try:
            right = asyncio.run(ask_async(words)) if ampho.is_async else ask(words)
        except BaseException as exc:
            print(exc)
            right = False
        os._exit(0 if right else 1)
    children.append(pid)
print([os.waitpid(pid, 0)[1] for pid in children])
"""


@pytest.mark.drivers("postgresql")
def test_processes_that_are_forked_after_an_upgrade_get_answers_of_their_own(
    project: Project, database: Database
) -> None:
    project.package("core")
    project.revision("core", "core_1")
    project.app(zigzag.framework_of(database), ["core"], database.url)
    project.write("forks.py", FORKS)

    assert project.run(sys.executable, "forks.py").stdout == "[0, 0, 0, 0]\n"


@pytest.mark.drivers("postgresql+asyncpg", "postgresql+psycopg_async", "mariadb+asyncmy")
def test_an_engine_of_the_apps_own_is_free_for_another_loop_after_an_upgrade(
    project: Project, database: Database
) -> None:
    """As where an app upgrades with ``asyncio.run()`` when it is imported, and is served in another loop."""
    project.package("core")
    project.revision("core", "core_1")
    engine = create_async_engine(database.url)

    async def ask() -> object:
        async with engine.connect() as connection:
            answer = await connection.scalar(text("SELECT 1"))
        await engine.dispose()
        return answer

    with project.importing():
        app = Quart("app", root_path=".")
        ampho = AsyncAmpho(app, engine, packages=["core"], metadata=MetaData())
        asyncio.run(ampho.upgrade())
        assert asyncio.run(ask()) == 1


@pytest.mark.parametrize("framework", ["flask", "quart"])
def test_the_database_in_memory_is_its_connection(project: Project, framework: str) -> None:
    write_in_memory = {"flask": "sqlite://", "quart": "sqlite+aiosqlite://"}[framework]
    project.package("core")
    project.revision("core", "core_1", upgrade="op.create_table('thing', sa.Column('id', sa.Integer))")
    with facade(project, framework, ["core"], write_in_memory) as each:

        async def test() -> None:
            async with each.app.app_context():
                await each.ampho.upgrade()
                assert (await each.ampho.current())["core"].is_up_to_date
                assert (await each.ampho.db.session.scalars(text("SELECT count(*) FROM thing"))).one() == 0
                await each.ampho.dispose(each.app)

        if framework == "quart":
            asyncio.run(test())
            return
        with each.app.app_context():
            each.ampho.upgrade()
            assert each.ampho.current()["core"].is_up_to_date
            assert each.ampho.db.session.scalar(text("SELECT count(*) FROM thing")) == 0
