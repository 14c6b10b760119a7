"""A PostgreSQL server during one call of an operation: its transactions, and what it says about tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from alembic import op
from sqlalchemy import text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import DDLElement

from ampho.migrate import other_connections
from ampho.migrate.step import STEP, RunningStep

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import Constraint, Index, Row
    from sqlalchemy.sql.compiler import IdentifierPreparer

_IS_PARTITIONED = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(:table)"
MAX_NAME = 63
"""The number of bytes to which PostgreSQL cuts a name."""


class _Literal(DDLElement):
    """A statement that is executed as it is, with names that are quoted for the driver."""

    inherit_cache = False

    def __init__(self, sql: str) -> None:
        self.sql = sql


@compiles(_Literal)
def _compile(element: _Literal, compiler: object, **options: object) -> str:
    return element.sql


class Server:
    """The server of a revision that runs or is written as SQL.

    :ivar context: Alembic's context.
    :ivar is_offline: whether the revision is written as SQL, so that nothing can be read from the server.
    """

    def __init__(self, context: MigrationContext) -> None:
        self.context = context
        self.is_offline: bool = context.as_sql
        self.preparer: IdentifierPreparer = context.dialect.identifier_preparer

    def run(self, sql: str) -> None:
        """Execute a statement whose names are quoted by ``preparer``."""
        self.context.impl.execute(_Literal(sql))

    def row(self, query: str, table: str = "", **values: object) -> Row[Any] | None:
        """Return the first row of a query; None if there is none, or nothing can be read.

        :param table: the quoted name of a table, for the query's ``:table``.
        """
        if self.is_offline:
            return None
        found: Row[Any] | None = op.get_bind().execute(text(query), {"table": self.single(table), **values}).first()
        return found

    def table(self, item: Index | Constraint) -> str:
        """Return the quoted name of the table of an index or a constraint."""
        table: Any = item.table  # None only before it is part of a table
        return self.preparer.format_table(table)

    def plain(self, quoted: str) -> str:
        """Return a name that ``preparer`` has quoted as the catalog contains it."""
        return str(self.preparer.unformat_identifiers(self.single(quoted))[-1])

    def single(self, sql: str) -> str:
        """Return SQL for a value: without the second of two percent signs, which some drivers need in a statement."""
        return sql.replace("%%", "%") if self.context.dialect.paramstyle in ("format", "pyformat") else sql

    def is_partitioned(self, table: str) -> bool:
        """Return whether a table has partitions, for which PostgreSQL has no operations that do not block."""
        row = self.row(_IS_PARTITIONED, table)
        return row is not None and bool(row[0])

    def repeatable(self) -> AbstractContextManager[None]:
        """Treat what the body does and commits as safe to repeat, if the revision runs again.

        Outside of a run of Ampho, as under plain Alembic, this does nothing.
        """
        running: RunningStep | None = self.context.opts.get(STEP)
        return nullcontext() if running is None else running.migrating.transaction.repeatable()

    def commit(self) -> None:
        """Commit, and begin the next transaction."""
        with self.context.autocommit_block():
            pass

    @contextmanager
    def outside_transactions(self) -> Iterator[None]:
        """Commit, and run each statement of the body in a transaction of its own.

        While these statements wait for other transactions, they do not block the app, so they have no lock timeout.
        """
        with self.context.autocommit_block():
            limit = self.row("SELECT current_setting('lock_timeout')")
            if limit is None or limit[0] == "0" or other_connections.are_open():
                yield
                return
            self.run("SET lock_timeout = 0")
            try:
                yield
            finally:
                self.run(f"SET lock_timeout = '{limit[0]}'")


def postgres() -> Server | None:
    """Return the server of the revision; None if it is not PostgreSQL."""
    context = op.get_context()
    return Server(context) if context.dialect.name == "postgresql" else None
