"""Plausible rows for the tables of a database, so that revisions run on data in tests."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Collection
from typing import TYPE_CHECKING

from sqlalchemy import Enum, MetaData, String, Table, select
from sqlalchemy.exc import DBAPIError, StatementError

if TYPE_CHECKING:
    from sqlalchemy import Column
    from sqlalchemy.engine import Connection

_ROWS = (1, 2)
_FIRST_ID = 30_000
"""Revisions that insert rows may use small numbers, and two bytes must suffice."""
_DAY = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def fill(connection: Connection, excluded: Collection[str]) -> None:
    """Add two rows to each empty table. A table is left empty if its constraints do not accept generated values.

    :param excluded: the names of tables to leave alone.
    """
    metadata = MetaData()
    metadata.reflect(connection, only=lambda name, _: name not in excluded)
    for table in metadata.sorted_tables:
        if connection.execute(table.select().limit(1)).first() is None:
            for number in _ROWS:
                _insert(connection, table, number)
    connection.commit()


def _insert(connection: Connection, table: Table, number: int) -> None:
    """Insert a row with values in all columns, or otherwise, only in those that need one."""
    for only_required in (False, True):
        try:
            with connection.begin_nested():
                connection.execute(table.insert(), _row(connection, table, number, only_required=only_required))
        except (DBAPIError, StatementError):
            continue
        return


def _row(connection: Connection, table: Table, number: int, *, only_required: bool) -> dict[str, object]:
    row: dict[str, object] = {}
    for column in table.columns:
        is_generated = column.computed is not None or (column.identity is not None and column.identity.always)
        if is_generated or (only_required and column.nullable):
            continue
        if column is table.autoincrement_column and not column.foreign_keys:
            row[column.name] = _FIRST_ID + number
        elif column.server_default is None or column.foreign_keys:
            row[column.name] = _value(connection, column, number)
    return row


def _value(connection: Connection, column: Column[object], number: int) -> object:
    """Return a value for a column; for a foreign key, one that exists."""
    for key in column.foreign_keys:
        target = key.column
        return connection.execute(select(target).order_by(target).offset(number - 1).limit(1)).scalar()
    if isinstance(column.type, Enum):
        return column.type.enums[(number - 1) % len(column.type.enums)]
    try:
        kind = column.type.python_type
    except NotImplementedError:  # SQLAlchemy 2.0 raises it for types without a Python type, such as INET
        return None
    length = column.type.length if isinstance(column.type, String) else None
    return _of_kind(kind, f"{column.name} {number}", length, number)


def _of_kind(kind: type, text: str, length: int | None, number: int) -> object:
    values: dict[type, object] = {
        bool: number % 2 == 0,
        bytes: text.encode(),
        datetime.date: _DAY.date(),
        datetime.datetime: _DAY.replace(tzinfo=None),
        datetime.time: _DAY.time(),
        datetime.timedelta: datetime.timedelta(days=number),
        decimal.Decimal: decimal.Decimal(number),
        dict: {},
        float: float(number),
        int: number,
        list: [],
        str: text if length is None else text[-length:],
        uuid.UUID: uuid.UUID(int=number),
    }
    return values.get(kind)
