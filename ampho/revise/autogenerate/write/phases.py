"""Splitting changes by phase, for ``db-rev -a``: before the new release of an app, and after the old one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from alembic.operations import ops

from ampho.history.revision import Phase
from ampho.revise.autogenerate.ask.fills import AfterFills, Fill, SetNotNull
from ampho.revise.autogenerate.operations.changes import Changes, table_key
from ampho.revise.autogenerate.operations.constraints import UnnamedTableOps
from ampho.revise.autogenerate.operations.describe import narrows
from ampho.revise.autogenerate.operations.enums import ChangeLabelsOp
from ampho.revise.autogenerate.operations.statements import Statement

_CUTTABLE = (ops.ModifyTableOps, AfterFills, UnnamedTableOps)
_WORD = re.compile(r"\w+")


def split_by_phase(changes: Changes) -> list[Changes]:
    """Return changes in one part, or in two if the new release needs some of them before the old release is gone.

    Renames are not split, because later operations use the new names.
    """
    splitting = _Splitting(changes)
    parts = list(splitting.parts(Phase.PRE)), list(splitting.parts(Phase.POST))
    if not all(any(not isinstance(each, Fill) for each in part) for part in parts) or splitting.is_refused:
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

    :ivar is_refused: whether a change of a table cannot be split, although it has operations of both phases.
    """

    changes: Changes
    is_refused: bool = False

    def __post_init__(self) -> None:
        operations = list(self.changes.operations())
        self._dropped = set(map(table_key, self.changes.only(ops.DropTableOp)))
        self._created = set(map(table_key, self.changes.only(ops.CreateTableOp)))
        self._added = {(table_key(each), each.column.name) for each in operations if isinstance(each, ops.AddColumnOp)}
        self.is_refused = any(
            isinstance(each, ops.RenameTableOp) or (isinstance(each, ops.AlterColumnOp) and each.modify_name)
            for each in operations
        )

    def parts(self, phase: Phase) -> Iterator[ops.MigrateOperation]:
        """Yield the operations of a phase. Values for existing rows are in both, because rows come in between."""
        for operation in self.changes.upgrade.ops:
            if isinstance(operation, ops.ModifyTableOps) and operation.ops:
                yield from self._part(operation, phase)
            elif isinstance(operation, Fill) or self._phase(operation) is phase:
                yield operation

    def _part(self, change: ops.ModifyTableOps, phase: Phase) -> Iterator[ops.MigrateOperation]:
        found = [self._of_table(each, change) for each in change.ops]
        own = [each for each, other in zip(change.ops, found, strict=True) if other is phase]
        if len({*found}) == 1 and not isinstance(change, AfterFills):
            yield from [change] if own else []
        elif type(change) not in _CUTTABLE:
            self.is_refused = True
        elif own:
            kind = UnnamedTableOps if isinstance(change, UnnamedTableOps) else ops.ModifyTableOps
            yield kind(change.table_name, [*map(_alone, own)], schema=change.schema)

    def _phase(self, operation: ops.MigrateOperation) -> Phase:
        """Return the phase of an operation other than a change of a table."""
        is_post = False
        match operation:
            case (
                ops.DropTableOp() | ops.ModifyTableOps()
            ):  # of the latter, only the downgrade of a dropped column is here
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
                old, new = operation.existing_type, operation.modify_type
                is_post = operation.modify_nullable is False or bool(old and new and narrows(old, new))
            case ops.CreateForeignKeyOp():
                is_post = self._restricts(key, operation.local_cols)
            case ops.CreateCheckConstraintOp():
                is_post = self._restricts(key, _WORD.findall(str(operation.condition)))
        return Phase.POST if is_post else Phase.PRE

    def _restricts(self, key: str, columns: Collection[str]) -> bool:
        """Return whether a constraint of some columns is about none that is new."""
        return not any((key, column) in self._added for column in columns)

    def _goes_with_a_column(self, operation: ops.MigrateOperation, change: ops.ModifyTableOps) -> bool:
        """Return whether an index or a constraint is dropped because a column is, and not replaced."""
        names = {
            getattr(each, "constraint_name", getattr(each, "index_name", None))
            for each in change.ops
            if not isinstance(each, ops.DropConstraintOp | ops.DropIndexOp)
        }
        own = getattr(operation, "constraint_name", getattr(operation, "index_name", None))
        return own not in names and any(isinstance(each, ops.DropColumnOp) for each in change.ops)


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
