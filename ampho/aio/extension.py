"""``AsyncAmpho``, the extension for Quart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast
from weakref import WeakKeyDictionary

import anyio
from quart import Quart, current_app, has_app_context
from sqlalchemy import MetaData, event
from sqlalchemy.util import greenlet_spawn

from ampho.aio.adapters import Database, adapt
from ampho.aio.sqlalchemy.extension import AsyncSQLAlchemy
from ampho.database.exclusive import exclusive_async
from ampho.errors import AmphoError, ConfigurationError
from ampho.extension import DEFAULTS, Extension, clear_errors, tell_unread, warned, without_secrets

if TYPE_CHECKING:
    from flask.sansio.app import App
    from sqlalchemy import URL
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

    from ampho.database.journal import Entry
    from ampho.history.revision import Revision
    from ampho.migrate.observers import Observer
    from ampho.migrate.plan import Direction, Plan, Run
    from ampho.migrate.stamp import Stamped
    from ampho.project import Project
    from ampho.revise.autogenerate import Drift
    from ampho.revise.lint import LintReport
    from ampho.revise.writer import Initialized
    from ampho.status.deployment import Deployment
    from ampho.status.graph_view import Picture
    from ampho.status.state import CurrentState, RevisionRecord
    from ampho.status.summary import DatabaseStatus

T = TypeVar("T")

_LAST_WORD_SECONDS = 0.05


class AsyncAmpho(Extension):
    """Per-package migrations for a Quart app.

    :param app: the app; leave it out in a factory, and call :meth:`init_app` there.
    :param db: the app's ``AsyncSQLAlchemy``, an ``AsyncEngine``, or advanced-alchemy's ``SQLAlchemyAsyncConfig``;
        without one, the ``AsyncSQLAlchemy`` registered on the app is used, or one is made.
    :param metadata: the tables of the models, one ``MetaData`` or several; needed where ``db`` is an engine.
    :param packages: names of packages with migrations, beside those of ``AMPHO_MIGRATION_PACKAGES``.
    :param options: further arguments for Alembic's ``context.configure``, such as ``include_object``.

    The methods are awaited in an app context, or outside of one if there is one app only.
    """

    is_async: ClassVar[bool] = True
    _template: ClassVar[str] = "aio"
    _arguments: ClassVar[tuple[str, ...]] = ("packages", "metadata")

    def __init__(
        self,
        app: Quart | None = None,
        db: object | None = None,
        *,
        metadata: MetaData | Sequence[MetaData] | None = None,
        packages: Iterable[str] | None = None,
        **options: object,
    ) -> None:
        super().__init__(packages, options)
        self._db = db
        _check_metadata(metadata)
        self._given_metadata = metadata
        self._given_options = options
        self._databases: WeakKeyDictionary[App, Database] = WeakKeyDictionary()
        self._dbs: WeakKeyDictionary[App, Any] = WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart, db: object | None = None) -> None:
        """Register this extension, and what it needs, on an app.

        :raises ConfigurationError: if the app or its database is not for this extension, or the app has another.
        """
        if not isinstance(app, Quart):
            raise ConfigurationError(
                f"AsyncAmpho is for Quart, and this is a {type(app).__name__} app. Use ampho.Ampho for Flask."
            )
        self._check_only_one(app)
        db = self._register_db(app, db or self._db)
        self._databases[app] = adapt(app, db)
        self._dbs[app] = db
        self._apps.add(app)
        app.extensions["ampho"] = self
        self._add_commands(app)

    def _register_db(self, app: Quart, db: object | None) -> object:
        registered = app.extensions.get("sqlalchemy")
        if db is None:
            db = registered or AsyncSQLAlchemy()
        if isinstance(db, AsyncSQLAlchemy) and db is not registered:
            db.init_app(app)
        return db

    @property
    def db(self) -> Any:  # noqa: ANN401 (it is what the app passed)
        """The database extension of the current app, or outside of an app context of the only one."""
        return self._dbs[self._app()]

    def _current_app(self) -> App | None:
        return cast("Any", current_app)._get_current_object() if has_app_context() else None  # noqa: SLF001 (documented)

    def engine(self, app: App, bind_key: str | None = None) -> AsyncEngine:
        """Return an engine of an app for the running loop."""
        return self._databases[app].engine(bind_key)

    async def dispose(self, app: App) -> None:
        """Close the connections of an app in the running loop, at the end of a command."""
        await self._databases[app].dispose()

    def _url(self, app: App) -> URL:
        return self._databases[app].url()

    def _metadata(self, app: App) -> MetaData | Sequence[MetaData] | None:
        return self._databases[app].metadata() if self._given_metadata is None else self._given_metadata

    def _options(self, app: App) -> Mapping[str, object]:
        return {**DEFAULTS, **self._databases[app].options(), **self._given_options}

    async def init(self, package: str) -> Initialized:
        """Write the migrations folder of a package; see :meth:`ampho.Ampho.init`."""
        from ampho.revise import writer as revise

        project = self.project(self._app())
        with without_secrets(project.url):
            return revise.init(project, package)

    async def revision(
        self,
        package: str,
        message: str,
        *,
        autogenerate: bool = False,
        scratch: bool = False,
        depends_on: Iterable[str] = (),
        head: str | None = None,
        splice: bool = False,
        rev_id: str | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Revision | None:
        """Write a revision on the branch of a package.

        :param autogenerate: whether to fill it by comparing the package's models with the database.
        :param scratch: with ``autogenerate``, whether to compare with a throw-away database on which the package's
            history runs, instead of the app's.
        :param depends_on: ids, or packages whose present head is meant.
        :param head: the revision to stand on, instead of the package's head; ``base`` for a second first revision.
        :param splice: whether ``head`` may have a successor already.
        :param rev_id: the id, instead of the generated one.
        :param x: values for ``context.get_x_argument()``.
        :param observer: is told of warnings.
        :return: the revision; with ``autogenerate``, None if nothing differs.
        :raises AmphoError: if anything of it cannot be; then nothing was written.
        """
        from ampho.revise import autogenerate as compare
        from ampho.revise import writer as revise

        project = self.project(self._app())
        with without_secrets(project.url):
            await _read_ahead(project)
            new = revise.prepare_revision(
                project, package, message, depends_on=depends_on, head=head, splice=splice, rev_id=rev_id
            )
            if not autogenerate:
                return revise.write_revision(project, new)
        work = partial(compare.autogenerate, new=new, scratch=scratch, x=x, observer=observer)
        return await self._perform(work, observer, scratch=scratch)

    async def check(
        self, *packages: str, scratch: bool = False, x: Sequence[str] = (), observer: Observer | None = None
    ) -> tuple[Drift, ...]:
        """Return how the models of packages, by default of all, differ from the database.

        :param scratch: whether to compare with a throw-away database on which the histories run, instead of the app's.
        :raises NotUpToDateError: if a revision of one of them is not applied.
        """
        from ampho.revise import autogenerate as compare

        work = partial(compare.check, packages=packages, scratch=scratch, x=x, observer=observer)
        return await self._perform(work, observer, scratch=scratch)

    async def merge(self, package: str, message: str = "Merge heads", *, rev_id: str | None = None) -> Revision:
        """Write a revision that joins the heads of a package; see :func:`ampho.revise.writer.merge`."""
        from ampho.revise import writer as revise

        project = self.project(self._app())
        with without_secrets(project.url):
            await _read_ahead(project)
            return revise.merge(project, package, message, rev_id=rev_id)

    async def rebase(self, package: str, *, x: Sequence[str] = (), observer: Observer | None = None) -> Revision:
        """Put the later of a package's two lines after the other; see :func:`ampho.revise.rebase.rebase`."""
        from ampho.revise import rebase as rebasing

        return await self._perform(partial(rebasing.rebase, package=package, x=x), observer, mending=package)

    async def stamp(
        self,
        specifier: str,
        *,
        purge: bool = False,
        confirm: str | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Stamped:
        """Say what is applied, and run nothing; see :func:`ampho.migrate.stamp.stamp`."""
        from ampho.migrate import stamp as stamping

        work = partial(stamping.stamp, specifier=specifier, purge=purge, confirm=confirm, x=x, observer=observer)
        return await self._perform(work, observer)

    async def forget(self, name: str, *, x: Sequence[str] = (), observer: Observer | None = None) -> Stamped:
        """Forget applied revisions whose files are gone; see :func:`ampho.migrate.stamp.forget`."""
        from ampho.migrate import stamp as stamping

        return await self._perform(partial(stamping.forget, name=name, x=x, observer=observer), observer)

    async def resolve(
        self, revision: str, *, applied: bool, x: Sequence[str] = (), observer: Observer | None = None
    ) -> Stamped:
        """Say what came of a revision that was left half done; see :func:`ampho.migrate.stamp.resolve`."""
        from ampho.migrate import stamp as stamping

        return await self._perform(
            partial(stamping.resolve, revision=revision, applied=applied, x=x, observer=observer), observer
        )

    async def deployment(self, *, x: Sequence[str] = (), observer: Observer | None = None) -> Deployment:
        """Return how the database stands to the code; see :class:`ampho.Status`."""
        from ampho.migrate import executor as execute

        return await self._perform(partial(execute.deployment, x=x), observer)

    async def wait(
        self,
        *,
        timeout: float = 60.0,  # noqa: ASYNC109 (one name in both facades)
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Deployment:
        """Wait until the database has what the code needs, or more, and change nothing; see :meth:`ampho.Ampho.wait`.

        :param timeout: seconds.
        :raises WaitTimeoutError: if that takes longer.
        """
        from ampho.migrate import executor as execute
        from ampho.migrate.waiting import Turns

        turns = Turns(timeout, observer)
        while True:
            with turns.attempt():
                found, holder = await self._perform(partial(execute.awaited, x=x), turns.observer)
                if turns.is_over(found, holder):
                    return found
            await anyio.sleep(turns.pause)

    async def lint(
        self, *names: str, exclude: Iterable[str] = (), x: Sequence[str] = (), observer: Observer | None = None
    ) -> LintReport:
        """Look for what is dangerous in revisions before they run; see :meth:`ampho.Ampho.lint`."""
        from ampho.revise import lint as linting

        work = partial(linting.draft, names=names, exclude=exclude, x=x)
        return await anyio.to_thread.run_sync(linting.lint, await self._perform(work, observer))

    async def log(self, *, x: Sequence[str] = (), observer: Observer | None = None) -> tuple[Entry, ...]:
        """Return what was done to the database, the last thing last, as far as its journal tells."""
        from ampho.migrate import executor as execute

        return await self._perform(partial(execute.log, x=x), observer)

    async def show(
        self, specifier: str | None = None, *, observer: Observer | None = None
    ) -> tuple[RevisionRecord, ...]:
        """Return the revisions that a specifier stands for, or all; see :func:`ampho.status.state.show`.

        :param observer: is warned of revision files that are not read.
        """
        from ampho.status.state import show

        project = self.project(self._app())
        with without_secrets(project.url):
            await _read_ahead(project)
            project.check_specifier(specifier)
            if observer is not None:
                tell_unread(project, observer)
            return show(project.graph, specifier)

    async def current(
        self, *, verbose: bool = False, x: Sequence[str] = (), observer: Observer | None = None
    ) -> CurrentState:
        """Return what is applied, one record per package; see :meth:`ampho.Ampho.current`."""
        from ampho.migrate import executor as execute

        return await self._perform(partial(execute.current, verbose=verbose, x=x), observer)

    async def status(
        self,
        *packages: str,
        all: bool = False,  # noqa: A002 (the option's name)
        check: bool = False,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> DatabaseStatus:
        """Return where the database is, counted per package; see :meth:`ampho.Ampho.status`."""
        from ampho.migrate import executor as execute

        return await self._perform(partial(execute.status, packages=packages, all=all, check=check, x=x), observer)

    async def graph(
        self,
        *packages: str,
        full: bool = False,
        database: bool = True,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Picture:
        """Return the history as a picture; see :meth:`ampho.Ampho.graph`."""
        from ampho.migrate import executor as execute

        work = partial(execute.graph, packages=packages, full=full, x=x)
        return await (self._perform(work, observer) if database else self._perform_offline(work, observer))

    async def plan(
        self,
        specifier: str | None = None,
        *,
        direction: Direction | str = "upgrade",
        cascade: bool = False,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Plan:
        """Return what an upgrade or downgrade would do now, and do nothing; see :meth:`ampho.Ampho.plan`."""
        from ampho.migrate import executor as execute

        work = partial(execute.plan, specifier=specifier, direction=direction, cascade=cascade, x=x)
        return await anyio.to_thread.run_sync(await self._perform(work, observer))

    async def upgrade(
        self,
        specifier: str = "heads",
        *,
        agreed: Plan | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Run:
        """Upgrade the database; see :meth:`ampho.Ampho.upgrade`."""
        from ampho.migrate import executor as execute

        work = partial(execute.upgrade, specifier=specifier, agreed=agreed, x=x, observer=observer)
        return await self._perform(work, observer, renews=True)

    async def downgrade(
        self,
        specifier: str = "-1",
        *,
        cascade: bool = False,
        confirm: str | None = None,
        agreed: Plan | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Run:
        """Downgrade the database; see :meth:`ampho.Ampho.downgrade`."""
        from ampho.migrate import executor as execute

        work = partial(execute.downgrade, specifier=specifier, cascade=cascade, confirm=confirm, agreed=agreed)
        return await self._perform(partial(work, x=x, observer=observer), observer, renews=True)

    async def upgrade_sql(
        self,
        specifier: str = "heads",
        *,
        start: str | Sequence[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> str:
        """Return the SQL that an upgrade would run; see :meth:`ampho.Ampho.upgrade_sql`."""
        from ampho.migrate import sql as render

        work = partial(render.upgrade_sql, specifier=specifier, start=start, x=x)
        return await (self._perform(work, observer) if start is None else self._perform_offline(work, observer))

    async def downgrade_sql(
        self,
        specifier: str = "-1",
        *,
        cascade: bool = False,
        start: str | Sequence[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> str:
        """Return the SQL that a downgrade would run; see :meth:`ampho.Ampho.downgrade_sql`."""
        from ampho.migrate import sql as render

        work = partial(render.downgrade_sql, specifier=specifier, cascade=cascade, start=start, x=x)
        return await (self._perform(work, observer) if start is None else self._perform_offline(work, observer))

    async def _perform(
        self,
        work: Callable[[Project, Connection], T],
        observer: Observer | None,
        *,
        scratch: bool = False,
        renews: bool = False,
        mending: str | None = None,
    ) -> T:
        app = self._app()
        project = self.project(app)
        with without_secrets(project.url):
            await _read_ahead(project)
            results: list[T] = []
            with warned(project, observer, mending), clear_errors(project.url, results):
                async with exclusive_async(), self._connect(app, scratch=scratch, renews=renews) as connection:
                    results.append(await _cancelled_once(greenlet_spawn(work, project, connection)))
            return results[0]

    async def _perform_offline(self, work: Callable[[Project, None], T], observer: Observer | None) -> T:
        project = self.project(self._app())
        with without_secrets(project.url):
            await _read_ahead(project)
            with warned(project, observer):
                async with exclusive_async():
                    return work(project, None)

    @asynccontextmanager
    async def _connect(
        self, app: App, bind_key: str | None = None, *, scratch: bool = False, renews: bool = False
    ) -> AsyncIterator[Connection]:
        """Open the connection that migrates, which is used in a greenlet.

        :param scratch: whether it is to a throw-away database.
        :param renews: whether the schema may change: asyncpg's connections remember types and statements of the old
            one, so its pool is replaced after a commit; connections in use keep working, and are closed when they are
            returned.
        """
        engine = self.engine(app, bind_key)
        commits: list[object] = []
        stack = ExitStack()
        try:
            opened = self._connected(app, engine.sync_engine, scratch=scratch)
            opening = greenlet_spawn(stack.enter_context, opened)
            # Shielded for a throw-away database, which has to be dropped whatever happens. Otherwise in the caller's
            # task, by which the pool of a database in memory knows the user of its connection.
            connection = await _connection(engine, _cancelled_once(opening) if scratch else opening)
            event.listen(connection, "commit", commits.append)
            yield connection
        finally:
            with anyio.CancelScope(shield=True):
                await greenlet_spawn(stack.close)
            if commits and renews and engine.dialect.driver == "asyncpg":
                old = engine.sync_engine.pool
                await engine.dispose()
                event.listen(old, "checkin", _close)  # not before: a new pool has the listeners of the old one


def _close(dbapi_connection: object, entry: ConnectionPoolEntry) -> None:
    """Close a connection that comes back to a pool which nobody uses any more, and which would keep it open."""
    entry.close()


def _check_metadata(given: object) -> None:
    several = given if isinstance(given, Sequence) else [] if given is None else [given]
    for one in several:
        if not isinstance(one, MetaData):
            kind = f"{type(one).__module__}.{type(one).__qualname__}"
            raise ConfigurationError(
                f"metadata= got a {kind}, not a MetaData. Pass Base.metadata, or a list of MetaData objects."
            )


async def _read_ahead(project: Project) -> None:
    """Read the revision files in a thread, so as not to block the loop; errors are raised when the files are used.

    AnyIO's backend, which is imported on first use, is slow to import, too.
    """

    def read() -> None:
        with suppress(ImportError):
            import_module("anyio._backends._asyncio")
        with suppress(AmphoError):
            project.graph  # noqa: B018 (it is cached)

    await asyncio.to_thread(read)


async def _cancelled_once(run: Coroutine[Any, Any, T]) -> T:
    """Wait for a run; if that is cancelled, cancel the run once, and wait until it has put everything back.

    AnyIO cancels anew at each ``await``, which would cut short what SQLAlchemy and the driver do at the end.
    """
    task = asyncio.ensure_future(run)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        with anyio.CancelScope(shield=True):
            while not task.done():
                with suppress(asyncio.CancelledError):  # of who is in a hurry: what runs has been told already
                    await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # which else is said to be lost; the caller hears of the cancellation
        raise


async def _connection(engine: AsyncEngine, opening: Coroutine[Any, Any, Connection]) -> Connection:
    try:
        return await opening
    except Exception:
        if engine.dialect.driver == "aiosqlite":
            # Its thread has a last word for the loop, and prints a traceback if that is closed by then.
            await anyio.sleep(_LAST_WORD_SECONDS)
        raise
