"""AsyncSQLAlchemy in processes of its own: test suites with an app for each test, workers, and reloading."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import forks
import pytest
from async_server import request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers import Database

APP = """
import os

from quart import Quart
from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, mapped_column

from ampho import AsyncSQLAlchemy

VERSION = 1
db = AsyncSQLAlchemy()


class Note(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


def create_app(url=None):
    app = Quart(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = url or os.environ["URL"]
    db.init_app(app)

    @app.post("/notes/<int:number>")
    async def add(number):
        db.session.add(Note(number=number))
        await db.session.commit()
        return f"{VERSION} {os.getpid()}"

    @app.get("/notes")
    async def count():
        return str(await db.session.scalar(select(func.count(Note.id))))

    return app
"""

TESTS = """
from shop import create_app, db


@fixture
async def app(tmp_path):
    app = create_app(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    async with app.test_app() as serving:
        async with app.app_context():
            await db.create_all()
        yield serving


@pytest.mark.parametrize("number", range(3))
async def test_each_app_has_a_database_of_its_own(app, number):
    client = app.test_client()
    for _ in range(number):
        await client.post("/notes/1")
    response = await client.get("/notes")
    assert await response.get_data(as_text=True) == str(number)


async def test_two_apps_at_once(tmp_path):
    apps = [create_app(f"sqlite+aiosqlite:///{tmp_path}/{name}.db") for name in "ab"]
    for app in apps:
        async with app.app_context():
            await db.create_all()
    async with apps[0].test_app() as one, apps[1].test_app() as other:
        await one.test_client().post("/notes/1")
        for serving, expected in ((one, b"1"), (other, b"0")):
            response = await serving.test_client().get("/notes")
            assert await response.get_data(as_text=False) == expected
"""

PLUGINS = {
    "asyncio": """
import pytest
from pytest_asyncio import fixture

pytestmark = pytest.mark.asyncio
""",
    "anyio": """
import pytest
from pytest import fixture

pytestmark = pytest.mark.anyio


@fixture
def anyio_backend():
    return "asyncio"
""",
}


def test_suites_with_an_app_for_each_test_pass_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    for plugin, head in PLUGINS.items():
        (tmp_path / f"test_{plugin}.py").write_text(head + TESTS)
    # The process was forked from one that has imported anyio.
    options = "-q -W error -W ignore::pytest.PytestAssertRewriteWarning -p no:cacheprovider -p no:xdist"
    run = f"import sys, pytest; sys.exit(pytest.main({options.split()}))"
    code, output, _ = forks.run("python", "-c", run, cwd=tmp_path, env=os.environ, merged=True)
    assert code == 0, output
    assert "8 passed" in output, output


@contextmanager
def hypercorn(folder: Path, database: Database, *options: str) -> Iterator[tuple[int, Path]]:
    """Run hypercorn, and yield its port, and the file with its output."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    (folder / "shop.py").write_text(APP)
    url = database.url.render_as_string(hide_password=False)
    output = folder / "output.txt"
    with output.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "hypercorn", "shop:create_app()", "--bind", f"127.0.0.1:{port}", *options],
            cwd=folder,
            env=os.environ | {"URL": url, "PYTHONWARNINGS": "default", "PYTHONDONTWRITEBYTECODE": ""},
            stdout=file,
            stderr=file,
        )
    try:
        yield port, output
        server.send_signal(signal.SIGTERM)
        server.wait(20)
    finally:
        server.kill()
        server.wait()
    said = output.read_text()
    assert not [word for word in ("Traceback", "Warning", "GET", "never") if word in said], said


def send(port: int, path: str, method: str = "POST") -> list[bytes]:
    """Return the words of a response, from the moment at which the server answers."""
    deadline = time.monotonic() + 30
    while True:
        try:
            response = asyncio.run(request(port, path, method=method))
        except OSError:
            response = b""
        if response.startswith(b"HTTP/1.1 200") or time.monotonic() > deadline:
            return response.rpartition(b"\r\n\r\n")[2].split()
        time.sleep(0.05)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("postgresql+asyncpg")
def test_two_workers_write_to_one_database(async_database: Database, tmp_path: Path) -> None:
    async_database.run("CREATE TABLE note (id serial PRIMARY KEY, number integer NOT NULL)")
    with hypercorn(tmp_path, async_database, "--workers", "2") as (port, _):
        pids = {send(port, f"/notes/{number}")[1] for number in range(2)}
        deadline, written = time.monotonic() + 20, 2
        while len(pids) < 2 and time.monotonic() < deadline:
            pids.add(send(port, f"/notes/{written}")[1])
            written += 1
        assert len(pids) == 2
        assert send(port, "/notes", "GET") == [str(written).encode()]


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+aiosqlite")
def test_a_server_that_reloads_the_code_keeps_working(async_database: Database, tmp_path: Path) -> None:
    async_database.run("CREATE TABLE note (id INTEGER PRIMARY KEY, number INTEGER NOT NULL)")
    with hypercorn(tmp_path, async_database, "--reload") as (port, _):
        assert send(port, "/notes/1")[0] == b"1"
        (tmp_path / "shop.py").write_text(APP.replace("VERSION = 1", "VERSION = 2"))
        deadline, written = time.monotonic() + 20, 2
        while send(port, f"/notes/{written}")[0] != b"2" and time.monotonic() < deadline:
            written += 1
        assert send(port, "/notes", "GET") == [str(written).encode()]
