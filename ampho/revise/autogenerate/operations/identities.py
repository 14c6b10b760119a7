"""Changing the ``Identity`` of columns of PostgreSQL, for which Alembic writes operations that PostgreSQL refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from alembic.autogenerate import renderers
from alembic.operations import ops
from sqlalchemy import Identity, text

from ampho.history.sql import string_literal
from ampho.revise.autogenerate.operations.changes import Changes, table_key
from ampho.revise.autogenerate.operations.describe import Change
from ampho.revise.autogenerate.operations.statements import Statement, literal_sql, quoted

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

_SERIAL = "SERIAL"
_SEQUENCE = text("""
    SELECT pg_get_serial_sequence(attrelid::regclass::text, attname)::regclass::text
    FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attname = :column
""")  # no row if the revision renames the column, whose old name the database still has
_OPTIONS = {"increment": 1, "minvalue": None, "maxvalue": None, "start": 1, "cache": 1, "cycle": False}
"""The options of an identity, with the values that they have if the model does not state them."""

_Source: TypeAlias = "Identity | str | None"
"""What numbers the rows: an identity, ``SERIAL``, or nothing."""


class ChangeIdentityOp(Statement):
    """Changes what numbers the rows of a table in a column.

    :ivar old: what numbers the rows before.
    :ivar new: what numbers the rows afterwards.
    :ivar sequence: the name of the sequence of a ``SERIAL`` column, quoted if necessary.
    """

    def __init__(self, column: ops.AlterColumnOp, old: _Source, new: _Source, sequence: str) -> None:
        name = f"{table_key(column)}.{column.column_name}"
        super().__init__("", Change("~", "column", name, _shown(old, new)))
        self.column = column
        self.old = old
        self.new = new
        self.sequence = sequence

    def reverse(self) -> ChangeIdentityOp:
        """Return the operation of the downgrade."""
        return ChangeIdentityOp(self.column, self.new, self.old, self.sequence)


def _shown(old: _Source, new: _Source) -> str:
    names = ["Identity" if isinstance(each, Identity) else each or "no Identity" for each in (old, new)]
    return "other options of Identity" if names[0] == names[1] else " -> ".join(names)


def change_identities(changes: Changes) -> None:
    """Drop, change, and add identities, each before or after the other changes of its table."""
    if changes.autogen.dialect.name != "postgresql":
        return
    found: list[ops.MigrateOperation] = []
    for operation in changes.upgrade.ops:
        if not isinstance(operation, ops.ModifyTableOps):
            found.append(operation)
            continue
        made = [
            each for item in operation.ops if isinstance(item, ops.AlterColumnOp) for each in _change(item, changes)
        ]
        operation.ops[:] = [each for each in operation.ops if not _is_left_empty(each)]
        found += [each for each in made if each.new is None]
        found += [] if operation.is_empty() else [operation]
        found += [each for each in made if each.new is not None]
    changes.upgrade.ops[:] = found


def _is_left_empty(operation: ops.MigrateOperation) -> bool:
    return isinstance(operation, ops.AlterColumnOp) and not operation.has_changes()


def _change(operation: ops.AlterColumnOp, changes: Changes) -> Iterator[ChangeIdentityOp]:
    """Yield the operation that changes what numbers the rows, and leave other changes to the given operation."""
    old, new = operation.existing_server_default, operation.modify_server_default
    is_identity = (isinstance(old, Identity) and new is not False) or isinstance(new, Identity)
    if not is_identity and operation.modify_type is None:
        return
    column = ops.AlterColumnOp(operation.table_name, operation.column_name, schema=operation.schema)
    sequence = None if isinstance(old, Identity) else _sequence(column, changes.autogen)
    source = old if isinstance(old, Identity) else _SERIAL if sequence else None
    target = new if isinstance(new, Identity) else _SERIAL if _is_key(operation, changes) else None
    if source != target and (is_identity or source == _SERIAL):
        operation.existing_server_default = operation.modify_server_default = False
        usual = quoted(f"{column.table_name}_{column.column_name}_seq", changes.autogen.dialect, column.schema)
        yield ChangeIdentityOp(column, source, target, sequence or usual)


def _is_key(operation: ops.AlterColumnOp, changes: Changes) -> bool:
    """Return whether the model's column is the key of its table that the database numbers."""
    table = changes.autogen.table_key_to_table.get(table_key(operation))
    key = None if table is None else table.autoincrement_column
    return key is not None and key.name == operation.column_name


def _sequence(column: ops.AlterColumnOp, autogen: AutogenContext) -> str | None:
    """Return the name of the sequence of a column, quoted if necessary; None if it has none."""
    names = {"table": quoted(column.table_name, autogen.dialect, column.schema), "column": column.column_name}
    assert autogen.connection is not None  # noqa: S101  # a comparison has a connection
    return cast("str | None", autogen.connection.scalar(_SEQUENCE, names))


# ---- Rendering ----


@renderers.dispatch_for(ChangeIdentityOp)
def _render(autogen: AutogenContext, operation: ChangeIdentityOp) -> list[str]:
    prefix = autogen.opts["alembic_module_prefix"] or ""
    return [f"{prefix}execute({literal_sql(statement)!r})" for statement in _statements(operation, autogen)]


def _statements(operation: ChangeIdentityOp, autogen: AutogenContext) -> Iterator[str]:
    column, dialect = operation.column, autogen.dialect
    table, name = quoted(column.table_name, dialect, column.schema), quoted(column.column_name, dialect)
    sequence = operation.sequence
    alter = f"ALTER TABLE {table} ALTER COLUMN {name}"
    old, new = operation.old, operation.new
    if isinstance(old, Identity) and isinstance(new, Identity):
        yield f"{alter} {' '.join(_options(old, new, autogen))}"
        return
    if isinstance(old, Identity):
        yield f"{alter} DROP IDENTITY"
    elif old:
        yield f"{alter} DROP DEFAULT"
        yield f"DROP SEQUENCE {sequence}"
    if isinstance(new, Identity):
        yield f"{alter} ADD {_ddl(autogen).visit_identity_column(new)}"
    elif new:
        yield f"CREATE SEQUENCE {sequence} OWNED BY {table}.{name}"
        yield f"{alter} SET DEFAULT nextval({string_literal(sequence)})"
    if new:
        found = f"pg_get_serial_sequence({string_literal(table)}, {string_literal(column.column_name)})"
        yield f"SELECT setval({found}, max({name})) FROM {table}"  # noqa: S608 (its parts are quoted)


def _options(old: Identity, new: Identity, autogen: AutogenContext) -> Iterator[str]:
    """Yield what changes an identity into another one."""
    yield f"SET GENERATED {'ALWAYS' if new.always else 'BY DEFAULT'}"
    for name, usual in _OPTIONS.items():
        before, after = (getattr(each, name) for each in (old, new))
        value = usual if after is None else after
        if value is None and before is not None:
            yield f"SET NO {name.upper()}"
        elif value is not None and value != (usual if before is None else before):
            option: Any = {name: value}
            yield f"SET {_ddl(autogen).get_identity_options(Identity(**option))}"


def _ddl(autogen: AutogenContext) -> Any:  # noqa: ANN401 (a compiler of PostgreSQL)
    return autogen.dialect.ddl_compiler(autogen.dialect, None)  # type: ignore[arg-type]
