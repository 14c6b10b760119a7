"""The migrations of an app, or of one of its databases: the packages, their graph, the host, and Alembic's options.

Each command makes a new :class:`Project`, because the files may have changed. A command that uses a database works on
the part of the project that belongs to this database; see :meth:`Project.of`.
"""

from __future__ import annotations

import operator
import sys
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

from ampho._text import counted, describe, did_you_mean, listed, shown_path
from ampho.database.journal import backfill_table, source_table
from ampho.errors import (
    ConfigurationError,
    DatabaseNameError,
    MigrationsFolderError,
    PackageNotFoundError,
    SpecifierError,
)
from ampho.history.files import unread_folders
from ampho.history.graph import Branch, Graph
from ampho.history.homes import ANY, Homes, is_pattern, matches
from ampho.history.host import TEMPLATES, Hosts, is_pristine
from ampho.history.package import RESERVED, SETTING, MigrationPackage, find_package
from ampho.history.phases import Phases
from ampho.history.replaced import Replaced
from ampho.history.revision import Phase, read_replaced, read_revisions
from ampho.history.specifier import find_target, parse
from ampho.settings import DATABASES, DEFAULT_DATABASE, PHASES, VERSION_TABLES, OwnTable, Settings, own_table

if TYPE_CHECKING:
    from pathlib import Path

    from alembic.config import Config
    from sqlalchemy import MetaData, Table
    from sqlalchemy.engine import URL

_NO_PACKAGE = (
    f'No package with migrations is configured. List the packages, for example with app.config["{SETTING}"] = ["blog"],'
    " and create a migrations folder for each with 'ampho db-init PACKAGE'."
)


_REMEMBERED = 32


@dataclass(frozen=True, slots=True)
class Member:
    """A database of a group.

    :ivar name: its name, such as ``tenants/acme``.
    :ivar url: its URL, as the app's function listed it; None if it is in the database ``default``.
    :ivar schema: the PostgreSQL schema that is the database.
    """

    name: str
    url: str | URL | None = field(default=None, repr=False)
    schema: str | None = None


class Part(NamedTuple):
    """What a project needs to know about one of its databases.

    :ivar url: the URL of the database.
    :ivar metadata: the tables of the models that may belong to the database.
    :ivar options: more arguments for Alembic's ``context.configure()``.
    """

    url: URL
    metadata: MetaData | Sequence[MetaData] | None
    options: Mapping[str, object]


def metadata_of(
    metadatas: Mapping[str | None, MetaData | Sequence[MetaData]],
    homes: Homes,
    database: str,
    is_same: Callable[[str, str], bool],
) -> MetaData | Sequence[MetaData] | None:
    """Return the metadata with tables that may belong to a database.

    These are the tables without a bind, the tables with this bind or another name for the same database, and those of
    packages that live in several databases.

    :param metadatas: the metadata of all models, by bind key.
    :param is_same: as for :class:`Project`.
    """
    also = {name for package in homes.packages_in(database) for name in homes.of(package)}
    also.add(homes.home(database))
    found = {
        key: each
        for key, each in metadatas.items()
        if key is None or key in also or (not homes.ignores(key) and is_same(key, database))
    }
    if len(found) == 1:
        return next(iter(found.values()))
    return [*each_metadata(found.values())] or None


def each_metadata(items: Iterable[MetaData | Sequence[MetaData]]) -> Iterator[MetaData]:
    """Yield each metadata in lists and outside of them."""
    for item in items:
        yield from item if isinstance(item, Sequence) else (item,)


@dataclass(frozen=True, eq=False)
class Project:
    """The migrations of one app, or the part of them that belongs to one database.

    :ivar packages: the packages, in order: all configured ones, or those that live in the database.
    :ivar database: the name of the database.
    :ivar homes: the databases in which packages live.
    :ivar whole: the project of the app that this one is a part of; None if this is the whole.
    :ivar part: returns the part of a database.
    :ivar list_members: lists the databases of a group one by one, by the name of the group.
    :ivar member: the database of a group that this part belongs to; None for any other database.
    :ivar models: returns the tables of all models of the app, by bind key.
    :ivar is_same: returns whether two binds have the same address, so that they are two names for one database.
    :ivar address: returns a value that is equal for databases whose URLs lead to the same one, and the schema that a
        URL selects; None if nothing is known about them.
    :ivar owner_hooks: the functions of the app that name the owners of tables and other objects.
    :ivar app: the app itself, which sends the signals.
    :ivar settings: the settings of the app.
    :ivar not_installed: the errors for packages that are listed but not installed, by package name.
    :ivar import_name: the import name of the app.
    :ivar metadata: the tables of the models that may belong to the database, for ``target_metadata``.
    :ivar options: more arguments for Alembic's ``context.configure()``.
    :ivar configure: changes Alembic's ``Config``, as Flask-Migrate's callbacks do.
    :ivar url: the URL of the database.
    :ivar template: the name of the template for a new ``env.py``: ``sync`` or ``aio``.
    :ivar find_packages: finds the packages again, after a command has created a folder.
    """

    packages: tuple[MigrationPackage, ...]
    url: URL
    template: str
    metadata: MetaData | Sequence[MetaData] | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    configure: Callable[[Config], Config] | None = None
    import_name: str = ""
    settings: Settings = field(default_factory=partial(Settings, {}, {}))
    not_installed: Mapping[str, PackageNotFoundError] = field(default_factory=dict)
    find_packages: Callable[[], tuple[MigrationPackage, ...]] | None = None
    app: object | None = None
    database: str = DEFAULT_DATABASE
    homes: Homes = field(default_factory=partial(Homes, ()))
    whole: Project | None = None
    part: Callable[[str | Member], Part] | None = None
    list_members: Callable[[str], Generator[Member]] | None = None
    member: Member | None = None
    models: Callable[[], Mapping[str | None, MetaData | Sequence[MetaData]]] = dict
    is_same: Callable[[str, str], bool] = operator.eq
    address: Callable[[str | Member], tuple[Hashable, str] | None] = lambda database: None
    owner_hooks: Sequence[Callable[[object, str, str], str | None]] = ()
    _graphs: dict[str, Graph] = field(default_factory=dict[str, Graph], init=False, repr=False)
    _members: OrderedDict[str, Member] = field(default_factory=OrderedDict[str, Member], init=False, repr=False)
    _parts: dict[str, Project] = field(default_factory=dict[str, "Project"], init=False, repr=False)

    @cached_property
    def graph(self) -> Graph:
        """The graph of all packages, read on first use.

        :raises MigrationsFolderError: if a folder that the configuration names is missing.
        :raises HistoryError: if the files do not form a valid graph.
        """
        if self.whole is not None:
            return self.whole.graph_of(self.home)
        for package in self.packages:
            package.check_present()
        names = [package.name for package in self.packages]
        revisions = (revision for package in self.packages for revision in read_revisions(package))
        replaced = Replaced(partial(read_replaced, self.packages))
        kept = {name: table.name for name, table in self.version_tables.items() if table.keep}
        return Graph(revisions, names, self.not_installed, replaced, kept)

    @cached_property
    def phases(self) -> Phases:
        """The phases of revisions.

        :raises ConfigurationError: if the setting names neither a package nor a revision.
        """
        whole = self.whole or self
        known = [*(package.name for package in whole.packages), *whole.not_installed, *whole.graph.ids]
        for name in self.settings.phases:
            if name not in known:
                remedy = did_you_mean(name, known) or "Use the name of a package, or the id of a revision."
                raise ConfigurationError(
                    f"{PHASES} contains {name!a}, which is neither a package nor a revision. {remedy}",
                    setting=PHASES.name,
                )
        return Phases({name: Phase(phase) for name, phase in self.settings.phases.items()})

    @cached_property
    def version_tables(self) -> Mapping[str, OwnTable]:
        """The version tables that packages have of their own, by package.

        :raises ConfigurationError: if the setting names a package or a table wrongly.
        """
        if not (setting := self.settings.version_tables):
            return {}
        names = [*(package.name for package in self.packages), *self.not_installed]
        if self.whole is not None:
            return {name: table for name, table in self.whole.version_tables.items() if name in names}
        if callable(setting):
            return dict(self._called(setting, names))
        for name in setting.keys() - {*names}:
            if guess := did_you_mean(name, {*names} - setting.keys()):
                raise ConfigurationError(
                    f"{VERSION_TABLES} names {name!r}, which is not a listed package. {guess}",
                    setting=VERSION_TABLES.name,
                )
        return {name: table for name in names if (table := setting.get(name)) is not None}

    def _called(self, function: Callable[[str], object], names: Iterable[str]) -> Iterator[tuple[str, OwnTable]]:
        for name in names:
            try:
                table = own_table(function(name))
            except Exception as exc:
                raise ConfigurationError(
                    f"The function in {VERSION_TABLES} fails for {name}, or returns neither None, a name, nor a"
                    f" dictionary with table and keep: {describe(exc)}",
                    setting=VERSION_TABLES.name,
                ) from exc
            if table is not None:
                yield name, table

    @property
    def own_tables(self) -> frozenset[str]:
        """The names of the journal's tables and of the version tables of packages, which may not be listed."""
        tables, setting = (self.whole or self).version_tables, self.settings.version_tables
        listed = () if callable(setting) else filter(None, setting.values())
        journal = self.settings.journal_table
        own = (journal, source_table(journal), backfill_table(journal)) if journal else ()
        return frozenset([*own, *(each.name for each in (*listed, *tables.values()))])

    @property
    def keeps_sources(self) -> bool:
        """Whether the journal keeps the sources of applied revisions."""
        setting = self.settings.journal_source
        return bool(getattr(self.app, "debug", False)) if setting is None else setting

    def graph_of(self, home: str) -> Graph:
        """Return the graph of the packages that live in a database, or in each database of a group."""
        if home not in self._graphs:
            self._graphs[home] = self.graph.part(self.homes.packages_in(home))
        return self._graphs[home]

    def with_graph(self, graph: Graph) -> Project:
        """Return a project like this one with another graph of all packages, such as one with files elsewhere."""
        if self.whole is not None:
            return replace(self, whole=self.whole.with_graph(graph))
        found = replace(self)
        found.__dict__["graph"] = graph  # where the cached property keeps it
        return found

    def of(self, database: str | Member) -> Project:
        """Return the part of this project that belongs to a database.

        :raises DatabaseNameError: if a group does not have the database.
        :raises ConfigurationError: if the database has no valid URL.
        """
        name = database.name if isinstance(database, Member) else database
        if self.part is None or (self.homes.names == (name,) and not self.homes.groups):
            return self
        if name not in self._parts:
            given = self._member(database) if self.homes.home(name) in self.homes.groups else name
            if isinstance(given, Member):
                return self._part_of(name, given, self.part(given))
            self._parts[name] = self._part_of(name, given, self.part(given))
        return self._parts[name]

    def _member(self, database: str | Member) -> Member:
        if isinstance(database, Member):
            self._remember(database)
            return database
        if database not in self._members:
            with closing(self.members([database])) as found:
                self._remember(next(found))
        return self._members[database]

    def _remember(self, member: Member) -> None:
        """Remember the last databases of groups, so that they are not listed again if a command uses their names."""
        self._members[member.name] = member
        if len(self._members) > _REMEMBERED:
            self._members.popitem(last=False)  # in one operation, because a survey does this in several threads

    def _part_of(self, name: str, database: str | Member, part: Part) -> Project:
        names = self.homes.packages_in(name)
        return replace(
            self,
            packages=tuple(package for package in self.packages if package.name in names),
            not_installed={each: error for each, error in self.not_installed.items() if each in names},
            url=part.url,
            metadata=part.metadata,
            options=part.options,
            database=name,
            member=database if isinstance(database, Member) else None,
            whole=self,
        )

    @property
    def home(self) -> str:
        """The group of the database, if it belongs to one; otherwise, the name of the database."""
        return self.homes.home(self.database)

    @cached_property
    def has_several_databases(self) -> bool:
        """Whether the packages of the app live in several databases, or in groups of databases."""
        return self.homes.are_several

    def members(self, names: Iterable[str]) -> Generator[Member]:
        """Yield the databases of groups that names or patterns such as ``tenants/a*`` select, one by one.

        Close the generator if you do not read all of them.

        :raises DatabaseNameError: if one of the names or patterns selects no database, or if two selected databases, or
            one and a database that is not in a group, have the same address.
        """
        wanted = tuple(names)
        for group in (group for group in self.homes.groups if any(self.homes.home(name) == group for name in wanted)):
            own = [name for name in wanted if self.homes.home(name) == group]
            exact = {name for name in own if not is_pattern(name)}
            patterns = [name for name in own if is_pattern(name)]
            left = {*own} - {f"{group}/{ANY}"}
            if self.list_members is None:
                return
            with closing(self.list_members(group)) as found:
                for member in found:
                    fitting = [name for name in patterns if matches(member.name, name)]
                    if fitting or member.name in exact:
                        left.difference_update(fitting, [member.name])
                        self._check_distinct(member)
                        yield member
                        if not left and not patterns:
                            break
            for name in own:
                if name in left:
                    raise self._unknown(group, name)

    def _check_distinct(self, member: Member) -> None:
        """Raise an error if a database of a group is another one by another name: two graphs would share its rows."""
        if (place := self._place(member)) is None:
            return
        other = self._places.setdefault(place, member.name)
        if other != member.name:
            raise DatabaseNameError(
                f"{other} and {member.name} are two names for one database. Give each database of a group a URL or a"
                " schema of its own.",
                database=member.name,
            )

    @cached_property
    def _places(self) -> dict[int, str]:
        """The databases that are not in a group, and those that this command listed."""
        places = {self._place(name): name for name in reversed(self.homes.names)}
        return {place: name for place, name in places.items() if place is not None}

    def _place(self, database: str | Member) -> int | None:
        """Return a small value for a database and its schema; None if nothing is known about its address."""
        member = database if isinstance(database, Member) else None
        if member and member.url is None and member.schema is None:  # which is an error, too
            return None
        try:
            found = self._default_address if member and member.url is None else self.address(database)
        except ConfigurationError:  # which is reported when the database is used
            return None
        return None if found is None else hash((found[0], (member and member.schema) or found[1]))

    @cached_property
    def _default_address(self) -> tuple[Hashable, str] | None:
        return self.address(DEFAULT_DATABASE)

    def _unknown(self, group: str, name: str) -> DatabaseNameError:
        if is_pattern(name):
            return DatabaseNameError(f"The group {group} has no database that matches {name}.", database=name)
        known = [member.name for member in self.members([f"{group}/{ANY}"])]
        remedy = did_you_mean(name, known) or f"It has {counted(len(known), 'database')}."
        if "?" in name or "[" in name:
            remedy = "In a pattern, only '*' has a meaning."
        return DatabaseNameError(f"The group {group} has no database {name}. {remedy}", database=name)

    def each_of(self, names: Iterable[str]) -> Generator[str]:
        """Yield the names of single databases, with those that patterns such as ``tenants/*`` select, one by one."""
        wanted = tuple(names)
        if not self.homes.stands_for_several(wanted):
            yield from wanted  # of() lists the group, if necessary
            return
        yield from (name for name in wanted if self.homes.home(name) not in self.homes.groups)
        with closing(self.members(name for name in wanted if self.homes.home(name) in self.homes.groups)) as found:
            for member in found:
                self._remember(member)
                yield member.name

    def databases(self, names: str | Iterable[str] | None = None, packages: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the names of databases, and patterns such as ``tenants/*`` for databases of groups.

        :param names: the names that the user typed; by default, all that are not in a group.
        :param packages: packages, specifiers, or revisions; by default, all packages.
        :raises DatabaseNameError: if a name is not known, or a package does not live in the databases.
        """
        found = self.homes.select(names)
        if not self.homes.are_several:
            return found
        if not found:
            raise self._lives_elsewhere(["Every package"], self.homes.groups, ())
        living = dict.fromkeys(name for each in packages for name in self.homes_of(each))
        if living and not set(map(self.homes.home, found)) & set(living):
            raise self._lives_elsewhere(packages, living, found if names is not None else ())
        return tuple(name for name in found if not living or self.homes.home(name) in living)

    def _lives_elsewhere(
        self, packages: Iterable[str], living: Iterable[str], found: Sequence[str]
    ) -> DatabaseNameError:
        homes = self._named(living)
        if found:
            text = f"lives in {', '.join(homes)}, not in {', '.join(found)}. Name that database, or change {DATABASES}."
            return DatabaseNameError(f"{', '.join(packages)} {text}", database=found[0])
        group = next(iter(living))
        return DatabaseNameError(
            f"{', '.join(packages)} lives in {', '.join(homes)}. Add --database {group}/NAME for one of its databases,"
            f" or --database {group} for all of them.",
            database="",
        )

    def _named(self, homes: Iterable[str]) -> list[str]:
        return [f"the group {name}" if name in self.homes.groups else name for name in homes]

    def by_first_home(self, packages: Sequence[str], names: str | Iterable[str] | None) -> dict[str, list[str]]:
        """Return packages by the first database in which each lives; without packages, all packages.

        Of a group that is selected, this is the first database.

        :param names: the names of databases, one of which each of the packages has to live in; by default, all.
        :raises DatabaseNameError: as for :meth:`databases`.
        """
        databases: dict[str, str] = {}
        for name in self.databases(names, packages):
            databases.setdefault(self.homes.home(name), name)
        found: dict[str, list[str]] = {home: [] for home in databases}
        for package in packages or [package.name for package in self.packages]:
            homes = self.homes_of(package) if self.homes.are_several else tuple(found)
            if packages and found.keys().isdisjoint(homes):
                self.databases(names, [package])  # raises the error
            for home in [each for each in homes if each in found][:1]:
                found[home].append(package)
        used = {home: own for home, own in found.items() if own} or dict([*found.items()][:1])
        return {self.one_of(databases[home]): own for home, own in used.items()}

    def one_of(self, name: str) -> str:
        """Return the first database that a name or a pattern selects, or the name itself if there is none."""
        with closing(self.each_of([name])) as found:
            return next(found, name)

    def homes_of(self, name: str) -> tuple[str, ...]:
        """Return the databases and groups in which a package, or the package of a specifier or a revision, lives."""
        every = (*self.homes.names, *self.homes.groups)
        spec = parse(name)
        branch = spec.branch or spec.target
        if branch in self.homes.packages:
            return self.homes.of(branch)
        if not branch or branch in RESERVED:
            return every
        with suppress(SpecifierError):
            found = find_target(self.graph, spec)
            package = found.package if isinstance(found, Branch) else self.graph[found].package
            return self.homes.of(package)
        return every

    def living_here(self, packages: Iterable[str]) -> tuple[str, ...]:
        """Return those of the packages, or of the packages of revisions, that live in the database of this part."""
        whole = self.whole
        return tuple(each for each in packages if whole is None or self.home in whole.homes_of(each))

    def needed_elsewhere(self, revision_id: str) -> tuple[tuple[str, str], ...]:
        """Return the revisions in other databases on which a revision depends directly: their databases and ids.

        Databases of groups are left out.
        """
        if self.whole is None:
            return ()
        graph, names = self.whole.graph, self.homes.names
        needed = [rid for rid in graph.parents(revision_id) if rid not in self.graph] if revision_id in graph else []
        return tuple((name, rid) for rid in needed for name in self.homes.of(graph[rid].package) if name in names)

    def depends_on(self, home: str, database: str) -> bool:
        """Return whether a revision of a database or a group depends directly on one in another database."""
        graph = self.graph_of(home)
        needed = {rid for each in graph.ids for rid in self.graph.parents(each) if rid not in graph}
        return any(database in self.homes.of(self.graph[rid].package) for rid in needed)

    def package(self, name: str) -> MigrationPackage:
        """Return the configured package with a given name.

        :raises PackageNotFoundError: if no configured package has that name.
        """
        for package in self.packages:
            if package.name == name:
                return package
        self._check_installed(name)
        find_package(name, [package.name for package in self.packages])
        raise PackageNotFoundError(f"{name} is not a configured package. {self.setting_hint(name)}", package=name)

    def is_configured_now(self, name: str) -> bool:
        """Return whether a package is configured now, as the app's own package is once it has a migrations folder."""
        packages = self.find_packages() if self.find_packages else self.packages
        return any(package.name == name for package in packages)

    def setting_hint(self, entry: str) -> str:
        """Return a sentence that says how to list one more package."""
        entries = [*(package.entry for package in (self.whole or self).packages), entry]
        quoted = ", ".join(f'"{each}"' for each in entries)
        in_config = f'Set app.config["{SETTING}"] to [{quoted}]'
        if SETTING in getattr(self.app, "config", ()):  # which takes precedence
            return f"{in_config}."
        return f"{in_config}, or set {SETTING}={','.join(entries)} in the environment."

    def check_specifier(self, specifier: str | None) -> None:
        """Raise an error if a specifier is malformed, or names a package without a migrations folder."""
        if specifier is not None:
            spec = parse(specifier)
            self.check_addressed(spec.branch or spec.target)

    def check_migratable(self, specifier: str | None) -> None:
        """Check a specifier, and check that packages are configured; a deployment without packages must fail."""
        if not self.packages:
            for error in self.not_installed.values():
                raise error
            raise ConfigurationError(_NO_PACKAGE, setting=SETTING)
        self.check_specifier(specifier)

    def check_addressed(self, name: str) -> None:
        """Raise an error if a package is listed but not installed, or has no migrations folder."""
        self._check_installed(name)
        for package in self.packages:
            if package.name == name and not package.exists:
                raise MigrationsFolderError(
                    f"{name} has no migrations folder, {shown_path(package.folder)}. Create it with 'ampho db-init"
                    f" {name}'.",
                    package=name,
                    path=package.folder,
                )

    def beginning(self, name: str) -> str:
        """Return a clause that says how a package can get its first revision."""
        package = self.package(name)
        if package.installed:
            return "it is installed, so its own project has to write them"
        if not package.exists:
            return f"create its migrations folder with 'ampho db-init {package.entry}'"
        return f"write the first with 'ampho db-rev {name} MESSAGE'"

    def _check_installed(self, name: str) -> None:
        if name in self.not_installed:
            raise self.not_installed[name]

    @cached_property
    def hosts(self) -> Hosts:
        """The packages of the app, and which of them is the host."""
        if self.whole is not None:
            return self.whole.hosts
        return Hosts(self.packages, self.settings.env_package, self.import_name)

    @property
    def host(self) -> MigrationPackage | None:
        """The package whose ``env.py`` configures every run; None if the built-in ``env.py`` does.

        :raises ConfigurationError: if ``AMPHO_ENV_PACKAGE`` names a package that cannot be the host.
        """
        return self.hosts.host

    @property
    def env_folder(self) -> Path:
        """The folder of the ``env.py`` that configures every run."""
        return self.host.folder if self.host else TEMPLATES / self.template

    @cached_property
    def is_env_pristine(self) -> bool:
        """Whether ``env.py`` is unchanged since ``db-init``, so that its configuration is known without running it."""
        if self.whole is not None:
            return self.whole.is_env_pristine
        return self.host is None or is_pristine(self.host)

    def warnings(self, mending: str | None = None, *, of_folders: bool = True) -> Iterator[str]:
        """Yield warnings about the configuration and the revisions.

        :param mending: the package whose parallel heads need no warning, because the command joins them.
        :param of_folders: whether to warn about packages without a migrations folder.
        :raises HistoryError: if the files do not form a valid graph.
        """
        if not self.packages and not self.not_installed:
            yield _NO_PACKAGE
        yield from self.unread()
        if skipped := self.hosts.warning(TEMPLATES / self.template / "env.py"):
            yield skipped
        for package in self.packages:
            if not package.exists and package.installed:
                lacking = shown_path(package.folder)
                yield f"{package.name} is installed without its migrations: its distribution lacks {lacking}."
            elif of_folders and not package.exists and not package.named:
                yield f"{package.name} has no migrations folder. Create it with 'ampho db-init {package.name}'."
            if package.name != mending and (conflict := self.conflict(package)):
                yield conflict

    def misplaced(self) -> Iterator[str]:
        """Yield a warning for each package whose loaded models have a bind in which the package does not live.

        This imports no models, and leaves out tables whose owners the app names, so ``db-check`` may find more.
        """
        binds = {} if self.owner_hooks else self.bind_keys
        found: dict[Table, set[str]] = {}
        for package, table in self._loaded_tables() if binds else ():
            if id(table.metadata) in binds and not self._names_owner(table):
                found.setdefault(table, set()).add(package)
        wrong = {(binds[id(table.metadata)], *owners) for table, owners in found.items() if len(owners) == 1}
        for bind, package in sorted(wrong):
            homes = self.homes.of(package)
            if not self.homes.ignores(bind) and not any(self.is_same(bind, home) for home in homes):
                yield (
                    f"{package} has models with the bind {bind}, but its migrations run in"
                    f" {', '.join(self._named(homes))}. 'ampho db-check' shows what to write in {DATABASES}."
                )

    def _names_owner(self, table: Table) -> bool:
        """Return whether the app may name the owner of a table."""
        keys = (table.key, table.name)
        return bool(table.info) or any(fnmatchcase(key, each) for each in self.settings.owners for key in keys)

    def _loaded_tables(self) -> Iterator[tuple[str, Table]]:
        """Yield the tables of mapped classes in the imported modules of the packages, each with its package."""
        names = sorted((package.name for package in self.packages), key=len, reverse=True)
        for name, module in [*sys.modules.items()]:
            package = next((each for each in names if f"{name}.".startswith(f"{each}.")), None)
            if package is None:
                continue
            for value in [*getattr(module, "__dict__", {}).values()]:
                if isinstance(value, type) and value.__module__ == name and "__mapper__" in vars(value):
                    table = vars(value).get("__table__")
                    if table is not None and hasattr(table, "metadata"):
                        yield package, table

    @cached_property
    def bind_keys(self) -> dict[int, str]:
        """The binds of metadata that the app uses for one bind only, by the identity of the metadata."""
        found: dict[int, set[str | None]] = {}
        for key, each in self.models().items():
            for metadata in each_metadata([each]):
                found.setdefault(id(metadata), set()).add(key)
        return {name: key for name, keys in found.items() if len(keys) == 1 for key in keys if key is not None}

    def absences(self, raised: PackageNotFoundError | None) -> Iterator[str]:
        """Yield a warning for each listed package that is not installed.

        :param raised: the error that ends the command; this error needs no warning.
        """
        for error in self.not_installed.values():
            if error is not raised:
                yield f"{error} Or remove it there."

    def unread(self) -> Iterator[str]:
        """Yield a warning for each package with folders of revision files that Ampho does not read.

        :raises HistoryError: if the files do not form a valid graph.
        """
        for package in self.packages:
            folders = unread_folders(package)
            if not folders:
                continue
            entry = package.entry if package.named else f"{package.name}:{package.folder.name}"
            remedy = f"To read them, too, write {entry}/** in {SETTING}"
            if not package.installed:
                remedy += f", or recursive_version_locations = true in {shown_path(package.folder / 'alembic.ini')}"
            if not self.graph.of_package(package.name):
                remedy += f"; to read only one of them, write {entry}/{folders[0]}"
            if not package.installed:
                remedy += ". To ignore them without this warning, write recursive_version_locations = false"
            yield (
                f"{package.name} has revision files that are not read, in folders inside {shown_path(package.folder)}:"
                f" {listed(folders)}. {remedy}."
            )

    def conflict(self, package: MigrationPackage) -> str:
        """Return which parallel heads a package has, and what to do about them; empty if it has none."""
        heads = self.graph.parallel_heads(package.name)
        if not heads:
            return ""
        remedy = f"Merge them with 'ampho db-merge {package.name}'"
        if package.installed:
            remedy = "It is installed, so they have to be merged in its own project"
        elif len(heads) == 2:
            remedy += f", or move the later one on top of the other with 'ampho db-rebase {package.name}'"
        files = " and ".join(f"{head} ({shown_path(self.graph[head].path)})" for head in heads)
        return f"{package.name} has {len(heads)} parallel heads: {files}. {remedy}."
