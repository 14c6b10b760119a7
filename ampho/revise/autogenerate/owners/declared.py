"""Finding the modules that declare objects, such as classes, tables, and views.

The names in the modules say where an object can be found, and the source of a module says whether it declares the
object, or only imports it or gives it another name.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from types import ModuleType
from typing import cast

from ampho.history.losses import called, calls_in
from ampho.revise.names import assigned_names

_LOOKUPS = ("get", "getattr")
"""Functions that return an object that was declared elsewhere."""


class Claim(IntEnum):
    """How a module came to contain an object, from the weakest to the strongest evidence of a declaration."""

    IMPORTED = 0
    RENAMED = 1
    HELD = 2  # in a container or a class that the module fills
    MAPPED = 3  # a ``class`` statement for a table that has another name, too
    MADE = 4  # the value of a call
    DEFINED = 5  # a ``class`` statement


@dataclass(frozen=True, slots=True)
class Place:
    """A module that has an object.

    :ivar module: the name of the module.
    :ivar package: the listed package that contains the module, or None.
    """

    module: str
    package: str | None
    claim: Claim


class Modules:
    """Finds the imported modules that declare objects.

    :param names: the names of the listed packages.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._sources: dict[str, _Source] = {}

    def places(self, wanted: Iterable[object]) -> dict[int, list[Place]]:
        """Return the modules that have the objects, by the id of the object; the strongest claims come first."""
        ids = {id(each) for each in wanted}
        found: dict[int, list[Place]] = {}
        for module in _modules():
            package = package_of(module.__name__, self._names)
            if package is None and ids.isdisjoint(map(id, list(vars(module).values()))):
                continue  # as most modules, whose names would otherwise take most of the time of a comparison
            for name, value in list(vars(module).items()):
                is_held = id(value) not in ids
                items = [value] if not is_held else _items(value, module) if package else ()
                for item in items:
                    if id(item) in ids:
                        claim = self._claim(module, name, item, is_held=is_held)
                        found.setdefault(id(item), []).append(Place(module.__name__, package, claim))
        for places in found.values():
            places.sort(key=lambda place: -place.claim)
        return found

    def _claim(self, module: ModuleType, name: str, item: object, *, is_held: bool) -> Claim:
        """Return the claim of a module to an object. The class of an ordinary model shows it without the source."""
        is_here = isinstance(item, type) and (item.__module__, item.__qualname__) == (module.__name__, name)
        if is_here and getattr(vars(item).get("__table__"), "name", None) == vars(item).get("__tablename__", ""):
            return Claim.DEFINED
        return self._source(module).claim(name, is_held=is_held)

    def writing(self, kind: str, name: str) -> str | None:
        """Return the package that calls a function, such as ``Table``, with a literal name; None if several do."""
        return only(
            package_of(module.__name__, self._names)
            for module in _modules()
            if package_of(module.__name__, self._names) and (kind, name) in self._source(module).calls
        )

    def _source(self, module: ModuleType) -> _Source:
        return self._sources.setdefault(module.__name__, _Source(module))


def only(packages: Iterable[str | None]) -> str | None:
    """Return the package if all are the same; otherwise, None."""
    found = set(packages)
    return found.pop() if len(found) == 1 else None


def package_of(module: str, names: Iterable[str]) -> str | None:
    """Return the longest name that is the module itself or a package that contains it."""
    matches = [name for name in names if module == name or module.startswith(f"{name}.")]
    return max(matches, key=len, default=None)


def _modules() -> Iterator[ModuleType]:
    modules: Mapping[str, object] = sys.modules  # sys.modules may contain anything
    for name, module in sorted(modules.items()):
        if isinstance(module, ModuleType) and module.__name__ == name:
            yield module


def _items(value: object, module: ModuleType) -> Iterable[object]:
    """Return what is in a container, or in a class of the module, except the table to which the class is mapped."""
    if isinstance(value, list | tuple | set | frozenset):
        return cast("Iterable[object]", list(value))
    if isinstance(value, dict):
        return cast("Iterable[object]", list(value.values()))
    if isinstance(value, type) and value.__module__ == module.__name__:
        return [item for key, item in vars(value).items() if key != "__table__" or "__mapper__" not in vars(value)]
    return ()


class _Source:
    """The source of a module, which shows how the module binds its names.

    If the source cannot be read, all objects are considered renamed.
    """

    def __init__(self, module: ModuleType) -> None:
        self._file = str(getattr(module, "__file__", None) or "")

    def _parsed(self) -> ast.Module | None:
        """Return the syntax tree, which is not kept: many large trees would slow down Python's garbage collector."""
        try:
            with open(self._file, "rb") as file:  # noqa: PTH123 (__file__ is a string)
                return ast.parse(file.read())
        except (OSError, SyntaxError, ValueError):
            return None

    @cached_property
    def _claims(self) -> Mapping[str, Claim] | None:
        """The strongest claim to each name that a statement of the module binds; None without a source."""
        tree = self._parsed()
        if tree is None:
            return None
        claims: dict[str, Claim] = {}
        for name, claim in (bound for node in _of_module(tree) for bound in _bound(node)):
            claims[name] = max(claim, claims.get(name, claim))
        return claims

    @cached_property
    def _filled(self) -> frozenset[str]:
        """The names of the containers and classes into which the module puts what a call returns."""
        tree = self._parsed()
        return frozenset(name for node in (ast.walk(tree) if tree else ()) for name in _filled(node))

    @cached_property
    def calls(self) -> frozenset[tuple[str, str]]:
        """The names of the called functions, each with a string that is an argument."""
        return frozenset(
            (called(call), value.value)
            for call in calls_in(self._parsed())
            for value in (*call.args, *(word.value for word in call.keywords))
            if isinstance(value, ast.Constant) and isinstance(value.value, str)
        )

    def claim(self, name: str, *, is_held: bool) -> Claim:
        """Return the claim to a variable, or to what a variable holds."""
        if self._claims is None:
            return Claim.RENAMED
        if is_held:
            return Claim.HELD if name in self._filled else Claim.IMPORTED
        return self._claims.get(name, Claim.IMPORTED if "*" in self._claims else Claim.MADE)


def _of_module(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a module that run on import, and the nodes in functions that bind ``global`` names."""
    for child in ast.iter_child_nodes(node):
        yield child
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            names = {name for part in ast.walk(child) if isinstance(part, ast.Global) for name in part.names}
            yield from (part for part in ast.walk(child) if names.intersection(name for name, _ in _bound(part)))
        elif not isinstance(child, ast.ClassDef | ast.Lambda):
            yield from _of_module(child)


def _bound(node: ast.AST) -> Iterator[tuple[str, Claim]]:
    """Yield the names that a statement or an expression binds, each with the claim."""
    match node:
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (((alias.asname or alias.name).partition(".")[0], Claim.IMPORTED) for alias in names)
        case ast.ClassDef(name=name):
            mapped = [part for part in node.body if "__table__" in assigned_names(part)]
            renames = any(isinstance(part, ast.Assign | ast.AnnAssign) and not _makes(part.value) for part in mapped)
            yield name, Claim.MAPPED if renames else Claim.DEFINED
        case ast.Assign(value=value) | ast.AnnAssign(value=value) | ast.NamedExpr(value=value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((name, Claim.MADE if _makes(value) else Claim.RENAMED) for name in _names(targets))
        case ast.For(target=target) | ast.AsyncFor(target=target):
            yield from ((name, Claim.RENAMED) for name in _names([target]))
        case ast.withitem(optional_vars=target) if target:
            yield from ((name, Claim.MADE) for name in _names([target]))


def _names(targets: Iterable[ast.AST]) -> set[str]:
    """Return the variables among the targets of an assignment."""
    parts = [part for target in targets for part in ast.walk(target)]
    return {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}


def _makes(value: ast.expr | None) -> bool:
    """Return whether a value contains a call that may make an object, rather than look one up."""
    return any(called(call) not in _LOOKUPS for call in calls_in(value))


def _filled(node: ast.AST) -> Iterator[str]:
    """Yield the names of the containers or classes that a statement fills."""
    match node:
        case ast.Assign(targets=targets, value=value) if _makes(value):
            yield from _names(targets)
            roots = [target.value for target in targets if isinstance(target, ast.Subscript | ast.Attribute)]
            yield from (root.id for root in roots if isinstance(root, ast.Name))
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name)), args=values) if any(map(_makes, values)):
            yield name
        case ast.ClassDef(name=name, body=body):
            assigned = [part for part in body if isinstance(part, ast.Assign | ast.AnnAssign)]
            if any(_makes(part.value) for part in assigned):
                yield name
