"""Find the data that a revision removes: the objects, such as tables and columns, that its code drops or empties."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from math import inf, nan
from typing import TypeAlias

from ampho.history.sql import CHANGES_SCHEMA, lost_in_sql, statements

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_FUNCTION = re.compile(rb"^(?:async[ \t]+)?def[ \t]+(\w+)", re.MULTILINE)
_RUN = frozenset({"upgrade", "downgrade"})
_TEXT = frozenset({"STRING", "VARCHAR", "CHAR", "TEXT", "UNICODE", "UNICODETEXT", "ENUM", "JSON", "UUID"})
_INTEGERS = frozenset({"INTEGER", "BIGINTEGER", "BIGINT", "MEDIUMINT", "SMALLINTEGER", "SMALLINT", "TINYINT"})
_NUMBERS = _INTEGERS | {"NUMERIC", "DECIMAL", "FLOAT", "REAL", "DOUBLE", "DOUBLE_PRECISION", "BOOLEAN"}
_STRINGS = frozenset({"STRING", "VARCHAR", "NVARCHAR", "CHAR", "NCHAR", "TEXT", "UNICODE", "UNICODETEXT"})
_TIMES = frozenset({"DATETIME", "TIMESTAMP"})
_SAFE = frozenset({"add_column", "alter_column", "drop_constraint", "drop_index"}) | {
    f"create_{kind}" for kind in ("check_constraint", "foreign_key", "index", "unique_constraint")
}
# What these functions of alembic.op do is no change of the schema, or is in their arguments.
_NO_SCHEMA = frozenset({"bulk_insert", "execute", "f", "get_bind", "get_context", "inline_literal", "run_async"})


class Described(str):
    """A description of what code does, with the line of the code."""

    line = 0

    @classmethod
    def at(cls, node: ast.expr, text: str) -> Described:
        """Describe the code of a node."""
        described = cls(text)
        described.line = node.lineno
        return described


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


def is_empty(function: ast.stmt | None) -> bool:
    """Return whether a function does nothing."""
    return isinstance(function, Function) and all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Return) and node.value is None)
        for node in function.body
    )


def changes_schema(function: ast.stmt | None, *, in_sql: bool = False) -> bool:
    """Return whether a function of a revision uses operations that change the schema.

    :param in_sql: whether to look at its SQL, too.
    """
    return isinstance(function, Function) and any(
        is_safe_call(node)
        or (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "op"
            and node.attr not in _NO_SCHEMA
        )
        or (
            in_sql
            and isinstance(node, ast.expr)
            and any(CHANGES_SCHEMA.match(each.bare) for each in statements(text_of(node)))
        )
        for node in parts_of(function)
    )


def only_upgrades(defined: Mapping[str, ast.stmt | None]) -> bool:
    """Return whether ``downgrade()`` does nothing, although ``upgrade()`` changes the schema."""
    return is_empty(defined.get("downgrade")) and any(
        changes_schema(each, in_sql=True) for each in reachable(defined, "upgrade")
    )


def part_of(source: bytes, name: str) -> bytes:
    """Return the text of a function, or the whole file if it defines other functions that the function may call."""
    starts: dict[str, int] = {}
    for match in _FUNCTION.finditer(source):
        starts[match[1].decode()] = match.start()
    if name not in starts or starts.keys() - _RUN:
        return source
    begin = starts[name]
    return source[begin : min([start for start in starts.values() if start > begin], default=len(source))]


def reachable(defined: Mapping[str, ast.stmt | None], name: str) -> Iterator[Function]:
    """Yield a function, and all functions of the same file that it refers to, directly or indirectly."""
    todo, seen = [name], set()
    while todo:
        function = defined.get(current := todo.pop())
        if current in seen or not isinstance(function, Function):
            continue
        seen.add(current)
        yield function
        todo += [node.id for node in ast.walk(function) if isinstance(node, ast.Name)]


def lost_in_code(function: ast.stmt | None, *, columns_only: bool = False) -> Iterator[tuple[str, Described]]:
    """Yield the name of each object that a function drops or empties, with a description.

    The name is empty if the code computes it. Tables that the same function created earlier are left out.

    :param columns_only: whether to include only columns that are dropped with ``drop_column()``.
    """
    if not isinstance(function, Function):
        return
    created = created_in(function)
    for node in parts_of(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "drop_column":
                name = string(argument(node, "column_name", -1))
                yield name, Described.at(node, f"drops {named('column', name)}")
            elif node.func.attr == "drop_table" and not columns_only:
                name, schema = string(argument(node, "table_name", 0)), string(argument(node, "schema"))
                if created.get((name, schema), node.lineno) >= node.lineno:
                    yield name, Described.at(node, f"drops {named('table', name)}")
        elif isinstance(node, ast.expr) and not columns_only and (sql := text_of(node)):
            yield from ((name, Described.at(node, what)) for name, (what, _) in lost_in_sql(sql))


def converted_in_code(function: ast.stmt | None) -> Iterator[Described]:
    """Yield a description of each column whose text a function converts to numbers.

    SQLite keeps only the number at the beginning of such a text; other databases reject text that is not a number.
    """
    for call in calls_in(function, "alter_column") if isinstance(function, Function) else ():
        old, new = (type_name(argument(call, keyword)) for keyword in ("existing_type", "type_"))
        if old in _TEXT and new in _NUMBERS:
            name = string(argument(call, "column_name", -1))
            what = f"converts the text in the column {name} to {new}, where text that is not a number becomes 0"
            yield Described.at(call, what)


def narrowed_in_code(function: ast.stmt | None) -> Iterator[Described]:
    """Yield a description of each column whose values a function rounds, cuts off, or limits by another type.

    SQLite keeps such values as they are.
    """
    for call in calls_in(function, "alter_column") if isinstance(function, Function) else ():
        if what := narrowing(call):
            yield Described.at(call, what)


def narrowing(call: ast.Call) -> str:
    """Return what the new type in a call of ``alter_column()`` does to the values; empty if it keeps them."""
    old, new = (argument(call, keyword) for keyword in ("existing_type", "type_"))
    column = named("column", string(argument(call, "column_name", -1)))
    return _narrowed(old, new).format(column) if old and new else ""


def _narrowed(old: ast.expr, new: ast.expr) -> str:
    """Return what a change of a type does to the values of a column, as text with ``{}``; empty if it keeps them."""
    if type_name(old) in _TIMES and type_name(new) in ("DATE", "TIME"):
        return f"keeps only the {type_name(new).lower()} of the values in {{}}"
    if scale(new) < scale(old):
        places = f"to {scale(new):.0f} decimal place{'' if scale(new) == 1 else 's'}"
        return f"rounds the numbers in {{}} {places if scale(new) else 'to integers'}"
    if type_name(old) in _STRINGS and type_name(new) in _STRINGS and limit(new) < limit(old):
        return f"limits {{}} to {limit(new):.0f} characters, so that longer values are cut off or rejected"
    return ""


def scale(type_: ast.expr) -> float:
    """Return the number of decimal places of a numeric type; nan if it is not known."""
    if type_name(type_) in _INTEGERS:
        return 0
    if type_name(type_) not in _NUMBERS:
        return nan
    if type_name(type_) not in ("NUMERIC", "DECIMAL") or not isinstance(type_, ast.Call):
        return inf
    return _number(argument(type_, "scale", 1), 0 if argument(type_, "precision", 0) else inf)


def precision(type_: ast.expr) -> float:
    """Return the number of digits of a numeric type; inf if it is not limited, and nan if it is not known."""
    return _number(argument(type_, "precision", 0), inf) if isinstance(type_, ast.Call) else inf


def limit(type_: ast.expr) -> float:
    """Return the maximum length of a type."""
    return _number(argument(type_, "length", 0), inf) if isinstance(type_, ast.Call) else inf


def _number(node: ast.expr | None, default: float) -> float:
    """Return the value of a literal number, or the default if there is no value; nan for other code."""
    if node is None or (isinstance(node, ast.Constant) and node.value is None):
        return default
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int) else nan


def type_name(node: ast.expr | None) -> str:
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


def named(kind: str, name: str) -> str:
    """Return an object in words, such as ``the column stock``, or ``a column`` if its name is not known."""
    return f"the {kind} {name}" if name else f"a {kind}"


def calls_in(code: ast.AST | None, *names: str) -> list[ast.Call]:
    """Return the calls in a function or other code, in order.

    :param names: the names of the functions and methods that are called; all if there are none.
    """
    calls = [node for node in (ast.walk(code) if code else ()) if isinstance(node, ast.Call)]
    found = [call for call in calls if called(call) in names] if names else calls
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def argument(call: ast.Call, keyword: str, position: int | None = None) -> ast.expr | None:
    """Return an argument of a call, or None if it is not passed."""
    given = [word.value for word in call.keywords if word.arg == keyword]
    if not given and position is not None:
        given = call.args[position:][:1]
    return next(iter(given), None)


def called(call: ast.Call) -> str:
    """Return the name of the function or method that is called; empty if the function has no name."""
    return getattr(call.func, "attr", "") or getattr(call.func, "id", "")


def is_safe_call(node: ast.AST) -> bool:
    """Return whether a node calls an operation of ``ampho.operations`` that commits on PostgreSQL."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _SAFE


def string(node: ast.expr | None) -> str:
    """Return the value of a string literal, or an empty string for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def text_of(node: ast.expr) -> str:
    """Return a text, which may be an f-string or a sum, with the code in it in braces; empty for anything else."""
    match node:
        case ast.JoinedStr(values=values):
            return "".join(string(value) or _in_braces(value) for value in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            texts = text_of(left), text_of(right)
            return (texts[0] or _in_braces(left)) + (texts[1] or _in_braces(right)) if any(texts) else ""
    return string(node)


def _in_braces(node: ast.expr) -> str:
    value = node.value if isinstance(node, ast.FormattedValue) else node
    return f"{{{value.id if isinstance(value, ast.Name) else '...'}}}"


def parts_of(function: Function) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without its docstring, and without the parts of texts."""
    inside: set[int] = set()
    for node in (part for statement in statements_of(function) for part in ast.walk(statement)):
        if id(node) not in inside:
            if isinstance(node, ast.JoinedStr | ast.BinOp) and text_of(node):
                inside.update(map(id, ast.walk(node)))
            yield node


def statements_of(function: Function) -> Iterator[ast.stmt]:
    """Yield the statements of a function, without its docstring."""
    return (node for node in function.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)))
