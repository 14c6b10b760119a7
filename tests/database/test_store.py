"""Stores of templates and clones, on every driver: what is copied, what is kept, and what is never touched."""

from __future__ import annotations

import ast
import os
import random
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
import zigzag
from facade import URLS, facade
from inside import inside
from project import Project
from servers import Database
from sqlalchemy import Connection, Engine, event

from ampho.database.connection import connect
from ampho.database.engine import database_of, unpooled
from ampho.database.store import Store, base, store_for
from ampho.database.store.base import run_of
from ampho.database.store.server import ServerStore
from ampho.errors import DatabaseError

With: TypeAlias = Callable[[Callable[[Store], None]], None]


def new_key() -> str:
    return secrets.token_hex(8)


@pytest.fixture(autouse=True)
def _own_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests on the same server do not see the templates of a test, and do not prune them."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(base, "TEMPLATE", f"ampho_template_{secrets.token_hex(3)}_")


@contextmanager
def opened(engine: Engine) -> Iterator[Store]:
    store = store_for(unpooled(engine), partial(connect, setting="SQLALCHEMY_DATABASE_URI"))
    try:
        yield store
    finally:
        store.prune(0, unused=0)
        store.close()


@pytest.fixture
def with_store(project: Project, database: Database) -> With:
    """Call a function with a store of an app's engine, in Flask or inside the loop of Quart."""
    project.package("core")
    database.run("CREATE TABLE of_the_app (id integer)")

    def run(function: Callable[[Store], None]) -> None:
        before = database.schema(), database.data()

        def use(engine: Engine) -> None:
            with opened(engine) as store:
                function(store)

        with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
            inside(each, use)
        assert (database.schema(), database.data()) == before

    return run


def execute(store: Store, name: str, *statements: str) -> None:
    with store.connection(name) as connection:
        connection.execution_options(no_parameters=True)
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.commit()


def rows(store: Store, name: str, query: str = "SELECT id FROM t ORDER BY id") -> list[object]:
    with store.connection(name) as connection:
        return [row[0] for row in connection.exec_driver_sql(query)]


def build(store: Store, *statements: str) -> str:
    key, name = new_key(), store.new_name("build")
    with store.building(key):
        store.create(name)
        execute(store, name, *(statements or ("CREATE TABLE t (id integer)", "INSERT INTO t VALUES (1)")))
        store.publish(name, key)
    return key


def test_a_template_is_built_once_and_copied(with_store: With) -> None:
    def use(store: Store) -> None:
        assert store.templates() == []
        server = store.server()
        key = build(store)
        assert store.templates() == [key]

        names = [store.new_name("clone") for _ in range(2)]
        for name in names:
            store.copy(key, name)
        execute(store, names[0], "INSERT INTO t VALUES (2)")

        assert [rows(store, name) for name in names] == [[1, 2], [1]]
        late = store.new_name("build")
        store.create(late)
        store.publish(late, key)  # another process was faster
        store.drop(names[0])
        store.copy(key, names[0])
        assert rows(store, names[0]) == [1]
        store.drop(*names)
        assert store.server() == server != ""

    with_store(use)


def test_what_it_did_not_create_is_neither_dropped_nor_overwritten(with_store: With, database: Database) -> None:
    def use(store: Store) -> None:
        key, clone = build(store), store.new_name("clone")
        store.copy(key, clone)
        for name in (database.name, clone):
            with pytest.raises(DatabaseError, match="already exists, and was not changed"):
                store.copy(key, name)
            with pytest.raises(DatabaseError, match="already exists, and was not changed"):
                store.create(name)
        with pytest.raises(DatabaseError, match="did not create the database"):
            store.drop(clone, database.name)
        assert rows(store, clone) == [1]
        store.drop(clone, clone)

        chosen = f"{database.name}_chosen"
        store.copy(key, chosen)
        assert rows(store, chosen) == [1]
        store.drop(chosen)
        with pytest.raises(ValueError, match="not the key"):
            store._try_to_build("../x")

    with_store(use)


def test_the_templates_used_least_recently_are_dropped(with_store: With) -> None:
    def use(store: Store) -> None:
        keys = [build(store) for _ in range(3)]
        assert store.templates() == keys[::-1]
        store.touch(keys[0])
        store.touch(new_key())  # another process has dropped it
        assert store.templates() == [keys[0], keys[2], keys[1]]

        store.prune(2)
        assert len(store.templates()) == 3  # another process may still copy the third
        store.prune(2, unused=0)

        assert store.templates() == [keys[0], keys[2]]
        with pytest.raises(DatabaseError, match="does not exist") as raised:
            store.copy(keys[1], store.new_name("clone"))
        assert raised.value.is_missing

    with_store(use)


@pytest.mark.drivers("postgresql", "mariadb")
def test_another_process_that_drops_old_templates_keeps_a_new_one(project: Project, database: Database) -> None:
    project.package("core")

    def use(engine: Engine) -> None:
        with opened(engine) as store, opened(engine) as other:
            pruned: list[str] = []
            unused = 3600.0

            def prune(connection: Connection, cursor: object, statement: str, *_: object) -> None:
                if statement.startswith(("ALTER", "COMMENT")):
                    pruned.append(statement)
                    other.prune(0, unused)

            store.sweep()  # which connects to the server
            event.listen(store._kept, "after_cursor_execute", prune)
            key = build(store)
            assert pruned
            assert store.templates() == [key]

            event.remove(store._kept, "after_cursor_execute", prune)
            event.listen(store._kept, "before_cursor_execute", prune)
            unused = 0
            store.touch(key)
            assert store.templates() == []

    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        inside(each, use)


def test_a_build_waits_for_another(project: Project, database: Database) -> None:
    project.package("core")

    def use(engine: Engine) -> None:
        with opened(engine) as store, opened(engine) as other:
            key = new_key()
            with store.building(key):
                assert other._try_to_build(key) is None
                with other.building(new_key()):
                    pass
            with other.building(key):
                pass

    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        inside(each, use)


def test_the_databases_of_runs_that_ended_are_dropped(project: Project, database: Database) -> None:
    project.package("core")

    def use(engine: Engine) -> None:
        with opened(engine) as store:
            key, alive = build(store), store.new_name("clone")
            store.copy(key, alive)
            with opened(engine) as ended:
                dead = ended.new_name("clone")
                ended.copy(key, dead)
                ended.create(ended.new_name("build"))
                ended.prune = lambda keep, unused=0: None  # type: ignore[method-assign]
            store.sweep()

            assert rows(store, alive) == [1]
            store.copy(key, dead)  # its name is free again
            store.drop(alive, dead)

    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        inside(each, use)


# ---- the connection to the server


@pytest.mark.drivers("postgresql", "mariadb")
def test_a_lost_connection_is_opened_and_locked_again(with_store: With, database: Database) -> None:
    kill, who = {
        "postgresql": ("SELECT pg_terminate_backend({})", "SELECT pg_backend_pid()"),
        "mariadb": ("KILL {}", "SELECT connection_id()"),
    }[database.backend]

    def use(store: Store) -> None:
        assert isinstance(store, ServerStore)
        key, name = build(store), store.new_name("clone")
        with store._managing(name) as server:
            process = server.exec_driver_sql(who).scalar_one()
        database.run(kill.format(process))
        with pytest.raises(DatabaseError):
            store.copy(key, name)
        store.copy(key, name)
        with store._managing(name) as server:
            assert store._is_alive(server, store._run)
        assert rows(store, name) == [1]
        store.drop(name)

    with_store(use)


@pytest.mark.drivers("postgresql", "mariadb")
def test_the_apps_database_is_only_used_where_no_other_can_be(
    with_store: With, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[object] = []

    def use(store: Store) -> None:
        assert isinstance(store, ServerStore)
        key, name = build(store), store.new_name("clone")
        store.copy(key, name)
        with store._managing(name) as server:
            used.append(database_of(server))
        assert rows(store, name) == [1]
        store.drop(name)

    with_store(use)
    for kind in ServerStore.__subclasses__():
        monkeypatch.setattr(kind, "MAINTENANCE", "no_such_database")
    with_store(use)
    assert used == [{"postgresql": "postgres", "mariadb": "information_schema"}[database.backend], database.name]


# ---- several processes, and killed ones

WORK = """
import sys, tempfile
from functools import partial

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from ampho.database.connection import connect
from ampho.database.store import base, store_for

url, folder, base.TEMPLATE, task, *keys = sys.argv[1:]
tempfile.tempdir = folder
store = store_for(create_engine(url, poolclass=NullPool), partial(connect, setting="url"))
store.templates()
print(store.new_name("clone").split("_")[2], flush=True)

def build(key):
    name = store.new_name("build")
    store.create(name)
    with store.connection(name) as connection:
        for number in range(5):
            connection.exec_driver_sql(f"CREATE TABLE t{number} (id integer)")
            connection.exec_driver_sql(f"INSERT INTO t{number} VALUES (1), (2)")
            connection.commit()
    store.publish(name, key)

sys.stdin.readline()
for key in keys:
    with store.building(key):
        if key not in store.templates():
            build(key)
            print("built", key, flush=True)
    if task == "clone":
        names = [store.new_name("clone") for _ in range(3)]
        for name in names:
            store.copy(key, name)
        store.drop(*names[:2])
store.close()
"""
SYNC = pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
KILLS = int(os.environ.get("AMPHO_KILLS", "3"))


def start(database: Database, folder: Path, task: str, *keys: str) -> tuple[subprocess.Popen[str], str]:
    """Start a process that waits for :func:`go`, and return it with the name of its run."""
    url = database.url.render_as_string(hide_password=False)
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, url, str(folder), base.TEMPLATE, task, *keys],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, process.stdout.readline().strip()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def left(database: Database, folder: Path, runs: list[str]) -> set[str]:
    """The builds, clones, and templates of some runs that exist, and all files of SQLite except for small locks."""
    if database.backend == "sqlite":
        return {
            path.name for path in folder.glob("ampho-*/*") if not re.fullmatch(r"(folder|ampho_t.*)\.lock", path.name)
        }
    names = {"postgresql": "SELECT datname FROM pg_database", "mariadb": "SHOW DATABASES"}[database.backend]
    return {name for (name,) in database.query(names) if any(part in name for part in (*runs, base.TEMPLATE))}


@SYNC
@pytest.mark.usefixtures("unmeasured_processes")
def test_processes_that_start_at_once_build_once(database: Database, tmp_path: Path) -> None:
    key = new_key()
    processes = [start(database, tmp_path, "clone", key)[0] for _ in range(3)]
    for process in processes:
        go(process)
    output = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 3
    assert "".join(output) == f"built {key}\n"


def wait_for_the_end(store: Store, runs: list[str]) -> None:
    """Wait until the server has completed the last statements of killed processes, and noticed that they are gone."""
    if isinstance(store, ServerStore):
        with store._managing() as server:
            while any(store._is_alive(server, run) for run in runs):
                time.sleep(0.05)


@SYNC
@pytest.mark.timeout(60 + 10 * KILLS)
@pytest.mark.usefixtures("unmeasured_processes")
def test_killed_processes_leave_whole_templates_and_nothing_else(
    project: Project, database: Database, tmp_path: Path
) -> None:
    project.package("core")
    keys, runs = [new_key() for _ in range(3 * KILLS)], []
    for number in range(KILLS):
        process, run = start(database, tmp_path, "clone", *keys[3 * number : 3 * number + 3])
        runs.append(run)
        go(process)
        time.sleep(random.uniform(0, {"sqlite": 0.05, "postgresql": 1, "mariadb": 0.5}[database.backend]))
        process.kill()
        process.communicate()

    def use(engine: Engine) -> None:
        with opened(engine) as store:
            wait_for_the_end(store, runs)
            store.sweep()
            assert len(left(database, tmp_path, runs)) == len(store.templates())
            for key in store.templates():
                name = store.new_name("clone")
                store.copy(key, name)
                for table in range(5):
                    assert rows(store, name, f"SELECT id FROM t{table}") == [1, 2]
                store.drop(name)

    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        inside(each, use)
    assert left(database, tmp_path, runs) == set()


# ---- MariaDB

OBJECTS = """
CREATE SEQUENCE numbers START 5 CACHE 100;
CREATE TABLE colors (id integer PRIMARY KEY DEFAULT nextval(numbers), name varchar(30) COLLATE utf8mb4_bin CHECK
    (name <> ''), code varchar(9) AS (upper(left(name, 3))) STORED, hidden integer INVISIBLE DEFAULT 7, FULLTEXT KEY
    (name)) COMMENT '100% `wool`';
INSERT INTO colors (name, hidden) VALUES ('grün', 8), ('it''s red', 9);
CREATE TABLE articles (id integer AUTO_INCREMENT PRIMARY KEY, color integer, parent integer, at timestamp
    DEFAULT current_timestamp() ON UPDATE current_timestamp(), CONSTRAINT of_color FOREIGN KEY (color) REFERENCES
    colors (id) ON DELETE CASCADE, FOREIGN KEY (parent) REFERENCES articles (id));
INSERT INTO articles (id, color, parent, at) VALUES (41, 5, NULL, '2026-03-29 02:30:00'), (42, 6, 41, '2001-01-01');
DELETE FROM articles WHERE id = 42;
SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO';
INSERT INTO articles (id, at) VALUES (0, '2020-01-01');
SET SESSION sql_mode = 'PIPES_AS_CONCAT';
CREATE FUNCTION tint(name text) RETURNS text DETERMINISTIC RETURN concat('100%', name);
CREATE PROCEDURE paint(IN a integer) COMMENT 'It''s' BEGIN UPDATE colors SET hidden = a; END;
SET SESSION sql_mode = DEFAULT;
CREATE VIEW z AS SELECT id, tint(name) AS name FROM colors;
CREATE SQL SECURITY INVOKER VIEW a AS SELECT z.name, articles.id FROM z JOIN articles ON color = z.id;
CREATE TRIGGER second BEFORE INSERT ON articles FOR EACH ROW SET NEW.parent = 41;
CREATE TRIGGER first BEFORE INSERT ON articles FOR EACH ROW PRECEDES second SET NEW.parent = 0;
SET SESSION time_zone = '+05:00';
CREATE EVENT later ON SCHEDULE EVERY 1 YEAR STARTS '2037-01-01 00:00:00' DISABLE DO DELETE FROM articles;
CREATE EVENT soon ON SCHEDULE EVERY 1 YEAR STARTS '2037-01-01 00:00:00'
    COMMENT ' DISABLE ON SLAVE' DO DELETE FROM articles;
CREATE TABLE prices (id integer PRIMARY KEY, cents integer) WITH SYSTEM VERSIONING;
CREATE TABLE taxes (id integer PRIMARY KEY, a timestamp(6) GENERATED ALWAYS AS ROW START, b timestamp(6)
    GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (a, b)) WITH SYSTEM VERSIONING;
INSERT INTO prices VALUES (1, 100);
UPDATE prices SET cents = 200;
INSERT INTO taxes (id) VALUES (1);
DELETE FROM taxes;
CREATE TABLE parts (id integer, y integer) PARTITION BY RANGE (y) (PARTITION old VALUES LESS THAN (2000),
    PARTITION new VALUES LESS THAN MAXVALUE);
INSERT INTO parts VALUES (1, 1999), (2, 2001);
CREATE TABLE one (id integer, `50%` integer, `%%` integer);
INSERT INTO one VALUES (1, 2, 3);
CREATE TABLE two (id integer);
CREATE TABLE three (id integer)
"""


def everything(store: Store, name: str) -> dict[str, object]:
    """What SHOW CREATE tells of each object of a database, and all rows, as the server gives them."""
    queries = {
        "table": "SHOW FULL TABLES",
        "function": "SHOW FUNCTION STATUS WHERE db = database()",
        "procedure": "SHOW PROCEDURE STATUS WHERE db = database()",
        "trigger": "SHOW TRIGGERS",
        "event": "SHOW EVENTS",
    }
    found: dict[str, object] = {}
    with store.connection(name) as connection:
        connection.execution_options(no_parameters=True)
        for kind, query in queries.items():
            for row in connection.exec_driver_sql(query).all():
                each = row[0] if kind in ("table", "trigger") else row[1]
                shown = connection.exec_driver_sql(f"SHOW CREATE {kind} `{each}`").mappings().one()
                found[f"{kind} {each}"] = {key: shown[key] for key in shown if key != "Created"}
        for row in connection.exec_driver_sql("SHOW FULL TABLES").all():
            versions = " FOR SYSTEM_TIME ALL" if row[0] in ("prices", "taxes") else ""
            rows = connection.exec_driver_sql(f"SELECT * FROM `{row[0]}`{versions}").all()
            found[f"rows of {row[0]}"] = sorted((tuple(each) for each in rows), key=repr)
        found["hidden"] = connection.exec_driver_sql("SELECT hidden FROM colors ORDER BY id").scalars().all()
        found["triggers"] = connection.exec_driver_sql("SHOW TRIGGERS").scalars().all()
        collation = connection.exec_driver_sql("SELECT @@collation_database").scalar_one()
        found["next"] = connection.exec_driver_sql("SELECT nextval(numbers)").scalar_one()
    return ast.literal_eval(
        repr({**found, "collation": collation}).replace(name, "NAME").replace("datetime.datetime", "")
    )  # type: ignore[no-any-return]


@pytest.mark.drivers("mariadb")
def test_a_clone_has_all_objects_and_all_rows(with_store: With) -> None:
    def use(store: Store) -> None:
        names = [store.new_name("clone") for _ in range(2)]
        key, source = (
            build(store, "ALTER DATABASE COLLATE utf8mb4_unicode_ci", *OBJECTS.split(";\n")),
            store.new_name("build"),
        )
        store.create(source)
        execute(store, source, "ALTER DATABASE COLLATE utf8mb4_unicode_ci", *OBJECTS.split(";\n"))
        for name in names:
            store.copy(key, name)
        original = everything(store, source)
        assert len(original) == 32
        clones = [everything(store, name) for name in names]
        assert clones[0] == clones[1]
        for clone in (original, *clones):
            for changing in ("rows of numbers", "rows of prices", "rows of taxes"):
                assert clone.pop(changing)
        assert clones[0] == original

        assert isinstance(store, ServerStore)
        with store._managing() as server:
            server.exec_driver_sql(f"DROP TABLE {store._existing(key).name}.one")
        with pytest.raises(DatabaseError, match="doesn't exist"):
            store.copy(key, broken := store.new_name("clone"))
        store.create(broken)  # since the part that was created is dropped
        many = [store.new_name("clone") for _ in range(6)]
        for name in many:
            store.create(name)
        store.drop(source, *names, broken, *many)
        with store._managing() as server:
            assert [name for name in store._left_over(server) if run_of(name) == store._run] == []

    with_store(use)


@pytest.mark.drivers("mariadb")
def test_a_copy_that_was_killed_is_not_taken_for_a_complete_one(with_store: With, database: Database) -> None:
    """Nor is it dropped, because its name is the user's, such as that of a tenant, who may use it since."""

    def use(store: Store) -> None:
        key, name = build(store), f"{database.name}_chosen"
        comment = "ampho copies a template here in the run 000000000000"
        database.run(f"CREATE DATABASE {name} COMMENT '{comment}'", f"CREATE TABLE {name}.half (id integer)")
        with pytest.raises(DatabaseError, match="the copy may be incomplete"):
            store.provide(key, name)
        assert rows(store, name, "SHOW TABLES") == ["half"]
        database.run(f"ALTER DATABASE {name} COMMENT ''")
        store.provide(key, name)
        assert rows(store, name, "SHOW TABLES") == ["half"]
        database.run(f"DROP DATABASE {name}")
        store.provide(key, name)
        assert rows(store, name) == [1]
        store.drop(name)

        broken = build(store, "CREATE TABLE t (id integer)", "CREATE VIEW v AS SELECT id FROM t", "DROP TABLE t")
        with pytest.raises(DatabaseError, match="doesn't exist"):
            store.copy(broken, name)
        assert database.query("SELECT 1 FROM information_schema.schemata WHERE schema_name = :name", name=name) == []

    with_store(use)


@pytest.mark.drivers("mariadb+pymysql")
def test_a_copy_waits_for_another_to_the_same_name(project: Project, database: Database) -> None:
    project.package("core")

    def use(engine: Engine) -> None:
        with opened(engine) as store, opened(engine) as other, ThreadPoolExecutor() as threads:
            key, name = build(store), f"{database.name}_chosen"
            other.templates()  # it is alive
            database.run(f"CREATE DATABASE {name} COMMENT 'ampho copies a template here in the run {other._run}'")
            copying = threads.submit(store.provide, key, name)
            with pytest.raises(TimeoutError):
                copying.result(0.5)
            database.run(f"ALTER DATABASE {name} COMMENT ''")
            copying.result(30)
            assert rows(store, name, "SHOW TABLES") == []
            database.run(f"DROP DATABASE {name}")

    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        inside(each, use)


# ---- SQLite


@pytest.mark.drivers("sqlite+pysqlite")
def test_the_folder_is_the_users_own(with_store: With, tmp_path: Path) -> None:
    folder = tmp_path / f"ampho-{os.getuid()}"

    def use(store: Store) -> None:
        build(store)
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.chmod(0o777)
        with pytest.raises(DatabaseError, match="does not belong to the current user alone"):
            store.templates()
        folder.chmod(0o700)

    with_store(use)


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_file_is_copied_where_the_kernel_cannot(with_store: With, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", fail)

    def use(store: Store) -> None:
        name = store.new_name("clone")
        store.copy(build(store), name)
        assert rows(store, name) == [1]
        with pytest.raises(DatabaseError, match="cannot be created"):
            store.create("/no/such/folder/x.db")

    with_store(use)


@pytest.mark.parametrize("framework", ["flask", "quart"])
@pytest.mark.drivers("sqlite+pysqlite")
def test_an_app_in_memory_gets_clones_in_memory(
    project: Project, database: Database, framework: str, tmp_path: Path
) -> None:
    project.package("core")
    memory = URLS[framework].partition("/app")[0]

    def use(engine: Engine) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE of_the_app (id integer)")
        with opened(engine) as store, opened(engine) as other:
            key, name = build(store), other.new_name("clone")
            late = store.new_name("build")
            store.create(late)
            store.publish(late, key)
            with pytest.raises(DatabaseError, match="does not exist"):
                other.copy(new_key(), name)
            other.copy(key, name)
            with pytest.raises(DatabaseError, match="already exists"):
                other.copy(key, name)
            other.copy(key, "chosen")
            execute(other, name, "INSERT INTO t VALUES (2)")
            assert (rows(other, name), rows(other, "chosen")) == ([1, 2], [1])
            other.drop("chosen", name)
            folder = tmp_path / f"ampho-{os.getuid()}"
            assert [path.stem for path in folder.glob("*.db")] == [base.template_name(key)]
        with engine.connect() as connection:
            tables = connection.exec_driver_sql("SELECT name FROM sqlite_master").scalars().all()
        assert tables == ["of_the_app"]

    with facade(project, framework, ["core"], memory) as each:
        inside(each, use)
