"""What a migrated database costs in a test suite: the fixtures of Ampho beside other ways.

    python benchmarks/suites.py
    python benchmarks/suites.py --drivers sqlite psycopg --postgresql postgresql://postgres@127.0.0.1:5432/postgres
    python benchmarks/suites.py --tests 100 --rounds 1 --ways clone rollback

The history has 200 revisions, which create 50 tables and alter them, and each test writes rows and commits. Each suite
is a process of pytest, the ways take turns, and every test checks that it finds no rows. The time of a test includes
its fixtures. SQLite files are in a folder in memory, if there is one. Slow ways run fewer tests (``--slow``), and their
total is then an estimate, which has a tilde.

A way whose package is not installed is skipped. To include all: pip install pytest-asyncio pytest-alembic
pytest-postgresql
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import statistics
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

from measure import run
from sqlalchemy import URL, NullPool, create_engine, make_url
from tools import checked

_LIMIT = 3600
_MEMORY = Path("/dev/shm")

_REVISION = '''\
"""{message}."""

import sqlalchemy as sa
from alembic import op

revision = "{id}"
down_revision = {down!r}
branch_labels = {labels!r}
depends_on = None


def upgrade():
    {up}


def downgrade():
    {down_by}
'''
_MODELS = """\
from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
{import_db}


class Base(DeclarativeBase):
    pass


db = {db}(model_class=Base)
COLUMNS = {{"id": mapped_column(primary_key=True)}}
MODELS = [
    type(
        f"Model{{number}}",
        (db.Model,),
        {{
            "__tablename__": f"bench_t{{number}}",
            "__annotations__": {{"id": Mapped[int], "name": Mapped[str]}}
            | {{f"more{{column}}": Mapped[str | None] for column in range({columns})}},
            "id": mapped_column(primary_key=True),
            "name": mapped_column(String(50)),
            **{{f"more{{column}}": mapped_column(String(50)) for column in range({columns})}},
        }},
    )
    for number in range({tables})
]
"""
_APP = """\
import os

from {framework} import {app_class}

from ampho import {extension}
from models import db


def create_app(url=None):
    app = {app_class}(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = url or os.environ["BENCH_URL"]
    app.config["AMPHO_MIGRATION_PACKAGES"] = ["bench"]
    db.init_app(app)
    {extension}(app, db)
    return app
"""
_TEST = """\
import os

import pytest
from sqlalchemy import func, select

from models import MODELS, db


@pytest.mark.parametrize("number", range(int(os.environ["BENCH_TESTS"])))
{async_}def test_rows_are_written(app, number):
    model = MODELS[number % len(MODELS)]
    {async_}with app.app_context():
        assert {await_}db.session.scalar(select(func.count()).select_from(model)) == 0
        db.session.add_all(model(name=str(each)) for each in range(10))
        {await_}db.session.commit()
        assert {await_}db.session.scalar(select(func.count()).select_from(model)) == 10
"""
_TIMES = """\
import json
import os

import pytest

from app import create_app
from models import db

TIMES = {"setup": [], "call": [], "teardown": []}


def pytest_runtest_makereport(item, call):
    TIMES[call.when].append(call.duration)


def pytest_unconfigure():
    with open(os.environ["BENCH_TIMES"], "w") as file:
        json.dump(TIMES, file)


"""
_INI = """\
[pytest]
addopts = -q -p no:cacheprovider
asyncio_mode = auto
ampho_app = app:create_app
"""
_DROP = """\
def drop_tables(connection):
    db.metadata.drop_all(connection)
    for table in ("alembic_version", "ampho_journal"):
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
"""
_PROBE = """\
import asyncio
import json
import os
import shutil
import sys
import time
from pathlib import Path

from sqlalchemy import NullPool, create_engine

from app import create_app

COUNT = int(os.environ["BENCH_TESTS"])
times = {"clone": [], "bare": []}
app = create_app()
ampho = app.extensions["ampho"]


class Bare:
    # What copies a template at the least, on a connection that is already open.
    def __init__(self, template, clone):
        self.number = 0
        self.connection = None
        url = clone.url
        if url.get_backend_name() == "sqlite":
            self.folder = Path(url.database).parent
            self.template = self.folder / f"ampho_template_{template.key}.db"
        elif url.get_backend_name() == "postgresql":
            engine = create_engine(os.environ["BENCH_SYNC_URL"], poolclass=NullPool, isolation_level="AUTOCOMMIT")
            self.connection = engine.connect()
            self.template = f"ampho_template_{template.key}"

    def copy(self):
        self.number += 1
        if self.connection is not None:
            self.connection.exec_driver_sql(f"CREATE DATABASE bench_bare_{self.number} TEMPLATE {self.template}")
        else:
            shutil.copyfile(self.template, self.folder / f"bench_bare_{self.number}.db")

    def drop(self):
        for number in range(1, self.number + 1):
            if self.connection is not None:
                self.connection.exec_driver_sql(f"DROP DATABASE bench_bare_{number}")
            else:
                (self.folder / f"bench_bare_{number}.db").unlink()


def measure_bare(bare):
    begin = time.perf_counter()
    bare.copy()
    times["bare"].append(time.perf_counter() - begin)


def sync():
    with app.app_context(), ampho.template() as template:
        bare = Bare(template, template.clone())
        for _ in range(COUNT):
            begin = time.perf_counter()
            template.clone()
            times["clone"].append(time.perf_counter() - begin)
            if HAS_BARE:
                measure_bare(bare)
        bare.drop()
        return template.key


async def aio():
    async with app.app_context(), await ampho.template() as template:
        bare = Bare(template, await template.clone())
        for _ in range(COUNT):
            begin = time.perf_counter()
            await template.clone()
            times["clone"].append(time.perf_counter() - begin)
            if HAS_BARE:
                measure_bare(bare)
        bare.drop()
        return template.key


HAS_BARE = sys.argv[1] != "mariadb"
key = asyncio.run(aio()) if sys.argv[2] == "quart" else sync()
Path(os.environ["BENCH_TIMES"]).write_text(json.dumps({**times, "key": key}))
"""


@dataclass(frozen=True)
class Driver:
    """A driver, and the framework whose apps use it.

    :ivar program: the name in a URL.
    """

    backend: str
    program: str
    framework: str

    @property
    def is_async(self) -> bool:
        return self.framework == "quart"


DRIVERS = {
    "sqlite": Driver("sqlite", "sqlite", "flask"),
    "aiosqlite": Driver("sqlite", "sqlite+aiosqlite", "quart"),
    "psycopg": Driver("postgresql", "postgresql+psycopg", "flask"),
    "asyncpg": Driver("postgresql", "postgresql+asyncpg", "quart"),
    "pymysql": Driver("mariadb", "mariadb+pymysql", "flask"),
    "asyncmy": Driver("mariadb", "mariadb+asyncmy", "quart"),
}
_SYNC = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}


class Way(ABC):
    """A way of giving each test a database.

    :ivar name: the name on the command line.
    :ivar title: the name in the table.
    :ivar module: a module that has to be installed.
    :ivar plugin: the plug-in of pytest that it needs.
    :ivar is_slow: whether it runs fewer tests.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    module: ClassVar[str] = "ampho"
    plugin: ClassVar[str] = ""
    is_slow: ClassVar[bool] = False

    def works_with(self, driver: Driver) -> bool:
        return True

    @abstractmethod
    def fixtures(self, driver: Driver) -> str:
        """Return the fixtures for conftest.py."""


class Replay(Way):
    name = "replay"
    title = "replay the history for each test"
    is_slow = True
    _up: ClassVar[str] = 'app.extensions["ampho"].upgrade()'
    _async_up: ClassVar[str] = 'await app.extensions["ampho"].upgrade()'

    def fixtures(self, driver: Driver) -> str:
        text = _ASYNC_FIXTURE if driver.is_async else _FIXTURE
        return _DROP + text.format(up=self._async_up if driver.is_async else self._up)


class CreateAll(Replay):
    name = "create_all"
    title = "`create_all()` for each test"
    _up = "db.create_all()"
    _async_up = "await db.create_all()"


class Clone(Way):
    name = "clone"
    title = "clone: `ampho_database`"
    plugin = "pytest_ampho"
    _fixture: ClassVar[str] = "ampho_database"

    def fixtures(self, driver: Driver) -> str:
        return f"@pytest.fixture\ndef app(ampho_app, {self._fixture}):\n    return ampho_app\n"


class Rollback(Clone):
    name = "rollback"
    title = "rollback: `ampho_transaction`"
    _fixture = "ampho_transaction"


class PytestAlembic(Way):
    """Its fixture runs Alembic's upgrade for each test that uses it."""

    name = "pytest-alembic"
    title = "pytest-alembic: `migrate_up_to()` for each test"
    module = "pytest_alembic"
    plugin = "pytest_alembic.plugin"
    is_slow = True

    def works_with(self, driver: Driver) -> bool:
        return not driver.is_async

    def fixtures(self, driver: Driver) -> str:
        return _DROP + _PYTEST_ALEMBIC


class PytestPostgresql(Way):
    name = "pytest-postgresql"
    title = "pytest-postgresql: a database from its template for each test"
    module = "pytest_postgresql"
    plugin = "pytest_postgresql.plugin"
    is_slow = True

    def works_with(self, driver: Driver) -> bool:
        return driver.backend == "postgresql"

    def fixtures(self, driver: Driver) -> str:
        up = "asyncio.run(upgrade(app))" if driver.is_async else _SYNC_UPGRADE
        dispose = _ASYNC_DISPOSE if driver.is_async else _SYNC_DISPOSE
        async_ = "async " if driver.is_async else ""
        return _PYTEST_POSTGRESQL.format(up=up, dispose=dispose, async_=async_, driver=driver.program)


_FIXTURE = """

@pytest.fixture(scope="session")
def created():
    return create_app()


@pytest.fixture
def app(created):
    app = created
    with app.app_context():
        {up}
    yield app
    with app.app_context(), db.engine.begin() as connection:
        drop_tables(connection)
"""
_ASYNC_FIXTURE = """

@pytest.fixture(scope="session")
def created():
    return create_app()


@pytest.fixture
async def app(created):
    app = created
    async with app.app_context():
        {up}
    yield app
    async with app.app_context():
        async with db.engine.begin() as connection:
            await connection.run_sync(drop_tables)
        await db.dispose()
"""
_PYTEST_ALEMBIC = """

@pytest.fixture(scope="session")
def created():
    return create_app()


@pytest.fixture
def alembic_config():
    return {"file": "bench/migrations/alembic.ini"}


@pytest.fixture
def alembic_engine(created):
    with created.app_context():
        return db.engine


@pytest.fixture
def app(created, alembic_runner):
    alembic_runner.migrate_up_to("heads")
    yield created
    with created.app_context(), db.engine.begin() as connection:
        drop_tables(connection)
"""
_PYTEST_POSTGRESQL = """\
import asyncio

from pytest_postgresql import factories
from sqlalchemy import URL, make_url

SERVER = make_url(os.environ["BENCH_SYNC_URL"])


async def upgrade(app):
    async with app.app_context():
        await app.extensions["ampho"].upgrade()
        await db.dispose()


def load(host, port, user, dbname, password, **_):
    app = create_app(URL.create("{driver}", user, password or None, host, port, dbname))
    {up}


template = factories.postgresql_noproc(
    host=SERVER.host,
    port=SERVER.port,
    user=SERVER.username,
    password=SERVER.password,
    dbname=f"{{SERVER.database}}_test",
    load=[load],
)
postgresql = factories.postgresql("template")


@pytest.fixture
{async_}def app(postgresql):
    app = create_app(SERVER.set(drivername="{driver}", database=postgresql.info.dbname))
    yield app
    {dispose}
"""
_SYNC_UPGRADE = """with app.app_context():
        app.extensions["ampho"].upgrade()
        db.engine.dispose()"""
_SYNC_DISPOSE = """with app.app_context():
        db.engine.dispose()"""
_ASYNC_DISPOSE = """async with app.app_context():
        await db.dispose()"""

WAYS: Sequence[Way] = (Replay(), CreateAll(), Clone(), Rollback(), PytestAlembic(), PytestPostgresql())


@dataclass
class Suite:
    """The project of one driver, with a database for the app.

    :ivar driver: the driver.
    :ivar folder: the folder of the project.
    :ivar urls: the URL of the app's database, with its driver and with a synchronous one.
    :ivar tables: the number of tables. The same number of revisions creates them, and the others add columns.
    """

    driver: Driver
    folder: Path
    urls: tuple[URL, URL]
    revisions: int
    tables: int
    key: str = ""

    def write(self) -> None:
        """Write the app, the models, the history, and the tests."""
        names = {"framework": "flask", "app_class": "Flask", "extension": "Ampho", "db": "SQLAlchemy"}
        if self.driver.is_async:
            names = {"framework": "quart", "app_class": "Quart", "extension": "AsyncAmpho", "db": "AsyncSQLAlchemy"}
        source = "ampho" if self.driver.is_async else "flask_sqlalchemy"
        import_db = f"from {source} import {names['db']}"
        columns = self.revisions // self.tables - 1
        waits = {"async_": "async ", "await_": "await "} if self.driver.is_async else {"async_": "", "await_": ""}
        (self.folder / "bench").mkdir(parents=True)
        (self.folder / "bench" / "__init__.py").touch()
        self._file(
            "models.py", _MODELS.format(import_db=import_db, db=names["db"], columns=columns, tables=self.tables)
        )
        self._file("app.py", _APP.format(**names))
        self._file("test_rows.py", _TEST.format(**waits))
        self._file("probe.py", _PROBE)
        self._file("pytest.ini", _INI)
        checked(
            run(
                [sys.executable, "-m", "ampho", "--app", "app", "db-init", "bench"],
                self.folder,
                self._environment(0),
                _LIMIT,
            )
        )
        for number in range(self.revisions):
            self._file(f"bench/migrations/versions/bench_{number:04}.py", _revision(number, self.tables))

    def seconds(self, way: Way, count: int) -> tuple[dict[str, list[float]], float]:
        """Return the seconds of each phase of each test, and of the whole process."""
        self._file("conftest.py", _TIMES + way.fixtures(self.driver))
        plugins = [name for name in ("pytest_asyncio.plugin", way.plugin) if name]
        command = [sys.executable, "-m", "pytest", *(word for name in plugins for word in ("-p", name))]
        finished = run(command, self.folder, self._environment(count) | _NO_PLUGINS, _LIMIT)
        if finished.exit_code:
            print(finished.output[-3000:])
        checked(finished, _LIMIT)
        return self._read(), finished.usage.wall

    def probe(self, count: int) -> dict[str, list[float]]:
        """Return the seconds of each clone, and of what copies a database at the least."""
        command = [sys.executable, "probe.py", self.driver.backend, self.driver.framework]
        checked(run(command, self.folder, self._environment(count), _LIMIT), _LIMIT)
        found: dict[str, list[float]] = self._read()
        self.key = found.pop("key")
        return found

    def _environment(self, count: int) -> dict[str, str]:
        own, synchronous = (url.render_as_string(hide_password=False) for url in self.urls)
        temporary = self.folder / "temporary"
        temporary.mkdir(exist_ok=True)
        return {
            "BENCH_URL": own,
            "BENCH_SYNC_URL": synchronous,
            "BENCH_TESTS": str(count),
            "BENCH_TIMES": str(self.folder / "times.json"),
            "TMPDIR": str(temporary),
        }

    def _read(self):  # type: ignore[no-untyped-def]
        return json.loads((self.folder / "times.json").read_text("utf-8"))

    def _file(self, path: str, text: str) -> None:
        (self.folder / path).write_text(text, "utf-8")


_NO_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def _revision(number: int, tables: int) -> str:
    table, column = f"bench_t{number % tables}", number // tables - 1
    up = f'op.add_column("{table}", sa.Column("more{column}", sa.String(50)))'
    down = f'op.drop_column("{table}", "more{column}")'
    if number < tables:
        columns = 'sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(50), nullable=False)'
        up, down = f'op.create_table("{table}", {columns})', f'op.drop_table("{table}")'
    return _REVISION.format(
        message=f"Revision {number}",
        id=f"bench_{number:04}",
        down=f"bench_{number - 1:04}" if number else None,
        labels=None if number else ("bench",),
        up=up,
        down_by=down,
    )


@contextmanager
def suite_of(driver: Driver, servers: Mapping[str, URL | None], given: argparse.Namespace) -> Iterator[Suite]:
    """Yield the project of a driver, and remove it and its database at the end."""
    folder = Path(tempfile.mkdtemp(prefix="bench-suites-", dir=_MEMORY if _MEMORY.is_dir() else None))
    server = servers[driver.backend]
    name = f"bench_suites_{uuid4().hex[:8]}"
    if server is None:
        urls = [URL.create(each, database=str(folder / "own.db")) for each in (driver.program, "sqlite")]
    else:
        urls = [server.set(drivername=each, database=name) for each in (driver.program, _SYNC[driver.backend])]
        _on_server(server, f"CREATE DATABASE {name}")
    suite = Suite(driver, folder, (urls[0], urls[1]), given.revisions, given.tables)
    try:
        suite.write()
        yield suite
    finally:
        shutil.rmtree(folder)
        if server is not None:
            _on_server(server, f"DROP DATABASE IF EXISTS {name}")
            for template in _templates(server, suite.key):
                _on_server(server, f"DROP DATABASE {template}")


def _templates(server: URL, key: str) -> list[str]:
    """Return the name of the template with a key, which is in its comment on MariaDB."""
    if not key or server.get_backend_name() == "postgresql":
        return [f"ampho_template_{key}"] if key else []
    query = "SELECT schema_name FROM information_schema.schemata WHERE schema_comment LIKE"
    return _on_server(server, f"{query} 'ampho_template_{key},%%'")


def _on_server(server: URL, statement: str) -> list[str]:
    url = server.set(drivername=_SYNC[server.get_backend_name().replace("mysql", "mariadb")])
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        found = connection.exec_driver_sql(statement)
        return [row[0] for row in found] if found.returns_rows else []


@dataclass
class Figures:
    """What a way takes: seconds, of each test but the first of a process.

    :ivar count: the number of tests in a process.
    :ivar fixtures: of the fixtures.
    :ivar tests: of the tests, with their fixtures.
    :ivar totals: of the processes, as if all tests had been run.
    """

    way: Way
    count: int
    fixtures: list[float] = field(default_factory=list)
    tests: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)

    def add(self, suite: Suite, tests: int) -> float:
        """Run the suite once, and return the seconds that it took."""
        phases, whole = suite.seconds(self.way, self.count)
        fixtures = [sum(each) for each in zip(phases["setup"], phases["teardown"], strict=True)][1:]
        found = [sum(each) for each in zip(fixtures, phases["call"][1:], strict=True)]
        self.fixtures += fixtures
        self.tests += found
        self.totals.append(whole + (tests - self.count) * statistics.fmean(found))
        return whole

    def row(self, tests: int) -> str:
        about = "~" if self.count < tests else ""
        first, total = (f"{about}{each:.1f} s" for each in (self.totals[0], min(self.totals)))
        cells = (self.way.title, _ms(self.fixtures), _ms(self.tests), total, first)
        return "| {:<62} | {:>10} | {:>10} | {:>9} | {:>9} |".format(*cells)


def measure(name: str, ways: Sequence[Way], servers: Mapping[str, URL | None], given: argparse.Namespace) -> None:
    """Run the suites of a driver in turns, and print a line for each way."""
    driver = DRIVERS[name]
    slow = min(given.slow, given.tests)
    figures = [Figures(way, slow if way.is_slow else given.tests) for way in ways if way.works_with(driver)]
    with suite_of(driver, servers, given) as suite:
        for number in range(given.rounds):
            for each in [*figures[number % len(figures) :], *figures[: number % len(figures)]]:
                whole = each.add(suite, given.tests)
                print(f"round {number + 1}: {name}, {each.way.name}: {each.count} tests in {whole:.1f} s", flush=True)
        probed = suite.probe(given.copies)
    print(f"\n{name}, {driver.framework}: {given.tests} tests, {given.revisions} revisions, {given.tables} tables")
    print("| {:<62} | {:>10} | {:>10} | {:>9} | {:>9} |".format("way", "fixtures", "test", "total", "first"))
    for each in figures:
        print(each.row(given.tests))
    _print_probe(probed)
    sys.stdout.flush()


def _print_probe(probed: Mapping[str, Sequence[float]]) -> None:
    clone, bare = probed["clone"], probed["bare"]
    if bare:
        ratio = statistics.median(clone) / statistics.median(bare)
        print(f"  a clone takes {_ms(clone)}, the bare copy {_ms(bare)}: {ratio:.2f} times as long")
    else:
        print(f"  a clone takes {_ms(clone)}")


def _ms(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drivers", nargs="*", choices=DRIVERS, default=list(DRIVERS))
    parser.add_argument("--ways", nargs="*", choices=[way.name for way in WAYS], default=[way.name for way in WAYS])
    parser.add_argument("--postgresql", type=make_url, metavar="URL", help="a server; without it, no PostgreSQL")
    parser.add_argument("--mariadb", type=make_url, metavar="URL", help="a server; without it, no MariaDB")
    parser.add_argument("--tests", type=int, default=300)
    parser.add_argument("--slow", type=int, default=300, help="the number of tests of slow ways")
    parser.add_argument("--copies", type=int, default=50, help="the number of clones and bare copies")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--revisions", type=int, default=200)
    parser.add_argument("--tables", type=int, default=50)
    given = parser.parse_args()
    servers = {"sqlite": None, "postgresql": given.postgresql, "mariadb": given.mariadb}
    ways = [way for way in WAYS if way.name in given.ways]
    for way in [way for way in ways if importlib.util.find_spec(way.module) is None]:
        print(f"{way.name}: skipped, because it is not installed")
        ways.remove(way)
    for name in given.drivers:
        if DRIVERS[name].backend != "sqlite" and servers[DRIVERS[name].backend] is None:
            print(f"{name}: skipped, because --{DRIVERS[name].backend} is not given")
        else:
            measure(name, ways, servers, given)


if __name__ == "__main__":
    main()
