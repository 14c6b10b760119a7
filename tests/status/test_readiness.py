"""What an app answers to those who ask whether it is ready."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import PROGRAMS, Project, hear_interruptions
from servers import Database

from ampho.errors import ConfigurationError

PATH = "/-/ready"
SECONDS = float(os.environ.get("AMPHO_LOAD_SECONDS", "1"))
HUNG = {
    "psycopg": "postgresql+psycopg://ann:s3cret@127.0.0.1:{}/shop?sslmode=disable",
    "pymysql": "mysql+pymysql://ann:s3cret@127.0.0.1:{}/shop",
    "asyncpg": "postgresql+asyncpg://ann:s3cret@127.0.0.1:{}/shop?ssl=disable",
    "asyncmy": "mysql+asyncmy://ann:s3cret@127.0.0.1:{}/shop",
}


@pytest.fixture
def core(project: Project) -> Project:
    project.package("core")
    project.revision("core", "core_1700000001")
    project.revision("core", "core_1700000002", "core_1700000001")
    return project


def get(each: Facade, path: str = PATH, *, method: str = "GET") -> tuple[int, Any]:
    """Ask in this process; the answer's code and content."""
    if not each.ampho.is_async:
        response = each.app.test_client().open(path, method=method)
        return response.status_code, response.get_json(silent=True)

    async def ask() -> tuple[int, Any]:
        response = await each.app.test_client().open(path, method=method)
        return response.status_code, await response.get_json(silent=True)

    return asyncio.run(ask())


def soon(each: Facade) -> tuple[int, Any]:
    """Ask once the last answer does not hold any more."""
    time.sleep(1.01)
    return get(each)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_answer_counts_and_names_only_what_may_be_named(framework: str, core: Project) -> None:
    with facade(core, framework, ["core"], URLS[framework], AMPHO_READINESS_PATH=PATH) as each:
        assert get(each) == (503, {"ready": False, "status": "behind", "counts": {"behind": 2}})
        each.app.config["AMPHO_READINESS_DETAILS"] = True
        named = get(each)[1]
        assert named["findings"] == [
            {
                "database": "default",
                "status": "behind",
                "package": "core",
                "revisions": ["core_1700000001", "core_1700000002"],
            }
        ]
        assert named["error"] is None
        each.call("upgrade")
        assert get(each)[0] == 503  # the last answer holds for a second
        assert soon(each)[0] == 200
        each.call("downgrade", "base")
        assert get(each)[0] == 200  # from memory
        assert get(each, method="HEAD")[0] == 200
        assert get(each, method="POST")[0] == 405


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize(
    ("statement", "code", "status"),
    [
        ("INSERT INTO alembic_version VALUES ('core_1700000003')", 200, "ahead"),
        ("INSERT INTO alembic_version VALUES ('gone_1700000003')", 200, "missing"),
        ("INSERT INTO alembic_version VALUES ('core_1700000001')", 200, "up to date"),
        ("UPDATE ampho_journal SET checksum = 'other'", 200, "edited"),
        ("INSERT INTO alembic_version VALUES ('head')", 503, "corrupt"),
        ("UPDATE ampho_journal SET outcome = 'partial' WHERE id = 2", 503, "interrupted"),
    ],
)
def test_a_database_that_has_more_is_no_obstacle(
    statement: str, code: int, status: str, core: Project, database: Database
) -> None:
    with facade(core, FRAMEWORKS[database.is_async], ["core"], database.url, AMPHO_READINESS_PATH=PATH) as each:
        each.call("upgrade")
        database.run(statement)
        answer = get(each)
        assert (answer[0], answer[1]["status"]) == (code, status)


@pytest.mark.parametrize("driver", HUNG)
def test_a_server_that_hangs_is_asked_once_for_all(
    driver: str, core: Project, caplog: pytest.LogCaptureFixture
) -> None:
    with hung_server() as (port, accepted):
        framework = FRAMEWORKS[driver.startswith("async")]
        url = HUNG[driver].format(port)
        with facade(core, framework, ["core"], url, AMPHO_READINESS_PATH=PATH, AMPHO_READINESS_DETAILS=True) as each:
            begun = time.monotonic()
            answers = at_once(each, 200)
            assert time.monotonic() - begun < 10
            assert {(code, body["status"]) for code, body in answers} == {(503, "waiting")}
            assert len(accepted) == 1
            assert "s3cret" not in f"{answers} {caplog.text}"


@pytest.mark.parametrize("driver", HUNG)
def test_a_server_that_hangs_is_asked_again(driver: str, core: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    framework = FRAMEWORKS[driver.startswith("async")]
    monkeypatch.setattr(f"ampho.{'aio' if framework == 'quart' else 'sync'}.readiness.GIVE_UP", 0.2)
    with hung_server() as (port, accepted):
        url = HUNG[driver].format(port)
        with facade(core, framework, ["core"], url, AMPHO_READINESS_PATH=PATH, AMPHO_READINESS_DETAILS=True) as each:
            assert "answer" in get(each)[1]["error"]
            assert soon(each)[1]["status"] == "unreachable"
            assert len(accepted) == 2


@pytest.mark.parametrize("driver", HUNG)
def test_a_server_that_refuses_is_asked_once_a_second(
    driver: str, core: Project, caplog: pytest.LogCaptureFixture
) -> None:
    with hung_server(refuses=True) as (port, accepted):
        framework = FRAMEWORKS[driver.startswith("async")]
        url = HUNG[driver].format(port)
        with facade(core, framework, ["core"], url, AMPHO_READINESS_PATH=PATH, AMPHO_READINESS_DETAILS=True) as each:
            answers = []
            begun = time.monotonic()
            while time.monotonic() < begun + SECONDS + 0.3:
                answers += at_once(each, 20)
            spent = time.monotonic() - begun
            assert {(code, body["status"]) for code, body in answers} == {(503, "unreachable")}
            assert 1 <= len(accepted) <= spent + 1
            assert "s3cret" not in f"{answers} {caplog.text}"
            logged = [record.getMessage() for record in caplog.records if record.msg == "Not ready: %s"]
            assert logged
            assert all(one != other for one, other in pairwise(logged))  # only when the reason changes


@pytest.mark.parametrize("driver", HUNG)
def test_waiting_for_a_server_that_hangs_ends_in_time(driver: str, core: Project) -> None:
    with hung_server() as (port, accepted):
        core.app(FRAMEWORKS[driver.startswith("async")], ["core"], HUNG[driver].format(port))
        begun = time.monotonic()
        result = core.run("ampho", "db-wait", "--timeout", "1.5", check=False)
        assert time.monotonic() - begun < 10
        assert result.exit_code == 3
        assert "did not become available within 1.5 s" in result.stderr
        assert "the server does not answer within" in result.stderr
        assert accepted
        assert "s3cret" not in result.output


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_app_all_of_whose_packages_live_in_groups_is_ready(framework: str, core: Project) -> None:
    with facade(core, framework, [], URLS[framework], AMPHO_READINESS_PATH=PATH) as each:
        each.ampho.databases("tenants", packages=["core"])(list)
        assert get(each) == (200, {"ready": True, "status": "up to date", "counts": {}})


def at_once(each: Facade, number: int) -> list[tuple[int, Any]]:
    """Ask many times at once: in threads, or in one loop."""
    if not each.ampho.is_async:
        with ThreadPoolExecutor(number) as threads:
            return [*threads.map(lambda _: get(each), range(number))]

    async def ask() -> tuple[int, Any]:
        response = await each.app.test_client().get(PATH)
        return response.status_code, await response.get_json()

    async def ask_all() -> list[tuple[int, Any]]:
        return [*await asyncio.gather(*[ask() for _ in range(number)])]

    return asyncio.run(ask_all())


@contextmanager
def hung_server(*, refuses: bool = False) -> Iterator[tuple[int, list[socket.socket]]]:
    """A server that accepts connections, and never says anything, or closes them."""
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    accepted.append(listening.accept()[0])
                    if refuses:
                        accepted[-1].close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1], accepted
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in accepted:
                each.close()


@pytest.mark.drivers("sqlite", "postgresql+psycopg", "postgresql+asyncpg")
def test_real_servers_become_ready_under_load(core: Project, database: Database) -> None:
    core.app(FRAMEWORKS[database.is_async], ["core"], database.url, extra_config={"AMPHO_READINESS_PATH": PATH})
    with server(core, FRAMEWORKS[database.is_async]) as port, ThreadPoolExecutor(16) as threads:
        assert {*threads.map(lambda _: asked(port), range(50))} == {(503, "behind")}
        core.run("ampho", "db-up")
        end = time.monotonic() + 10
        while asked(port)[0] != 200:
            assert time.monotonic() < end
            time.sleep(0.2)
        core.run("ampho", "db-down", "base", "--yes")
        end = time.monotonic() + SECONDS
        answers = []
        while time.monotonic() < end:
            answers += threads.map(lambda _: asked(port), range(64))
        assert {*answers} == {(200, "up to date")}


def asked(port: int) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", PATH)
        response = connection.getresponse()
        assert response.headers["Cache-Control"] == "no-store"
        return response.status, json.loads(response.read())["status"]
    finally:
        connection.close()


@contextmanager
def server(project: Project, framework: str) -> Iterator[int]:
    """Serve the app of a project in a process of its own, with the server of the framework."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = {
        "flask": ("flask", "run", "--port", str(port)),
        "quart": ("hypercorn", "--bind", f"127.0.0.1:{port}", "app:app"),
    }[framework]
    # What they log of each request would fill a pipe.
    process = subprocess.Popen(
        [PROGRAMS / command[0], *command[1:]],
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=hear_interruptions,  # noqa: PLW1509
    )
    try:
        end = time.monotonic() + 30
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert time.monotonic() < end
            time.sleep(0.1)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_it_may_be_registered_like_any_blueprint(framework: str, core: Project) -> None:
    with facade(core, framework, ["core"], URLS[framework]) as each:
        each.app.register_blueprint(each.ampho.readiness("/health"), url_prefix="/internal")
        assert get(each, "/internal/health")[0] == 503
        assert get(each, PATH)[0] == 404


@pytest.mark.parametrize("path", ["ready", "/a b", "/<name>", 5])
def test_a_path_that_is_none_is_refused(path: object, core: Project) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"^AMPHO_READINESS_PATH is .+ Set it to a path that begins with /"),
        facade(core, "flask", ["core"], URLS["flask"], AMPHO_READINESS_PATH=path),
    ):
        pass


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_app_without_it_imports_nothing_of_it(framework: str, core: Project) -> None:
    core.app(framework, ["core"], URLS[framework])
    code = "import app, sys; print([name for name in sys.modules if 'readiness' in name])"
    done = subprocess.run([sys.executable, "-c", code], cwd=core.folder, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_app_that_cannot_say_says_so(framework: str, core: Project, caplog: pytest.LogCaptureFixture) -> None:
    with facade(core, framework, ["core"], URLS[framework], AMPHO_READINESS_PATH=PATH) as each:
        core.revision("core", "core_1700000002", "nowhere", message="again")
        assert get(each) == (503, {"ready": False, "status": "error", "counts": {}})
        assert "Not ready: " in caplog.text

        def fail(*arguments: object) -> None:
            raise RuntimeError("a fault of the app")

        each.app.config["AMPHO_READINESS_DETAILS"] = True
        each.ampho.call = fail
        assert soon(each)[1]["error"] == "RuntimeError"
        assert "a fault of the app" in caplog.text
