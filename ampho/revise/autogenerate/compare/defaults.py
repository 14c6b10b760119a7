"""Comparing the server defaults of columns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from alembic.util import PriorityDispatchResult
from sqlalchemy import (
    UUID,
    Column,
    DefaultClause,
    FetchedValue,
    String,
    text,
)
from sqlalchemy.dialects.postgresql import DOMAIN

from ampho.revise.autogenerate.compare.catalog import MYSQL, dialect_of, mysql_defaults, single_percent
from ampho.revise.autogenerate.compare.expressions import default_tokens, parts, tokens

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

_STOP = PriorityDispatchResult.STOP


def compare_default(
    context: AutogenContext,
    operation: ops.AlterColumnOp,
    _schema: str | None,
    _table: str,
    _column: str,
    present: Column[Any],
    declared: Column[Any],
) -> PriorityDispatchResult:
    """Compare the server default of a column, for Alembic."""
    wanted = declared.server_default
    if isinstance(wanted, FetchedValue) and not isinstance(wanted, DefaultClause):
        return _STOP  # the database fills the column, in a way that the model does not state
    if _is_serial(declared, context):
        return _STOP
    if wanted is present.server_default is None and dialect_of(context).name not in MYSQL:
        return _STOP
    here, there = _present_default(present, context), default_sql(declared, context)
    found, expected = (_default_tokens(sql, declared, context) for sql in (here, there))
    if correct_default(present, context):
        operation.existing_server_default = present.server_default
    if not expected and isinstance(present.type, DOMAIN):
        expected = _default_tokens(present.type.default, declared, context)  # reflected as the column's default
    if _is_written_so(found, declared, context):
        return _STOP
    if isinstance(present.type, UUID):  # printed in lower case and with hyphens, however it was written
        found, expected = ([token.replace("-", "").lower() for token in each] for each in (found, expected))
    if found != expected and not _is_same_on_mysql(here, there, context):
        operation.modify_server_default = wanted
    return _STOP


def _is_written_so(found: list[str], column: Column[Any], context: AutogenContext) -> bool:
    """Return whether the model's default is a string in quotes, and the database has it without these quotes."""
    text_ = column.server_default.arg if isinstance(column.server_default, DefaultClause) else None
    quoted = isinstance(text_, str) and re.fullmatch("'[^']*'", text_)
    return bool(quoted) and found == _default_tokens(text_, column, context)


def _is_same_on_mysql(here: str | None, there: str | None, context: AutogenContext) -> bool:
    """Return whether two expressions are equal apart from the functions, which MariaDB and MySQL may rename."""
    database = dialect_of(context).name
    if database not in MYSQL or here is None or there is None or "(" not in tokens(here, database):
        return False
    updates = {"on update" in sql.lower() for sql in (here, there)}
    return len(updates) == 1 and "(" in tokens(there, database) and parts(here, database) == parts(there, database)


def _present_default(column: Column[Any], context: AutogenContext) -> str | None:
    """Return the server default of a column in the database, even one of MariaDB or MySQL that is not reflected."""
    if dialect_of(context).name not in MYSQL:
        return default_sql(column, context)
    schema = column.table.schema or dialect_of(context).default_schema_name
    key = (schema, column.table.name, column.name)
    return mysql_defaults(context).get(key) or default_sql(column, context)  # a renamed column has another key


def correct_default(column: Column[Any], context: AutogenContext) -> bool:
    """Set the server default that a column of MariaDB or MySQL has, if SQLAlchemy reflects another one."""
    here = _present_default(column, context)
    if here is None or here == default_sql(column, context) or not _default_tokens(here, column, context):
        return False
    column.server_default = DefaultClause(text(f"({here})" if "(" in here and "current" not in here else here))
    return True


def _default_tokens(sql: object, column: Column[Any], context: AutogenContext) -> list[str]:
    is_text = isinstance(column.type.dialect_impl(dialect_of(context)), String)
    return default_tokens(None if sql is None else str(sql), dialect_of(context).name, is_text=is_text)


def _is_serial(column: Column[Any], context: AutogenContext) -> bool:
    return dialect_of(context).name == "postgresql" and column is column.table.autoincrement_column


def default_sql(column: Column[Any], context: AutogenContext) -> str | None:
    """Return the server default of a column as SQL."""
    dialect = dialect_of(context)
    return single_percent(dialect.ddl_compiler(dialect, None).get_column_default_string(column), context)
