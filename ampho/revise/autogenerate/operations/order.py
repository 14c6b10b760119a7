"""Ordering operations so that a database accepts them, and creating foreign keys that Alembic omits.

This module uses these private names: ``DropTableOp._reverse``, the table as the comparison found it, and
``ForeignKeyConstraint._copy``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import cast

from alembic.operations import ops
from sqlalchemy import Column, ForeignKeyConstraint
from sqlalchemy.schema import ColumnCollectionConstraint

from ampho.revise.autogenerate.operations.changes import (
    Changes,
    is_empty_change,
    parents,
    references,
    table_key,
    target,
    targets,
)
from ampho.revise.autogenerate.owners.keys import split_key


def order_drops(changes: Changes) -> None:
    """Sort the operations so that a table is dropped after the dropped tables and foreign keys that reference it.

    Alembic drops tables before it changes others, in an arbitrary order, and drops an index before the foreign key
    for which MariaDB needs the index. The indexes of a dropped table are not dropped separately, because MariaDB
    may reject that. Other tables are changed later, because the changes may reuse the names of those indexes.
    """
    found = changes.upgrade.ops
    drops = {table_key(operation): operation for operation in changes.only(ops.DropTableOp)}
    modified = changes.only(ops.ModifyTableOps)
    changes.of_dropped_tables = [operation for operation in modified if table_key(operation) in drops]
    for operation in modified:
        operation.ops.sort(key=drops_foreign_key, reverse=True)
    if drops:
        moved = {*map(id, drops.values()), *map(id, changes.of_dropped_tables)}
        first = next(number for number, operation in enumerate(found) if id(operation) in moved)
        after = [operation for operation in found[first:] if id(operation) not in moved]
        keys = [end for item in after if isinstance(item, ops.ModifyTableOps) for end in _dropped_keys(item, drops)]
        order, circular = _children_first(drops)
        if changes.supports_alter:
            keys += [drop_foreign_keys(drops[key], target) for key, target in circular]
        left = [operation for operation in after if not is_empty_change(operation)]
        found[first:] = [*keys, *(drops[key] for key in order), *left]


def leave_out_inherited_columns(changes: Changes) -> None:
    """Leave out what tables of PostgreSQL inherit: dropping columns, and creating columns when a drop is reverted."""
    for drop in changes.only(ops.DropTableOp):
        made = cast("ops.CreateTableOp", drop._reverse)
        if names := _columns_of(parents(made.kw), changes):
            constraints = [item for item in made.columns if isinstance(item, ColumnCollectionConstraint)]
            names.difference_update(*(item.columns.keys() for item in constraints))
            made.columns = [item for item in made.columns if not (isinstance(item, Column) and item.name in names)]
    for change in changes.only(ops.ModifyTableOps):
        declared = changes.autogen.table_key_to_table.get(table_key(change))
        if declared is not None and (names := _columns_of(parents(declared.dialect_kwargs), changes)):
            change.ops[:] = [
                each for each in change.ops if not (isinstance(each, ops.DropColumnOp) and each.column_name in names)
            ]
    changes.remove_empty()


def _columns_of(keys: Iterable[str], changes: Changes) -> set[str]:
    """Return the names of the columns of tables in the database."""
    inspector = changes.autogen.inspector
    tables = [(name, schema) for schema, name in map(split_key, keys)]
    found = [inspector.get_columns(*table) for table in tables if inspector.has_table(*table)]
    return {column["name"] for columns in found for column in columns}


def make_altering_keys(changes: Changes) -> None:
    """Create foreign keys that have ``use_alter``, which ``op.create_table`` omits if ALTER TABLE can add them.

    They are created with the table, or at the end if they reference another table that the revision creates.
    """
    if not changes.supports_alter:
        return
    made = changes.only(ops.CreateTableOp)
    names = {table_key(operation) for operation in made}
    for operation in made:
        keys = [item for item in operation.columns if isinstance(item, ForeignKeyConstraint) and item.use_alter]
        for item in keys:
            items = [other for other in operation.columns if other is not item]
            if any(key in names and key != table_key(operation) for key in map(target, item.elements)):
                key = ops.CreateForeignKeyOp.from_constraint(item)
                changes.upgrade.ops.append(ops.ModifyTableOps(operation.table_name, [key], schema=operation.schema))
            else:
                items.append(_without_alter(item))
            operation.columns = items


def drops_foreign_key(operation: ops.MigrateOperation) -> bool:
    """Return whether an operation drops a foreign key."""
    return isinstance(operation, ops.DropConstraintOp) and operation.constraint_type == "foreignkey"


def _dropped_keys(change: ops.ModifyTableOps, drops: Mapping[str, object]) -> Iterator[ops.ModifyTableOps]:
    """Move operations that drop foreign keys to dropped tables out of a change, and yield them as a new change."""
    ends = [end for end in change.ops if drops_foreign_key(end) and not drops.keys().isdisjoint(targets(end.reverse()))]
    if ends:
        change.ops[:] = [other for other in change.ops if other not in ends]
        yield ops.ModifyTableOps(change.table_name, ends, schema=change.schema)


def _children_first(drops: Mapping[str, ops.DropTableOp]) -> tuple[Sequence[str], Sequence[tuple[str, str]]]:
    """Return the keys of the dropped tables, each before the tables that it references, and pairs of tables in cycles.

    The foreign keys from the first table of a pair to the second must be dropped before either table.
    """
    waits_for: dict[str, list[str]] = {key: [] for key in sorted(drops)}
    for key in waits_for:
        for referenced in dict.fromkeys(targets(drops[key].reverse())):
            if referenced in waits_for and referenced != key:
                waits_for[referenced].append(key)
    circular: list[tuple[str, str]] = []
    while True:
        try:
            return tuple(TopologicalSorter(waits_for).static_order()), circular
        except CycleError as exc:
            key, referenced = exc.args[1][:2]
            waits_for[referenced].remove(key)
            circular.append((key, referenced))


def drop_foreign_keys(drop: ops.DropTableOp, key: str) -> ops.ModifyTableOps:
    """Return an operation that drops the foreign keys from a dropped table to another, before both are dropped."""
    table = cast("ops.CreateTableOp", drop._reverse)
    ends = [ops.DropConstraintOp.from_constraint(item) for item in table.columns if references(item, {key})]
    table.columns = [item for item in table.columns if not references(item, {key})]
    return ops.ModifyTableOps(drop.table_name, ends, schema=drop.schema)


def _without_alter(constraint: ForeignKeyConstraint) -> ForeignKeyConstraint:
    copy = constraint._copy()
    copy.use_alter = False
    for element in copy.elements:
        element.use_alter = False
    return copy
