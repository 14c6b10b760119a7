"""The changes of one package: the operations that make its tables match its models, before they are rendered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from alembic.operations import ops
from sqlalchemy import ForeignKeyConstraint
from sqlalchemy.exc import InvalidRequestError

from ampho.history.revision import Phase
from ampho.revise.autogenerate.owners.keys import join_key

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy import ForeignKey

    from ampho.revise.autogenerate.owners.objects import ObjectOwners

T = TypeVar("T", bound=ops.MigrateOperation)


@dataclass
class Changes:
    """The operations that make the tables of one package match its models.

    The passes in :mod:`~ampho.revise.autogenerate.comparison` change the operations of the upgrade. The downgrade is
    derived from them afterwards, so an operation with a special counterpart has to implement ``reverse()``.

    :ivar package: the name of the package.
    :ivar script: Alembic's directive with the operations, which the user's hook receives.
    :ivar objects: the owners of types, views, and other objects, which all packages share.
    :ivar warnings: what the developer should know about the revision, as sentences.
    :ivar of_dropped_tables: the changes to indexes of dropped tables, which only the downgrade contains.
    :ivar kept_indexes: the indexes that are in the database, but in no model and no revision.
    :ivar phase: the phase of the revision; None if its file does not name one.
    :ivar needs: other packages whose revisions have to run first, besides those that follow from the tables.
    """

    package: str
    script: ops.MigrationScript
    objects: ObjectOwners
    warnings: list[str] = field(default_factory=list)
    of_dropped_tables: list[ops.ModifyTableOps] = field(default_factory=list)
    kept_indexes: list[str] = field(default_factory=list)
    needs: set[str] = field(default_factory=set)
    phase: Phase | None = None

    @classmethod
    def of(cls, package: str, operations: list[ops.MigrateOperation], objects: ObjectOwners) -> Changes:
        """Return changes with the given operations as their upgrade, and without a downgrade."""
        options = objects.autogen.opts
        upgrade = ops.UpgradeOps(operations, upgrade_token=options["upgrade_token"])
        downgrade = ops.DowngradeOps([], downgrade_token=options["downgrade_token"])
        return cls(package, ops.MigrationScript(None, upgrade, downgrade), objects)

    def part(self, operations: list[ops.MigrateOperation], phase: Phase | None) -> Changes:
        """Return some of the operations with their downgrade. The first part gets the warnings."""
        part = Changes.of(self.package, operations, self.objects)
        part.needs, part.of_dropped_tables, part.phase = self.needs, self.of_dropped_tables, phase
        part.warnings, self.warnings = self.warnings, []
        part.reverse()
        return part

    @property
    def autogen(self) -> AutogenContext:
        """The context of the comparison."""
        return self.objects.autogen

    @property
    def upgrade(self) -> ops.UpgradeOps:
        """The operations of the upgrade."""
        return self.script.upgrade_ops_list[-1]

    @property
    def downgrade(self) -> ops.DowngradeOps:
        """The operations of the downgrade."""
        return self.script.downgrade_ops_list[-1]

    @property
    def is_empty(self) -> bool:
        """Whether the upgrade changes nothing."""
        return all(map(is_empty_change, self.upgrade.ops))

    @property
    def supports_alter(self) -> bool:
        """Whether the database can add and drop foreign keys of existing tables."""
        return self.autogen.dialect.supports_alter

    def reverse(self) -> None:
        """Derive the downgrade from the upgrade again.

        The downgrade creates the indexes of the tables that it creates, but does not drop the indexes of the tables
        that it drops.
        """
        self.upgrade.reverse_into(self.downgrade)
        drops = {table_key(operation) for operation in self.downgrade.ops if isinstance(operation, ops.DropTableOp)}
        self.downgrade.ops[:] = [item for item in self.downgrade.ops if not _drops_indexes(item, drops)]
        for operation in self.of_dropped_tables:
            keys = [table_key(made) if isinstance(made, ops.CreateTableOp) else "" for made in self.downgrade.ops]
            if table_key(operation) in keys:
                self.downgrade.ops.insert(keys.index(table_key(operation)) + 1, operation.reverse())

    def references(self) -> set[str]:
        """Return the keys of the tables that new foreign keys reference."""
        return {key for operation in self.operations() for key in targets(operation)}

    def changed(self) -> set[str]:
        """Return the keys of the existing tables that change or are dropped."""
        return {*map(table_key, self.only(ops.ModifyTableOps)), *map(table_key, self.only(ops.DropTableOp))}

    def removed(self) -> Iterator[tuple[str, str]]:
        """Yield the table and the name of each dropped or renamed column; for a whole table, the name is empty."""
        for operation in self.operations():
            if isinstance(operation, ops.DropTableOp | ops.RenameTableOp):
                yield table_key(operation), ""
            if isinstance(operation, ops.DropColumnOp):
                yield table_key(operation), operation.column_name
            if isinstance(operation, ops.AlterColumnOp) and operation.modify_name:
                yield table_key(operation), operation.column_name

    def leave_out_references(self, keys: set[str]) -> None:
        """Remove the foreign keys to the given tables. A later revision will add them."""
        for container in _containers(self.upgrade):
            left_out = [key for key in container.ops if isinstance(key, ops.CreateForeignKeyOp)]
            left_out = [key for key in left_out if not keys.isdisjoint(targets(key))]
            container.ops[:] = [operation for operation in container.ops if operation not in left_out]
            for operation in container.ops:
                if isinstance(operation, ops.CreateTableOp):
                    operation.columns = [item for item in operation.columns if not references(item, keys)]
        self.remove_empty()
        self.reverse()

    def remove_empty(self) -> None:
        """Remove the changes of tables from which other functions have removed everything."""
        self.upgrade.ops[:] = [operation for operation in self.upgrade.ops if not is_empty_change(operation)]

    def only(self, kind: type[T]) -> list[T]:
        """Return the operations of one kind that are not inside others, such as those that create tables."""
        return [operation for operation in self.upgrade.ops if isinstance(operation, kind)]

    def operations(self) -> Iterator[ops.MigrateOperation]:
        """Yield the operations of the upgrade, and those that they contain."""
        for container in _containers(self.upgrade):
            yield from container.ops


def _containers(container: ops.OpContainer) -> Iterator[ops.OpContainer]:
    yield container
    for operation in container.ops:
        if isinstance(operation, ops.OpContainer):
            yield from _containers(operation)


def table_key(operation: ops.CreateTableOp | ops.ModifyTableOps | ops.DropTableOp | ops.AlterTableOp) -> str:
    """Return the key of the table that an operation changes."""
    return join_key(operation.schema, operation.table_name)


def _drops_indexes(operation: ops.MigrateOperation, tables: set[str]) -> bool:
    """Return whether an operation only drops indexes of one of the given tables."""
    if not isinstance(operation, ops.ModifyTableOps) or table_key(operation) not in tables:
        return False
    return all(isinstance(each, ops.DropIndexOp) for each in operation.ops)


def references(item: object, keys: set[str]) -> TypeGuard[ForeignKeyConstraint]:
    """Return whether an item of a table is a foreign key to one of the given tables."""
    return isinstance(item, ForeignKeyConstraint) and not keys.isdisjoint(map(target, item.elements))


def is_empty_change(operation: ops.MigrateOperation) -> bool:
    """Return whether an operation is a change of a table with nothing left to change."""
    return isinstance(operation, ops.ModifyTableOps) and operation.is_empty()


def targets(operation: ops.MigrateOperation) -> Iterable[str]:
    """Return the keys of the tables that an operation references."""
    if isinstance(operation, ops.CreateForeignKeyOp):
        return [join_key(operation.kw.get("referent_schema"), operation.referent_table)]
    if isinstance(operation, ops.CreateTableOp):
        keys = [item for item in operation.columns if isinstance(item, ForeignKeyConstraint)]
        return [*parents(operation.kw), *(target(element) for key in keys for element in key.elements)]
    if isinstance(operation, ops.AddColumnOp):
        return [target(element) for element in operation.column.foreign_keys]
    return []


def parents(options: Mapping[str, Any]) -> Sequence[str]:
    """Return the keys of the tables from which a table of PostgreSQL inherits, according to its options."""
    found: str | Sequence[str] = options.get("postgresql_inherits") or ()
    return (found,) if isinstance(found, str) else found


def target(element: ForeignKey) -> str:
    """Return the key of the table that a foreign key references."""
    try:
        return str(element.column.table.key)
    except InvalidRequestError:  # The column comes from the user's hook, and the referenced table is not known.
        return element.target_fullname.rpartition(".")[0]
