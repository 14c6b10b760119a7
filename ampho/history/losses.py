"""Find the data that a revision removes: the objects, such as tables and columns, that its code drops or empties."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TypeAlias

from ampho.history.sql import lost_in_sql

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_TEXT = frozenset({"STRING", "VARCHAR", "CHAR", "TEXT", "UNICODE", "UNICODETEXT", "ENUM", "JSON", "UUID"})
_NUMBERS = frozenset(
    {"INTEGER", "BIGINTEGER", "BIGINT", "SMALLINTEGER", "SMALLINT", "NUMERIC", "DECIMAL", "FLOAT", "REAL", "DOUBLE"}
    | {"DOUBLE_PRECISION", "BOOLEAN"}
)


def functions(source: bytes) -> dict[str, ast.stmt | None]:
    """Return the names defined at the top level of a file, with the syntax trees of those that are functions."""
    found: dict[str, ast.stmt | None] = {}
    for node in ast.parse(source).body:
        if isinstance(node, Function):
            found[node.name] = node
        else:
            for part in ast.walk(node):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    found[part.id] = None
                elif isinstance(part, ast.alias):
                    found[part.asname or part.name] = None
    return found


def lost_in_code(function: ast.stmt | None, *, columns_only: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the name of each object that a function drops or empties, with a description.

    The name is empty if the code computes it. Tables that the same function created earlier are left out.

    :param columns_only: whether to include only columns that are dropped with ``drop_column()``.
    """
    if not isinstance(function, Function):
        return
    created = created_in(function)
    statements = [node for node in function.body if not _is_docstring(node)]
    for node in (part for statement in statements for part in ast.walk(statement)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "drop_column":
                name = string(argument(node, "column_name", -1))
                yield name, f"drops the column {name}" if name else "drops a column"
            elif node.func.attr == "drop_table" and not columns_only:
                name, schema = string(argument(node, "table_name", 0)), string(argument(node, "schema"))
                if created.get((name, schema), node.lineno) >= node.lineno:
                    yield name, f"drops the table {name}" if name else "drops a table"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not columns_only:
            yield from ((name, what) for name, (what, _) in lost_in_sql(node.value))


def converted_in_code(function: ast.stmt | None) -> Iterator[str]:
    """Yield a description of each column whose text a function converts to numbers.

    SQLite keeps only the number at the beginning of such a text; other databases reject text that is not a number.
    """
    for node in ast.walk(function) if isinstance(function, Function) else ():
        if isinstance(node, ast.Call) and called(node) == "alter_column":
            old, new = (_type(argument(node, keyword)) for keyword in ("existing_type", "type_"))
            if old in _TEXT and new in _NUMBERS:
                name = string(argument(node, "column_name", -1))
                yield f"converts the text in the column {name} to {new}, where text that is not a number becomes 0"


def _type(node: ast.expr | None) -> str:
    """Return the name of a type such as ``sa.String(20)``, in upper case; empty for other code."""
    named = node.func if isinstance(node, ast.Call) else node
    return (getattr(named, "attr", "") or getattr(named, "id", "")).upper()


def created_in(function: Function) -> dict[tuple[str, str], int]:
    """Return the name and schema of each table that a function creates, with the first line that creates it."""
    created: dict[tuple[str, str], int] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "create_table":
            name = string(argument(node, "table_name", 0)), string(argument(node, "schema"))
            created[name] = min(node.lineno, created.get(name, node.lineno))
    return created


def argument(call: ast.Call, keyword: str, position: int | None = None) -> ast.expr | None:
    """Return an argument of a call, or None if it is not passed."""
    given = [word.value for word in call.keywords if word.arg == keyword]
    if not given and position is not None:
        given = call.args[position:][:1]
    return next(iter(given), None)


def called(call: ast.Call) -> str:
    """Return the name of the function or method that is called; empty if the function has no name."""
    return getattr(call.func, "attr", "") or getattr(call.func, "id", "")


def string(node: ast.expr | None) -> str:
    """Return the value of a string literal, or an empty string for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
