"""Operations that are SQL statements, which describe themselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from alembic.operations import ops

from ampho.revise.autogenerate.operations.describe import Change

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

_PARAMETER = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")  # what SQLAlchemy's text() takes for a parameter
_ESCAPED = re.compile(r"\\(:[\w$]*)(?![:\w$])")  # what it takes for an escaped colon


class Statement(ops.ExecuteSQLOp):
    """A statement that the downgrade does not undo.

    :ivar change: the description of what the statement changes.
    """

    def __init__(self, sql: str, change: Change) -> None:
        super().__init__(literal_sql(sql))
        self.change: Change = change

    def reverse(self) -> ops.MigrateOperation:
        """Return the operation of the downgrade, which does nothing."""
        return ops.ModifyTableOps("", [])


def literal_sql(sql: str) -> str:
    """Return SQL in which ``op.execute()`` finds no parameters: a colon before a word is escaped."""
    return _PARAMETER.sub(r"\\:\1", _ESCAPED.sub(r"\\\\\1", sql))


def quoted(name: str, dialect: Dialect, schema: str | None = None) -> str:
    """Return a name for ``op.execute()``, after its schema if it has one, with quotes if they are needed."""
    names = map(dialect.identifier_preparer.quote, filter(None, (schema, name)))
    return single_percents(".".join(names), dialect)  # op.execute() doubles the sign if necessary


def single_percents(sql: str, dialect: Dialect) -> str:
    """Return compiled SQL with single percent signs in place of the doubled ones that some drivers need."""
    return sql.replace("%%", "%") if dialect.paramstyle in ("format", "pyformat") else sql
