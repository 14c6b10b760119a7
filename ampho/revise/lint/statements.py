"""A statement of a revision, the server that it is for, and the tables that statements create."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from ampho.history.sql import NAME, creates, qualified, renames, unquoted

_TABLE = re.compile(
    rf"\s*(?:ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?|UPDATE\s+(?:ONLY\s+)?|DELETE\s+FROM\s+(?:ONLY\s+)?"
    rf"|(?:LOCK|OPTIMIZE)\s+TABLE\s+(?:ONLY\s+)?|DROP\s+TABLE\s+(?:IF\s+EXISTS\s+)?|RENAME\s+TABLE\s+|TRUNCATE\s+(?:TABLE\s+)?(?:ONLY\s+)?"
    rf"|CREATE\s+(?:\w+\s+)?INDEX\s+(?:CONCURRENTLY\s+)?(?:IF\s+NOT\s+EXISTS\s+)?(?:{NAME}\s+)?ON\s+(?:ONLY\s+)?"
    rf"|DROP\s+INDEX\s+(?:IF\s+EXISTS\s+)?{NAME}\s+ON\s+)(?P<name>{NAME})",
    re.IGNORECASE,
)
_INDEXES = re.compile(
    rf"\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:CONCURRENTLY\s+)?(?:IF\s+NOT\s+EXISTS\s+)?(?P<index>{NAME})\s+ON\s",
    re.IGNORECASE,
)
_DROPS_INDEX = re.compile(rf"\s*DROP\s+INDEX\s+(?:CONCURRENTLY\s+)?(?:IF\s+EXISTS\s+)?(?P<index>{NAME})", re.IGNORECASE)


class Server(NamedTuple):
    """The database that the statements are for.

    :ivar backend: ``sqlite``, ``postgresql``, ``mysql``, or ``mariadb``.
    :ivar version: its version.
    """

    backend: str
    version: tuple[int, ...] = ()

    @property
    def is_mariadb(self) -> bool:
        """Whether it is MariaDB, and not MySQL."""
        return self.backend == "mariadb"

    def is_since(self, mariadb: tuple[int, ...], mysql: tuple[int, ...]) -> bool:
        """Return whether it is one of these versions of MariaDB or MySQL, or a later one."""
        return self.version >= (mariadb if self.is_mariadb else mysql)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of a revision.

    :ivar bare: its SQL without comments and the contents of literals.
    :ivar text: its SQL, or its code if that is all that is known.
    :ivar line: the line of the revision file that it is from; 0 if it is not known.
    :ivar end: where it ends in the SQL of the revision.
    :ivar alters: the calls of ``alter_column()`` that wrote it.
    :ivar calls: the names of the functions and methods that wrote it.
    :ivar in_block: whether it is in an anonymous block of PostgreSQL.
    :ivar is_new: whether it changes only a new table.
    """

    bare: str
    text: str
    line: int
    end: int = 0
    alters: tuple[ast.Call, ...] = ()
    calls: frozenset[str] = frozenset()
    in_block: bool = False
    is_new: bool = False

    @property
    def table(self) -> str:
        """The name of the table that it changes, with its schema; empty if it is not known."""
        found = _TABLE.match(self.bare)
        return qualified(found["name"]) if found else ""

    @property
    def creates(self) -> str:
        """The name of the table, or of the materialized view, that it creates, with its schema; otherwise, empty."""
        return creates(self.bare)


@dataclass
class NewTables:
    """The tables that the revisions create, as far as their statements are known.

    :ivar tables: the names of the tables.
    """

    tables: set[str] = field(default_factory=set[str])
    _dropped: set[str] = field(default_factory=set[str])
    _indexes: dict[str, str] = field(default_factory=dict[str, str])

    def have(self, statement: Statement) -> bool:
        """Return whether a statement changes only a new table."""
        table = statement.table
        if not table and (drop := _DROPS_INDEX.match(statement.bare)):
            table = self._indexes.get(unquoted(drop["index"]), "")
        return table in self.tables

    def note(self, statement: Statement) -> None:
        """Remember the table that a statement creates, renames, or drops."""
        table = statement.table
        if statement.creates:
            self.tables.add(statement.creates)
        elif index := _INDEXES.match(statement.bare):
            self._indexes[unquoted(index["index"])] = table
        elif table and re.match(r"\s*DROP\s+TABLE", statement.bare, re.IGNORECASE):
            self._dropped |= {table} - self.tables
            self.tables.discard(table)
        for old, new in renames(statement.bare):
            if old in self.tables:
                self.tables.discard(old)
                # A table that takes the place of another one has the rows of the other one.
                self.tables |= {new} - self._dropped
            else:
                self._dropped.add(old)
