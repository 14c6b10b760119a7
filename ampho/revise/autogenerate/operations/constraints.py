"""Naming constraints that the models leave unnamed, and correcting operations on constraints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from alembic.autogenerate import renderers
from alembic.autogenerate.render import render_op
from alembic.operations import ops

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


def remove_default_options(options: MutableMapping[str, Any]) -> None:
    """Remove the options of a unique constraint that PostgreSQL reports as its defaults.

    Before PostgreSQL 15, ``NULLS DISTINCT``, which SQLAlchemy would write for one of them, is a syntax error.
    """
    for name in ("postgresql_include", "postgresql_nulls_not_distinct"):
        if name in options and not options[name]:
            with suppress(KeyError):  # SQLAlchemy's own default cannot be removed, and is not written
                del options[name]
