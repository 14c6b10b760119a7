"""Describing the operations of a revision in one line each, and the data that they may lose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from ampho._text import counted, listed, one_line

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations import ops
    from sqlalchemy import Column
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

    from ampho.revise.autogenerate.operations.changes import Changes

LOSES_ROWS = "loses its rows"
LOSES_VALUES = "loses its values"

_SHOWN = 10
_UNIQUE = " UNIQUE"
_KINDS = {
    "foreignkey": "foreign key",
    "unique": "unique constraint",
    "check": "check constraint",
    "primary": "primary key",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A change that autogenerate found.

    :ivar kind: ``+`` if the revision adds the object, ``-`` if it drops the object, ``~`` if it changes the object.
    :ivar object: what is changed, such as ``table``, ``column``, or ``foreign key``.
    :ivar name: the name of the object, such as ``users.email``.
    :ivar detail: what is added or changed, such as a type.
    :ivar loses: whether data is lost.
    :ivar risk: why the revision may lose data or fail on a table with rows, as a sentence; empty if there is no risk.
    """

    kind: str
    object: str
    name: str
    detail: str = ""
    loses: bool = False
    risk: str = ""

    @property
    def text(self) -> str:
        """The change as a line, such as ``+ column users.email  VARCHAR(200)``."""
        return f"{self.kind} {self.object} {self.name}{self.detail and f'  {self.detail}'}"


_Describe: TypeAlias = Callable[[Any, "Dialect"], Iterable[Change]]


def describe(changes: Changes) -> tuple[Change, ...]:
    """Return the changes that the upgrade of a revision makes, in its order."""
    return tuple(_described(changes.upgrade.ops, changes))


def _described(operations: Iterable[ops.MigrateOperation], changes: Changes) -> Iterator[Change]:
    for operation in operations:
        names = [kind.__name__ for kind in type(operation).__mro__]
        if "OpContainer" in names:
            found = list(_described(operation.ops, changes))  # type: ignore[attr-defined]
            yield from map(partial(_without_old_risk, others=found), found)
        elif describer := next((_DESCRIBERS[name] for name in names if name in _DESCRIBERS), None):
            yield from describer(operation, changes.autogen.dialect)
        else:
            yield Change("~", "operation", _code(operation, changes))


def _without_old_risk(change: Change, others: Iterable[Change]) -> Change:
    """Return a change without its risk, if the same columns of the table were unique before."""
    before = {each.detail for each in others if each.kind == "-" and each.detail.endswith(_UNIQUE)}
    return replace(change, risk="") if change.detail in before else change


def _code(operation: ops.MigrateOperation, changes: Changes) -> str:
    """Return an operation that Alembic does not know, such as one of a plug-in, as Python code in one line."""
    return one_line(" ".join(code_of(changes.autogen, [operation]))) or type(operation).__name__


def code_of(autogen: AutogenContext, operations: Iterable[ops.MigrateOperation]) -> list[str]:
    """Return operations as Python code, one line each."""
    from alembic.autogenerate import render

    as_rendered = autogen.opts
    autogen.opts = {**as_rendered, "render_as_batch": False}
    try:
        return [" ".join(text.split()) for operation in operations for text in render.render_op(autogen, operation)]
    finally:
        autogen.opts = as_rendered


def risks(changes: Iterable[Change]) -> Iterator[str]:
    """Yield the warnings about changes that may lose data or fail on tables with rows."""
    lost = [f"the {change.object} {change.name}" for change in changes if change.loses and not change.risk]
    if lost:
        yield f"The revision drops {listed(lost, _SHOWN)}. The data in {'it' if len(lost) == 1 else 'them'} is lost."
    yield from (change.risk for change in changes if change.risk)


def type_name(type_: TypeEngine[Any], dialect: Dialect) -> str:
    """Return a type as SQL of the database, or as Python code if the type cannot be compiled."""
    try:
        return type_.compile(dialect=dialect)
    except Exception:  # noqa: BLE001 (a type of the app may raise anything)
        return repr(type_)


def default_name(default: object) -> str:
    """Return the server default of a column as text."""
    argument = getattr(default, "arg", getattr(default, "sqltext", default))
    return one_line(str(getattr(argument, "text", argument)))


def _key(operation: Any, name: object) -> str:  # noqa: ANN401 (any operation on a table)
    schema = getattr(operation, "schema", None)
    return f"{schema + '.' if schema else ''}{operation.table_name}.{name}"


def _table(operation: Any) -> str:  # noqa: ANN401
    return f"{operation.schema}.{operation.table_name}" if operation.schema else str(operation.table_name)


def _created_table(operation: ops.CreateTableOp, dialect: Dialect) -> Iterator[Change]:
    columns = [item for item in operation.columns if getattr(item, "__visit_name__", "") == "column"]
    yield Change("+", "table", _table(operation), counted(len(columns), "column"))


def _dropped_table(operation: ops.DropTableOp, dialect: Dialect) -> Iterator[Change]:
    yield Change("-", "table", _table(operation), LOSES_ROWS, loses=True)


def _renamed_table(operation: ops.RenameTableOp, dialect: Dialect) -> Iterator[Change]:
    yield Change("~", "table", f"{_table(operation)} -> {operation.new_table_name}")


def _commented_table(operation: ops.CreateTableCommentOp, dialect: Dialect) -> Iterator[Change]:
    yield Change("~", "table", _table(operation), f"comment {one_line(str(getattr(operation, 'comment', None)))!r}")


def _added_column(operation: ops.AddColumnOp, dialect: Dialect) -> Iterator[Change]:
    column = operation.column
    yield Change("+", "column", _key(operation, column.name), _definition(column, dialect))


def _definition(column: Column[Any], dialect: Dialect) -> str:
    parts = [type_name(column.type, dialect)]
    if not column.nullable:
        parts.append("NOT NULL")
    if column.server_default is not None:
        kind = getattr(column.server_default, "__visit_name__", "")
        computed = {"computed_column": "GENERATED", "identity_column": "IDENTITY"}.get(kind)
        parts.append(computed or f"DEFAULT {default_name(column.server_default)}")
    return " ".join(parts)


def _dropped_column(operation: ops.DropColumnOp, dialect: Dialect) -> Iterator[Change]:
    yield Change("-", "column", _key(operation, operation.column_name), LOSES_VALUES, loses=True)


def _altered_column(operation: ops.AlterColumnOp, dialect: Dialect) -> Iterator[Change]:
    name = _key(operation, operation.column_name)
    if operation.modify_name:
        yield Change("~", "column", f"{name} -> {operation.modify_name}")
    details = list(_alterations(operation, dialect))
    if details or not operation.modify_name:
        yield Change("~", "column", name, ", ".join(details), risk=_risk_of_type(operation, dialect))


def _alterations(operation: ops.AlterColumnOp, dialect: Dialect) -> Iterator[str]:
    if operation.modify_type is not None:
        old = operation.existing_type
        yield f"{type_name(old, dialect) if old is not None else '?'} -> {type_name(operation.modify_type, dialect)}"
    if operation.modify_nullable is not None:
        yield "NULL" if operation.modify_nullable else "NOT NULL"
    if operation.modify_server_default is not False:
        default = operation.modify_server_default
        yield "no DEFAULT" if default is None else f"DEFAULT {default_name(default)}"
    if operation.modify_comment is not False:
        yield (
            "no comment" if operation.modify_comment is None else f"comment {one_line(str(operation.modify_comment))!r}"
        )
    if not (operation.modify_type or operation.modify_nullable is not None or operation.modify_name):
        yield from (f"{name.removeprefix('modify_')} {one_line(str(value))}" for name, value in operation.kw.items())


def _risk_of_type(operation: ops.AlterColumnOp, dialect: Dialect) -> str:
    """Return why the values of a column may not fit its new type, as a sentence."""
    old, new = operation.existing_type, operation.modify_type
    if old is None or new is None:
        return ""
    change = (
        f"{_key(operation, operation.column_name)} changes from {type_name(old, dialect)} to {type_name(new, dialect)}"
    )
    if narrows(old, new):
        return f"{change}. Values that do not fit are rejected, or cut off."
    if dialect.name == "postgresql" and not casts(old, new):
        using = f"{operation.column_name}::{type_name(new, dialect)}"
        return (
            f"{change}, which PostgreSQL does not convert by itself. Add postgresql_using={using!r}, or another"
            " expression, to op.alter_column()."
        )
    return ""


def narrows(old: TypeEngine[Any], new: TypeEngine[Any]) -> bool:
    """Return whether some values of one type may be too large or too precise for another type."""
    old, new = _plain(old), _plain(new)
    if family(old) == family(new) == "integer":
        return _width(new) < _width(old)
    if family(new) == "text":
        length = getattr(new, "length", None)
        before = getattr(old, "length", None) if family(old) == "text" else None
        return length is not None and (before is None or length < before) and family(old) in ("text", "json", "binary")
    if family(new) == "number":
        return family(old) == "number" and (_digits(new) < _digits(old) or _scale(new) < _scale(old))
    narrower = {("number", "integer"), ("datetime", "date"), ("datetime", "time")}
    return (family(old), family(new)) in narrower


def casts(old: TypeEngine[Any], new: TypeEngine[Any]) -> bool:
    """Return whether PostgreSQL converts the values of a column without USING."""
    before, after = family(_plain(old)), family(_plain(new))
    numbers = {"integer", "number"}
    return "" in (before, after) or after in (before, "text") or {before, after} in (numbers, {"date", "datetime"})


def family(type_: TypeEngine[Any]) -> str:
    """Return the family of a type, such as ``integer`` or ``text``; empty if it is not known."""
    from sqlalchemy import types

    families: Sequence[tuple[type[Any], str]] = (
        (types.Enum, "enum"),
        (types.Boolean, "boolean"),
        (types.Integer, "integer"),
        (types.Float, "number"),
        (types.Numeric, "number"),
        (types.LargeBinary, "binary"),
        (types.String, "text"),
        (types.DateTime, "datetime"),
        (types.Date, "date"),
        (types.Time, "time"),
        (types.Interval, "interval"),
        (types.JSON, "json"),
        (types.Uuid, "uuid"),
    )
    return next((name for kind, name in families if isinstance(_plain(type_), kind)), "")


def _plain(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type that a type of the app decorates."""
    impl: TypeEngine[Any] | None = getattr(type_, "impl_instance", None)
    return type_ if impl is None else impl


def _width(type_: TypeEngine[Any]) -> int:
    names = {"TINYINT": 1, "SMALLINT": 2, "MEDIUMINT": 3, "INTEGER": 4, "INT": 4, "BIGINT": 8}
    kinds = {"BigInteger": 8, "SmallInteger": 2}
    return next(
        (
            names.get(kind.__name__, kinds.get(kind.__name__, 0))
            for kind in type(type_).__mro__
            if kind.__name__ in names or kind.__name__ in kinds
        ),
        4,
    )


def _scale(type_: TypeEngine[Any]) -> float:
    scale = getattr(type_, "scale", None)
    return float("inf") if getattr(type_, "precision", None) is None else scale or 0


def _digits(type_: TypeEngine[Any]) -> float:
    """Return the number of digits before the decimal point."""
    precision = getattr(type_, "precision", None)
    return float("inf") if precision is None else precision - (getattr(type_, "scale", None) or 0)


def _names(columns: Iterable[object]) -> str:
    return f"({', '.join(one_line(str(getattr(column, 'name', None) or column)) for column in columns)})"


def _unique(columns: Iterable[object]) -> str:
    return f"{_names(columns)}{_UNIQUE}"


def _created_index(operation: ops.CreateIndexOp, dialect: Dialect) -> Iterator[Change]:
    detail = _unique(operation.columns) if operation.unique else _names(operation.columns)
    risk = _risk_of_unique(operation, operation.columns) if operation.unique else ""
    yield Change("+", "index", _key(operation, operation.index_name), detail, risk=risk)


def _risk_of_unique(operation: ops.CreateIndexOp | ops.CreateUniqueConstraintOp, columns: Sequence[object]) -> str:
    return (
        f"{_table(operation)} {_names(columns)} must be unique. The revision fails if rows of {_table(operation)} have"
        " equal values."
    )


def _dropped_index(operation: ops.DropIndexOp, dialect: Dialect) -> Iterator[Change]:
    unique = ""
    with suppress(ValueError):  # an operation of a hook does not know what it drops
        made = operation.reverse()
        unique = _unique(made.columns) if made.unique else ""
    yield Change("-", "index", _key(operation, operation.index_name), unique)


def _created_key(operation: ops.CreateForeignKeyOp, dialect: Dialect) -> Iterator[Change]:
    yield Change("+", "foreign key", _foreign_key(operation))


def _foreign_key(operation: ops.CreateForeignKeyOp) -> str:
    schema, target = operation.kw.get("source_schema"), operation.kw.get("referent_schema")
    local, remote = (", ".join(map(str, names)) for names in (operation.local_cols, operation.remote_cols))
    source = f"{schema + '.' if schema else ''}{operation.source_table}.{local}"
    return f"{source} -> {target + '.' if target else ''}{operation.referent_table}.{remote}"


def _created_unique(operation: ops.CreateUniqueConstraintOp, dialect: Dialect) -> Iterator[Change]:
    name = operation.constraint_name or ""
    risk = _risk_of_unique(operation, operation.columns)
    yield Change("+", "unique constraint", _key(operation, name).rstrip("."), _unique(operation.columns), risk=risk)


def _created_check(operation: ops.CreateCheckConstraintOp, dialect: Dialect) -> Iterator[Change]:
    name = _key(operation, operation.constraint_name or "").rstrip(".")
    yield Change("+", "check constraint", name, one_line(str(operation.condition)))


def _created_primary_key(operation: ops.CreatePrimaryKeyOp, dialect: Dialect) -> Iterator[Change]:
    yield Change("+", "primary key", _table(operation), _names(operation.columns))


def _dropped_constraint(operation: ops.DropConstraintOp, dialect: Dialect) -> Iterator[Change]:
    kind = _KINDS.get(operation.constraint_type or "", "constraint")
    name = _key(operation, operation.constraint_name or "").rstrip(".")
    detail = ""
    with suppress(ValueError, AttributeError):  # an operation of a hook does not know what it drops
        if kind == "foreign key":
            name = _foreign_key(operation.reverse())  # type: ignore[arg-type]
        elif kind == "unique constraint":
            detail = _unique(operation.reverse().columns)  # type: ignore[attr-defined]
    yield Change("-", kind, name, detail)


def _executed(operation: ops.ExecuteSQLOp, dialect: Dialect) -> Iterator[Change]:
    yield getattr(operation, "change", None) or Change("~", "SQL", one_line(str(operation.sqltext)))


_DESCRIBERS: Mapping[str, _Describe] = {
    "CreateTableOp": _created_table,
    "DropTableOp": _dropped_table,
    "RenameTableOp": _renamed_table,
    "CreateTableCommentOp": _commented_table,
    "DropTableCommentOp": _commented_table,
    "AddColumnOp": _added_column,
    "DropColumnOp": _dropped_column,
    "AlterColumnOp": _altered_column,
    "CreateIndexOp": _created_index,
    "DropIndexOp": _dropped_index,
    "CreateForeignKeyOp": _created_key,
    "CreateUniqueConstraintOp": _created_unique,
    "CreateCheckConstraintOp": _created_check,
    "CreatePrimaryKeyOp": _created_primary_key,
    "DropConstraintOp": _dropped_constraint,
    "ExecuteSQLOp": _executed,
}
"""The functions that describe an operation, by the name of its class, so that this module does not import Alembic."""
