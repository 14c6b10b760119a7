"""Read the tables of the database inside a revision, as a replacement for imported models."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData, Table


@overload
def reflect(name: str, /, *, schema: str | None = None) -> Table: ...
@overload
def reflect(name: str, other: str, /, *others: str, schema: str | None = None) -> tuple[Table, ...]: ...
def reflect(*names: str, schema: str | None = None) -> Table | tuple[Table, ...]:
    """Return tables or views as they are in the database at this point of a revision.

    A revision uses these tables instead of the models, which change later. The columns are those that the database has
    after the operations before the call.

    :param names: one or more names; for several names, the result is a tuple of tables that can be joined.
    :param schema: the schema of the tables; None for the default schema.
    :raises RuntimeError: outside of ``upgrade()`` and ``downgrade()``, or if a revision is written as SQL, not run.
    :raises sqlalchemy.exc.NoSuchTableError: if a table does not exist.
    """
    from sqlalchemy import MetaData

    connection, metadata = _connection(sys._getframe(1).f_code.co_name), MetaData()  # noqa: SLF001 (documented)
    tables = tuple(_reflected(connection, metadata, name, schema) for name in names)
    return tables if len(tables) != 1 else tables[0]


def _connection(caller: str) -> Connection:
    from alembic import op

    try:
        context = op.get_context()
    except (AttributeError, NameError):  # which one is raised depends on whether a run has ended in this process
        context = None
    # All files of a plan are executed before its first step.
    if context is None or caller == "<module>":
        raise RuntimeError("reflect() works only inside upgrade() and downgrade(). Call it there.")
    if context.as_sql:
        raise RuntimeError("reflect() reads the database")
    return op.get_bind()


def _reflected(connection: Connection, metadata: MetaData, name: str, schema: str | None) -> Table:
    from sqlalchemy import Table
    from sqlalchemy.exc import NoSuchTableError

    try:
        return Table(name, metadata, schema=schema, autoload_with=connection, resolve_fks=False)
    except NoSuchTableError as exc:
        raise NoSuchTableError(f"the database has no table or view {exc} at this point of the revision") from exc
