"""Phases: whether a revision runs before a new release of the app starts, or after the old release is gone.

A revision may name its phase in its header, as in ``phase = "post"``. Otherwise, its ``upgrade()`` decides: if the old
release may not run with the change, because it drops, renames, or restricts something, the phase is ``post``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from ampho.history.files import read_bytes
from ampho.history.losses import (
    Function,
    argument,
    called,
    converted_in_code,
    created_in,
    functions,
    is_empty,
    lost_in_code,
    narrowed_in_code,
    narrowing,
    part_of,
    parts_of,
    precision,
    reachable,
    scale,
    string,
    text_of,
    type_name,
)
from ampho.history.required import batches, has_value, is_false
from ampho.history.revision import Phase, Revision
from ampho.history.sql import CHANGES_ROWS, effects_of_sql

Effect: TypeAlias = tuple[str, bool, bool]
"""What a function does, whether that may break the old release, and whether the new release needs it."""

_REMEMBERED = 4096  # files
_SUSPECT = re.compile(
    rb"drop|truncate|delete\s+from|rename|alter_column|alter\s|create_(?:foreign_key|(?:check|exclude)_constraint)"
    rb"|add_column.*?nullable\s*=\s*False",
    re.IGNORECASE | re.DOTALL,
)
_WORD = re.compile(r"\w+")
_RESTRICTS = frozenset({"create_foreign_key", "create_check_constraint", "create_exclude_constraint"})
_CHANGES_ROWS = frozenset(
    {
        *("bulk_insert", "backfill", "insert", "update", "from_select", "add_all", "merge", "flush", "commit"),
        *("bulk_save_objects", "bulk_insert_mappings", "bulk_update_mappings"),
    }
)
_RELAXES = "drops a constraint"
_WIDTHS = {"TINYINT": 1, "SMALLINT": 2, "SMALLINTEGER": 2, "MEDIUMINT": 3, "INTEGER": 4, "BIGINT": 8, "BIGINTEGER": 8}
# These types are not compatible. Of those that only differ in some databases, such as enums and text, none is here.
_FAMILIES = {
    **dict.fromkeys(("STRING", "VARCHAR", "NVARCHAR", "TEXT", "UNICODE", "UNICODETEXT"), "text"),
    **dict.fromkeys((*_WIDTHS.keys() - {"TINYINT"}, "NUMERIC", "DECIMAL", "FLOAT", "REAL", "DOUBLE"), "number"),
    **dict.fromkeys(("DATETIME", "TIMESTAMP"), "time"),
    "DATE": "date",
    "UUID": "uuid",
}


@dataclass(frozen=True, slots=True)
class Placement:
    """The phase of a revision, and the reason.

    :ivar phase: the phase.
    :ivar reason: why it is in this phase, as words that follow "it" if the phase is inferred.
    :ivar is_inferred: whether neither the file nor the setting names the phase.
    :ivar conflict: what the new release needs of a revision that is inferred to run after the old release is gone;
        empty if nothing.
    :ivar is_neutral: whether the revision changes nothing, so that it may run in either phase.
    """

    phase: Phase
    reason: str = ""
    is_inferred: bool = True
    conflict: str = ""
    is_neutral: bool = False


_UNKNOWN = Placement(Phase.PRE)
_NEUTRAL = Placement(Phase.PRE, is_neutral=True)


class Phases:
    """The phases of revisions.

    :param overrides: the phases of packages and of single revisions, which take precedence over those in the files.
    """

    def __init__(self, overrides: Mapping[str, Phase]) -> None:
        self._overrides = overrides

    def of(self, revision: Revision) -> Placement:
        """Return the phase of a revision. A file that cannot be parsed is in phase ``pre``; running it fails."""
        if self._overrides and (phase := self._overrides.get(revision.id, self._overrides.get(revision.package))):
            return Placement(phase, "set by AMPHO_PHASES", is_inferred=False)
        if revision.phase is not None:
            return Placement(revision.phase, "set in its file", is_inferred=False)
        try:
            return _UNKNOWN if revision.is_missing else _inferred(revision.digest, revision.file)
        except (OSError, SyntaxError, ValueError, RecursionError):
            return _UNKNOWN


@lru_cache(_REMEMBERED)
def _inferred(digest: bytes, file: str) -> Placement:
    """Return the phase of a file, which is parsed once as long as its digest stays the same."""
    source = read_bytes(file)
    text = part_of(source, "upgrade")
    if not _SUSPECT.search(text):
        return _NEUTRAL if b"(" not in text.partition(b":")[2] and _is_neutral(source) else _UNKNOWN
    defined = functions(source)
    reached = list(reachable(defined, "upgrade"))
    effects = [effect for function in reached for effect in _effects(function)]
    breaks = list(dict.fromkeys(what for what, breaks, _ in effects if breaks))
    if not breaks:
        return _UNKNOWN
    is_lossy = any(lost for function in reached for lost in lost_in_code(function))
    # Rows are moved before something is dropped, but filled before a column becomes NOT NULL, which can wait. And a
    # constraint is dropped together with its column, but otherwise because the new release cannot keep it.
    ignored = _RELAXES if is_lossy else CHANGES_ROWS
    needs = list(dict.fromkeys(what for what, _, needed in effects if needed and what != ignored))
    needs += _required(reached, reachable(defined, "downgrade"))
    return Placement(Phase.POST, breaks[0], conflict=needs[0] if needs else "")


def _required(upgrade: Iterable[Function], downgrade: Iterable[Function]) -> Iterator[str]:
    """Yield what is needed before a column is dropped that must not be NULL, as the downgrade tells."""
    added = {
        string(argument(column, "name", 0))
        for call in _calls(downgrade, "add_column")
        for column in call.args
        if isinstance(column, ast.Call) and is_false(argument(column, "nullable")) and not has_value(column)
    }
    for call in _calls(upgrade, "drop_column"):
        if (name := string(argument(call, "column_name", -1))) in added:
            yield f"first has to let the column {name} be NULL"


def _calls(found: Iterable[Function], name: str) -> Iterator[ast.Call]:
    nodes = (node for function in found for node in ast.walk(function))
    return (node for node in nodes if isinstance(node, ast.Call) and called(node) == name)


def _is_neutral(source: bytes) -> bool:
    return is_empty(functions(source).get("upgrade"))


def _effects(function: Function) -> Iterator[Effect]:
    yield from ((what, True, False) for _, what in lost_in_code(function))
    for find in (converted_in_code, narrowed_in_code):
        yield from ((what, True, False) for what in find(function))
    tables, seen = batches(function), _Seen()
    created = {name for name, _ in created_in(function)}
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        batch = tables.get(id(call))
        if batch is None:
            yield from _of_table(call)
        if (_table(call) if batch is None else batch) not in created:
            yield from seen.effects(call, 1 if batch is None else 0)
    for node in parts_of(function):
        if isinstance(node, ast.expr) and (sql := text_of(node)):
            yield from effects_of_sql(sql)


def _of_table(call: ast.Call) -> Iterator[Effect]:
    """Yield the effects of a call that is about a whole table."""
    match called(call):
        case "create_table":
            yield f"creates {_named('table', _table(call))}", False, True
        case "rename_table":
            yield f"renames {_named('table', string(argument(call, 'old_table_name', 0)))}", True, True
        case name if name in _CHANGES_ROWS:
            yield CHANGES_ROWS, False, True


@dataclass
class _Seen:
    """What the calls of a function have done to tables that existed before.

    :ivar added: the columns that they have added, and whether these may be NULL.
    :ivar dropped: the names of the constraints that they have dropped.
    :ivar unlinked: how many of these are known to be foreign keys that no other has replaced yet.
    """

    added: dict[str, bool] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    unlinked: int = 0

    def effects(self, call: ast.Call, first: int) -> Iterator[Effect]:
        """Yield the effects of a call that is about a column or a constraint.

        :param first: the position of the argument after the name of the table.
        """
        own = string(argument(call, "constraint_name", 0))
        constraint = _named("constraint", own)
        match called(call):
            case "add_column" if isinstance(column := argument(call, "column", first), ast.Call):
                name = string(argument(column, "name", 0))
                self.added[name] = not is_false(argument(column, "nullable"))
                is_required = not self.added[name] and not has_value(column)
                more = " that must not be NULL and has no default" if is_required else ""
                yield f"adds {_named('column', name)}{more}", is_required, True
            case "alter_column":
                name = string(argument(call, "column_name", first))
                yield from _altered(call, _named("column", name), may_be_null=self.added.get(name))
            case "drop_constraint":
                self.dropped.add(own)
                self.unlinked += string(argument(call, "type_", first + 1)) == "foreignkey"
                yield _RELAXES, False, True
            case "create_unique_constraint":
                yield f"adds {constraint}", False, True
            case "create_index" if _is_true(argument(call, "unique")):
                yield f"adds {_named('unique index', string(argument(call, 'index_name', 0)))}", False, True
            case "create_foreign_key" if self.unlinked or (own and own in self.dropped):
                self.unlinked = max(self.unlinked - 1, 0)  # It replaces another, for example with another ON DELETE.
            case name if name in _RESTRICTS and not _names(call, self.added):
                yield f"adds {constraint}", True, False


def _table(call: ast.Call) -> str:
    """Return the name of the table in a call that is not part of a batch."""
    if called(call) in (*_RESTRICTS, "create_unique_constraint", "create_index", "drop_constraint"):
        return string(argument(call, "source_table", 1)) or string(argument(call, "table_name"))
    return string(argument(call, "table_name", 0))


def _named(kind: str, name: str) -> str:
    return f"the {kind} {name}" if name else f"a {kind}"


def _names(call: ast.Call, columns: Collection[str]) -> bool:
    """Return whether the arguments of a call, which may be SQL, contain the name of a column."""
    texts = [string(node) for node in ast.walk(call) if isinstance(node, ast.expr)]
    return any(column in _WORD.findall(text) for column in columns for text in texts)


def _altered(call: ast.Call, named: str, *, may_be_null: bool | None) -> Iterator[Effect]:
    """Yield the effects of ``alter_column()``.

    :param may_be_null: whether the column may be NULL, if the function has added it; otherwise, None.
    """
    nullable, before, default = (argument(call, name) for name in ("nullable", "existing_nullable", "server_default"))
    if argument(call, "new_column_name") is not None:
        yield f"renames {named}", True, True
    if is_required := is_false(nullable) and not is_false(before):
        yield f"makes {named} NOT NULL", True, False
    if _is_true(nullable) and not _is_true(before):
        yield f"makes {named} nullable", False, True
    if isinstance(default, ast.Constant) and default.value in (None, False):
        if default.value is None and not (may_be_null or _is_true(nullable) or _is_true(before)):
            yield f"drops the default of {named}", True, False
    elif default is not None and not is_required:
        yield f"sets the default of {named}", False, True
    old, new = argument(call, "existing_type"), argument(call, "type_")
    if new is None or narrowing(call):
        return
    labels = _labels(old), _labels(new)
    if all(labels):
        yield f"changes the labels of {named}", bool(labels[0] - labels[1]), bool(labels[1] - labels[0])
    elif old is not None and _is_smaller(old, new):
        yield f"limits {named} to smaller numbers", True, False
    else:
        families = {_FAMILIES.get(type_name(old), ""), _FAMILIES.get(type_name(new), "")}
        yield f"changes the type of {named}", len(families - {""}) > 1, True


def _is_smaller(old: ast.expr, new: ast.expr) -> bool:
    """Return whether some numbers of a type are too large for another one."""
    widths = _WIDTHS.get(type_name(old), 0), _WIDTHS.get(type_name(new), 0)
    return (0 not in widths and widths[1] < widths[0]) or (
        scale(old) > 0 and precision(new) - scale(new) < precision(old) - scale(old)
    )


def _labels(type_: ast.expr | None) -> set[str]:
    """Return the labels of an enum; empty if they are not known."""
    return {*map(string, type_.args)} - {""} if isinstance(type_, ast.Call) and type_name(type_) == "ENUM" else set()


def _is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True
