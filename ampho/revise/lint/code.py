"""Ampho's own rules for the code of a revision: whether it loses data, may fail on rows, and can be reverted."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from ampho.history.losses import (
    Described,
    Function,
    argument,
    called,
    calls_in,
    is_empty,
    lost_in_code,
    named,
    statements_of,
    string,
)
from ampho.history.required import batches
from ampho.revise.lint.sources import lines_of

LOSS_HELP = "Release code that does not use it first, and back up the data that you may need."
NULL_HELP = "Let the column be NULL, fill it, and make it NOT NULL in a later revision."
REVERT_HELP = "Write a downgrade() that reverts upgrade(), or allow this finding in the file."


def lost(upgrade: Function | None, *, in_batch_mode: bool) -> Iterator[Described]:
    """Yield a description of each object that code drops or empties.

    :param in_batch_mode: whether to look only at columns that are dropped in a ``with op.batch_alter_table()``.
    """
    if not in_batch_mode:
        yield from lost_in_code(upgrade)
    elif upgrade is not None:
        inside = batches(upgrade)
        for call in calls_in(upgrade, "drop_column"):
            if id(call) in inside:
                yield Described.at(call, f"drops {named('column', string(argument(call, 'column_name', 0)))}")


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
