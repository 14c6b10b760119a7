"""Constraints that PostgreSQL checks while the app writes to the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alembic import op
from alembic.operations.ops import (
    CreateCheckConstraintOp,
    CreateForeignKeyOp,
    CreateIndexOp,
    CreateUniqueConstraintOp,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import ColumnCollectionConstraint
from sqlalchemy.sql.elements import conv

from ampho.errors import OperationError
from ampho.operations.indexes import COPY, build_index
from ampho.operations.server import MAX_NAME, Server, postgres

if TYPE_CHECKING:
    from sqlalchemy import CheckConstraint, ColumnElement, ForeignKeyConstraint, TextClause, UniqueConstraint

_CONSTRAINT = """
    SELECT convalidated, pg_get_constraintdef(oid) AS definition FROM pg_constraint
    WHERE conrelid = to_regclass(:table) AND conname = :name
"""
_NOT_VALID = " NOT VALID"


def create_foreign_key(
    constraint_name: str | None,
    source_table: str,
    referent_table: str,
    local_cols: Sequence[str],
    remote_cols: Sequence[str],
    *,
    source_schema: str | None = None,
    referent_schema: str | None = None,
    **kw: Any,  # noqa: ANN401 (Alembic's signature)
) -> None:
    """Create a foreign key, on PostgreSQL ``NOT VALID`` first, so that the app can write while the rows are checked.

    The transaction of the revision is committed. If the revision runs again, a foreign key that exists is only
    validated. On other databases, and for a table with partitions, this is ``op.create_foreign_key()``, whose
    parameters it has; SQLite rebuilds the table.

    :param constraint_name: the name; None for that of the naming convention.
    :param source_table: the table that gets the foreign key.
    :param referent_table: the table that it references.
    :param local_cols: the columns of the table.
    :param remote_cols: the columns of the other table.
    :param source_schema: the schema of the table.
    :param referent_schema: the schema of the other table.
    :param kw: other arguments, such as ``ondelete``.
    :raises OperationError: if another constraint of the same name exists on the table.
    """
    server = postgres()
    columns = list(local_cols), list(remote_cols)
    kw["referent_schema"] = referent_schema
    operation = CreateForeignKeyOp(
        constraint_name, source_table, referent_table, *columns, source_schema=source_schema, **kw
    )
    if server is not None and add_foreign_key(server, operation.to_constraint(server.context)):
        return
    with op.batch_alter_table(source_table, schema=source_schema) as batch:
        batch.create_foreign_key(constraint_name, referent_table, *columns, **kw)


def create_check_constraint(
    constraint_name: str | None,
    table_name: str,
    condition: str | ColumnElement[bool] | TextClause,
    *,
    schema: str | None = None,
    **kw: Any,  # noqa: ANN401 (Alembic's signature)
) -> None:
    """Create a check constraint, on PostgreSQL ``NOT VALID`` first, so that the app can write while rows are checked.

    The transaction of the revision is committed. If the revision runs again, a constraint that exists is only
    validated. On other databases, this is ``op.create_check_constraint()``, whose parameters it has; SQLite rebuilds
    the table.

    :param constraint_name: the name, which the naming convention may extend.
    :param table_name: the table.
    :param condition: what is true for each row.
    :param schema: the schema of the table.
    :param kw: other arguments.
    :raises OperationError: if another constraint of the same name exists on the table.
    """
    server = postgres()
    if server is not None:
        operation = CreateCheckConstraintOp(constraint_name, table_name, condition, schema=schema, **kw)
        add_check(server, operation.to_constraint(server.context))
        return
    name: Any = constraint_name  # Alembic's batches also take None
    with op.batch_alter_table(table_name, schema=schema) as batch:
        batch.create_check_constraint(name, condition, **kw)


def create_unique_constraint(
    constraint_name: str | None,
    table_name: str,
    columns: Sequence[str],
    *,
    schema: str | None = None,
    **kw: Any,  # noqa: ANN401 (Alembic's signature)
) -> None:
    """Create a unique constraint, on PostgreSQL from an index that is built while the app writes to the table.

    The transaction of the revision is committed. If the revision runs again, it goes on where it stopped. On other
    databases, and for a table with partitions, this is ``op.create_unique_constraint()``, whose parameters it has;
    SQLite rebuilds the table.

    :param constraint_name: the name; None for that of the naming convention.
    :param table_name: the table.
    :param columns: the names of the columns.
    :param schema: the schema of the table.
    :param kw: other arguments, such as ``deferrable``.
    :raises OperationError: if another index of the same name exists on the table.
    """
    server = postgres()
    operation = CreateUniqueConstraintOp(constraint_name, table_name, columns, schema=schema, **kw)
    if server is not None and add_unique(server, operation.to_constraint(server.context)):
        return
    name: Any = constraint_name  # Alembic's batches also take None
    with op.batch_alter_table(table_name, schema=schema) as batch:
        batch.create_unique_constraint(name, list(columns), **kw)


def drop_constraint(
    constraint_name: str,
    table_name: str,
    type_: str | None = None,
    *,
    schema: str | None = None,
) -> None:
    """Drop a constraint, on PostgreSQL in a transaction of its own, so that the locks on its tables are short.

    The transaction of the revision is committed. If the revision runs again, a missing constraint is no error. On other
    databases, this is ``op.drop_constraint()``, whose parameters it has; SQLite rebuilds the table.

    :param constraint_name: the name.
    :param table_name: the table.
    :param type_: ``foreignkey``, ``unique``, or ``check``, which MariaDB and MySQL need.
    :param schema: the schema of the table.
    """
    server = postgres()
    if server is None:
        with op.batch_alter_table(table_name, schema=schema) as batch:
            batch.drop_constraint(constraint_name, type_=type_)
        return
    with server.repeatable():
        op.drop_constraint(constraint_name, table_name, type_=type_, schema=schema, if_exists=True)
        server.commit()


def add_foreign_key(server: Server, constraint: ForeignKeyConstraint) -> bool:
    """Add a foreign key, unless it exists; return False if PostgreSQL cannot do that without blocking the app."""
    if server.is_partitioned(server.table(constraint)):
        return False
    with server.repeatable():
        _add(server, constraint, _named(server, constraint, "fkey"))
    return True


def add_check(server: Server, constraint: CheckConstraint) -> None:
    """Add a check constraint, unless it exists."""
    with server.repeatable():
        _add(server, constraint, _named(server, constraint, "check"))


def add_unique(server: Server, constraint: UniqueConstraint) -> bool:
    """Add a unique constraint, unless it exists; return False if PostgreSQL cannot do that without blocking the app."""
    options = constraint.dialect_options["postgresql"]
    kept = {f"postgresql_{name}": value for name, value in options.items() if value}
    table, quoted = server.table(constraint), _named(server, constraint, "key")
    name, columns = server.plain(quoted), list(constraint.columns.keys())
    index = CreateIndexOp(
        conv(name), constraint.table.name, columns, schema=constraint.table.schema, unique=True, **kept
    )
    if not build_index(server, index):
        return False
    with server.repeatable():
        if server.row(_CONSTRAINT, table, name=name) is None:
            dialect: Any = server.context.dialect
            when = dialect.ddl_compiler(dialect, None).define_constraint_deferrability(constraint)
            server.run(f"ALTER TABLE {table} ADD CONSTRAINT {quoted} UNIQUE USING INDEX {quoted}{when}")
            server.commit()
    return True


def _named(server: Server, constraint: ColumnCollectionConstraint, suffix: str) -> str:
    """Return the quoted name of a constraint, which without a name gets the one that PostgreSQL would give it."""
    if constraint.name is None or server.preparer.format_constraint(constraint) is None:
        table: Any = constraint.table
        constraint.name = conv("_".join([table.name, *constraint.columns.keys(), suffix])[-MAX_NAME:])
    return str(server.preparer.format_constraint(constraint))


def _add(server: Server, constraint: CheckConstraint | ForeignKeyConstraint, quoted: str) -> None:
    constraint.dialect_options["postgresql"]["not_valid"] = True
    table = server.table(constraint)
    found = server.row(_CONSTRAINT, table, name=server.plain(quoted))
    if found is None:
        server.context.impl.add_constraint(constraint)
        server.commit()
    else:
        _check_equal(server, constraint, table, found.definition)
    if found is None or not found.convalidated:
        _validate(server, f"ALTER TABLE {table}", quoted)


def _validate(server: Server, alter: str, name: str) -> None:
    if server.is_offline:
        server.run(f"{alter} VALIDATE CONSTRAINT {name}")
        server.commit()
        return
    with server.outside_transactions():
        try:
            server.run(f"{alter} VALIDATE CONSTRAINT {name}")
        except IntegrityError:  # the constraint would also reject new rows, as if the revision had succeeded
            server.run(f"{alter} DROP CONSTRAINT {name}")
            raise


def _check_equal(
    server: Server, constraint: CheckConstraint | ForeignKeyConstraint, table: str, definition: str
) -> None:
    """Check that a constraint is the one to create, by creating that one under another name for a moment."""
    name, constraint.name = constraint.name, conv(COPY)
    with op.get_bind().begin_nested() as savepoint:
        server.context.impl.add_constraint(constraint)
        wanted = server.row(_CONSTRAINT, table, name=COPY)
        savepoint.rollback()
    constraint.name = name
    if wanted is None or wanted.definition.removesuffix(_NOT_VALID) != definition.removesuffix(_NOT_VALID):
        raise OperationError(
            f"the table {server.single(table)} already has another constraint {name}: {definition}. Drop that"
            " constraint, or choose another name"
        )
