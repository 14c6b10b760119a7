"""Running Alembic's autogenerate on the tables of one package.

This is the only file that uses private names of autogenerate:

- ``compare._populate_migration_script`` compares the models with the database. The public ``produce_migrations`` does,
  too, but does not return its context, which rendering needs.
- ``render._render_python_into_templatevars`` renders the result.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from alembic.autogenerate import compare, render
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from sqlalchemy import ForeignKeyConstraint, MetaData, Table, inspect
from sqlalchemy.exc import InvalidRequestError

from ampho.migrate.alembic import Body

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import ForeignKey

_TEMPLATE_NAMES = frozenset({"op", "sa"})


class Comparison:
    """The differences between the database and the models in the tables of one package.

    :param context: the context that ``env.py`` configured, whose filters and hooks apply.
    :param is_own: returns whether the package owns the table with the given key.
    """

    def __init__(self, context: MigrationContext, is_own: Callable[[str], bool]) -> None:
        self._context = context
        self._is_own = is_own
        self._seen: list[str] = []  # the tables in the database, without those that the user's include_name excludes
        self._of_dropped_tables: list[ops.ModifyTableOps] = []
        options = self._filtered(context.opts)
        self._script = ops.MigrationScript(None, ops.UpgradeOps([]), ops.DowngradeOps([]))
        self._upgrade.upgrade_token = options["upgrade_token"]
        self._downgrade.downgrade_token = options["downgrade_token"]
        self._autogen = AutogenContext(context, opts=options)
        compare._populate_migration_script(self._autogen, self._script)
        self._leave_out_foreign_types()
        self._order_drops()
        if context.dialect.supports_alter:
            self._make_altering_keys()

    def _leave_out_foreign_types(self) -> None:
        """Remove the changes to named types, such as enums, that no table of the package uses.

        Plug-ins for Alembic compare all types of the schema. A type belongs to the package if a table of the package
        uses it, in the models or in the database.
        """
        found = [operation for operation in self._upgrade.ops if not type(operation).__module__.startswith("alembic.")]
        if not found:
            return
        own = self._names_of_own_types()
        others = [operation for operation in found if getattr(operation, "name", None) not in own | {None}]
        self._upgrade.ops = [operation for operation in self._upgrade.ops if operation not in others]
        self._reverse()

    def _names_of_own_types(self) -> set[str]:
        metadata = self._context.opts["target_metadata"]
        declared = [
            column.type
            for each in (metadata if isinstance(metadata, (list, tuple)) else [metadata])
            for table in each.tables.values()
            if self._is_own(table.key)
            for column in table.columns
        ]
        inspector = inspect(self._context.connection)
        present = [
            column["type"]
            for schema, name in map(_split, filter(self._is_own, self._seen))
            for column in inspector.get_columns(name, schema)
        ]
        items = [getattr(item, "item_type", item) for item in (*declared, *present)]  # an array has an item type
        return {str(item.name) for item in items if getattr(item, "name", None)}

    def _order_drops(self) -> None:
        """Sort the operations so that a table is dropped after the dropped tables and foreign keys that reference it.

        Alembic drops tables before it changes others, in an arbitrary order, and drops an index before the foreign key
        for which MariaDB needs the index. The indexes of a dropped table are not dropped separately, because MariaDB
        may reject that. Other tables are changed later, because the changes may reuse the names of those indexes.
        """
        found = self._upgrade.ops
        drops = {_key(operation): operation for operation in found if isinstance(operation, ops.DropTableOp)}
        changes = [operation for operation in found if isinstance(operation, ops.ModifyTableOps)]
        self._of_dropped_tables = [operation for operation in changes if _key(operation) in drops]
        for operation in changes:
            operation.ops.sort(key=_drops_key, reverse=True)
        if drops:
            moved = {*map(id, drops.values()), *map(id, self._of_dropped_tables)}
            first = next(number for number, operation in enumerate(found) if id(operation) in moved)
            after = [operation for operation in found[first:] if id(operation) not in moved]
            changed = [change for change in after if isinstance(change, ops.ModifyTableOps)]
            keys = [end for change in changed for end in _dropped_keys(change, drops)]
            order, circular = _children_first(drops)
            if self._context.dialect.supports_alter:
                keys += [_drop_keys(drops[key], target) for key, target in circular]
            left = [change for change in after if not _is_empty_change(change)]
            found[first:] = [*keys, *(drops[key] for key in order), *left]
        self._reverse()

    def _reverse(self) -> None:
        """Derive the downgrade from the upgrade again.

        The downgrade creates the indexes of the tables that it creates, but does not drop the indexes of the tables
        that it drops.
        """
        self._upgrade.reverse_into(self._downgrade)
        drops = {_key(operation) for operation in self._downgrade.ops if isinstance(operation, ops.DropTableOp)}
        self._downgrade.ops[:] = [item for item in self._downgrade.ops if not _drops_indexes(item, drops)]
        for operation in self._of_dropped_tables:
            keys = [_key(made) if isinstance(made, ops.CreateTableOp) else "" for made in self._downgrade.ops]
            if _key(operation) in keys:
                self._downgrade.ops.insert(keys.index(_key(operation)) + 1, operation.reverse())

    def _make_altering_keys(self) -> None:
        """Create foreign keys that have ``use_alter``, which ``op.create_table`` omits if ALTER TABLE can add them.

        They are created with the table, or at the end if they reference another table that the revision creates.
        """
        made = [operation for operation in self._upgrade.ops if isinstance(operation, ops.CreateTableOp)]
        names = {_key(operation) for operation in made}
        for operation in made:
            keys = [item for item in operation.columns if isinstance(item, ForeignKeyConstraint) and item.use_alter]
            for item in keys:
                items = [other for other in operation.columns if other is not item]
                if (names - {_key(operation)}).intersection(map(_target, item.elements)):
                    key = ops.CreateForeignKeyOp.from_constraint(item)
                    self._upgrade.ops.append(ops.ModifyTableOps(operation.table_name, [key], schema=operation.schema))
                else:
                    items.append(_without_alter(item))
                operation.columns = items
        self._reverse()

    def _filtered(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options with filters that exclude tables of other packages, in addition to the user's."""
        users_name, users_object = options.get("include_name"), options.get("include_object")

        def include_name(name: str | None, type_: str, parents: dict[str, Any]) -> bool:
            wanted = users_name is None or bool(users_name(name, type_, parents))
            if type_ != "table" or not wanted:
                return wanted
            self._seen.append(str(parents.get("schema_qualified_table_name") or name))
            return self._is_own(self._seen[-1])

        def include_object(item: Any, name: str, type_: str, reflected: bool, other: Any) -> bool:  # noqa: ANN401, FBT001 (Alembic's signature)
            table: Table | None = item if type_ == "table" else getattr(item, "table", None)
            if table is not None and not self._is_own(table.key):
                return False
            return users_object is None or bool(users_object(item, name, type_, reflected, other))

        return {**options, "include_name": include_name, "include_object": include_object}

    @property
    def _upgrade(self) -> ops.UpgradeOps:
        return self._script.upgrade_ops_list[-1]

    @property
    def _downgrade(self) -> ops.DowngradeOps:
        return self._script.downgrade_ops_list[-1]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return self._upgrade.is_empty()

    def others(self) -> list[str]:
        """Return the database's tables that the package does not own, except those that the user excludes."""
        include_object = self._context.opts.get("include_object") or (lambda *_: True)
        split = {key: _split(key) for key in self._seen if not self._is_own(key)}
        tables = {key: Table(name, MetaData(), schema=schema) for key, (schema, name) in split.items()}
        return [key for key, table in tables.items() if include_object(table, table.name, "table", True, None)]  # noqa: FBT003 (Alembic's signature)

    def has_table(self, key: str) -> bool:
        """Return whether the database has a table."""
        schema, name = _split(key)
        return inspect(self._context.connection).has_table(name, schema)

    def references(self) -> set[str]:
        """Return the keys of the tables that new foreign keys reference."""
        return {key for operation in self._operations() for key in _targets(operation)}

    def changed(self) -> set[str]:
        """Return the keys of the existing tables that change or are dropped."""
        found = [item for item in self._upgrade.ops if isinstance(item, (ops.ModifyTableOps, ops.DropTableOp))]
        return set(map(_key, found))

    def removed(self) -> Iterator[tuple[str, str]]:
        """Yield the table and the name of each dropped or renamed column; for a whole table, the name is empty."""
        for operation in self._operations():
            if isinstance(operation, ops.DropTableOp | ops.RenameTableOp):
                yield _key(operation), ""
            if isinstance(operation, ops.DropColumnOp):
                yield _key(operation), operation.column_name
            if isinstance(operation, ops.AlterColumnOp) and operation.modify_name:
                yield _key(operation), operation.column_name

    def leave_out_references(self, keys: set[str]) -> None:
        """Remove the foreign keys to the given tables. A later revision will add them."""
        for container in self._containers(self._upgrade):
            left_out = [key for key in container.ops if isinstance(key, ops.CreateForeignKeyOp)]
            left_out = [key for key in left_out if not keys.isdisjoint(_targets(key))]
            container.ops[:] = [operation for operation in container.ops if operation not in left_out]
            for operation in container.ops:
                if isinstance(operation, ops.CreateTableOp):
                    operation.columns = [item for item in operation.columns if not _references(item, keys)]
        self._upgrade.ops[:] = [operation for operation in self._upgrade.ops if not _is_empty_change(operation)]
        self._reverse()

    def apply_users_hook(self, rows: tuple[str, ...]) -> None:
        """Call the user's ``process_revision_directives``, which may change or discard the changes."""
        hook = self._context.opts.get("process_revision_directives")
        if hook is not None:
            directives = [self._script]
            hook(self._context, rows, directives)
            if directives:
                self._script = directives[0]
            else:
                self._upgrade.ops.clear()
                self._downgrade.ops.clear()

    def descriptions(self) -> list[str]:
        """Return the changes as Python code, one line each."""
        as_rendered = self._autogen.opts
        self._autogen.opts = {**as_rendered, "render_as_batch": False}
        try:
            return [
                " ".join(text.split())
                for operation in self._upgrade.ops
                for text in render.render_op(self._autogen, operation)
            ]
        finally:
            self._autogen.opts = as_rendered

    def body(self) -> Body:
        """Return the changes as the bodies of a revision's functions."""
        texts: dict[str, Any] = {}
        self._autogen.imports = set(self._script.imports)
        render._render_python_into_templatevars(self._autogen, self._script, texts)
        upgrades = _without_remarks(texts[self._upgrade.upgrade_token])
        downgrades = _without_remarks(texts[self._downgrade.downgrade_token])
        imports = {line for line in texts["imports"].splitlines() if line}
        for code in (upgrades, downgrades):
            imports |= _missing_imports(code, imports)
        return Body(upgrades, downgrades, "\n".join(sorted(imports)), self._context.opts)

    def _operations(self) -> Iterator[ops.MigrateOperation]:
        for container in self._containers(self._upgrade):
            yield from container.ops

    def _containers(self, container: ops.OpContainer) -> Iterator[ops.OpContainer]:
        yield container
        for operation in container.ops:
            if isinstance(operation, ops.OpContainer):
                yield from self._containers(operation)


def _split(key: str) -> tuple[str | None, str]:
    """Return the schema and the name in the key of a table."""
    schema, _, name = key.rpartition(".")
    return schema or None, name


def _key(operation: ops.CreateTableOp | ops.ModifyTableOps | ops.DropTableOp | ops.AlterTableOp) -> str:
    return f"{operation.schema}.{operation.table_name}" if operation.schema else operation.table_name


def _drops_indexes(operation: ops.MigrateOperation, tables: set[str]) -> bool:
    """Return whether an operation only drops indexes of one of the given tables."""
    if not isinstance(operation, ops.ModifyTableOps) or _key(operation) not in tables:
        return False
    return all(isinstance(each, ops.DropIndexOp) for each in operation.ops)


def _drops_key(operation: ops.MigrateOperation) -> bool:
    """Return whether an operation drops a foreign key."""
    return isinstance(operation, ops.DropConstraintOp) and operation.constraint_type == "foreignkey"


def _dropped_keys(change: ops.ModifyTableOps, drops: Mapping[str, object]) -> Iterator[ops.ModifyTableOps]:
    """Move operations that drop foreign keys to dropped tables out of a change, and yield them as a new change."""
    ends = [end for end in change.ops if _drops_key(end) and not drops.keys().isdisjoint(_targets(end.reverse()))]
    if ends:
        change.ops[:] = [other for other in change.ops if other not in ends]
        yield ops.ModifyTableOps(change.table_name, ends, schema=change.schema)


def _children_first(drops: Mapping[str, ops.DropTableOp]) -> tuple[Sequence[str], Sequence[tuple[str, str]]]:
    """Return the keys of the dropped tables, each before the tables that it references, and pairs of tables in cycles.

    The foreign keys from the first table of a pair to the second must be dropped before either table.
    """
    waits_for: dict[str, list[str]] = {key: [] for key in sorted(drops)}
    for key in waits_for:
        for target in dict.fromkeys(_targets(drops[key].reverse())):
            if target in waits_for and target != key:
                waits_for[target].append(key)
    circular: list[tuple[str, str]] = []
    while True:
        try:
            return tuple(TopologicalSorter(waits_for).static_order()), circular
        except CycleError as exc:
            key, target = exc.args[1][:2]
            waits_for[target].remove(key)
            circular.append((key, target))


def _drop_keys(drop: ops.DropTableOp, target: str) -> ops.ModifyTableOps:
    """Return an operation that drops the foreign keys from a dropped table to another, before both are dropped."""
    table = cast("ops.CreateTableOp", drop._reverse)  # the table as the comparison found it
    ends = [ops.DropConstraintOp.from_constraint(key) for key in table.columns if _references(key, {target})]
    table.columns = [item for item in table.columns if not _references(item, {target})]
    return ops.ModifyTableOps(drop.table_name, ends, schema=drop.schema)


def _references(item: object, keys: set[str]) -> TypeGuard[ForeignKeyConstraint]:
    """Return whether an item of a table is a foreign key to one of the given tables."""
    return isinstance(item, ForeignKeyConstraint) and not keys.isdisjoint(map(_target, item.elements))


def _is_empty_change(operation: ops.MigrateOperation) -> bool:
    return isinstance(operation, ops.ModifyTableOps) and operation.is_empty()


def _without_alter(constraint: ForeignKeyConstraint) -> ForeignKeyConstraint:
    copy = constraint._copy()
    copy.use_alter = False
    for element in copy.elements:
        element.use_alter = False
    return copy


def _targets(operation: ops.MigrateOperation) -> Iterable[str]:
    """Return the keys of the tables that an operation references."""
    if isinstance(operation, ops.CreateForeignKeyOp):
        schema = operation.kw.get("referent_schema")
        return [f"{schema}.{operation.referent_table}" if schema else operation.referent_table]
    if isinstance(operation, ops.CreateTableOp):
        keys = [item for item in operation.columns if isinstance(item, ForeignKeyConstraint)]
        return [_target(element) for key in keys for element in key.elements]
    if isinstance(operation, ops.AddColumnOp):
        return [_target(element) for element in operation.column.foreign_keys]
    return []


def _target(element: ForeignKey) -> str:
    try:
        return str(element.column.table.key)
    except InvalidRequestError:  # The column comes from the user's hook, and the referenced table is not known.
        return element.target_fullname.rpartition(".")[0]


def _without_remarks(text: str) -> str:
    """Return rendered code without the comments that Alembic puts around it."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("# ###")).strip()


def _missing_imports(code: str, imports: Iterable[str]) -> set[str]:
    """Return the missing imports of modules that the code names in full, such as those of the app's own types."""
    bound = set(_TEMPLATE_NAMES)
    for node in ast.walk(ast.parse("\n".join(imports))):
        if isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
    found: set[str] = set()
    tree = ast.parse(f"if True:\n    {code}")  # the first line of a body lacks the indentation of the others
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            if dotted.partition(".")[0] not in bound | stored and dotted in sys.modules:
                found.add(f"import {dotted}")
    return {line for line in found if not any(other.startswith(f"{line}.") for other in found)}
