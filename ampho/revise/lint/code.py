"""Ampho's own rules for the code of a revision: whether it loses data, may fail on rows, and can be reverted."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from ampho.history.losses import (
    Described,
    Function,
    called,
    converted_in_code,
    is_empty,
    lost_in_code,
    narrowed_in_code,
    statements_of,
)
from ampho.history.required import required_in_code
from ampho.history.sql import lost_in_sql

LOSS_HELP = "Release code that does not use it first, and back up the data that you may need."
NULL_HELP = "Add the column as nullable, fill it, and make it NOT NULL in a later revision."
REVERT_HELP = "Write a downgrade() that reverts upgrade(), or allow this finding in the file."


def lost(sql: str | None, upgrade: ast.stmt | None) -> Iterator[tuple[Described, str]]:
    """Yield a description of each object that a revision drops or empties, and the SQL statement if it is known.

    :param sql: the SQL of the revision; None if it cannot be written as SQL.
    """
    if sql is None:
        yield from ((what, "") for name, what in lost_in_code(upgrade) if name)
        return
    # In SQLite's batch mode, the SQL does not drop a column, but creates a new table without it.
    columns = {name: (what, "") for name, what in lost_in_code(upgrade, columns_only=True) if name}
    found = {name: (Described(what), statement) for name, (what, statement) in lost_in_sql(sql)}
    yield from (found | columns | found).values()


def changed(upgrade: ast.stmt | None, *, is_sqlite: bool) -> Iterator[Described]:
    """Yield a description of each column whose values an ``upgrade()`` changes by another type."""
    return (converted_in_code if is_sqlite else narrowed_in_code)(upgrade)


def required(upgrade: ast.stmt | None, earlier: Iterable[Function]) -> Iterator[Described]:
    """Yield a description of each column that an ``upgrade()`` makes NOT NULL without a value for existing rows."""
    return required_in_code(upgrade, earlier)


def lines_in_batches(upgrade: ast.stmt | None) -> set[int]:
    """Return the lines of calls that change rows in batches, though the SQL that is written for them does not."""
    calls = [node for node in ast.walk(upgrade or ast.Pass()) if isinstance(node, ast.Call)]
    batched = [call for call in calls if called(call) in ("add_column", "backfill")]
    return {line for call in batched for line in range(call.lineno, (call.end_lineno or call.lineno) + 1)}


def _only_fills(function: Function) -> bool:
    """Return whether a function only gives values to rows, which older code ignores."""
    calls = [node.value for node in statements_of(function) if isinstance(node, ast.Expr)]
    return len(calls) == len([*statements_of(function)]) and all(
        isinstance(call, ast.Call) and called(call) == "backfill" for call in calls
    )


def why_irreversible(defined: dict[str, ast.stmt | None]) -> str:
    """Return why a revision cannot be reverted, as a sentence; empty if it can.

    :param defined: the functions in the revision's file, as returned by :func:`ampho.history.losses.functions`.
    """
    if "*" in defined:
        return ""
    if "downgrade" not in defined:
        return "It has no downgrade()."
    downgrade, upgrade = defined["downgrade"], defined.get("upgrade")
    if not isinstance(downgrade, Function):
        return ""
    if any(isinstance(node, ast.Raise) for node in downgrade.body):
        return "Its downgrade() raises an exception."
    if is_empty(downgrade) and isinstance(upgrade, Function) and not (is_empty(upgrade) or _only_fills(upgrade)):
        return "Its downgrade() does nothing, but its upgrade() does something."
    return ""
