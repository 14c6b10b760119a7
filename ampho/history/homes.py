"""Which packages live in which databases, and which databases a name or a pattern selects.

This is configuration, not history: no revision file says where its package lives, so a package can be moved without
changing a file or an id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ampho._text import did_you_mean
from ampho.errors import DatabaseNameError
from ampho.settings import DATABASES, DEFAULT_DATABASE

ANY = "*"
"""Stands for any characters in the name of a database that a user types; alone, for all databases."""


@dataclass(frozen=True)
class Homes:
    """The databases in which packages live.

    :ivar packages: the names of all packages, in order, including packages that are not installed.
    :ivar listed: the packages that the configuration assigns to each database; the others live in ``default``.
    :ivar groups: the packages that live in each database of a group, by the name of the group.
    """

    packages: Sequence[str]
    listed: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The databases in which packages live, ``default`` first, without groups.

        Without any packages, this is only ``default``.
        """
        if self._all_in_default:
            return (DEFAULT_DATABASE,)
        used = dict.fromkeys(database for package in self.packages for database in self.of(package))
        names = tuple(name for name in dict.fromkeys((DEFAULT_DATABASE, *self.listed)) if name in used)
        return names if names or self.groups else (DEFAULT_DATABASE,)

    @property
    def _all_in_default(self) -> bool:
        return not self.listed and not self.groups

    @property
    def are_several(self) -> bool:
        """Whether the packages live in several databases, or in groups of databases."""
        return len(self.names) > 1 or bool(self.groups)

    def of(self, package: str) -> tuple[str, ...]:
        """Return the databases and groups in which a package lives."""
        return self._of.get(package, (DEFAULT_DATABASE,))

    @cached_property
    def _of(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for database, packages in (*self.listed.items(), *self.groups.items()):
            for package in packages:
                found[package] = (*found.get(package, ()), database)
        return found

    def packages_in(self, database: str) -> tuple[str, ...]:
        """Return the packages that live in a database or in a group, in order."""
        if self._all_in_default:
            return tuple(self.packages) if database == DEFAULT_DATABASE else ()
        home = self.home(database)
        return tuple(package for package in self.packages if home in self.of(package))

    def home(self, database: str) -> str:
        """Return the group of a database such as ``tenants/acme``; for any other database, its own name."""
        group = database.partition("/")[0]
        return group if group in self.groups else database

    def ignores(self, bind: str) -> bool:
        """Return whether the configuration says, with an empty list, that Ampho does not migrate a bind."""
        return bind in self.listed and not self.listed[bind]

    def select(self, names: str | Iterable[str] | None) -> tuple[str, ...]:
        """Return the names of databases in the order of :attr:`names`, and after them those of groups.

        A group, such as ``tenants``, is returned as the pattern ``tenants/*``.

        :param names: names and patterns, such as ``tenants/a*``; by default, all databases that are not in a group.
        :raises DatabaseNameError: if one of the names is not a database in which a package lives.
        """
        if names is None:
            return self.names
        wanted = dict.fromkeys(
            found for name in ((names,) if isinstance(names, str) else names) for found in self._select(name)
        )
        return tuple(sorted(wanted, key=self._position))

    def _position(self, name: str) -> int:
        return [*self.names, *self.groups].index(self.home(name))

    def _select(self, name: str) -> Sequence[str]:
        if name == ANY:
            return [*self.names, *(f"{group}/{ANY}" for group in self.groups)]
        if name in self.groups:
            return [f"{name}/{ANY}"]
        if name in self.names or (self.home(name) in self.groups and not name.endswith("/")):
            return [name]
        if found := [each for each in self.names if matches(each, name)]:
            return found
        raise DatabaseNameError(
            f"{name or repr(name)} is not a database in which a package lives. {self._remedy(name)}", database=name
        )

    def _remedy(self, name: str) -> str:
        """Return what to write instead of a name that is not known."""
        if guess := did_you_mean(name, [*self.names, *self.groups]):
            return guess
        listed = [*self.names, *(f"{group}/NAME" for group in self.groups)]
        known = f"The databases are {', '.join(listed)}." if self.are_several else f"The app has one, {listed[0]}."
        if self.groups and name and "/" not in name:
            of_group = f"{next(iter(self.groups))}/{name}"
            return f"{known} For {'databases' if is_pattern(name) else 'one'} of a group, write '{of_group}'."
        return f"{known} To add one, list its packages in {DATABASES}."

    def select_groups(self, names: str | Iterable[str] | None) -> bool:
        """Return whether names stand for several databases, among them databases of groups."""
        found = self.select(names)
        return self.stands_for_several(found) and any(self.home(name) in self.groups for name in found)

    def stands_for_several(self, names: Sequence[str]) -> bool:
        """Return whether names from :meth:`select` stand for several databases, or for those of a group."""
        return len(names) > 1 or any(map(is_pattern, names))

    def select_one(self, name: str | None, command: str) -> str:
        """Return the name of one database, which may be left out if there is only one.

        :param command: the command that needs the name, for the error.
        :raises DatabaseNameError: if there are several databases and no name, or if the name is not known.
        """
        if name is None and self.are_several:
            listed = [*self.names, *(f"{group}/NAME" for group in self.groups)]
            raise DatabaseNameError(
                f"{command} works on one database, and the app has {'several' if self.groups else len(listed)}:"
                f" {', '.join(listed)}. Add --database, for example '--database {listed[0]}'.",
                database="",
            )
        found = self.select(name)
        if self.stands_for_several(found):
            example = f"{self.home(found[-1])}/NAME" if is_pattern(found[-1]) else found[-1]
            raise DatabaseNameError(
                f"{command} uses one database, and {name} stands for several. Name one of them, for example"
                f" '--database {example}'.",
                database=str(name),
            )
        return found[0]


def is_pattern(name: str) -> bool:
    """Return whether the name of a database stands for several."""
    return ANY in name


def matches(name: str, pattern: str) -> bool:
    """Return whether the name of a database matches a pattern, in which only ``*`` has a meaning."""
    return name == pattern or bool(re.fullmatch(".*".join(map(re.escape, pattern.split(ANY))), name))
