"""Where the statements of a revision come from: its SQL or, if it cannot be written as SQL, the calls in its code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ampho.history.losses import Function, argument, called, calls_in, string, type_name
from ampho.history.required import has_value, is_false, is_true
from ampho.history.sql import executed, statements, without_literals
from ampho.migrate.sql import Excerpt
from ampho.revise.lint.batches import batch_tables, calls_in_batches, origin
from ampho.revise.lint.statements import Statement

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


def written(excerpt: Excerpt, code: Function | None, *, is_sqlite: bool) -> list[Statement]:
    """Return the statements in the SQL of a revision.

    On SQLite, the SQL of batch mode creates another table instead of altering the table, so the calls in a ``with
    op.batch_alter_table()`` suggest its statements.
    """
    calls, in_batches, tables = calls_in(code), calls_in_batches(code), batch_tables(code)
    found, last = list[Statement](), 0
    for begin, line, sql in excerpt.parts():
        if is_sqlite and line in in_batches:
            found += _suggested(in_batches[line] if line != last else (), tables)
        else:
            here = [call for call in calls if line in lines_of(call)]
            for bare, text, end, in_block in executed(sql):
                if text and line in in_batches:
                    here = origin(bare, in_batches[line], [call for each in found[-1:] for call in each.alters])
                if text:
                    at = here[0].lineno if line in in_batches and here else line
                    found.append(Statement(bare, text, at, begin + end, *_about(here), in_block=in_block))
        last = line
    return found


def _about(calls: Sequence[ast.Call]) -> tuple[tuple[ast.Call, ...], frozenset[str]]:
    return tuple(call for call in calls if called(call) == "alter_column"), frozenset(map(called, calls))


def suggested(code: Function | None) -> list[Statement]:
    """Return the statements that the calls in a function suggest."""
    return _suggested(calls_in(code), batch_tables(code))


def _suggested(calls: Iterable[ast.Call], tables: Mapping[int, str]) -> list[Statement]:
    return [
        Statement(sql, ast.unparse(call), call.lineno, 0, *_about([call]))
        for call in calls
        for sql in _sql(call, tables.get(id(call)))
    ]


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


def lines_of(node: ast.expr | ast.stmt) -> range:
    """Return the numbers of the lines of a node."""
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)
