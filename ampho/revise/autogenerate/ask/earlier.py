"""Reading the last version of a model from git, to see whether a line was changed in place. Nothing is imported."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

from ampho.history.losses import argument, called, string

_SECONDS = 2  # the time that each call of git may take
_VERSIONS = 3


@dataclass(frozen=True)
class Versions:
    """The columns of a model in an earlier and in the present version of its file.

    :ivar before: for each column of the earlier version, in order, what its definition contains.
    :ivar now: the same for the present version.
    """

    before: Mapping[str, str]
    now: Mapping[str, str]

    def places(self, gone: str, new: str) -> tuple[bool, bool] | None:
        """Return whether a column is in the place of another, and whether its definition is the same.

        :return: None unless only the earlier version has the old column, and only the present one has the new column.
        """
        if gone not in self.before or gone in self.now or new not in self.now or new in self.before:
            return None
        in_place = _place(self.before, gone, self.now) == _place(self.now, new, self.before)
        return in_place, self.before[gone] == self.now[new]


def _place(columns: Mapping[str, str], name: str, others: Mapping[str, str]) -> tuple[str, int]:
    """Return the nearest preceding column that both versions have, and the distance from it."""
    before = list(columns)[: list(columns).index(name)]
    kept = [number for number, each in enumerate(before) if each in others]
    return (before[kept[-1]], len(before) - kept[-1]) if kept else ("", len(before) + 1)


class Earlier:
    """The last versions of modules in git, each read once."""

    def __init__(self) -> None:
        self._sources: dict[str, tuple[str, ...]] = {}
        self._tables: dict[str, Mapping[str, str]] = {}

    def versions(self, module: str, table: str, gone: str) -> Versions | None:
        """Return the columns of a table's model, now and in the newest version in git that contains a column.

        :return: None if git does not know the file, or no recent version contains the column.
        """
        try:
            now = model_columns(Path(_file(module)).read_text("utf-8"), table)
        except (OSError, ValueError):
            return None
        columns = (model_columns(source, table) for source in self._of(module))
        return next((Versions(before, now) for before in columns if gone in before), None)

    def tables(self, module: str) -> Mapping[str, str]:
        """Return the names of the tables in the last version of a module, by the names of their classes."""
        if module not in self._tables:
            self._tables[module] = {
                node.name: name for source in self._of(module)[:1] for name, node in _classes(source)
            }
        return self._tables[module]

    def _of(self, module: str) -> tuple[str, ...]:
        """Return the last versions of a module, with the newest first."""
        file = os.path.realpath(_file(module))
        if file not in self._sources:
            folder, name = os.path.split(file)
            commits = _git(folder, "log", f"-{_VERSIONS}", "--format=%H", "--", name).split()
            self._sources[file] = tuple(filter(None, (_git(folder, "show", f"{each}:./{name}") for each in commits)))
        return self._sources[file]


def _file(module: str) -> str:
    return getattr(sys.modules.get(module), "__file__", None) or ""


def _git(folder: str, *arguments: str) -> str:
    """Return what git prints; empty if it fails, is slow, or is not installed."""
    command = ["git", "-C", folder, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=_SECONDS, check=True)  # noqa: S603 (fixed program)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return done.stdout


def model_columns(source: str, table: str) -> dict[str, str]:
    """Return the columns that the source of a module defines for a table, in order, with their definitions."""
    node = next((node for name, node in _classes(source) if name == table), None)
    return {name: text for item in node.body for name, text in _column(item)} if node else {}


@lru_cache(maxsize=64)
def _classes(source: str) -> Sequence[tuple[str, ast.ClassDef]]:
    """Return the classes in the source of a module, each with the name of its table."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ()
    return [(_table_name(node), node) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def _table_name(node: ast.ClassDef) -> str:
    """Return the name of a class's table: ``__tablename__``, or the one that Flask-SQLAlchemy derives from its name."""
    for item in node.body:
        if isinstance(item, ast.Assign) and any(getattr(each, "id", "") == "__tablename__" for each in item.targets):
            return string(item.value)
    words = chain.from_iterable(("_", char.lower()) if char.isupper() else (char,) for char in node.name)
    return "".join(words).lstrip("_")


def _column(item: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield the name of the column that a statement in a class defines, and its definition without the name."""
    target: ast.expr
    if isinstance(item, ast.AnnAssign):
        target, value, annotation = item.target, item.value, ast.dump(item.annotation)
    elif isinstance(item, ast.Assign) and len(item.targets) == 1:
        target, value, annotation = item.targets[0], item.value, ""
    else:
        return
    if not isinstance(target, ast.Name) or target.id.startswith("__"):
        return
    name, rest = target.id, ast.dump(value) if value else ""
    if isinstance(value, ast.Call):
        if called(value) in ("relationship", "backref"):
            return
        first = string(argument(value, "name", 0))
        if first:
            name, rest = first, rest.replace(repr(first), "''")
    yield name, annotation + rest
