"""Splitting the changes to a table by the owners of its columns, because subclasses in other packages may add some."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from alembic.operations import ops
from sqlalchemy import Column, ForeignKeyConstraint, UniqueConstraint

if TYPE_CHECKING:
    from ampho.revise.autogenerate.owners.ownership import Ownership

TableOp: TypeAlias = ops.CreateTableOp | ops.ModifyTableOps | ops.DropTableOp


def split_by_owner(operation: TableOp, key: str, owners: Ownership) -> Iterator[tuple[str, TableOp]]:
    """Yield the parts of an operation on a table, each with its owner.

    :param key: the key of the table in the models.
    """
    owner = owners.owner(key) or ""
    others = owners.columns.get(key, {})
    if isinstance(operation, ops.ModifyTableOps):
        parts: dict[str, list[ops.MigrateOperation]] = {}
        for each in operation.ops:
            found = [owners.owner_of_column(key, column) for column in _columns(each)]
            part = next((other for other in found if other not in (None, owner)), owner) or owner
            parts.setdefault(part, []).append(each)
        for part, changes in parts.items():
            yield part, ops.ModifyTableOps(operation.table_name, changes, schema=operation.schema)
        return
    if isinstance(operation, ops.CreateTableOp) and others:
        added = [item for item in operation.columns if not others.keys().isdisjoint(_names(item))]
        operation.columns = [item for item in operation.columns if others.keys().isdisjoint(_names(item))]
        yield owner, operation
        for part in dict.fromkeys(others.values()):
            items = [item for item in added if part in map(others.get, _names(item))]
            changes = [change for item in items for change in _addition(item, operation)]
            yield part, ops.ModifyTableOps(operation.table_name, changes, schema=operation.schema)
        return
    yield owner, operation


def _names(item: object) -> set[str]:
    """Return the names of a column, or of the columns of a constraint."""
    columns = [item] if isinstance(item, Column) else getattr(item, "columns", ())
    return {column.name for column in columns}


def _addition(item: object, table: ops.CreateTableOp) -> Iterator[ops.MigrateOperation]:
    """Yield the operation that adds a column or a constraint to an existing table."""
    if isinstance(item, Column):
        yield ops.AddColumnOp.from_column_and_tablename(table.schema, table.table_name, item)
    elif isinstance(item, ForeignKeyConstraint):
        yield ops.CreateForeignKeyOp.from_constraint(item)
    elif isinstance(item, UniqueConstraint):
        yield ops.CreateUniqueConstraintOp.from_constraint(item)


def _columns(operation: ops.MigrateOperation) -> list[str]:
    """Return the names of the columns that an operation on a table changes."""
    match operation:
        case ops.AddColumnOp(column=column):
            return [column.name]
        case ops.DropColumnOp(column_name=name) | ops.AlterColumnOp(column_name=name):
            return [name]
        case ops.CreateForeignKeyOp(local_cols=names):
            return list(names)
        case ops.CreateIndexOp(columns=columns) | ops.CreateUniqueConstraintOp(columns=columns):
            return [getattr(column, "name", None) or str(column) for column in columns]
        case ops.DropIndexOp() | ops.DropConstraintOp():
            return _columns(operation.reverse())
        case _:
            return []
