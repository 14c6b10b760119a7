"""The statements of a revision: those of its SQL or, if it cannot be written as SQL, those that its code suggests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ampho.history.losses import Function, argument, called, calls_in, string, type_name
from ampho.history.required import batches, is_true
from ampho.history.sql import CREATES_TABLE, NAME, statements, unquoted
from ampho.migrate.sql import Excerpt

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
_RENAMES = re.compile(rf"\s+RENAME\s+(?:TO|AS)\s+(?P<name>{NAME})", re.IGNORECASE)


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
    :ivar alters: the calls of ``alter_column()`` on that line.
    :ivar calls: the names of the functions and methods that are called on that line.
    :ivar is_new: whether it changes only a new table.
    """

    bare: str
    text: str
    line: int
    end: int = 0
    alters: tuple[ast.Call, ...] = ()
    calls: frozenset[str] = frozenset()
    is_new: bool = False

    @property
    def table(self) -> str:
        """The name of the table that it changes; empty if it is not known."""
        found = _TABLE.match(self.bare)
        return unquoted(found["name"]) if found else ""


def written(excerpt: Excerpt, upgrade: Function | None) -> list[Statement]:
    """Return the statements in the SQL of a revision."""
    calls = calls_in(upgrade)
    found = list[Statement]()
    for bare, text, end in statements(excerpt.sql):
        line = excerpt.line_at(end - 1)
        here = [call for call in calls if line in lines_of(call)]
        alters = tuple(call for call in here if called(call) == "alter_column")
        if text:
            found.append(Statement(bare, text, line, end, alters, frozenset(map(called, here))))
    return found


def suggested(upgrade: Function | None, *, batches_only: bool = False) -> list[Statement]:
    """Return the statements that the calls in an ``upgrade()`` suggest.

    :param batches_only: whether to look only at calls in a ``with op.batch_alter_table()``.
    """
    if upgrade is None:
        return []
    tables = batches(upgrade)
    calls = [call for call in calls_in(upgrade) if id(call) in tables or not batches_only]
    return [
        Statement(sql, ast.unparse(call), call.lineno) for call in calls for sql in _sql(call, tables.get(id(call)))
    ]


def batch_lines(function: Function | None) -> set[int]:
    """Return the lines of each ``with op.batch_alter_table()`` in a function."""
    return {
        line
        for block in (ast.walk(function) if function else ())
        if isinstance(block, ast.With)
        for item in block.items
        if isinstance(item.context_expr, ast.Call) and called(item.context_expr) == "batch_alter_table"
        for line in lines_of(block)
    }


def lines_of(node: ast.expr | ast.stmt) -> range:
    """Return the numbers of the lines of a node."""
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


_LIKE = {
    "create_table": "CREATE TABLE {table_name:0} (?)",
    "drop_table": "DROP TABLE {table_name:0}",
    "drop_column": "ALTER TABLE {table_name:0} ALTER COLUMN ?",
    "alter_column": "ALTER TABLE {table_name:0} ALTER COLUMN ?",
    "rename_table": "ALTER TABLE {old_table_name:0} RENAME TO {new_table_name:1}",
    "rename_column": "ALTER TABLE {table_name:0} RENAME COLUMN {column_name:1} TO {new_column_name:9}",
    "create_unique_constraint": "ALTER TABLE {table_name:1} ADD CONSTRAINT {constraint_name:0} UNIQUE (?)",
    "create_check_constraint": "ALTER TABLE {table_name:1} ADD CONSTRAINT {constraint_name:0} CHECK (?)",
    "create_primary_key": "ALTER TABLE {table_name:1} ADD CONSTRAINT {constraint_name:0} PRIMARY KEY (?)",
    "create_foreign_key": "ALTER TABLE {source_table:1} ADD CONSTRAINT {constraint_name:0} FOREIGN KEY (?)",
    "create_unique_index": "CREATE UNIQUE INDEX {index_name:0} ON {table_name:1} (?)",
    "add_unique_column": "ALTER TABLE {table_name:0} ADD COLUMN ? UNIQUE",
    "add_checked_column": "ALTER TABLE {table_name:0} ADD COLUMN ? CHECK (?)",
}
"""SQL like that of operations, with the names and places of their arguments."""


def _sql(call: ast.Call, batch: str | None) -> Iterator[str]:
    """Yield SQL like that of a call, with ``?`` for what the code computes.

    :param batch: the table, if the call is in a ``with op.batch_alter_table()``.
    """

    def text(found: re.Match[str]) -> str:
        if batch is not None and found["name"] in ("table_name", "source_table"):
            return batch or "?"
        place = int(found["place"])
        return string(argument(call, found["name"], place - (batch is not None and place > 0))) or "?"

    if called(call) == "execute":
        sql = argument(call, "sqltext", 0)
        sql = sql.args[0] if isinstance(sql, ast.Call) and sql.args else sql
        yield from (each.bare for each in statements(string(sql)) if each.text)
    elif like := _LIKE.get(_operation(call, in_batch=batch is not None)):
        yield re.sub(r"\{(?P<name>\w+):(?P<place>\d)\}", text, like)


def _operation(call: ast.Call, *, in_batch: bool) -> str:
    """Return the name of a call, or another key of :data:`_LIKE` if its arguments ask for more."""
    name = called(call)
    if name == "alter_column" and argument(call, "new_column_name") is not None:
        return "rename_column"
    if name == "create_index" and is_true(argument(call, "unique")):
        return "create_unique_index"
    column = argument(call, "column", 0 if in_batch else 1) if name == "add_column" else None
    if isinstance(column, ast.Call):
        if any(type_name(part) == "CHECKCONSTRAINT" for part in column.args):
            return "add_checked_column"
        if is_true(argument(column, "unique")):
            return "add_unique_column"
    return name


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
        if creation := CREATES_TABLE.match(statement.bare):
            self.tables.add(unquoted(creation["name"]))
        elif index := _INDEXES.match(statement.bare):
            self._indexes[unquoted(index["index"])] = table
        elif table and re.match(r"\s*DROP\s+TABLE", statement.bare, re.IGNORECASE):
            self._dropped |= {table} - self.tables
            self.tables.discard(table)
        elif table in self.tables and (rename := _RENAMES.search(statement.bare)):
            self.tables.discard(table)
            # A table that takes the place of another one has the rows of the other one.
            self.tables |= {unquoted(rename["name"])} - self._dropped
