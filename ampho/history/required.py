"""Find the columns that a revision makes NOT NULL without a value for existing rows, which fails if there are any."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeGuard

from ampho.history.losses import (
    Described,
    Function,
    argument,
    called,
    calls_in,
    created_in,
    is_safe_call,
    named,
    string,
)

_VALUES = frozenset({"Computed", "DefaultClause", "FetchedValue", "Identity", "Sequence"})
_UPDATE = re.compile(r"\bUPDATE\b", re.IGNORECASE)


def required_in_code(function: ast.stmt | None, earlier: Iterable[Function] = ()) -> Iterator[Described]:
    """Yield a description of each column that a function makes NOT NULL without a value for existing rows.

    Columns of tables that the same function created earlier are left out, and those that it may have filled.

    :param earlier: functions that run before, and may fill columns, too.
    """
    if not isinstance(function, Function):
        return
    filled_before, defaults = list[ast.AST](), set[tuple[str, str]]()
    for each in earlier:
        filled_before += [node for node in ast.walk(each) if _fills(node, "")]
        defaults |= {
            (table, name) for _, table, name, column in _changed(each) if column is not None and has_value(column)
        }
    created = created_in(function)
    fills = [node for node in ast.walk(function) if _fills(node, "")]
    for call, table, name, column in _changed(function):
        if min((line for (made, _), line in created.items() if made == table), default=call.lineno) < call.lineno:
            continue
        if column is not None:
            if has_value(column):
                defaults.add((table, name))
            elif is_false(argument(column, "nullable")):
                yield Described.at(call, f"adds {named('column', name)} that must not be NULL and has no default")
        elif is_false(argument(call, "nullable")) and not is_false(argument(call, "existing_nullable")):
            before = [*filled_before, *(node for node in fills if node.lineno < call.lineno)]
            if (table, name) not in defaults and not any(_fills(node, name) for node in before):
                yield Described.at(call, f"makes {named('column', name)} NOT NULL")


def _changed(function: Function) -> Iterator[tuple[ast.Call, str, str, ast.Call | None]]:
    """Yield each call that adds or alters a column, the names of the table and the column, and the added column."""
    tables = batches(function)
    for call in calls_in(function, "add_column", "alter_column"):
        batch = tables.get(id(call))
        table = string(argument(call, "table_name", 0)) if batch is None else batch
        first = 1 if batch is None else 0
        if called(call) == "alter_column":
            yield call, table, string(argument(call, "column_name", first)), None
        elif isinstance(column := argument(call, "column", first), ast.Call):
            yield call, table, string(argument(column, "name", 0)), column


def _attribute(call: ast.Call) -> str:
    """Return the name of the method that is called; empty for a function."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def batches(function: Function) -> Mapping[int, str]:
    """Return the table of each call inside a ``with op.batch_alter_table()``, by the identity of the call."""
    found: dict[int, str] = {}
    for block in ast.walk(function):
        for item in block.items if isinstance(block, ast.With | ast.AsyncWith) else ():
            batch = item.context_expr
            if isinstance(batch, ast.Call) and _attribute(batch) == "batch_alter_table":
                table = string(argument(batch, "table_name", 0))
                found |= {id(node): table for node in ast.walk(block) if _is_on(node, item.optional_vars)}
    return found


def _is_on(node: ast.AST, variable: ast.expr | None) -> bool:
    """Return whether a node calls a method of a variable."""
    of = node.func.value if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
    return isinstance(of, ast.Name) and isinstance(variable, ast.Name) and of.id == variable.id


def has_value(column: ast.Call) -> bool:
    """Return whether the database gives a new column a value in existing rows."""
    default = argument(column, "server_default")
    if default is not None and not (isinstance(default, ast.Constant) and default.value is None):
        return True
    if any(isinstance(item, ast.Starred) for item in column.args) or any(word.arg is None for word in column.keywords):
        return True  # a value may be among the arguments that the code computes
    if argument(column, "primary_key") is not None or argument(column, "autoincrement") is not None:
        return True
    return any(isinstance(item, ast.Call) and called(item) in _VALUES for item in column.args)


def is_false(node: ast.expr | None) -> bool:
    """Return whether a node is the literal ``False``."""
    return isinstance(node, ast.Constant) and node.value is False


def is_true(node: ast.expr | None) -> bool:
    """Return whether a node is the literal ``True``."""
    return isinstance(node, ast.Constant) and node.value is True


def _fills(node: ast.AST, column: str) -> TypeGuard[ast.expr | ast.stmt]:
    """Return whether a node may fill a column: it sets the column, or it runs code that is defined elsewhere.

    :param column: the name of the column; empty for any column.
    """
    if isinstance(node, ast.Attribute):
        return isinstance(node.ctx, ast.Store) and column in ("", node.attr)
    if isinstance(node, ast.Expr):
        call = node.value
        return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not is_safe_call(call)
    if not isinstance(node, ast.Call):
        return False
    if _attribute(node) == "values":
        return column in ("", *_names(node))
    return _attribute(node) in ("execute", "scalar", "scalars") and _updates(node, column)


def _updates(call: ast.Call, column: str) -> bool:
    """Return whether a call that executes SQL may update a column; True if the SQL is not in the call."""
    sql: ast.expr = call
    while isinstance(sql, ast.Call) and sql.args:
        sql = sql.args[0]
    if isinstance(sql, ast.Name):
        return True
    parts = [*ast.walk(call)]
    text = " ".join(part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str))
    is_named = re.search(rf"\b{re.escape(column)}\b", text) or any(isinstance(part, ast.JoinedStr) for part in parts)
    return bool(_UPDATE.search(text) and is_named)


def _names(call: ast.Call) -> Collection[str]:
    """Return the names of the columns that ``values()`` sets."""
    keys = [key for item in call.args if isinstance(item, ast.Dict) for key in item.keys]
    names = {key.attr if isinstance(key, ast.Attribute) else string(key) for key in keys}
    return {*names, *(word.arg for word in call.keywords if word.arg)}
