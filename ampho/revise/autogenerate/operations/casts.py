"""Converting the values of columns whose types change, where PostgreSQL does not convert them itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from alembic.autogenerate import renderers
from alembic.autogenerate.render import render_op_text
from alembic.operations import ops
from sqlalchemy import text
from sqlalchemy.types import NullType

from ampho.revise.autogenerate.operations.enum_catalog import native_enum, renders_enums
from ampho.revise.autogenerate.operations.statements import quoted, single_percents

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy.engine import Connection
    from sqlalchemy.types import TypeEngine

    from ampho.revise.autogenerate.operations.changes import Changes

_CONVERSION = text("""
    SELECT CASE WHEN kept.castcontext = 'e' OR old.typcategory = 'S' THEN 'directly' ELSE 'as text' END
    FROM pg_type old JOIN pg_type new ON new.oid = to_regtype(:new) AND new.oid <> old.oid
    LEFT JOIN pg_cast kept ON kept.castsource = old.oid AND kept.casttarget = new.oid
    WHERE old.oid = to_regtype(:old)
        AND CASE WHEN kept.castcontext IS NULL THEN new.typcategory <> 'S' ELSE kept.castcontext = 'e' END
""")
_TEXT = re.compile(r"('(?:[^']|'')*')::[\w \".]+$")


class CastColumnOp(ops.AlterColumnOp):
    """Changes the type of a column to one for which PostgreSQL requires ``USING``.

    :ivar using: the SQL that converts the values; empty if PostgreSQL converts them without.
    :ivar back: the same for the downgrade.
    """

    using = ""
    back = ""

    def reverse(self) -> CastColumnOp:
        """Return the operation of the downgrade."""
        return _cast(super().reverse(), self.back, self.using)


def _cast(operation: ops.AlterColumnOp, using: str, back: str) -> CastColumnOp:
    found = CastColumnOp(operation.table_name, operation.column_name)
    vars(found).update(vars(operation))
    found.using, found.back = using, back
    return found


def cast_columns(changes: Changes) -> None:
    """Convert the values of columns whose types change, where PostgreSQL does not convert them itself."""
    if changes.autogen.dialect.name != "postgresql":
        return
    for table in changes.only(ops.ModifyTableOps):
        table.ops[:] = [part for each in table.ops for part in _with_cast(each, changes.autogen)]


def _with_cast(operation: ops.MigrateOperation, autogen: AutogenContext) -> Iterator[ops.MigrateOperation]:
    """Yield an operation or, in its place, those that convert a column and its default, because PostgreSQL does not."""
    if not isinstance(operation, ops.AlterColumnOp):
        yield operation
        return
    old, new = operation.existing_type, operation.modify_type
    if new is None or old is None or isinstance(old, NullType):
        yield operation
        return
    using, back = _conversion(old, new, operation, autogen), _conversion(new, old, operation, autogen)
    if not using and not back:
        yield operation
        return
    before: Any = operation.existing_server_default
    after: Any = operation.modify_server_default
    after = _without_cast(before) if after is False else after
    if before is not None and before is not False:
        yield _change_of_default(operation, old, before, None)
    operation.existing_server_default, operation.modify_server_default = False, False
    yield _cast(operation, using, back)
    if after is not None and after is not False:
        yield _change_of_default(operation, new, None, after)


def _conversion(
    old: TypeEngine[Any], new: TypeEngine[Any], operation: ops.AlterColumnOp, autogen: AutogenContext
) -> str:
    """Return the SQL that converts a column; empty if PostgreSQL converts it without."""
    dialect = autogen.dialect
    column = _without_percents(quoted(operation.column_name, dialect))
    names = [single_percents(type_.compile(dialect=dialect), dialect) for type_ in (old, new)]
    if any(native_enum(type_, dialect) is not None for type_ in (old, new)):
        found = "as text" if renders_enums(autogen) else None
    else:
        bare = [name.partition(" COLLATE ")[0] for name in names]
        found = cast("Connection", autogen.connection).scalar(_CONVERSION, {"old": bare[0], "new": bare[1]})
    return f"{column}{'::text' if found == 'as text' else ''}::{names[1]}" if found else ""


def _without_percents(column: str) -> str:
    """Return a quoted name without percent signs, because some drivers need two of them in ``postgresql_using``."""
    if "%" not in column:
        return column
    escaped = column.replace("\\", "\\\\").replace("%", r"\0025")
    return f"U&{escaped}"


def _change_of_default(operation: ops.AlterColumnOp, type_: Any, before: Any, after: Any) -> ops.AlterColumnOp:  # noqa: ANN401 (Alembic's types)
    """Return an operation that changes the default of the column that an operation changes."""
    return ops.AlterColumnOp(
        operation.table_name,
        operation.column_name,
        existing_type=type_,
        existing_server_default=before,
        modify_server_default=after,
        schema=operation.schema,
        existing_nullable=operation.existing_nullable,
    )


def _without_cast(default: Any) -> Any:  # noqa: ANN401 (a default of any form)
    """Return a default; if it is a string, without the type that PostgreSQL adds to it."""
    found = _TEXT.match(str(getattr(default, "arg", default)))
    return text(found[1]) if found else default


@renderers.dispatch_for(CastColumnOp)
def _render_cast(autogen: AutogenContext, operation: CastColumnOp) -> str:
    plain = ops.AlterColumnOp(operation.table_name, operation.column_name)
    vars(plain).update(vars(operation))
    text = render_op_text(autogen, plain).rstrip()
    if not operation.using:
        return text
    return f"{text.removesuffix(')')},\n{' ' * 11}postgresql_using={operation.using!r})"
