"""Describing the operations of a revision in one line each, and the data that they may lose."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING, Any

from alembic.autogenerate import render
from alembic.operations import ops
from sqlalchemy import Column, types

from ampho._text import counted, listed, one_line, printable
from ampho.revise.autogenerate.operations.changes import table_key
from ampho.revise.autogenerate.owners.keys import join_key

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

    from ampho.revise.autogenerate.operations.changes import Changes

FILLS = "existing rows get"
LOSES_ROWS = "loses its rows"
LOSES_VALUES = "loses its values"

_LONGEST = 80
_SHOWN = 10
_UNIQUE = " UNIQUE"
_VERBS = {"+": "add", "-": "drop", "~": "change"}
_KINDS = {
    "foreignkey": "foreign key",
    "unique": "unique constraint",
    "check": "check constraint",
    "primary": "primary key",
}
_FAMILIES: Sequence[tuple[type[Any], str]] = (
    *((types.Enum, "enum"), (types.Boolean, "boolean"), (types.Integer, "integer")),
    *((types.Float, "number"), (types.Numeric, "number"), (types.LargeBinary, "binary"), (types.String, "text")),
    *((types.DateTime, "datetime"), (types.Date, "date"), (types.Time, "time"), (types.Interval, "interval")),
    *((types.JSON, "json"), (types.Uuid, "uuid")),
)
_TIMES = ("datetime", "date", "time")
_WIDTHS = {"TINYINT": 1, "SMALLINT": 2, "SmallInteger": 2, "MEDIUMINT": 3, "INTEGER": 4, "BIGINT": 8, "BigInteger": 8}
"""The number of bytes of an integer, by the name of its type's class."""


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


def describe(changes: Changes) -> tuple[Change, ...]:
    """Return the changes that the upgrade of a revision makes, in its order."""
    return tuple(_described(changes.upgrade.ops, changes.autogen))


def briefly(changes: Sequence[Change]) -> str:
    """Return the first change that is more than values for rows, in a few words, and how many others there are."""
    if not changes:
        return ""
    first = next((each for each in changes if not each.detail.startswith(FILLS)), changes[0])
    verb = "rename" if first.kind == "~" and " -> " in first.name else _VERBS[first.kind]
    named = first.name if first.object in ("column", "SQL", "operation") else f"{first.object} {first.name}"
    words = named if first.object in ("SQL", "operation") else f"{verb} {named}"
    if first.detail.startswith(FILLS):
        words = f"fill {first.name}"
    elif first.detail == "NOT NULL":
        words = f"make {first.name} NOT NULL"
    more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
    return printable(words, _LONGEST) + more


def _described(operations: Iterable[ops.MigrateOperation], autogen: AutogenContext) -> Iterator[Change]:
    for operation in operations:
        if isinstance(operation, ops.OpContainer):
            found = list(_described(operation.ops, autogen))
            yield from (_without_old_risk(each, found) for each in found)
        else:
            yield from _of_table(operation, autogen)


def _without_old_risk(change: Change, others: Iterable[Change]) -> Change:
    """Return a change without its risk, if the same columns of the table were unique before."""
    before = {each.detail for each in others if each.kind == "-" and each.detail.endswith(_UNIQUE)}
    return replace(change, risk="") if change.detail in before else change


def _of_table(operation: ops.MigrateOperation, autogen: AutogenContext) -> Iterator[Change]:
    """Yield what an operation changes: a table or, in the functions that follow, anything else."""
    match operation:
        case ops.CreateTableOp(columns=items):
            columns = [item for item in items if isinstance(item, Column)]
            yield Change("+", "table", table_key(operation), counted(len(columns), "column"))
        case ops.DropTableOp():
            yield Change("-", "table", table_key(operation), LOSES_ROWS, loses=True)
        case ops.RenameTableOp(new_table_name=new):
            yield Change("~", "table", f"{table_key(operation)} -> {new}")
        case ops.CreateTableCommentOp() | ops.DropTableCommentOp():
            comment = one_line(str(getattr(operation, "comment", None)))
            yield Change("~", "table", table_key(operation), f"comment {comment!r}")
        case _:
            yield from _of_column(operation, autogen)


def _of_column(operation: ops.MigrateOperation, autogen: AutogenContext) -> Iterator[Change]:
    match operation:
        case ops.AddColumnOp(column=column):
            yield Change("+", "column", _name(operation, column.name), _definition(column, autogen.dialect))
        case ops.DropColumnOp(column_name=name):
            risk = _risk_of_drop(operation, autogen.dialect)
            yield Change("-", "column", _name(operation, name), LOSES_VALUES, loses=True, risk=risk)
        case ops.AlterColumnOp(column_name=name, modify_name=new):
            if new:
                yield Change("~", "column", f"{_name(operation, name)} -> {new}")
            details = ", ".join(_alterations(operation, autogen.dialect))
            if details or not new:
                risk = _risk_of_type(operation, autogen.dialect)
                yield Change("~", "column", _name(operation, name), details, risk=risk)
        case _:
            yield from _of_constraint(operation, autogen)


def _of_constraint(operation: ops.MigrateOperation, autogen: AutogenContext) -> Iterator[Change]:
    match operation:
        case ops.CreateIndexOp(index_name=name, columns=columns):
            detail, risk = _unique(operation) if operation.unique else (_names(columns), "")
            yield Change("+", "index", _name(operation, name), detail, risk=risk)
        case ops.CreateUniqueConstraintOp(constraint_name=name):
            detail, risk = _unique(operation)
            yield Change("+", "unique constraint", _name(operation, name), detail, risk=risk)
        case ops.CreateForeignKeyOp():
            yield Change("+", "foreign key", _foreign_key(operation))
        case ops.CreateCheckConstraintOp(constraint_name=name, condition=condition):
            yield Change("+", "check constraint", _name(operation, name), one_line(str(condition)))
        case ops.CreatePrimaryKeyOp(columns=columns):
            yield Change("+", "primary key", _name(operation, None), _names(columns))
        case ops.DropIndexOp(index_name=name):
            yield _dropped(operation, "index", name)
        case ops.DropConstraintOp(constraint_name=name, constraint_type=kind):
            yield _dropped(operation, _KINDS.get(kind or "", "constraint"), name)
        case ops.ExecuteSQLOp(sqltext=sql):
            yield getattr(operation, "change", None) or Change("~", "SQL", one_line(str(sql)))
        case _:  # an operation of a plug-in
            code = one_line(" ".join(code_of(autogen, [operation])))
            yield Change("~", "operation", code or type(operation).__name__)


def _dropped(operation: ops.DropIndexOp | ops.DropConstraintOp, kind: str, name: object) -> Change:
    with suppress(ValueError, AttributeError):  # an operation of a hook does not know what it drops
        match operation.reverse():
            case ops.CreateForeignKeyOp() as made:
                return Change("-", kind, _foreign_key(made))
            case ops.CreateUniqueConstraintOp() | ops.CreateIndexOp(unique=True) as made:
                return Change("-", kind, _name(operation, name), _unique(made)[0])
    return Change("-", kind, _name(operation, name))


def code_of(autogen: AutogenContext, operations: Iterable[ops.MigrateOperation]) -> list[str]:
    """Return operations as Python code, one line each."""
    as_rendered = autogen.opts
    autogen.opts = {**as_rendered, "render_as_batch": False}
    try:
        return [" ".join(text.split()) for operation in operations for text in render.render_op(autogen, operation)]
    finally:
        autogen.opts = as_rendered


def risks(changes: Iterable[Change]) -> Iterator[str]:
    """Yield the warnings about changes that may lose data or fail on tables with rows."""
    lost = [f"the {change.object} {change.name}" for change in changes if change.loses]
    if lost:
        yield f"The revision drops {listed(lost, _SHOWN)}. The data in {'it' if len(lost) == 1 else 'them'} is lost."
    yield from (change.risk for change in changes if change.risk)


def replaced_columns(changes: Sequence[Change]) -> Iterator[tuple[str, str]]:
    """Yield each dropped column, and the column that existing rows get its value in, with their tables."""
    dropped = [change.name for change in changes if change.kind == "-" and change.object == "column"]
    for change in changes:
        for old in dropped if change.detail.startswith(FILLS) else ():
            table, _, column = old.rpartition(".")
            if table == change.name.rpartition(".")[0] and re.search(rf"\b{re.escape(column)}\b", change.detail):
                yield old, change.name


def type_name(type_: TypeEngine[Any], dialect: Dialect) -> str:
    """Return a type as SQL of the database, or as Python code if the type cannot be compiled."""
    if isinstance(type_, types.NullType):
        return "?"
    try:
        return type_.compile(dialect=dialect)
    except Exception:  # noqa: BLE001 (a type of the app may raise anything)
        return repr(type_)


def default_name(default: object) -> str:
    """Return the server default of a column as text."""
    argument = getattr(default, "arg", getattr(default, "sqltext", default))
    return one_line(str(getattr(argument, "text", argument)))


def _definition(column: Column[Any], dialect: Dialect) -> str:
    parts = [type_name(column.type, dialect)]
    if not column.nullable:
        parts.append("NOT NULL")
    if column.server_default is not None:
        kind = getattr(column.server_default, "__visit_name__", "")
        computed = {"computed_column": "GENERATED", "identity_column": "IDENTITY"}.get(kind)
        parts.append(computed or f"DEFAULT {default_name(column.server_default)}")
    return " ".join(parts)


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


def needs_value(column: Column[Any]) -> bool:
    """Return whether a column cannot be added to a table with rows, because it has no value in existing rows."""
    has_value = column.server_default is not None or column.identity is not None
    return not (column.nullable or column.primary_key or has_value)


def added_again(operation: ops.DropColumnOp) -> ops.AddColumnOp | None:
    """Return how the downgrade adds a dropped column again, if the column then needs a value in existing rows."""
    with suppress(ValueError):  # an operation of a hook does not know what it drops
        added = operation.reverse()
        return added if needs_value(added.column) else None
    return None


def _risk_of_drop(operation: ops.DropColumnOp, dialect: Dialect) -> str:
    """Return why the downgrade may fail to add a dropped column to a table with rows, as a sentence."""
    added, name = added_again(operation), _name(operation, operation.column_name)
    if added is None:
        return ""
    gives = "gives existing rows an empty value, such as '' or 0, or fails"
    result = gives if dialect.name in ("mysql", "mariadb") else "fails on a table with rows"
    return (
        f"{name} ({type_name(added.column.type, dialect)}) must not be NULL and has no default, so the downgrade"
        f" {result}. To give existing rows a value in the downgrade, add --fill {quote(name)}=VALUE."
    )


def _risk_of_type(operation: ops.AlterColumnOp, dialect: Dialect) -> str:
    """Return why the values of a column may not fit its new type, as a sentence."""
    old, new = operation.existing_type, operation.modify_type
    if old is None or new is None:
        return ""
    change = (
        f"{_name(operation, operation.column_name)} changes from {type_name(old, dialect)} to {type_name(new, dialect)}"
    )
    if dialect.name == "sqlite" and (kept := _kept_on_sqlite(family(old), family(new))):
        return f"{change}. {kept}"
    if narrows(old, new) or (dialect.name in ("mysql", "mariadb") and family(old) == "text" and _parses(new)):
        return f"{change}. Values that do not fit are rejected, or cut off."
    if dialect.name == "postgresql" and not casts(old, new):
        if written := getattr(operation, "using", ""):
            return f"{change}, with USING {written}. The revision fails if a value cannot be converted."
        using = f"{operation.column_name}::{type_name(new, dialect)}"
        return (
            f"{change}, which PostgreSQL does not convert by itself. Add postgresql_using={using!r}, or another"
            " expression, to op.alter_column()."
        )
    return ""


def _kept_on_sqlite(old: str, new: str) -> str:
    """Return what SQLite keeps of text that gets another type, as a sentence; empty if it keeps everything."""
    if old not in ("text", "enum", "json", "uuid", *_TIMES):
        return ""
    if new in ("integer", "number", "boolean"):
        return "SQLite keeps only the number at the beginning of a value, such as 7 of '7 m', and 0 if there is none."
    if new in _TIMES and old not in _TIMES:
        return f"SQLite does not check the values: one that is not a {new} stays, and the app cannot read it."
    return ""


def _parses(type_: TypeEngine[Any]) -> bool:
    """Return whether the database converts text to a type, and so rejects some text."""
    return family(type_) in ("integer", "number", "boolean", "enum", "json", "uuid", *_TIMES)


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
    before, after = family(old), family(new)
    numbers = {"integer", "number"}
    return "" in (before, after) or after in (before, "text") or {before, after} in (numbers, {"date", "datetime"})


def family(type_: TypeEngine[Any]) -> str:
    """Return the family of a type, such as ``integer`` or ``text``; empty if it is not known."""
    return next((name for kind, name in _FAMILIES if isinstance(_plain(type_), kind)), "")


def _plain(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type that a type of the app decorates."""
    impl: TypeEngine[Any] | None = getattr(type_, "impl_instance", None)
    return type_ if impl is None else impl


def _width(type_: TypeEngine[Any]) -> int:
    return next((_WIDTHS[kind.__name__] for kind in type(type_).__mro__ if kind.__name__ in _WIDTHS), 4)


def _scale(type_: TypeEngine[Any]) -> float:
    scale = getattr(type_, "scale", None)
    return float("inf") if getattr(type_, "precision", None) is None else scale or 0


def _digits(type_: TypeEngine[Any]) -> float:
    """Return the number of digits before the decimal point."""
    precision = getattr(type_, "precision", None)
    return float("inf") if precision is None else precision - (getattr(type_, "scale", None) or 0)


def _name(operation: Any, name: object) -> str:  # noqa: ANN401 (any operation on a table)
    """Return the name of a part of a table; for a part without a name, the name of the table."""
    table = join_key(operation.schema, operation.table_name)
    return f"{table}.{name}" if name else table


def _names(columns: Iterable[object]) -> str:
    return f"({', '.join(one_line(str(getattr(column, 'name', None) or column)) for column in columns)})"


def _unique(operation: ops.CreateIndexOp | ops.CreateUniqueConstraintOp) -> tuple[str, str]:
    """Return the columns of a unique index or constraint, and why the revision may fail, as a sentence."""
    table, columns = _name(operation, None), _names(operation.columns)
    risk = f"{table} {columns} must be unique. The revision fails if rows of {table} have equal values."
    return f"{columns}{_UNIQUE}", risk


def _foreign_key(operation: ops.CreateForeignKeyOp) -> str:
    local, remote = (", ".join(map(str, names)) for names in (operation.local_cols, operation.remote_cols))
    source = join_key(operation.kw.get("source_schema"), operation.source_table)
    return f"{source}.{local} -> {join_key(operation.kw.get('referent_schema'), operation.referent_table)}.{remote}"
