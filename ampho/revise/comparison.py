"""Runs Alembic's autogenerate on the tables of one package.

Only this file uses autogenerate's private names:

- ``compare._populate_migration_script`` compares. The public ``produce_migrations`` does the same, but does not return
  its context, which rendering needs.
- ``render._render_python_into_templatevars`` renders the result.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass
class Comparison:
    """The differences between the database and the models in the tables of one package.

    :param context: the context that ``env.py`` configured, whose filters and hooks apply.
    :param is_own: returns whether the package owns the table with a key.
    :ivar seen: the keys of the tables in the database, without those that the user's ``include_name`` excludes.
    """

    context: MigrationContext
    is_own: Callable[[str], bool]
    seen: list[str] = field(default_factory=list, init=False)
    _script: ops.MigrationScript = field(init=False)
    _of_dropped_tables: list[ops.ModifyTableOps] = field(default_factory=list, init=False)
    _autogen: AutogenContext = field(init=False)

    def __post_init__(self) -> None:
        options = self._filtered(self.context.opts)
        self._script = ops.MigrationScript(None, ops.UpgradeOps([]), ops.DowngradeOps([]))
        self._upgrade.upgrade_token = options["upgrade_token"]
        self._downgrade.downgrade_token = options["downgrade_token"]
        self._autogen = AutogenContext(self.context, opts=options)
        compare._populate_migration_script(self._autogen, self._script)
        self._leave_out_foreign_types()
        self._order_drops()
        if self.context.dialect.supports_alter:
            self._make_altering_keys()

    def _leave_out_foreign_types(self) -> None:
        """Leave out the changes of named types, such as enums, that no table of the package uses.

        Plug-ins compare all types of the schema. A type belongs to the package if one of its tables uses it, or did.
        """
        found = [operation for operation in self._upgrade.ops if not type(operation).__module__.startswith("alembic.")]
        if not found:
            return
        own = self._names_of_own_types()
        others = [operation for operation in found if getattr(operation, "name", None) not in own | {None}]
        self._upgrade.ops = [operation for operation in self._upgrade.ops if operation not in others]
        self._reverse()

    def _names_of_own_types(self) -> set[str]:
        metadata = self.context.opts["target_metadata"]
        declared = [
            column.type
            for each in (metadata if isinstance(metadata, (list, tuple)) else [metadata])
            for table in each.tables.values()
            if self.is_own(table.key)
            for column in table.columns
        ]
        inspector = inspect(self.context.connection)
        present = [
            column["type"]
            for key in filter(self.is_own, self.seen)
            for schema, _, name in [key.rpartition(".")]
            for column in inspector.get_columns(name, schema=schema or None)
        ]
        items = [getattr(item, "item_type", item) for item in (*declared, *present)]  # an array has an item type
        return {str(item.name) for item in items if getattr(item, "name", None)}

    def _order_drops(self) -> None:
        """Drop each table after everything that references it: other dropped tables, and foreign keys of others.

        Alembic drops tables before it changes others, in the order of a set, and an index before the foreign key for
        which MariaDB needs it. The indexes of a dropped table are not dropped on their own, which MariaDB may refuse.
        Changes of other tables come later, because they may reuse the names of those indexes.
        """
        found = self._upgrade.ops
        drops = {_key(operation): operation for operation in found if isinstance(operation, ops.DropTableOp)}
        changes = [operation for operation in found if isinstance(operation, ops.ModifyTableOps)]
        self._of_dropped_tables = [operation for operation in changes if _key(operation) in drops]
        for operation in changes:
            operation.ops.sort(key=_comes_after_keys)
        if drops:
            moved = {*map(id, drops.values()), *map(id, self._of_dropped_tables)}
            first = next(number for number, operation in enumerate(found) if id(operation) in moved)
            after = [operation for operation in found[first:] if id(operation) not in moved]
            keys = [
                end
                for change in after
                if isinstance(change, ops.ModifyTableOps)
                for end in _dropped_keys(change, drops)
            ]
            order, circular = _children_first(drops)
            if self.context.dialect.supports_alter:
                keys += [_drop_keys(drops[key], target) for key, target in circular]
            left = [change for change in after if not _is_empty_change(change)]
            found[first:] = [*keys, *(drops[key] for key in order), *left]
        self._reverse()

    def _reverse(self) -> None:
        """Derive the downgrade from the upgrade again: with the indexes of tables that it creates, but not drops."""
        self._upgrade.reverse_into(self._downgrade)
        drops = {_key(operation) for operation in self._downgrade.ops if isinstance(operation, ops.DropTableOp)}
        self._downgrade.ops[:] = [
            operation
            for operation in self._downgrade.ops
            if not (
                isinstance(operation, ops.ModifyTableOps) and _key(operation) in drops and _drops_indexes(operation)
            )
        ]
        for operation in self._of_dropped_tables:
            keys = [_key(made) if isinstance(made, ops.CreateTableOp) else "" for made in self._downgrade.ops]
            if _key(operation) in keys:
                self._downgrade.ops.insert(keys.index(_key(operation)) + 1, operation.reverse())

    def _make_altering_keys(self) -> None:
        """Create foreign keys with ``use_alter``, which ``op.create_table`` omits if there is ALTER TABLE.

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
            self.seen.append(str(parents.get("schema_qualified_table_name") or name))
            return self.is_own(self.seen[-1])

        def include_object(item: Any, name: str, type_: str, reflected: bool, other: Any) -> bool:  # noqa: ANN401, FBT001 (Alembic's signature)
            table: Table | None = item if type_ == "table" else getattr(item, "table", None)
            if table is not None and not self.is_own(table.key):
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
        """Return the tables of the database that the package does not own, without those that the user excludes."""
        include_object = self.context.opts.get("include_object")
        others = [key for key in self.seen if not self.is_own(key)]
        if include_object is None:
            return others
        tables = {key: _bare_table(key) for key in others}
        return [key for key, table in tables.items() if include_object(table, table.name, "table", True, None)]  # noqa: FBT003 (Alembic's signature)

    def has_table(self, key: str) -> bool:
        """Return whether the database has a table."""
        schema, _, name = key.rpartition(".")
        return inspect(self.context.connection).has_table(name, schema=schema or None)

    def references(self) -> set[str]:
        """Return the keys of the tables that new foreign keys reference."""
        return {key for operation in self._operations() for key in _targets(operation)}

    def changed(self) -> set[str]:
        """Return the keys of the existing tables that change or are dropped."""
        found = [item for item in self._upgrade.ops if isinstance(item, (ops.ModifyTableOps, ops.DropTableOp))]
        return set(map(_key, found))

    def removed(self) -> Iterator[tuple[str, str]]:
        """Yield what is dropped or renamed: the key of a table, and a column, which is empty for the whole table."""
        for operation in self._operations():
            if isinstance(operation, ops.DropTableOp | ops.RenameTableOp):
                yield _key(operation), ""
            if isinstance(operation, ops.DropColumnOp):
                yield _key(operation), operation.column_name
            if isinstance(operation, ops.AlterColumnOp) and operation.modify_name:
                yield _key(operation), operation.column_name

    def leave_out_references(self, keys: set[str]) -> None:
        """Leave out the foreign keys to some tables, because a later revision adds them."""
        for container in self._containers(self._upgrade):
            container.ops[:] = [
                operation
                for operation in container.ops
                if not (isinstance(operation, ops.CreateForeignKeyOp) and keys.intersection(_targets(operation)))
            ]
            for operation in container.ops:
                if isinstance(operation, ops.CreateTableOp):
                    operation.columns = [item for item in operation.columns if not _references(item, keys)]
        self._upgrade.ops[:] = [operation for operation in self._upgrade.ops if not _is_empty_change(operation)]
        self._reverse()

    def apply_users_hook(self, rows: tuple[str, ...]) -> None:
        """Let the user's ``process_revision_directives`` change or discard the changes."""
        hook = self.context.opts.get("process_revision_directives")
        if hook is not None:
            directives = [self._script]
            hook(self.context, rows, directives)
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
        return Body(upgrades, downgrades, "\n".join(sorted(imports)), self.context.opts)

    def _operations(self) -> Iterator[ops.MigrateOperation]:
        for container in self._containers(self._upgrade):
            yield from container.ops

    def _containers(self, container: ops.OpContainer) -> Iterator[ops.OpContainer]:
        yield container
        for operation in container.ops:
            if isinstance(operation, ops.OpContainer):
                yield from self._containers(operation)


def _bare_table(key: str) -> Table:
    schema, _, name = key.rpartition(".")
    return Table(name, MetaData(), schema=schema or None)


def _key(operation: ops.CreateTableOp | ops.ModifyTableOps | ops.DropTableOp | ops.AlterTableOp) -> str:
    return f"{operation.schema}.{operation.table_name}" if operation.schema else operation.table_name


def _drops_indexes(change: ops.ModifyTableOps) -> bool:
    """Return whether a change does nothing but drop indexes."""
    return all(isinstance(operation, ops.DropIndexOp) for operation in change.ops)


def _comes_after_keys(operation: ops.MigrateOperation) -> bool:
    """Return False if the operation drops a foreign key, which has to come first."""
    return not (isinstance(operation, ops.DropConstraintOp) and operation.constraint_type == "foreignkey")


def _dropped_keys(change: ops.ModifyTableOps, drops: Mapping[str, object]) -> Iterator[ops.ModifyTableOps]:
    """Remove, and yield, the operations that drop a table's foreign keys to tables that are dropped."""
    ends = [
        end for end in change.ops if not _comes_after_keys(end) and not drops.keys().isdisjoint(_targets(end.reverse()))
    ]
    if ends:
        change.ops[:] = [other for other in change.ops if other not in ends]
        yield ops.ModifyTableOps(change.table_name, ends, schema=change.schema)


def _children_first(drops: Mapping[str, ops.DropTableOp]) -> tuple[Sequence[str], Sequence[tuple[str, str]]]:
    """Sort the keys of dropped tables, each before the tables that it references.

    :return: also pairs of tables that reference each other in a cycle; the first one's foreign keys to the second have
        to be dropped before both.
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
    """Return the operation that drops the foreign keys of a dropped table to another, before both are dropped."""
    table = cast("ops.CreateTableOp", drop._reverse)  # the table as the comparison found it
    ends = [ops.DropConstraintOp.from_constraint(key) for key in table.columns if _references(key, {target})]
    table.columns = [item for item in table.columns if not _references(item, {target})]
    return ops.ModifyTableOps(drop.table_name, ends, schema=drop.schema)


def _references(item: object, keys: set[str]) -> TypeGuard[ForeignKeyConstraint]:
    """Return whether an item of a table is a foreign key to one of some tables."""
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
        return [
            _target(element)
            for item in operation.columns
            if isinstance(item, ForeignKeyConstraint)
            for element in item.elements
        ]
    if isinstance(operation, ops.AddColumnOp):
        return [_target(element) for element in operation.column.foreign_keys]
    return []


def _target(element: ForeignKey) -> str:
    try:
        return str(element.column.table.key)
    except InvalidRequestError:  # a hook of the user has created the column
        return element.target_fullname.rpartition(".")[0]


def _without_remarks(text: str) -> str:
    """Return rendered code without the comments that Alembic puts around it."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("# ###")).strip()


def _missing_imports(code: str, imports: Iterable[str]) -> set[str]:
    """Return the missing imports of modules that the code names in full, as Alembic renders the app's own types."""
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
