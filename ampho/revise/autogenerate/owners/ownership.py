"""Finding the package that owns a table or another object.

The owner is the first of these: the package that the table's ``info`` names; the package that the app's function or
``AMPHO_OWNERS`` names; the package of the table's model, or the package whose module defines the table; and the package
whose revisions created it.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeAlias

from ampho._text import describe, did_you_mean
from ampho.errors import ConfigurationError
from ampho.history.package import SETTING, MigrationPackage
from ampho.migrate.project import each_metadata
from ampho.revise.autogenerate.owners.created import Created
from ampho.revise.autogenerate.owners.keys import join_key, split_key
from ampho.revise.autogenerate.owners.places import Places, other_metadata
from ampho.settings import OWNERS

if TYPE_CHECKING:
    from sqlalchemy import ForeignKey, MetaData, Table

    from ampho.migrate.project import Project
    from ampho.revise.autogenerate.owners.models import Models

INFO_KEY = "ampho_package"
"""The key in a table's ``info`` that names its package."""

IGNORED = ""
"""The owner of an object that Ampho ignores on purpose."""


OwnerHook: TypeAlias = Callable[[object, str, str], "str | None"]
"""A function that gets an object, its type, such as ``table``, and its name, and returns its package or None."""


@dataclass(frozen=True)
class Rules:
    """The owners that the app names explicitly.

    :ivar names: the names of the listed packages.
    :ivar hooks: the functions that are decorated with ``owner``.
    :ivar setting: the value of ``AMPHO_OWNERS``.
    """

    names: Sequence[str] = ()
    hooks: Sequence[OwnerHook] = ()
    setting: Mapping[str, str | None] = field(default_factory=dict[str, str | None])

    def owner(self, item: object, type_: str, name: str, schema: str | None = None) -> str | None:
        """Return the package that the app names for an object, ``IGNORED``, or None if it says nothing.

        :raises ConfigurationError: if the package is not listed.
        """
        stated = getattr(item, "info", {}).get(INFO_KEY) if type_ == "table" else None
        if stated is not None:
            return self._checked(stated, f"The info of the table {join_key(schema, name)} names {{}}")
        for hook in self.hooks:
            if (owner := hook(item, type_, name)) is not None:
                where = f"{getattr(hook, '__module__', '')}.{getattr(hook, '__qualname__', hook)}"
                return self._checked(owner, f"{where}() returns {{}} for the {type_} {name}")
        keys = (join_key(schema, name), name)
        patterns = [each for each in self.setting if any(fnmatchcase(key, each) for key in keys)]
        found = next((key for key in keys if key in self.setting), None) or next(iter(patterns), None)
        if found is None:
            return None
        return self._checked(self.setting[found] or IGNORED, f"{OWNERS} names {{}} for {found}")

    def _checked(self, owner: object, where: str) -> str:
        if isinstance(owner, str) and owner in (*self.names, IGNORED):
            return owner
        guess = did_you_mean(str(owner), self.names)
        remedy = guess or f"The listed packages are {', '.join(self.names)}."
        raise ConfigurationError(f"{where.format(repr(owner))}, which is not a listed package. {remedy}")


@dataclass(frozen=True)
class Ownership:
    """The owners of tables and other objects.

    The key of a table is its name, prefixed with its schema and a dot if it has one.

    :ivar models: the owners of the tables in the metadata.
    :ivar history: the owners of tables that revisions created, with or without a model.
    :ivar users: for each table, the packages whose revisions created a foreign key to it, even if the foreign key no
        longer exists, each with the referenced column.
    :ivar references: for each package with models, the packages that its foreign keys reference.
    :ivar unowned: the tables in the metadata without an owner.
    :ivar elsewhere: for each package, the tables of its models that are in other metadata.
    :ivar tables: the tables of the models that live in the database, by key; None if all of them do.
    :ivar away: the owners of the tables in the metadata that live in other databases.
    :ivar columns: for each table, the columns that do not belong to its owner, each with its own owner.
    :ivar rules: the owners that the app names.
    :ivar created: what the revisions create.
    :ivar present: what the applied revisions created.
    """

    models: Mapping[str, str]
    history: Mapping[str, str]
    users: Mapping[str, set[tuple[str, str]]]
    references: Mapping[str, frozenset[str]]
    unowned: tuple[str, ...] = ()
    elsewhere: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    tables: Mapping[str, Table] | None = None
    away: Mapping[str, str] = field(default_factory=dict[str, str])
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    rules: Rules = field(default_factory=Rules)
    created: Created = field(default_factory=Created)
    present: Created = field(default_factory=Created)
    _others: dict[str, str] = field(default_factory=dict[str, str])

    def owner(self, key: str) -> str | None:
        """Return the package that owns a table, ``IGNORED`` if Ampho ignores the table, or None without an owner."""
        if (known := self.models.get(key, self._others.get(key))) is not None:
            return known
        schema, name = split_key(key)
        found = None if key in self.unowned else self.rules.owner(None, "table", name, schema)
        if found is None:
            found = self.history.get(key) or self.present.tables.get(key) or self.away.get(key)
        if found is not None:
            self._others[key] = found
        return found

    def owners_in(self, key: str) -> set[str]:
        """Return the packages that own a table, or one of its columns."""
        return {owner for owner in (self.owner(key), *self.columns.get(key, {}).values()) if owner}

    def owner_of_column(self, key: str, column: str) -> str | None:
        """Return the package that owns a column, which may be the package of a single-table subclass."""
        return self.columns.get(key, {}).get(column) or self.owner(key)

    def users_of(self, key: str, column: str = "") -> set[str]:
        """Return the packages whose revisions created a foreign key to a table, or only to one of its columns."""
        return {package for package, target in self.users.get(key, ()) if column in ("", target)}

    def moved(self) -> dict[str, dict[str, str]]:
        """Return, for each package, the tables with models that another package created, each with that package."""
        found: dict[str, dict[str, str]] = {}
        for key, owner in sorted(self.models.items()):
            maker = self.history.get(key, owner)
            if maker != owner:
                found.setdefault(owner, {})[key] = maker
        return found

    def needed_by(self, package: str) -> set[str]:
        """Return the packages that a package's foreign keys reference, directly or indirectly."""
        found: set[str] = set()
        todo = [package]
        while todo:
            new = self.references.get(todo.pop(), frozenset()) - found
            found |= new
            todo += new
        return found

    def unseen_makers(self, package: str) -> list[str]:
        """Return the referenced packages with tables that their revisions create in a way that Ampho does not see."""
        unseen = {owner for key, owner in self.models.items() if key not in self.history}
        return sorted(self.references.get(package, frozenset()) & unseen)

    def first_of(self, packages: Iterable[str]) -> str | None:
        """Return the package on which all others depend; if there is none, the first in the app's list of packages."""
        found = [name for name in self.rules.names if name in packages]
        needed = [name for name in found if all(name in self.needed_by(other) for other in found if other != name)]
        return next(iter(needed or found), None)


def find_owners(
    project: Project, metadata: MetaData | Sequence[MetaData] | None, applied: Container[str] | None = None
) -> Ownership:
    """Import the models of all packages, and return the owners of the tables that live in the project's database.

    :param metadata: the tables that are compared; the other metadata of the app is only checked.
    :param applied: the ids of the applied revisions; all by default.
    :raises ConfigurationError: if a module cannot be imported, the app names a package that is not listed, two tables
        have the same name, a foreign key references a table without a model or in another database, or a package does
        not live in the database of its tables' bind.
    """
    given = [*each_metadata([] if metadata is None else [metadata])]
    created = Created.by(project.graph)
    places = _places(project, given, created)
    places.check()
    models, rules = places.models, places.rules
    is_given = set(map(id, given))
    here = {table for table in models.tables if places.is_here(table)}
    left = {
        table: owner for table, owner in places.owners.items() if table in here and id(table.metadata) not in is_given
    }
    compared = [table for table in models.tables if table in here and id(table.metadata) in is_given]
    models.check_names(compared)
    is_whole = applied is None or all(revision_id in applied for revision_id in project.graph.ids)
    present = created if is_whole or applied is None else Created.by(project.graph, applied.__contains__)
    owners = {table.key: places.owners[table] for table in compared if table in places.owners}
    return Ownership(
        owners,
        created.tables,
        created.users,
        _references(compared, owners),
        tuple(sorted(table.key for table in compared if table.key not in owners)),
        _by_package(left | {table: name for table, name in models.elsewhere.items() if places.is_here(table)}, rules),
        {table.key: table for table in compared},
        {
            table.key: IGNORED if places.is_ignored(table) else owner
            for table, owner in places.owners.items()
            if table not in here
        },
        {table.key: found for table in compared if (found := _columns(table, models, created))},
        rules,
        created,
        present,
    )


def find_references(project: Project, package: str) -> tuple[str, ...]:
    """Return the packages with revisions that the models of a package reference; none if the models are not valid."""
    with suppress(ConfigurationError):
        found = find_owners(project, project.metadata).references.get(package, frozenset())
        return tuple(name for name in project.graph.packages if name in found and project.graph.of_package(name))
    return ()


def find_places(project: Project) -> Places:
    """Import the models of all packages, and return the databases in which the app's tables live.

    :raises ConfigurationError: if a module cannot be imported, or the app names a package that is not listed.
    """
    whole = project.whole or project
    return _places(project, [*each_metadata(whole.models().values())], Created.by(project.graph))


def _places(project: Project, given: Sequence[MetaData], created: Created) -> Places:
    from ampho.revise.autogenerate.owners.models import Models

    whole = project.whole or project
    import_models(whole.packages)
    names = tuple(package.name for package in whole.packages)
    rules = Rules(names, project.owner_hooks, project.settings.owners)
    with _without_collection():
        models = Models(names, [*given, *other_metadata(whole, given)])
    return Places(project, models, rules, created)


def _by_package(tables: Mapping[Table, str], rules: Rules) -> dict[str, tuple[str, ...]]:
    """Return the keys of tables by package, without those that Ampho ignores."""
    found: dict[str, dict[str, None]] = {}
    for table, package in tables.items():
        if rules.owner(None, "table", table.name, table.schema) != IGNORED:
            found.setdefault(package, {})[table.key] = None
    return {package: tuple(keys) for package, keys in found.items()}


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause Python's garbage collector, which slows down the creation of many objects that stay alive."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _columns(table: Table, models: Models, created: Created) -> dict[str, str]:
    """Return the columns that subclasses or revisions of other packages added to a table, each with that package."""
    maker, added = created.tables.get(table.key), created.columns.get(table.key, {})
    gone = {column: package for column, package in added.items() if package != maker and column not in table.columns}
    return {**gone, **models.columns.get(table, {})}


def _references(tables: Iterable[Table], owners: Mapping[str, str]) -> dict[str, frozenset[str]]:
    references: dict[str, set[str]] = {}
    for table in tables:
        for key in table.foreign_keys if owners.get(table.key) != IGNORED else ():
            owner, target = owners.get(table.key), owners.get(_referred(key))
            if owner and target and owner != target:
                references.setdefault(owner, set()).add(target)
    return {owner: frozenset(targets) for owner, targets in references.items()}


def _referred(key: ForeignKey) -> str:
    from sqlalchemy.exc import NoReferenceError

    try:
        return str(key.column.table.key)
    except NoReferenceError as exc:
        raise ConfigurationError(
            f"The column {key.parent} references {key.target_fullname}, which does not exist in any model. Correct the"
            f" foreign key, or add the package that defines this table to {SETTING}."
        ) from exc


def import_models(packages: Iterable[MigrationPackage]) -> None:
    """Import each package, or its ``models`` module if there is one.

    :raises ConfigurationError: if a module cannot be imported.
    """
    for package in packages:
        beside = (package.root / "models.py", package.root / "models" / "__init__.py")
        has_models = not package.is_module and any(each.is_file() for each in beside)
        name = f"{package.name}.models" if has_models else package.name
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as exc:
            from ampho.revise.autogenerate.owners.models import two_models

            why = two_models(exc) or f"The models of {package.name} cannot be imported: {describe(exc)}."
            raise ConfigurationError(why) from exc
