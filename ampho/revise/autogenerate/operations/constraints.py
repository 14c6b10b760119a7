"""Naming constraints that the models leave unnamed, and changing foreign keys and their indexes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from alembic.autogenerate import renderers
from alembic.autogenerate.render import render_op
from alembic.operations import ops
from sqlalchemy import PrimaryKeyConstraint, Table, UniqueConstraint
from sqlalchemy.sql.elements import conv

from ampho.revise.autogenerate.operations.changes import table_key

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy.types import TypeEngine

    from ampho.revise.autogenerate.operations.changes import Changes

CONVENTION = {"fk": "%(table_name)s_%(column_0_N_name)s_fkey", "uq": "%(table_name)s_%(column_0_N_name)s_key"}
"""The names that PostgreSQL gives to constraints, as a naming convention of SQLAlchemy."""

_MAX_NAME = 63
_SUFFIXES = {"foreignkey": "fkey", "unique": "key"}


class UnnamedTableOps(ops.ModifyTableOps):
    """Changes a table with unnamed constraints, to which a batch gives names by :data:`CONVENTION`."""

    def reverse(self) -> ops.ModifyTableOps:
        """Return the operation of the downgrade, which creates the constraints with these names."""
        return ops.ModifyTableOps(self.table_name, [each.reverse() for each in reversed(self.ops)], schema=self.schema)


@renderers.dispatch_for(UnnamedTableOps)
def _render_unnamed(autogen: AutogenContext, operation: UnnamedTableOps) -> list[str]:
    plain = ops.ModifyTableOps(operation.table_name, operation.ops, schema=operation.schema)
    lines = render_op(autogen, plain)
    ending = ") as batch_op:"
    return [
        line.replace(ending, f", naming_convention={CONVENTION!r}{ending}") if line.endswith(ending) else line
        for line in lines
    ]


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


def name_constraints(changes: Changes) -> None:
    """Name the unnamed foreign keys and unique constraints that are added to, or dropped from, existing tables.

    Without a name, the downgrade could not drop a constraint. The names are those that PostgreSQL would choose.
    """
    for number, table in enumerate(changes.upgrade.ops):
        if not isinstance(table, ops.ModifyTableOps):
            continue
        unnamed = False
        for each in table.ops:
            if isinstance(each, ops.CreateForeignKeyOp) and each.constraint_name is None:
                each.constraint_name = _name(table.table_name, each.local_cols, "fkey")
            elif isinstance(each, ops.CreateUniqueConstraintOp) and each.constraint_name is None:
                each.constraint_name = _name(table.table_name, each.columns, "key")
            elif isinstance(each, ops.DropConstraintOp) and each.constraint_name is None:
                suffix = _SUFFIXES.get(str(each.constraint_type))
                if suffix is not None:
                    columns = [column.name for column in each.to_constraint().columns]  # type: ignore[attr-defined]
                    each.constraint_name = "_".join([table.table_name, *columns, suffix])
                    unnamed = True
        if unnamed:
            changes.upgrade.ops[number] = UnnamedTableOps(table.table_name, table.ops, schema=table.schema)


def separate_checks_of_types(changes: Changes) -> None:
    """Write new types, such as enums, without their named checks, for which there are operations of their own."""
    for table in changes.only(ops.ModifyTableOps):
        for each in table.ops:
            if isinstance(each, ops.AlterColumnOp) and (plain := _without_check(each.modify_type)) is not None:
                each.modify_type = plain
            elif isinstance(each, ops.AddColumnOp) and (plain := _without_check(each.column.type)) is not None:
                column, each.column = each.column, each.column._copy()  # noqa: SLF001 (it has no public name)
                each.column.type, each.column.table = plain, column.table


def _without_check(type_: TypeEngine[Any] | None) -> TypeEngine[Any] | None:
    """Return a copy of a type that creates no check; None if the type has no check with a name."""
    if not (getattr(type_, "create_constraint", False) and getattr(type_, "name", None)):
        return None
    copied: Any = cast("Any", type_).copy()
    copied.create_constraint = False
    return cast("TypeEngine[Any]", copied)


class _ColumnName(str):
    """The name of a column, whose code is a column: SQLAlchemy only looks up names among the constrained columns."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"sa.column({str(self)!r})"


def name_included_columns(changes: Changes) -> None:
    """Write the columns that a unique constraint of PostgreSQL includes so that the operation runs."""
    for table in changes.upgrade.ops:
        if isinstance(table, ops.ModifyTableOps) and changes.autogen.dialect.name == "postgresql":
            table.ops[:] = [_with_included_columns(each) for each in table.ops]


def _with_included_columns(operation: ops.MigrateOperation) -> ops.MigrateOperation:
    is_unique = isinstance(operation, ops.DropConstraintOp) and operation.constraint_type == "unique"
    if not is_unique and not isinstance(operation, ops.CreateUniqueConstraintOp):
        return operation
    constraint: Any = operation.to_constraint()  # type: ignore[attr-defined]
    options = constraint.dialect_options["postgresql"]
    if not options["include"]:
        return operation
    options["include"] = [*map(_ColumnName, options["include"])]
    made: ops.MigrateOperation = type(operation).from_constraint(constraint)  # type: ignore[attr-defined]
    return made


def _name(table: str, columns: object, suffix: str) -> str:
    name = "_".join([table, *map(str, columns), suffix])  # type: ignore[call-overload]
    if len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _MAX_NAME - len(suffix) - 10]}_{digest}_{suffix}"


def keep_keys_of_default_schema(changes: Changes) -> None:
    """Leave out changes of foreign keys that differ only in the default schema, which the database does not name."""
    default = changes.autogen.dialect.default_schema_name
    for table in changes.only(ops.ModifyTableOps):
        same = {id(each) for pair in _same_keys(table, default) for each in pair}
        table.ops[:] = [each for each in table.ops if id(each) not in same]
    changes.remove_empty()


def _same_keys(table: ops.ModifyTableOps, default: str | None) -> Iterator[tuple[object, object]]:
    created = [each for each in table.ops if isinstance(each, ops.CreateForeignKeyOp)]
    for end in table.ops:
        if isinstance(end, ops.DropConstraintOp) and end.constraint_type == "foreignkey":
            old = end.reverse()
            for key in created:
                if isinstance(old, ops.CreateForeignKeyOp) and shape_of_key(old, default) == shape_of_key(key, default):
                    yield end, key


def shape_of_key(key: ops.CreateForeignKeyOp, default: str | None = None) -> tuple[object, ...]:
    """Return what a foreign key references and how, without the default schema and the defaults of its options."""
    schema = key.kw.get("referent_schema")
    actions = [str(key.kw.get(name) or "NO ACTION").upper() for name in ("onupdate", "ondelete")]
    options = [key.kw.get(name) or None for name in ("deferrable", "initially")]
    return (
        key.referent_table,
        None if schema == default else schema,
        tuple(key.local_cols),
        tuple(key.remote_cols),
        *actions,
        *options,
    )
