"""Splitting changes by phase, for ``db-rev -a``: before the new release of an app, and after the old one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from alembic.operations import ops

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
    parts = list(splitting.parts(Phase.PRE)), list(splitting.parts(Phase.POST))
    is_pre, is_post = (any(not isinstance(each, Fill) for each in part) for part in parts)
    if not (is_pre and is_post) or splitting.is_refused:
        if not (is_pre or splitting.is_refused) and changes.only(ChangeLabelsOp):
            changes.phase = Phase.POST  # which its SQL does not tell, because it also creates a type
        return [changes]
    pre, post = (Changes.of(changes.package, part, changes.objects) for part in parts)
    for part, phase in ((pre, Phase.PRE), (post, Phase.POST)):
        part.phase, part.needs, part.of_dropped_tables = phase, changes.needs, changes.of_dropped_tables
        part.reverse()
    pre.warnings = changes.warnings
    return [pre, post]


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
        self._required = dict(self._needing_a_value())
        self.is_refused = any(map(self._belongs_to_both, operations))

    def _needing_a_value(self) -> Iterator[tuple[tuple[str, str], ops.AddColumnOp]]:
        """Yield the dropped columns that must not be NULL, to which the new release writes nothing."""
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
                    name, added = (table_key(change), each.column_name), added_again(each)
                    if added is not None or name in filled:
                        yield name, added or each.reverse()

    def parts(self, phase: Phase) -> Iterator[ops.MigrateOperation]:
        """Yield the operations of a phase. Values for existing rows are in both, because rows come in between."""
        fills = [each for each in self.changes.upgrade.ops if isinstance(each, InDowngrade)]
        for operation in self.changes.upgrade.ops:
            if operation in fills:
                continue
            if isinstance(operation, ops.ModifyTableOps) and operation.ops:
                yield from self._part(operation, phase)
            elif isinstance(operation, Fill) or self._phase(operation) is phase:
                yield operation
        if (
            phase is Phase.PRE
        ):  # at the end, because its downgrade begins with them, before the column is NOT NULL again
            yield from (each for each in fills if isinstance(each.only, Fill))

    def _part(self, change: ops.ModifyTableOps, phase: Phase) -> Iterator[ops.MigrateOperation]:
        found = [self._of_table(each, change) for each in change.ops]
        own = [each for each, other in zip(change.ops, found, strict=True) if other is phase]
        required = [
            (each, self._required.get((table_key(change), getattr(each, "column_name", "")))) for each in change.ops
        ]
        if phase is Phase.PRE:
            own += [
                _without_not_null(each, added)
                for each, added in required
                if added and isinstance(each, ops.DropColumnOp)
            ]
        else:
            own = [self._dropped_nullable(each, change) for each in own]
        if len({*found}) == 1 and not isinstance(change, AfterFills) and not any(added for _, added in required):
            yield from [change] if own else []
        elif type(change) not in _CUTTABLE:
            self.is_refused = True
        elif own:
            kind = UnnamedTableOps if isinstance(change, UnnamedTableOps) else ops.ModifyTableOps
            yield kind(change.table_name, [*map(_alone, own)], schema=change.schema)

    def _dropped_nullable(self, operation: ops.MigrateOperation, change: ops.ModifyTableOps) -> ops.MigrateOperation:
        """Return an operation whose downgrade lets a column be NULL that phase pre has changed in this way."""
        added = self._required.get((table_key(change), getattr(operation, "column_name", "")))
        if added is None or not isinstance(operation, ops.DropColumnOp):
            return operation
        return ops.DropColumnOp(
            operation.table_name, operation.column_name, schema=operation.schema, _reverse=nullable(added)
        )

    def _phase(self, operation: ops.MigrateOperation) -> Phase:
        """Return the phase of an operation other than a change of a table."""
        is_post = False
        match operation:
            case ops.DropTableOp():
                is_post = True
            case ChangeLabelsOp():
                is_post = not operation.added
            case Statement():
                is_post = operation.change.kind == "-"
        return Phase.POST if is_post else Phase.PRE

    def _of_table(self, operation: ops.MigrateOperation, change: ops.ModifyTableOps) -> Phase:
        key = table_key(change)
        if key in self._created:
            return Phase.PRE
        if key in self._dropped:
            return Phase.POST
        is_post = False
        match operation:
            case ops.DropColumnOp():
                is_post = True
            case ops.DropConstraintOp() | ops.DropIndexOp():
                is_post = self._goes_with_a_column(operation, change)
            case ops.AlterColumnOp():
                is_post = _restricts_values(operation)
            case ops.CreateForeignKeyOp():
                is_post = self._restricts(key, operation.local_cols) and not _is_replaced(operation, change)
            case ops.CreateCheckConstraintOp():
                is_post = self._restricts(key, _WORD.findall(str(operation.condition)))
        return Phase.POST if is_post else Phase.PRE

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

    def _restricts(self, key: str, columns: Collection[str]) -> bool:
        """Return whether a constraint of some columns is about none that is new."""
        return not any((key, column) in self._added for column in columns)

    def _goes_with_a_column(self, operation: ops.MigrateOperation, change: ops.ModifyTableOps) -> bool:
        """Return whether an index or a constraint is dropped because one of its columns is, and not replaced."""
        dropped = {each.column_name for each in change.ops if isinstance(each, ops.DropColumnOp)}
        names = {
            getattr(each, "constraint_name", getattr(each, "index_name", None))
            for each in change.ops
            if not isinstance(each, ops.DropConstraintOp | ops.DropIndexOp)
        }
        own = getattr(operation, "constraint_name", getattr(operation, "index_name", None))
        return bool(dropped) and own not in names and not dropped.isdisjoint(_columns(operation))


def _columns(operation: ops.MigrateOperation) -> Collection[str]:
    """Return the columns of an index or a constraint that is dropped; for a check constraint, the words in it."""
    match operation.reverse():
        case ops.CreateIndexOp(columns=items):
            return {word for each in items for word in _WORD.findall(str(each))}
        case ops.CreateUniqueConstraintOp(columns=names) | ops.CreateForeignKeyOp(local_cols=names):
            return names
        case ops.CreateCheckConstraintOp(condition=condition):
            return _WORD.findall(str(condition))
    return ()


def _is_replaced(operation: ops.CreateForeignKeyOp, change: ops.ModifyTableOps) -> bool:
    """Return whether a foreign key takes the place of another one, for example with another ON DELETE."""
    dropped = (each.reverse() for each in change.ops if isinstance(each, ops.DropConstraintOp))
    return _link(operation) in [_link(each) for each in dropped if isinstance(each, ops.CreateForeignKeyOp)]


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


def _without_not_null(operation: ops.DropColumnOp, added: ops.AddColumnOp) -> ops.AlterColumnOp:
    """Return the operation that lets a column be NULL until it is dropped."""
    return ops.AlterColumnOp(
        operation.table_name,
        operation.column_name,
        schema=operation.schema,
        existing_type=added.column.type,
        existing_nullable=False,
        existing_comment=added.column.comment,
        modify_nullable=True,
    )


def _alone(operation: ops.MigrateOperation) -> ops.MigrateOperation:
    """Return an operation for a revision that does not add the column, so that its downgrade undoes it."""
    if not isinstance(operation, SetNotNull):
        return operation
    return ops.AlterColumnOp(
        operation.table_name,
        operation.column_name,
        schema=operation.schema,
        existing_type=operation.existing_type,
        existing_nullable=True,
        existing_comment=operation.existing_comment,
        modify_nullable=False,
    )
