"""Reading from the database what SQLAlchemy does not reflect, and how PostgreSQL prints the models' expressions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import (
    Connection,
    Table,
    text,
)
from sqlalchemy.exc import DBAPIError

from ampho.database import sqlite_table
from ampho.history.sql import string_literal
from ampho.revise.autogenerate.compare.expressions import tokens
from ampho.revise.autogenerate.operations.statements import single_percents

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

MYSQL = ("mysql", "mariadb")
"""The dialects that print expressions as MySQL does."""

INDEXES = {
    "sqlite": "SELECT NULL, tbl_name, name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
    "postgresql": """
        SELECT n.nspname, t.relname, i.relname, pg_get_indexdef(x.indexrelid, 0, true)
        FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
        JOIN pg_namespace n ON n.oid = t.relnamespace WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast')""",
    "mariadb": """
        SELECT table_schema, table_name, index_name, CONCAT(
            'CREATE ', IF(
                index_type IN ('FULLTEXT', 'SPATIAL'), CONCAT(index_type, ' '), IF(non_unique, '', 'UNIQUE ')
            ), 'INDEX x ON y (', GROUP_CONCAT(CONCAT('`', column_name, '`',
                IF(sub_part IS NULL OR index_type IN ('FULLTEXT', 'SPATIAL'), '', CONCAT('(', sub_part, ')')),
                IF(collation = 'D', ' DESC', '')) ORDER BY seq_in_index SEPARATOR ', '), ')')
        FROM information_schema.statistics WHERE table_schema = DATABASE()
        GROUP BY table_schema, table_name, index_name, index_type, non_unique
        HAVING SUM(column_name IS NULL) = 0""",
}


INDEXES["mysql"] = INDEXES["mariadb"]
"""The query for the schema, table, name, and definition of each index, by the name of the dialect."""


_MYSQL_DEFAULTS = """
    SELECT table_schema, table_name, column_name, column_default, extra
    FROM information_schema.columns WHERE table_schema = DATABASE() AND column_default IS NOT NULL"""


_PRINTED = """
    SELECT attname, pg_get_expr(adbin, adrelid)
    FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
    WHERE adrelid = 'pg_temp.{table}'::regclass
    UNION ALL SELECT conname, pg_get_constraintdef(oid, true) FROM pg_constraint
    WHERE conrelid = 'pg_temp.{table}'::regclass
    UNION ALL SELECT relname, pg_get_indexdef(oid, 0, true) FROM pg_index JOIN pg_class ON oid = indexrelid
    WHERE indrelid = 'pg_temp.{table}'::regclass"""


_TEMPORARY = "ampho_compared"


_TEXT_CASTS = [["::", *words, *array] for array in (["[", "]"], []) for words in (["text"], ["character", "varying"])]


def dialect_of(context: AutogenContext) -> Any:  # noqa: ANN401 (the dialects have more than their base class)
    """Return the dialect of a comparison."""
    return context.migration_context.dialect


def connection_of(context: AutogenContext) -> Connection:
    """Return the connection of a comparison."""
    return cast("Connection", context.connection)


def single_percent(sql: str | None, context: AutogenContext) -> str | None:
    """Return compiled SQL, if there is any, with single percent signs."""
    return single_percents(sql, dialect_of(context)) if sql else sql


def correct_computed(context: AutogenContext, table: Table) -> None:
    """Correct the expressions of the generated columns of a table of SQLite, as it was reflected."""
    if dialect_of(context).name != "sqlite" or all(column.computed is None for column in table.columns):
        return
    master = f"{sqlite_table.quoted(table.schema or 'main')}.sqlite_master"
    select = text(f"SELECT sql FROM {master} WHERE type = 'table' AND lower(name) = lower(:name)")  # noqa: S608 (quoted)
    sql = connection_of(context).scalar(select, {"name": table.name})
    with suppress(sqlite_table.UnreadableTableError):
        sqlite_table.correct_computed(sql or "", table)  # empty if the table is renamed


@dataclass
class Difference:
    """An expression that may differ between the database and the model.

    :ivar present: the expression as the database prints it.
    :ivar declared: the expression in the model.
    :ivar statement: for PostgreSQL, the statement that adds the model's expression to a temporary table, as ``{name}``.
    :ivar equal: a function to call if the expressions are equal.
    :ivar different: a function to call if the expressions differ.
    """

    present: str
    declared: str
    statement: str
    equal: Callable[[], None] = lambda: None
    different: Callable[[], None] = lambda: None


def definition(sql: str) -> list[str]:
    """Return the tokens of an expression, a constraint, or an index as PostgreSQL prints it, without its names."""
    index = re.match(r"CREATE (UNIQUE )?INDEX .*? USING ", sql, re.DOTALL)
    bare = f"{index[1]} {sql[index.end() :]}" if index else re.sub(r"^CHECK (?=\()", "", sql)
    found = tokens(bare.removesuffix(" NOT VALID"), "postgresql")
    return [*_without_text_casts(found)]


def _without_text_casts(found: list[str]) -> Iterator[str]:
    """Yield tokens without casts to text, because PostgreSQL moves these when it reads what it has printed."""
    number = 0
    while number < len(found):
        casts = (cast for cast in _TEXT_CASTS if found[number : number + len(cast)] == cast)
        if cast := next(casts, None):
            number += len(cast)
        else:
            yield found[number]
            number += 1


def index_definitions(context: AutogenContext) -> Mapping[tuple[str | None, str], Mapping[str, str]]:
    """Return the statement that creates each index, by the schema and the name of its table, then by its name."""
    cache = context.inspector.info_cache
    if "ampho_indexes" not in cache:
        found: dict[tuple[str | None, str], dict[str, str]] = {}
        for schema, table, name, sql in connection_of(context).execute(text(INDEXES[dialect_of(context).name])):
            found.setdefault((schema, table), {})[name] = sql
        cache["ampho_indexes"] = found
    return cast("Mapping[tuple[str | None, str], Mapping[str, str]]", cache["ampho_indexes"])


def items_and_condition(sql: str) -> tuple[str, str]:
    """Return what is in the parentheses of a CREATE INDEX statement, and the condition of a partial index."""
    found = sqlite_table.tokens(sql)
    opening = next(number for number, token in enumerate(found) if token.text == "(")
    depths = accumulate({"(": 1, ")": -1}.get(token.text, 0) for token in found[opening:])
    closing = opening + next(number for number, depth in enumerate(depths) if depth == 0)
    rest = found[closing + 1 :]
    return sql[found[opening].end : found[closing].start], sql[rest[0].end :] if rest else ""


def mysql_defaults(context: AutogenContext) -> Mapping[tuple[str, str, str], str]:
    """Return the server defaults by the schema, the name of the table, and the name of the column."""
    cache = context.inspector.info_cache
    if "ampho_defaults" not in cache:
        rows = connection_of(context).execute(text(_MYSQL_DEFAULTS)).all()
        literals = not dialect_of(context).is_mariadb  # MySQL returns a string without its quotes
        cache["ampho_defaults"] = {
            tuple(key): _mysql_default(sql, extra, literals=literals) for *key, sql, extra in rows
        }
    return cast("Mapping[tuple[str, str, str], str]", cache["ampho_defaults"])


def _mysql_default(sql: str, extra: str, *, literals: bool) -> str:
    if literals and "DEFAULT_GENERATED" not in extra:
        sql = string_literal(sql.replace("\\", r"\\"))
    update = re.search(r"on update .*", extra, re.IGNORECASE)
    return f"{sql} {update[0]}" if update else sql


def printed_expressions(context: AutogenContext, table: Table, differences: list[Difference]) -> dict[int, str]:
    """Return the models' expressions as PostgreSQL prints them, by their numbers, except those that it rejects.

    One statement creates a temporary table and adds each expression, and one reads them. Both are rolled back.
    """
    if dialect_of(context).name != "postgresql":
        return {}
    original = dialect_of(context).identifier_preparer.format_table(table)
    names = {f"ampho_{number}": number for number in range(len(differences))}
    statements = [
        item.statement.format(name=name, table=f"pg_temp.{_TEMPORARY}")
        for name, item in zip(names, differences, strict=True)
    ]
    body = "".join(f"BEGIN {each}; EXCEPTION WHEN OTHERS THEN NULL; END; " for each in statements)
    make = f"CREATE TEMPORARY TABLE {_TEMPORARY} (LIKE {original}) ON COMMIT DROP"
    connection = connection_of(context)
    try:
        with connection.begin_nested() as nested:
            connection.execute(literal_text(f"DO $ampho$ BEGIN {make}; {body}END $ampho$"))
            rows: Any = connection.execute(literal_text(_PRINTED.format(table=_TEMPORARY))).all()
            nested.rollback()
    except DBAPIError:
        return {}  # for example because the server is read-only
    printed: dict[str, str] = dict(rows)
    return {number: printed[name] for name, number in names.items() if name in printed}


def literal_text(sql: str) -> Any:  # noqa: ANN401 (a text that the connection executes)
    """Return SQL as a text without parameters."""
    return text(sql.replace(":", "\\:"))
