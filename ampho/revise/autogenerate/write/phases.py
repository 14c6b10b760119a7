"""Splitting changes by phase, for ``db-rev -a``: before the new release of an app, and after the old one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column

from ampho.history.revision import Phase
from ampho.revise.autogenerate.ask.fills import AfterFills, Fill, InDowngrade, SetNotNull, nullable, unfilled
from ampho.revise.autogenerate.operations.changes import Changes, table_key
from ampho.revise.autogenerate.operations.constraints import UnnamedTableOps
from ampho.revise.autogenerate.operations.describe import added_again, family, narrows
from ampho.revise.autogenerate.operations.enums import ChangeLabelsOp
from ampho.revise.autogenerate.operations.statements import Statement

_CUTTABLE = (ops.ModifyTableOps, AfterFills, UnnamedTableOps)
_WORD = re.compile(r"\w+")


def split_by_phase(changes: Changes) -> list[Changes]:
    """Return changes in one part, or in two if the new release needs some of them before the old release is gone.

    Changes with an operation that belongs to both phases, such as a rename, are not split: the new release needs it,
    and the old release may fail with it.
    """
    splitting = _Splitting(changes)
    pre, post = (list(splitting.part(phase)) for phase in Phase)
    is_pre, is_post = (any(not isinstance(each, Fill) for each in part) for part in (pre, post))
    if is_pre and is_post and not splitting.is_refused:
        return [changes.part(pre, Phase.PRE), changes.part(post, Phase.POST)]
    if not (is_pre or splitting.is_refused) and changes.only(ChangeLabelsOp):
        changes.phase = Phase.POST  # which its SQL does not tell, because it also creates a type
    return [changes]


@dataclass
class _Splitting:
    """Decides the phase of each operation of some changes.

    :ivar is_refused: whether an operation, or a change of a table, belongs to both phases, but cannot be split.
    """

    changes: Changes
    is_refused: bool = False

    def __post_init__(self) -> None:
        operations = list(self.changes.operations())
        self._dropped = set(map(table_key, self.changes.only(ops.DropTableOp)))
        self._created = set(map(table_key, self.changes.only(ops.CreateTableOp)))
        self._added = {(table_key(each), each.column.name) for each in operations if isinstance(each, ops.AddColumnOp)}
        self._required = dict(self._dropped_required())
        self.is_refused = any(map(self._belongs_to_both, operations))

    def _dropped_required(self) -> Iterator[tuple[ops.MigrateOperation, ops.AddColumnOp]]:
        """Yield what drops a column that must not be NULL, to which the new release writes nothing, and its reverse."""
        filled = [
            (table_key(operation), each.column_name)
            for operation in self.changes.upgrade.ops
            if isinstance(operation, InDowngrade) and isinstance(operation.only, ops.ModifyTableOps)
            for each in operation.only.ops
            if isinstance(each, SetNotNull)
        ]
        for change in self.changes.only(ops.ModifyTableOps):
            for each in change.ops if table_key(change) not in self._dropped else ():
                if isinstance(each, ops.DropColumnOp):
                    added = added_again(each)
                    if added is not None or (table_key(change), each.column_name) in filled:
                        yield each, added or each.reverse()

    def part(self, phase: Phase) -> Iterator[ops.MigrateOperation]:
        """Yield the operations of a phase. Values for existing rows are in both, because rows come in between."""
        fills = [each for each in self.changes.upgrade.ops if isinstance(each, InDowngrade)]
        for operation in self.changes.upgrade.ops:
            if operation in fills:
                continue
            if isinstance(operation, ops.ModifyTableOps) and operation.ops:
                yield from self._part_of(operation, phase)
            elif isinstance(operation, Fill) or _waits(operation) is (phase is Phase.POST):
                yield operation
        if phase is Phase.PRE:
            # At the end, because its downgrade begins with them, before the column is NOT NULL again.
            yield from (each for each in fills if isinstance(each.only, Fill))

    def _part_of(self, change: ops.ModifyTableOps, phase: Phase) -> Iterator[ops.MigrateOperation]:
        """Yield the part of a change of a table that belongs to a phase."""
        found = [each for each in change.ops if self._part_waits(each, change) is (phase is Phase.POST)]
        required = [self._required[each] for each in change.ops if each in self._required]
        if len(found) in (0, len(change.ops)) and not isinstance(change, AfterFills) and not required:
            yield from [change] if found else []
            return
        if phase is Phase.PRE:
            found += [_alter_null(each.table_name, each.column, each.schema, nullable=True) for each in required]
        else:
            found = [_dropped_as_nullable(self._required[each]) if each in self._required else each for each in found]
        if type(change) not in _CUTTABLE:
            self.is_refused = True
        elif found:
            kind = UnnamedTableOps if isinstance(change, UnnamedTableOps) else ops.ModifyTableOps
            yield kind(change.table_name, [*map(_alone, found)], schema=change.schema)

    def _part_waits(self, operation: ops.MigrateOperation, change: ops.ModifyTableOps) -> bool:
        """Return whether a part of a change of a table has to wait until the old release is gone."""
        key = table_key(change)
        if key in self._created or key in self._dropped:
            return key not in self._created
        match operation:
            case ops.DropColumnOp():
                return True
            case ops.DropConstraintOp() | ops.DropIndexOp():
                return _goes_with_a_column(operation, change)
            case ops.AlterColumnOp():
                return _restricts_values(operation)
            case ops.CreateForeignKeyOp() | ops.CreateCheckConstraintOp():
                is_of_new = any((key, column) in self._added for column in _columns(operation))
                return not is_of_new and not _is_replaced(operation, change)
        return False

    def _belongs_to_both(self, operation: ops.MigrateOperation) -> bool:
        if type(operation).__module__.partition(".")[0] not in ("alembic", "ampho"):
            return True  # perhaps: it comes from another plug-in of Alembic
        match operation:
            case ops.RenameTableOp():
                return True
            case ops.AlterColumnOp(modify_name=str()):
                return True
            case ops.AlterColumnOp() if not isinstance(operation, SetNotNull):
                return _restricts_values(operation) and _is_needed(operation)
            case ops.AddColumnOp():
                return table_key(operation) not in self._created and unfilled(operation) is not None
        return False


def _waits(operation: ops.MigrateOperation) -> bool:
    """Return whether an operation that is not about a part of a table has to wait until the old release is gone."""
    match operation:
        case ops.DropTableOp():
            return True
        case ChangeLabelsOp():
            return not operation.added
        case Statement():
            return operation.change.kind == "-"
    return False


def _goes_with_a_column(operation: ops.MigrateOperation, change: ops.ModifyTableOps) -> bool:
    """Return whether an index or a constraint is dropped because one of its columns is, and not replaced."""
    dropped = {each.column_name for each in change.ops if isinstance(each, ops.DropColumnOp)}
    others = [each for each in change.ops if not isinstance(each, ops.DropConstraintOp | ops.DropIndexOp)]
    is_replaced = _name(operation) in map(_name, others)
    return bool(dropped) and not is_replaced and not dropped.isdisjoint(_columns(operation.reverse()))


def _name(operation: ops.MigrateOperation) -> str | None:
    """Return the name of the constraint or the index that an operation creates or drops."""
    return getattr(operation, "constraint_name", getattr(operation, "index_name", None))


def _columns(operation: ops.MigrateOperation) -> Collection[str]:
    """Return the columns of an index or a constraint that is created; for a check constraint, the words in it."""
    match operation:
        case ops.CreateIndexOp(columns=items):
            return {word for each in items for word in _WORD.findall(str(each))}
        case ops.CreateUniqueConstraintOp(columns=names) | ops.CreateForeignKeyOp(local_cols=names):
            return names
        case ops.CreateCheckConstraintOp(condition=condition):
            return _WORD.findall(str(condition))
    return ()


def _is_replaced(operation: ops.MigrateOperation, change: ops.ModifyTableOps) -> bool:
    """Return whether a foreign key takes the place of another one, for example with another ON DELETE."""
    dropped = (each.reverse() for each in change.ops if isinstance(each, ops.DropConstraintOp))
    return isinstance(operation, ops.CreateForeignKeyOp) and any(
        isinstance(each, ops.CreateForeignKeyOp) and _link(each) == _link(operation) for each in dropped
    )


def _link(operation: ops.CreateForeignKeyOp) -> tuple[object, ...]:
    schema = operation.kw.get("referent_schema")
    return operation.local_cols, schema, operation.referent_table, operation.remote_cols


def _restricts_values(operation: ops.AlterColumnOp) -> bool:
    """Return whether the old release may not be able to write a column after a change."""
    drops_default = operation.modify_server_default is None and not operation.existing_nullable
    return operation.modify_nullable is False or drops_default or _limits(operation) or _converts(operation)


def _is_needed(operation: ops.AlterColumnOp) -> bool:
    """Return whether the new release may not be able to write a column before a change."""
    old, new = _labels(operation.existing_type), _labels(operation.modify_type)
    is_widened = bool(new - old) if old else operation.modify_type is not None and not _limits(operation)
    return bool(operation.modify_nullable or is_widened)


def _limits(operation: ops.AlterColumnOp) -> bool:
    """Return whether some values of the old type of a column are too large for the new one, or not among its labels."""
    old, new = operation.existing_type, operation.modify_type
    return bool(old and new and (narrows(old, new) or (_labels(new) and _labels(old) - _labels(new))))


def _converts(operation: ops.AlterColumnOp) -> bool:
    """Return whether values of the old type of a column are not values of the new one."""
    old, new = (family(type_) if type_ else "" for type_ in (operation.existing_type, operation.modify_type))
    return "" not in (old, new) and old != new and (old, new) != ("integer", "number") and not _limits(operation)


def _labels(type_: object) -> frozenset[str]:
    return frozenset(getattr(type_, "enums", ()))


def _dropped_as_nullable(added: ops.AddColumnOp) -> ops.DropColumnOp:
    """Return the operation that drops a column, which phase ``pre`` has let be NULL, as its downgrade does."""
    return ops.DropColumnOp(added.table_name, added.column.name, schema=added.schema, _reverse=nullable(added))


def _alone(operation: ops.MigrateOperation) -> ops.MigrateOperation:
    """Return an operation for a revision that does not add the column, so that its downgrade undoes it."""
    if not isinstance(operation, SetNotNull):
        return operation
    column: Column[Any] = Column(operation.column_name, operation.existing_type, comment=operation.existing_comment)
    return _alter_null(operation.table_name, column, operation.schema, nullable=False)


def _alter_null(table_name: str, column: Column[Any], schema: str | None, *, nullable: bool) -> ops.AlterColumnOp:
    """Return the operation that lets a column be NULL, or no longer."""
    return ops.AlterColumnOp(
        table_name,
        column.name,
        schema=schema,
        existing_type=column.type,
        existing_nullable=not nullable,
        existing_comment=column.comment,
        modify_nullable=nullable,
    )
