"""Finding the names in a Python file that an assignment binds, and those that do not exist."""

from __future__ import annotations

import ast
import builtins
import importlib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Missing:
    """A name that a file uses, although it does not exist.

    :ivar name: the name, with dots.
    :ivar line: the line of the file that uses the name.
    """

    name: str
    line: str


@dataclass
class _Names:
    """The names that a file binds.

    :ivar objects: what the imports of the file bind, by name.
    :ivar others: the names of functions, parameters, and variables.
    :ivar missing: the imported modules and names that do not exist, each with the number of its line.
    """

    objects: dict[str, object] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    missing: list[tuple[str, int]] = field(default_factory=list)


def missing_names(source: str) -> list[Missing]:
    """Return the names that a file uses, and that neither the file nor the modules that it imports define.

    The imports of the file are executed. The attributes of objects other than modules and classes are not checked.

    :raises SyntaxError: if the source is not Python code.
    """
    tree = ast.parse(source)
    names = _bound(tree)
    found = [*names.missing, *_undefined(tree, names)]
    lines = source.splitlines()
    missing = {name: Missing(name, lines[number - 1].strip()) for name, number in reversed(found)}
    return [missing[name] for name in dict.fromkeys(name for name, _ in found)]


def _bound(tree: ast.Module) -> _Names:
    names = _Names()
    for node in ast.walk(tree):
        match node:
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    _bind(names, node, alias)
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                names.others.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.others.add(name)
            case _:
                pass
    return names


def _bind(names: _Names, node: ast.Import | ast.ImportFrom, alias: ast.alias) -> None:
    source = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
    first = alias.name if isinstance(node, ast.ImportFrom) else alias.name.partition(".")[0]
    name = alias.asname or first
    if isinstance(node, ast.ImportFrom) and (node.level or alias.name == "*"):
        names.others.add(name)
        return
    try:
        found = _imported(source)
        whole = isinstance(node, ast.Import) and alias.asname is None
        names.objects[name] = importlib.import_module(first) if whole else found
    except (Exception, SystemExit):  # noqa: BLE001  # importing a module may raise anything
        names.others.add(name)
        names.missing.append((source, node.lineno))


def _imported(dotted: str) -> object:
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError:
        module, _, name = dotted.rpartition(".")
        if not module:
            raise
        return getattr(importlib.import_module(module), name)


def _undefined(tree: ast.Module, names: _Names) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id not in names.objects and node.id not in names.others and not hasattr(builtins, node.id):
                yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and (dotted := _dotted(node)):
            root = dotted.partition(".")[0]
            if root in names.objects and root not in names.others and not _exists(dotted, names.objects):
                yield dotted, node.lineno


def _dotted(node: ast.expr) -> str:
    """Return the text of a name with attributes; an empty string for the attribute of another expression."""
    if isinstance(node, ast.Name):
        return node.id
    value = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{value}.{node.attr}" if isinstance(node, ast.Attribute) and value else ""


def _exists(dotted: str, objects: Mapping[str, object]) -> bool:
    root, *attributes = dotted.split(".")
    found = objects[root]
    for name in attributes:
        if not isinstance(found, types.ModuleType | type):
            return True
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True


def assigned_names(node: ast.stmt) -> set[str]:
    """Return the names that an assignment assigns to; for any other statement, an empty set."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}
