"""Finding likely renames: dropped and new objects that are similar.

Each dropped object gets at most one question, with the most similar new objects. Two objects are similar if they have
enough points. Columns get points for the same type, nullability, foreign keys, and place between other columns,
and for similar names. If git has an earlier version of the model, the place in that version counts.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from alembic.operations import ops

from ampho.revise.autogenerate.ask.earlier import Earlier, Versions
from ampho.revise.autogenerate.ask.fills import SetNotNull
from ampho.revise.autogenerate.ask.questions import Question
from ampho.revise.autogenerate.ask.renames import Rename, RenameColumn, RenameObject, RenameTable, can_rename
from ampho.revise.autogenerate.operations.changes import Changes, is_empty_change, table_key, target
from ampho.revise.autogenerate.operations.constraints import shape_of_key
from ampho.revise.autogenerate.operations.describe import family
from ampho.revise.autogenerate.owners.models import all_mappers

if TYPE_CHECKING:
    from sqlalchemy import Column, Table

T = TypeVar("T")

_COLUMNS = 3.5  # two columns are similar if they have this many points or more
_TABLES = 0.5  # two tables are similar if they have at least this share of columns in common
_CLOSE = 1  # a candidate less than this many points behind the best is considered equally likely
_SIMILAR = 0.6  # the minimum ratio of similar names
_COMMON = frozenset(["", "id", "is", "has", "at", "of", "on", "by"])  # words that occur in the names of many columns
_NOT_GIVEN = frozenset(["", "None", "False", "[]", "()", "{}"])
_CREATED = (ops.CreateIndexOp, ops.CreateUniqueConstraintOp, ops.CreateForeignKeyOp)


def likely_renames(changes: Changes, dropped: Collection[str] = ()) -> tuple[Question, ...]:
    """Return the questions about likely renames, with those about tables first.

    :param dropped: the names of objects that are known not to be renamed.
    """
    finder = _Finder(changes)
    found = (*finder.tables(), *finder.columns(), *finder.names())
    return tuple(question for question in found if question.name not in dropped)


class _Finder:
    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._autogen = changes.autogen
        self._earlier = Earlier()
        self._known: dict[tuple[str, str], Versions | None] = {}

    def tables(self) -> Iterator[Question]:
        drops, made = self._changes.only(ops.DropTableOp), self._changes.only(ops.CreateTableOp)
        old = {table_key(each): each.to_table() for each in drops} if made else {}
        new = {table_key(each): self._autogen.table_key_to_table[each.to_table().key] for each in made} if old else {}
        pairs = [(a, b) for a, b in self._pairs(old, new) if old[a].schema == new[b].schema]
        points = {(a, b): self._table_points(old[a], new[b]) for a, b in pairs}
        for gone, choices in _matched(points, _TABLES, 0.1):
            yield Question("--rename", "table", gone, tuple(each.rpartition(".")[2] for each in choices))

    def _pairs(self, old: Mapping[str, Table], new: Mapping[str, Table]) -> Iterator[tuple[str, str]]:
        """Yield the dropped and new tables that may be similar, because all pairs of many tables take too long.

        A name that n tables contain has a weight of 1/n, and similar tables share names with a weight of 1 in total. So
        the number of tables that contain the rarest of these names is at most the number of columns.
        """
        order, tables, classes = {key: number for number, key in enumerate(new)}, defaultdict(set), defaultdict(set)
        for key, table in new.items():
            classes[self._former_table(table)].add(key)
            for column in table.columns:
                tables[column.key].add(key)
        for gone, table in old.items():
            rare = [column.key for column in table.columns if self._uses[column.key] <= len(table.columns)]
            found = classes[table.name].union(*(tables[name] for name in rare))
            yield from ((gone, key) for key in sorted(found, key=order.__getitem__))

    @cached_property
    def _uses(self) -> Mapping[str, int]:
        """The number of tables of the models that contain each name of a column."""
        return Counter(column.key for table in self._autogen.sorted_tables for column in table.columns)

    def _table_points(self, old: Table, new: Table) -> float:
        """Return the share of columns that two tables have in common; a rare name weighs more than a frequent one."""
        names = [*old.columns.keys(), *new.columns.keys()]
        weights = {name: 1 / (1 + self._uses[name] - (name in new.columns)) for name in names}
        common = [each.name for each in old.columns if each.name in new.columns and self._are_similar(each, new)]
        shared = sum(weights[name] for name in common)
        share = 2 * shared / (sum(weights[name] for name in names) or 1)
        if self._former_table(new) == old.name:
            return share + 0.4
        return (share + (0.1 if _name_points(old.name, new.name) else 0)) if shared >= 1 else 0

    def _are_similar(self, column: Column[Any], table: Table) -> bool:
        return self._type_points(column, table.columns[column.name]) > 0

    def _former_table(self, table: Table) -> str | None:
        """Return the name of the table to which the class of a table belonged in the last version of its module."""
        cls = self._classes.get(table)
        return None if cls is None else self._earlier.tables(cls.__module__).get(cls.__name__)

    def columns(self) -> Iterator[Question]:
        changes: dict[str, list[ops.ModifyTableOps]] = {}  # filled columns are added in a change of their own
        for change in self._changes.only(ops.ModifyTableOps):
            changes.setdefault(table_key(change), []).append(change)
        for found in changes.values():
            drops = [each for change in found for each in change.ops if isinstance(each, ops.DropColumnOp)]
            added = [*_added(each for change in found for each in change.ops)]
            if drops and added:
                yield from self._columns_of(found[0], [each.to_column() for each in drops], added)

    def _columns_of(
        self, change: ops.ModifyTableOps, drops: Sequence[Column[Any]], added: Sequence[Column[Any]]
    ) -> Iterator[Question]:
        table = added[0].table
        present = [each["name"] for each in self._autogen.inspector.get_columns(change.table_name, change.schema)]
        points = {
            (old.name, new.name): self._column_points(old, new, present, table)
            for old in drops
            for new in added
            if old.computed is None and new.computed is None
        }
        for gone, choices in _matched(points, _COLUMNS, _CLOSE):
            yield Question("--rename", "column", f"{table_key(change)}.{gone}", tuple(choices))

    def _column_points(self, old: Column[Any], new: Column[Any], present: Sequence[str], table: Table) -> float:
        type_points, keys = self._type_points(old, new), (_targets(old), _targets(new))
        if not type_points or (keys[0] and keys[1] and keys[0] != keys[1]):
            return 0
        points = type_points + (0.5 if old.nullable == new.nullable else -0.5)
        points += 0 if (old.server_default is None) == (new.server_default is None) else -0.5
        points += 2 if keys[0] and keys[1] else -1 if keys[0] or keys[1] else 0
        points += _name_points(old.name, new.name)
        return points + self._place_points(old.name, new.name, present, table)

    def _type_points(self, old: Column[Any], new: Column[Any]) -> float:
        if not self._autogen.migration_context.impl.compare_type(old, new):
            return 2
        return 0.75 if family(old.type) == family(new.type) != "" else 0

    def _place_points(self, old: str, new: str, present: Sequence[str], table: Table) -> float:
        known = self._versions(table, old)
        places = known.places(old, new) if known is not None else None
        if places is not None:
            in_place, is_same = places
            return (3 if in_place else -1.5) + (1 if is_same else 0)
        names = [column.name for column in table.columns]
        before, after = _neighbors(present, old, names), _neighbors(names, new, present)
        if before[:2] != after[:2]:
            return -1
        return 2 if before == after else 1.25

    def _versions(self, table: Table, old: str) -> Versions | None:
        """Return the columns of a table in its module, now and in the newest version in git that has a column."""
        key = table.key, old
        if key not in self._known:
            cls = self._classes.get(table)
            self._known[key] = None if cls is None else self._earlier.versions(cls.__module__, table.name, old)
        return self._known[key]

    @cached_property
    def _classes(self) -> Mapping[object, type]:
        """The mapped class of each table."""
        return {mapper.local_table: mapper.class_ for mapper in all_mappers() if "__table__" in vars(mapper.class_)}

    def names(self) -> Iterator[Question]:
        """Yield the questions about indexes and constraints that only get another name."""
        for change in self._changes.only(ops.ModifyTableOps):
            for kind, drop, made in _renamed_names(change, self._autogen.dialect.name):
                yield Question("--rename", kind, f"{table_key(change)}.{_name(drop)}", (_name(made),))


def _added(operations: Iterable[ops.MigrateOperation]) -> Iterator[Column[Any]]:
    """Yield the new columns as they are in the models, apart from those whose value the user gave."""
    found = [*operations]
    filled = {each.column_name: each.column for each in found if isinstance(each, SetNotNull)}
    for each in found:
        column = filled.get(each.column.name, each.column) if isinstance(each, ops.AddColumnOp) else None
        if column is not None:
            yield column


def rename_along(changes: Changes, tables: Collection[str]) -> None:
    """Rename the indexes and constraints of renamed tables and columns whose names contain the old name.

    :param tables: the keys of the tables that were renamed, or that have renamed columns.
    """
    dialect = changes.autogen.dialect
    renames: list[ops.MigrateOperation] = []
    for change in changes.only(ops.ModifyTableOps):
        if table_key(change) in tables:
            for kind, drop, made in list(_renamed_names(change, dialect.name)):
                change.ops[:] = [each for each in change.ops if each is not drop and each is not made]
                rename = Rename(kind, change.table_name, _name(drop), _name(made), change.schema)
                renames.append(RenameObject(rename, dialect))
    done = sum(isinstance(each, RenameTable | RenameColumn | RenameObject) for each in changes.upgrade.ops)
    left = [each for each in changes.upgrade.ops[done:] if not is_empty_change(each)]
    changes.upgrade.ops[done:] = [*renames, *left]


def _renamed_names(change: ops.ModifyTableOps, dialect: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the indexes and constraints that only get another name: the kind, what is dropped, and what is created.

    Those that the database cannot rename are left out.
    """
    made = [(each, _shape(each)) for each in change.ops if isinstance(each, _CREATED)]
    for drop in [each for each in change.ops if isinstance(each, ops.DropIndexOp | ops.DropConstraintOp)]:
        shape = _dropped_shape(drop)
        same = [each for each, other in made if shape is not None and other == shape and _name(each)]
        is_key = getattr(drop, "constraint_type", "") == "foreignkey"
        if len(same) == 1 and _name(drop) not in ("", _name(same[0])) and can_rename(dialect, is_key=is_key):
            yield "index" if isinstance(drop, ops.DropIndexOp) else "constraint", drop, same[0]


def _dropped_shape(drop: ops.DropIndexOp | ops.DropConstraintOp) -> object:
    try:
        return _shape(drop.reverse())
    except ValueError:  # the operation comes from a hook
        return None


def _name(operation: Any) -> str:  # noqa: ANN401 (any operation on an index or a constraint)
    return str(getattr(operation, "index_name", None) or getattr(operation, "constraint_name", None) or "")


def _shape(operation: ops.MigrateOperation) -> object:
    """Return what an index or a constraint consists of, besides its name; None for anything else."""
    if isinstance(operation, ops.CreateForeignKeyOp):
        return shape_of_key(operation)
    if isinstance(operation, ops.CreateUniqueConstraintOp):
        return True, _columns(operation), []
    if isinstance(operation, ops.CreateIndexOp):
        options = {name: str(value) for name, value in operation.kw.items()}  # an SQL expression has no truth value
        given = sorted((name, text) for name, text in options.items() if text not in _NOT_GIVEN)
        return bool(operation.unique), _columns(operation), given
    return None


def _columns(operation: ops.CreateIndexOp | ops.CreateUniqueConstraintOp) -> list[str]:
    return [str(getattr(column, "name", None) or column) for column in operation.columns]


def _matched(
    points: Mapping[tuple[str, str], float], threshold: float, close: float
) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield each dropped name that has likely new names, and these new names, with the likeliest first.

    A new name belongs to the dropped name with which it has the most points, unless another is nearly as likely.
    """
    left = {pair: number for pair, number in points.items() if number >= threshold}
    while left:
        (gone, new), best = max(left.items(), key=lambda item: item[1])
        rivals = [
            pair for pair, number in left.items() if best - number < close and (pair[0] == gone) != (pair[1] == new)
        ]
        choices = [new, *(pair[1] for pair in rivals if pair[0] == gone)]
        yield gone, choices
        taken = {new} if not rivals else set()
        left = {pair: number for pair, number in left.items() if pair[0] != gone and pair[1] not in taken}


def _neighbors(columns: Sequence[str], name: str, others: Iterable[str]) -> tuple[str, str, int]:
    """Return the nearest neighbors of a column that another list has, too, and the distance from the one before it."""
    place, kept = list(columns).index(name), set(others)
    before = [number for number in range(place) if columns[number] in kept]
    after = [number for number in range(place + 1, len(columns)) if columns[number] in kept]
    return (
        columns[before[-1]] if before else "",
        columns[after[0]] if after else "",
        place - (before[-1] if before else -1),
    )


def _name_points(old: str, new: str) -> float:
    words = [{part for part in re.split(r"[\W_]+", name.lower()) if part not in _COMMON} for name in (old, new)]
    if all(words) and (words[0] <= words[1] or words[1] <= words[0]):
        return 3.5
    is_similar = words[0] & words[1] or SequenceMatcher(None, old.lower(), new.lower()).ratio() >= _SIMILAR
    return 2 if is_similar else 0


def _targets(column: Column[Any]) -> list[str]:
    return sorted({target(each) for each in column.foreign_keys})  # Alembic adds each key once more
