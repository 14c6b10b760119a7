"""A database is changed while an old and a new release of an app are used: servers, clients, and what is measured."""

from __future__ import annotations

import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from textwrap import indent
from typing import Self

from live.changes import RELEASES, RETRY, TRIGGERS, Change, Release
from project import FOREIGN, PROGRAMS, Project
from servers import Database
from sqlalchemy import text

MARK = "/* app */"
"""Follows each statement of the servers, so that their waits can be told from those of the migration."""
PATIENCE = 2.0
"""The seconds that a request and a wait for a lock may take."""
COMMANDS = {phase: ("ampho", "db-up", "--phase", phase) for phase in ("pre", "post")}
NAIVE = ("ampho", "db-up")

_MODELS = """\
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from {module} import {sqlalchemy}

db = {sqlalchemy}(
    metadata=sa.MetaData(
        naming_convention={{
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }}
    )
)


{models}"""
_APP = """\
import os
from decimal import Decimal

import sqlalchemy as sa
from {framework} import {app}, request

import shop
from ampho import {ampho}
from shop import db
from shop.retry import is_deadlock, retry

app = {app}(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = {url!r}
app.config["AMPHO_MIGRATION_PACKAGES"] = ["shop"]
db.init_app(app)
{ampho}(app, db)

if "SERVING" in os.environ:

    @sa.event.listens_for(sa.Engine, "before_cursor_execute", retval=True)
    def mark(connection, cursor, statement, parameters, context, executemany):
        return f"{{statement}} {mark}", parameters

    @sa.event.listens_for(sa.Engine, "handle_error")
    def report(context):
        if is_deadlock(context.original_exception):
            print({retried!r}, flush=True)


@app.post("/rows")
@retry
{async_}def write():
    key, value = request.args.get("id", type=int), request.args["value"]
    row = {await_}db.session.get(shop.{row}, key) if key else shop.{row}()
    {put}
    db.session.add(row)
    {await_}db.session.flush()
    key = row.id
    {await_}db.session.commit()
    return str(key)


@app.get("/rows/<int:key>")
@retry
{async_}def read(key):
    row = {await_}db.session.get(shop.{row}, key)
    return {get}
"""
_RETRIED = "A deadlock ended a transaction."
_REVISION = """\
import sqlalchemy as sa
from alembic import op

revision = {revision!r}
down_revision = {down!r}
branch_labels = {labels!r}
depends_on = None


{functions}
"""
_CREATE = """\
def upgrade():
    from shop import db

    db.metadata.create_all(op.get_bind())


def downgrade():
    pass
"""
_NUMBERS = {
    "postgresql": "generate_series(1, {rows}) AS numbers (i)",
    "mariadb": "(SELECT seq AS i FROM seq_1_to_{rows}) AS numbers",
}
_WAITED = {
    "postgresql": "SELECT max(extract(epoch FROM clock_timestamp() - waitstart)) FROM pg_locks"
    " JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database() AND query LIKE :mark",
    "mariadb": "SELECT max(time_ms) / 1000 FROM information_schema.processlist"
    " LEFT JOIN information_schema.innodb_trx ON trx_mysql_thread_id = id"
    " WHERE db = database() AND id <> connection_id() AND info LIKE :mark"
    " AND (state LIKE 'Waiting for %' OR trx_state = 'LOCK WAIT')",
}


@dataclass(frozen=True)
class Size:
    """How much a run does.

    :ivar rows: of the table.
    :ivar seconds: the load lasts in each situation.
    :ivar busy: the seconds that a transaction of a job uses the table when a migration begins.
    :ivar rate: the requests of a client in a second, at most.
    """

    rows: int
    seconds: float
    busy: float
    rate: float


@dataclass
class Outcome:
    """What the clients and the database saw.

    :ivar waited: the longest wait of a server's statement for a lock.
    :ivar retried: how many requests the apps tried again after a deadlock.
    """

    requests: int = 0
    longest: float = 0
    waited: float = 0
    retried: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def is_free_of_downtime(self) -> bool:
        return not self.failures and self.longest <= PATIENCE and self.waited <= PATIENCE


class Rows:
    """What has been written to each row, to tell whether what is read can be right."""

    def __init__(self, filled: int) -> None:
        self._lock = threading.Lock()
        self._filled = filled
        self._sent: dict[int, list[str]] = {}
        self._answered: dict[int, int] = {}
        self._values = count(filled + 1)

    def next_value(self) -> str:
        with self._lock:
            return str(next(self._values))

    def choose(self, which: int) -> int:
        """Choose a row; each writer has rows of its own, those with even or with odd keys."""
        with self._lock:
            written = [key for key in list(self._sent)[-20:] if key % 2 == which]
        if written and random.random() < 0.5:
            return random.choice(written)
        return random.randrange(1, self._filled) // 2 * 2 + which or 2

    def begin(self, key: int, value: str) -> None:
        with self._lock:
            self._sent.setdefault(key, [str(key)]).append(value)

    def end(self, key: int, value: str) -> None:
        with self._lock:
            values = self._sent.setdefault(key, [value])
            self._answered[key] = values.index(value)

    def answered(self, key: int) -> int:
        """Return the number of the last value that is known to be in a row."""
        with self._lock:
            return self._answered.get(key, 0)

    def since(self, key: int, number: int) -> list[str]:
        """Return the values of a row that were sent since the one with this number."""
        with self._lock:
            return self._sent.get(key, [str(key)])[number:]

    def sent(self) -> list[int]:
        with self._lock:
            return list(self._sent)


class Clients:
    """A writer and a reader of one release, each in a thread."""

    def __init__(self, port: int, which: int, rows: Rows, outcome: Outcome, rate: float) -> None:
        self._port, self._which, self._rows, self._outcome, self._pause = port, which, rows, outcome, 1 / rate
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=[what]) for what in (self._write, self._read)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def read_all(self) -> None:
        """Read all rows that were written."""
        with closing(self._connect()) as connection:
            for key in self._rows.sent():
                self._read_row(connection, key)

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)

    def _repeat(self, what: object) -> None:
        assert callable(what)
        with closing(self._connect()) as connection:
            while not self._end.is_set():
                begun = time.monotonic()
                what(connection)
                self._end.wait(begun + self._pause - time.monotonic())

    def _write(self, connection: http.client.HTTPConnection) -> None:
        value = self._rows.next_value()
        if random.random() < 0.5:
            found = self._ask(connection, "POST", f"/rows?value={value}")
            if found is not None:
                self._rows.end(int(found), value)
            return
        key = self._rows.choose(self._which)
        self._rows.begin(key, value)
        if self._ask(connection, "POST", f"/rows?id={key}&value={value}") is not None:
            self._rows.end(key, value)

    def _read(self, connection: http.client.HTTPConnection) -> None:
        self._read_row(connection, self._rows.choose(random.randrange(2)))

    def _read_row(self, connection: http.client.HTTPConnection, key: int) -> None:
        answered = self._rows.answered(key)
        found = self._ask(connection, "GET", f"/rows/{key}")
        values = self._rows.since(key, answered)
        if found is not None and found not in values:
            self._outcome.failures.append(f"row {key} has {found} instead of {' or '.join(values)}")

    def _ask(self, connection: http.client.HTTPConnection, method: str, path: str) -> str | None:
        begun = time.monotonic()
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read().decode()
            failure = None if response.status == 200 else str(response.status)
        except (OSError, http.client.HTTPException) as exc:
            failure, body = repr(exc), ""
            connection.close()
        taken = time.monotonic() - begun
        self._outcome.requests += 1
        self._outcome.longest = max(self._outcome.longest, taken)
        if failure:
            self._outcome.failures.append(f"{'old' if not self._which else 'new'}: {method} {path}: {failure}")
        return None if failure else body


@contextmanager
def _watching(database: Database, outcome: Outcome) -> Iterator[None]:
    """Ask the database again and again how long statements of the servers have been waiting for locks."""
    end = threading.Event()

    def watch() -> None:
        with database.connect() as connection:
            while not end.wait(0.05):
                waited = connection.execute(text(_WAITED[database.backend]), {"mark": f"%{MARK}"}).scalar()
                outcome.waited = max(outcome.waited, float(waited or 0))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


@contextmanager
def _busy(database: Database, table: str, seconds: float) -> Iterator[None]:
    """Have a transaction write to a table, as a job may do that takes long."""
    began = threading.Event()

    def work() -> None:
        with database.connect() as autocommitting:
            connection = autocommitting.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                connection.execute(text(f"UPDATE {table} SET id = id WHERE id < 0"))
                began.set()
                time.sleep(seconds)

    thread = threading.Thread(target=work)
    thread.start()
    assert began.wait(30)
    try:
        yield
    finally:
        thread.join()


class Checkouts:
    """The folders of both releases.

    :ivar new: how the new release is there: with the revisions of the page, or the naive one.
    """

    def __init__(self, folder: Path, change: Change, database: Database, framework: str) -> None:
        self._folder, self._change, self._database, self._framework = folder, change, database, framework
        self.old = self._write("old", change.old)
        self._revise(self.old, 0, _CREATE)

    def new(self, *, naive: bool) -> Project:
        project = self._write("new", self._change.new)
        shutil.copytree(self.old.folder / "shop/migrations", project.folder / "shop/migrations")
        if naive:
            body = indent(self._change.naive, "    ")
            self._revise(project, 1, f"def upgrade():\n{body}\n\n\ndef downgrade():\n    pass\n")
            return project
        for number, upgrade in enumerate(self._change.revisions, 1):
            self._revise(project, number, f"{upgrade}\n\ndef downgrade():\n    pass\n")
        return project

    def _write(self, name: str, release: Release) -> Project:
        project, is_async = Project(self._folder / name), self._framework == "quart"
        sqlalchemy, module = ("AsyncSQLAlchemy", "ampho") if is_async else ("SQLAlchemy", "flask_sqlalchemy")
        models = _MODELS.format(module=module, sqlalchemy=sqlalchemy, models=release.models)
        project.write("shop/__init__.py", models)
        project.write(TRIGGERS, RELEASES[TRIGGERS])
        retry = RELEASES[RETRY]
        if is_async:
            retry = retry.replace("def run(", "async def run(")
            retry = retry.replace("view(**", "await view(**").replace("db.session.roll", "await db.session.roll")
        project.write(RETRY, retry)
        app = _APP.format(
            framework=self._framework,
            app="Quart" if is_async else "Flask",
            ampho="AsyncAmpho" if is_async else "Ampho",
            url=self._database.url.render_as_string(hide_password=False),
            mark=MARK,
            retried=_RETRIED,
            row=self._change.row,
            put=release.put,
            get=release.get,
            async_="async " if is_async else "",
            await_="await " if is_async else "",
        )
        project.write("app.py", app)
        return project

    def _revise(self, project: Project, number: int, functions: str) -> None:
        revision = _REVISION.format(
            revision=_id(number),
            down=_id(number - 1) if number else None,
            labels=None if number else ("shop",),
            functions=functions,
        )
        project.write(f"shop/migrations/versions/{_id(number)}.py", revision)


def _id(number: int) -> str:
    return f"shop_{1_800_000_000 + number}"


@contextmanager
def _serving(project: Project, framework: str) -> Iterator[int]:
    """Serve a release as in production, and yield the port; requests in progress are answered in the end."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = (
        ["hypercorn"]
        if framework == "quart"
        else ["gunicorn", "--worker-class", "gthread", "--threads", "8", "--no-control-socket"]
    )
    environment = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # nothing is edited here, and compiling takes seconds
    with (project.folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [PROGRAMS / server[0], *server[1:], "--bind", f"127.0.0.1:{port}", "app:app"],
            cwd=project.folder,
            env=environment | {"SERVING": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait_for(process, port, project)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _wait_for(process: subprocess.Popen[bytes], port: int, project: Project) -> None:
    deadline = time.monotonic() + 30
    while True:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            try:
                connection.request("GET", "/rows/1")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                assert process.poll() is None, project.read("server.log")
                assert time.monotonic() < deadline, project.read("server.log")
            else:
                return
        time.sleep(0.05)


def change_under_load(change: Change, database: Database, folder: Path, size: Size, *, naive: bool = False) -> Outcome:
    """Change a database while both releases use it, as the guide says, or by one revision at once."""
    outcome, rows, framework = Outcome(), Rows(size.rows), "quart" if database.is_async else "flask"
    checkouts = Checkouts(folder, change, database, framework)
    checkouts.old.run("ampho", "db-up")
    _fill(change, database, size.rows)
    new = checkouts.new(naive=naive)

    def upgrade(phase: str) -> None:
        """Run ``db-up`` while a job uses the table; by default, there is no limit to how long it waits for locks."""
        environment = {"AMPHO_STATEMENT_LOCK_TIMEOUT": "0.5"} if phase else {}
        with _busy(database, change.table, size.busy):
            result = new.run(*COMMANDS.get(phase, NAIVE), env=environment, check=bool(phase))
        if result.exit_code:
            outcome.failures.append(str(result))

    with ExitStack() as stack:
        stack.enter_context(_watching(database, outcome))
        with _serving(checkouts.old, framework) as old_port, Clients(old_port, 0, rows, outcome, size.rate):
            time.sleep(size.seconds / 2)
            upgrade("" if naive else "pre")
            port = stack.enter_context(_serving(new, framework))
            clients = stack.enter_context(Clients(port, 1, rows, outcome, size.rate))
            time.sleep(size.seconds)
        if naive:
            return outcome
        upgrade("post")
        time.sleep(size.seconds / 2)
        clients.read_all()
    new.run("ampho", "db-check")
    outcome.retried = sum(each.read("server.log").count(_RETRIED) for each in (checkouts.old, new))
    return outcome


def _fill(change: Change, database: Database, rows: int) -> None:
    numbers = _NUMBERS[database.backend].format(rows=rows)
    analyze = {"postgresql": "ANALYZE", "mariadb": "ANALYZE TABLE"}[database.backend]
    database.run(*(each.format(numbers=numbers) for each in change.fill), f"{analyze} {change.table}")
