"""Ampho's own rules for the code of a revision: whether it loses data, may fail on rows, and can be reverted."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from ampho.history.losses import (
    Described,
    Function,
    called,
    calls_in,
    is_empty,
    lost_in_code,
    statements_of,
)
from ampho.history.sql import lost_in_sql
from ampho.revise.lint.statements import lines_of

LOSS_HELP = "Release code that does not use it first, and back up the data that you may need."
NULL_HELP = "Let the column be NULL, fill it, and make it NOT NULL in a later revision."
REVERT_HELP = "Write a downgrade() that reverts upgrade(), or allow this finding in the file."


def lost(sql: str | None, upgrade: Function | None) -> Iterator[tuple[Described, str]]:
    """Yield a description of each object that a revision drops or empties, and the SQL statement if it is known.

    :param sql: the SQL of the revision; None if it cannot be written as SQL.
    """
    if sql is None:
        yield from ((what, "") for name, what in lost_in_code(upgrade) if name)
        return
    # In SQLite's batch mode, the SQL does not drop a column, but creates a new table without it.
    found = [*lost_in_sql(sql)]
    names = {name for name, _ in found}
    yield from ((Described(what), statement) for _, (what, statement) in found)
    yield from ((what, "") for name, what in lost_in_code(upgrade, columns_only=True) if name and name not in names)


def lines_in_batches(upgrade: Function | None) -> set[int]:
    """Return the lines of calls that change rows in batches, though the SQL that is written for them does not."""
    return {line for call in calls_in(upgrade, "add_column", "backfill") for line in lines_of(call)}


def _only_fills(function: Function) -> bool:
    """Return whether a function only gives values to rows, which older code ignores."""
    return all(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and called(node.value) == "backfill"
        for node in statements_of(function)
    )


def why_irreversible(defined: Mapping[str, ast.stmt | None]) -> str:
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
