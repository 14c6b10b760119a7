"""Which packages live in which databases.

This is configuration, not history: no revision file says where its package lives, so a package can be moved without
changing a file or an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ampho._text import did_you_mean
from ampho.errors import DatabaseNameError
from ampho.settings import DATABASES, DEFAULT_DATABASE


@dataclass(frozen=True)
class Homes:
    """The databases in which packages live.

    :ivar packages: the names of all packages, in order, including packages that are not installed.
    :ivar listed: the packages that the configuration assigns to each database; the others live in ``default``.
    """

    packages: Sequence[str]
    listed: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The databases in which packages live, ``default`` first. Without any packages, only ``default``."""
        used = dict.fromkeys(database for package in self.packages for database in self.of(package))
        return tuple(name for name in (DEFAULT_DATABASE, *self.listed) if name in used) or (DEFAULT_DATABASE,)

    def of(self, package: str) -> tuple[str, ...]:
        """Return the databases in which a package lives."""
        return self._of.get(package, (DEFAULT_DATABASE,))

    @cached_property
    def _of(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for database, packages in self.listed.items():
            for package in packages:
                found[package] = (*found.get(package, ()), database)
        return found

    def packages_in(self, database: str) -> tuple[str, ...]:
        """Return the packages that live in a database, in order."""
        return tuple(package for package in self.packages if database in self.of(package))

    def select(self, names: str | Iterable[str] | None) -> tuple[str, ...]:
        """Return the names of databases in the order of :attr:`names`; all if ``names`` is None.

        :raises DatabaseNameError: if one of the names is not a database in which a package lives.
        """
        wanted = self.names if names is None else (names,) if isinstance(names, str) else tuple(names)
        for name in wanted:
            if name not in self.names:
                guess = did_you_mean(name, self.names)
                known = f"The databases are {', '.join(self.names)}" if len(self.names) > 1 else "The app has one"
                remedy = guess or f"{known}. To add one, list its packages in {DATABASES}."
                raise DatabaseNameError(f"{name} is not a database in which a package lives. {remedy}", database=name)
        return tuple(name for name in self.names if name in wanted)

    def select_one(self, name: str | None, command: str) -> str:
        """Return the name of one database, which may be left out if there is only one.

        :param command: the command that needs the name, for the error.
        :raises DatabaseNameError: if there are several databases and no name, or if the name is not known.
        """
        if name is None and len(self.names) > 1:
            raise DatabaseNameError(
                f"{command} changes one database, and the app has {len(self.names)}: {', '.join(self.names)}. Add"
                f" --database, for example '--database {self.names[0]}'.",
                database="",
            )
        return self.select(name)[0]
