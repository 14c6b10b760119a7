"""Finding an order in which the changes of several packages can run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

from alembic.operations import ops
from sqlalchemy import ForeignKeyConstraint

from ampho.history.graph import reach
from ampho.revise.autogenerate.operations.changes import Changes, is_empty_change, references, table_key, targets
from ampho.revise.autogenerate.operations.order import drop_foreign_keys, drops_foreign_key

_NOTHING_NEW = (ops.CreateForeignKeyOp, ops.DropColumnOp, ops.DropConstraintOp, ops.DropIndexOp)


def in_order(found: Iterable[Changes]) -> list[Changes]:
    """Return changes in an order in which they can run; where any order is possible, keep the given one.

    If packages depend on each other, some changes are split: foreign keys to tables of the other packages, and drops
    that the other packages have to prepare, are left to a second revision.
    """
    parts = list(found)
    ignored: set[tuple[int, int]] = set()
    while True:
        needs = {part: needed - {other for one, other in ignored if one == part} for part, needed in _needs(parts)}
        try:
            return [parts[position] for position in TopologicalSorter(needs).static_order()]
        except CycleError as exc:
            needed, part = exc.args[1][:2]
            cycle = [other for other in reach([part], needs.get) if part in reach([other], needs.get)]
            late = next(filter(None, (_split(parts, cycle, position) for position in sorted(cycle))), None)
            if late:
                parts.append(late)
            else:
                ignored.add((part, needed))


def _needs(parts: Sequence[Changes]) -> Iterator[tuple[int, set[int]]]:
    """Yield the position of each change, and the positions of the changes that have to run before it."""
    packages = _positions(parts, lambda part: [part.package])
    makers, users = _positions(parts, _made), _positions(parts, _no_longer_referenced)
    for position, part in enumerate(parts):
        needed = {other for package in part.needs for other in packages[package][:1]}
        needed |= {maker for key in part.references() for maker in makers[key]}
        needed |= {user for key, _ in part.removed() for user in users[key]}
        needed -= set(packages[part.package])
        yield position, needed | {other for other in packages[part.package] if other < position}


def _positions(parts: Sequence[Changes], names: Callable[[Changes], Iterable[str]]) -> defaultdict[str, list[int]]:
    """Return the positions of the changes for which a function returns a name, by that name."""
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for position, part in enumerate(parts):
        for name in names(part):
            positions[name].append(position)
    return positions


def _made(part: Changes) -> Iterator[str]:
    """Yield the keys of new tables, and of tables with additions that a foreign key may need."""
    for operation in part.upgrade.ops:
        if isinstance(operation, ops.CreateTableOp) or (
            isinstance(operation, ops.ModifyTableOps)
            and not all(isinstance(each, _NOTHING_NEW) for each in operation.ops)
        ):
            yield table_key(operation)


def _no_longer_referenced(part: Changes) -> Iterator[str]:
    """Yield the keys of the tables to which foreign keys are dropped."""
    for operation in part.operations():
        if isinstance(operation, ops.DropTableOp) or drops_foreign_key(operation):
            yield from targets(operation.reverse())


def _split(parts: Sequence[Changes], cycle: Iterable[int], position: int) -> Changes | None:
    """Split off the part of a change that must run after the other changes of a cycle, and return that part.

    Return None if that part would be empty, or the whole change.
    """
    part = parts[position]
    others = [parts[other] for other in cycle if other != position]
    made = {key for other in others for key in _made(other)}
    used = {key for other in others for key in _no_longer_referenced(other)}
    gone = {key for other in others for key, column in other.removed() if not column}
    keys, drops = [*_late_keys(part, made)], _late_drops(part, used)
    ends = [*_ends_of_dropped(part, drops, gone)]
    moved = {id(each) for operation in drops for each in (operation, *getattr(operation, "ops", ()))}
    is_all = all(is_empty_change(each) or id(each) in moved for each in part.operations())
    if not (keys or drops) or (is_all and not keys and not ends):
        return None
    part.upgrade.ops[:] = [*ends, *_without(part.upgrade.ops, moved)]
    part.leave_out_references(made)
    second = Changes.of(part.package, [*keys, *drops], part.objects)
    second.of_dropped_tables = part.of_dropped_tables
    second.reverse()
    return second


def _without(operations: Iterable[ops.MigrateOperation], moved: set[int]) -> list[ops.MigrateOperation]:
    left = [operation for operation in operations if id(operation) not in moved]
    for operation in left:
        if isinstance(operation, ops.ModifyTableOps):
            operation.ops[:] = _without(operation.ops, moved)
    return left


def _late_keys(part: Changes, made: set[str]) -> Iterator[ops.ModifyTableOps]:
    """Yield changes that create the foreign keys to the given tables."""
    for operation in part.upgrade.ops:
        if isinstance(operation, ops.CreateTableOp):
            keys = [_named(operation.table_name, item) for item in operation.columns if references(item, made)]
        elif isinstance(operation, ops.ModifyTableOps):
            keys = [key for key in operation.ops if isinstance(key, ops.CreateForeignKeyOp)]
            keys = [key for key in keys if not made.isdisjoint(targets(key))]
        else:
            continue
        if keys:
            yield ops.ModifyTableOps(operation.table_name, keys, schema=operation.schema)


def _named(table: str, constraint: ForeignKeyConstraint) -> ops.CreateForeignKeyOp:
    """Return the operation that creates a foreign key, with a name, so that the key can be dropped again."""
    operation = ops.CreateForeignKeyOp.from_constraint(constraint)
    operation.constraint_name = operation.constraint_name or "_".join([table, *constraint.column_keys, "fkey"])
    operation.kw.pop("use_alter", None)
    return operation


def _late_drops(part: Changes, used: set[str]) -> list[ops.DropTableOp | ops.ModifyTableOps]:
    """Return the operations that drop columns of the given tables, and then all operations that drop tables.

    Return nothing if none of the given tables is dropped or loses a column.
    """
    columns: list[ops.DropTableOp | ops.ModifyTableOps] = []
    for change in part.upgrade.ops:
        if isinstance(change, ops.ModifyTableOps) and table_key(change) in used:
            drops = [each for each in change.ops if isinstance(each, ops.DropColumnOp)]
            columns += [ops.ModifyTableOps(change.table_name, drops, schema=change.schema)] if drops else []
    tables = part.only(ops.DropTableOp)
    return [*columns, *tables] if columns or not used.isdisjoint(map(table_key, tables)) else []


def _ends_of_dropped(part: Changes, drops: Iterable[object], gone: set[str]) -> Iterator[ops.ModifyTableOps]:
    """Yield changes that drop the foreign keys from dropped tables to tables that the other packages drop."""
    tables = [operation for operation in drops if isinstance(operation, ops.DropTableOp)] if part.supports_alter else []
    for table in tables:
        for key in gone.intersection(targets(table.reverse())):
            yield drop_foreign_keys(table, key)
