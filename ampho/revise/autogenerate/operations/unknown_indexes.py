"""Keeping the indexes in the database that no model and no revision names, because they were created by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable

from alembic.operations import ops
from sqlalchemy import Column, Index, Integer, MetaData, Table, UniqueConstraint

from ampho.revise.autogenerate.operations.changes import Changes, table_key
from ampho.revise.autogenerate.owners.keys import join_key


def keep_unknown_indexes(changes: Changes) -> None:
    """Remove the operations that drop indexes that no revision names, and record the names of these indexes.

    This only applies to tables that a revision creates by name: the names of other tables' indexes may be computed.
    """
    for table in changes.only(ops.ModifyTableOps):
        if table_key(table) in changes.objects.owners.history:
            kept = [each for each in _dropped(table) if not _is_known(each, changes)]
            table.ops[:] = [each for each in table.ops if each not in kept]
            changes.kept_indexes += [f"{table_key(table)}.{each.index_name}" for each in kept]
    changes.remove_empty()


def _dropped(table: ops.ModifyTableOps) -> Iterable[ops.DropIndexOp]:
    """Return the operations that drop indexes that are neither created again nor part of something else dropped."""
    others = [each for each in table.ops if isinstance(each, ops.CreateIndexOp | ops.DropConstraintOp)]
    names = {getattr(each, "index_name", None) or getattr(each, "constraint_name", None) for each in others}
    columns = {each.column_name for each in table.ops if isinstance(each, ops.DropColumnOp)}
    for each in table.ops:
        if isinstance(each, ops.DropIndexOp) and each.index_name not in names and columns.isdisjoint(_words(each)):
            yield each


def _words(operation: ops.DropIndexOp) -> set[str]:
    """Return the columns of an index, and all words of its expressions."""
    items = operation.to_index().expressions
    names = {item.name for item in items if isinstance(item, Column)}
    return names.union(*(re.findall(r"\w+", str(item)) for item in items if not isinstance(item, Column)))


def _is_known(operation: ops.DropIndexOp, changes: Changes) -> bool:
    """Return whether a revision names an index, or the index has the name that SQLAlchemy gives to one without."""
    name = str(operation.index_name)
    is_generated = changes.autogen.dialect.identifier_preparer.quote(name) in _generated_names(operation, changes)
    return is_generated or changes.objects.owners.created.names(name)


def _generated_names(operation: ops.DropIndexOp, changes: Changes) -> set[str]:
    """Return the quoted names of an index and a unique constraint with the same columns and no name of their own."""
    declared = changes.autogen.table_key_to_table.get(join_key(operation.schema, str(operation.table_name)))
    metadata = MetaData(naming_convention=declared.metadata.naming_convention if declared is not None else None)
    names = [item.name for item in operation.to_index().expressions if isinstance(item, Column)]
    columns = [Column[int](name, Integer) for name in dict.fromkeys(names)]
    if not names:
        return set()
    items: list[Index | UniqueConstraint] = [Index(None, *names), UniqueConstraint(*names)]
    Table(str(operation.table_name), metadata, *columns, *items, schema=operation.schema)
    preparer = changes.autogen.dialect.identifier_preparer
    return {str(preparer.format_constraint(item)) for item in items if item.name}
