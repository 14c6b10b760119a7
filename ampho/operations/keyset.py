"""A table that a backfill divides into ranges of its key, and the statements for one range."""

from __future__ import annotations

import datetime
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Float,
    MetaData,
    Table,
    and_,
    bindparam,
    func,
    inspect,
    literal,
    or_,
    select,
    text,
    true,
    type_coerce,
    update,
)
from sqlalchemy import column as column_of
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.types import NullType

from ampho._text import did_you_mean, listed
from ampho.errors import OperationError

if TYPE_CHECKING:
    from sqlalchemy import Column, Row, TableClause
    from sqlalchemy.engine import Connection
    from sqlalchemy.engine.interfaces import ReflectedIndex

Key: TypeAlias = tuple[Any, ...]
Function: TypeAlias = Callable[[list["Row[Any]"]], Iterable[Mapping[str, object] | None]]
Change: TypeAlias = Mapping[str, object] | Function

_RETURNS = "Return a list with one value for each row: a dictionary with the new values, or None"

_TYPES: Mapping[str, Callable[[str], Any]] = {
    "UUID": UUID,
    "Decimal": Decimal,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "bytes": bytes.fromhex,
}
"""The types of keys that JSON lacks, and how their values are read."""


class Keyset:
    """A table, the key that divides it, and the change to make.

    :param table: the table, with its columns.
    :param key: the columns of the key.
    :param change: the new values, or a function of rows.
    :param where: the rows to change; None for all.
    """

    def __init__(
        self, connection: Connection, table: Table, key: Sequence[Column[Any]], change: Change, where: object
    ) -> None:
        self._connection = connection
        self._columns = key
        # SQLite compares what is stored, which may have another form than what SQLAlchemy would write for its type.
        self._is_raw = connection.dialect.name == "sqlite"
        self._key: Sequence[ColumnElement[Any]] = (
            [type_coerce(each, NullType()) for each in key] if self._is_raw else key
        )
        self.table = table
        self.name: str = ", ".join(column.name for column in key)
        self.where: ColumnElement[bool] | None = condition(where, table)
        self._change = change
        if not callable(change):
            self._check_columns(change)
            self._change = values(change, table)

    def count(self, limit: int) -> int:
        """Return the number of rows of the table, but at most ``limit``."""
        some = select(*self._key).limit(limit).subquery()
        return int(self._connection.execute(select(func.count()).select_from(some)).scalar_one())

    def end(self, after: Key | None, size: int, *, only_left: bool) -> tuple[Key, int | None] | None:
        """Return the key of the last row of the next range, and its number of rows if that is known; None at the end.

        :param only_left: whether to count only rows that ``where`` selects.
        """
        found = select(*self._key).where(self._after(after))
        if only_left and self.where is not None:
            found = found.where(self.where)
        row = self._connection.execute(found.order_by(*self._key).limit(1).offset(size - 1)).one_or_none()
        if row is not None:
            return tuple(row), size
        row = self._connection.execute(found.order_by(*(each.desc() for each in self._key)).limit(1)).one_or_none()
        return None if row is None else (tuple(row), None)

    def apply(self, after: Key | None, end: Key | None) -> tuple[int, int]:
        """Change the rows of a range; return how many were changed, and how many ``where`` selected before."""
        rows = self._range(after, end)
        if not callable(self._change):
            changed = self._connection.execute(update(self.table).where(rows).values(self._change)).rowcount
            return changed, changed
        found = list(self._connection.execute(select(self.table).where(rows).order_by(*self._key).with_for_update()))
        if not found:
            return 0, 0
        keys: Sequence[Sequence[Any]]
        if self._is_raw:
            keys = self._connection.execute(select(*self._key).where(rows).order_by(*self._key)).all()
        else:
            keys = [[row._mapping[column] for column in self._columns] for row in found]  # noqa: SLF001 (this is public)
        return self._apply_each(keys, _checked(self._change(found))), len(found)

    def _apply_each(self, keys: Sequence[Sequence[Any]], results: Sequence[Mapping[str, object] | None]) -> int:
        """Write what the function returned for each row; return the number of rows that it changes.

        :param keys: the keys of the rows.
        """
        if len(results) != len(keys):
            raise OperationError(f"the function returned {len(results)} values for {len(keys)} rows. {_RETURNS}")
        groups: defaultdict[tuple[str, ...], list[dict[str, object]]] = defaultdict(list)
        for key, result in zip(keys, results, strict=True):
            if result:
                old = {f"ampho_key_{place}": value for place, value in enumerate(key)}
                new = {f"ampho_new_{place}": value for place, value in enumerate(result.values())}
                groups[tuple(result)].append(old | new)
        for names, parameters in groups.items():
            self._check_columns(names)
            is_row = [column == bindparam(f"ampho_key_{place}") for place, column in enumerate(self._key)]
            new_values: dict[str, Any] = {name: bindparam(f"ampho_new_{place}") for place, name in enumerate(names)}
            self._connection.execute(update(self.table).where(*is_row).values(new_values), parameters)
        return sum(map(len, groups.values()))

    def left(self, after: Key | None = None, end: Key | None = None) -> int:
        """Return the number of rows, in a range or in all, that ``where`` still selects."""
        query = select(func.count()).select_from(self.table).where(self._range(after, end))
        return 0 if self.where is None else int(self._connection.execute(query).scalar_one())

    def _range(self, after: Key | None, end: Key | None) -> ColumnElement[bool]:
        parts = [self._after(after)]
        if end is not None:
            parts.append(_compared(self._key, end, is_above=False))
        if self.where is not None:
            parts.append(self.where)
        return and_(true(), *parts)

    def _after(self, place: Key | None) -> ColumnElement[bool]:
        return true() if place is None else _compared(self._key, place, is_above=True)

    def _check_columns(self, names: Iterable[str]) -> None:
        names = [*names]
        if of_key := [column.name for column in self._columns if column.name in names]:
            raise OperationError(
                f"set= changes {listed(of_key)}, by which the table {self.table.name} is divided. Pass other columns as"
                " key=, or change it with op.execute()"
            )
        if unknown := [str(name) for name in names if name not in self.table.c]:
            hint = did_you_mean(unknown[0], self.table.c.keys())
            raise OperationError(f"the table {self.table.name} has no column {listed(unknown)}. {hint}".rstrip(". "))


def _compared(columns: Sequence[ColumnElement[Any]], place: Key, *, is_above: bool) -> ColumnElement[bool]:
    """Return the condition that the key of a row is above a place, or is not, in a form that can use an index."""
    column, value = columns[0], literal(place[0], columns[0].type)  # SQLAlchemy compares no column with a bare True
    if len(columns) == 1:
        only: ColumnElement[bool] = column > value if is_above else column <= value
        return only
    rest = _compared(columns[1:], place[1:], is_above=is_above)
    if is_above:
        return and_(column >= value, or_(column > value, rest))
    return and_(column <= value, or_(column < value, rest))


def reflect(connection: Connection, name: str, schema: str | None) -> Table:
    """Return a table with its columns, as it is in the database.

    :raises OperationError: if it does not exist.
    """
    try:
        return Table(name, MetaData(), autoload_with=connection, schema=schema, resolve_fks=False)
    except NoSuchTableError:
        hint = did_you_mean(name, inspect(connection).get_table_names(schema))
        raise OperationError(f"there is no table {name}. {hint}".rstrip(". ")) from None


def key_of(connection: Connection, table: Table, key: str | Sequence[str] | None) -> list[Column[Any]]:
    """Return the columns of a key that divides a table.

    :param key: the names of the columns; None for the primary key.
    :raises OperationError: if the key is not unique, or may be NULL.
    """
    primary = list(table.primary_key.columns)
    names = [key] if isinstance(key, str) else list(key or [column.name for column in primary])
    if not names:
        raise OperationError(f"the table {table.name} has no primary key. Pass key= with columns that are unique")
    if unknown := [name for name in names if name not in table.c]:
        hint = did_you_mean(unknown[0], table.c.keys())
        raise OperationError(
            f"key= names {listed(unknown)}, and the table {table.name} has no such column. {hint}".rstrip(". ")
        )
    columns = [table.c[name] for name in names]
    if set(names) != {column.name for column in primary}:
        inspector = inspect(connection)
        unique = [{*each["column_names"]} for each in inspector.get_unique_constraints(table.name, table.schema)]
        indexes = inspector.get_indexes(table.name, table.schema)
        whole = [each for each in indexes if each["unique"] and not _is_partial(each)]
        unique += [{*filter(None, each["column_names"])} for each in whole if None not in each["column_names"]]
        if set(names) not in unique:
            raise OperationError(f"key= names {listed(names)}, which is not unique in the table {table.name}")
        null = [column.name for column in columns if column.nullable]
    else:  # on SQLite, a primary key may be NULL
        null = [column.name for column in columns if _has_null(connection, column)]
    if connection.dialect.name != "sqlite" and (
        inexact := [each.name for each in columns if isinstance(each.type, Float)]
    ):
        raise OperationError(
            f"{listed(inexact)} of the table {table.name} cannot be compared exactly, because it is a floating-point"
            " number. Pass key= with columns of another type"
        )
    if labels := [each.name for each in columns if _is_sorted_by_number(connection, each)]:
        raise OperationError(
            f"{listed(labels)} of the table {table.name} cannot be used, because the server sorts labels by their"
            " number, and compares them as text. Pass key= with columns of another type"
        )
    if null:
        raise OperationError(
            f"{listed(null)} of the table {table.name} may be NULL. Pass key= with columns that may not"
        )
    return columns


def _checked(results: Any) -> list[Mapping[str, object] | None]:  # noqa: ANN401 (what a user's function returned)
    """Return the results of a function as a list.

    :raises OperationError: if they are something else than new values.
    """
    if not isinstance(results, Iterable):
        raise OperationError(f"the function returned {type(results).__name__}. {_RETURNS}")
    found = list(results)
    if wrong := [each for each in found if each is not None and not isinstance(each, Mapping)]:
        raise OperationError(f"the function returned {type(wrong[0]).__name__} for a row. {_RETURNS}")
    return found


def _is_partial(index: ReflectedIndex) -> bool:
    """Return whether an index leaves out some rows."""
    return any(
        name.endswith("_where") and found is not None for name, found in index.get("dialect_options", {}).items()
    )


def _is_sorted_by_number(connection: Connection, column: Column[Any]) -> bool:
    return connection.dialect.name in ("mariadb", "mysql") and type(column.type).__name__ in ("ENUM", "SET")


def _has_null(connection: Connection, column: Column[Any]) -> bool:
    if not column.nullable or connection.dialect.name != "sqlite":
        return False
    return connection.execute(select(column).where(column.is_(None)).limit(1)).first() is not None


def condition(where: object, table: TableClause) -> ColumnElement[bool] | None:
    """Return what ``where`` means for a table.

    :param where: SQL as text, or an expression, perhaps with the columns of another object for the same table.
    """
    if where is None:
        return None
    if isinstance(where, str):
        return text(f"({where}\n)")  # type: ignore[return-value]  # and_() takes text, too
    return _adapted(where, table)  # type: ignore[no-any-return]  # it returns what it gets


def values(change: Mapping[str, object], table: TableClause) -> dict[str, Any]:
    """Return the values of a change for a table."""
    return {name: _adapted(value, table) for name, value in change.items()}


def _adapted(value: Any, table: TableClause) -> Any:  # noqa: ANN401 (any value)
    """Put the columns of a table into an expression, in place of those of other objects for the same table."""
    if not isinstance(value, ClauseElement):
        return value

    def replace(element: Any, **options: object) -> Any:  # noqa: ANN401 (SQLAlchemy's signature)
        owner = getattr(element, "table", None)
        if owner is None or owner is table or getattr(owner, "name", None) != table.name:
            return None
        return table.c[element.name] if element.name in table.c else column_of(element.name)

    return visitors.replacement_traverse(value, {}, replace)


def encoded(key: Key) -> str:
    """Return a key as JSON.

    :raises OperationError: if JSON has no form for one of its values.
    """
    return json.dumps([_encoded(value) for value in key])


def _encoded(value: Any) -> Any:  # noqa: ANN401 (a value of any column, and JSON)
    if type(value) in (int, str, bool, float):
        return value
    name = next((each.__name__ for each in type(value).__mro__ if each.__name__ in _TYPES), None)
    if name is None:
        raise OperationError(
            f"a key of the type {type(value).__name__} cannot be recorded. Pass key= with columns of another type"
        )
    form = value.hex() if name == "bytes" else value.isoformat() if name in ("date", "datetime") else str(value)
    return {name: form}


def decoded(place: str | None) -> Key | None:
    """Return the key in the JSON that :func:`encoded` returned; None if there is none."""
    if place is None:
        return None
    found = [
        next(_TYPES[name](form) for name, form in each.items()) if isinstance(each, dict) else each
        for each in json.loads(place)
    ]
    return tuple(found)
