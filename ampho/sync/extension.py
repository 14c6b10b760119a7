"""``Ampho``, the extension for Flask."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast
from weakref import WeakKeyDictionary

from flask import current_app, has_app_context

from ampho.database.exclusive import exclusive
from ampho.database.url import leaving_no_frames, missing_driver, parse_url, require_driver
from ampho.errors import ConfigurationError
from ampho.extension import (
    DEFAULTS,
    OPTIONS,
    URL_SETTING,
    Extension,
    clear_errors,
    tell_unread,
    warned,
    without_secrets,
)
from ampho.sync.migrate import KEY, MigrateOnDemand, db_group, feed

if TYPE_CHECKING:
    from alembic.config import Config
    from flask import Flask
    from flask.sansio.app import App
    from flask_migrate import Migrate
    from flask_sqlalchemy import SQLAlchemy
    from sqlalchemy import URL, Engine, MetaData
    from sqlalchemy.engine import Connection

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


class Ampho(Extension):
    """Per-package migrations for a Flask app.

    :param app: the app; leave it out in a factory, and call :meth:`init_app` there.
    :param db: the app's ``SQLAlchemy``; without one, the one registered on the app is used, or one is made.
    :param migrate: the app's ``Migrate``; without one, the same goes.
    :param packages: names of packages with migrations, beside those of ``AMPHO_MIGRATION_PACKAGES``.
    :param options: arguments for the ``Migrate`` that is made, such as ``compare_type`` or ``include_object``; an
        error beside a ``Migrate`` that is there already.

    The methods want an app context, as Flask-SQLAlchemy does.
    """

    is_async: ClassVar[bool] = False
    _template: ClassVar[str] = "sync"
    _known_options: ClassVar[frozenset[str]] = OPTIONS | {"command", "directory"}
    _arguments: ClassVar[tuple[str, ...]] = ("packages", "migrate")

    def __init__(
        self,
        app: Flask | None = None,
        db: SQLAlchemy | None = None,
        migrate: Migrate | None = None,
        *,
        packages: Iterable[str] | None = None,
        **options: object,
    ) -> None:
        super().__init__(packages, options)
        self._db = db
        self._migrate = migrate
        self._migrate_options = options
        self._dbs: WeakKeyDictionary[App, SQLAlchemy] = WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, db: SQLAlchemy | None = None, migrate: Migrate | None = None) -> None:
        """Register this extension, and what it needs, on an app.

        :raises ConfigurationError: if the app or its database URL is not for this extension, or what is registered on
            the app contradicts what was passed.
        """
        _check_app(app)
        self._check_only_one(app)
        _check_db(db or self._db or app.extensions.get("sqlalchemy"))
        self._check_migrate(app, migrate or self._migrate)
        _check_urls(app)
        if db is None and self._db is None and "sqlalchemy" not in app.extensions:
            _check_configured(app)
        db = self._register_db(app, db or self._db)
        self._register_migrate(app, db, migrate or self._migrate)
        app.extensions["ampho"] = self
        self._dbs[app] = db
        self._apps.add(app)
        self._add_commands(app)

    def _register_db(self, app: Flask, db: SQLAlchemy | None) -> SQLAlchemy:
        registered = app.extensions.get("sqlalchemy")
        if registered is None:
            from ampho.sync.database import QuietSQLAlchemy

            db = db or QuietSQLAlchemy()
            try:
                db.init_app(app)
            except ImportError as exc:
                setting, url = next(iter(_urls(app).items()))
                raise missing_driver(url, exc, setting) from exc
        elif db is not None and db is not registered:
            raise ConfigurationError(
                "Ampho was given another SQLAlchemy than the one registered on the app. Pass the registered one, or"
                " none."
            )
        return db or cast("SQLAlchemy", registered)

    def _check_migrate(self, app: Flask, migrate: Migrate | None) -> None:
        if migrate is not None:
            from flask_migrate import Migrate

            if not isinstance(migrate, Migrate):
                raise ConfigurationError(
                    f"Ampho cannot use a {_kind(migrate)} as Migrate. Pass a flask_migrate.Migrate."
                )
        registered = app.extensions.get(KEY)
        if registered is not None and migrate is not None and registered.migrate is not migrate:
            raise ConfigurationError(
                "Ampho was given another Migrate than the one registered on the app. Pass the registered one, or none."
            )
        if self._migrate_options and app not in self._apps and (registered is not None or migrate is not None):
            names = ", ".join(f"{name}=" for name in self._migrate_options)
            raise ConfigurationError(
                f"Ampho got {names} beside a Migrate, which has options of its own. Pass that to Migrate(...) instead."
            )

    def _register_migrate(self, app: Flask, db: SQLAlchemy, migrate: Migrate | None) -> None:
        registered = app.extensions.get(KEY)
        if registered is None and migrate is None:
            stand_in = MigrateOnDemand(app, db, dict(self._migrate_options))
            app.extensions[KEY] = stand_in
            app.cli.add_command(db_group(stand_in))
            return
        if registered is None:
            cast("Migrate", migrate).init_app(app, db)
            registered = app.extensions[KEY]
        feed(registered.migrate)

    @property
    def db(self) -> SQLAlchemy:
        """The ``SQLAlchemy`` of the current app, or outside of an app context of the only one."""
        return self._dbs[self._app()]

    @property
    def migrate(self) -> Migrate:
        """The ``Migrate`` of the current app, made when first asked for."""
        return cast("Migrate", self._app().extensions[KEY].migrate)

    def _current_app(self) -> App | None:
        return cast("Any", current_app)._get_current_object() if has_app_context() else None  # noqa: SLF001 (documented)

    def engine(self, app: App, bind_key: str | None = None) -> Engine:
        """Return an engine of an app."""
        with cast("Flask", app).app_context():
            engine = self._dbs[app].engines.get(bind_key)
        if engine is None:
            raise ConfigurationError(f"{URL_SETTING} is not set, so there is nothing to migrate.", setting=URL_SETTING)
        return engine

    def _url(self, app: App) -> URL:
        return self.engine(app).url

    def _metadata(self, app: App) -> MetaData | None:
        return self._dbs[app].metadatas.get(None)

    def _options(self, app: App) -> Mapping[str, object]:
        registered = app.extensions[KEY]
        if isinstance(registered, MigrateOnDemand):
            options = DEFAULTS | registered.options
            return {name: value for name, value in options.items() if name not in ("directory", "command")}
        return cast("Mapping[str, object]", registered.configure_args)

    def _configure(self, app: App, config: Config) -> Config:
        registered = app.extensions[KEY]
        if isinstance(registered, MigrateOnDemand):
            return config
        with cast("Flask", app).app_context():
            return cast("Config", registered.migrate.call_configure_callbacks(config))

    def init(self, package: str) -> Initialized:
        """Write the migrations folder of a package.

        :param package: the package, or ``package:folder``.
        :raises PackageError: if the package cannot have one, or has one already.
        """
        from ampho.revise import writer as revise

        project = self.project(self._app())
        with without_secrets(project.url):
            return revise.init(project, package)

    def revision(
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
            new = revise.prepare_revision(
                project, package, message, depends_on=depends_on, head=head, splice=splice, rev_id=rev_id
            )
            if not autogenerate:
                return revise.write_revision(project, new)
        work = partial(compare.autogenerate, new=new, scratch=scratch, x=x, observer=observer)
        return self._perform(work, observer, scratch=scratch)

    def check(
        self, *packages: str, scratch: bool = False, x: Sequence[str] = (), observer: Observer | None = None
    ) -> tuple[Drift, ...]:
        """Return how the models of packages, by default of all, differ from the database.

        :param scratch: whether to compare with a throw-away database on which the histories run, instead of the app's.
        :raises NotUpToDateError: if a revision of one of them is not applied.
        """
        from ampho.revise import autogenerate as compare

        work = partial(compare.check, packages=packages, scratch=scratch, x=x, observer=observer)
        return self._perform(work, observer, scratch=scratch)

    def merge(self, package: str, message: str = "Merge heads", *, rev_id: str | None = None) -> Revision:
        """Write a revision that joins the heads of a package; see :func:`ampho.revise.writer.merge`."""
        from ampho.revise import writer as revise

        project = self.project(self._app())
        with without_secrets(project.url):
            return revise.merge(project, package, message, rev_id=rev_id)

    def rebase(self, package: str, *, x: Sequence[str] = (), observer: Observer | None = None) -> Revision:
        """Put the later of a package's two lines after the other; see :func:`ampho.revise.rebase.rebase`."""
        from ampho.revise import rebase as rebasing

        return self._perform(partial(rebasing.rebase, package=package, x=x), observer, mending=package)

    def stamp(
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
        return self._perform(work, observer)

    def forget(self, name: str, *, x: Sequence[str] = (), observer: Observer | None = None) -> Stamped:
        """Forget applied revisions whose files are gone; see :func:`ampho.migrate.stamp.forget`."""
        from ampho.migrate import stamp as stamping

        return self._perform(partial(stamping.forget, name=name, x=x, observer=observer), observer)

    def resolve(
        self, revision: str, *, applied: bool, x: Sequence[str] = (), observer: Observer | None = None
    ) -> Stamped:
        """Say what came of a revision that was left half done; see :func:`ampho.migrate.stamp.resolve`."""
        from ampho.migrate import stamp as stamping

        return self._perform(
            partial(stamping.resolve, revision=revision, applied=applied, x=x, observer=observer), observer
        )

    def deployment(self, *, x: Sequence[str] = (), observer: Observer | None = None) -> Deployment:
        """Return how the database stands to the code; see :class:`ampho.Status`."""
        from ampho.migrate import executor as execute

        return self._perform(partial(execute.deployment, x=x), observer)

    def wait(self, *, timeout: float = 60.0, x: Sequence[str] = (), observer: Observer | None = None) -> Deployment:
        """Wait until the database has what the code needs, or more, and change nothing.

        A database that does not answer yet is tried again.

        :param timeout: seconds.
        :param observer: receives what it waits for, each time that this changes.
        :raises WaitTimeoutError: if that takes longer.
        """
        from ampho.migrate import executor as execute
        from ampho.migrate.waiting import Turns

        turns = Turns(timeout, observer)
        while True:
            with turns.attempt():
                found, holder = self._perform(partial(execute.awaited, x=x), turns.observer)
                if turns.is_over(found, holder):
                    return found
            time.sleep(turns.pause)

    def lint(
        self, *names: str, exclude: Iterable[str] = (), x: Sequence[str] = (), observer: Observer | None = None
    ) -> LintReport:
        """Look for what is dangerous in revisions before they run.

        :param names: packages, of which those revisions are meant that are not applied; or ids. By default all.
        :param exclude: rules that are not looked at.
        :raises LinterError: if the database is PostgreSQL, and squawk is not installed or fails.
        """
        from ampho.revise import lint as linting

        work = partial(linting.draft, names=names, exclude=exclude, x=x)
        return linting.lint(self._perform(work, observer))

    def log(self, *, x: Sequence[str] = (), observer: Observer | None = None) -> tuple[Entry, ...]:
        """Return what was done to the database, the last thing last, as far as its journal tells."""
        from ampho.migrate import executor as execute

        return self._perform(partial(execute.log, x=x), observer)

    def show(self, specifier: str | None = None, *, observer: Observer | None = None) -> tuple[RevisionRecord, ...]:
        """Return the revisions that a specifier stands for, or all; see :func:`ampho.status.state.show`.

        :param observer: is warned of revision files that are not read.
        """
        from ampho.status.state import show

        project = self.project(self._app())
        with without_secrets(project.url):
            project.check_specifier(specifier)
            if observer is not None:
                tell_unread(project, observer)
            return show(project.graph, specifier)

    def current(
        self, *, verbose: bool = False, x: Sequence[str] = (), observer: Observer | None = None
    ) -> CurrentState:
        """Return what is applied, one record per package.

        :param verbose: whether the files of applied revisions are compared with those that were run.
        :param x: values for ``context.get_x_argument()``.
        :raises AmphoError: if the history or the database cannot be read.
        """
        from ampho.migrate import executor as execute

        return self._perform(partial(execute.current, verbose=verbose, x=x), observer)

    def status(
        self,
        *packages: str,
        all: bool = False,  # noqa: A002 (the option's name)
        check: bool = False,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> DatabaseStatus:
        """Return where the database is, counted per package.

        :param packages: the packages that are looked at; by default all.
        :param all: whether each revision is told of, too.
        :param check: whether it is an error that no package is listed, or one that is not there and never was.
        :param x: values for ``context.get_x_argument()``.
        :raises PackageNotFoundError: if one of the packages is unknown.
        """
        from ampho.migrate import executor as execute

        return self._perform(partial(execute.status, packages=packages, all=all, check=check, x=x), observer)

    def graph(
        self,
        *packages: str,
        full: bool = False,
        database: bool = True,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Picture:
        """Return the history as a picture: packages as lanes, revisions as nodes, and what stands on what as edges.

        :param packages: show these, and of others what they touch; by default all.
        :param full: whether each revision is a node of its own, and not runs of them.
        :param database: whether to tell what is applied; without that no database is needed.
        :param x: values for ``context.get_x_argument()``.
        :raises AmphoError: if the history or the database cannot be read, or a package is unknown.
        """
        from ampho.migrate import executor as execute

        work = partial(execute.graph, packages=packages, full=full, x=x)
        return self._perform(work, observer) if database else self._perform_offline(work, observer)

    def plan(
        self,
        specifier: str | None = None,
        *,
        direction: Direction | str = "upgrade",
        cascade: bool = False,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Plan:
        """Return what an upgrade or downgrade would do now, and do nothing.

        Each step tells why it is there, whether it runs in a transaction, and what it may lose.

        :param direction: ``upgrade`` or ``downgrade``.
        :raises AmphoError: as the command itself would before its first step, but for files that cannot be imported.
        """
        from ampho.migrate import executor as execute

        work = partial(execute.plan, specifier=specifier, direction=direction, cascade=cascade, x=x)
        return self._perform(work, observer)()

    def upgrade(
        self,
        specifier: str = "heads",
        *,
        agreed: Plan | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Run:
        """Upgrade the database.

        :param specifier: where to; see "What a specifier means" in the documentation.
        :param agreed: what :meth:`plan` returned and somebody agreed to; then nothing else runs.
        :param x: values for ``context.get_x_argument()``.
        :param observer: is told of each step.
        :raises AmphoError: before anything is changed, or naming the revision that failed.
        """
        from ampho.migrate import executor as execute

        work = partial(execute.upgrade, specifier=specifier, agreed=agreed, x=x, observer=observer)
        return self._perform(work, observer)

    def downgrade(
        self,
        specifier: str = "-1",
        *,
        cascade: bool = False,
        confirm: str | None = None,
        agreed: Plan | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Run:
        """Downgrade the database.

        :param specifier: how far; see "What a specifier means" in the documentation.
        :param cascade: whether revisions of other packages that depend on what goes may go too.
        :param confirm: the database's name, where ``AMPHO_PROTECTED`` protects it.
        :param agreed: what :meth:`plan` returned and somebody agreed to; then nothing else runs.
        :param x: values for ``context.get_x_argument()``.
        :param observer: is told of each step.
        :raises AmphoError: before anything is changed, or naming the revision that failed.
        """
        from ampho.migrate import executor as execute

        work = partial(execute.downgrade, specifier=specifier, cascade=cascade, confirm=confirm, agreed=agreed)
        return self._perform(partial(work, x=x, observer=observer), observer)

    def upgrade_sql(
        self,
        specifier: str = "heads",
        *,
        start: str | Sequence[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> str:
        """Return the SQL that an upgrade would run.

        :param start: ``base``, or ids, to start from instead of the database, which is not needed then.
        :raises RenderError: if a revision of the plan needs a live database.
        """
        from ampho.migrate import sql as render

        work = partial(render.upgrade_sql, specifier=specifier, start=start, x=x)
        return self._perform(work, observer) if start is None else self._perform_offline(work, observer)

    def downgrade_sql(
        self,
        specifier: str = "-1",
        *,
        cascade: bool = False,
        start: str | Sequence[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> str:
        """Return the SQL that a downgrade would run.

        :param start: ids to start from instead of the database, which is not needed then.
        :raises RenderError: if a revision of the plan needs a live database.
        """
        from ampho.migrate import sql as render

        work = partial(render.downgrade_sql, specifier=specifier, cascade=cascade, start=start, x=x)
        return self._perform(work, observer) if start is None else self._perform_offline(work, observer)

    def _perform(
        self,
        work: Callable[[Project, Connection], T],
        observer: Observer | None,
        *,
        scratch: bool = False,
        mending: str | None = None,
    ) -> T:
        app = self._app()
        project = self.project(app)
        results: list[T] = []
        with (
            without_secrets(project.url),
            warned(project, observer, mending),
            exclusive(),
            clear_errors(project.url, results),
            self._connected(app, self.engine(app), scratch=scratch) as connection,
        ):
            results.append(work(project, connection))
        return results[0]

    def _perform_offline(self, work: Callable[[Project, None], T], observer: Observer | None) -> T:
        project = self.project(self._app())
        with without_secrets(project.url), warned(project, observer), exclusive():
            return work(project, None)


def _check_app(app: object) -> None:
    from flask import Flask

    if not isinstance(app, Flask):
        raise ConfigurationError(
            f"Ampho is for Flask, and this app is a {type(app).__module__.split('.')[0]} app. Use ampho.AsyncAmpho for"
            " Quart."
        )


def _check_db(db: object) -> None:
    if db is None:
        return
    from flask_sqlalchemy import SQLAlchemy

    if not isinstance(db, SQLAlchemy):
        raise ConfigurationError(
            f"Ampho cannot use a {_kind(db)} as database. Pass the flask_sqlalchemy.SQLAlchemy of the app."
        )


def _kind(given: object) -> str:
    return f"{type(given).__module__}.{type(given).__qualname__}"


def _check_configured(app: Flask) -> None:
    options = app.config.get("SQLALCHEMY_ENGINE_OPTIONS") or {}
    if not (app.config.get(URL_SETTING) or app.config.get("SQLALCHEMY_BINDS") or "url" in options):
        raise ConfigurationError(
            f"{URL_SETTING} is not set. Set it in app.config before Ampho(app) or init_app(app), for example to"
            " sqlite:///app.db.",
            setting=URL_SETTING,
        )


def _check_urls(app: Flask) -> None:
    """Check the URLs before Flask-SQLAlchemy does, whose errors quote them, and which accepts async drivers."""
    for setting, url in _urls(app).items():
        require_driver(url, is_async=False, setting=setting)


@leaving_no_frames
def _urls(app: Flask) -> dict[str, URL]:
    """Return the URLs of an app's configuration, by the settings that they are from."""
    options = app.config.get("SQLALCHEMY_ENGINE_OPTIONS") or {}
    urls = {URL_SETTING: app.config.get(URL_SETTING), "SQLALCHEMY_ENGINE_OPTIONS['url']": options.get("url")}
    for key, bind in (app.config.get("SQLALCHEMY_BINDS") or {}).items():
        urls[f"SQLALCHEMY_BINDS[{key!r}]"] = bind.get("url") if isinstance(bind, dict) else bind
    return {setting: parse_url(value, setting) for setting, value in urls.items() if value is not None}
