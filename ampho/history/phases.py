"""Phases: whether a revision runs before a new release of the app starts, or after the old release is gone.

A revision may name its phase in its header, as in ``phase = "post"``. Otherwise, its ``upgrade()`` decides: if the old
release may not run with the change, because it drops, renames, or restricts something, the phase is ``post``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from ampho.history.files import read_bytes
from ampho.history.losses import (
    Function,
    argument,
    assigned_in,
    called,
    converting,
    functions,
    joined,
    lost_in_code,
    named,
    narrowing,
    part_of,
    parts_of,
    precision,
    scale,
    string,
    text_of,
    type_name,
)
from ampho.history.required import batches, has_value, is_false
from ampho.history.revision import Phase, Revision
from ampho.history.sql import executed, operations_in_sql

Effect: TypeAlias = tuple[str, bool, bool]
"""What a function does, whether that may break the old release, and whether the new release needs it."""

_FILLS = "changes rows"
_REMEMBERED = 4096  # files
_IDLE = re.compile(
    rb"^(?:async[ ]+)?def[ ]+upgrade\b[^:]*+:(?:\s++|pass\b|return\b|\.\.\.|\#[^\n]*+|\"{3}.*?\"{3}|'{3}.*?'{3}"
    rb"|\"[^\"\n]*+\"|'[^'\n]*+')*+(?:\Z|(?<=\n)(?:async[ ]+)?def\b)",
    re.DOTALL | re.MULTILINE,
)
_SUSPECT = re.compile(
    rb"drop|truncate|detach|revoke|delete\s*(?:from|\()|rename|alter_column|alter\s|create_(?:foreign_key|(?:check|exclude)_constraint)"
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
_EXISTING = [("type_", "existing_type"), ("nullable", "existing_nullable")]
_LINK = re.compile(r"(?:^|_)fk(?:ey)?(?:_|$)", re.IGNORECASE)
# A check constraint that only lists values, such as of an enum
_LITERAL = re.compile(r"'[^']+'|\b\d+\b")
_LITERALS = re.compile(rf"(?:{_LITERAL.pattern})(?:\s*,\s*(?:{_LITERAL.pattern}))*")
_NEGATED = re.compile(r"\bNOT\b|<>|!=", re.IGNORECASE)
_ACTS = re.compile(r"\bON\s+(?:DELETE|UPDATE)\b", re.IGNORECASE)
_WIDTHS = {"TINYINT": 1, "SMALLINT": 2, "SMALLINTEGER": 2, "MEDIUMINT": 3, "INTEGER": 4, "BIGINT": 8, "BIGINTEGER": 8}
# These types are not compatible. Of those that only differ in some databases, such as enums and text, none is here.
_FAMILIES = {
    **dict.fromkeys(("STRING", "VARCHAR", "NVARCHAR", "TEXT", "UNICODE", "UNICODETEXT"), "text"),
    **dict.fromkeys((*_WIDTHS.keys() - {"TINYINT"}, "NUMERIC", "DECIMAL", "FLOAT", "REAL", "DOUBLE"), "number"),
    **dict.fromkeys(("DATETIME", "TIMESTAMP"), "time"),
    **dict.fromkeys(("JSON", "JSONB"), "json"),
    "BOOLEAN": "boolean",
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
    if _IDLE.search(source):
        return _NEUTRAL
    if not _SUSPECT.search(part_of(source, "upgrade")):
        return _UNKNOWN
    defined = functions(source)
    function = joined(defined, "upgrade")
    upgrade, downgrade = [*_operations(function)], [*_operations(joined(defined, "downgrade"))]
    lost = [*lost_in_code(function)]
    _tell(upgrade, downgrade)
    changes = _Changes(upgrade, downgrade)
    effects = [effect for operation in upgrade for effect in changes.effects(operation)]
    breaks = [*lost, *(what for what, breaks, _ in effects if breaks)]
    if not breaks:
        return _UNKNOWN
    # Rows are moved before something is dropped, but filled before a column becomes NOT NULL, which can wait. And a
    # constraint is dropped together with its column, but otherwise because the new release cannot keep it.
    ignored = _RELAXES if lost else _FILLS
    needs = [what for what, _, needed in effects if needed and what != ignored]
    needs += _required(upgrade, downgrade)
    return Placement(Phase.POST, breaks[0], conflict=needs[0] if needs else "")


class _Operation(NamedTuple):
    """An operation that a function calls, or that its SQL is equal to.

    :ivar call: the call.
    :ivar table: the name of the table, or of the variable with this name; empty if neither is known.
    :ivar first: the position of the argument after the table.
    """

    call: ast.Call
    table: str
    first: int


def _operations(function: Function) -> Iterator[_Operation]:
    """Yield the operations in a function, in the order of its lines."""
    tables = batches(function)
    nodes = [node for node in parts_of(function) if isinstance(node, ast.expr)]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        equal = ""
        if isinstance(node, ast.Call):
            batch = tables.get(id(node))
            yield _Operation(node, _table(node) if batch is None else batch, 1 if batch is None else 0)
            equal = _of_type(node, function) if called(node) in ("create", "drop") else ""
        elif sql := text_of(node):
            equal = "\n".join(call for bare, *_ in executed(sql) for call in operations_in_sql(bare))
        for line in ast.parse(equal).body if equal else ():
            if isinstance(line, ast.Expr) and isinstance(line.value, ast.Call):
                yield _Operation(line.value, _table(line.value), 1)


def _of_type(call: ast.Call, function: Function) -> str:
    """Return the operation that ``create()`` or ``drop()`` of an enum is equal to; empty for those of other objects."""
    of = getattr(call.func, "value", None)
    type_ = assigned_in(function).get(of.id) if isinstance(of, ast.Name) else of
    if not isinstance(type_, ast.Call) or type_name(type_) != "ENUM":
        return ""
    name = string(argument(type_, "name")) or type_name(argument(type_, "enums", 0)).lower()
    return f"{called(call)}_object('type', {name!r})"


def _tell(upgrade: Iterable[_Operation], downgrade: Iterable[_Operation]) -> None:
    """Add to the calls that alter columns what these were before, as the downgrade tells."""
    before = {
        (table, string(argument(call, "column_name", first)), existing): ast.keyword(existing, value)
        for call, table, first in downgrade
        for new, existing in _EXISTING
        if called(call) == "alter_column" and (value := argument(call, new)) is not None
    }
    for call, table, first in upgrade:
        for _, existing in _EXISTING if called(call) == "alter_column" else ():
            known = before.get((table, string(argument(call, "column_name", first)), existing))
            if known and argument(call, existing) is None:
                call.keywords.append(known)


def _required(upgrade: Iterable[_Operation], downgrade: Iterable[_Operation]) -> Iterator[str]:
    """Yield what is needed before a column is dropped that must not be NULL, as the downgrade tells."""
    columns = [argument(call, "column", first) for call, _, first in downgrade if called(call) == "add_column"]
    added = {
        string(argument(column, "name", 0))
        for column in columns
        if isinstance(column, ast.Call) and is_false(argument(column, "nullable")) and not has_value(column)
    }
    for call, _, first in upgrade:
        if called(call) == "drop_column" and (name := string(argument(call, "column_name", first))) in added:
            yield f"first has to let the column {name} be NULL"


class _Changes:
    """The operations of an ``upgrade()``, which may replace what others drop, and change what others create."""

    def __init__(self, upgrade: Sequence[_Operation], downgrade: Sequence[_Operation]) -> None:
        self._created = _objects(upgrade, "create") | {
            (kind, string(argument(each.call, "new", 2)))
            for each in upgrade
            if called(each.call) == "rename_object" and (kind := _object(each)[0])
        }
        self._dropped = _objects(upgrade, "drop")
        # What CREATE OR REPLACE creates is new if the downgrade drops it, and does not create it again.
        self._new = _objects(downgrade, "drop") - _objects(downgrade, "create")
        self._replaced = _replaced(upgrade, downgrade)
        defaults = [{_column(each) for each in upgrade if _has_default(each.call) is what} for what in (True, False)]
        self._same_default = defaults[0] & defaults[1]
        self._added: dict[str, bool] = {}  # the names of columns, and whether these may be NULL

    def effects(self, operation: _Operation) -> Iterator[Effect]:
        """Yield the effects of an operation."""
        call, table, _ = operation
        kind, name = thing = _object(operation)
        match called(call):
            case "create_table" if thing not in self._dropped and not string(argument(call, "temporary")):
                yield f"creates {named('table', name)}", False, True
            case "create_object" if not kind:
                yield "adds something in SQL", False, True
            case "create_object" if thing in (self._new if string(argument(call, "", 2)) else {thing} - self._dropped):
                yield f"creates {named(kind, name)}", False, True
            case "drop_table":
                self._dropped.discard(thing)
            case "restrict_access" if ("table", table) not in self._created:
                yield f"restricts access to {named('table', table)}", True, False
            case "drop_object" if thing not in self._created:
                yield f"drops {named(string(argument(call, '', 0)), name)}", True, False
            case "rename_table" | "rename_object" if thing not in self._created:
                yield f"renames {named(kind, name)}", True, True
            case verb if verb in _CHANGES_ROWS:
                yield _FILLS, False, True
            case _ if ("table", table) not in self._created:
                yield from self._of_table(operation)

    def _of_table(self, operation: _Operation) -> Iterator[Effect]:
        """Yield the effects of an operation that changes a table that existed before."""
        call, _, first = operation
        own = string(argument(call, "constraint_name", 0))
        constraint = named("constraint", own)
        match called(call):
            case "add_column" if isinstance(column := argument(call, "column", first), ast.Call):
                name = string(argument(column, "name", 0))
                self._added[name] = not is_false(argument(column, "nullable"))
                is_required = not self._added[name] and not has_value(column)
                more = " that must not be NULL and has no default" if is_required else ""
                yield f"adds {named('column', name)}{more}", is_required, True
            case "alter_column":
                name = _column(operation)[1]
                same = _column(operation) in self._same_default
                yield from _altered(call, name, may_be_null=self._added.get(name), same_default=same)
            case "create_foreign_key" | "create_check_constraint" as verb if id(call) in self._replaced:
                if verb == "create_check_constraint" or _acts(call):  # The new release may rely on it.
                    yield f"changes {constraint}", False, True
            case "drop_constraint" if id(call) not in self._replaced:
                yield _RELAXES, False, True
            case "create_unique_constraint":
                yield f"adds {constraint}", False, True
            case "create_index" if _is_true(argument(call, "unique")):
                yield f"adds {named('unique index', string(argument(call, 'index_name', 0)))}", False, True
            case verb if verb in _RESTRICTS and not _names(call, self._added):
                yield f"adds {constraint}", True, False


def _objects(operations: Iterable[_Operation], verb: str) -> set[tuple[str, str]]:
    """Return the kinds and names of the tables and other objects that operations create or drop."""
    return {_object(each) for each in operations if called(each.call) in (f"{verb}_table", f"{verb}_object")}


def _object(operation: _Operation) -> tuple[str, str]:
    """Return the kind and the name of the object that an operation is about, which may be a table."""
    if not called(operation.call).endswith("_object"):
        return "table", operation.table
    kind, name = (string(argument(operation.call, "", place)) for place in (0, 1))
    return kind.rpartition(" ")[2], name


def _replaced(upgrade: Sequence[_Operation], downgrade: Sequence[_Operation]) -> set[int]:
    """Return the identities of the calls that drop a constraint, and of those that create another one instead.

    The other one is a foreign key, or a check constraint that allows at least the same values.
    """
    drops, found = [each for each in upgrade if called(each.call) == "drop_constraint"], set[int]()
    checks = {_constraint(each): each.call for each in downgrade if called(each.call) == "create_check_constraint"}
    for each in upgrade:
        own, is_link = _constraint(each), called(each.call) == "create_foreign_key"
        if is_link or (own in checks and _allows(each.call, checks[own])):
            same = [drop for drop in drops if own[1] and _constraint(drop) in (own, (own[0], f"ck_{own[0]}_{own[1]}"))]
            links = [drop for drop in drops if is_link and drop.table == each.table and _is_link(drop)]
            for drop in [*same, *links][:1]:
                drops.remove(drop)
                found |= {id(each.call), id(drop.call)}
    return found


def _constraint(operation: _Operation) -> tuple[str, str]:
    """Return the names of the table and the constraint of an operation on a constraint."""
    return operation.table, string(argument(operation.call, "constraint_name", 0))


def _allows(new: ast.Call, old: ast.Call) -> bool:
    """Return whether a check constraint allows the same values as another one, or more of them."""
    texts = [" ".join(string(node) for node in ast.walk(call) if isinstance(node, ast.Constant)) for call in (new, old)]
    values = [{*_LITERAL.findall(text)} for text in texts]
    shapes = {_LITERALS.sub("?", text) for text in texts}
    return called(new) == called(old) and len(shapes) == 1 and values[1] <= values[0] and not _NEGATED.search(texts[0])


def _is_link(drop: _Operation) -> bool:
    """Return whether a constraint that is dropped is a foreign key, by its type, or otherwise by its name."""
    type_ = string(argument(drop.call, "type_", drop.first + 1))
    return type_ == "foreignkey" or (not type_ and bool(_LINK.search(_constraint(drop)[1])))


def _acts(call: ast.Call) -> bool:
    """Return whether a foreign key changes rows when others change."""
    texts = [string(node) for node in call.args]
    return any(word.arg in ("ondelete", "onupdate") for word in call.keywords) or any(map(_ACTS.search, texts))


def _column(operation: _Operation) -> tuple[str, str]:
    """Return the names of the table and the column of an operation that alters a column."""
    return operation.table, string(argument(operation.call, "column_name", operation.first))


def _has_default(call: ast.Call) -> bool | None:
    """Return whether a column has a default after it is altered; None if that does not change."""
    default = argument(call, "server_default") if called(call) == "alter_column" else None
    if isinstance(default, ast.Constant) and default.value in (None, False):
        return None if default.value is False else False
    return None if default is None else True


def _table(call: ast.Call) -> str:
    """Return the name of the table in a call that is not part of a batch, or that of its variable in braces."""
    if called(call) in (*_RESTRICTS, "create_unique_constraint", "create_index", "drop_constraint"):
        name = argument(call, "source_table") or argument(call, "table_name", 1)
    else:
        name = argument(call, "old_table_name" if called(call) == "rename_table" else "table_name", 0)
    return string(name) or (f"{{{name.id}}}" if isinstance(name, ast.Name) else "")


def _names(call: ast.Call, columns: Collection[str]) -> bool:
    """Return whether the arguments of a call, which may be SQL, contain the name of a column."""
    texts = [string(node) for node in ast.walk(call) if isinstance(node, ast.expr)]
    return any(column in _WORD.findall(text) for column in columns for text in texts)


def _altered(call: ast.Call, name: str, *, may_be_null: bool | None, same_default: bool) -> Iterator[Effect]:
    """Yield the effects of ``alter_column()``.

    :param may_be_null: whether the column may be NULL, if the revision has added it; otherwise, None.
    :param same_default: whether the revision both drops and sets its default.
    """
    column = named("column", name)
    nullable, before, new_name = (argument(call, name) for name in ("nullable", "existing_nullable", "new_column_name"))
    if new_name is not None and not (name and string(new_name) == name):
        yield f"renames {column}", True, True
    if is_required := is_false(nullable) and not is_false(before):
        yield f"makes {column} NOT NULL", True, False
    if _is_true(nullable) and not _is_true(before):
        yield f"makes {column} nullable", False, True
    has_default = None if same_default else _has_default(call)
    if has_default is False and not (may_be_null or _is_true(nullable) or _is_true(before)):
        yield f"drops the default of {column}", True, False
    elif has_default and not is_required:
        yield f"sets the default of {column}", False, True
    old, new = argument(call, "existing_type"), argument(call, "type_")
    if what := narrowing(call):
        yield what, True, False
    elif new is not None:
        if what := converting(call):
            yield what, True, False
        yield from _retyped(old, new, column)


def _retyped(old: ast.expr | None, new: ast.expr, column: str) -> Iterator[Effect]:
    """Yield the effects of another type of a column that does not shorten its values."""
    labels = _labels(old), _labels(new)
    if all(labels):
        yield f"changes the labels of {column}", bool(labels[0] - labels[1]), bool(labels[1] - labels[0])
    elif old is not None and _is_smaller(old, new):
        yield f"limits {column} to smaller numbers", True, False
    else:
        before, after = (_FAMILIES.get(type_name(each), "") for each in (old, new))
        has_labels = before == "text" and type_name(new) == "ENUM"
        yield f"changes the type of {column}", has_labels or len({before, after} - {""}) > 1, True


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
