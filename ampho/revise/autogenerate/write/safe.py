"""Writing the operations of ``ampho.operations`` in place of Alembic's, for ``db-rev -a --safe``."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from alembic.autogenerate import renderers
from alembic.autogenerate.render import render_op
from alembic.operations import ops
from sqlalchemy import inspect, literal, select, table

from ampho.revise.autogenerate.ask.fills import AfterFills, Fill
from ampho.revise.autogenerate.operations.changes import Changes, table_key
from ampho.revise.autogenerate.operations.statements import literal_sql
from ampho.revise.autogenerate.owners.keys import join_key, split_key

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy.engine import Connection

Piece: TypeAlias = tuple[str, ops.MigrateOperation]
"""How an operation is replaced, and the operation."""

_KEPT, _SAFE, _BACKFILL = "", "safe", "backfill"

IMPORT = "from ampho.operations import "
_LINE = 100
_KINDS = (
    *(ops.AddColumnOp, ops.CreateIndexOp, ops.DropIndexOp, ops.CreateForeignKeyOp),
    *(ops.CreateCheckConstraintOp, ops.CreateUniqueConstraintOp),
)


class SafeTableOps(ops.ModifyTableOps):
    """Changes a table with operations of ``ampho.operations``."""


@renderers.dispatch_for(SafeTableOps)
def _render(autogen: AutogenContext, operation: SafeTableOps) -> list[str]:
    prefix = autogen.opts["alembic_module_prefix"] or ""
    found = [text.removeprefix(prefix) for each in operation.ops for text in render_op(autogen, each)]
    autogen.imports.update(f"{IMPORT}{code.partition('(')[0]}" for code in found)
    return found


class SafeFill(Fill):
    """Gives existing rows a value in batches."""


@renderers.dispatch_for(SafeFill)
def _render_fill(autogen: AutogenContext, operation: SafeFill) -> str:
    prefix = autogen.opts["sqlalchemy_module_prefix"] or ""
    autogen.imports.add(f"{IMPORT}backfill")
    table, column = operation.table, operation.column
    schema = f", schema={table.schema!r}" if table.schema else ""
    value = f"{prefix}text({literal_sql(operation.value)!r})"
    return f"backfill({table.table_name!r}, {{{column!r}: {value}}}, {prefix}column({column!r}).is_(None){schema})"


class SafeOperations:
    """Replaces operations that would block an app on large tables.

    :param rows: the number of rows above which a table is large; all tables are if it is negative.
    """

    def __init__(self, connection: Connection, rows: int) -> None:
        self._connection = connection
        self._rows = rows
        self._made: set[str] = set()
        self._sizes: dict[str, bool] = {}

    def split(self, changes: Changes) -> list[Changes]:
        """Split changes so that a part with operations that can be repeated after an interruption has no others.

        A backfill is a part of its own.
        """
        self._made.update(map(table_key, changes.only(ops.CreateTableOp)))
        for rename in changes.only(ops.RenameTableOp):
            new = join_key(rename.schema, rename.new_table_name)
            self._sizes[new] = self._is_large(join_key(rename.schema, rename.table_name))
        pieces = self._pieces(changes.upgrade.ops)
        groups = [[each for _, each in group] for _, group in groupby(pieces, key=itemgetter(0))]
        return [changes] if len(groups) < 2 else [changes.part(group, changes.phase) for group in groups]

    def replace(self, changes: Changes) -> None:
        """Replace the operations in both directions."""
        for container in (changes.upgrade, changes.downgrade):
            pieces = [*self._pieces(container.ops)]
            are_backfills = all(kind == _BACKFILL for kind, _ in pieces)
            for number, (kind, each) in enumerate(pieces):
                if kind == _SAFE and isinstance(each, ops.ModifyTableOps):
                    pieces[number] = kind, SafeTableOps(each.table_name, each.ops, schema=each.schema)
                elif are_backfills and isinstance(each, Fill):
                    fill = SafeFill(each.table, each.column, each.value, changes.autogen.dialect)
                    pieces[number] = kind, fill
            container.ops[:] = [each for _, each in pieces]

    def _pieces(self, operations: Sequence[ops.MigrateOperation]) -> Iterator[Piece]:
        """Yield operations, with the changes of each large table cut where one that can be replaced meets another."""
        made = self._made.union(table_key(each) for each in operations if isinstance(each, ops.CreateTableOp))
        for each in operations:
            of = each.table if isinstance(each, Fill) else each
            is_change = type(of) in (ops.ModifyTableOps, AfterFills)
            if not (is_change and isinstance(of, ops.ModifyTableOps) and self._may_block(table_key(of), made)):
                yield _KEPT, each
            elif of is not each:
                yield _BACKFILL, each
            else:
                for kind, group in groupby(of.ops, key=lambda part: _SAFE if _is_replaceable(part) else _KEPT):
                    yield kind, type(of)(of.table_name, [*group], schema=of.schema)

    def _may_block(self, key: str, made: Container[str]) -> bool:
        return key not in made and self._is_large(key)

    def _is_large(self, key: str) -> bool:
        if key not in self._sizes:
            self._sizes[key] = self._rows < 0 or self._has_more_rows(*split_key(key))
        return self._sizes[key]

    def _has_more_rows(self, schema: str | None, name: str) -> bool:
        """Return whether a table has more rows than the limit; the rows beyond it are not read."""
        if not inspect(self._connection).has_table(name, schema):
            return False
        query = select(literal(1)).select_from(table(name, schema=schema)).offset(self._rows).limit(1)
        return self._connection.execute(query).first() is not None


def merged(imports: Iterable[str]) -> list[str]:
    """Return imports, with those from ``ampho.operations`` combined into one."""
    names = sorted(line.removeprefix(IMPORT) for line in imports if line.startswith(IMPORT))
    lines = [line for line in imports if not line.startswith(IMPORT)]
    listed = ", ".join(names)
    if len(IMPORT + listed) > _LINE:
        listed = "(\n    {},\n)".format(",\n    ".join(names))
    return sorted([*lines, *([IMPORT + listed] if names else [])])


def _is_replaceable(operation: ops.MigrateOperation) -> bool:
    match operation:
        case ops.AlterColumnOp():
            return not (operation.modify_name or operation.kw.get("postgresql_using"))
        case ops.DropConstraintOp():
            return operation.constraint_name is not None and operation.constraint_type != "primary"
        case _:
            return isinstance(operation, _KINDS)
