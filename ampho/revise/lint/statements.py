"""The statements of a revision: those of its SQL or, if it cannot be written as SQL, those that its code suggests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ampho.history.losses import Function, argument, called, calls_in, string, type_name
from ampho.history.required import batches, has_value, is_false, is_true
from ampho.history.sql import NAME, creates, executed, qualified, renames, statements, unquoted, without_literals
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

_CALLS = {
    "ADD COLUMN": "add_column",
    "DROP COLUMN": "drop_column",
    "CREATE": "create_index",
    "DROP INDEX": "drop_index",
    "DROP": "drop_constraint",
    "ADD": "create_",
}
"""How the name of the method that wrote a statement of a batch begins, by its verb; else, it is ``alter_column``."""

_OPTIONS = (
    (" TYPE ", "type_"),
    (" SET NOT NULL", "nullable"),
    (" DROP NOT NULL", "nullable"),
    (" SET DEFAULT", "server_default"),
    (" DROP DEFAULT", "server_default"),
)
"""Words in the SQL that Alembic writes for ``alter_column()``, and the options that they are for."""

_VERB = re.compile(r"\b(?:ADD\s+COLUMN|DROP\s+COLUMN|CREATE|DROP\s+INDEX|DROP|ADD)\b", re.IGNORECASE)


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


def written(excerpt: Excerpt, code: Function | None, *, is_sqlite: bool) -> list[Statement]:
    """Return the statements in the SQL of a revision.

    On SQLite, the SQL of batch mode creates another table instead of altering the table, so the calls in a ``with
    op.batch_alter_table()`` suggest its statements.
    """
    calls, in_batches, tables = calls_in(code), _calls_in_batches(code), _batch_tables(code)
    found, last = list[Statement](), 0
    for begin, line, sql in excerpt.parts():
        if is_sqlite and line in in_batches:
            found += _suggested(in_batches[line] if line != last else (), tables)
        else:
            here = [call for call in calls if line in lines_of(call)]
            for bare, text, end, in_block in executed(sql):
                if text and line in in_batches:
                    here = _origin(bare, in_batches[line], [call for each in found[-1:] for call in each.alters])
                if text:
                    at = here[0].lineno if line in in_batches and here else line
                    found.append(Statement(bare, text, at, begin + end, *_about(here), in_block=in_block))
        last = line
    return found


def _about(calls: Sequence[ast.Call]) -> tuple[tuple[ast.Call, ...], frozenset[str]]:
    return tuple(call for call in calls if called(call) == "alter_column"), frozenset(map(called, calls))


def _calls_in_batches(code: Function | None) -> dict[int, list[ast.Call]]:
    """Return the calls in each ``with op.batch_alter_table()``, by the lines on which the blocks begin."""
    tables = _batch_tables(code)
    return {
        line: [call for call in calls_in(block) if id(call) in tables]
        for block in _batch_blocks(code)
        for line in batch_lines(block)
    }


def _batch_tables(code: Function | None) -> dict[int, str]:
    """Return the table of each call in a ``with op.batch_alter_table()``, with its schema, by the call's identity."""
    tables = {**batches(code)} if code else {}
    for block in _batch_blocks(code):
        if schema := next((name for item in block.items if (name := _schema_of(item))), ""):
            tables |= {id(call): f"{schema}.{tables[id(call)]}" for call in calls_in(block) if id(call) in tables}
    return tables


def _schema_of(item: ast.withitem) -> str:
    return string(argument(item.context_expr, "schema")) if isinstance(item.context_expr, ast.Call) else ""


def _origin(bare: str, calls: Sequence[ast.Call], before: Sequence[ast.Call]) -> list[ast.Call]:
    """Return the call in a batch that wrote a statement, judging by its kind and the name in it.

    :param before: the call of ``alter_column()`` that wrote the previous statement, if any.
    """
    verb = _VERB.search(bare)
    kind = " ".join(verb[0].upper().split()) if verb else ""
    fits = [call for call in calls if called(call).startswith(_CALLS.get(kind, "alter_column"))]
    table = re.match(r"\s*ALTER\s", bare, re.IGNORECASE) and _TABLE.match(bare)
    named = [call for call in fits if _is_named(call, bare[table.end() :] if table else bare)] or fits
    if option := next((option for words, option in _OPTIONS if words in bare), ""):
        named = [call for call in named if argument(call, option) is not None] or named
    later = [call for call in named if all(call.lineno > each.lineno for each in before)]
    return (named if option or not before else later or named)[:1]


def _is_named(call: ast.Call, words: str) -> bool:
    name = next((text for node in ast.walk(call) if isinstance(node, ast.expr) and (text := string(node))), "")
    return not name or re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words) is not None


def suggested(code: Function | None) -> list[Statement]:
    """Return the statements that the calls in a function suggest."""
    return _suggested(calls_in(code), _batch_tables(code))


def _suggested(calls: Iterable[ast.Call], tables: Mapping[int, str]) -> list[Statement]:
    return [
        Statement(sql, ast.unparse(call), call.lineno, 0, *_about([call]))
        for call in calls
        for sql in _sql(call, tables.get(id(call)))
    ]


def batch_lines(code: ast.AST | None) -> set[int]:
    """Return the lines on which each ``with op.batch_alter_table()`` begins, which also write its SQL."""
    return {line for block in _batch_blocks(code) for line in (block.lineno, *map(_line, block.items))}


def _batch_blocks(code: ast.AST | None) -> Iterator[ast.With]:
    for block in ast.walk(code) if code else ():
        if isinstance(block, ast.With) and any(map(_is_batch, block.items)):
            yield block


def _is_batch(item: ast.withitem) -> bool:
    return isinstance(item.context_expr, ast.Call) and called(item.context_expr) == "batch_alter_table"


def _line(item: ast.withitem) -> int:
    return item.context_expr.lineno


def lines_of(node: ast.expr | ast.stmt) -> range:
    """Return the numbers of the lines of a node."""
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


_LIKE = {
    "create_table": "CREATE TABLE {table_name:0} (?)",
    "drop_table": "DROP TABLE {table_name:0}",
    "add_column": "ALTER TABLE {table_name:0} ADD COLUMN {column}",
    "drop_column": "ALTER TABLE {table_name:0} ALTER COLUMN ?",
    "alter_column": "ALTER TABLE {table_name:0} MODIFY ?",
    "rename_table": "ALTER TABLE {old_table_name:0} RENAME TO {new_table_name:1}",
    "rename_column": "ALTER TABLE {table_name:0} RENAME COLUMN {column_name:1} TO {new_column_name:9}",
    "create_unique_constraint": "ALTER TABLE {table_name:1} ADD CONSTRAINT {constraint_name:0} UNIQUE ({columns:2})",
    "create_check_constraint": "ALTER TABLE {table_name:1} ADD CONSTRAINT {constraint_name:0} CHECK (?)",
    "create_primary_key": "ALTER TABLE {table_name:1} ADD CONSTRAINT {constraint_name:0} PRIMARY KEY (?)",
    "create_foreign_key": "ALTER TABLE {source_table:1} ADD CONSTRAINT {constraint_name:0} FOREIGN KEY ({columns:3})",
    "create_other_index": "CREATE {mysql_prefix:9} INDEX {index_name:0} ON {table_name:1} ({columns:2})",
    "create_unique_index": "CREATE UNIQUE INDEX {index_name:0} ON {table_name:1} ({columns:2})",
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
        node = argument(call, found["name"], place - (batch is not None and place > 0))
        names = node.elts if isinstance(node, ast.List | ast.Tuple) else [node]
        keyword = "schema" if "table_name" in found["name"] else "source_schema"
        schema = string(argument(call, keyword)) if "table" in found["name"] else ""
        return f"{schema}." * bool(schema) + ", ".join(string(each) or "?" for each in names)

    if called(call) == "execute":
        sql = argument(call, "sqltext", 0)
        sql = sql.args[0] if isinstance(sql, ast.Call) and sql.args else sql
        yield from (each.bare for each in statements(string(sql)) if each.text)
    elif like := _LIKE.get(_operation(call)):
        column = argument(call, "column", 0 if batch is not None else 1)
        like = like.replace("{column}", _column(column, in_batch=batch is not None))
        yield re.sub(r"\{(?P<name>\w+):(?P<place>\d)\}", text, like)


def _operation(call: ast.Call) -> str:
    """Return the name of a call, or another key of :data:`_LIKE` if its arguments ask for more."""
    name = called(call)
    if name == "alter_column" and argument(call, "new_column_name") is not None:
        return "rename_column"
    if name == "create_index" and is_true(argument(call, "unique")):
        return "create_unique_index"
    if name == "create_index" and argument(call, "mysql_prefix") is not None:
        return "create_other_index"
    return name


def _column(column: ast.expr | None, *, in_batch: bool) -> str:
    """Return SQL like that of a ``Column()``."""
    if not isinstance(column, ast.Call):
        return "?"
    parts = [string(argument(column, "name", 0)) or "?", "?"]
    if has_value(column):
        default = argument(column, "server_default")
        # In batch mode, the new table gives the rows a default that an added column could not have.
        parts.append(f"DEFAULT {'?' if in_batch else _default(default)}")
    if is_false(argument(column, "nullable")):
        parts.append("NOT NULL")
    if is_true(argument(column, "unique")):
        parts.append("UNIQUE")
    for part in column.args:
        if type_name(part) == "CHECKCONSTRAINT":
            parts.append("CHECK (?)")
        elif isinstance(part, ast.Call) and called(part) == "Computed" and is_true(argument(part, "persisted", 1)):
            parts.append("AS (?) STORED")
    return " ".join(parts)


def _default(default: ast.expr | None) -> str:
    """Return a default in SQL without literals; ``?`` if it is a constant, or not known."""
    if isinstance(default, ast.Call) and called(default) == "text":
        return without_literals(string(argument(default, "text", 0)) or "?", mysql=False)
    is_function = isinstance(default, ast.Call) and re.search(r"\bfunc\.", ast.unparse(default.func))
    return "(?())" if is_function else "?"


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
