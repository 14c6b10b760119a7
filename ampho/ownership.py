"""Which package a table belongs to.

In this order: what the table says itself, the package whose name is the longest prefix of its model's module, the
package whose module defines it, and for a table that no model describes any more the package whose revisions made it.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ampho._describe import describe
from ampho.errors import ConfigurationError
from ampho.graph import Graph
from ampho.package import SETTING, MigrationPackage

if TYPE_CHECKING:
    from sqlalchemy import ForeignKey, MetaData, Table
    from sqlalchemy.orm import Mapper

INFO_KEY = "ampho_package"
"""The key in a table's ``info`` that names its package."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """The owner of each table, by the table's key: its name, after its schema and a dot where it has one.

    :ivar models: of tables that the metadata describes.
    :ivar history: of tables that revisions made, whether a model describes them or not.
    :ivar references: of each package with models, the packages that their foreign keys point at.
    :ivar unowned: tables that the metadata describes and nobody owns.
    """

    models: Mapping[str, str]
    history: Mapping[str, str]
    references: Mapping[str, frozenset[str]]
    unowned: tuple[str, ...] = ()

    def owner(self, key: str) -> str | None:
        """Return the package that a table belongs to, or None if nobody owns it."""
        return self.models.get(key) or self.history.get(key)

    def makers(self, key: str) -> set[str]:
        """Return the packages whose revisions a table needs: the one that made it, and the one that has it now."""
        return {owner for owner in (self.history.get(key), self.models.get(key)) if owner is not None}

    def needed_by(self, package: str) -> set[str]:
        """Return the packages that a package's foreign keys lead to, at whatever distance."""
        found: set[str] = set()
        todo = [package]
        while todo:
            new = self.references.get(todo.pop(), frozenset()) - found
            found |= new
            todo += new
        return found


def find_owners(
    packages: Sequence[MigrationPackage], graph: Graph, metadata: MetaData | Sequence[MetaData] | None
) -> Ownership:
    """Return who owns what; imports each package and, where it exists, its ``models`` module first.

    :raises ConfigurationError: if a module cannot be imported, a table names a package that is not configured, or a
        foreign key points nowhere.
    """
    names = [package.name for package in packages]
    for package in packages:
        import_models(package)
    owners: dict[str, str] = {}
    tables = {table.key: table for one in _each(metadata) for table in one.tables.values()}
    mapped = _mapped(names)
    defined = _defined(names)
    for key, table in tables.items():
        owner = _stated(table, names) or mapped.get(table) or defined.get(table)
        if owner is not None:
            owners[key] = owner
    unowned = tuple(sorted(tables.keys() - owners.keys()))
    return Ownership(owners, tables_of_history(graph), _references(tables.values(), owners), unowned)


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
            f"The column {key.parent} points at {key.target_fullname}, which no model describes. Correct it, or list"
            f" the package that has the model in {SETTING}."
        ) from exc


def import_models(package: MigrationPackage) -> None:
    """Import a package, and its ``models`` module if there is one.

    :raises ConfigurationError: if either raises.
    """
    has_models = (package.root / "models.py").is_file() or (package.root / "models" / "__init__.py").is_file()
    name = f"{package.name}.models" if has_models else package.name
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as exc:
        raise ConfigurationError(f"The models of {package.name} cannot be imported: {describe(exc)}.") from exc


def _each(metadata: MetaData | Sequence[MetaData] | None) -> Sequence[MetaData]:
    if metadata is None:
        return ()
    return metadata if isinstance(metadata, Sequence) else (metadata,)


def package_of_module(module: str, names: Iterable[str]) -> str | None:
    """Return the name that is the longest dotted prefix of a module's name."""
    matches = [name for name in names if module == name or module.startswith(f"{name}.")]
    return max(matches, key=len, default=None)


def _stated(table: Table, names: Sequence[str]) -> str | None:
    stated = table.info.get(INFO_KEY)
    if stated is not None and stated not in names:
        raise ConfigurationError(
            f"The table {table.key} says that it belongs to {stated!r}, which is no configured package. Correct its"
            f" info={{'{INFO_KEY}': ...}}."
        )
    return stated


def _mapped(names: Sequence[str]) -> dict[Table, str]:
    """Return the owners of the tables of mapped classes; of a table that several map, the first one's."""
    from sqlalchemy import Table

    owners: dict[Table, str] = {}
    for mapper in _mappers(names):
        owner = package_of_module(mapper.class_.__module__, names)
        shares_its_base_s = mapper.inherits is not None and mapper.inherits.local_table is mapper.local_table
        if owner is not None and isinstance(mapper.local_table, Table) and not shares_its_base_s:
            owners.setdefault(mapper.local_table, owner)
    return owners


def _mappers(names: Sequence[str]) -> list[Mapper[Any]]:
    """Return all mappers of the registries that the packages' modules use, in an order of their own."""
    registries = {
        id(mapper.registry): mapper.registry
        for _, module in _modules(names)
        for value in list(vars(module).values())
        if isinstance(value, type) and (mapper := getattr(value, "__mapper__", None)) is not None
    }
    mappers = [mapper for registry in registries.values() for mapper in registry.mappers]
    return sorted(mappers, key=lambda mapper: (mapper.class_.__module__, mapper.class_.__qualname__))


def _defined(names: Sequence[str]) -> dict[Table, str]:
    """Return the owners of Core tables: the packages of the modules that assign, and not import, them."""
    from sqlalchemy import Table

    found: dict[Table, list[tuple[str, ModuleType]]] = {}
    for package, module in _modules(names):
        for name, value in vars(module).items():
            if isinstance(value, Table) and _assigns(module, name):
                found.setdefault(value, []).append((package, module))
    return {table: places[0][0] for table, places in found.items()}


def _modules(names: Sequence[str]) -> Iterator[tuple[str, ModuleType]]:
    for name, module in sorted(sys.modules.items()):
        package = package_of_module(name, names)
        if package is not None and isinstance(module, ModuleType):
            yield package, module


def _assigns(module: ModuleType, name: str) -> bool:
    try:
        with open(module.__file__ or "", "rb") as file:  # noqa: PTH123 (a module's file is text, not a path of ours)
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return False
    targets = (
        target
        for node in tree.body
        for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
    )
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def tables_of_history(graph: Graph) -> dict[str, str]:
    """Return the tables that the upgrades of all revisions leave, with the packages that made them.

    Read from the calls of ``op.create_table``, ``op.rename_table`` and ``op.drop_table`` in ``upgrade()`` without
    running them: a name that is computed, and SQL, are not seen.
    """
    tables: dict[str, str] = {}
    for revision_id in filter(graph.has_file, graph.ids):
        revision = graph[revision_id]
        try:
            tree = ast.parse(revision.path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        for name, arguments, schema in _table_calls(tree):
            old = _key(arguments[0], schema)
            if name == "create_table":
                tables[old] = revision.package
            elif name == "drop_table":
                tables.pop(old, None)
            elif len(arguments) > 1:
                tables[_key(arguments[1], schema)] = tables.pop(old, revision.package)
    return tables


def _table_calls(tree: ast.Module) -> Iterator[tuple[str, list[str], str | None]]:
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef) or function.name != "upgrade":
            continue
        for node in _calls_in_order(function):
            texts = [item.value for item in node.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
            schema = next((keyword.value for keyword in node.keywords if keyword.arg == "schema"), None)
            if texts:
                name = node.func.attr  # type: ignore[attr-defined]  # an attribute, as _calls_in_order checks
                yield name, texts, str(schema.value) if isinstance(schema, ast.Constant) and schema.value else None


def _calls_in_order(function: ast.FunctionDef) -> list[ast.Call]:
    calls = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("create_table", "rename_table", "drop_table")
    ]
    return sorted(calls, key=lambda node: (node.lineno, node.col_offset))


def _key(table: str, schema: object) -> str:
    return f"{schema}.{table}" if schema else table
