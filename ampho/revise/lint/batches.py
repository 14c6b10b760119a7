"""Batch mode: the calls in a ``with op.batch_alter_table()``, whose SQL is written when the block ends."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from ampho.history.losses import Function, argument, called, calls_in, string
from ampho.history.required import batches
from ampho.history.sql import NAME

_CALLS = {
    "ADD COLUMN": "add_column",
    "DROP COLUMN": "drop_column",
    "CREATE": "create_index",
    "DROP INDEX": "drop_index",
    "DROP": "drop_constraint",
    "ADD": "create_",
}
"""How the name of the method that wrote a statement of a batch begins, by its verb; else, it is ``alter_column``."""

_OPTIONS = (
    (" TYPE ", "type_"),
    (" SET NOT NULL", "nullable"),
    (" DROP NOT NULL", "nullable"),
    (" SET DEFAULT", "server_default"),
    (" DROP DEFAULT", "server_default"),
)
"""Words in the SQL that Alembic writes for ``alter_column()``, and the options that they are for."""

_ALTERS = re.compile(rf"\A\s*ALTER\s+TABLE\s+{NAME}", re.IGNORECASE)
_VERB = re.compile(r"\b(?:ADD\s+COLUMN|DROP\s+COLUMN|CREATE|DROP\s+INDEX|DROP|ADD)\b", re.IGNORECASE)


def batch_lines(code: ast.AST | None) -> set[int]:
    """Return the lines on which each ``with op.batch_alter_table()`` begins, which also write its SQL."""
    return {line for block in _batch_blocks(code) for line in (block.lineno, *map(_line, block.items))}


def _batch_blocks(code: ast.AST | None) -> Iterator[ast.With]:
    for block in ast.walk(code) if code else ():
        if isinstance(block, ast.With) and any(map(_is_batch, block.items)):
            yield block


def _is_batch(item: ast.withitem) -> bool:
    return isinstance(item.context_expr, ast.Call) and called(item.context_expr) == "batch_alter_table"


def _line(item: ast.withitem) -> int:
    return item.context_expr.lineno


def calls_in_batches(code: Function | None) -> dict[int, list[ast.Call]]:
    """Return the calls in each ``with op.batch_alter_table()``, by the lines on which the blocks begin."""
    tables = batch_tables(code)
    return {
        line: [call for call in calls_in(block) if id(call) in tables]
        for block in _batch_blocks(code)
        for line in batch_lines(block)
    }


def batch_tables(code: Function | None) -> dict[int, str]:
    """Return the table of each call in a ``with op.batch_alter_table()``, with its schema, by the call's identity."""
    tables = {**batches(code)} if code else {}
    for block in _batch_blocks(code):
        if schema := next((name for item in block.items if (name := _schema_of(item))), ""):
            tables |= {id(call): f"{schema}.{tables[id(call)]}" for call in calls_in(block) if id(call) in tables}
    return tables


def _schema_of(item: ast.withitem) -> str:
    return string(argument(item.context_expr, "schema")) if isinstance(item.context_expr, ast.Call) else ""


def origin(bare: str, calls: Sequence[ast.Call], before: Sequence[ast.Call]) -> list[ast.Call]:
    """Return the call in a batch that wrote a statement, judging by its kind and the name in it.

    :param before: the call of ``alter_column()`` that wrote the previous statement, if any.
    """
    verb = _VERB.search(bare)
    kind = " ".join(verb[0].upper().split()) if verb else ""
    fits = [call for call in calls if called(call).startswith(_CALLS.get(kind, "alter_column"))]
    named = [call for call in fits if _is_named(call, _ALTERS.sub("", bare))] or fits
    if option := next((option for words, option in _OPTIONS if words in bare), ""):
        named = [call for call in named if argument(call, option) is not None] or named
    later = [call for call in named if all(call.lineno > each.lineno for each in before)]
    return (named if option or not before else later or named)[:1]


def _is_named(call: ast.Call, words: str) -> bool:
    name = next((text for node in ast.walk(call) if isinstance(node, ast.expr) and (text := string(node))), "")
    return not name or re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words) is not None
