"""Phases: whether a revision runs before a new release of the app starts, or after the old release is gone.

A revision may name its phase in its header, as in ``phase = "post"``. Otherwise, its ``upgrade()`` decides: if the old
release may not run with the change, because it drops, renames, or restricts something, the phase is ``post``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
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
    reachable,
    statements_of,
    string,
)
from ampho.history.required import batches, has_value, is_false
from ampho.history.revision import Phase, Revision
from ampho.history.sql import CHANGES_ROWS, effects_of_sql

Effect: TypeAlias = tuple[str, bool, bool]
"""What a function does, whether that may break the old release, and whether the new release needs it."""

_REMEMBERED = 4096  # files
_SUSPECT = re.compile(
    rb"drop|truncate|delete\s+from|rename|alter_column|alter\s|create_foreign_key|create_check_constraint"
    rb"|add_column.*?nullable\s*=\s*False",
    re.IGNORECASE | re.DOTALL,
)
_WORD = re.compile(r"\w+")


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
    reached = list(reachable(functions(source), "upgrade"))
    effects = [effect for function in reached for effect in _effects(function)]
    breaks = list(dict.fromkeys(what for what, breaks, _ in effects if breaks))
    if not breaks:
        return _UNKNOWN
    is_lossy = any(lost for function in reached for lost in lost_in_code(function))
    # Rows are moved before something is dropped, but filled before a column becomes NOT NULL, which can wait.
    needs = list(dict.fromkeys(what for what, _, needed in effects if needed and (is_lossy or what != CHANGES_ROWS)))
    return Placement(Phase.POST, breaks[0], conflict=needs[0] if needs else "")


def _is_neutral(source: bytes) -> bool:
    return is_empty(functions(source).get("upgrade"))


def _effects(function: Function) -> Iterator[Effect]:
    yield from ((what, True, False) for _, what in lost_in_code(function))
    for find in (converted_in_code, narrowed_in_code):
        yield from ((what, True, False) for what in find(function))
    tables, added = batches(function), set[str]()
    created = {name for name, _ in created_in(function)}
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        batch = tables.get(id(call))
        if batch is None:
            yield from _of_table(call)
        if (_table(call) if batch is None else batch) not in created:
            yield from _of_part(call, 1 if batch is None else 0, added)
    for node in (part for statement in statements_of(function) for part in ast.walk(statement)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from effects_of_sql(node.value)


def _of_table(call: ast.Call) -> Iterator[Effect]:
    """Yield the effects of a call that is about a whole table."""
    match called(call):
        case "create_table":
            yield f"creates {_named('table', _table(call))}", False, True
        case "rename_table":
            yield f"renames {_named('table', string(argument(call, 'old_table_name', 0)))}", True, True
        case "bulk_insert" | "backfill":
            yield CHANGES_ROWS, False, True


def _of_part(call: ast.Call, first: int, added: set[str]) -> Iterator[Effect]:
    """Yield the effects of a call that is about a column or a constraint of a table that existed before.

    :param first: the position of the argument after the name of the table.
    :param added: the columns that the function has added, which this function completes.
    """
    match called(call):
        case "add_column" if isinstance(column := argument(call, "column", first), ast.Call):
            name = string(argument(column, "name", 0))
            added.add(name)
            is_required = is_false(argument(column, "nullable")) and not has_value(column)
            more = " that must not be NULL and has no default" if is_required else ""
            yield f"adds {_named('column', name)}{more}", is_required, True
        case "alter_column":
            yield from _altered(call, _named("column", string(argument(call, "column_name", first))))
        case "create_foreign_key" | "create_check_constraint" if not _names(call, added):
            yield f"adds {_named('constraint', string(argument(call, 'constraint_name', 0)))}", True, False


def _table(call: ast.Call) -> str:
    """Return the name of the table in a call that is not part of a batch."""
    if called(call) in ("create_foreign_key", "create_check_constraint"):
        return string(argument(call, "source_table", 1)) or string(argument(call, "table_name"))
    return string(argument(call, "table_name", 0))


def _named(kind: str, name: str) -> str:
    return f"the {kind} {name}" if name else f"a {kind}"


def _names(call: ast.Call, columns: Collection[str]) -> bool:
    """Return whether the arguments of a call, which may be SQL, contain the name of a column."""
    texts = [string(node) for node in ast.walk(call) if isinstance(node, ast.expr)]
    return any(column in _WORD.findall(text) for column in columns for text in texts)


def _altered(call: ast.Call, named: str) -> Iterator[Effect]:
    if argument(call, "new_column_name") is not None:
        yield f"renames {named}", True, True
    if is_false(argument(call, "nullable")) and not is_false(argument(call, "existing_nullable")):
        yield f"makes {named} NOT NULL", True, False
    if argument(call, "type_") is not None and not narrowing(call):
        yield f"changes the type of {named}", False, True
