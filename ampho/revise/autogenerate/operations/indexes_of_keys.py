"""Changing the indexes that the foreign keys of MariaDB and MySQL need: these databases create and protect them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from alembic.autogenerate import renderers
from alembic.autogenerate.render import render_op
from alembic.operations import ops
from sqlalchemy import PrimaryKeyConstraint, Table, UniqueConstraint
from sqlalchemy.sql.elements import conv

from ampho.revise.autogenerate.operations.changes import table_key

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

    from ampho.revise.autogenerate.operations.changes import Changes


class IndexedKeyOp(ops.CreateForeignKeyOp):
    """Creates a foreign key for which MariaDB or MySQL creates an index with the same name."""

    def reverse(self) -> DropIndexedKeyOp:
        """Return the operation of the downgrade."""
        found = DropIndexedKeyOp(self.constraint_name, self.source_table)
        vars(found).update(vars(super().reverse()))
        return found


class DropIndexedKeyOp(ops.DropConstraintOp):
    """Drops a foreign key and its index, which MariaDB and MySQL would keep."""


@renderers.dispatch_for(DropIndexedKeyOp)
def _render_indexed_key(autogen: AutogenContext, operation: DropIndexedKeyOp) -> list[str]:
    key = ops.DropConstraintOp(operation.constraint_name, operation.table_name)
    vars(key).update(vars(operation))
    index = ops.DropIndexOp(str(operation.constraint_name), operation.table_name, schema=operation.schema)
    return [*render_op(autogen, key), *render_op(autogen, index)]


def drop_indexes_of_keys(changes: Changes) -> None:
    """Let the downgrade drop the indexes that MariaDB and MySQL create for foreign keys without another index."""
    if changes.autogen.dialect.name not in ("mysql", "mariadb"):
        return
    for table in changes.only(ops.ModifyTableOps):
        declared = changes.autogen.table_key_to_table.get(table_key(table))
        for number, operation in enumerate(table.ops):
            if isinstance(operation, ops.CreateForeignKeyOp) and not _has_index(declared, operation.local_cols):
                table.ops[number] = found = IndexedKeyOp(
                    operation.constraint_name,
                    operation.source_table,
                    operation.referent_table,
                    operation.local_cols,
                    operation.remote_cols,
                )
                vars(found).update(vars(operation))


class KeepingKeys(ops.ModifyTableOps):
    """Changes a table of MariaDB or MySQL, which refuse to drop the only index that a foreign key can use.

    Such a key is dropped before the index, and created after it, so that the database creates its own index.

    :ivar change: the change, without the operations on these keys.
    :ivar keys: the foreign keys that the table has before and after the change.
    :ivar indexes: the columns of each index that the table has after the change.
    """

    def __init__(
        self, change: ops.ModifyTableOps, keys: Sequence[ops.CreateForeignKeyOp], indexes: Sequence[list[str]]
    ) -> None:
        super().__init__(change.table_name, (), schema=change.schema)
        self.change: ops.ModifyTableOps = change
        self.ops: list[ops.MigrateOperation] = change.ops
        self.keys: Sequence[ops.CreateForeignKeyOp] = keys
        self.indexes: Sequence[list[str]] = indexes

    def reverse(self) -> KeepingKeys:
        """Return the operation of the downgrade."""
        return KeepingKeys(self.change.reverse(), self.keys, self._before())

    def expanded(self) -> Iterator[ops.MigrateOperation]:
        """Yield the operations, with those on the keys."""
        indexes = self._before()
        for operation in self.ops:
            dropped = _dropped_index(operation)
            indexes = _without(indexes, dropped)
            keys = [key for key in self.keys if _begins(dropped, key) and not any(_begins(it, key) for it in indexes)]
            for key in keys:
                yield ops.DropConstraintOp(key.constraint_name, self.table_name, "foreignkey", schema=self.schema)
            yield operation
            yield from keys
            indexes.append(_created_index(operation))

    def _before(self) -> list[list[str]]:
        """Return the columns of each index that the table has before the change."""
        found = [*self.indexes]
        for operation in reversed(self.ops):
            found = [*_without(found, _created_index(operation)), _dropped_index(operation)]
        return found


@renderers.dispatch_for(KeepingKeys)
def _render_keeping_keys(autogen: AutogenContext, operation: KeepingKeys) -> list[str]:
    expanded = [*operation.expanded()]
    return render_op(autogen, ops.ModifyTableOps(operation.table_name, expanded, schema=operation.schema))


def keep_keys(changes: Changes) -> None:
    """Keep the foreign keys for which MariaDB and MySQL need an index that the upgrade or the downgrade drops."""
    if changes.autogen.dialect.name not in ("mysql", "mariadb"):
        return
    new = {*map(table_key, changes.only(ops.CreateTableOp))}
    renamed = {each.new_table_name: each.table_name for each in changes.only(ops.RenameTableOp)}
    for number, table in enumerate(changes.upgrade.ops):
        if not isinstance(table, ops.ModifyTableOps) or table_key(table) in new:
            continue
        if any(_created_index(each) or _dropped_index(each) for each in table.ops):
            keys = [*_kept_keys(table, changes, renamed.get(table.table_name))]
            _create_before_drop(table, keys)
            keeping = KeepingKeys(table, keys, _indexes(changes.autogen.table_key_to_table.get(table_key(table))))
            if any(len([*each.expanded()]) > len(each.ops) for each in (keeping, keeping.reverse())):
                changes.upgrade.ops[number] = keeping


def _kept_keys(table: ops.ModifyTableOps, changes: Changes, old_name: str | None) -> Iterator[ops.CreateForeignKeyOp]:
    """Yield operations that create the foreign keys of a table in the database that the upgrade does not drop.

    :param old_name: the name of the table before it is renamed, if it is.
    """
    drops = [each for each in changes.operations() if isinstance(each, ops.DropConstraintOp)]
    dropped = {each.constraint_name for each in drops if each.table_name == table.table_name}
    generated = f"{old_name}_ibfk_"  # how the database names keys, which it renames with the table
    for key in changes.autogen.inspector.get_foreign_keys(table.table_name, table.schema):
        if (name := str(key["name"])) not in dropped:
            if name.startswith(generated):
                name = f"{table.table_name}_ibfk_{name.removeprefix(generated)}"
            yield ops.CreateForeignKeyOp(
                conv(name),
                table.table_name,
                key["referred_table"],
                key["constrained_columns"],
                key["referred_columns"],
                source_schema=table.schema,
                referent_schema=key["referred_schema"],
                **key.get("options", {}),
            )


def _create_before_drop(table: ops.ModifyTableOps, keys: Sequence[ops.CreateForeignKeyOp]) -> None:
    """Create the indexes that foreign keys can use before others are dropped, so that the keys always have one."""
    drops = [each for each in table.ops if _dropped_index(each)]
    names = {_index_name(each) for each in drops}
    usable = [each for each in table.ops if any(_begins(_created_index(each), key) for key in keys)]
    first = [each for each in usable if _index_name(each) not in names]
    if drops and first:
        rest = [each for each in table.ops if each not in first]
        at = rest.index(drops[0])
        table.ops[:] = [*rest[:at], *first, *rest[at:]]


def _created_index(operation: object) -> list[str]:
    """Return the columns of the index or unique constraint that an operation creates; otherwise, an empty list."""
    if not isinstance(operation, ops.CreateIndexOp | ops.CreateUniqueConstraintOp):
        return []
    return [str(getattr(column, "name", column)) for column in operation.columns]


def _dropped_index(operation: ops.MigrateOperation) -> list[str]:
    """Return the columns of the index or unique constraint that an operation drops; otherwise, an empty list."""
    is_unique = isinstance(operation, ops.DropConstraintOp) and operation.constraint_type == "unique"
    return _created_index(operation.reverse()) if is_unique or isinstance(operation, ops.DropIndexOp) else []


def _index_name(operation: ops.MigrateOperation) -> object:
    return getattr(operation, "index_name", None) or getattr(operation, "constraint_name", None)


def _without(indexes: Sequence[list[str]], index: list[str]) -> list[list[str]]:
    """Return a list without the first of the items that are equal to the given one."""
    at = indexes.index(index) if index in indexes else len(indexes)
    return [*indexes[:at], *indexes[at + 1 :]]


def _begins(index: Sequence[str], key: ops.CreateForeignKeyOp) -> bool:
    return [*index[: len(key.local_cols)]] == [*key.local_cols]


def _has_index(table: Table | None, columns: Sequence[str]) -> bool:
    """Return whether an index, a unique constraint, or the primary key begins with the given columns."""
    return any(names[: len(columns)] == [*columns] for names in _indexes(table))


def _indexes(table: Table | None) -> list[list[str]]:
    """Return the columns of each index, unique constraint, and primary key."""
    if table is None:
        return []
    constraints = [each for each in table.constraints if isinstance(each, (PrimaryKeyConstraint, UniqueConstraint))]
    return [[column.name for column in each.columns] for each in (*constraints, *table.indexes)]
