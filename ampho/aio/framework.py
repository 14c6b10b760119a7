"""Run commands on Quart, each in its own task and greenlet, so that sync code does not block the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

import anyio
from sqlalchemy import event
from sqlalchemy.util import await_only, greenlet_spawn

from ampho._text import with_notes_of
from ampho.database.exclusive import exclusive
from ampho.running import Framework
from ampho.settings import DEFAULT_DATABASE

if TYPE_CHECKING:
    from flask.sansio.app import App
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ampho.extension import AsyncExtension
    from ampho.migrate.project import Project

T = TypeVar("T")

_CLOSING_SECONDS = 0.05


class QuartFramework(Framework):
    """Runs commands for a Quart app. Its methods are called in a greenlet."""

    def __init__(self, extension: AsyncExtension, app: App) -> None:
        self._extension = extension
        self._app = app

    def project(self) -> Project:
        """Return the app's migrations, after reading the revision files in a thread."""
        project = self._extension.project(self._app)
        await_only(_read_ahead(project))
        return project

    def exclusive(self) -> AbstractContextManager[None]:
        """Wait until no other run is in progress in this process, without blocking the loop."""
        return exclusive(self.sleep)

    @contextmanager
    def connect(self, project: Project, *, renews: bool = False) -> Iterator[Connection]:
        """Open the connection for migrations, and close it at the end, even if the command is cancelled.

        :param renews: whether the schema may change. Connections of asyncpg remember the types and statements of the
            old schema, so its pool is replaced after a commit. Connections in use keep working, and are closed when
            they are returned to the pool.
        """
        engine = self._engine(project)
        commits: list[object] = []
        try:
            with self.ended(self._opened(engine, project)) as connection:
                event.listen(connection, "commit", commits.append)
                yield connection
        finally:
            if commits and renews and engine.dialect.driver == "asyncpg":
                await_only(finish(_renew_pool(engine)))

    def in_time(self, function: Callable[[], object], seconds: float) -> None:
        """Run a function in a task, which is cancelled if it takes too long."""
        await_only(asyncio.wait_for(greenlet_spawn(function), seconds))

    @contextmanager
    def ended(self, opened: AbstractContextManager[T]) -> Iterator[T]:
        """Enter a context manager, and leave it in a task of its own, which is not cancelled with the command."""
        stack = ExitStack()
        try:
            yield stack.enter_context(opened)
        finally:
            await_only(finish(greenlet_spawn(stack.close)))

    def create(self, project: Project) -> tuple[str, ...]:
        """Create a database, or the schema that it is, if it does not exist, and return what was created."""
        return self._extension.create_missing(self._app, self._engine(project).sync_engine, project)

    def migrating_engine(self, project: Project, *, with_schema: bool = True) -> tuple[Engine, str]:
        """Return the sync face of an engine without a pool for a database, and a name for the origin of its URL."""
        engine = self._engine(project).sync_engine
        return self._extension.migrating_engine(self._app, engine, project, with_schema=with_schema)

    def _engine(self, project: Project) -> AsyncEngine:
        name = project.database if project.member is None else DEFAULT_DATABASE
        return self._extension.engine(self._app, name)

    def at_once(self, functions: Iterator[Callable[[], T]], limit: int) -> Generator[T]:
        """Run functions in tasks, each in a greenlet of its own, and yield their results as they come."""
        running: set[asyncio.Future[T]] = set()
        try:
            for function in functions:
                running.add(asyncio.ensure_future(greenlet_spawn(function)))
                if len(running) == limit:
                    done, running = await_only(asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED))
                    yield from (each.result() for each in done)
            while running:
                done, running = await_only(asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED))
                yield from (each.result() for each in done)
        finally:
            for each in running:
                each.cancel()
            if running:
                await_only(finish(asyncio.wait(running)))

    @contextmanager
    def _opened(self, engine: AsyncEngine, project: Project) -> Iterator[Connection]:
        with ExitStack() as stack:
            try:
                opened = self._extension.migrating_connection(self._app, engine.sync_engine, project)
                connection = stack.enter_context(opened)
            except Exception:  # raised again below, whatever its type
                if engine.dialect.driver == "aiosqlite":
                    # aiosqlite's thread still passes a result to the loop, and prints a traceback if the loop closes.
                    self.sleep(_CLOSING_SECONDS)
                raise
            yield connection

    def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds, without blocking the loop."""
        await_only(anyio.sleep(seconds))

    def in_thread(self, function: Callable[[], T]) -> T:
        """Call a function in a thread. A thread cannot be cancelled, so a cancelled command waits for it."""
        return await_only(finish(anyio.to_thread.run_sync(function)))


async def finish(work: Awaitable[T], *, cancels: bool = False) -> T:
    """Await work in a new task, and return its result. If the caller is cancelled, wait for the end of the task.

    :param cancels: whether to cancel the task in that case. The task is only cancelled once, because AnyIO cancels the
        caller again at each ``await``, which would interrupt the cleanup of SQLAlchemy and of the driver.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as cancelled:
        if cancels:
            task.cancel()
        with anyio.CancelScope(shield=True):
            while not task.done():
                with suppress(asyncio.CancelledError):  # the task is already cancelled, or must not be cancelled
                    await asyncio.wait([task])
        try:
            task.exception()  # otherwise, asyncio logs that the exception was never retrieved
        except asyncio.CancelledError as ended:
            # Its frames have to live as long as the command: the generators in them cannot be closed here.
            raise with_notes_of(ended, cancelled) from ended
        raise


async def _read_ahead(project: Project) -> None:
    """Read the revision files in a thread. Errors are ignored here, and raised when the command uses the files.

    The thread also imports AnyIO's backend, because this import is slow.
    """

    def read() -> None:
        with suppress(ImportError):
            import_module("anyio._backends._asyncio")
        with suppress(Exception):
            project.graph  # noqa: B018 (it is cached)

    await asyncio.to_thread(read)


async def _renew_pool(engine: AsyncEngine) -> None:
    old = engine.sync_engine.pool
    await engine.dispose()
    # The old pool would keep returned connections open. The new pool must not copy this listener, so add it last.
    event.listen(old, "checkin", lambda connection, entry: entry.close())
