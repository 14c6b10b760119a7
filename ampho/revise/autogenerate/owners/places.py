"""Finding the databases in which the tables of the models live, and comparing these with the binds of the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ampho._text import MULTIDB, listed
from ampho.errors import ConfigurationError
from ampho.migrate.project import each_metadata
from ampho.revise.autogenerate.owners.created import Created
from ampho.settings import DATABASES

if TYPE_CHECKING:
    from sqlalchemy import ForeignKey, MetaData, Table

    from ampho.migrate.project import Project
    from ampho.revise.autogenerate.owners.models import Models
    from ampho.revise.autogenerate.owners.ownership import Rules

_SHOWN = 5


class Places:
    """The databases in which the tables of all models of an app live.

    A table lives where its package lives. A table whose bind the configuration ignores lives in no database of Ampho.

    :ivar project: the project of one database.
    :ivar models: the models of all databases.
    :ivar rules: the owners that the app names explicitly.
    :ivar owners: the owners of the tables in the metadata.
    """

    def __init__(self, project: Project, models: Models, rules: Rules, created: Created) -> None:
        self.project = project
        self.models = models
        self.rules = rules
        self._whole = project.whole or project
        self._created = created
        self.owners: dict[Table, str] = {}
        for table in models.tables:
            if (owner := self._find_owner(table)) is not None:
                self.owners[table] = owner

    def _find_owner(self, table: Table) -> str | None:
        owner = self.rules.owner(table, "table", table.name, table.schema)
        owner = owner if owner is not None else self.models.owners.get(table) or self._created.tables.get(table.key)
        return owner if owner is not None or self.project.whole is None else self._created_anywhere.get(table.key)

    @cached_property
    def _created_anywhere(self) -> Mapping[str, str]:
        return Created.by(self._whole.graph).tables

    def is_here(self, table: Table) -> bool:
        """Return whether a table lives in the project's database. A table of no known database is in the first one."""
        if self.is_ignored(table):
            return False
        known = (*self._whole.homes.names, *self._whole.homes.groups)
        found = [name for name in self._databases(table) if name in known] or known[:1]
        return self.project.home in found

    def is_ignored(self, table: Table) -> bool:
        """Return whether the configuration ignores the bind of a table."""
        bind = self._bind(table)
        return bind is not None and self._whole.homes.ignores(bind)

    def check(self) -> None:
        """Check that packages live in the databases of their binds, and that no foreign key leads to another database.

        :raises ConfigurationError: otherwise.
        """
        for revision_id in self._created.multidb:
            raise ConfigurationError(f"The revision {revision_id} has a function for each bind, {MULTIDB}.")
        wrong: dict[tuple[str, str], list[str]] = {}
        for table, owner in {**self.models.elsewhere, **self.owners}.items():
            bind = self._bind(table)
            if not owner or bind is None or self.is_ignored(table):
                continue
            if not self._is_one_of(bind, self._whole.homes.of(owner)):
                wrong.setdefault((owner, bind), []).append(table.key)
        for (owner, bind), keys in wrong.items():
            raise ConfigurationError(self._wrong_bind(owner, bind, sorted(keys)), setting=DATABASES.name)
        if self._whole.has_several_databases or any(map(self.is_ignored, self.owners)):
            self._check_keys()

    def _check_keys(self) -> None:
        for table, owner in self.owners.items():
            for key in table.foreign_keys if owner else ():
                target = self._target(key)
                there = self._databases(target) if target is not None else ()
                for name in self._databases(table) if there else ():
                    if target is not None and not self._is_one_of(name, there) and not self._is_schema(name, target):
                        raise ConfigurationError(
                            f"The table {table.key} of {owner}, which is in the database {name}, has a foreign key to"
                            f" the table {target.key}{_of(self.owners.get(target))}, which is in the database"
                            f" {', '.join(there)}. A foreign key cannot lead to another database. Remove the"
                            " ForeignKey, and give relationships a primaryjoin with foreign(); or let both packages"
                            f" live in one database, in {DATABASES}."
                        )

    def _is_schema(self, name: str, target: Table) -> bool:
        """Return whether the databases of a group may be schemas, from which foreign keys may lead to other schemas."""
        return name in self._whole.homes.groups and target.schema is not None

    def _target(self, key: ForeignKey) -> Table | None:
        """Return the table that a foreign key references, even if it is in the metadata of another bind."""
        from sqlalchemy.exc import NoReferenceError

        try:
            return key.column.table
        except NoReferenceError:
            name = key.target_fullname.rpartition(".")[0]
            return next((table for table in self.owners if table.key == name), None)

    def _bind(self, table: Table) -> str | None:
        return table.metadata.info.get("bind_key") or self._whole.bind_keys.get(id(table.metadata))

    def _databases(self, table: Table) -> Sequence[str]:
        """Return the databases in which a table lives, or a bind in which no package lives; empty if unknown."""
        bind, homes = self._bind(table), self._whole.homes
        if bind is not None and homes.ignores(bind):
            return (bind,)
        if owner := self.owners.get(table) or self.models.elsewhere.get(table):
            return homes.of(owner)
        if bind is None:
            return ()
        return [name for name in homes.names if self._whole.is_same(bind, name)] or (bind,)

    def _is_one_of(self, name: str, databases: Sequence[str]) -> bool:
        return any(self._whole.is_same(name, each) for each in databases)

    def _wrong_bind(self, package: str, bind: str, keys: Sequence[str]) -> str:
        """Return the error for tables whose package does not live in the database of their bind."""
        homes = self._whole.homes.of(package)
        every = {**self.models.elsewhere, **self.owners}
        binds = {self._bind(table) for table, owner in every.items() if owner == package}
        lines: Mapping[str, Sequence[str]] = self._whole.settings.databases
        if binds == {bind}:
            remedy = f"Write {_line(_with(_without(lines, package), bind, package))}"
        else:
            for name in homes:
                lines = _with(lines, name, package)
            remedy = (
                f"A package has all its tables in each database in which it lives: move the models of {bind} to a"
                f" package of their own, or write {_line(_with(lines, bind, package))} for all tables in both"
            )
        several = len(keys) > 1
        return (
            f"The table{'s' if several else ''} {listed(keys, _SHOWN)} of {package} use{'' if several else 's'} the"
            f' bind {bind}, but {package} lives in {", ".join(homes)}. {remedy}; or write "{bind}": [] there if Ampho'
            f" does not migrate {bind}."
        )


def other_metadata(whole: Project, given: Sequence[MetaData]) -> Iterator[MetaData]:
    """Yield the metadata of the app's binds that is not among the given metadata."""
    for key, each in whole.models().items():
        for metadata in each_metadata([each]) if key is not None else ():
            if not any(metadata is one for one in given):
                yield metadata


def _with(lines: Mapping[str, Sequence[str]], database: str, package: str) -> dict[str, Sequence[str]]:
    """Return the value of ``AMPHO_DATABASES`` with a package added to a database."""
    entries = lines.get(database, ())
    known = package in map(_name, entries)
    return {**lines, database: entries if known else (*entries, package)}


def _without(lines: Mapping[str, Sequence[str]], package: str) -> dict[str, Sequence[str]]:
    """Return the value of ``AMPHO_DATABASES`` without a package. No list becomes empty, which has another meaning."""
    kept = {name: [each for each in entries if _name(each) != package] for name, entries in lines.items()}
    return {name: entries for name, entries in kept.items() if entries or not lines[name]}


def _line(lines: Mapping[str, Sequence[str]]) -> str:
    shown = {name: list(entries) for name, entries in lines.items()}
    return f'app.config["{DATABASES}"] = {shown}'.replace("'", '"')


def _name(entry: str) -> str:
    return entry.partition(":")[0].strip()


def _of(owner: str | None) -> str:
    return f" of {owner}" if owner else ""
