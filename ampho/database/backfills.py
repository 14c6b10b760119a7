"""The table with the places of backfills, beside the journal. It is created when the first backfill runs in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, String, Table, Text, select

from ampho.database.journal import Backfill, backfill_table

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection


class BackfillTable:
    """The table with the places of backfills in one database.

    :param connection: the migrating connection. Everything is written in its transaction, which the caller commits.
    :param journal: the name of the journal's table.
    :param schema: the schema of the journal's table.
    """

    def __init__(self, connection: Connection, journal: str, schema: str | None) -> None:
        self._connection = connection
        self._name, self._schema = backfill_table(journal), schema

    @cached_property
    def _table(self) -> Table:
        return Table(
            self._name,
            MetaData(),
            Column("revision", String(255), primary_key=True),
            Column("direction", String(20), primary_key=True),
            Column("number", Integer, primary_key=True, autoincrement=False),
            Column("table", String(255), nullable=False),
            Column("key", Text, nullable=False),
            Column("rows", BigInteger, nullable=False),
            Column("seen", BigInteger, nullable=False),
            Column("place", Text),
            Column("passes", Integer, nullable=False),
            Column("is_done", Boolean, nullable=False),
            Column("checksum", String(64)),
            schema=self._schema,
        )

    @property
    def _key(self) -> Sequence[Column[Any]]:
        return self._table.c.revision, self._table.c.direction, self._table.c.number

    @property
    def exists(self) -> bool:
        """Whether the table exists."""
        return self._connection.dialect.has_table(self._connection, self._name, schema=self._schema)

    def create(self) -> None:
        """Create the table if it does not exist."""
        if not self.exists:
            self._table.create(self._connection)

    def read(self) -> Iterator[Backfill]:
        """Yield the backfills, in order."""
        if self.exists:
            for row in self._connection.execute(self._table.select().order_by(*self._key)).all():
                yield Backfill(**row._mapping)  # noqa: SLF001 (this is public)

    def find(self, backfill: Backfill) -> Backfill | None:
        """Return what is recorded about a backfill; None if there is nothing."""
        row = self._connection.execute(select(self._table).where(*self._is(backfill))).one_or_none()
        return None if row is None else Backfill(**row._mapping)  # noqa: SLF001 (this is public)

    def add(self, backfill: Backfill) -> None:
        """Record a backfill that begins."""
        self._connection.execute(self._table.insert(), asdict(backfill))

    def move(self, before: Backfill, after: Backfill) -> bool:
        """Record how far a backfill has come; return False if another process has recorded something meanwhile."""
        column = self._table.c
        unchanged = column.place == before.place, column.passes == before.passes, column.is_done == before.is_done
        update = self._table.update().where(*self._is(before), *unchanged).values(asdict(after))
        return self._connection.execute(update).rowcount == 1

    def forget(self, revision: str) -> None:
        """Remove the backfills of a revision."""
        if self.exists:
            self._connection.execute(self._table.delete().where(self._table.c.revision == revision))

    def _is(self, backfill: Backfill) -> list[ColumnElement[bool]]:
        return [column == getattr(backfill, column.name) for column in self._key]
