"""Columns that PostgreSQL adds or changes while the app writes to the table."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import op
from alembic.operations.ops import CreateCheckConstraintOp, CreateIndexOp
from alembic.operations.schemaobj import SchemaObjects
from sqlalchemy import Column, Enum
from sqlalchemy.sql.elements import conv

from ampho.errors import OperationError
from ampho.operations.backfills import backfill
from ampho.operations.constraints import add_check, add_foreign_key, add_unique
from ampho.operations.indexes import build_index
from ampho.operations.server import MAX_NAME, Server, postgres

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

_IS_NOT_NULL = """
    SELECT attnotnull, EXISTS (SELECT FROM pg_constraint WHERE conrelid = attrelid AND conname = :name) AS has_check
    FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attname = :column
"""
_COLUMN = """
    SELECT atttypid = to_regtype(:type) AS is_same, format_type(atttypid, atttypmod) AS type FROM pg_attribute
    WHERE attrelid = to_regclass(:table) AND attname = :column AND NOT attisdropped
"""
_CONSTANT_SINCE = (11,)
_STABLE = frozenset(["cast", "coalesce", "current_setting", "make_date", "now", "to_char", "to_date"])
_STRING = re.compile(r"'(?:[^']|'')*'")
_CALL = re.compile(r"([\w.]+)\s*\(")


def add_column(
    table_name: str,
    column: Column[Any],
    *,
    schema: str | None = None,
    **kw: Any,  # noqa: ANN401 (Alembic's signature)
) -> None:
    """Add a column, on PostgreSQL so that the app can use the table while existing rows get the default.

    PostgreSQL rewrites the table for a default such as ``gen_random_uuid()``, which has a different value in each row,
    and before version 11 for any default. The column is then added without it, gets the default for new rows, and
    :func:`backfill` fills the existing rows. Constraints and indexes of the column are created by the other functions
    of this module.

    The transaction of the revision is committed. If the revision runs again, it goes on where it stopped. On other
    databases, this is ``op.add_column()``, whose parameters it has; SQLite rebuilds the table if it has to.

    :param table_name: the table.
    :param column: the column.
    :param schema: the schema of the table.
    :param kw: other arguments.
    :raises OperationError: if the table has another column of this name, or cannot be filled.
    """
    server = postgres()
    if server is None:
        with op.batch_alter_table(table_name, schema=schema) as batch:
            batch.add_column(column, **kw)
        return
    table = SchemaObjects(server.context).table(table_name, column, schema=schema)
    is_late = _rewrites(server, column)
    with server.repeatable():
        if not _has_column(server, table, column):
            bare = _bare(column, is_late=is_late)
            op.add_column(table_name, bare, schema=schema, if_not_exists=server.is_offline or None)
        if is_late:
            op.alter_column(table_name, column.name, server_default=column.server_default, schema=schema)
        server.commit()
        if is_late:
            backfill(table_name, {column.name: sa.text("DEFAULT")}, sa.column(column.name).is_(None), schema=schema)
            if not column.nullable:
                _set_not_null(server, table_name, column.name, schema)
        _add_constraints(server, table)


def _add_constraints(server: Server, table: Table) -> None:
    """Add the constraints and indexes of a table that has only a new column."""
    for constraint in table.constraints:
        if isinstance(constraint, sa.UniqueConstraint):
            is_added = add_unique(server, constraint)
        else:
            is_added = not isinstance(constraint, sa.ForeignKeyConstraint) or add_foreign_key(server, constraint)
        if not is_added:
            server.context.impl.add_constraint(constraint)
    for check in (each for column in table.columns for each in column.constraints):
        if isinstance(check, sa.CheckConstraint):
            own = CreateCheckConstraintOp(check.name, table.name, check.sqltext, schema=table.schema)
            add_check(server, own.to_constraint(server.context))
    for index in table.indexes:
        if not build_index(server, CreateIndexOp.from_index(index)):
            server.context.impl.create_index(index)


def alter_column(
    table_name: str,
    column_name: str,
    *,
    nullable: bool | None = None,
    type_: TypeEngine[Any] | type[TypeEngine[Any]] | None = None,
    existing_type: TypeEngine[Any] | type[TypeEngine[Any]] | None = None,
    schema: str | None = None,
    **kw: Any,  # noqa: ANN401 (Alembic's signature)
) -> None:
    """Change a column, on PostgreSQL so that the app can use the table while a new ``NOT NULL`` is checked.

    - ``nullable=False`` adds the check constraint ``<column>_is_not_null`` as ``NOT VALID``, validates it, makes the
      column ``NOT NULL``, which does not read the table then, and drops the constraint.
    - If ``existing_type`` and ``type_`` are enums, and the second only has more labels, these are added to the type
      outside of a transaction, so that the rest of the revision can use them. MariaDB and MySQL change the column, and
      SQLite rebuilds the table.

    For both, the transaction of the revision is committed, and the revision may run again. Everything else is done as
    in ``op.alter_column()``, whose parameters this function has; SQLite rebuilds the table.

    :param table_name: the table.
    :param column_name: the column.
    :param nullable: whether the column may contain NULL.
    :param type_: the new type.
    :param existing_type: the type of the column now, which MariaDB and MySQL need.
    :param schema: the schema of the table.
    :param kw: other arguments, such as ``server_default`` and ``existing_nullable``.
    """
    server = postgres()
    if server is None:
        with op.batch_alter_table(table_name, schema=schema) as batch:
            batch.alter_column(column_name, nullable=nullable, type_=type_, existing_type=existing_type, **kw)
        return
    if isinstance(existing_type, Enum) and isinstance(type_, Enum) and _grows(existing_type, type_):
        _add_labels(server, existing_type, type_)
        type_ = None
    if nullable is False:
        _set_not_null(server, table_name, column_name, schema)
        nullable = None
    changed = [value for name, value in kw.items() if not name.startswith(("existing_", "postgresql_"))]
    if nullable is not None or type_ is not None or any(value is not False for value in changed):
        is_repeatable = not (kw.get("new_column_name") or kw.get("postgresql_using"))
        with server.repeatable() if is_repeatable else nullcontext():
            op.alter_column(
                table_name,
                column_name,
                nullable=nullable,
                type_=type_,
                existing_type=existing_type,
                schema=schema,
                **kw,
            )


def _rewrites(server: Server, column: Column[Any]) -> bool:
    """Return whether PostgreSQL would rewrite the table to add a column with its default."""
    default = column.server_default
    if not isinstance(default, sa.DefaultClause):
        return False
    if not server.is_offline and (server.context.dialect.server_version_info or _CONSTANT_SINCE) < _CONSTANT_SINCE:
        return True
    sql = server.context.impl.render_ddl_sql_expr(default.arg) if isinstance(default.arg, sa.ClauseElement) else ""
    return any(name.lower() not in _STABLE for name in _CALL.findall(_STRING.sub("''", sql)))


def _bare(column: Column[Any], *, is_late: bool) -> Column[Any]:
    """Return a column without constraints and indexes, and if it is ``is_late``, without its default."""
    made = [item for item in (column.computed, column.identity) if item is not None]
    default = None if is_late or made else column.server_default
    nullable = column.nullable or is_late
    return Column(column.name, column.type, *made, server_default=default, nullable=nullable, comment=column.comment)


def _has_column(server: Server, table: Table, column: Column[Any]) -> bool:
    type_ = column.type.compile(dialect=server.context.dialect)
    name = server.preparer.format_table(table)
    found = server.row(_COLUMN, name, column=column.name, type=type_)
    if found is not None and found.is_same is False:
        raise OperationError(
            f"the table {server.single(name)} already has another column {column.name}, of the type {found.type}."
            " Drop or rename that column first"
        )
    return found is not None


def label_statements(old: Sequence[str], new: Sequence[str], name: str, dialect: Dialect) -> Iterator[str]:
    """Yield the statements that add the labels of ``new`` that are missing in ``old`` to a type of PostgreSQL.

    :param name: the quoted name of the type.
    :param dialect: the dialect of the statements.
    """
    string: Any = sa.String()
    quote = string.literal_processor(dialect)
    labels = [*old]
    for number, label in enumerate(new):
        if label not in labels:
            place = f" AFTER {quote(labels[number - 1])}" if number else f" BEFORE {quote(labels[0])}"
            yield f"ALTER TYPE {name} ADD VALUE IF NOT EXISTS {quote(label)}{place}"
            labels.insert(number, label)


def _grows(old: Enum, new: Enum) -> bool:
    """Return whether a native enum type only has more labels than before, in the same order."""
    kept = [label for label in new.enums if label in old.enums]
    is_same = (old.name, old.schema, old.native_enum) == (new.name, new.schema, True)
    return is_same and old.native_enum and kept == old.enums != new.enums


def _add_labels(server: Server, old: Enum, new: Enum) -> None:
    """Add the labels of ``new`` that are missing in ``old`` to their type."""
    preparer: Any = server.preparer  # of PostgreSQL
    with server.repeatable(), server.outside_transactions():
        for statement in label_statements(old.enums, new.enums, preparer.format_type(new), server.context.dialect):
            server.run(statement)


def _set_not_null(server: Server, table_name: str, column_name: str, schema: str | None) -> None:
    """Make a column NOT NULL, unless it is. Thanks to the check constraint, PostgreSQL need not read the rows."""
    name = f"{column_name}_is_not_null"
    if len(name.encode()) > MAX_NAME:
        name = f"{hashlib.sha256(column_name.encode()).hexdigest()[:16]}_is_not_null"
    condition = sa.column(column_name).is_not(None)
    check = CreateCheckConstraintOp(conv(name), table_name, condition, schema=schema).to_constraint(server.context)
    table, quoted = server.preparer.format_table(check.table), server.preparer.quote(column_name)
    found = server.row(_IS_NOT_NULL, table, column=column_name, name=name)
    with server.repeatable():
        if found is None or not found.attnotnull:
            add_check(server, check)
            server.run(f"ALTER TABLE {table} ALTER COLUMN {quoted} SET NOT NULL")
        if found is None or not found.attnotnull or found.has_check:
            allow = "-- squawk-ignore ban-drop-constraint\n" if server.is_offline else ""
            server.run(f"{allow}ALTER TABLE {table} DROP CONSTRAINT {server.preparer.quote(name)}")
        server.commit()
