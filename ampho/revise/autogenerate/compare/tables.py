"""Comparing what belongs to a table: its check and unique constraints, computed columns, indexes, and expressions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from alembic.util import PriorityDispatchResult
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    DefaultClause,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)
from sqlalchemy.exc import CompileError
from sqlalchemy.schema import CreateIndex
from sqlalchemy.sql.elements import conv

from ampho.revise.autogenerate.ask.renames import RenamedInspector
from ampho.revise.autogenerate.compare.catalog import (
    INDEXES,
    MYSQL,
    Difference,
    correct_computed,
    definition,
    dialect_of,
    index_definitions,
    items_and_condition,
    literal_text,
    printed_expressions,
    single_percent,
)
from ampho.revise.autogenerate.compare.defaults import correct_default, default_sql
from ampho.revise.autogenerate.compare.expressions import parts, tokens
from ampho.revise.autogenerate.operations.constraints import remove_default_options

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

_CONTINUE = PriorityDispatchResult.CONTINUE

_KIND_OF_INDEX = re.compile(r"CREATE (?:(\w+) )?INDEX", re.IGNORECASE)
_NAMES_OF_INDEX = r"(?:\"[^\"]*\"|`[^`]*`|[^(\"`])*"  # what precedes the columns


_CHECKS_OF_ALEMBIC = "checkconstraint_byname"


def compare_table(
    context: AutogenContext,
    found: ops.ModifyTableOps,
    schema: str | None,
    _name: str,
    present: Table | None,
    declared: Table | None,
) -> PriorityDispatchResult:
    """Compare what belongs to a table that exists in the database, in the models, or in both, for Alembic."""
    if present is not None:
        correct_computed(context, present)
        _remove_default_options(found, present)
    if dialect_of(context).name == "sqlite" and present is None and declared is not None:
        _make_skipped_indexes(found, declared)
    if present is not None and declared is None and dialect_of(context).name in INDEXES:
        TableComparison(context, found, present, Table(present.name, MetaData())).drop()
    if present is None or declared is None or dialect_of(context).name not in INDEXES:
        return _CONTINUE
    comparison = TableComparison(context, found, present, declared)
    if isinstance(context.inspector, RenamedInspector) and context.inspector.is_renamed(schema, present.name):
        list(comparison.checks())  # only the names: in expressions, the database still has the old ones
        comparison.leave_out()
        return _CONTINUE
    differences = [
        *comparison.defaults(),
        *comparison.computed(),
        *comparison.checks(),
        *comparison.indexes(),
    ]
    if dialect_of(context).name == "sqlite":
        comparison.drop_unnamed_uniques()
    printed = printed_expressions(context, present, differences) if differences else {}
    for number, difference in enumerate(differences):
        same = number in printed and definition(printed[number]) == definition(difference.present)
        (difference.equal if same else difference.different)()
    comparison.leave_out()
    comparison.keep_definitions()
    return _CONTINUE


def _remove_default_options(found: ops.ModifyTableOps, present: Table) -> None:
    """Let the downgrade create the dropped unique constraints without options that old servers do not know."""
    for constraint in present.constraints:
        if isinstance(constraint, UniqueConstraint):
            remove_default_options(constraint.dialect_kwargs)
    for operation in found.ops:
        match operation:
            case ops.DropConstraintOp(_reverse=ops.CreateUniqueConstraintOp(kw=options)):
                remove_default_options(options)


def _make_skipped_indexes(found: ops.ModifyTableOps, declared: Table) -> None:
    """Create the indexes on expressions of a new table, because Alembic omits them on SQLite."""
    made = {operation.index_name for operation in found.ops if isinstance(operation, ops.CreateIndexOp)}
    left = sorted((index for index in declared.indexes if index.name not in made), key=lambda index: str(index.name))
    found.ops.extend(map(ops.CreateIndexOp.from_index, left))


class TableComparison:
    """Compares what belongs to one table.

    :ivar found: the operations for the table, which the comparison corrects.
    """

    def __init__(self, context: AutogenContext, found: ops.ModifyTableOps, present: Table, declared: Table) -> None:
        self._context = context
        self.found = found
        self._present = present
        self._declared = declared
        self._dialect = dialect_of(context)
        self._database: str = self._dialect.name
        self._preparer = self._dialect.identifier_preparer
        self._unfounded: list[ops.MigrateOperation] = []

    def leave_out(self) -> None:
        """Remove the operations on what turned out to be equal, and the operations that a key does not allow."""
        key = {column.name for column in self._present.primary_key}
        for operation in self.found.ops:
            if isinstance(operation, ops.AlterColumnOp) and operation.modify_nullable and operation.column_name in key:
                operation.modify_nullable = None
                if not operation.has_changes():
                    self._unfounded.append(operation)
        if self._database in MYSQL:
            self._drop_indexes_of_keys()
            self._unfounded += [item for item in self.found.ops if self._is_needed(item)]
        self.found.ops[:] = [operation for operation in self.found.ops if not _is_in(operation, self._unfounded)]

    def drop(self) -> None:
        """Let the downgrade create a dropped table with the indexes and defaults that SQLAlchemy does not reflect."""
        list(self.indexes())
        self.keep_definitions()
        for column in self._present.columns:
            correct_default(column, self._context)

    def keep_definitions(self) -> None:
        """Let the operations that drop indexes create them again as they were."""
        self.found.ops[:] = [self._reversible(operation) for operation in self.found.ops]

    def _reversible(self, operation: ops.MigrateOperation) -> ops.MigrateOperation:
        """Return an operation that can be reverted, even if SQLAlchemy reflects the dropped index only in part."""
        if not isinstance(operation, ops.DropIndexOp):
            return operation
        name = str(operation.index_name)
        sql = index_definitions(self._context).get((self._schema(), self._present.name), {}).get(name, "")
        partly = {"desc", "collate"} & {*tokens(sql, self._database)}
        if self._database == "postgresql":  # SQLAlchemy reflects everything apart from collations
            partly = {"collate"} & partly if re.search(r" USING btree .*\)( WHERE .*)?$", sql) else set()
        return ops.DropIndexOp.from_index(self._read_index(name, sql)) if partly else operation

    def _drop_indexes_of_keys(self) -> None:
        """Drop the indexes that MariaDB and MySQL created for dropped foreign keys, because they would stay."""
        drops = [item for item in self.found.ops if isinstance(item, ops.DropConstraintOp)]
        names = {item.constraint_name for item in drops if item.constraint_type == "foreignkey"}
        declared = {str(index.name) for index in self._declared.indexes}
        for index in self._present.indexes:
            wanted = index.name in names and index.name not in declared and not self._pair(str(index.name))
            if wanted and self._drop_index(index):
                self.found.ops.insert(0, self.found.ops.pop())  # before another index replaces it

    def _is_needed(self, operation: ops.MigrateOperation) -> bool:
        """Return whether an operation drops an index that MariaDB or MySQL may have created for a foreign key.

        Its name does not tell, because the database keeps it when the key, the column, or the table is renamed.
        """
        if not isinstance(operation, ops.DropIndexOp):
            return False
        plain = [index for index in self._present.indexes if not index.unique]
        dropped = [index.columns.keys() for index in plain if index.name == operation.index_name]
        others = [[*index.columns.keys()] for index in (*self._declared.indexes, *self._uniques())]
        new = [[*each.local_cols] for each in self.found.ops if isinstance(each, ops.CreateForeignKeyOp)]
        keys = [key.columns.keys() for key in self._declared.foreign_key_constraints]
        return any(
            key in dropped and not any(_begins(other, key) for other in others) for key in keys if key not in new
        )

    def _uniques(self) -> Iterator[UniqueConstraint | PrimaryKeyConstraint]:
        for item in self._declared.constraints:
            if isinstance(item, (UniqueConstraint, PrimaryKeyConstraint)):
                yield item

    def defaults(self) -> Iterator[Difference]:
        """Yield the server defaults that ``compare_default()`` found to differ."""
        for operation in self.found.ops:
            if not isinstance(operation, ops.AlterColumnOp) or not isinstance(
                operation.modify_server_default, DefaultClause
            ):
                continue
            column = self._declared_column(operation.column_name)
            present, declared = (
                default_sql(self._present.columns[column.name], self._context),
                default_sql(column, self._context),
            )
            if present is not None and declared is not None:
                statement = f"ADD COLUMN {{name}} {self._type(column)} DEFAULT {_escaped(declared)}"
                yield Difference(present, declared, f"ALTER TABLE {{table}} {statement}", self._drop_default(operation))

    def _drop_default(self, operation: ops.AlterColumnOp) -> Callable[[], None]:
        def equal() -> None:
            operation.modify_server_default = False
            if not operation.has_changes():
                self._unfounded.append(operation)

        return equal

    def _declared_column(self, name: str) -> Column[Any]:
        return next(column for column in self._declared.columns if column.name == name)

    def _type(self, column: Column[Any]) -> str:
        return _escaped(self._dialect.type_compiler_instance.process(column.type, type_expression=column))

    def computed(self) -> Iterator[Difference]:
        """Yield the computed columns whose expressions may differ, and replace those whose storage differs."""
        for column in self._declared.columns:
            here = self._present.columns.get(column.name)
            wanted = column.server_default
            if here is None or not isinstance(here.server_default, Computed) or not isinstance(wanted, Computed):
                continue
            replace = self._replacement(here, column)
            if wanted.persisted is not None and here.server_default.persisted not in (None, wanted.persisted):
                replace()
                continue
            present, declared = self._sql(here.server_default.sqltext), self._sql(wanted.sqltext)
            if self._may_differ(present, declared):
                statement = (
                    f"ADD COLUMN {{name}} {self._type(column)} GENERATED ALWAYS AS ({_escaped(declared)}) STORED"
                )
                yield Difference(present, declared, f"ALTER TABLE {{table}} {statement}", different=replace)

    def _replacement(self, present: Column[Any], declared: Column[Any]) -> Callable[[], None]:
        table, schema = self.found.table_name, self.found.schema

        def different() -> None:
            if not self._context.run_object_filters(declared, declared.name, "column", False, present):  # noqa: FBT003 (Alembic's signature)
                return
            self.found.ops.append(ops.DropColumnOp.from_column_and_tablename(schema, table, present))
            self.found.ops.append(ops.AddColumnOp.from_column_and_tablename(schema, table, declared))

        return different

    def _sql(self, expression: Any) -> str:  # noqa: ANN401 (any SQL expression)
        compiled = str(
            expression.compile(dialect=self._dialect, compile_kwargs={"literal_binds": True, "include_table": False})
        )
        return single_percent(compiled, self._context) or ""

    def _may_differ(self, present: str, declared: str) -> bool:
        """Return whether expressions differ, as far as can be told without the database.

        MariaDB and MySQL print other expressions than the models contain, so only some of their tokens are compared.
        """
        if self._database in MYSQL:
            names = [column.name for column in self._present.columns]
            return parts(present, self._database, names) != parts(declared, self._database, names)
        return tokens(present, self._database) != tokens(declared, self._database)

    def checks(self) -> Iterator[Difference]:
        """Yield the check constraints whose expressions may differ, and add operations for new and dropped ones."""
        if any(
            _CHECKS_OF_ALEMBIC in name for name in self._context.migration_context.opts.get("autogenerate_plugins", ())
        ):
            return
        present, declared = self._present_checks(), dict(self._declared_checks())
        for name in present.keys() - declared.keys():
            if not self._is_name_of_database(name) and self._wants(present[name], name, None, reflected=True):
                self.found.ops.append(ops.DropConstraintOp.from_constraint(present[name]))
        for name, check in declared.items():
            other = present.get(name)
            if other is None:
                if self._wants(check, name, None, reflected=False):
                    self.found.ops.append(ops.AddConstraintOp.from_constraint(check))
                continue
            here, there = self._sql(other.sqltext), self._sql(check.sqltext)
            if self._may_differ(here, there):
                statement = f"ALTER TABLE {{table}} ADD CONSTRAINT {{name}} CHECK ({_escaped(there)})"
                yield Difference(here, there, statement, different=self._changed_check(name, other, check))

    def _changed_check(self, name: str, present: CheckConstraint, declared: CheckConstraint) -> Callable[[], None]:
        def different() -> None:
            if self._wants(declared, name, present, reflected=False):
                self.found.ops.append(ops.DropConstraintOp.from_constraint(present))
                self.found.ops.append(ops.AddConstraintOp.from_constraint(declared))

        return different

    def _wants(self, item: CheckConstraint, name: str, other: CheckConstraint | None, *, reflected: bool) -> bool:
        return self._context.run_object_filters(item, name, "check_constraint", reflected, other)

    def _present_checks(self) -> dict[str, CheckConstraint]:
        parents = {"table_name": self.found.table_name, "schema_name": self.found.schema}
        checks = [item for item in self._present.constraints if isinstance(item, CheckConstraint) and item.name]
        named = {str(item.name): item for item in checks}
        return {
            name: item
            for name, item in named.items()
            if self._context.run_name_filters(name, "check_constraint", parents)  # type: ignore[arg-type]
        }

    def _declared_checks(self) -> Iterator[tuple[str, CheckConstraint]]:
        items = [
            *self._declared.constraints,
            *(item for column in self._declared.columns for item in column.constraints),
        ]
        for item in items:
            if isinstance(item, CheckConstraint) and self._is_created(item):
                name = None if item.name is None else self._preparer.format_constraint(item)
                if name:
                    yield self._unquoted(name), self._of_table(item, self._unquoted(name))

    def _of_table(self, check: CheckConstraint, name: str) -> CheckConstraint:
        """Return the check constraint of a column as one of its table, which operations need."""
        parent: object = getattr(check, "parent", None)
        if isinstance(parent, Table):
            return check
        return CheckConstraint(check.sqltext, name=conv(name), table=self._present)

    def _is_created(self, check: CheckConstraint) -> bool:
        """Return whether this database has a constraint that SQLAlchemy adds to a type, such as an enum."""
        rule = check._create_rule  # noqa: SLF001 (it has no public name)
        return rule is None or bool(rule(self._dialect.ddl_compiler(self._dialect, None)))

    def _is_name_of_database(self, name: str) -> bool:
        """Return whether a name looks like one that the database chooses for an unnamed constraint."""
        columns = {column.name for column in self._present.columns}
        return name in columns or re.fullmatch(r".*_check\d*|CONSTRAINT_\d+|.*_chk_\d+", name) is not None

    def drop_unnamed_uniques(self) -> None:
        """Drop the unnamed unique constraints of SQLite that the model lacks, because Alembic only looks for names."""
        declared, present = _unnamed_uniques(self._declared), _unnamed_uniques(self._present)
        for columns in sorted(present.keys() - declared.keys(), key=sorted):
            if self._context.run_object_filters(present[columns], None, "unique_constraint", True, None):  # noqa: FBT003
                self.found.ops.append(ops.DropConstraintOp.from_constraint(present[columns]))

    def indexes(self) -> Iterator[Difference]:
        """Yield the indexes whose definitions may differ, and drop those on expressions of SQLite that models lack."""
        present = index_definitions(self._context).get((self._schema(), self._present.name), {})
        for index in self._declared.indexes:
            name = self._unquoted(self._preparer.format_index(index))
            yield from self._index(name, index, present.get(name))
        if self._database == "sqlite":
            names = {self._unquoted(self._preparer.format_index(index)) for index in self._declared.indexes}
            read = {index.name for index in self._present.indexes}
            for name in sorted(present.keys() - names - read):
                self._drop_index(self._read_index(name, present[name]))

    def _schema(self) -> str | None:
        if self._database == "sqlite":
            return None
        return self.found.schema or str(self._dialect.default_schema_name)

    def _index(self, name: str, index: Index, present: str | None) -> Iterator[Difference]:
        pair = self._pair(name)
        if present is None:
            if self._database == "sqlite" and not pair:
                self._make_index(index)
            return
        declared = self._index_sql(index)
        if declared is None:
            return

        def equal() -> None:
            self._unfounded.extend(pair)

        def different() -> None:
            if not any(isinstance(each, ops.DropIndexOp) for each in pair):
                old = next((item for item in self._present.indexes if item.name == name), None)
                if not self._drop_index(old if old is not None else self._read_index(name, present)):
                    return
            if not any(isinstance(each, ops.CreateIndexOp) for each in pair):
                self._make_index(index)

        if self._is_same_index(present, declared):
            equal()
        else:
            statement = f"CREATE {'UNIQUE ' if index.unique else ''}INDEX {{name}} ON {{table}} {_escaped(declared[1])}"
            yield Difference(present, declared[1], statement, equal, different)

    def _pair(self, name: str) -> list[ops.MigrateOperation]:
        return [
            item
            for item in self.found.ops
            if isinstance(item, (ops.DropIndexOp, ops.CreateIndexOp)) and str(item.index_name) == name
        ]

    def _drop_index(self, index: Index) -> bool:
        wanted = self._context.run_object_filters(index, index.name, "index", True, None)  # noqa: FBT003
        if wanted:
            self.found.ops.append(ops.DropIndexOp.from_index(index))
        return wanted

    def _make_index(self, index: Index) -> None:
        if self._context.run_object_filters(index, index.name, "index", False, None):  # noqa: FBT003
            self.found.ops.append(ops.CreateIndexOp.from_index(index))

    def _index_sql(self, index: Index) -> tuple[str, str] | None:
        """Return the beginning of the statement that creates an index, and what follows the name of the table."""
        try:
            sql = single_percent(str(CreateIndex(index).compile(dialect=self._dialect)), self._context) or ""
        except CompileError:
            return None
        table = single_percent(self._preparer.format_table(index.table), self._context)
        head, _, rest = sql.replace("CONCURRENTLY ", "").partition(f" ON {table} ")
        return head, rest

    def _is_same_index(self, present: str, declared: tuple[str, str]) -> bool:
        here, there = _KIND_OF_INDEX.match(present), _KIND_OF_INDEX.match(declared[0])
        if here is None or there is None or (here[1] or "").upper() != (there[1] or "").upper():
            return False
        table = _NAMES_OF_INDEX if self._database != "postgresql" else r".*? ON (?:ONLY )?(?:\S+|\".*?\") (?=USING )"
        rest = re.sub(table, "", present[here.end() :], count=1, flags=re.DOTALL)
        return self._index_tokens(rest) == self._index_tokens(declared[1])

    def _index_tokens(self, sql: str) -> list[str]:
        found = re.sub(r"^ ?USING btree ", "", sql.strip(), flags=re.IGNORECASE)
        found = re.sub(r"\s+USING \w+$", "", found, flags=re.IGNORECASE)
        return [item for item in tokens(found, self._database) if item != "asc"]

    def _read_index(self, name: str, sql: str) -> Index:
        """Return an SQLite index on expressions, which SQLAlchemy does not reflect, from the SQL that creates it."""
        items, where = items_and_condition(sql)
        unique = sql.upper().startswith("CREATE UNIQUE")
        names = ["sqlite_where", "postgresql_where"] if where else []
        options: dict[str, Any] = dict.fromkeys(names, literal_text(where))
        return Index(name, literal_text(items), unique=unique, **options, _table=self._present)

    def _unquoted(self, name: str) -> str:
        quote, name = self._preparer.initial_quote, single_percent(name, self._context) or ""
        return name[1:-1].replace(quote * 2, quote) if name.startswith(quote) else name


def _unnamed_uniques(table: Table) -> dict[frozenset[str], UniqueConstraint]:
    """Return the unique constraints without a name, by their columns."""
    items = [
        item for item in table.constraints if isinstance(item, UniqueConstraint) and not isinstance(item.name, str)
    ]
    return {frozenset(column.name for column in item.columns): item for item in items}


def _begins(columns: list[str], beginning: list[str]) -> bool:
    return columns[: len(beginning)] == beginning


def _is_in(item: object, items: list[Any]) -> bool:
    return any(item is other for other in items)


def _escaped(sql: str) -> str:
    return sql.replace("{", "{{").replace("}", "}}")
