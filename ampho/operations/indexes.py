"""Indexes that PostgreSQL builds and drops while the app writes to the table."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from alembic import op
from alembic.operations.ops import CreateIndexOp, DropIndexOp
from sqlalchemy.exc import DBAPIError

from ampho.errors import OperationError
from ampho.operations.server import Server, postgres

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Index, Row, TextClause

_INDEX = """
    SELECT indisvalid AND indisready AS is_valid, indisunique, pg_get_indexdef(indexrelid) AS definition FROM pg_index
    JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = to_regclass(:table) AND (relname = :name OR :name = '')
"""
COPY = "ampho_copy"
"""The name of what is created for a moment, to compare it with what exists."""


def create_index(
    index_name: str | None,
    table_name: str,
    columns: Sequence[str | TextClause | ColumnElement[Any]],
    *,
    schema: str | None = None,
    unique: bool = False,
    **kw: Any,  # noqa: ANN401 (Alembic's signature)
) -> None:
    """Create an index, on PostgreSQL with ``CONCURRENTLY``, so that the app can write to the table meanwhile.

    PostgreSQL commits the transaction of the revision first. If the revision runs again, an invalid index of the same
    name is removed first, and a valid one is kept. On other databases, and for a table with partitions, this is
    ``op.create_index()``, whose parameters it has.

    :param index_name: the name; None for that of the naming convention.
    :param table_name: the table.
    :param columns: the names of the columns, or expressions.
    :param schema: the schema of the table.
    :param unique: whether the index is unique.
    :param kw: other arguments, such as ``postgresql_where``.
    :raises OperationError: if another index of the same name exists on the table.
    """
    kw.pop("postgresql_concurrently", None)
    server = postgres()
    operation = CreateIndexOp(index_name, table_name, columns, schema=schema, unique=unique, **kw)
    if server is None or not build_index(server, operation):
        op.create_index(index_name, table_name, list(columns), schema=schema, unique=unique, **kw)


def drop_index(
    index_name: str,
    table_name: str | None = None,
    *,
    schema: str | None = None,
    **kw: Any,  # noqa: ANN401 (Alembic's signature)
) -> None:
    """Drop an index, on PostgreSQL with ``CONCURRENTLY``, so that the app can use the table meanwhile.

    PostgreSQL commits the transaction of the revision first. If the revision runs again, a missing index is no error.
    On other databases, and for a table with partitions, this is ``op.drop_index()``, whose parameters it has.

    :param index_name: the name.
    :param table_name: the table.
    :param schema: the schema of the table.
    :param kw: other arguments.
    """
    kw.pop("postgresql_concurrently", None)
    server = postgres()
    index = DropIndexOp(index_name, table_name, schema=schema, **kw).to_index(op.get_context())
    if server is None or server.is_partitioned(server.table(index)):
        op.drop_index(index_name, table_name, schema=schema, **kw)
        return
    with server.repeatable(), server.outside_transactions():
        _drop(server, index)


def build_index(server: Server, operation: CreateIndexOp) -> bool:
    """Build an index, unless it exists; return False if PostgreSQL cannot do that without blocking the app."""
    operation.kw["postgresql_concurrently"] = True
    index = operation.to_index(server.context)
    table = server.table(index)
    if server.is_partitioned(table):
        return False
    name = server.plain(server.preparer.format_index(index))
    with server.repeatable():
        found = server.row(_INDEX, table, name=name)
        if found is not None and found.is_valid:
            _check_equal(server, operation, table, found)
            return True
        with server.outside_transactions():
            if found is not None or server.is_offline:
                _drop(server, index)
            try:
                server.context.impl.create_index(index, if_not_exists=server.is_offline or None)
            except DBAPIError as exc:
                if not exc.connection_invalidated:  # a unique index would reject rows even though it is invalid
                    with suppress(DBAPIError):
                        left = server.row(_INDEX, table, name=name)
                        if left is not None and not left.is_valid:
                            _drop(server, index)
                raise
    return True


def _drop(server: Server, index: Index) -> None:
    name, schema = server.preparer.format_index(index), index.table.schema if index.table is not None else None
    place = f"{server.preparer.quote_schema(schema)}." if schema else ""
    server.run(f"DROP INDEX CONCURRENTLY IF EXISTS {place}{name}")


def _check_equal(server: Server, operation: CreateIndexOp, table: str, found: Row[Any]) -> None:
    """Check that an index is the one that an operation creates, by creating it on an empty copy of the table."""
    options: dict[str, Any] = {**operation.kw, "postgresql_concurrently": False}
    unique = operation.unique
    copy = CreateIndexOp(operation.index_name, COPY, operation.columns, schema="pg_temp", unique=unique, **options)
    with op.get_bind().begin_nested() as savepoint:
        server.run(f"CREATE TEMPORARY TABLE {COPY} (LIKE {table})")
        server.context.impl.create_index(copy.to_index(server.context))
        wanted = server.row(_INDEX, f"pg_temp.{COPY}", name="")
        savepoint.rollback()
    if wanted is None or _shape(wanted) != _shape(found):
        raise OperationError(
            f"the table {server.single(table)} already has another index of this name: {found.definition}. Drop that"
            " index, or choose another name"
        )


def _shape(index: Row[Any]) -> tuple[bool, str]:
    return index.indisunique, index.definition.partition(" USING ")[2]
