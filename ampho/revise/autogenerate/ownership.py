"""Finding the package that owns a table.

The owner is the first of these: the package that the table's ``info`` names; the innermost package that contains the
module of the table's model; the package whose module defines the table; and, for a table without a model, the package
whose revisions created it.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ampho._text import describe
from ampho.errors import ConfigurationError
from ampho.history.graph import Graph
from ampho.history.losses import Function, argument, string
from ampho.history.package import SETTING, MigrationPackage

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import MigrateOperation
    from sqlalchemy import ForeignKey, MetaData, Table
    from sqlalchemy.orm import Mapper

INFO_KEY = "ampho_package"
"""The key in a table's ``info`` that names its package."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """The owners of tables. The key of a table is its name, prefixed with its schema and a dot if it has one.

    :ivar models: the owners of the tables in the metadata.
    :ivar history: the owners of tables that revisions created, with or without a model.
    :ivar users: for each of these tables, the packages whose revisions created a foreign key to it, even if the foreign
        key no longer exists, each with the referenced column.
    :ivar references: for each package with models, the packages that its foreign keys reference.
    :ivar unowned: the tables in the metadata without an owner.
    """

    models: Mapping[str, str]
    history: Mapping[str, str]
    users: Mapping[str, set[tuple[str, str]]]
    references: Mapping[str, frozenset[str]]
    unowned: tuple[str, ...] = ()

    def owner(self, key: str) -> str | None:
        """Return the package that owns a table, or None."""
        return self.models.get(key) or self.history.get(key)

    def users_of(self, key: str, column: str = "") -> set[str]:
        """Return the packages whose revisions created a foreign key to a table, or only to one of its columns."""
        return {package for package, target in self.users.get(key, ()) if column in ("", target)}

    def moved(self) -> dict[str, dict[str, str]]:
        """Return, for each package, the tables with models that another package created, each with that package."""
        found: dict[str, dict[str, str]] = {}
        for key, owner in sorted(self.models.items()):
            maker = self.history.get(key, owner)
            if maker != owner:
                found.setdefault(owner, {})[key] = maker
        return found

    def needed_by(self, package: str) -> set[str]:
        """Return the packages that a package's foreign keys reference, directly or indirectly."""
        found: set[str] = set()
        todo = [package]
        while todo:
            new = self.references.get(todo.pop(), frozenset()) - found
            found |= new
            todo += new
        return found


@dataclass
class ObjectOwners:
    """The packages that own objects other than tables, such as the enum types that plug-ins for Alembic compare.

    A plug-in compares all types of the schema. A type belongs to each package with a table that uses the type, in the
    models or in the database. An operation without the name of an object belongs to all packages.

    :ivar owners: the owners of tables.
    :ivar autogen: the context of the comparison.
    :ivar packages: the packages that are compared.
    :ivar present: the keys of their tables in the database.
    """

    owners: Ownership
    autogen: AutogenContext
    packages: Collection[str]
    present: Sequence[str]

    def of(self, operation: MigrateOperation) -> Collection[str]:
        """Return the packages that need an operation."""
        name = getattr(operation, "name", None)
        if name is None or type(operation).__module__.startswith("alembic."):
            return self.packages
        return self._users_of_types.get(str(name), ())

    @cached_property
    def _users_of_types(self) -> Mapping[str, Collection[str]]:
        """The packages that use each named type."""
        columns = [
            (self.owners.owner(table.key), column.type)
            for table in self.autogen.table_key_to_table.values()
            for column in table.columns
        ]
        columns += [
            (self.owners.owner(key), column["type"])
            for key in self.present
            for schema, name in [split_key(key)]
            for column in self.autogen.inspector.get_columns(name, schema)
        ]
        users: dict[str, set[str]] = {}
        for package, type_ in columns:
            name = getattr(getattr(type_, "item_type", type_), "name", None)  # an array has an item type
            if name and package:
                users.setdefault(str(name), set()).add(package)
        return users


def name_tables(keys: Sequence[str]) -> str:
    """Return the names of tables as a phrase."""
    return f"the table{'s' if len(keys) > 1 else ''} {', '.join(keys)}"


def split_key(key: str) -> tuple[str | None, str]:
    """Return the schema and the name in the key of a table."""
    schema, _, name = key.rpartition(".")
    return schema or None, name


def find_owners(
    packages: Sequence[MigrationPackage], graph: Graph, metadata: MetaData | Sequence[MetaData] | None
) -> Ownership:
    """Import each package, or its ``models`` module if there is one, and return the owners of all tables.

    :raises ConfigurationError: if a module cannot be imported, the ``info`` of a table names a package that is not
        listed, or a foreign key references a table without a model.
    """
    names = [package.name for package in packages]
    for package in packages:
        _import_models(package)
    every = metadata if isinstance(metadata, Sequence) else [] if metadata is None else [metadata]
    tables = {table.key: table for each in every for table in each.tables.values()}
    mapped, defined = _mapped(names), _defined(names)
    found = {key: _stated(table, names) or mapped.get(table) or defined.get(table) for key, table in tables.items()}
    owners = {key: owner for key, owner in found.items() if owner is not None}
    history = _History.of(graph)
    unowned = tuple(sorted(tables.keys() - owners.keys()))
    return Ownership(owners, history.tables, history.users, _references(tables.values(), owners), unowned)


def _references(tables: Iterable[Table], owners: Mapping[str, str]) -> dict[str, frozenset[str]]:
    references: dict[str, set[str]] = {}
    for table in tables:
        for key in table.foreign_keys:
            owner, target = owners.get(table.key), owners.get(_referred(key))
            if owner is not None and target is not None and owner != target:
                references.setdefault(owner, set()).add(target)
    return {owner: frozenset(targets) for owner, targets in references.items()}


def _referred(key: ForeignKey) -> str:
    from sqlalchemy.exc import NoReferenceError

    try:
        return str(key.column.table.key)
    except NoReferenceError as exc:
        raise ConfigurationError(
            f"The column {key.parent} references {key.target_fullname}, which does not exist in any model. Correct the"
            f" foreign key, or add the package that defines this table to {SETTING}."
        ) from exc


def _import_models(package: MigrationPackage) -> None:
    has_models = (package.root / "models.py").is_file() or (package.root / "models" / "__init__.py").is_file()
    name = f"{package.name}.models" if has_models else package.name
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as exc:
        raise ConfigurationError(f"The models of {package.name} cannot be imported: {describe(exc)}.") from exc


def _package_of(module: str, names: Iterable[str]) -> str | None:
    """Return the longest name that is the module itself or a package that contains it."""
    matches = [name for name in names if module == name or module.startswith(f"{name}.")]
    return max(matches, key=len, default=None)


def _stated(table: Table, names: Sequence[str]) -> str | None:
    stated = table.info.get(INFO_KEY)
    if stated is not None and stated not in names:
        raise ConfigurationError(
            f"The info of the table {table.key} names {stated!r}, which is not a listed package. Correct"
            f" info={{'{INFO_KEY}': ...}}."
        )
    return stated


def _mapped(names: Sequence[str]) -> dict[Table, str]:
    """Return the owners of mapped tables. If several classes are mapped to a table, the first class decides."""
    from sqlalchemy import Table

    owners: dict[Table, str] = {}
    for mapper in _mappers(names):
        owner = _package_of(mapper.class_.__module__, names)
        has_table_of_base = mapper.inherits is not None and mapper.inherits.local_table is mapper.local_table
        if owner is not None and isinstance(mapper.local_table, Table) and not has_table_of_base:
            owners.setdefault(mapper.local_table, owner)
    return owners


def _mappers(names: Sequence[str]) -> list[Mapper[Any]]:
    """Return the mappers of all registries that the modules of the packages use, sorted by the names of the classes."""
    registries = {
        id(mapper.registry): mapper.registry
        for _, module in _modules(names)
        for value in list(vars(module).values())
        if isinstance(value, type) and (mapper := getattr(value, "__mapper__", None)) is not None
    }
    mappers = [mapper for registry in registries.values() for mapper in registry.mappers]
    return sorted(mappers, key=lambda mapper: (mapper.class_.__module__, mapper.class_.__qualname__))


def _defined(names: Sequence[str]) -> dict[Table, str]:
    """Return the owners of Core tables: the packages of the modules that assign them, rather than only import them."""
    from sqlalchemy import Table

    found: dict[Table, str] = {}
    for package, module in _modules(names):
        for name, value in vars(module).items():
            if isinstance(value, Table) and _assigns(module, name):
                found.setdefault(value, package)
    return found


def _modules(names: Sequence[str]) -> Iterator[tuple[str, ModuleType]]:
    for name, module in sorted(sys.modules.items()):
        package = _package_of(name, names)
        if package is not None and isinstance(module, ModuleType):
            yield package, module


def _assigns(module: ModuleType, name: str) -> bool:
    try:
        with open(module.__file__ or "", "rb") as file:  # noqa: PTH123 (__file__ is a string)
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return False
    return any(name in assigned_names(node) for node in tree.body)


def assigned_names(node: ast.stmt) -> set[str]:
    """Return the names that an assignment assigns to; for any other statement, an empty set."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


@dataclass
class _History:
    """The tables that exist after all upgrades, according to the revision files, which are parsed but not executed.

    Only calls to Alembic's operations in ``upgrade()`` count. Computed names and SQL are ignored.

    :ivar tables: for each table, the package that created it.
    :ivar users: for each table, the packages that created a foreign key to it, each with the referenced column.
    """

    tables: dict[str, str] = field(default_factory=dict)
    users: dict[str, set[tuple[str, str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph) -> _History:
        found = cls()
        for revision_id in filter(graph.has_file, graph.ids):
            revision = graph[revision_id]
            try:
                tree = ast.parse(revision.path.read_bytes())
            except (OSError, SyntaxError, ValueError):
                continue
            for call in _calls_in_order(tree):
                found.read(call, revision.package)
        return found

    def read(self, call: ast.Call, package: str) -> None:
        name, schema = _name(call), string(argument(call, "schema"))
        table, new = string(argument(call, "table_name", 0)), string(argument(call, "new_table_name", 1))
        if name == "rename_table":
            table = string(argument(call, "old_table_name", 0))
        key = _key(table, schema)
        match name:
            case "create_table" | "drop_table" if table:
                self.users.pop(key, None)
                self.tables.pop(key, None)
                if name == "create_table":
                    self.tables[key] = package
            case "rename_table" if table and new:
                self.tables[_key(new, schema)] = self.tables.pop(key, package)
                self.users[_key(new, schema)] = self.users.pop(key, set())
            case "create_foreign_key" | "ForeignKey" | "ForeignKeyConstraint":
                for target, column in _targets(call):
                    self.users.setdefault(target, set()).add((package, column))


def _calls_in_order(tree: ast.Module) -> list[ast.Call]:
    calls = [
        node
        for function in tree.body
        if isinstance(function, Function) and function.name == "upgrade"
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
    ]
    return sorted(calls, key=lambda node: (node.lineno, node.col_offset))


def _name(call: ast.Call) -> str:
    return getattr(call.func, "attr", "") or getattr(call.func, "id", "")


def _strings(node: ast.expr | None) -> list[str]:
    return [string(item) for item in node.elts] if isinstance(node, ast.List | ast.Tuple) else []


def _targets(call: ast.Call) -> Iterator[tuple[str, str]]:
    """Yield the tables and columns that a call's foreign key references, if they are literals."""
    if _name(call) == "create_foreign_key":
        # The function in ``op`` has one more parameter than the method of a batch: the table with the foreign key.
        of_op = isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "op"
        table = string(argument(call, "referent_table", 2 if of_op else 1))
        schema = string(argument(call, "referent_schema"))
        columns = _strings(argument(call, "remote_cols", 4 if of_op else 3))
        yield from ((_key(table, schema), column) for column in columns if table)
        return
    if _name(call) == "ForeignKey":
        written = [string(argument(call, "column", 0))]
    else:
        written = _strings(argument(call, "refcolumns", 1))
    for target in written:
        table, _, column = target.rpartition(".")
        if table:
            yield table, column


def _key(table: str, schema: str) -> str:
    return f"{schema}.{table}" if schema else table
