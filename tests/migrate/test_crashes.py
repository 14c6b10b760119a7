"""Migrations that are broken on purpose: killed, cut off, interrupted, out of room, not allowed, and many at once.

Each is followed by a run that succeeds. Wherever the database can roll DDL back, a revision is there whole or not at
all: schema, data, version rows and journal agree. MariaDB and MySQL cannot, and there the next run either goes on or
says what was interrupted; then these tests do what a person would do, look, repair, and say so with ``db-resolve``.

The loops are short unless the environment says otherwise: ``AMPHO_CRASHES``, ``AMPHO_BOUNDARIES=all``,
``AMPHO_SIGNALS``, ``AMPHO_CONCURRENT_PROCESSES`` and ``AMPHO_CONCURRENT_ROUNDS``; ``AMPHO_SEED`` varies them.
"""

from __future__ import annotations

import gc
import os
import random
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from facade import facade, one_error_line
from project import Project
from servers import JOURNAL, Database, listening
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError
from wire import Wire

from ampho import Observer, Step

CRASHES = int(os.environ.get("AMPHO_CRASHES", "1"))
SIGNALS = int(os.environ.get("AMPHO_SIGNALS", "1"))
STRIDE = 1 if os.environ.get("AMPHO_BOUNDARIES") == "all" else 45
PROCESSES = int(os.environ.get("AMPHO_CONCURRENT_PROCESSES", "4"))
ROUNDS = int(os.environ.get("AMPHO_CONCURRENT_ROUNDS", "1"))
SEED = int(os.environ.get("AMPHO_SEED", "42"))

SERVERS = ("postgresql+psycopg", "postgresql+asyncpg", "mariadb+pymysql", "mariadb+asyncmy")
ALL = ("sqlite+pysqlite", "sqlite+aiosqlite", *SERVERS)
ONE_OF_EACH = ("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
KILLED = ALL if "AMPHO_CRASHES" in os.environ else ONE_OF_EACH
SIGNALLED = ALL if "AMPHO_SIGNALS" in os.environ else ("postgresql+psycopg",)
IN_ROUNDS = ("postgresql+psycopg", "postgresql+asyncpg") if ROUNDS > 1 else ("postgresql+psycopg",)


# ---- a history of several kinds of revisions ----


@dataclass(frozen=True)
class Part:
    """A statement of a revision, and on MariaDB how a person does it, undoes it, and sees whether it is done."""

    code: str
    do: str
    undo: tuple[str, ...]
    seen: str


def sql(do: str, undo: str, seen: str) -> Part:
    return Part(f"op.execute({do!r})", do, (undo,), seen)


def there(kind: str, **names: str) -> str:
    where = "".join(f" AND {column} = '{name}'" for column, name in names.items())
    return f"SELECT count(*) > 0 FROM information_schema.{kind} WHERE table_schema = DATABASE(){where}"


def table(name: str) -> Part:
    return Part(
        f'op.create_table("{name}", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(50)))',
        f"CREATE TABLE {name} (id INTEGER NOT NULL AUTO_INCREMENT, name VARCHAR(50), PRIMARY KEY (id))",
        (f"DROP TABLE {name}",),
        there("tables", table_name=name),
    )


def column(of: str, name: str) -> Part:
    return Part(
        f'op.add_column("{of}", sa.Column("{name}", sa.Integer))',
        f"ALTER TABLE {of} ADD COLUMN {name} INTEGER",
        (f"ALTER TABLE {of} DROP COLUMN {name}",),
        there("columns", table_name=of, column_name=name),
    )


def index(of: str) -> Part:
    return Part(
        f'op.create_index("{of}_name", "{of}", ["name"])',
        f"CREATE INDEX {of}_name ON {of} (name)",
        (f"DROP INDEX {of}_name ON {of}",),
        there("statistics", table_name=of, index_name=f"{of}_name"),
    )


def row(of: str, number: int) -> Part:
    return sql(
        f"INSERT INTO {of} (id, name) VALUES ({number}, 'Ann')",
        f"DELETE FROM {of} WHERE id = {number}",
        f"SELECT count(*) FROM {of} WHERE id = {number}",
    )


def gone(part: Part, code: str, *also: Part) -> Part:
    """What takes a part back, with all that stood on it."""
    back = (part.do, *(other.do for other in also))
    return Part(code, part.undo[0], back, f"SELECT NOT ({part.seen})")


HISTORY = (
    (table("author"), row("author", 1)),
    (
        column("author", "born"),
        sql("UPDATE author SET born = 1900", "UPDATE author SET born = NULL", "SELECT count(born) FROM author"),
    ),
    (row("author", 2), index("author"), row("author", 3)),
    (table("book"), index("book"), row("book", 1)),
    (
        gone(index("author"), 'op.drop_index("author_name", table_name="author")'),
        row("book", 2),
        column("book", "pages"),
    ),
    (
        row("author", 4),
        sql(
            "DELETE FROM author WHERE id = 1",
            "INSERT INTO author VALUES (1, 'Ann', 1900)",
            "SELECT count(*) = 0 FROM author WHERE id = 1",
        ),
    ),
    (
        gone(
            table("book"),
            'op.drop_table("book")',
            index("book"),
            column("book", "pages"),
            row("book", 1),
            row("book", 2),
        ),
        table("shelf"),
    ),
)
IDS = tuple(f"core_{number}" for number in range(1, len(HISTORY) + 1))
Picture = tuple[dict[str, Any], dict[str, Any]]


def picture(database: Database) -> Picture:
    """The schema and the rows, without Alembic's and Ampho's own."""
    schema, data = database.schema(), database.data()
    for tables in (schema["tables"], data):
        tables.pop("alembic_version", None)
    return schema, data


def on(database: Database) -> str:
    return "quart" if database.is_async else "flask"


def journal(database: Database) -> list[tuple[str, str]]:
    with database.connect() as connection:
        if not inspect(connection).has_table(JOURNAL):
            return []
        entries = connection.execute(text(f"SELECT revision, outcome FROM {JOURNAL} ORDER BY id"))
        return [(revision, outcome) for revision, outcome in entries]


_REPLAYED: dict[str, tuple[Picture, ...]] = {}


@dataclass(frozen=True)
class Scene:
    """A history that can be written, run, broken and repaired.

    :ivar pictures: what a replay from empty shows after each number of revisions.
    """

    project: Project
    database: Database
    pictures: tuple[Picture, ...]

    def applied(self) -> int:
        """The number of revisions that are applied, where schema, data, version rows and journal agree on it."""
        rows = self.database.rows()
        count = IDS.index(rows[0]) + 1 if rows else 0
        assert rows == list(IDS[count - 1 : count])
        assert picture(self.database) == self.pictures[count]
        entries = [entry for entry in journal(self.database) if entry[1] != "failed"]
        assert entries == [(revision, "done") for revision in IDS[:count]]
        return count

    def recover(self, ampho: Callable[..., Any], chance: random.Random) -> bool:
        """Run again as a person would; return whether that person had to repair something."""
        if self.database.backend != "mariadb":
            self.applied()
        again = ampho("db-up")
        repaired = bool(again.exit_code)
        if repaired:
            self._resolve(ampho, again, chance)
            again = ampho("db-up")
            assert again.exit_code == 0, again.output
        assert self.database.rows() == [IDS[-1]]
        assert picture(self.database) == self.pictures[-1]
        assert not {"started", "partial"} & {outcome for _, outcome in journal(self.database)}
        return repaired

    def _resolve(self, ampho: Callable[..., Any], stopped: Any, chance: random.Random) -> None:
        assert self.database.backend == "mariadb", stopped.output
        assert stopped.exit_code == 1
        line = one_error_line(stopped.stderr)
        said = re.match(
            r"The upgrade of (core_\d) of core, which began on \S+ at \S+ UTC on the machine \S+,"
            r" (was interrupted|failed halfway),"
            r" so the changes of its first (?:\d+ statements|statement) may remain\.",
            line,
        )
        assert said, line
        assert f" db-resolve {said[1]} --applied' or '--not-applied'" in line
        below = IDS.index(said[1])
        assert self.database.rows() == list(IDS[below - 1 : below])
        applied = chance.random() < 0.5
        self._repair(HISTORY[below], applied)
        assert picture(self.database) == self.pictures[below + applied]
        resolved = ampho("db-resolve", said[1], "--applied" if applied else "--not-applied")
        assert resolved.exit_code == 0, resolved.output

    def _repair(self, parts: tuple[Part, ...], finish: bool) -> None:
        """Finish a revision by hand, or take back what is there of it."""
        if finish:
            for part in parts:
                if not self._is_done(part):
                    self.database.run(part.do)
            return
        for part in reversed(parts):
            if self._is_done(part):
                self.database.run(*part.undo)

    def _is_done(self, part: Part) -> bool:
        try:
            return bool(self.database.query(part.seen)[0][0])
        except DBAPIError:  # what it is about is not there at all
            return False

    def clear(self) -> None:
        """Take everything out of the database, when nobody is connected any more."""
        if self.database.backend == "sqlite":
            for path in Path(self.database.name).parent.glob(f"{Path(self.database.name).name}*"):
                path.unlink()
            return
        if names := [*self.database.tables(), *([JOURNAL] if journal(self.database) else [])]:
            self.database.run(f"DROP TABLE {', '.join(names)}")

    def wait_until_alone(self) -> None:
        """Wait until the server has noticed that a process is gone."""
        question = {
            "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
            "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE()"
            " AND id <> connection_id()",
        }.get(self.database.backend, "SELECT 0")
        with self.database.connect() as connection:  # one for all questions, since each that ends is counted, too
            wait_until(lambda: connection.execute(text(question)).scalar_one() == 0)


def wait_until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def write(project: Project, pause: float = 0) -> None:
    """Write the history, whose revisions take their time between their parts."""
    project.package("core")
    wait = f"\nimport time; time.sleep({pause})\n" if pause else "\n"
    for number, (revision, parts) in enumerate(zip(IDS, HISTORY, strict=True)):
        below = IDS[number - 1] if number else None
        project.revision("core", revision, below, upgrade=wait.join(part.code for part in parts))


class Album(Observer):
    """Takes a picture of an empty database, and one after each revision."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.pictures = [picture(database)]

    def applied(self, step: Step, duration: float) -> None:
        self.pictures.append(picture(self.database))


@pytest.fixture
def scene(project: Project, database: Database, make_database: Callable[[str], Database]) -> Scene:
    """The history, an app beside it, and an empty database."""
    write(project)
    if database.backend not in _REPLAYED:
        album = Album(make_database(database.driver))
        with facade(project, on(album.database), ["core"], album.database.url) as each:
            each.call("upgrade", observer=album)
        assert len(album.pictures) == len(IDS) + 1
        _REPLAYED[database.backend] = tuple(album.pictures)
    project.app(on(database), ["core"], database.url)
    return Scene(project, database, _REPLAYED[database.backend])


# ---- a process that ends in the middle ----


@dataclass(frozen=True)
class Life:
    """How long an undisturbed run takes until its first words, and until its last, in seconds."""

    first: float
    last: float


@dataclass(frozen=True)
class Ended:
    """How a process ended to which a signal was sent."""

    code: int
    stderr: str


def live(scene: Scene) -> Life:
    begun = time.monotonic()
    with scene.project.start("ampho", "db-up") as process:
        assert process.stdout is not None
        moments = [time.monotonic() - begun for _ in process.stdout]
        process.communicate()
    assert process.returncode == 0
    assert picture(scene.database) == scene.pictures[-1]
    return Life(moments[0], moments[-1])


def strike(scene: Scene, number: signal.Signals, seconds: float, *, after_first_words: bool) -> Ended:
    """Send a signal to a process that upgrades."""
    with scene.project.start("ampho", "db-up") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if after_first_words:
            process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(number)
        process.stdout.read()
        stderr = process.stderr.read()
    scene.wait_until_alone()
    return Ended(process.returncode, stderr)


@pytest.mark.drivers(*KILLED)
@pytest.mark.timeout(0 if CRASHES > 5 else 120)
def test_a_process_that_is_killed_at_any_moment(scene: Scene) -> None:
    chance = random.Random(f"{SEED} {scene.database.driver}")
    write(scene.project, 0.01)
    ampho = partial(scene.project.run, "ampho", check=False)
    life = live(scene)
    outcomes = []
    for number in range(CRASHES):
        scene.clear()
        in_all_its_life = number % 3 == 2
        moment = chance.uniform(0, life.last if in_all_its_life else life.last - life.first)
        ended = strike(scene, signal.SIGKILL, moment, after_first_words=not in_all_its_life)
        assert ended.code in (-signal.SIGKILL, 0), ended

        rows = scene.database.rows()
        outcomes.append((rows, scene.recover(ampho, chance)))
    if CRASHES > 5:
        assert any(rows not in ([], [IDS[-1]]) for rows, _ in outcomes), outcomes
        assert scene.database.backend != "mariadb" or any(repaired for _, repaired in outcomes), outcomes


SAID = {signal.SIGINT: (130, "Interrupted."), signal.SIGTERM: (143, "Terminated.")}


# Coverage has a handler of its own for SIGTERM.
@pytest.mark.drivers(*SIGNALLED)
@pytest.mark.timeout(0 if SIGNALS > 5 else 120)
def test_a_process_that_is_interrupted_or_terminated_at_any_moment(scene: Scene) -> None:
    chance = random.Random(f"{SEED} {scene.database.driver}")
    write(scene.project, 0.01)
    life = live(scene)
    with facade(scene.project, on(scene.database), ["core"], scene.database.url, AMPHO_LOCK_TIMEOUT=0) as each:
        for number in (*SAID,) * SIGNALS:
            scene.clear()
            moment = chance.uniform(0, life.last - life.first)
            ended = strike(scene, number, moment, after_first_words=True)

            code, words = SAID[number]
            if ended.code == code:
                assert one_error_line(ended.stderr.splitlines()[-1]).startswith(words), ended
            else:  # it was done, and perhaps Python was ending already, which handles no signal then
                assert ended.code in (0, -number), ended
                assert picture(scene.database) == scene.pictures[-1]
            scene.recover(each.run, chance)
            each.dispose()


# ---- a connection that is ended at a statement ----

KILL = {"postgresql": "SELECT pg_terminate_backend(:pid)", "mariadb": "KILL :pid"}
IS_LEFT = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE pid = :pid",
    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE id = :pid",
}


def server_process(driver_connection: Any) -> int:
    for ask in ("get_server_pid", "thread_id"):  # asyncpg; PyMySQL and asyncmy
        if hasattr(driver_connection, ask):
            return int(getattr(driver_connection, ask)())
    return int(driver_connection.info.backend_pid)


@dataclass
class Boundaries:
    """Counts the statements of all connections to a database, and ends the connection just before or after one."""

    database: Database
    at: int = 0
    before: bool = True
    count: int = 0
    statement: str = ""

    @contextmanager
    def watch(self) -> Iterator[None]:
        with listening("before_cursor_execute", self._before), listening("after_cursor_execute", self._after):
            yield

    def _before(self, connection: Any, cursor: object, statement: str, *args: object) -> None:
        if connection.engine.url.database == self.database.name:
            self.count += 1
            if self.count == self.at:
                self.statement = statement
                if self.before:
                    self._end(connection)

    def _after(self, connection: Any, *args: object) -> None:
        if connection.engine.url.database == self.database.name and self.count == self.at and not self.before:
            self._end(connection)

    def _end(self, connection: Any) -> None:
        # In a context of its own, as in another process, or its connections would count as the revision's.
        Context().run(self._kill, server_process(connection.connection.driver_connection))

    def _kill(self, pid: int) -> None:
        with self.database.connect() as killer:
            killer.execute(text(KILL[self.database.backend]), {"pid": pid})
        wait_until(lambda: self.database.query(IS_LEFT[self.database.backend], pid=pid) == [(0,)])


@pytest.mark.drivers(*SERVERS)
@pytest.mark.timeout(0 if STRIDE == 1 else 120)
def test_a_connection_that_is_ended_before_or_after_any_statement(scene: Scene) -> None:
    database = scene.database
    chance = random.Random(f"{SEED} {database.driver}")
    # The one who comes next waits for nobody: a lock that is held still is an error.
    with facade(scene.project, on(database), ["core"], database.url, AMPHO_LOCK_TIMEOUT=0) as each:
        whole = Boundaries(database)
        with whole.watch():
            assert each.run("db-up").exit_code == 0
        points = [(number, before) for number in range(1, whole.count + 1) for before in (True, False)]
        for number, before in points[chance.randrange(STRIDE) :: STRIDE]:
            scene.clear()
            boundary = Boundaries(database, number, before)
            with boundary.watch():
                result = each.run("db-up")

            where = (number, before, boundary.statement, result.exception)
            if result.exit_code == 0:  # all was done, and the lock was given back, or ended with the connection
                assert database.rows() == [IDS[-1]], where
                continue
            assert result.exit_code == 1, where
            assert result.stderr, where
            line = one_error_line(result.stderr.splitlines()[-1])
            assert line.startswith(("Revision core_", "The database reported an error: ")), (where, line)
            scene.recover(each.run, chance)


# ---- a connection that is cut at a commit ----


def cutter(database: Database, number: int) -> Wire:
    """A wire that is cut when the server has done a COMMIT and before it says so."""
    assert database.url.host
    return Wire((database.url.host, database.url.port or 0), b"COMMIT", "unanswered", skip=number - 1)


@pytest.mark.drivers(*SERVERS)
def test_a_commit_of_which_nobody_hears_is_not_said_to_be_rolled_back(scene: Scene) -> None:
    database = scene.database
    for number in (2, 5):
        scene.clear()
        with cutter(database, number) as wire:
            url = database.url.set(host="127.0.0.1", port=wire.port)
            with facade(scene.project, on(database), ["core"], url) as each:
                line = one_error_line(each.run("db-up").stderr.splitlines()[-1])
        applied = database.rows()
        said = re.match(r"Revision (core_\d) of core failed", line)
        if database.backend == "postgresql":
            assert said, line
            assert applied == [said[1]]
            scene.applied()
            assert "The connection was lost during the commit" in line, line
            assert " db-current' shows whether the revision is applied." in line
            assert "rolled back" not in line
        scene.wait_until_alone()
        with facade(scene.project, on(database), ["core"], database.url, AMPHO_LOCK_TIMEOUT=0) as each:
            scene.recover(each.run, random.Random(SEED))


@pytest.mark.drivers(*SERVERS)
def test_a_stamp_of_whose_commit_nobody_hears_is_not_said_to_have_changed_nothing(scene: Scene) -> None:
    database = scene.database
    first = {"postgresql": 1, "mariadb": 2}[database.backend]  # PyMySQL and asyncmy commit when they connect
    with cutter(database, first) as wire:
        url = database.url.set(host="127.0.0.1", port=wire.port)
        with facade(scene.project, on(database), ["core"], url) as each:
            line = one_error_line(each.run("db-stamp", "core_2").stderr.splitlines()[-1])
    assert line.startswith("The connection was lost during the commit")
    assert database.rows() == ["core_2"]
    assert sorted(journal(database)) == [("core_1", "stamped"), ("core_2", "stamped")]


# ---- no room ----


class Confined(sqlite3.Connection):
    """A connection whose database cannot grow beyond some pages."""

    pages = 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute(f"PRAGMA max_page_count = {self.pages}")


BULKY = """
op.create_table("bulk", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))
op.execute("INSERT INTO bulk VALUES (1, CAST(zeroblob(9000) AS TEXT))")
op.create_index("bulk_name", "bulk", ["name"])
"""


def bulky(project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=table("author").code)
    project.revision("core", "core_2", "core_1", upgrade=BULKY)
    project.revision("core", "core_3", "core_2", upgrade=table("shelf").code)


def assert_no_half(database: Database) -> None:
    """Each revision is there whole or not at all."""
    made = ["author", "bulk", "shelf"]
    rows = database.rows()
    count = int(rows[0].removeprefix("core_")) if rows else 0
    assert [name for name in made if name in database.tables()] == made[:count]
    with database.connect() as connection:
        assert bool(count > 1 and inspect(connection).get_indexes("bulk")) == (count > 1)
    assert [entry for entry in journal(database) if entry[1] != "failed"] == [
        (f"core_{number}", "done") for number in range(1, count + 1)
    ]


@pytest.mark.drivers("sqlite")
def test_sqlite_a_database_that_may_not_grow(project: Project, database: Database, monkeypatch: Any) -> None:
    bulky(project)
    seen = set()
    for pages in range(1, 40):
        monkeypatch.setattr(Confined, "pages", pages)
        options = {"connect_args": {"factory": Confined}}
        with facade(project, on(database), ["core"], database.url, SQLALCHEMY_ENGINE_OPTIONS=options) as each:
            result = each.run("db-up")
        assert_no_half(database)
        seen.add("".join(database.rows()))
        if result.exit_code == 0:
            break
        assert result.exit_code == 1
        assert "OperationalError: database or disk is full" in one_error_line(result.stderr)
    assert database.rows() == ["core_3"]
    assert len(seen) > 2


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of some bytes."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no program 'mount'")
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # With SQLAlchemy 2.0, frames of errors refer to cursors, which keep the file open.
        gc.collect()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.drivers("sqlite")
def test_sqlite_a_disk_that_is_full(project: Project, database: Database, tmp_path: Path) -> None:
    bulky(project)
    with small_disk(tmp_path / "disk", 4096) as disk:
        small = replace(database, url=database.url.set(database=str(disk / "app.db")))
        project.app(on(small), ["core"], small.url)
        refused = []
        for size in range(4096, 40 * 4096, 4096):
            subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
            with facade(project, on(small), ["core"], small.url) as each:
                result = each.run("db-up")
            if result.exit_code == 0:
                break
            assert result.exit_code == 1
            refused.append(one_error_line(result.stderr))
            if size == 12 * 4096 and not database.is_async:
                assert one_error_line(project.run("ampho", "db-up", check=False).stderr) == refused[-1]
            assert_no_half(small)
        assert small.rows() == ["core_3"]
        assert len(refused) > 3
        assert all("disk is full" in line or "disk I/O error" in line for line in refused), refused


# ---- not allowed ----


@contextmanager
def someone(database: Database, *rights: str) -> Iterator[Database]:
    """The same database for another user, who may connect, and what the rights say of ``{user}``."""
    name = f"ampho_{uuid4().hex[:12]}"
    user = {"postgresql": name, "mariadb": f"'{name}'@'%'"}[database.backend]
    make = {
        "postgresql": f"CREATE ROLE {name} LOGIN PASSWORD 'secret'",
        "mariadb": f"CREATE USER {user} IDENTIFIED BY 'secret'",
    }[database.backend]
    drop = {
        "postgresql": (f"DROP OWNED BY {name}", f"DROP ROLE {name}"),
        "mariadb": (f"DROP USER {user}",),
    }[database.backend]
    database.run(make)
    try:
        database.run(*(right.format(user=user, database=database.name) for right in rights))
        yield replace(database, url=database.url.set(username=name, password="secret"))
    finally:
        database.run(*drop)


ROWS_ONLY = {
    "postgresql": (
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {user}",
    ),
    "mariadb": ("GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO {user}",),
}
REFUSED = {
    "postgresql": "permission denied for schema public|must be owner of table author",
    "mariadb": "(CREATE|ALTER) command denied to user",
}


@pytest.mark.drivers(*SERVERS)
def test_who_may_change_rows_only_changes_nothing(scene: Scene) -> None:
    database = scene.database
    with facade(scene.project, on(database), ["core"], database.url) as owner:
        for applied in (0, 1):
            if applied:
                owner.call("upgrade", "core_1")
            with (
                someone(database, *ROWS_ONLY[database.backend]) as limited,
                facade(scene.project, on(database), ["core"], limited.url) as each,
            ):
                for _ in range(2):
                    line = each.error_line("db-up")
                    assert re.search(REFUSED[database.backend], line), line
                    assert_says_that_nothing_is_left(line)
                    assert each.run("db-current").exit_code == 0
            assert database.rows() == list(IDS[:applied])
            assert picture(database) == scene.pictures[applied]

        assert owner.run("db-up").exit_code == 0
        assert picture(database) == scene.pictures[-1]


def assert_says_that_nothing_is_left(line: str) -> None:
    assert "may remain" not in line
    assert re.search("This command changed nothing|rolled back|None of its changes were committed", line), line


@contextmanager
def read_only(database: Database) -> Iterator[Database]:
    """The same database, for who may only read it."""
    if database.backend == "sqlite":
        url = database.url.set(database=f"file:{database.name}", query={"mode": "ro", "uri": "true"})
        yield replace(database, url=url)
    elif database.backend == "mariadb":
        with someone(database, "GRANT SELECT ON {database}.* TO {user}") as limited:
            yield limited
    else:
        database.run(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
        yield database
        with database.connect() as connection:
            connection.execute(text("SET default_transaction_read_only = off"))
            connection.execute(text(f"ALTER DATABASE {database.name} RESET default_transaction_read_only"))


NOT_WRITTEN = {
    "sqlite": "attempt to write a readonly database",
    "postgresql": "cannot execute (CREATE|ALTER) TABLE in a read-only transaction",
    "mariadb": "(CREATE|ALTER|INSERT) command denied to user",
}


@pytest.mark.drivers(*ALL)
def test_a_database_that_may_be_read_only(scene: Scene) -> None:
    database = scene.database
    with facade(scene.project, on(database), ["core"], database.url) as owner:
        if database.backend == "sqlite":
            database.run("VACUUM")  # so that there is a file
        for applied in (0, 1, len(IDS)):
            if applied:
                owner.call("upgrade", IDS[applied - 1])
            with read_only(database) as limited, facade(scene.project, on(database), ["core"], limited.url) as each:
                current = each.run("db-current")
                assert current.exit_code == 0, current.output
                result = each.run("db-up")
            assert database.rows() == ([IDS[applied - 1]] if applied else [])
            assert picture(database) == scene.pictures[applied]
            if applied == len(IDS):
                assert result.exit_code == 0, result.output
                assert result.stdout == "Nothing to do: everything is applied.\n"
                continue
            assert result.exit_code == 1
            line = one_error_line(result.stderr)
            assert re.search(NOT_WRITTEN[database.backend], line), line
            assert_says_that_nothing_is_left(line)


# ---- many at once, and an index that is made outside of a transaction ----

FILL = """
op.create_table("author", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(50)))
op.execute("INSERT INTO author SELECT n, 'Ann ' || n FROM generate_series(1, 5000) AS n")
"""
CONCURRENTLY = """
with op.get_context().autocommit_block():
    op.create_index("author_name", "author", ["name"], postgresql_concurrently=True)
"""
IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = CAST('author_name' AS regclass)"
LONGEST = 10.0  # seconds that an index of some thousand rows may take


@pytest.mark.drivers(*IN_ROUNDS)
@pytest.mark.timeout(0 if PROCESSES * ROUNDS > 8 else 120)
def test_many_processes_and_an_index_that_is_made_concurrently(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=FILL)
    project.revision("core", "core_2", "core_1", upgrade=CONCURRENTLY)
    project.app(on(database), ["core"], database.url)
    longest = 0.0
    for _ in range(ROUNDS):
        for name in (*database.tables(), JOURNAL):
            database.run(f"DROP TABLE IF EXISTS {name}")
        processes = [project.start("ampho", "db-up") for _ in range(PROCESSES)]
        for process in processes:
            with process:
                stdout, stderr = process.communicate(timeout=60 + 5 * PROCESSES)
            assert process.returncode == 0, stdout + stderr

        assert journal(database) == [("core_1", "done"), ("core_2", "done")]
        assert database.query(IS_VALID) == [(True,)]
        took = database.query(f"SELECT duration FROM {JOURNAL} WHERE revision = 'core_2'")[0][0]
        longest = max(longest, took)
    assert longest < LONGEST


@pytest.mark.drivers(*IN_ROUNDS)
def test_a_process_that_is_killed_while_its_index_is_made_concurrently(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=FILL)
    project.revision("core", "core_2", "core_1", upgrade=CONCURRENTLY)
    project.app(on(database), ["core"], database.url)
    is_waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND query LIKE 'CREATE INDEX CONCURRENTLY%'"
    )
    with facade(project, on(database), ["core"], database.url, AMPHO_LOCK_TIMEOUT=0) as each:
        each.call("upgrade", "core_1")
        each.dispose()
        with database.connect() as other:
            other.exec_driver_sql("BEGIN")
            other.exec_driver_sql("INSERT INTO author VALUES (0, 'Bo')")
            with project.start("ampho", "db-up") as process:
                wait_until(lambda: database.query(is_waiting) == [(1,)])
                process.kill()
            # The server goes on with the statement, and so the lock is held.
            assert "waiting for another migration of this database (pid " in each.error_line("db-up", exit_code=3)
            other.exec_driver_sql("COMMIT")
        each.dispose()
        Scene(project, database, ()).wait_until_alone()

        line = each.error_line("db-up")
        assert line.startswith("The upgrade of core_2 of core, which began on ")
        assert "was interrupted, so some of its changes may remain." in line
        assert database.query(IS_VALID) == [(True,)]
        assert each.run("db-resolve", "core_2", "--applied").exit_code == 0
        assert each.run("db-up").stdout == "Nothing to do: everything is applied.\n"


TWO_TRANSACTIONS = f"""
{table("book").code}
{CONCURRENTLY}
{row("book", 1).code}
"""


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
@pytest.mark.timeout(0 if STRIDE == 1 else 120)
def test_a_connection_that_is_ended_in_a_revision_of_several_transactions(project: Project, database: Database) -> None:
    """What such a revision committed before its end may remain, and the next run says so, and only then."""
    project.package("core")
    project.revision("core", "core_1", upgrade=FILL)
    project.revision("core", "core_2", "core_1", upgrade=TWO_TRANSACTIONS)
    begun = f"SELECT count(*) FROM {JOURNAL} WHERE revision = 'core_2' AND outcome = 'started'"
    with facade(project, on(database), ["core"], database.url, AMPHO_LOCK_TIMEOUT=0) as each:
        each.call("upgrade", "core_1")
        whole = Boundaries(database)
        with whole.watch():
            assert each.run("db-up", "core_2").exit_code == 0
        points = [(number, before) for number in range(1, whole.count + 1) for before in (True, False)]
        chance = random.Random(f"{SEED} {database.driver}")
        for number, before in points[chance.randrange(min(STRIDE, 8)) :: min(STRIDE, 8)]:
            database.run(
                "DROP TABLE IF EXISTS book",
                "DROP INDEX IF EXISTS author_name",
                "UPDATE alembic_version SET version_num = 'core_1'",
                f"DELETE FROM {JOURNAL} WHERE revision = 'core_2'",
            )
            boundary = Boundaries(database, number, before)
            with boundary.watch():
                result = each.run("db-up")
            where = (number, before, boundary.statement, result.output, journal(database))
            if result.exit_code == 0:
                assert database.rows() == ["core_2"], where
                continue
            line = one_error_line(result.stderr)
            assert re.search(
                ": (AdminShutdown|ConnectionDoesNotExistError|OperationalError: consuming input failed): ", line
            ), where
            if database.query(begun) == [(1,)]:
                assert "may remain" in line, where
                assert "db-resolve core_2 --applied' or '--not-applied'" in line, where
                again = each.error_line("db-up")
                assert again.startswith("The upgrade of core_2 of core, which began on "), (where, again)
                database.run("DROP TABLE IF EXISTS book", "DROP INDEX IF EXISTS author_name")
                assert each.run("db-resolve", "core_2", "--not-applied").exit_code == 0, where
            else:
                assert database.rows() == ["core_1"], where
                assert "book" not in database.tables(), where
                # Where it ended at the commit itself, nobody who runs can tell.
                at_commit = JOURNAL in boundary.statement and not before
                assert at_commit or "may remain" not in line, where
            assert each.run("db-up").exit_code == 0, where
            assert database.query("SELECT id FROM book") == [(1,)], where
            assert database.query(IS_VALID) == [(True,)], where
