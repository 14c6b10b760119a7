"""One run at a time in a process: runs of two databases never mix, and none waits for itself."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
from flask import Flask
from project import Project
from quart import Quart
from servers import JOURNAL
from sqlalchemy.util import greenlet_spawn

from ampho.aio import AsyncAmpho
from ampho.aio.framework import QuartFramework
from ampho.database.exclusive import exclusive
from ampho.errors import AmphoError, NestedRunError, RevisionFailedError
from ampho.sync import Ampho

ROUNDS = 10
OUTSIDE = contextvars.copy_context()


@asynccontextmanager
async def exclusive_async() -> AsyncIterator[None]:
    """Wait for the other runs, and keep them waiting, as a command does in Quart."""
    framework = QuartFramework(AsyncAmpho(), Quart("app_of_nobody"))
    stack = ExitStack()
    await greenlet_spawn(stack.enter_context, framework.exclusive())
    with stack:
        yield


def history(project: Project, package: str) -> None:
    """A package whose second revision says into whose database it wrote."""
    project.package(package)
    project.revision(
        package,
        f"{package}_1",
        upgrade=f"op.create_table('{package}_one', sa.Column('id', sa.Integer, primary_key=True))",
        downgrade=f"op.drop_table('{package}_one')",
    )
    project.revision(
        package,
        f"{package}_2",
        f"{package}_1",
        upgrade=f"""
            op.create_table('{package}_two', sa.Column('id', sa.Integer, primary_key=True))
            op.execute("INSERT INTO {package}_one (id) VALUES (7)")
        """,
        downgrade=f"op.drop_table('{package}_two')\nop.execute('DELETE FROM {package}_one')",
    )


def app_of(kind: type[Any], project: Project, package: str) -> Any:
    driver = "+aiosqlite" if kind is Quart else ""
    app = kind("app_of_nobody")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite{driver}:///{project.folder / package}.sqlite"
    app.config["AMPHO_MIGRATION_PACKAGES"] = [package]
    return app


def tables(project: Project, package: str) -> set[str]:
    connection = sqlite3.connect(project.folder / f"{package}.sqlite")
    try:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} - {JOURNAL}
    finally:
        connection.close()


@pytest.fixture
def two(project: Project) -> Any:
    """A project with the packages ``left`` and ``right``, importable."""
    for package in ("left", "right"):
        history(project, package)
    with project.importing():
        yield project


def check_not_mixed(project: Project, *, up: bool) -> None:
    for package in ("left", "right"):
        own = {f"{package}_one", f"{package}_two"} if up else set()
        assert tables(project, package) == own | {"alembic_version"}


def in_threads(*works: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as exc:  # noqa: BLE001  # shown by the test's own thread
            failures.append(exc)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.usefixtures("unmeasured")
def test_two_threads_that_migrate_two_databases_never_mix_them(two: Project) -> None:
    apps = []
    for package in ("left", "right"):
        app = app_of(Flask, two, package)
        apps.append((app, Ampho(app)))
    start = threading.Barrier(2)

    def migrate(app: Flask, ampho: Ampho, command: str) -> None:
        start.wait(30)
        with app.app_context():
            run = ampho.upgrade() if command == "up" else ampho.downgrade("base")
        assert len(run.steps) == 2

    for _ in range(ROUNDS):
        for command in ("up", "down"):
            in_threads(*[partial(migrate, app, ampho, command) for app, ampho in apps])
            check_not_mixed(two, up=command == "up")


@pytest.mark.usefixtures("unmeasured")
def test_two_tasks_that_migrate_two_databases_never_mix_them(two: Project) -> None:
    apps = [app_of(Quart, two, package) for package in ("left", "right")]
    amphos = [AsyncAmpho(app) for app in apps]

    async def migrate(app: Quart, ampho: AsyncAmpho, command: str) -> None:
        async with app.app_context():
            run = await (ampho.upgrade() if command == "up" else ampho.downgrade("base"))
        assert len(run.steps) == 2

    async def rounds() -> None:
        for _ in range(ROUNDS):
            for command in ("up", "down"):
                await asyncio.gather(*[migrate(app, ampho, command) for app, ampho in zip(apps, amphos, strict=True)])
                check_not_mixed(two, up=command == "up")
        for app, ampho in zip(apps, amphos, strict=True):
            await ampho.dispose(app)

    asyncio.run(rounds())


@pytest.mark.usefixtures("unmeasured")
def test_a_thread_and_a_task_never_mix_their_databases(two: Project) -> None:
    flask_app, quart_app = app_of(Flask, two, "left"), app_of(Quart, two, "right")
    ampho, async_ampho = Ampho(flask_app), AsyncAmpho(quart_app)

    def in_flask() -> None:
        for _ in range(ROUNDS):
            with flask_app.app_context():
                assert len(ampho.upgrade().steps) == 2
                assert len(ampho.downgrade("base").steps) == 2

    async def in_quart() -> None:
        async with quart_app.app_context():
            for _ in range(ROUNDS):
                assert len((await async_ampho.upgrade()).steps) == 2
                assert len((await async_ampho.downgrade("base")).steps) == 2
        await async_ampho.dispose(quart_app)

    in_threads(in_flask, lambda: asyncio.run(in_quart()))
    check_not_mixed(two, up=False)


NESTED = {
    "flask": """
        from flask import current_app
        current_app.extensions["ampho"].{command}()
    """,
    "quart": """
        from quart import current_app
        from sqlalchemy.util import await_only
        await_only(current_app.extensions["ampho"].{command}())
    """,
}


@pytest.mark.parametrize("command", ["upgrade", "downgrade", "current", "plan", "upgrade_sql"])
@pytest.mark.parametrize("kind", [Flask, Quart])
def test_revision_that_starts_a_migration_is_named_and_nothing_hangs(
    kind: type[Any], command: str, project: Project
) -> None:
    history(project, "app")
    text = NESTED[kind.__name__.lower()].format(command=command)
    path = project.revision("app", "app_3", "app_2", upgrade=text)
    app = app_of(kind, project, "app")
    with project.importing():
        with pytest.raises(RevisionFailedError, match="A migration was started inside another migration") as caught:
            upgrade(app)
        assert (caught.value.revision, caught.value.path) == ("app_3", path)
        assert caught.value.applied == ("app_1", "app_2")
        assert isinstance(caught.value.__cause__, NestedRunError)
        assert tables(project, "app") == {"app_one", "app_two", "alembic_version"}
        path.unlink()
        assert upgrade(app) == 0, "and the next run is not kept waiting"


def upgrade(app: Flask | Quart) -> int:
    """Upgrade with a new extension; return the number of steps."""
    app.extensions.clear()
    if isinstance(app, Flask):
        ampho = Ampho(app)
        with app.app_context():
            return len(ampho.upgrade().steps)

    async def run() -> int:
        async_ampho = AsyncAmpho(app)
        async with app.app_context():
            try:
                return len((await async_ampho.upgrade()).steps)
            finally:
                await async_ampho.dispose(app)

    return asyncio.run(run())


def test_waiting_task_does_not_block_the_loop() -> None:
    ticks: list[float] = []
    free, held = threading.Event(), threading.Event()

    def hold() -> None:
        with exclusive():
            held.set()
            free.wait(30)

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def wait_for_the_lock() -> None:
        async with exclusive_async():
            assert free.is_set()

    async def main() -> None:
        ticker, waiter = asyncio.create_task(tick()), asyncio.create_task(wait_for_the_lock())
        await asyncio.sleep(0.5)
        assert not waiter.done()
        free.set()
        await asyncio.wait_for(waiter, 30)
        ticker.cancel()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    asyncio.run(main())
    holder.join(30)
    assert len(ticks) > 10


def test_waiting_task_that_is_cancelled_leaves_the_lock_to_others() -> None:
    async def main() -> None:
        async def wait_for_the_lock() -> None:
            async with exclusive_async():
                pytest.fail("the lock was held")

        async with exclusive_async():
            # In a context of its own: it would otherwise count as inside of the run.
            waiter = asyncio.get_running_loop().create_task(wait_for_the_lock(), context=OUTSIDE)
            await asyncio.sleep(0.05)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
        async with exclusive_async():
            pass

    asyncio.run(main())
    with exclusive():
        pass


def test_a_command_that_waits_for_another_run_can_be_cancelled(project: Project) -> None:
    history(project, "app")
    app = app_of(Quart, project, "app")

    async def main() -> None:
        ampho = AsyncAmpho(app)
        async with exclusive_async():
            waiter = asyncio.get_running_loop().create_task(ampho.upgrade(), context=OUTSIDE)
            await asyncio.sleep(0.3)
            assert not waiter.done()
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
        assert not tables(project, "app")
        await ampho.upgrade()
        await ampho.dispose(app)

    with project.importing():
        asyncio.run(main())
    assert "app_two" in tables(project, "app")


def test_failed_run_leaves_the_lock_to_others() -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with exclusive_async():
                _ = 1 / 0
        async with exclusive_async():
            pass

    with pytest.raises(ZeroDivisionError), exclusive():
        _ = 1 / 0
    asyncio.run(main())
    with exclusive():
        pass


def test_run_inside_a_run_is_refused_in_all_four_ways() -> None:
    async def inside() -> None:
        async with exclusive_async():
            pass

    async def main() -> None:
        async with exclusive_async():
            with pytest.raises(NestedRunError):
                await inside()
            with pytest.raises(NestedRunError), exclusive():
                pass

    with exclusive():
        with pytest.raises(NestedRunError), exclusive():
            pass
        with pytest.raises(NestedRunError) as caught:
            asyncio.run(inside())
    assert isinstance(caught.value, AmphoError)
    asyncio.run(main())


def test_task_that_a_run_started_may_run_after_it() -> None:
    async def main() -> str:
        started = asyncio.Event()

        async def later() -> str:
            await started.wait()
            async with exclusive_async():
                return "ran"

        async with exclusive_async():
            task = asyncio.create_task(later())
        started.set()
        return await task

    assert asyncio.run(main()) == "ran"


@pytest.mark.usefixtures("unmeasured")
def test_reading_many_revisions_does_not_stop_the_loop(project: Project) -> None:
    project.package("app")
    for number in range(4000):
        project.revision("app", f"app_{number}", f"app_{number - 1}" if number else None)
    app = app_of(Quart, project, "app")
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def main() -> float:
        ampho = AsyncAmpho(app)
        ticker = asyncio.create_task(tick())
        async with app.app_context():
            begun = time.monotonic()
            assert len(await ampho.show()) == 4000
            took = time.monotonic() - begun
        ticker.cancel()
        return took

    with project.importing():
        took = asyncio.run(main())
    assert len(ticks) > max(3, took / 0.1)


BLOCKS = """
import asyncio, sys, threading, time
from app import app

blocks, imported = [], set()

class Watch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if threading.current_thread() is threading.main_thread():
            imported.add(name.partition(".")[0])

async def tick():
    before = time.thread_time()  # of the loop's thread alone, so that nobody else's work counts
    while True:
        await asyncio.sleep(0.001)
        now = time.thread_time()
        blocks.append(now - before)
        before = now

async def main():
    ticking = asyncio.ensure_future(tick())
    sys.meta_path.insert(0, Watch)
    async with app.app_context():
        ampho = app.extensions["ampho"]
        await ampho.upgrade()
        await ampho.status()
        await ampho.dispose(app)
    ticking.cancel()

asyncio.run(main())
print(max(blocks), *sorted(imported & {"alembic", "anyio", "mako"}))
"""


@pytest.mark.usefixtures("unmeasured_processes")
def test_what_takes_long_to_import_does_not_block_the_loop(project: Project) -> None:
    project.package("blog")
    project.revision("blog", "blog_1")
    project.app("quart", ["blog"], "sqlite+aiosqlite:///app.db")
    project.write("blocks.py", BLOCKS)

    longest, *imported = project.run("python", "blocks.py").stdout.split()

    assert imported == []
    assert float(longest) < 0.3  # seconds
