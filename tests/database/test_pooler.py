"""A pooler between the app and PostgreSQL, and an address for migrations only."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from facade import facade
from inside import inside, member
from project import Project
from servers import Database, ServerMissingError, program
from sqlalchemy import URL, Engine, inspect

from ampho.database.connection import connect
from ampho.errors import ConfigurationError, DriverError, PoolerError

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

CONFIG = """
[databases]
* = host={host} port={server_port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
auth_file = {users}
pool_mode = {mode}
"""


@contextmanager
def pooler(database: Database, folder: Path, mode: str) -> Iterator[URL]:
    """PgBouncer before the database's server; gives the database's address through it."""
    try:
        binary = program("pgbouncer")
    except ServerMissingError as error:
        if os.environ.get("AMPHO_REQUIRE_SERVERS") == "1":
            pytest.fail(f"AMPHO_REQUIRE_SERVERS is set, but: {error}")
        pytest.skip(str(error))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = database.url
    users = folder / "users"
    users.write_text(f'"{url.username}" "{url.password or ""}"\n')
    config = folder / "pgbouncer.ini"
    config.write_text(
        CONFIG.format(
            host=url.host,
            server_port=url.port or 5432,
            user=url.username,
            password=url.password or "''",
            port=port,
            users=users,
            mode=mode,
        )
    )
    as_root = os.geteuid() == 0  # which it refuses to run as
    if as_root:
        for path in (folder, *folder.parents):
            if path != Path("/") and path.is_relative_to("/tmp"):
                path.chmod(path.stat().st_mode | 0o055)
    log = (folder / "log").open("w")
    command = [binary, *(["-u", "nobody"] if as_root else []), str(config)]
    with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + 10
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise AssertionError((folder / "log").read_text()) from None
                    time.sleep(0.05)
            yield url.set(host="127.0.0.1", port=port)
        finally:
            process.terminate()


def write(project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade="op.create_table('t', sa.Column('id', sa.Integer))")


@pytest.mark.drivers("postgresql+psycopg", "postgresql+psycopg_async")
def test_transaction_mode_is_refused_with_the_way_out(project: Project, database: Database, tmp_path: Path) -> None:
    write(project)
    framework = "quart" if database.is_async else "flask"
    with pooler(database, tmp_path, "transaction") as url:
        with facade(project, framework, ["core"], url) as each:
            for _ in range(3):
                with pytest.raises(PoolerError, match="AMPHO_DATABASE_URI"):
                    each.call("upgrade")
            assert "AMPHO_DATABASE_URI" in each.error_line("db-up")
            assert database.tables() == []
        with facade(project, framework, ["core"], url, AMPHO_DATABASE_URI=database.url) as each:
            assert len(each.call("upgrade").steps) == 1
            assert each.call("current")["core"].current == ("core_1",)
        assert database.rows() == ["core_1"]
        with facade(project, framework, ["core"], url, AMPHO_LOCK=False) as each:
            assert each.call("upgrade").steps == ()


@pytest.mark.drivers("postgresql+psycopg", "postgresql+psycopg_async", "postgresql+asyncpg")
def test_session_mode_is_fine(project: Project, database: Database, tmp_path: Path) -> None:
    write(project)
    framework = "quart" if database.is_async else "flask"
    with pooler(database, tmp_path, "session") as url, facade(project, framework, ["core"], url) as each:
        assert len(each.call("upgrade").steps) == 1
        assert each.call("upgrade").steps == ()
    assert database.rows() == ["core_1"]


@pytest.mark.drivers("postgresql+psycopg", "postgresql+psycopg_async", "postgresql+asyncpg")
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_schema_stays_with_its_connection(project: Project, database: Database, tmp_path: Path, mode: str) -> None:
    """In transaction mode, other users of the pooler would get its search_path."""
    write(project)
    database.run("CREATE SCHEMA acme")

    def use(engine: Engine) -> None:
        own = member(engine, None, "acme")
        refused = pytest.raises(PoolerError, match="be limited to a schema")
        with refused if mode == "transaction" else nullcontext(), connect(own, "tenants") as connection:
            assert inspect(connection).default_schema_name == "acme"
        for _ in range(5):
            with engine.connect() as connection:
                assert connection.exec_driver_sql("SHOW search_path").scalar() == '"$user", public'

    framework = "quart" if database.is_async else "flask"
    # asyncpg's named statements do not survive a change of session.
    options = {"connect_args": {"statement_cache_size": 0}} if database.driver == "postgresql+asyncpg" else {}
    with (
        pooler(database, tmp_path, mode) as url,
        facade(project, framework, ["core"], url, SQLALCHEMY_ENGINE_OPTIONS=options) as each,
    ):
        inside(each, use)


@pytest.mark.drivers("sqlite", "postgresql+psycopg", "mariadb+asyncmy")
def test_migrations_have_an_address_of_their_own(
    project: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project)
    framework = "quart" if database.is_async else "flask"
    elsewhere = database.url.set(database="nowhere/at/all" if database.backend == "sqlite" else "nowhere")
    monkeypatch.setenv("AMPHO_DATABASE_URI", database.url.render_as_string(hide_password=False))
    with facade(project, framework, ["core"], elsewhere) as each:
        each.call("upgrade")
        assert "CREATE TABLE" not in each.call("upgrade_sql")
        assert "DROP" not in each.call("downgrade_sql")
        each.call("downgrade", "base")
        each.call("stamp", "heads")
    assert database.rows() == ["core_1"]


def test_an_address_that_is_none(project: Project) -> None:
    with (
        facade(project, "flask", ["core"], "sqlite://", AMPHO_DATABASE_URI="nonsense p%40s") as each,
        pytest.raises(ConfigurationError, match="AMPHO_DATABASE_URI is not a database URL"),
    ):
        each.call("current")
    with (
        facade(project, "quart", ["core"], "sqlite+aiosqlite://", AMPHO_DATABASE_URI="sqlite+pysqlite:///x") as each,
        pytest.raises(DriverError, match="AMPHO_DATABASE_URI: "),
    ):
        each.call("current")
