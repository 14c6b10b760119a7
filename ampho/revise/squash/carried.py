"""Finding what the old revisions do besides changing the schema, which the new one can only contain as comments."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from textwrap import dedent

from ampho._text import shown_path
from ampho.history.header import NAMES
from ampho.history.losses import Function, called, calls_in, string
from ampho.history.revision import Revision
from ampho.revise.names import assigned_names

_SCHEMA = frozenset(
    {
        *("add_column", "alter_column", "create_table", "drop_column", "drop_table", "rename_table"),
        *("create_index", "drop_index", "create_unique_constraint", "create_check_constraint", "create_foreign_key"),
        *("create_primary_key", "create_exclude_constraint", "drop_constraint"),
        *("create_table_comment", "drop_table_comment"),
    }
)
"""The operations that only change the schema, and that the database after them therefore shows completely."""

_TYPES = ("Enum", "ENUM", "DOMAIN", "Sequence")
_RUNS = frozenset(
    {
        *("bulk_insert", "execute", "exec_driver_sql", "scalar", "scalars", "add", "add_all", "commit", "flush"),
        *("delete", "merge", "run_async", "run_sync"),
    }
)
_WORD = re.compile(r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*(\w+)", re.DOTALL)
_CREATES = re.compile(
    r"\s*(?:CREATE|ALTER|DROP)\s+(?:OR\s+REPLACE\s+)?(?:\w+\s+)??"
    r"(?P<what>MATERIALIZED\s+VIEW|VIEW|FUNCTION|PROCEDURE|TRIGGER|EXTENSION|POLICY|RULE)\b",
    re.IGNORECASE,
)
_DATA = ("INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "TRUNCATE", "COPY")
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Carried:
    """A statement of an old revision that does something besides changing the schema.

    :ivar revision: the id of the revision.
    :ivar path: the file of the revision, where it is now.
    :ivar line: the number of the line.
    :ivar what: what it is, such as ``data``, ``view``, ``SQL``, or ``code``.
    :ivar code: the statement.
    """

    revision: str
    path: Path
    line: int
    what: str
    code: str

    @property
    def text(self) -> str:
        """The place and the first line of the statement."""
        first, *more = self.code.splitlines()
        shown = first if len(first) <= _LONGEST else f"{first[:_LONGEST]}..."
        return f"{shown_path(self.path)}:{self.line}: {self.what}: {shown}{' ...' if more else ''}"


@dataclass(frozen=True)
class _Source:
    """A revision file, as text and as a syntax tree."""

    revision: Revision
    text: str
    tree: ast.Module

    @classmethod
    def of(cls, revision: Revision) -> _Source | None:
        try:
            source = revision.path.read_bytes()
            encoding, _ = tokenize.detect_encoding(BytesIO(source).readline)
            text = source.decode(encoding).replace("\r\n", "\n")
            return cls(revision, text, ast.parse(text))
        except (OSError, SyntaxError, ValueError):  # which the run reports
            return None

    def code(self, node: ast.stmt) -> str:
        lines = self.text.splitlines()
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        found = lines[first - 1 : node.end_lineno]
        return dedent("\n".join(found)).strip("\n")

    @property
    def upgrade(self) -> ast.stmt | None:
        """What defines ``upgrade()``, which may be an assignment."""
        found = [node for node in self.tree.body if _defines(node, "upgrade")]
        return found[-1] if found else None

    def statements(self) -> list[ast.stmt]:
        """Return the statements of the upgrade that are not plain operations on the schema."""
        upgrade = self.upgrade
        if not isinstance(upgrade, Function):
            return [] if upgrade is None else [upgrade]
        return [node for node in upgrade.body if not _is_schema(node)]

    def helpers(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Return what the file defines outside of its functions and the statements use."""
        names = {name for node in statements for name in _names(node)}
        found: list[ast.stmt] = []
        for node in reversed(self.tree.body):
            bound = {name for name in _bound(node) if name in names}
            if bound and not bound & {"upgrade", "downgrade", "op", "sa", *NAMES}:
                found.insert(0, node)
                names |= _names(node)
        return found


def carried(revision: Revision) -> list[Carried]:
    """Return the statements in the upgrade of a revision that do something besides changing the schema."""
    source = _Source.of(revision)
    if source is None:
        return []
    return [
        Carried(revision.id, revision.path, node.lineno, _what(node), source.code(node))
        for node in source.statements()
        if not _is_preparation(node)
    ]


def block(revision: Revision, place: str, only: Collection[int] | None = None) -> list[str]:
    """Return these statements as lines of comments, with what they need; empty if there are none.

    :param place: the path of the file, as the comment names it.
    :param only: the lines of the statements that the comment contains; by default, it contains all.
    """
    source = _Source.of(revision)
    every = carried(revision)
    found = [each for each in every if only is None or each.line in only]
    if source is None or not found:
        return []
    left_out = {each.line for each in every} - {each.line for each in found}
    statements = [node for node in source.statements() if node.lineno not in left_out]
    lines = [f"# From {place}, line {found[0].line}:"]
    for node in (*source.helpers(statements), *statements):
        lines += [f"#     {line}".rstrip() for line in source.code(node).splitlines()]
    return lines


def words(revision: Revision) -> dict[int, set[str]]:
    """Return the words in each of these statements and in what it uses, such as names of tables, by its line."""
    source = _Source.of(revision)
    if source is None:
        return {}
    statements = source.statements()
    found: dict[int, set[str]] = {}
    for node in statements:
        names = _names(node)
        used = [each for each in statements if _is_preparation(each) and _bound(each) & names]
        parts = [node, *used, *source.helpers([node, *used])]
        found[node.lineno] = {*re.findall(r"\w+", " ".join(map(source.code, parts)))}
    return found


def _is_schema(node: ast.stmt) -> bool:
    """Return whether a statement only changes the schema, or does nothing."""
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="op"), attr=name))):
            return name in _SCHEMA
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Call() as type_, attr="create" | "drop"))):
            return called(type_) in _TYPES
        case ast.With(
            items=[
                ast.withitem(
                    context_expr=ast.Call(func=ast.Attribute(value=ast.Name(id="op"), attr="batch_alter_table")),
                    optional_vars=ast.Name(id=batch),
                )
            ],
            body=body,
        ):
            return all(_is_of_batch(each, batch) for each in body)
    return False


def _is_of_batch(node: ast.stmt, batch: str) -> bool:
    match node:
        case ast.Pass():
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=operation))):
            return name == batch and operation in _SCHEMA
    return False


def _is_preparation(node: ast.stmt) -> bool:
    """Return whether a statement only gives a name to something that other statements use."""
    if isinstance(node, ast.Import | ast.ImportFrom | Function):
        return not (isinstance(node, Function) and node.name == "upgrade")
    if not isinstance(node, ast.Assign | ast.AnnAssign) or "upgrade" in assigned_names(node):
        return False
    return not calls_in(node, *_RUNS)


def _what(node: ast.stmt) -> str:
    """Return what kind of a statement of a revision this is."""
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return "code"
    call = node.value
    if called(call) == "bulk_insert":
        return "data"
    if called(call) != "execute" or not call.args:
        return "code"
    sql = call.args[0]
    text = string(sql) or (string(sql.args[0]) if isinstance(sql, ast.Call) and sql.args else "")
    if not text:
        names = {called(each).upper() for each in calls_in(sql)}
        return "data" if names.intersection(_DATA) else "code"
    word = _WORD.match(text)
    if word and word[1].upper() in _DATA:
        return "data"
    creates = _CREATES.match(text)
    return " ".join(creates["what"].lower().split()) if creates else "SQL"


def _defines(node: ast.stmt, name: str) -> bool:
    return name in _bound(node)


def _bound(node: ast.stmt) -> set[str]:
    """Return the names that a statement at the top level of a file binds."""
    if isinstance(node, Function | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(each.asname or each.name).partition(".")[0] for each in node.names}
    return {*assigned_names(node)}


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
