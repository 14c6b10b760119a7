"""A backfill of 2 million rows that is killed again and again, and one that is not, beside one UPDATE.

    python benchmarks/backfill.py [sqlite] [postgresql=URL] [mariadb] [--rows 2000000] [--kills 30]

Each row is counted up by 1, so a batch that is applied twice or not at all shows. ``mariadb`` starts a server of its
own with ``binlog_format=STATEMENT``, and looks for warnings about unsafe statements in its log. While the backfill and
the UPDATE run, another process writes a row every few milliseconds, and measures how long that takes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

AMPHO = Path(sys.executable).parent / "ampho"
APP = """
import os
from flask import Flask
from ampho import Ampho

app = Flask(__name__)
app.config.update(SQLALCHEMY_DATABASE_URI=os.environ["BENCH_URL"], AMPHO_MIGRATION_PACKAGES=["core"])
Ampho(app)
"""
REVISION = """
from alembic import op
import sqlalchemy as sa
from ampho.operations import backfill

revision = "{id}"
down_revision = {down!r}
branch_labels = {labels!r}
depends_on = None


def upgrade():
    {body}


def downgrade():
    pass
"""
BODIES = {
    "core_1": 'op.create_table("users", sa.Column("id", sa.Integer, primary_key=True),'
    ' sa.Column("n", sa.Integer, nullable=False), sa.Column("name", sa.String(80), nullable=False))',
    "core_2": 'backfill("users", {"n": sa.text("n + 1")})',
    "core_3": 'op.execute("UPDATE users SET n = n + 1")',
}
FILL = {
    "sqlite": "WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < {rows})"
    " INSERT INTO users SELECT i, 0, 'some text that makes the row as long as most rows are' FROM g",
    "postgresql": "INSERT INTO users SELECT i, 0, 'some text that makes the row as long as most rows are'"
    " FROM generate_series(1, {rows}) i",
    "mariadb": "INSERT INTO users SELECT seq, 0, 'some text that makes the row as long as most rows are'"
    " FROM seq_1_to_{rows}",
}


class Bench:
    """The project, its database, and what is measured there."""

    def __init__(self, folder: Path, url: URL, rows: int) -> None:
        self.folder, self.rows = folder, rows
        self.backend = url.get_backend_name().replace("mysql", "mariadb")
        self.environment = os.environ | {"BENCH_URL": url.render_as_string(hide_password=False), "AMPHO_APP": "app"}
        self.engine: Engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self.watching = self.engine.connect()
        quoted = "`rows`" if self.backend == "mariadb" else '"rows"'
        self.place = f"SELECT {quoted} FROM ampho_journal_backfill"
        versions = folder / "core" / "migrations" / "versions"
        versions.mkdir(parents=True)
        (folder / "core" / "__init__.py").touch()
        (folder / "app.py").write_text(APP, "utf-8")
        below = None
        for name, body in BODIES.items():
            source = REVISION.format(id=name, down=below, labels=None if below else ("core",), body=body)
            (versions / f"{name}.py").write_text(source, "utf-8")
            below = name

    def query(self, statement: str) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(text(statement)).scalar() or 0)

    def ampho(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(AMPHO), *arguments], cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL
        )

    def up(self, target: str) -> float:
        begun = time.perf_counter()
        code = self.ampho("db-up", target).wait()
        assert code == 0, code
        return time.perf_counter() - begun

    def prepare(self) -> None:
        with self.engine.connect() as connection:
            for table in ("users", "alembic_version", "ampho_journal", "ampho_journal_backfill"):
                connection.execute(text(f"DROP TABLE IF EXISTS {table}"))
            if self.backend == "sqlite":
                connection.execute(text("PRAGMA journal_mode = WAL"))
        self.up("core_1")
        with self.engine.connect() as connection:
            connection.execute(text(FILL[self.backend].format(rows=self.rows)))
            if self.backend != "sqlite":
                connection.execute(text("ANALYZE users" if self.backend == "postgresql" else "ANALYZE TABLE users"))

    def recorded(self) -> int:
        with suppress(DBAPIError):  # the table does not exist yet
            return int(self.watching.execute(text(self.place)).scalar() or 0)
        return 0

    def exact(self) -> bool:
        """Whether each row was counted up once, up to the place that is recorded, and not at all after it."""
        done = self.recorded()
        return self.query(f"SELECT count(*) FROM users WHERE n <> CASE WHEN id <= {done} THEN 1 ELSE 0 END") == 0


def killed(bench: Bench, kills: int, chance: random.Random) -> dict[str, object]:
    """Kill the backfill again and again, at random moments, and let it end."""
    bench.prepare()
    places = [0]
    for left in range(kills, 0, -1):
        process = bench.ampho("db-up", "core_2")
        # It goes on until it is killed, so only a part of its share is aimed at.
        aim = places[-1] + chance.randrange(max(1, (bench.rows - places[-1]) // (3 * left)))
        while bench.recorded() <= aim and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.random() * 0.05)
        assert process.poll() is None, "it was faster than the killer"
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.3)  # until the server has noticed
        assert bench.query("SELECT count(*) FROM alembic_version WHERE version_num = 'core_2'") == 0, "it was faster"
        assert bench.exact(), "a batch is there in part, or twice"
        places.append(bench.recorded())
    last = bench.up("core_2")
    wrong = bench.query("SELECT count(*) FROM users WHERE n <> 1")
    total = bench.query("SELECT count(*) FROM users")
    return {"kills": kills, "rows": total, "wrong rows": wrong, "last run, s": round(last, 1)}


@contextmanager
def writing(bench: Bench, waits: list[float]) -> Iterator[None]:
    """Write random rows in another process meanwhile, which reports how long each write takes."""
    if waits:
        waits.clear()
    code = (
        "import random, sys, time\n"
        "from sqlalchemy import create_engine, text\n"
        "url, rows = sys.argv[1], int(sys.argv[2])\n"
        "options = {'connect_args': {'timeout': 600}} if url.startswith('sqlite') else {}\n"
        "engine = create_engine(url, isolation_level='AUTOCOMMIT', **options)\n"
        "with engine.connect() as connection:\n"
        "    if not url.startswith(('sqlite', 'postgresql')):\n"
        "        connection.execute(text('SET SESSION innodb_lock_wait_timeout = 600'))\n"
        "    while True:\n"
        "        begun = time.perf_counter()\n"
        "        connection.execute(text('UPDATE users SET name = :a WHERE id = :b'),"
        " {'a': 'x' * 50, 'b': random.randint(1, rows)})\n"
        "        print(time.perf_counter() - begun, flush=True)\n"
        "        time.sleep(0.005)\n"
    )
    url = bench.environment["BENCH_URL"]
    writer = subprocess.Popen([sys.executable, "-c", code, url, str(bench.rows)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    writer.stdout.readline()
    reader = Thread(target=lambda: waits.extend(map(float, writer.stdout or ())))
    reader.start()
    try:
        yield
        time.sleep(0.2)
    finally:
        writer.terminate()
        writer.wait()
        reader.join()


def compared(bench: Bench, log: Path | None) -> dict[str, object]:
    """Run the backfill, and one UPDATE of the same rows, and measure what another writer notices."""
    bench.prepare()
    found: dict[str, object] = {}
    for name, target in (("backfill", "core_2"), ("UPDATE", "core_3")):
        waits: list[float] = []
        before, unsafe = _log_position(bench), _unsafe(log)
        most, batches, over = [0], [0], Event()
        watch = Thread(target=_watch, args=(bench, most, batches, over))
        with writing(bench, waits):
            watch.start()
            seconds = bench.up(target)
            over.set()
            watch.join()
        ordered = sorted(waits)
        found[name] = {
            "seconds": round(seconds, 1),
            "longest write, s": round(ordered[-1], 2),
            "99 of 100 writes, s": round(ordered[int(len(ordered) * 0.99)], 3),
            "writes": len(ordered),
            **({"batches seen": batches[0], "largest batch seen": most[0]} if name == "backfill" else {}),
            "log, MB": round((_log_position(bench) - before) / 1e6, 1),
            "unsafe statements": _unsafe(log) - unsafe,
        }
    assert bench.query("SELECT count(*) FROM users WHERE n <> 2") == 0
    return found


def _unsafe(log: Path | None) -> int:
    """How many statements the server has found unsafe for replication."""
    return log.read_text("utf-8", errors="replace").lower().count("unsafe statement") if log is not None else 0


def _watch(bench: Bench, most: list[int], batches: list[int], over: Event) -> None:
    """Watch the place that the backfill records."""
    before = 0
    while not over.wait(0.01):
        now = bench.recorded()
        if now > before:
            batches[0] += 1
            most[0] = max(most[0], now - before)
            before = now


def _log_position(bench: Bench) -> int:
    """How many bytes the server has written to its log for replicas."""
    with bench.engine.connect() as connection:
        if bench.backend == "postgresql":
            return int(connection.execute(text("SELECT pg_current_wal_lsn() - '0/0'")).scalar_one())
        if bench.backend == "mariadb":
            return sum(int(row[1]) for row in connection.execute(text("SHOW BINARY LOGS")))
    return 0


@contextmanager
def mariadb_server(folder: Path) -> Iterator[tuple[URL, Path]]:
    """A server of MariaDB with statement-based replication."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, log = folder / "data", folder / "error.log"
    folder.chmod(0o755)
    user = ["--user=root"] if os.geteuid() == 0 else []
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
    subprocess.run([*install, *user], check=True, capture_output=True)
    options = ["--log-bin=binlog", "--binlog-format=STATEMENT", "--server-id=1", "--log-warnings=4"]
    options += [f"--log-error={log}", f"--port={port}", f"--socket={folder}/s", "--innodb-buffer-pool-size=512M"]
    options += ["--innodb-log-file-size=256M"]
    server = subprocess.Popen(["mariadbd", "--no-defaults", f"--datadir={data}", *options, *user])
    url = make_url(f"mariadb+pymysql://root@127.0.0.1:{port}/mysql")
    try:
        _wait_for(lambda: _connects(url))
        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text("CREATE DATABASE bench"))
        yield url.set(database="bench"), log
    finally:
        server.terminate()
        server.wait()


def _connects(url: URL) -> bool:
    with suppress(DBAPIError), create_engine(url, poolclass=NullPool).connect():
        return True
    return False


def _wait_for(is_so: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextmanager
def postgres_database(url: URL) -> Iterator[URL]:
    """A database of its own on a server of PostgreSQL."""
    engine = create_engine(url.set(drivername="postgresql+psycopg"), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    name = f"ampho_backfill_{os.getpid()}"

    def run(connection: Connection, statement: str) -> None:
        connection.execute(text(statement))

    with engine.connect() as connection:
        run(connection, f"CREATE DATABASE {name}")
        try:
            yield url.set(drivername="postgresql+psycopg", database=name)
        finally:
            run(connection, f"DROP DATABASE {name} WITH (FORCE)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("databases", nargs="*", default=["sqlite"])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    for database in options.databases:
        folder = Path(tempfile.mkdtemp(prefix="backfill_"))
        try:
            backend, _, address = database.partition("=")
            if backend == "sqlite":
                _report(backend, folder, make_url(f"sqlite:///{folder}/bench.db"), None, options)
            elif backend == "postgresql":
                with postgres_database(make_url(address)) as url:
                    _report(backend, folder, url, None, options)
            else:
                (folder / "server").mkdir()
                with mariadb_server(folder / "server") as (url, log):
                    _report(backend, folder, url, log, options)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _report(name: str, folder: Path, url: URL, log: Path | None, options: argparse.Namespace) -> None:
    bench = Bench(folder / "project", url, options.rows)
    found = {"compared": compared(bench, log), "killed": killed(bench, options.kills, random.Random(options.seed))}
    bench.watching.close()
    print(json.dumps({name: found}, indent=2), flush=True)


if __name__ == "__main__":
    main()
