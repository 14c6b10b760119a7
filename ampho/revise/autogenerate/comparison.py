"""Running Alembic's autogenerate once for all packages of a command, and splitting its operations by package.

This module uses a private name of autogenerate: ``compare._produce_net_changes`` compares the models with the database.
The public ``produce_migrations`` does, too, but does not return its context, which rendering needs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from alembic.autogenerate import compare
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from sqlalchemy import MetaData, Table

from ampho.revise.autogenerate.ask.fills import Fills, questions_about_values
from ampho.revise.autogenerate.ask.likeness import likely_renames, rename_along
from ampho.revise.autogenerate.ask.rename_option import names_in_other_case, resolve
from ampho.revise.autogenerate.ask.renames import RenamedInspector
from ampho.revise.autogenerate.compare.comparators import make_checks_of_columns, separate_indexes, without_warnings
from ampho.revise.autogenerate.operations.casts import cast_columns
from ampho.revise.autogenerate.operations.changes import Changes, parents, table_key
from ampho.revise.autogenerate.operations.constraints import (
    keep_keys_of_default_schema,
    name_constraints,
    name_included_columns,
    separate_checks_of_types,
)
from ampho.revise.autogenerate.operations.domains import change_domains
from ampho.revise.autogenerate.operations.enums import change_enums
from ampho.revise.autogenerate.operations.identities import change_identities
from ampho.revise.autogenerate.operations.indexes_of_keys import drop_indexes_of_keys, keep_keys
from ampho.revise.autogenerate.operations.order import leave_out_inherited_columns, make_altering_keys, order_drops
from ampho.revise.autogenerate.operations.schemas import create_schemas
from ampho.revise.autogenerate.operations.unknown_indexes import keep_unknown_indexes
from ampho.revise.autogenerate.owners.keys import split_key
from ampho.revise.autogenerate.owners.objects import ObjectOwners
from ampho.revise.autogenerate.owners.ownership import Ownership
from ampho.revise.autogenerate.owners.split import split_by_owner
from ampho.revise.autogenerate.write.render import ItemRenderer

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Inspector

    from ampho.revise.autogenerate.ask.questions import Question

PASSES: Sequence[Callable[[Changes], None]] = (
    make_checks_of_columns,
    keep_unknown_indexes,
    separate_indexes,
    keep_keys_of_default_schema,
    leave_out_inherited_columns,
    order_drops,
    make_altering_keys,
    name_constraints,
    name_included_columns,
    separate_checks_of_types,
    drop_indexes_of_keys,
    change_enums,
    change_domains,
    cast_columns,
    change_identities,
    create_schemas,
    keep_keys,
)
"""The functions that change the upgrade of each package, in this order. The user's hook follows."""

_OF_TABLES = (ops.CreateTableOp, ops.ModifyTableOps, ops.DropTableOp)


def _context(context: MigrationContext, options: dict[str, Any], tables: Mapping[str, Table] | None) -> AutogenContext:
    """Return a context that compares only the given tables, because two databases may have tables of the same name."""
    found = AutogenContext(context, opts=options)
    if tables is None:
        return found
    every = found.metadata if isinstance(found.metadata, Sequence) else [found.metadata]
    ordered = [table for each in every if each is not None for table in each.sorted_tables]
    found.sorted_tables = [table for table in ordered if tables.get(table.key) is table]
    found.table_key_to_table = {**tables}
    return found


class Comparison:
    """The differences between the database and the models of packages.

    :ivar owners: the owners of tables.
    :ivar packages: the changes of each package, by its name.
    :ivar objects: the owners of types, views, and other objects.
    """

    def __init__(
        self,
        context: MigrationContext,
        owners: Ownership,
        packages: Sequence[str],
        *,
        rename: Iterable[str] = (),
        fill: Iterable[str] = (),
    ) -> None:
        """Compare the models of packages with the database.

        :param context: the context that ``env.py`` configured, whose filters and hooks apply.
        :param rename: renames of objects, such as ``users.name=full_name``.
        :param fill: values for existing rows, such as ``users.age=0``.
        """
        self._context = context
        self.owners = owners
        self._names = frozenset(packages)
        self._seen: list[str] = []  # the tables in the database, without those that the user's include_name excludes
        self._autogen = _context(context, self._filtered(context.opts), owners.tables)
        self._dropped: Collection[str] = ()
        self._renamed_tables: Collection[str] = ()
        self._inspector = self._autogen.inspector
        self._order_parents()
        self._renames = self._renamed(rename := tuple(rename))
        self._fills = Fills.parse(fill, ", ".join(packages))
        self.objects: ObjectOwners = ObjectOwners(owners, self._autogen, self._names, self._seen)
        found = self._found()
        while same := set(names_in_other_case(found, context.dialect.name)).difference(rename):
            self._renames = self._renamed(rename := (*rename, *sorted(same)))
            found = self._found()
        split = self._split(found)
        self.packages: Mapping[str, Changes] = {name: self._changes(name, split.get(name, [])) for name in packages}

    def _order_parents(self) -> None:
        """Let SQLAlchemy create the tables from which tables of PostgreSQL inherit before these."""
        tables = self._autogen.table_key_to_table
        for table in tables.values():
            for key in parents(table.dialect_kwargs):
                if key in tables:
                    table.add_is_dependent_on(tables[key])

    def _found(self) -> list[ops.MigrateOperation]:
        found = ops.UpgradeOps([])
        with without_warnings():
            compare._produce_net_changes(self._autogen, found)
        return found.ops

    def _renamed(self, wanted: Sequence[str]) -> Sequence[tuple[str, ops.MigrateOperation]]:
        """Return the operations that rename objects, with their owners, and make the comparison use the new names."""
        if not wanted:
            return ()
        inspector, tables = self._inspector, self._autogen.table_key_to_table
        own = {key: table for key, table in tables.items() if self._is_own(key)}
        gone = [name for name in inspector.get_table_names() if name not in own and self._is_own(name)]
        renames = resolve(wanted, inspector, own, self._autogen.dialect.default_schema_name, gone)
        found = [(str(self.owners.owner(each.key)), each.operation(self._autogen)) for each in renames.all]
        self._autogen.inspector = cast("Inspector", RenamedInspector(inspector, renames))
        self._dropped = renames.dropped
        self._renamed_tables = {each.key for each in renames.all}
        return found

    def _filtered(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options with filters that exclude tables of other packages, in addition to the user's."""
        users_name, users_object = options.get("include_name"), options.get("include_object")
        schemas = self._own_schemas() if not options.get("include_schemas") else set[str]()

        def include_name(name: str | None, type_: str, parents: dict[str, Any]) -> bool:
            if type_ == "schema" and schemas:
                return name is None or name in schemas
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

        return {
            **options,
            "include_schemas": bool(schemas) or options.get("include_schemas", False),
            "include_name": include_name,
            "include_object": include_object,
            "render_item": ItemRenderer(options.get("render_item")),
        }

    def _own_schemas(self) -> set[str]:
        """Return the schemas of the tables that the packages own, except the default schema."""
        found = {split_key(key)[0] for key in {**self.owners.models, **self.owners.history} if self._is_own(key)}
        return {schema for schema in found if schema not in (None, self._context.dialect.default_schema_name)}

    def _is_own(self, key: str) -> bool:
        """Return whether one of the packages owns the table with a key."""
        return not self._names.isdisjoint(self.owners.owners_in(self._qualified(key)))

    def _qualified(self, key: str) -> str:
        """Return the key of a table, with the default schema if the models name this schema explicitly."""
        with_schema = f"{self._context.dialect.default_schema_name}.{key}"
        return with_schema if self.owners.owner(key) is None and self.owners.owner(with_schema) else key

    def _split(self, operations: Iterable[ops.MigrateOperation]) -> dict[str, list[ops.MigrateOperation]]:
        """Return the operations of each package, in the order in which they were found."""
        found: dict[str, list[ops.MigrateOperation]] = {}
        for operation in operations:
            if isinstance(operation, _OF_TABLES):
                for owner, part in split_by_owner(operation, self._key(operation), self.owners):
                    found.setdefault(owner, []).append(part)
            else:
                for owner in self.objects.of(operation):
                    found.setdefault(owner, []).append(operation)
        return found

    def _key(self, operation: ops.CreateTableOp | ops.ModifyTableOps | ops.DropTableOp) -> str:
        return self._qualified(table_key(operation))

    def _changes(self, package: str, operations: list[ops.MigrateOperation]) -> Changes:
        renames = [operation for owner, operation in self._renames if owner == package]
        changes = Changes.of(package, [*renames, *operations], self.objects)
        changes.needs = self.objects.owners_of_types(package, changes.operations())
        changes.needs.update(owner for key in changes.changed() if (owner := self.owners.owner(key)))
        if self._renames:
            rename_along(changes, self._renamed_tables)
        self._fills.apply(changes)
        for change in PASSES:
            change(changes)
        changes.reverse()
        return changes

    def questions(self) -> Mapping[str, tuple[Question, ...]]:
        """Return the questions that only the developer can answer, by package.

        :raises RevisionInputError: if a value was given for a column that needs none.
        """
        found = {
            name: (*likely_renames(changes, self._dropped), *questions_about_values(changes))
            for name, changes in self.packages.items()
        }
        self._fills.check([each for questions in found.values() for each in questions], ", ".join(self.packages))
        return found

    def unowned(self) -> list[tuple[str, str]]:
        """Return the kind and name of each object of the models without an owner, except excluded tables."""
        tables = [("table", key) for key in self.owners.unowned if self._is_included(key, reflected=False)]
        return [*tables, *self.objects.unowned]

    def unowned_in_database(self) -> list[tuple[str, str]]:
        """Return the kinds and names of what no package owns in the database, without tables that the user excludes."""
        unowned = {key for key in self._seen if self.owners.owner(self._qualified(key)) is None} - {
            *self.owners.unowned
        }
        tables = [("table", key) for key in sorted(unowned) if self._is_included(key, reflected=True)]
        return [*tables, *self.objects.unowned_in_database]

    def _is_included(self, key: str, *, reflected: bool) -> bool:
        schema, name = split_key(key)
        options = self._context.opts
        include_name = options.get("include_name") or (lambda *_: True)
        include_object = options.get("include_object") or (lambda *_: True)
        table = self._autogen.table_key_to_table.get(key)
        if table is None:
            table = Table(name, MetaData(), schema=schema)
        parents = {"schema_name": schema, "schema_qualified_table_name": key}
        return bool(include_name(name, "table", parents) and include_object(table, name, "table", reflected, None))

    def has_table(self, key: str) -> bool:
        """Return whether the database has a table."""
        schema, name = split_key(key)
        return self._autogen.inspector.has_table(name, schema)
