"""When the page looks at the databases, and what a request costs if nothing has changed."""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from pending.asking import BROWSER, Reply, ask, ask_async, press, watch_of
from project import Project
from sqlalchemy import event
from sqlalchemy.pool import Pool

from ampho.pending.report import Report
from ampho.pending.watch import Watch


@pytest.fixture
def core(project: Project) -> Project:
    project.package("core")
    project.revision("core", "core_1700000001")
    return project


@pytest.fixture(params=FRAMEWORKS)
def each(request: pytest.FixtureRequest, core: Project) -> Iterator[Facade]:
    with facade(core, request.param, ["core"], URLS[request.param], DEBUG=True) as made:
        if made.ampho.is_async:

            async def home() -> str:
                return "home"

            async def fails() -> str:
                raise RuntimeError("no such table")

            made.app.add_url_rule("/", "home", home)
            made.app.add_url_rule("/fails", "fails", fails)
        else:
            made.app.add_url_rule("/", "home", lambda: "home")
            made.app.add_url_rule("/fails", "fails", lambda: {}["no such table"])
        yield made


@contextmanager
def connections() -> Iterator[list[object]]:
    """The connections that are opened meanwhile."""
    opened: list[object] = []

    def count(connection: object, record: object) -> None:
        opened.append(connection)

    event.listen(Pool, "connect", count)
    try:
        yield opened
    finally:
        event.remove(Pool, "connect", count)


def looks(each: Facade, work: Callable[[], object]) -> int:
    """Return how often the databases are looked at during ``work``."""
    watch = watch_of(each)
    watch.forget()
    with connections() as opened:
        ask(each)
    one = len(opened)
    assert one
    watch.forget()
    with connections() as opened:
        work()
    number, rest = divmod(len(opened), one)
    assert not rest
    return number


def at_once(each: Facade, number: int) -> list[Reply]:
    if not each.ampho.is_async:
        with ThreadPoolExecutor(number) as threads:
            return [*threads.map(lambda _: ask(each), range(number))]

    async def ask_all() -> list[Reply]:
        headers = {"Host": "localhost", "Accept": BROWSER}
        return [*await asyncio.gather(*(ask_async(each, headers=headers) for _ in range(number)))]

    return asyncio.run(ask_all())


def test_many_requests_at_once_wait_for_one_look(each: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ampho.pending.watch.FRESH", 60.0)  # two hundred pages take longer than a second to write
    ask(each)
    replies: list[Reply] = []
    assert looks(each, lambda: replies.extend(at_once(each, 200))) == 1
    assert {reply.code for reply in replies} == {503}
    assert len({reply.token for reply in replies}) == 1


def test_the_page_disappears_when_another_process_has_applied_everything(each: Facade, core: Project) -> None:
    assert ask(each).code == 503
    core.app("flask", ["core"], URLS["flask"])
    core.run("ampho", "db-up")
    time.sleep(1.05)
    assert ask(each).text == "home"


def test_a_new_file_is_noticed_within_half_a_second(each: Facade, core: Project) -> None:
    press(each, "Apply 1 revision")
    assert ask(each).text == "home"
    core.revision("core", "core_1700000002", "core_1700000001")
    time.sleep(0.55)
    assert "1 revision is pending" in ask(each).words


def test_a_failure_of_the_app_is_a_reason_to_look(each: Facade) -> None:
    press(each, "Apply 1 revision")
    assert ask(each).text == "home"
    each.app.config["PROPAGATE_EXCEPTIONS"] = False
    with sqlite3.connect("instance/app.db") as database:
        database.execute("DELETE FROM alembic_version")
        database.execute("DELETE FROM ampho_journal")
    database.close()
    assert ask(each).text == "home"  # nothing tells it yet
    time.sleep(1.05)
    assert ask(each, "/fails").code == 500
    assert ask(each, "/fails").code == 503


def test_after_a_moment_the_databases_are_asked_again(each: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ampho.pending.watch.MOMENT", 0.6)
    press(each, "Apply 1 revision")
    assert ask(each).text == "home"
    each.call("downgrade", "base")
    assert ask(each).text == "home"
    time.sleep(0.65)
    assert ask(each).code == 503


def test_a_request_costs_a_few_calls_if_nothing_has_changed(each: Facade) -> None:
    """Less than 0.1 ms is wanted; some ten calls take one or two hundredths of that."""
    press(each, "Apply 1 revision")
    ask(each)
    hook = each.app.before_request_funcs[None][0]

    def run() -> Any:
        profile = cProfile.Profile()
        if not each.ampho.is_async:
            with each.app.test_request_context("/"):
                profile.runcall(hook)
        else:

            async def ask_hook() -> None:
                async with each.app.test_request_context("/"):
                    profile.enable()
                    await hook()
                    profile.disable()

            asyncio.run(ask_hook())
        return pstats.Stats(profile).total_calls  # type: ignore[attr-defined]  # not in typeshed

    assert run() < 30


def test_while_a_run_is_in_progress_the_app_does_not_answer(each: Facade) -> None:
    ask(each)
    watch = watch_of(each)
    page = ask(each)
    watch.is_running = True
    waiting = ask(each)
    assert waiting.code == 503
    assert "Revisions are being applied" in waiting.words
    assert 'http-equiv="refresh"' in waiting.text
    assert ask(each, accept="application/json").json["status"] == "running"
    refused = press(each, "Apply 1 revision", page)
    assert (refused.code, "out of date" in refused.words) == (403, True)
    watch.is_running = False
    assert press(each, "Apply 1 revision", page).code == 303


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_server_that_says_nothing_holds_up_one_request_a_minute(framework: str, project: Project) -> None:
    for package in ("core", "stats"):
        project.package(package)
        project.revision(package, f"{package}_1700000001")
    with socket.create_server(("127.0.0.1", 0)) as listening:  # which never accepts
        port = listening.getsockname()[1]
        driver = {
            "flask": "psycopg://a@127.0.0.1:{}/b?sslmode=disable",
            "quart": "asyncpg://a@127.0.0.1:{}/b?ssl=disable",
        }
        config = {
            "SQLALCHEMY_BINDS": {"reports": f"postgresql+{driver[framework].format(port)}"},
            "AMPHO_DATABASES": {"default": ["core"], "reports": ["stats"]},
        }
        with facade(project, framework, ["core", "stats"], URLS[framework], DEBUG=True, **config) as made:
            made.call("upgrade", database="default")
            begun = time.monotonic()
            assert ask(made).code == 404  # the app has no view
            assert 0.9 < time.monotonic() - begun < 5
            watch_of(made)._time -= 30  # as if half a minute had passed
            begun = time.monotonic()
            assert ask(made).code == 404
            assert time.monotonic() - begun < 0.5


def test_a_look_that_began_before_a_run_is_in_vain() -> None:
    watch = Watch()
    generation = watch.generation
    watch.forget()
    watch.record(Report(problems=["as it was before"]), generation)
    assert watch.report.is_clean
    watch.record(Report(problems=["as it is"]), watch.generation)
    assert not watch.report.is_clean
