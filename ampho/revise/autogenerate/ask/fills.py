"""Values for the existing rows of columns that must not be NULL: adding such a column, filling it, and altering it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from alembic.operations import ops
from sqlalchemy import String, TypeDecorator, bindparam, literal
from sqlalchemy.dialects.postgresql.base import PGDialect

from ampho._text import did_you_mean, listed
from ampho.errors import RevisionInputError
from ampho.history.sql import string_literal
from ampho.revise.autogenerate.ask.questions import Question
from ampho.revise.autogenerate.operations.changes import Changes, table_key
from ampho.revise.autogenerate.operations.describe import FILLS, Change, added_again, family, needs_value, type_name
from ampho.revise.autogenerate.operations.statements import Statement, quoted, single_percents

if TYPE_CHECKING:
    from sqlalchemy import Column
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

_SQL = "sql:"
_WORDS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


class Fill(Statement):
    """Gives existing rows a value in a column. The downgrade has nothing to undo.

    :ivar table: the change of the table.
    :ivar column: the name of the column.
    :ivar value: the value, as SQL.
    """

    def __init__(self, table: ops.ModifyTableOps, column: str, value: str, dialect: Dialect) -> None:
        self.table: ops.ModifyTableOps = table
        self.column = column
        self.value = value
        of, name = quoted(table.table_name, dialect, table.schema), quoted(column, dialect)
        sql = f"UPDATE {of} SET {name} = {value} WHERE {name} IS NULL"  # noqa: S608 (it is written to a file)
        super().__init__(sql, Change("~", "column", f"{table_key(table)}.{column}", f"{FILLS} {value}"))


class AfterFills(ops.ModifyTableOps):
    """Changes a table after its new columns have been filled. The downgrade does not make these columns nullable."""

    def reverse(self) -> ops.ModifyTableOps:
        """Return the operation that undoes the changes, except those that make new columns NOT NULL."""
        undone = [each for each in self.ops if not isinstance(each, SetNotNull)]
        return ops.ModifyTableOps(self.table_name, undone, schema=self.schema).reverse()


class SetNotNull(ops.AlterColumnOp):
    """Makes a new column NOT NULL, as it is in the models.

    :ivar column: the column in the models; None if the user gave the value, so the column is not a renamed one.
    """

    column: Column[Any] | None = None


class InDowngrade(ops.ModifyTableOps):
    """Does nothing in the upgrade, and something else in the downgrade."""

    def __init__(self, change: ops.ModifyTableOps, reverse: ops.MigrateOperation) -> None:
        super().__init__(change.table_name, [], schema=change.schema)
        self.only: ops.MigrateOperation = reverse

    def is_empty(self) -> bool:
        """Return whether both the upgrade and the downgrade change nothing."""
        return False

    def reverse(self) -> ops.MigrateOperation:  # type: ignore[override]
        """Return the operation of the downgrade."""
        return self.only


@dataclass
class Fills:
    """The values of the option ``--fill``.

    :ivar texts: the values, such as ``users.age=0``, by the name of the column.
    :ivar used: the names of the columns that have used their values.
    """

    texts: Mapping[str, str]
    used: set[str] = field(default_factory=set)

    @classmethod
    def parse(cls, texts: Iterable[str], package: str) -> Fills:
        """Return the values in texts such as ``users.age=0``.

        :raises RevisionInputError: if a text has another form.
        """
        found: dict[str, str] = {}
        for text in texts:
            name, equals, _ = text.partition("=")
            table, _, column = name.strip().rpartition(".")
            if not (equals and table and column):
                raise RevisionInputError(
                    f"--fill {text}: A value has the form TABLE.COLUMN=VALUE, as in users.age=0, or"
                    " TABLE.COLUMN=sql:EXPRESSION.",
                    package=package,
                )
            if (other := found.setdefault(name.strip(), text)) != text:
                raise RevisionInputError(
                    f"--fill {text}: --fill {other} is for the same column. Pass only one of them.", package=package
                )
        return cls(found)

    def apply(self, changes: Changes) -> None:
        """Fill the columns that become NOT NULL in the upgrade or the downgrade, and have a value for existing rows."""
        found: list[ops.MigrateOperation] = []
        for operation in changes.upgrade.ops:
            is_change = isinstance(operation, ops.ModifyTableOps)
            found += self._filled(operation, changes) if is_change else [operation]  # type: ignore[arg-type]
        changes.upgrade.ops[:] = found

    def _filled(self, change: ops.ModifyTableOps, changes: Changes) -> list[ops.MigrateOperation]:
        """Return a change of a table, split where its columns have to be filled."""
        first: list[ops.MigrateOperation] = []
        fills: list[ops.MigrateOperation] = []
        after: list[ops.MigrateOperation] = []
        for operation in change.ops:
            column = unfilled(operation)
            value = None if column is None else self._value(change, *column, changes)
            if column is not None and value is not None:
                fills.append(Fill(change, column[0], value, changes.autogen.dialect))
            if isinstance(operation, ops.AddColumnOp):
                first.append(operation if value is None else nullable(operation))
                after += [] if value is None else [self._not_null(operation)]
            elif isinstance(operation, ops.DropColumnOp):
                after.append(self._dropped(change, operation, fills, changes))
            else:
                after.append(operation)
        if not fills:
            return [change]
        parts = [ops.ModifyTableOps(change.table_name, first, schema=change.schema)] if first else []
        return [*parts, *fills, AfterFills(change.table_name, after, schema=change.schema)]

    def _dropped(
        self,
        change: ops.ModifyTableOps,
        operation: ops.DropColumnOp,
        fills: list[ops.MigrateOperation],
        changes: Changes,
    ) -> ops.DropColumnOp:
        """Return the operation that drops a column; if there is a value, the downgrade adds the column and fills it."""
        added = added_again(operation)
        if added is None or f"{table_key(change)}.{operation.column_name}" not in self.texts:
            return operation
        value = str(self._value(change, added.column.name, added.column.type, None, changes))
        fill = Fill(change, added.column.name, value, changes.autogen.dialect)
        not_null = ops.ModifyTableOps(change.table_name, [self._not_null(added)], schema=change.schema)
        fills += [InDowngrade(change, not_null), InDowngrade(change, fill)]
        return ops.DropColumnOp(
            operation.table_name, operation.column_name, schema=operation.schema, _reverse=nullable(added)
        )

    def _value(
        self, change: ops.ModifyTableOps, name: str, type_: TypeEngine[Any], default: object, changes: Changes
    ) -> str | None:
        """Return the value of a column as SQL: the given one, or the default of the model if it is a constant."""
        name = f"{table_key(change)}.{name}"
        text = self.texts.get(name)
        if text is None:
            return None if default is None else _default(default, type_, changes.autogen.dialect)
        self.used.add(name)
        return parsed(text.partition("=")[2], name, type_, changes)

    def _not_null(self, operation: ops.AddColumnOp) -> SetNotNull:
        column = operation.column
        found = SetNotNull(
            operation.table_name,
            column.name,
            schema=operation.schema,
            existing_type=column.type,
            existing_comment=column.comment,
            modify_nullable=False,
        )
        found.column = None if f"{table_key(operation)}.{column.name}" in self.texts else column
        return found

    def check(self, questions: Iterable[Question], package: str) -> None:
        """Raise an error if a value was given for a column that needs none.

        :raises RevisionInputError: if there is such a value.
        """
        needed = [question.name for question in questions if question.option == "--fill"]
        needs = f"These columns need one: {listed(needed)}." if needed else "No column needs one."
        for name, text in self.texts.items():
            if name not in self.used:
                why = f"{name} needs no value for existing rows. {did_you_mean(name, needed) or needs}"
                raise RevisionInputError(f"--fill {text}: {why}", package=package)


def unfilled(operation: ops.MigrateOperation) -> tuple[str, TypeEngine[Any], object] | None:
    """Return the name, the type, and the constant default of a column that becomes NOT NULL without a server default.

    For any other operation, return None.
    """
    if isinstance(operation, ops.AddColumnOp):
        column: Column[Any] = operation.column
        if not needs_value(column):
            return None
        is_constant = column.default is not None and column.default.is_scalar
        return column.name, column.type, getattr(column.default, "arg", None) if is_constant else None
    if isinstance(operation, ops.AlterColumnOp) and operation.modify_nullable is False:
        type_ = operation.modify_type if operation.modify_type is not None else operation.existing_type
        return None if type_ is None else (operation.column_name, type_, None)
    return None


def questions_about_values(changes: Changes) -> Iterator[Question]:
    """Yield a question for each column that becomes NOT NULL and has no value for existing rows."""
    filled = {operation.change.name for operation in changes.operations() if isinstance(operation, Fill)}
    for change in changes.only(ops.ModifyTableOps):
        for operation in change.ops:
            column = None if isinstance(operation, SetNotNull) else unfilled(operation)
            if column is not None and (name := f"{table_key(change)}.{column[0]}") not in filled:
                kind = "new column" if isinstance(operation, ops.AddColumnOp) else "column"
                detail = type_name(column[1], changes.autogen.dialect)
                check = partial(parsed, name=name, type_=column[1], changes=changes)
                yield Question("--fill", kind, name, detail=detail, check=check)


def nullable(operation: ops.AddColumnOp) -> ops.AddColumnOp:
    """Return an operation that adds a column, but lets it be NULL."""
    from sqlalchemy import Column

    column = operation.column
    new: Column[Any] = Column(column.name, column.type, nullable=True, comment=column.comment)
    return ops.AddColumnOp(operation.table_name, new, schema=operation.schema)


def parsed(text: str, name: str, type_: TypeEngine[Any], changes: Changes) -> str:
    """Return the value of a column as SQL, from what the user typed.

    :raises RevisionInputError: if the text is not a value of the column's type.
    """
    if text.startswith(_SQL):
        if expression := text.removeprefix(_SQL).strip():
            return expression
        raise RevisionInputError(f"--fill {name}={text}: The SQL expression is missing.", package=changes.package)
    kind = family(type_)
    try:
        return _literal(_PARSERS[kind](text), type_, changes.autogen.dialect)
    except (KeyError, ValueError, ArithmeticError):
        labels = getattr(type_, "enums", ())
        has = f" Its labels are {listed(labels, 10)}." if labels else ""
        raise RevisionInputError(
            f"--fill {name}={text}: {text!r} is not a value of the type {type_name(type_, changes.autogen.dialect)}."
            f"{has} Pass another value, or SQL, as in --fill {name}=sql:EXPRESSION.",
            package=changes.package,
        ) from None


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "boolean": lambda text: _WORDS[text.lower()],
    "integer": int,
    "number": Decimal,
    "text": str,
    "enum": str,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "uuid": UUID,
    "json": json.loads,
}


def _default(value: object, type_: TypeEngine[Any], dialect: Dialect) -> str | None:
    """Return the constant default of a model as SQL; None if it has no literal in SQL."""
    for render in (_literal_of_default, _compiled):
        with suppress(Exception):  # the class of the type may belong to the user
            return render(value, type_, dialect)
    return None


def _literal_of_default(value: object, type_: TypeEngine[Any], dialect: Dialect) -> str:
    """Return a default as the literal that its type stores."""
    if type_.dialect_impl(dialect).bind_expression(bindparam("value", type_=type_)) is not None:
        raise ValueError(value)
    if not isinstance(type_, TypeDecorator):
        with suppress(ValueError):
            return _literal(value, type_, dialect)
    # With psycopg, some types return objects of the driver instead of text or bytes.
    plain = PGDialect() if dialect.name == "postgresql" else dialect  # type: ignore[no-untyped-call]
    stored = type_.dialect_impl(plain).bind_processor(plain)
    return _literal(value if stored is None else stored(value), String(), dialect)


def _compiled(value: object, type_: TypeEngine[Any], dialect: Dialect) -> str:
    """Return a value as SQLAlchemy writes it into statements."""
    if isinstance(value, float | Decimal) and not Decimal(value).is_finite():
        raise ValueError(value)
    compiled = literal(value, type_).compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    return single_percents(str(compiled), dialect)


def _literal(value: object, type_: TypeEngine[Any], dialect: Dialect) -> str:
    """Return a value as SQL that means the same in every driver.

    :raises ValueError: if there is no such SQL.
    """
    if family(type_) == "json":
        return _text(json.dumps(value), dialect)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes | memoryview):
        return f"'\\x{value.hex()}'" if dialect.name == "postgresql" else f"X'{value.hex()}'"
    if isinstance(value, int | float | Decimal) and Decimal(value).is_finite():
        return str(value)
    return _text(_string(value, type_, dialect), dialect)


def _string(value: object, type_: TypeEngine[Any], dialect: Dialect) -> str:
    """Return the text of a value that is a string in SQL."""
    if isinstance(value, UUID):
        return str(value) if dialect.supports_native_uuid and getattr(type_, "native_uuid", True) else value.hex
    if isinstance(value, datetime):
        return value.isoformat(" ", "microseconds" if dialect.name == "sqlite" else "auto")
    if isinstance(value, date | time):
        return value.isoformat()
    labels = getattr(type_, "enums", None)
    if isinstance(value, Enum):
        value = value.name if labels and value.name in labels else value.value
    if not isinstance(value, str) or (labels is not None and value not in labels):
        raise ValueError(value)
    return value


def _text(value: str, dialect: Dialect) -> str:
    return string_literal(value.replace("\\", r"\\") if dialect.name in ("mysql", "mariadb") else value)
