"""Find the data that a revision removes: the objects, such as tables and columns, that its code drops or empties."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from math import inf, nan
from typing import TypeAlias

from ampho.history.sql import CHANGES_SCHEMA, executed, lost_in_statements, qualified

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_HEADER = re.compile(rb"^(?:from|import|revision)\b", re.MULTILINE)
_OTHERS = {
    name: re.compile(rb"^(?:async[ \t]+)?def[ \t]+%b\b.*?(?=^[^\W\d]|^@|\Z)" % other, re.DOTALL | re.MULTILINE)
    for name, other in (("upgrade", b"downgrade"), ("downgrade", b"upgrade"))
}
_ASSIGNS = ast.Assign | ast.AnnAssign
_VALUES = ast.Constant | ast.JoinedStr | ast.BinOp | ast.List | ast.Tuple | ast.Call
_LIMITS = frozenset({"where", "filter", "filter_by"})
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
    """Return the names defined at the top level of a file, with the syntax trees of functions and constants."""
    found: dict[str, ast.stmt | None] = {}
    for node in ast.parse(source).body:
        if isinstance(node, Function):
            found[node.name] = node
            continue
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                is_constant = part in _targets(node) and part.id not in found
                found[part.id] = node if is_constant else None
            elif isinstance(part, ast.alias):
                found[part.asname or part.name] = None
    return found


def _targets(node: ast.AST) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []


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
            and any(CHANGES_SCHEMA.match(each.bare) for each in executed(text_of(node)))
        )
        for node in parts_of(function)
    )


def only_upgrades(defined: Mapping[str, ast.stmt | None]) -> bool:
    """Return whether ``downgrade()`` does nothing, although ``upgrade()`` changes the schema."""
    return is_empty(defined.get("downgrade")) and any(
        changes_schema(each, in_sql=True) for each in reachable(defined, "upgrade")
    )


def part_of(source: bytes, name: str) -> bytes:
    """Return the text of a file that a function may run: all but its docstring, and ``upgrade`` or ``downgrade``."""
    header = _HEADER.search(source)
    return _OTHERS[name].sub(b"", source[header.start() if header else 0 :])


def reachable(defined: Mapping[str, ast.stmt | None], name: str) -> Iterator[Function]:
    """Yield a function, and all functions of the same file that it refers to, directly or indirectly.

    In these functions, the values of the file's constants, such as SQL and tables, take the place of their names.
    """
    todo, seen = [name], set()
    while todo:
        function = defined.get(current := todo.pop())
        if current in seen or not isinstance(function, Function):
            continue
        seen.add(current)
        names = [node.id for node in ast.walk(function) if isinstance(node, ast.Name)]
        if any(isinstance(defined.get(each), _ASSIGNS) for each in names):
            _Constants(defined, function).generic_visit(function)
            names = [node.id for node in ast.walk(function) if isinstance(node, ast.Name)]
        yield function
        todo += names


def joined(defined: Mapping[str, ast.stmt | None], name: str) -> Function:
    """Return a function together with all functions that it refers to, as one function."""
    found = sorted(reachable(defined, name), key=lambda function: function.lineno)
    body = [statement for function in found for statement in function.body]
    nothing = ast.arguments([], [], None, [], [], None, [])
    return ast.FunctionDef(name, nothing, body, [], lineno=getattr(defined.get(name), "lineno", 1))


class _Constants(ast.NodeTransformer):
    """Replaces the names of a file's constants in a function by their values."""

    def __init__(self, defined: Mapping[str, ast.stmt | None], function: Function) -> None:
        self._defined = defined
        self._hidden = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
        self._hidden |= {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and _is_set(node)}

    def visit_Call(self, node: ast.Call) -> ast.AST:
        hidden = self._hidden
        if isinstance(node.func, ast.Name):  # The name of a function stays, which tells what is called.
            self._hidden = hidden | {node.func.id}
        self.generic_visit(node)
        self._hidden = hidden
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        assigned = self._defined.get(node.id)
        value = assigned.value if isinstance(assigned, _ASSIGNS) else None
        if not isinstance(value, _VALUES) or node.id in self._hidden:
            return node
        self._hidden.add(node.id)  # Its value may refer to itself.
        copied: ast.AST = self.visit(deepcopy(value))
        self._hidden.remove(node.id)
        for part in ast.walk(copied):
            if isinstance(part, ast.expr):
                part.lineno, part.col_offset = node.lineno, node.col_offset
        return copied


def _is_set(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def lost_in_code(function: ast.stmt | None) -> Iterator[Described]:
    """Yield a description of each object that a function drops or empties.

    Tables that the same function created earlier are left out.
    """
    if not isinstance(function, Function):
        return
    created, nodes = created_in(function), [node for node in parts_of(function) if isinstance(node, ast.expr)]
    deletes = any(isinstance(node, ast.Call) and called(node) in ("delete", "drop", "DropTable") for node in nodes)
    assigned, limited = (assigned_in(function), _limited(function)) if deletes else ({}, set[int]())
    found: list[tuple[ast.expr, str]] = []
    for node in nodes:
        if isinstance(node, ast.Call) and id(node) not in limited and (lost := _lost_by(node, created, assigned)):
            verb, kind, name = lost
            yield Described.at(node, f"{verb} {named(kind, name)}")
        elif sql := text_of(node):
            found += [(node, statement.bare) for statement in executed(sql)]
    lines = new_tables_in(function)
    for place, table, what in lost_in_statements([bare for _, bare in found], lines):
        if lines.get(table, inf) >= found[place][0].lineno:
            yield Described.at(found[place][0], what)


def _lost_by(
    call: ast.Call, created: Mapping[tuple[str, str], int], assigned: Mapping[str, ast.expr]
) -> tuple[str, str, str] | None:
    """Return what a call does that loses data, and the kind and name of the object; None if it loses nothing."""
    of = call.func.value if isinstance(call.func, ast.Attribute) else None
    match called(call):
        case "delete" if (of := _emptied(call)) is not None:
            return "empties", "table", table_of(of, assigned) or ""
        case "drop_column" if of:
            return "drops", "column", string(argument(call, "column_name", -1))
        case "drop_table" if of:
            name = string(argument(call, "table_name", 0)), string(argument(call, "schema"))
            return ("drops", "table", name[0]) if created.get(name, call.lineno) >= call.lineno else None
        case "drop" if of and (table := table_of(of, assigned)) is not None:
            return "drops", "table", table
        case "drop_all" | "DropTable" as verb if of or verb == "DropTable":
            return "drops", "table", (table_of(call.args[0], assigned) if call.args else "") or ""
    return None


def assigned_in(function: Function) -> dict[str, ast.expr]:
    """Return the names that a function assigns values to, with these values."""
    nodes = [(node, node.value) for node in ast.walk(function) if isinstance(node, _ASSIGNS)]
    return {each.id: value for node, value in nodes if value for each in _targets(node) if isinstance(each, ast.Name)}


def table_of(node: ast.expr, assigned: Mapping[str, ast.expr]) -> str | None:
    """Return the name of the table that code stands for, which is empty if it is not known; None for other code."""
    if isinstance(node, ast.Name) and node.id in assigned:
        node = assigned[node.id]
    if isinstance(node, ast.Call) and called(node) in ("Table", "table"):
        return string(argument(node, "name", 0))
    return "" if isinstance(node, ast.Attribute) and node.attr == "__table__" else None


def _emptied(call: ast.Call) -> ast.expr | None:
    """Return what a call of ``delete()`` deletes all rows of; None if it deletes something else."""
    of = call.func.value if isinstance(call.func, ast.Attribute) else None
    if of is None or (isinstance(of, ast.Name) and of.id in ("sa", "sqlalchemy", "sql")):
        return call.args[0] if len(call.args) == 1 else None
    return None if call.args else of


def _limited(function: Function) -> set[int]:
    """Return the identities of the nodes of statements and queries that are limited to some rows."""
    limited, assigned = set[int](), assigned_in(function)
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and called(node) in _LIMITS:
            parts = [*ast.walk(node.func)]
            limited.update(map(id, parts))
            limited.update(id(assigned.get(part.id)) for part in parts if isinstance(part, ast.Name))
    return limited | {
        id(node)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and called(node) == "delete" and limited & {*map(id, ast.walk(node.func))}
    }


def converted_in_code(function: ast.stmt | None) -> Iterator[Described]:
    """Yield a description of each column whose text a function converts to numbers.

    SQLite keeps only the number at the beginning of such a text; other databases reject text that is not a number.
    """
    for call in calls_in(function, "alter_column") if isinstance(function, Function) else ():
        if what := converting(call):
            yield Described.at(call, what)


def converting(call: ast.Call) -> str:
    """Return what the new type in a call of ``alter_column()`` does to text; empty if it does not make it a number."""
    old, new = (type_name(argument(call, keyword)) for keyword in ("existing_type", "type_"))
    name = string(argument(call, "column_name", -1))
    is_converted = old in _TEXT and new in _NUMBERS
    what = f"converts the text in the column {name} to {new}, where text that is not a number becomes 0"
    return what if is_converted else ""


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


def new_tables_in(function: Function) -> dict[str, int]:
    """Return the name of each table that a function creates, with its schema, and the first line that creates it."""
    created = created_in(function)
    return {qualified(f"{schema}.{name}" if schema else name): line for (name, schema), line in created.items()}


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
    """Return the value of a string literal, which may be in ``op.f()``, or an empty string for anything else."""
    if isinstance(node, ast.Call) and called(node) == "f" and node.args:
        node = node.args[0]
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
    return text_of(value) or f"{{{value.id if isinstance(value, ast.Name) else '...'}}}"


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
