"""Run the work of a command on one database of an app, or on several.

The code is synchronous. On Quart, it runs in a greenlet, in which :class:`Framework` awaits async functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial
from shlex import quote
from typing import TYPE_CHECKING, TypedDict, TypeVar, Unpack

from ampho._text import all_words, is_of_database, listed
from ampho.errors import AmphoError, DatabaseError, DatabaseNameError, PackageNotFoundError
from ampho.results import combined, databases_error, named, naming, selecting
from ampho.settings import DATABASES

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine
    from sqlalchemy.engine import Connection

    from ampho.database.store import Store
    from ampho.fleet.survey import Surveyed
    from ampho.history.revision import Phase
    from ampho.migrate.across import State, UpgradePlanner
    from ampho.migrate.observers import Observer, Observers
    from ampho.migrate.plan import Plan, Run
    from ampho.migrate.project import Project
    from ampho.migrate.queries import VersionTable
    from ampho.migrate.template import Point, Scratch, Template

T = TypeVar("T")

CONNECTIONS = 16
"""The maximum number of connections of a survey at the same time, unless the caller chooses another one."""


class Framework(ABC):
    """The interface to Flask or Quart, through which a command loads the app's migrations, connects, and waits.

    The methods for one database take the part of the app's project that belongs to it.
    """

    @abstractmethod
    def project(self) -> Project:
        """Return the migrations of the whole app, as they are on disk now."""

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[None]:
        """Wait until no other run is in progress in this process, and keep other runs waiting.

        :raises NestedRunError: if this is called inside a run.
        """

    @abstractmethod
    def connect(self, project: Project, *, renews: bool = False) -> AbstractContextManager[Connection]:
        """Open the connection for migrations of a database, and close it afterwards.

        :param renews: whether the schema may change, so that pooled connections that cache it have to be replaced.
        """

    @abstractmethod
    def in_time(self, function: Callable[[], object], seconds: float) -> None:
        """Run a function that uses a database, and wait for it for a number of seconds.

        :raises TimeoutError: if it takes longer. On Flask, it then goes on in its thread; on Quart, it is cancelled.
        """

    @abstractmethod
    def ended(self, opened: AbstractContextManager[T]) -> AbstractContextManager[T]:
        """Return a context manager that also ends if the command is cancelled meanwhile."""

    @abstractmethod
    def create(self, project: Project) -> tuple[str, ...]:
        """Create a database, or the schema that it is, if it does not exist, and return what was created."""

    @abstractmethod
    def migrating_engine(self, project: Project, *, with_schema: bool = True) -> tuple[Engine, str]:
        """Return an engine without a pool for a database, and a name for the origin of its URL.

        :param with_schema: whether to limit the engine to the schema of the database, if it is one.
        """

    @abstractmethod
    def at_once(self, functions: Iterator[Callable[[], T]], limit: int) -> Generator[T]:
        """Run functions that use databases, several at the same time, and yield their results as they come.

        Close the generator if you do not read all of them.

        :param limit: the maximum number of functions that run at the same time.
        """

    @abstractmethod
    def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds."""

    @abstractmethod
    def in_thread(self, function: Callable[[], T]) -> T:
        """Run a slow function that does not use the database, without blocking an event loop, and return its result."""


@dataclass(frozen=True)
class Opened:
    """One database while a command uses it.

    :ivar project: the part of the app's project that belongs to the database.
    :ivar connection: the connection for migrations.
    :ivar observer: receives the events of the command.
    :ivar scratch: the throwaway database that is used instead, if it is one.
    """

    project: Project
    connection: Connection
    observer: Observer | None
    scratch: Scratch | None = None


class How(TypedDict, total=False):
    """How a command opens a database.

    :ivar scratch: the specifier to which a throwaway database is upgraded, or several, which is used instead.
    :ivar x: values for ``context.get_x_argument()`` in that upgrade.
    :ivar renews: whether the schema may change.
    :ivar mending: the package whose parallel heads need no warning, because the command joins them.
    :ivar of_folders: whether to warn about packages without a migrations folder; true by default.
    """

    scratch: str | Sequence[str] | None
    x: Sequence[str]
    renews: bool
    mending: str
    of_folders: bool


class Running:
    """Runs the work of one command on the databases of an app.

    :ivar framework: loads the app's migrations, connects, and waits.
    """

    def __init__(self, framework: Framework) -> None:
        self.framework = framework
        self._names: dict[Hashable, str] = {}  # of the databases used so far, by what their servers say they are

    def project(self) -> Project:
        """Return the migrations of the whole app, as they were on disk when the command began."""
        return self._whole

    @cached_property
    def _whole(self) -> Project:
        return self.framework.project()

    def on_one(
        self,
        work: Callable[[Opened], T],
        database: str | None,
        observer: Observer | None,
        command: str,
        specifier: str | None = None,
        **how: Unpack[How],
    ) -> T:
        """Run work on one database, and return its result with the name of the database.

        :param database: the name of the database; it may be left out if packages live in only one.
        :param command: the name of the command, for errors.
        :param specifier: a specifier whose package has to live in the database.
        :raises DatabaseNameError: if the name is missing or not known, or if the package lives elsewhere.
        """
        name = self._whole.homes.select_one(database, command)
        if specifier is not None:
            self._whole.databases(name, [specifier])
        return self._on(name, work, observer, **how)

    def reach(self, name: str, seconds: float) -> None:
        """Check that the server of a database answers. Meanwhile, other runs in this process need not wait.

        :param seconds: how long to wait for it. Most drivers do not limit that if a server accepts a connection, and
            then does not answer.
        :raises DatabaseError: if the database cannot be reached in that time.
        """
        part = self._whole.of(name)
        if part.url.get_backend_name() == "sqlite":
            return

        def connect() -> None:
            with self.framework.connect(part):
                pass

        with naming_one_of(self._whole, name), without_secrets(part.url):
            try:
                self.framework.in_time(connect, seconds)
            except TimeoutError:
                from ampho.database.url import display

                why = f"the server does not answer within {seconds:.0f} s"
                raise DatabaseError(f"Cannot connect to {display(part.url)}: {why}.") from None

    def on_each(
        self,
        work: Callable[[Opened], T],
        database: str | Iterable[str] | None,
        observer: Observer | None,
        *,
        packages: Iterable[str] = (),
        **how: Unpack[How],
    ) -> T:
        """Run work on each of several databases, and return one result for all of them.

        :param database: the names of the databases; by default, all in which the packages live.
        :param packages: the packages or revisions to which the work is limited; by default, it is not.
        :raises DatabasesError: if the work fails on some of the databases.
        """
        return self.each(lambda name: self._on(name, work, observer, **how), database, packages)

    def on_scratch(
        self,
        project: Project,
        specifiers: Sequence[str],
        work: Callable[[Opened], T],
        observer: Observer | None = None,
        *,
        x: Sequence[str],
    ) -> T:
        """Run work on a throwaway database that is upgraded to some specifiers, or empty without any.

        :param project: the part of the project that belongs to a database.
        """
        return self._on(project, work, observer, scratch=specifiers, x=x, of_folders=False)

    def first_home(self, package: str) -> Project:
        """Return the part of the project that belongs to the first database in which a package lives."""
        return self._to_clone(self._whole.homes.of(package)[0])

    def each(self, run: Callable[[str], T], database: str | Iterable[str] | None, packages: Iterable[str] = ()) -> T:
        """Call a function with the name of each database, and return one result for all of them."""
        names = self._whole.databases(database, packages)
        if not self._whole.homes.stands_for_several(names):
            return run(names[0])
        results: dict[str, T] = {}
        errors: dict[str, AmphoError] = {}
        with closing(self._whole.each_of(names)) as found:
            for name in found:
                try:
                    results[name] = run(name)
                except DatabaseNameError:
                    raise
                except AmphoError as exc:  # the other databases are independent of this one
                    errors[name] = exc
        if errors:
            raise databases_error(errors, results)
        if not results:
            groups = ", ".join(dict.fromkeys(map(self._whole.homes.home, names)))
            raise DatabaseNameError(f"There are no databases yet: the app lists none for {groups}.", database=groups)
        return combined(results)

    def _on(
        self,
        database: str | Project,
        work: Callable[[Opened], T],
        observer: Observer | None,
        **how: Unpack[How],
    ) -> T:
        project = self._whole.of(database) if isinstance(database, str) else database
        name, is_one_of_several = project.database, self._whole.has_several_databases
        if is_one_of_several and observer is not None:
            from ampho.migrate.observers import Named

            observer = Named(observer, name)
        with naming_one_of(self._whole, name), self._connected(project, observer, **how) as opened:
            if opened.scratch is None:
                self._check_distinct(name, opened.connection)
            result = named(work(opened), name)
            return selecting(result, name) if is_one_of_several else result

    def create(
        self, specifier: str, database: str | Iterable[str] | None, observer: Observer | None, *, keep_going: bool
    ) -> None:
        """Create those databases and schemas of an upgrade that do not exist, and report them to an observer.

        :param keep_going: whether to report a database that cannot be created, too, and go on. With one of several
            databases of groups, that is always so, because the upgrade itself fails on this database only.
        """
        from ampho.migrate.observers import Observer

        whole, observers = self._whole, self._observers(observer)
        names = whole.databases(database, [specifier])
        groups = whole.homes.groups if whole.homes.stands_for_several(names) else {}
        with closing(whole.each_of(names)) as found:
            for part in map(whole.of, found):
                try:
                    with naming_one_of(whole, part.database), without_secrets(part.url), self.framework.exclusive():
                        created = self.framework.create(part)
                except AmphoError as exc:
                    if not keep_going and part.home not in groups:
                        raise
                    observers.notify(Observer.warned, str(exc))
                    continue
                for what in created:
                    observers.notify(Observer.created, what, part.database)

    def _observers(self, observer: Observer | None) -> Observers:
        from ampho.migrate.observers import Observer, Observers

        found = Observers(self._whole.url)
        found.members.append(observer or Observer())
        return found

    def warn_of_misplaced(self, observer: Observer | None) -> None:
        """Report packages that do not live in the databases of their models' binds to an observer."""
        if observer is not None:
            for message in self._whole.misplaced():
                observer.warned(message)

    def _check_distinct(self, name: str, connection: Connection) -> None:
        """Raise an error if two names of databases lead to the same database, whose locks they would wait for."""
        if len(self._whole.homes.names) < 2 or name not in self._whole.homes.names:
            return
        from ampho.database.identity import identity

        other = self._names.setdefault(identity(connection), name)
        if other != name:
            raise DatabaseNameError(
                f"{other} and {name} are two names for one database. Let the packages of {name} live in {other}, in"
                f" {DATABASES}: a bind with the address of a database is another name for it. Or correct the URL of one"
                " of them.",
                database=name,
            )

    def survey(
        self,
        database: str | Iterable[str] | None,
        *,
        limit: int = CONNECTIONS,
        is_thorough: bool = False,
        finds_missing: bool = False,
        x: Sequence[str] = (),
    ) -> Generator[Surveyed]:
        """Yield databases and their states as they come, many at the same time, without locks.

        Close the generator if you do not read all of them.

        :param database: names and patterns; see :meth:`ampho.migrate.project.Project.databases`.
        :param limit: the maximum number of connections at the same time.
        :param is_thorough: whether to also find diverged and edited revisions where everything is applied.
        :param finds_missing: whether to ask servers if they lack the databases to which no connection is possible.
        :param x: values for ``context.get_x_argument()``, if only ``env.py`` knows the version table.
        """
        from ampho.fleet.survey import Survey

        whole = self._whole
        whole.check_migratable(None)
        names = whole.databases(database)
        tables = self._version_tables(names, x)
        survey = Survey(whole, self.framework.migrating_engine, is_thorough, tables, finds_missing)
        with without_secrets(whole.url), closing(self.framework.at_once(survey.looks(names), limit)) as found:
            for states in found:
                yield from states

    def _version_tables(self, names: Sequence[str], x: Sequence[str]) -> dict[str, VersionTable]:
        """Return the version tables of databases and groups, if only ``env.py`` knows them."""
        from ampho.migrate.queries import has_known_table, query_env

        def read(on: Opened) -> VersionTable:
            found = query_env(on.project, on.connection, x, lambda rows, journal, context: context)
            is_schema = on.project.member is not None and on.project.member.schema is not None
            return found.version_table, None if is_schema else found.version_table_schema

        tables: dict[str, VersionTable] = {}
        if has_known_table(self._whole):
            return tables
        left, home_of = set(map(self._whole.homes.home, names)), self._whole.homes.home
        with closing(self._whole.each_of(names)) as found:
            while left and (name := next(found, None)) is not None:
                if home_of(name) in left:
                    with suppress(DatabaseError):  # if it cannot be reached, ask the next one
                        tables[home_of(name)] = self._on(name, read, None, of_folders=False)
                        left.discard(home_of(name))
        return tables

    @contextmanager
    def _connected(self, project: Project, observer: Observer | None, **how: Unpack[How]) -> Iterator[Opened]:
        """Yield a database with a connection for migrations, while no other run is in progress."""
        is_done = False
        specifier = how.get("scratch")
        with self.unconnected(project, observer, how.get("mending"), of_folders=how.get("of_folders", True)):
            try:
                if specifier is None:
                    with self.framework.connect(project, renews=how.get("renews", False)) as connection:
                        yield Opened(project, connection, observer)
                        is_done = True
                else:
                    with self.framework.ended(self._scratch(project, specifier, how.get("x", ()))) as found:
                        yield Opened(project, found.connection, observer, found)
                        is_done = True
            except Exception as exc:
                if isinstance(exc, AmphoError) or not is_of_database(exc):
                    raise
                if not is_done:  # Otherwise, only closing the connection has failed.
                    from ampho.database.url import database_error

                    outcome = "Run the command again; 'ampho db-current' shows which revisions are applied."
                    raise database_error(exc, project.url, outcome) from exc

    @contextmanager
    def unconnected(
        self, project: Project, observer: Observer | None, mending: str | None = None, *, of_folders: bool = True
    ) -> Iterator[None]:
        """Report the warnings about a project, and keep other runs waiting."""
        reporting = warned(project, observer, mending, of_folders=of_folders)
        with without_secrets(project.url), reporting, self.framework.exclusive():
            yield

    @contextmanager
    def connected_if(
        self,
        online: bool,  # noqa: FBT001 (the condition)
        database: str | None,
        observer: Observer | None,
        command: str,
    ) -> Iterator[tuple[Project, Connection | None]]:
        """Yield the project of one database, and a connection if the work needs the database."""
        name = self._whole.homes.select_one(database, command)
        project = self._whole.of(name)
        with naming_one_of(self._whole, name):
            if online:
                with self._connected(project, observer) as opened:
                    yield project, opened.connection
            else:
                with self.unconnected(project, observer):
                    yield project, None

    # ---- Templates ----

    def template(
        self, specifiers: Sequence[str], database: str | None, *, server: str | URL | None, key: str, x: Sequence[str]
    ) -> Template:
        """Return a template of a database, or of the databases of a group; see :meth:`Commands.template`."""
        from ampho.migrate.template import Point, Template

        # No package has to live in the database of an empty template.
        is_home = specifiers or database is None or database in self._whole.homes.groups
        project = self._to_clone(database) if is_home else self._whole.of(str(database))
        with ExitStack() as stack:
            store = self._store(project, server)
            stack.callback(store.close)
            key = self._find_or_build(Point(project, specifiers, x, key), store)
            stack.pop_all()
        return Template(key, store)

    def provision(self, database: str, x: Sequence[str]) -> None:
        """Create a database of a group as a copy of a template, unless it exists, or is a schema.

        :raises DatabaseNameError: if the database does not belong to a group.
        """
        from ampho.migrate.template import Point

        project = self._whole.of(self._whole.homes.select_one(database, "provision()"))
        if project.member is None:
            raise DatabaseNameError(
                f"{database} is not a database of a group. Create it with 'ampho db-up --create -d {database}'.",
                database=database,
            )
        if project.member.schema is None:
            with closing(self._store(project, None)) as store:
                key = self._find_or_build(Point(project, ["heads"], x), store)
                store.provide(key, str(project.url.database))

    @contextmanager
    def _scratch(self, project: Project, specifier: str | Sequence[str], x: Sequence[str]) -> Iterator[Scratch]:
        from ampho.migrate.template import Point, scratch

        point = Point(project, [specifier] if isinstance(specifier, str) else specifier, x)
        with closing(self._store(project, None)) as store, scratch(point, store) as found:
            yield found

    def _store(self, project: Project, server: str | URL | None) -> Store:
        from ampho.database.connection import connect
        from ampho.database.store import store_for

        with naming_one_of(self._whole, project.database):
            engine, setting = self.framework.migrating_engine(project, with_schema=False)
            if server is not None:
                engine = _on_server(engine, server)
            return store_for(engine, partial(connect, setting=setting))

    def _find_or_build(self, point: Point, store: Store) -> str:
        from ampho.migrate.template import find_or_build

        with naming_one_of(self._whole, point.project.database), self.unconnected(point.project, None):
            return find_or_build(point, store)

    def _to_clone(self, database: str | None) -> Project:
        """Return the part of the project that belongs to a database, or to each database of a group.

        :raises DatabaseNameError: if the database is a schema.
        """
        from ampho.migrate.project import Member

        whole = self._whole
        if database in whole.homes.groups:
            return whole.of(Member(str(database), whole.url))
        project = whole.of(whole.homes.select_one(database, "template()"))
        if project.member is not None and project.member.schema is not None:
            raise DatabaseNameError(
                f"{database} is a schema, and only a whole database can be a template. Create it with provision(), or"
                " use the template of the database in which it is.",
                database=project.database,
            )
        return project

    # ---- Several databases under one plan ----

    def only_one(self, specifier: str, database: str | Iterable[str] | None) -> str | None:
        """Return the name of the only database that an upgrade concerns; None if it needs a plan of several."""
        whole = self._whole
        names = whole.databases(database, [specifier])
        if whole.homes.stands_for_several(names):
            return None
        part = whole.of(names[0])
        needs_others = whole.has_several_databases and any(map(part.needed_elsewhere, part.graph.ids))
        return None if needs_others else part.database

    def plan_upgrade(
        self,
        specifier: str,
        database: str | Iterable[str] | None,
        *,
        phase: Phase | None,
        x: Sequence[str],
        observer: Observer | None,
    ) -> Plan:
        """Return the plan of an upgrade of several databases, with an explanation of each step.

        Databases of groups that cannot be used are left out, and reported to the observer.
        """
        from ampho.migrate.explain import explained
        from ampho.migrate.observers import Observer

        planner = self._planner(specifier, database, x, observer)
        planner.phase, planner.explains = phase, True
        plan = planner.plan(specifier)
        for error in planner.errors.values():
            (observer or Observer()).warned(str(error))
        whole = self._whole
        dialects = {name: planner.state(name).project.url.get_backend_name() for name in plan.databases}
        is_async = whole.url.get_dialect().is_async
        return self.framework.in_thread(partial(explained, plan, whole.graph, dialects.__getitem__, is_async=is_async))

    def upgrade(
        self,
        specifier: str,
        database: str | Iterable[str] | None,
        *,
        phase: Phase | None,
        agreed: Plan | None,
        keep_going: bool,
        x: Sequence[str],
        observer: Observer | None,
    ) -> Run:
        """Upgrade several databases under one plan, one segment after the other.

        :raises DatabasesError: if a segment fails. Segments that depend on it are skipped and, unless ``keep_going`` is
            true, all other segments that have not begun, too.
        """
        from ampho.migrate.across import Progress
        from ampho.migrate.executor import run_segment
        from ampho.migrate.observers import Observer

        planner = self._planner(specifier, database, x, observer)
        planner.keeps_going, planner.phase = keep_going, phase
        plan = planner.plan(specifier)
        plan.check_agreed(agreed)
        observers = self._observers(observer)
        if plan.steps or not planner.errors:
            observers.announce(plan)
        progress = Progress(plan, planner)
        for name, segment in progress.segments():

            def run(on: Opened, part: Plan = segment) -> Run:
                is_agreed = agreed is not None
                return run_segment(on.project, on.connection, part, is_agreed=is_agreed, x=x, observer=on.observer)

            try:
                project = planner.state(name).project
                progress.finished(name, self._on(project, run, observer, renews=True, of_folders=False))
            except AmphoError as exc:
                progress.errors[name] = exc
        done = progress.result()
        observers.notify(Observer.finished, done)
        return done

    def _planner(
        self, specifier: str, database: str | Iterable[str] | None, x: Sequence[str], observer: Observer | None
    ) -> UpgradePlanner:
        from ampho.migrate.across import UpgradePlanner

        whole = self._whole
        whole.check_migratable(specifier)
        names, read = list[str](), self._states(x, observer)
        with closing(whole.each_of(whole.databases(database, [specifier]))) as found:
            for name in found:
                names.append(name)
                with suppress(AmphoError):  # which the plan raises
                    read(name)  # now, because to find one of many databases later, its group would be listed again
        return UpgradePlanner(whole, names, database is not None, read)

    def check_of_others(
        self, database: str | None, x: Sequence[str], observer: Observer | None
    ) -> Callable[[Plan], None]:
        """Return a function that checks that a downgrade reverts nothing that other databases depend on."""
        from ampho.migrate.across import check_not_needed_elsewhere

        whole = self._whole
        if not whole.has_several_databases or database not in whole.homes.names:
            return lambda plan: None
        read = self._states(x, observer)
        others = [name for name in whole.homes.names if name != database and whole.depends_on(name, database)]
        states = {name: read(name) for name in others}
        for group in whole.homes.groups:
            if whole.depends_on(group, database):
                states |= self._members_states(group, x, observer)
        return lambda plan: check_not_needed_elsewhere(whole, database, plan, states)

    def _members_states(self, group: str, x: Sequence[str], observer: Observer | None) -> dict[str, State]:
        """Return the states of the databases of a group; the same one for those with the same version rows."""
        from ampho.database.journal import Journal
        from ampho.migrate.across import State
        from ampho.migrate.observers import Observer
        from ampho.status.deployment import Status

        states: dict[str, State] = {}
        shared: dict[tuple[str, ...], State] = {}
        unread: list[str] = []
        with closing(self.survey(group, x=x)) as found:
            for member, state in found:
                if state.error is None and member is not None:
                    if state.rows not in shared:
                        shared[state.rows] = State(self._whole.of(member), state.rows, Journal())
                    states[state.database] = shared[state.rows]
                elif state.status is not Status.NOT_CREATED:
                    unread.append(state.database)
        if unread:
            names = listed(sorted(unread))
            (observer or Observer()).warned(
                f"Ampho cannot check whether these databases depend on what is reverted: {names}. To see why, run"
                f" 'ampho db-status -d {quote(group)}'."
            )
        return dict(sorted(states.items()))

    def _states(self, x: Sequence[str], observer: Observer | None) -> Callable[[str], State]:
        """Return a function that reads the state of a database, and remembers it."""
        from ampho.database.journal import Journal
        from ampho.migrate.across import State
        from ampho.migrate.queries import query

        def read(on: Opened) -> State:
            def answer(rows: tuple[str, ...], journal: Journal) -> State:
                journal.load()
                return State(on.project, rows, journal)

            return query(on.project, on.connection, x, answer, about_change=True)

        return cache(lambda name: self._on(name, read, observer))


def _on_server(engine: Engine, server: str | URL) -> Engine:
    """Return an engine like another one, for a server that the caller names."""
    from ampho.database.engine import with_address
    from ampho.database.url import parse_url, require_driver

    url, setting = parse_url(server, "server="), "server="
    if "+" not in url.drivername and url.get_backend_name() == engine.url.get_backend_name():
        url = url.set(drivername=engine.url.drivername)
    require_driver(url, is_async=engine.dialect.is_async, setting=setting)
    return with_address(engine, url, setting)


def naming_one_of(whole: Project, database: str) -> AbstractContextManager[None]:
    """Name a database in errors if the app has several."""
    return naming(database) if whole.has_several_databases else nullcontext()


@contextmanager
def warned(
    project: Project, observer: Observer | None, mending: str | None = None, *, of_folders: bool = True
) -> Iterator[None]:
    """Report the warnings about a project to an observer.

    Packages that are not installed are reported at the end, except for the package that an error has already named.

    :param mending: the package whose parallel heads need no warning.
    :param of_folders: whether to warn about packages without a migrations folder.
    """
    from ampho.migrate.observers import Observer

    receiver = observer or Observer()
    if not project.packages:
        yield
    for message in project.warnings(mending, of_folders=of_folders):
        receiver.warned(message)
    raised: PackageNotFoundError | None = None
    try:
        if project.packages:
            yield
    except PackageNotFoundError as exc:
        raised = exc
        raise
    finally:
        for message in project.absences(raised):
            receiver.warned(message)


@contextmanager
def without_secrets(url: URL) -> Iterator[None]:
    """Remove the password of a URL from errors. If an error contained it, remove the causes of the error, too."""
    try:
        yield
    except AmphoError as exc:
        from ampho.database.url import redact

        words = all_words(exc)
        if redact(words, url) == words:
            raise
        exc.args = (redact(str(exc), url),)
        exc.__context__ = None
        raise exc from None
