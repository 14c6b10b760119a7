"""Finding the package that owns a table or another object.

The owner is the first of these: the package that the table's ``info`` names; the package that the app's function or
``AMPHO_OWNERS`` names; the package of the table's model, or the package whose module defines the table; and the package
whose revisions created it.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeAlias

from ampho._text import describe, did_you_mean
from ampho.errors import ConfigurationError
from ampho.history.package import SETTING, MigrationPackage
from ampho.revise.autogenerate.owners.created import Created
from ampho.revise.autogenerate.owners.keys import join_key, split_key
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
            found = self.history.get(key) or self.present.tables.get(key)
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
    """Import the models of all packages, and return the owners of all tables.

    :param applied: the ids of the applied revisions; all by default.
    :raises ConfigurationError: if a module cannot be imported, the app names a package that is not listed, two tables
        have the same name, or a foreign key references a table without a model.
    """
    from ampho.revise.autogenerate.owners.models import Models

    import_models(project.packages)
    names = tuple(package.name for package in project.packages)
    rules = Rules(names, project.owner_hooks, project.settings.owners)
    every = list(metadata) if isinstance(metadata, Sequence) else [] if metadata is None else [metadata]
    with _without_collection():
        models = Models(names, every)
    models.check_names()
    created = Created.by(project.graph)
    is_whole = applied is None or all(revision_id in applied for revision_id in project.graph.ids)
    present = created if is_whole or applied is None else Created.by(project.graph, applied.__contains__)
    owners: dict[str, str] = {}
    for table in models.tables:
        owner = rules.owner(table, "table", table.name, table.schema)
        owner = owner if owner is not None else models.owners.get(table) or created.tables.get(table.key)
        if owner is not None:
            owners[table.key] = owner
    return Ownership(
        owners,
        created.tables,
        created.users,
        _references(models.tables, owners),
        tuple(sorted(table.key for table in models.tables if table.key not in owners)),
        {name: left for name, keys in models.elsewhere.items() if (left := _not_ignored(keys, rules))},
        {table.key: found for table in models.tables if (found := _columns(table, models, created))},
        rules,
        created,
        present,
    )


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
    return {**gone, **models.columns.get(table.key, {})}


def _not_ignored(keys: Iterable[str], rules: Rules) -> tuple[str, ...]:
    split = {key: split_key(key) for key in keys}
    return tuple(key for key, (schema, name) in split.items() if rules.owner(None, "table", name, schema) != IGNORED)


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
        has_models = (package.root / "models.py").is_file() or (package.root / "models" / "__init__.py").is_file()
        name = f"{package.name}.models" if has_models else package.name
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as exc:
            from ampho.revise.autogenerate.owners.models import two_models

            why = two_models(exc) or f"The models of {package.name} cannot be imported: {describe(exc)}."
            raise ConfigurationError(why) from exc
