"""Finding what the revisions of the packages create, from their files, which are parsed but not executed."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ampho.history.graph import Graph
from ampho.history.losses import Function, argument, called, calls_in, string
from ampho.revise.autogenerate.owners.keys import join_key

_NAMES = ("name", "enum_name", "signature")
"""The arguments that name an object other than a table, such as a type or a view."""

_READ = {
    *("create_table", "drop_table", "rename_table", "batch_alter_table", "add_column"),
    *("create_foreign_key", "ForeignKey", "ForeignKeyConstraint"),
}
"""The functions in a revision that create, drop, or rename tables, columns, or foreign keys."""


@dataclass
class Created:
    """The tables and other objects that exist after the upgrades of revisions.

    Only calls to operations in ``upgrade()`` count. Computed names and SQL are ignored.

    :ivar tables: for each table, the package that created it.
    :ivar columns: for each table, the columns that were added to it, each with the package that added it.
    :ivar objects: for each type, view, or other object, the package whose revision was the first one to name it.
    :ivar users: for each table, the packages that created a foreign key to it, each with the referenced column.
    :ivar code: the code of the revisions.
    :ivar multidb: the ids of revisions with a function for each bind, as ``flask db init --multidb`` makes them.
    """

    tables: dict[str, str] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)
    users: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    code: list[bytes] = field(default_factory=list)
    multidb: list[str] = field(default_factory=list)
    _batch: str = ""

    @classmethod
    def by(cls, graph: Graph, has_run: Callable[[str], bool] = lambda _: True) -> Created:
        """Return what exists after the upgrades of the revisions for which a function returns true."""
        found = cls()
        for revision_id in filter(graph.has_file, filter(has_run, graph.ids)):
            revision = graph[revision_id]
            try:
                code = revision.path.read_bytes()
                tree = ast.parse(code)
            except (OSError, SyntaxError, ValueError):
                continue
            found.code.append(code)
            if any(isinstance(each, ast.FunctionDef) and _is_of_multidb(each) for each in tree.body):
                found.multidb.append(revision_id)
            for call in _calls_in_order(tree):
                found.read(call, revision.package)
        return found

    @classmethod
    def ever(cls, graph: Graph, revision_ids: Iterable[str]) -> dict[str, str]:
        """Return the tables that revisions create, even if others drop or rename them, each with its package."""
        return {
            table: package
            for revision_id in revision_ids
            for table, package in cls.by(graph, revision_id.__eq__).tables.items()
        }

    def names(self, name: str) -> bool:
        """Return whether a revision contains a name as a word, in its code, its SQL, or a comment."""
        word = re.compile(rb"(?<!\w)%b(?!\w)" % re.escape(name.encode()))
        return any(word.search(code) for code in self.code)

    def read(self, call: ast.Call, package: str) -> None:
        """Record what a call in a revision of a package creates, drops, or renames."""
        self._add_objects(call, package)
        name = called(call)
        if name not in _READ:
            return
        schema = string(argument(call, "schema"))
        table = string(argument(call, "old_table_name" if name == "rename_table" else "table_name", 0))
        new = string(argument(call, "new_table_name", 1))
        key = join_key(schema, table)
        match name:
            case "create_table" | "drop_table" if table:
                for known in (self.users, self.columns, self.tables):
                    known.pop(key, None)
                if name == "create_table":
                    self.tables[key] = package
            case "rename_table" if table and new:
                new = join_key(schema, new)
                self.tables[new] = self.tables.pop(key, package)
                self.users[new] = self.users.pop(key, set())
                self.columns[new] = self.columns.pop(key, {})
            case "batch_alter_table":
                self._batch = key
            case "add_column":
                self._add_columns(call, key if _is_of_op(call) else self._batch, package)
            case "create_foreign_key" | "ForeignKey" | "ForeignKeyConstraint":
                for target, column in _targets(call):
                    self.users.setdefault(target, set()).add((package, column))

    def _add_objects(self, call: ast.Call, package: str) -> None:
        for word in call.keywords:
            if word.arg in _NAMES and (name := string(word.value)):
                self.objects.setdefault(name, package)

    def _add_columns(self, call: ast.Call, key: str, package: str) -> None:
        names = [string(argument(each, "name", 0)) for each in call.args if isinstance(each, ast.Call)]
        self.columns.setdefault(key, {}).update(dict.fromkeys(filter(None, names), package))


def _is_of_multidb(function: ast.FunctionDef) -> bool:
    return function.name == "upgrade" and [each.arg for each in function.args.args] == ["engine_name"]


def _calls_in_order(tree: ast.Module) -> list[ast.Call]:
    upgrades = [node for node in tree.body if isinstance(node, Function) and node.name == "upgrade"]
    return [call for function in upgrades for call in calls_in(function)]


def _is_of_op(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "op"


def _strings(node: ast.expr | None) -> list[str]:
    return [string(item) for item in node.elts] if isinstance(node, ast.List | ast.Tuple) else []


def _targets(call: ast.Call) -> Iterator[tuple[str, str]]:
    """Yield the tables and columns that a call's foreign key references, if they are literals."""
    if called(call) == "create_foreign_key":
        # The function in ``op`` has one more parameter than the method of a batch: the table with the foreign key.
        of_op = _is_of_op(call)
        table = string(argument(call, "referent_table", 2 if of_op else 1))
        schema = string(argument(call, "referent_schema"))
        columns = _strings(argument(call, "remote_cols", 4 if of_op else 3))
        yield from ((join_key(schema, table), column) for column in columns if table)
        return
    if called(call) == "ForeignKey":
        written = [string(argument(call, "column", 0))]
    else:
        written = _strings(argument(call, "refcolumns", 1))
    for target in written:
        table, _, column = target.rpartition(".")
        if table:
            yield table, column
