"""What data a revision takes with it: what its code drops, and what its SQL does.

Pure: it reads text, and runs nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

# What a statement says is not in what it quotes, nor in its comments.
_TOKENS = re.compile(
    r"""(?P<text>'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)|(?P<name>"(?:[^"]|"")*"|`[^`]*`|\[[^\]\n]*\])"""
    r"""|(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<end>;)""",
    re.DOTALL,
)
_QUALIFIED = r"[^\s;(),]+"
_DROPS = re.compile(
    rf"\s*DROP\s+(?P<kind>TABLE|SCHEMA|DATABASE)\s+(?:IF\s+EXISTS\s+)?(?P<names>{_QUALIFIED}(?:\s*,\s*{_QUALIFIED})*)",
    re.IGNORECASE,
)
_EMPTIES = re.compile(
    rf"\s*(?:TRUNCATE(?:\s+TABLE)?(?:\s+ONLY)?|DELETE\s+FROM(?!.*\bWHERE\b))\s+"
    rf"(?P<names>{_QUALIFIED}(?:\s*,\s*{_QUALIFIED})*)",
    re.IGNORECASE | re.DOTALL,
)
_ALTERS = re.compile(r"\s*ALTER\s+TABLE\s", re.IGNORECASE)
_NO_COLUMN = "CONSTRAINT|PRIMARY|FOREIGN|INDEX|KEY|CHECK|NOT|DEFAULT|IDENTITY|EXPRESSION|SYSTEM|TABLE"
_DROPS_PART = re.compile(
    rf"\bDROP\s+(?:(?P<kind>COLUMN|PARTITION)\s+|(?!(?:{_NO_COLUMN}|COLUMN|PARTITION)\b))(?:IF\s+EXISTS\s+)?"
    rf"(?P<names>{_QUALIFIED})",
    re.IGNORECASE,
)
_MAKES = re.compile(
    rf"\s*CREATE\s+(?:TEMP\w*\s+|UNLOGGED\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(?P<name>{_QUALIFIED})", re.IGNORECASE
)
_RENAMES = re.compile(rf"\sRENAME\s+TO\s+(?P<name>{_QUALIFIED})", re.IGNORECASE)


def functions(source: bytes) -> dict[str, ast.stmt | None]:
    """Return what the file's top level has names for: functions, or None for anything else."""
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


def lost_in_code(
    function: ast.stmt | None, *, columns_only: bool = False, unnamed: bool = False, own: bool = True
) -> Iterator[tuple[str, str]]:
    """Give the names of what a function drops by Alembic's operations or by SQL, and what it does.

    :param unnamed: whether what is dropped by a name that is computed counts, too.
    :param own: whether a table counts that the function made by Alembic's operation further up.
    """
    if not isinstance(function, Function):
        return
    made = {} if own else _made(function)
    statements = [node for node in function.body if not _is_docstring(node)]
    for node in (part for statement in statements for part in ast.walk(statement)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "drop_column":
                name = _argument(node, "column_name", -1)
                if name or unnamed:
                    yield name or "a column", f"drops the column {name}" if name else "drops a column"
            elif node.func.attr == "drop_table" and not columns_only:
                name = _argument(node, "table_name", 0)
                if (name or unnamed) and made.get((name, _argument(node, "schema")), node.lineno) >= node.lineno:
                    yield name or "a table", f"drops the table {name}" if name else "drops a table"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not columns_only:
            yield from ((name, what) for name, (what, _) in lost_in_sql(node.value))


def _made(function: Function) -> dict[tuple[str, str], int]:
    """Return the names and schemas of the tables that a function makes by Alembic's operation, with the first line."""
    made: dict[tuple[str, str], int] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "create_table":
            name = _argument(node, "table_name", 0), _argument(node, "schema")
            made[name] = min(node.lineno, made.get(name, node.lineno))
    return made


def _argument(call: ast.Call, keyword: str, position: int | None = None) -> str:
    """Return an argument that is a plain text; an empty one where it is not."""
    given = [word.value for word in call.keywords if word.arg == keyword]
    if not given and position is not None:
        given = call.args[position:][:1]
    return next((node.value for node in given if isinstance(node, ast.Constant) and isinstance(node.value, str)), "")


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def lost_in_sql(sql: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Give the names of what SQL drops, what it does, and in which statement.

    A table that it made itself before, and one whose place another takes afterwards, are left out.
    """
    statements = list(_statements(sql))
    renames = ((place, _RENAMES.search(bare)) for place, (bare, _) in enumerate(statements))
    replaced = {_bare(rename["name"]): place for place, rename in renames if rename}
    made: set[str] = set()
    for place, (bare, statement) in enumerate(statements):
        creation = _MAKES.match(bare)
        if creation:
            made.add(_bare(creation["name"]))
        for name, what in _lost_in_statement(bare):
            if name not in made and replaced.get(name, -1) < place:
                yield name, (what, statement)


def _lost_in_statement(bare: str) -> Iterator[tuple[str, str]]:
    if drop := _DROPS.match(bare):
        for name in map(_bare, drop["names"].split(",")):
            yield name, f"drops the {drop['kind'].lower()} {name}"
    elif empty := _EMPTIES.match(bare):
        for name in map(_bare, empty["names"].split(",")):
            yield name, f"empties the table {name}"
    elif _ALTERS.match(bare):
        for part in _DROPS_PART.finditer(bare):
            name = _bare(part["names"])
            yield name, f"drops the {(part['kind'] or 'column').lower()} {name}"


def _statements(sql: str) -> Iterator[tuple[str, str]]:
    """Give each statement without its comments and the texts that it quotes, and as it is."""
    bare: list[str] = []
    begin = done = 0
    for token in _TOKENS.finditer(sql):
        bare.append(sql[done : token.start()])
        done = token.end()
        if token["end"]:
            yield "".join(bare), sql[begin : token.start()].strip()
            bare, begin = [], done
        elif token["name"]:
            bare.append(token["name"])
        else:
            bare.append("''" if token["text"] else " ")
    bare.append(sql[done:])
    yield "".join(bare), sql[begin:].strip()


def _bare(name: str) -> str:
    return name.strip().rpartition(".")[2].strip('"`[]')
