"""Corrections to what Alembic's comparison finds, and comparisons that it does not make.

This module is an Alembic plug-in that the configuration of ``env.py`` names, so plain Alembic uses it, too. Alembic
calls its functions for each column and each table that exists both in the database and in the models:

- Types and server defaults are compared in a uniform spelling.
- Expressions of computed columns, check constraints with a name, and definitions of indexes are compared as well.
- PostgreSQL prints expressions in its own form. If an expression differs from the model's, a temporary table is created
  with the model's expression, to see how PostgreSQL prints it. This happens at most once per table, and is rolled back.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

from alembic.operations import ops
from alembic.runtime.plugins import Plugin
from alembic.util import PriorityDispatchResult
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    Connection,
    DefaultClause,
    FetchedValue,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.exc import CompileError, DBAPIError
from sqlalchemy.schema import CreateIndex
from sqlalchemy.sql.elements import conv

from ampho.database import sqlite_table
from ampho.revise.autogenerate.ask.renames import RenamedInspector
from ampho.revise.autogenerate.compare import column_types
from ampho.revise.autogenerate.compare.expressions import default_tokens, parts, tokens

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

    from ampho.revise.autogenerate.operations.changes import Changes

NAME = "ampho.comparators"
"""The name of the plug-in, for ``autogenerate_plugins``."""

_CONTINUE, _STOP = PriorityDispatchResult.CONTINUE, PriorityDispatchResult.STOP
_CHECKS_OF_ALEMBIC = "checkconstraint_byname"
_COMPUTED = ("sqlite", "postgresql", "mysql", "mariadb")

_KIND_OF_INDEX = re.compile(r"CREATE (?:(\w+) )?INDEX", re.IGNORECASE)

_INDEXES = {
    "sqlite": "SELECT NULL, tbl_name, name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
    "postgresql": """
        SELECT n.nspname, t.relname, i.relname, pg_get_indexdef(x.indexrelid, 0, true)
        FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
        JOIN pg_namespace n ON n.oid = t.relnamespace WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast')""",
    "mariadb": """
        SELECT table_schema, table_name, index_name, CONCAT(
            'CREATE ', IF(
                index_type IN ('FULLTEXT', 'SPATIAL'), CONCAT(index_type, ' '), IF(non_unique, '', 'UNIQUE ')
            ), 'INDEX x ON y (', GROUP_CONCAT(CONCAT('`', column_name, '`',
                IF(sub_part IS NULL OR index_type IN ('FULLTEXT', 'SPATIAL'), '', CONCAT('(', sub_part, ')')),
                IF(collation = 'D', ' DESC', '')) ORDER BY seq_in_index SEPARATOR ', '), ')')
        FROM information_schema.statistics WHERE table_schema = DATABASE()
        GROUP BY table_schema, table_name, index_name, index_type, non_unique
        HAVING SUM(column_name IS NULL) = 0""",
}
_INDEXES["mysql"] = _INDEXES["mariadb"]

_MYSQL = ("mysql", "mariadb")
_MYSQL_DEFAULTS = """
    SELECT table_schema, table_name, column_name, column_default, extra
    FROM information_schema.columns WHERE table_schema = DATABASE() AND column_default IS NOT NULL"""

_PRINTED = """
    SELECT attname, pg_get_expr(adbin, adrelid)
    FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
    WHERE adrelid = 'pg_temp.{table}'::regclass
    UNION ALL SELECT conname, pg_get_constraintdef(oid, true) FROM pg_constraint
    WHERE conrelid = 'pg_temp.{table}'::regclass
    UNION ALL SELECT relname, pg_get_indexdef(oid, 0, true) FROM pg_index JOIN pg_class ON oid = indexrelid
    WHERE indrelid = 'pg_temp.{table}'::regclass"""
_TEMPORARY = "ampho_compared"
_TEXT_CASTS = [["::", *words, *array] for array in (["[", "]"], []) for words in (["text"], ["character", "varying"])]


def setup(plugin: Plugin) -> None:
    """Register the functions of this plug-in, for Alembic."""
    plugin.add_autogenerate_comparator(_compare_type, "column", "types")
    plugin.add_autogenerate_comparator(_compare_default, "column", "server_default")
    for database in _COMPUTED:  # runs before Alembic's general function, which only warns
        plugin.add_autogenerate_comparator(_skip_computed, "column", "server_default", qualifier=database)
    plugin.add_autogenerate_comparator(_compare_table, "table", "ampho")


def make_checks_of_columns(changes: Changes) -> None:
    """Create the check constraints of the columns of new tables, because Alembic omits them."""
    for operation in changes.upgrade.ops:
        if isinstance(operation, ops.CreateTableOp):
            items = [item for column in operation.columns if isinstance(column, Column) for item in column.constraints]
            checks = [item for item in items if isinstance(item, CheckConstraint)]
            operation.columns = [
                *operation.columns,
                *(CheckConstraint(item.sqltext, name=item.name) for item in checks),
            ]


def separate_indexes(changes: Changes) -> None:
    """Change indexes on expressions separately from their table, because a batch of SQLite cannot change both."""
    if changes.autogen.migration_context.dialect.name != "sqlite":
        return
    found: list[ops.MigrateOperation] = []
    for operation in changes.upgrade.ops:
        parts = [operation]
        if isinstance(operation, ops.ModifyTableOps):
            drops = [item for item in operation.ops if isinstance(item, ops.DropIndexOp)]
            makes = [item for item in operation.ops if isinstance(item, ops.CreateIndexOp)]
            rest = [item for item in operation.ops if not isinstance(item, (ops.DropIndexOp, ops.CreateIndexOp))]
            if rest and any(_is_on_expression(item) for item in (*drops, *makes)):
                name, schema = operation.table_name, operation.schema
                parts = [ops.ModifyTableOps(name, each, schema=schema) for each in (drops, rest, makes) if each]
        found.extend(parts)
    changes.upgrade.ops[:] = found


def _is_on_expression(operation: ops.MigrateOperation) -> bool:
    return isinstance(operation, (ops.DropIndexOp, ops.CreateIndexOp)) and any(
        not isinstance(item, Column) for item in operation.to_index().expressions
    )


@contextmanager
def without_warnings() -> Iterator[None]:
    """Hide the warnings that SQLAlchemy and Alembic skip certain indexes, because this module compares these."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Skipped unsupported reflection of expression-based index")
        warnings.filterwarnings("ignore", "autogenerate skipping metadata-specified expression-based index")
        yield


def _compare_type(
    context: AutogenContext,
    operation: ops.AlterColumnOp,
    _schema: str | None,
    _table: str,
    _column: str,
    present: Column[Any],
    declared: Column[Any],
) -> PriorityDispatchResult:
    found = column_types.differs(present, declared, _dialect(context))
    if found:
        operation.modify_type = declared.type
    return _CONTINUE if found is None else _STOP


def _skip_computed(
    _context: AutogenContext,
    _operation: ops.AlterColumnOp,
    _schema: str | None,
    _table: str,
    _column: str,
    present: Column[Any],
    declared: Column[Any],
) -> PriorityDispatchResult:
    both = isinstance(present.server_default, Computed) and isinstance(declared.server_default, Computed)
    return _STOP if both else _CONTINUE


def _compare_default(
    context: AutogenContext,
    operation: ops.AlterColumnOp,
    _schema: str | None,
    _table: str,
    _column: str,
    present: Column[Any],
    declared: Column[Any],
) -> PriorityDispatchResult:
    wanted = declared.server_default
    if isinstance(wanted, FetchedValue) and not isinstance(wanted, DefaultClause):
        return _STOP  # the database fills the column, in a way that the model does not state
    if _is_serial(declared, context):
        return _STOP
    if wanted is present.server_default is None and _dialect(context).name not in _MYSQL:
        return _STOP
    here, there = _present_default(present, context), _default(declared, context)
    found, expected = (_default_tokens(sql, declared, context) for sql in (here, there))
    if _correct_default(present, context):
        operation.existing_server_default = present.server_default
    if not expected and isinstance(present.type, DOMAIN):
        expected = _default_tokens(present.type.default, declared, context)  # reflected as the column's default
    if _is_written_so(found, declared, context):
        return _STOP
    if found != expected and not _is_same_on_mysql(here, there, context):
        operation.modify_server_default = wanted
    return _STOP


def _is_written_so(found: list[str], column: Column[Any], context: AutogenContext) -> bool:
    """Return whether the model's default is a string in quotes, and the database has it without these quotes."""
    text_ = column.server_default.arg if isinstance(column.server_default, DefaultClause) else None
    quoted = isinstance(text_, str) and re.fullmatch("'[^']*'", text_)
    return bool(quoted) and found == _default_tokens(text_, column, context)


def _is_same_on_mysql(here: str | None, there: str | None, context: AutogenContext) -> bool:
    """Return whether two expressions are equal apart from the functions, which MariaDB and MySQL may rename."""
    database = _dialect(context).name
    if database not in _MYSQL or here is None or there is None or "(" not in tokens(here, database):
        return False
    updates = {"on update" in sql.lower() for sql in (here, there)}
    return len(updates) == 1 and "(" in tokens(there, database) and parts(here, database) == parts(there, database)


def _present_default(column: Column[Any], context: AutogenContext) -> str | None:
    """Return the server default of a column in the database, even one of MariaDB or MySQL that is not reflected."""
    if _dialect(context).name not in _MYSQL:
        return _default(column, context)
    schema = column.table.schema or _dialect(context).default_schema_name
    key = (schema, column.table.name, column.name)
    return _mysql_defaults(context).get(key) or _default(column, context)  # a renamed column has another key


def _correct_default(column: Column[Any], context: AutogenContext) -> bool:
    """Set the server default that a column of MariaDB or MySQL has, if SQLAlchemy reflects another one."""
    here = _present_default(column, context)
    if here is None or here == _default(column, context) or not _default_tokens(here, column, context):
        return False
    column.server_default = DefaultClause(text(f"({here})" if "(" in here and "current" not in here else here))
    return True


def _default_tokens(sql: object, column: Column[Any], context: AutogenContext) -> list[str]:
    is_text = isinstance(column.type.dialect_impl(_dialect(context)), String)
    return default_tokens(None if sql is None else str(sql), _dialect(context).name, is_text=is_text)


def _is_serial(column: Column[Any], context: AutogenContext) -> bool:
    return _dialect(context).name == "postgresql" and column is column.table.autoincrement_column


def _dialect(context: AutogenContext) -> Any:  # noqa: ANN401 (the dialects have more than their base class)
    return context.migration_context.dialect


def _connection(context: AutogenContext) -> Connection:
    return cast("Connection", context.connection)


def _default(column: Column[Any], context: AutogenContext) -> str | None:
    """Return the server default of a column as SQL."""
    dialect = _dialect(context)
    return _single_percent(dialect.ddl_compiler(dialect, None).get_column_default_string(column), context)


def _single_percent(sql: str | None, context: AutogenContext) -> str | None:
    """Return SQL with single percent signs in place of the doubled ones that some drivers need."""
    return sql.replace("%%", "%") if sql and _dialect(context).paramstyle in ("format", "pyformat") else sql


@dataclass
class _Difference:
    """An expression that may differ between the database and the model.

    :ivar present: the expression as the database prints it.
    :ivar declared: the expression in the model.
    :ivar statement: for PostgreSQL, the statement that adds the model's expression to a temporary table, as ``{name}``.
    :ivar equal: a function to call if the expressions are equal.
    :ivar different: a function to call if the expressions differ.
    """

    present: str
    declared: str
    statement: str
    equal: Callable[[], None] = lambda: None
    different: Callable[[], None] = lambda: None


def _compare_table(
    context: AutogenContext,
    found: ops.ModifyTableOps,
    schema: str | None,
    _name: str,
    present: Table | None,
    declared: Table | None,
) -> PriorityDispatchResult:
    if _dialect(context).name == "sqlite" and present is None and declared is not None:
        _make_skipped_indexes(found, declared)
    if present is not None and declared is None and _dialect(context).name in _INDEXES:
        _TableComparison(context, found, present, Table(present.name, MetaData())).drop()
    if present is None or declared is None or _dialect(context).name not in _INDEXES:
        return _CONTINUE
    comparison = _TableComparison(context, found, present, declared)
    if isinstance(context.inspector, RenamedInspector) and context.inspector.is_renamed(schema, present.name):
        list(comparison.checks())  # only the names: in expressions, the database still has the old ones
        return _CONTINUE
    differences = [
        *comparison.defaults(),
        *comparison.computed(),
        *comparison.checks(),
        *comparison.indexes(),
    ]
    if _dialect(context).name == "sqlite":
        comparison.drop_unnamed_uniques()
    printed = _printed(context, present, differences) if differences else {}
    for number, difference in enumerate(differences):
        same = number in printed and _definition(printed[number]) == _definition(difference.present)
        (difference.equal if same else difference.different)()
    comparison.finish()
    return _CONTINUE


def _make_skipped_indexes(found: ops.ModifyTableOps, declared: Table) -> None:
    """Create the indexes on expressions of a new table, because Alembic omits them on SQLite."""
    made = {operation.index_name for operation in found.ops if isinstance(operation, ops.CreateIndexOp)}
    left = sorted((index for index in declared.indexes if index.name not in made), key=lambda index: str(index.name))
    found.ops.extend(map(ops.CreateIndexOp.from_index, left))


def _definition(sql: str) -> list[str]:
    """Return the tokens of an expression, a constraint, or an index as PostgreSQL prints it, without its names."""
    index = re.match(r"CREATE (UNIQUE )?INDEX .*? USING ", sql, re.DOTALL)
    bare = f"{index[1]} {sql[index.end() :]}" if index else re.sub(r"^CHECK (?=\()", "", sql)
    found = tokens(bare.removesuffix(" NOT VALID"), "postgresql")
    return [*_without_text_casts(found)]


def _without_text_casts(found: list[str]) -> Iterator[str]:
    """Yield tokens without casts to text, because PostgreSQL moves these when it reads what it has printed."""
    number = 0
    while number < len(found):
        casts = (cast for cast in _TEXT_CASTS if found[number : number + len(cast)] == cast)
        if cast := next(casts, None):
            number += len(cast)
        else:
            yield found[number]
            number += 1


class _TableComparison:
    """Compares what belongs to one table.

    :ivar found: the operations for the table, which the comparison corrects.
    """

    def __init__(self, context: AutogenContext, found: ops.ModifyTableOps, present: Table, declared: Table) -> None:
        self._context = context
        self.found = found
        self._present = present
        self._declared = declared
        self._dialect = _dialect(context)
        self._database: str = self._dialect.name
        self._preparer = self._dialect.identifier_preparer
        self._unfounded: list[ops.MigrateOperation] = []

    def finish(self) -> None:
        """Remove the operations on what turned out to be equal, and the operations that a key does not allow."""
        key = {column.name for column in self._present.primary_key}
        for operation in self.found.ops:
            if isinstance(operation, ops.AlterColumnOp) and operation.modify_nullable and operation.column_name in key:
                operation.modify_nullable = None
                if not operation.has_changes():
                    self._unfounded.append(operation)
        if self._database in _MYSQL:
            self._drop_indexes_of_keys()
            self._unfounded += [item for item in self.found.ops if self._is_needed(item)]
        self.found.ops[:] = [operation for operation in self.found.ops if not _is_in(operation, self._unfounded)]
        self._keep_definitions()

    def drop(self) -> None:
        """Let the downgrade create a dropped table with the indexes and defaults that SQLAlchemy does not reflect."""
        list(self.indexes())
        self._keep_definitions()
        for column in self._present.columns:
            _correct_default(column, self._context)

    def _keep_definitions(self) -> None:
        """Let the operations that drop indexes create them again as they were."""
        self.found.ops[:] = [self._reversible(operation) for operation in self.found.ops]

    def _reversible(self, operation: ops.MigrateOperation) -> ops.MigrateOperation:
        """Return an operation that can be reverted, even if SQLAlchemy reflects the dropped index only in part."""
        if not isinstance(operation, ops.DropIndexOp):
            return operation
        name = str(operation.index_name)
        sql = _definitions(self._context).get((self._schema(), self._present.name), {}).get(name, "")
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
            if index.name in names and index.name not in declared and not self._pair(str(index.name)):
                self._drop_index(index)

    def _is_needed(self, operation: ops.MigrateOperation) -> bool:
        """Return whether an operation drops the only index of a foreign key, which MariaDB and MySQL refuse."""
        if not isinstance(operation, ops.DropIndexOp):
            return False
        dropped = next((index for index in self._present.indexes if index.name == operation.index_name), None)
        others = [[*index.columns.keys()] for index in (*self._declared.indexes, *self._uniques())]
        keys = [[*key.columns.keys()] for key in self._declared.foreign_key_constraints]
        return dropped is not None and any(
            _begins([*dropped.columns.keys()], key) and not any(_begins(other, key) for other in others) for key in keys
        )

    def _uniques(self) -> Iterator[UniqueConstraint | PrimaryKeyConstraint]:
        for item in self._declared.constraints:
            if isinstance(item, (UniqueConstraint, PrimaryKeyConstraint)):
                yield item

    def defaults(self) -> Iterator[_Difference]:
        """Yield the server defaults that ``_compare_default()`` found to differ."""
        for operation in self.found.ops:
            if not isinstance(operation, ops.AlterColumnOp) or not isinstance(
                operation.modify_server_default, DefaultClause
            ):
                continue
            column = self._declared_column(operation.column_name)
            present, declared = (
                _default(self._present.columns[column.name], self._context),
                _default(column, self._context),
            )
            if present is not None and declared is not None:
                statement = f"ADD COLUMN {{name}} {self._type(column)} DEFAULT {_escaped(declared)}"
                yield _Difference(
                    present, declared, f"ALTER TABLE {{table}} {statement}", self._drop_default(operation)
                )

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

    def computed(self) -> Iterator[_Difference]:
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
                yield _Difference(present, declared, f"ALTER TABLE {{table}} {statement}", different=replace)

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
        return _single_percent(compiled, self._context) or ""

    def _may_differ(self, present: str, declared: str) -> bool:
        """Return whether expressions differ, as far as can be told without the database.

        MariaDB and MySQL print other expressions than the models contain, so only some of their tokens are compared.
        """
        if self._database in _MYSQL:
            names = [column.name for column in self._present.columns]
            return parts(present, self._database, names) != parts(declared, self._database, names)
        return tokens(present, self._database) != tokens(declared, self._database)

    def checks(self) -> Iterator[_Difference]:
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
                yield _Difference(here, there, statement, different=self._changed_check(name, other, check))

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

    def indexes(self) -> Iterator[_Difference]:
        """Yield the indexes whose definitions may differ, and drop those on expressions of SQLite that models lack."""
        present = _definitions(self._context).get((self._schema(), self._present.name), {})
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

    def _index(self, name: str, index: Index, present: str | None) -> Iterator[_Difference]:
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
            if not pair:
                old = next((item for item in self._present.indexes if item.name == name), None)
                if self._drop_index(old if old is not None else self._read_index(name, present)):
                    self._make_index(index)
            elif all(isinstance(each, ops.DropIndexOp) for each in pair):
                self._make_index(index)

        if self._is_same_index(present, declared):
            equal()
        else:
            statement = f"CREATE {'UNIQUE ' if index.unique else ''}INDEX {{name}} ON {{table}} {_escaped(declared[1])}"
            yield _Difference(present, declared[1], statement, equal, different)

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
            sql = _single_percent(str(CreateIndex(index).compile(dialect=self._dialect)), self._context) or ""
        except CompileError:
            return None
        head, _, rest = sql.replace("CONCURRENTLY ", "").partition(f" ON {self._preparer.format_table(index.table)} ")
        return head, rest

    def _is_same_index(self, present: str, declared: tuple[str, str]) -> bool:
        here, there = _KIND_OF_INDEX.match(present), _KIND_OF_INDEX.match(declared[0])
        if here is None or there is None or (here[1] or "").upper() != (there[1] or "").upper():
            return False
        table = r".*? ON (?:ONLY )?(?:\S+|\".*?\") (?=USING )" if self._database == "postgresql" else r"[^(]*"
        rest = re.sub(table, "", present[here.end() :], count=1, flags=re.DOTALL)
        return self._index_tokens(rest) == self._index_tokens(declared[1])

    def _index_tokens(self, sql: str) -> list[str]:
        found = re.sub(r"^ ?USING btree ", "", sql.strip(), flags=re.IGNORECASE)
        found = re.sub(r"\s+USING \w+$", "", found, flags=re.IGNORECASE)
        return [item for item in tokens(found, self._database) if item != "asc"]

    def _read_index(self, name: str, sql: str) -> Index:
        """Return an SQLite index on expressions, which SQLAlchemy does not reflect, from the SQL that creates it."""
        items, where = _items_and_condition(sql)
        unique = sql.upper().startswith("CREATE UNIQUE")
        options = dict.fromkeys(["sqlite_where", "postgresql_where"], _literal(where)) if where else {}
        return Index(name, _literal(items), unique=unique, **options, _table=self._present)

    def _unquoted(self, name: str) -> str:
        quote = self._preparer.initial_quote
        return name[1:-1].replace(quote * 2, quote) if name.startswith(quote) else name


def _unnamed_uniques(table: Table) -> dict[frozenset[str], UniqueConstraint]:
    """Return the unique constraints without a name, by their columns."""
    items = [
        item for item in table.constraints if isinstance(item, UniqueConstraint) and not isinstance(item.name, str)
    ]
    return {frozenset(column.name for column in item.columns): item for item in items}


def _items_and_condition(sql: str) -> tuple[str, str]:
    """Return what is in the parentheses of a CREATE INDEX statement, and the condition of a partial index."""
    found = sqlite_table.tokens(sql)
    opening = next(number for number, token in enumerate(found) if token.text == "(")
    depths = accumulate({"(": 1, ")": -1}.get(token.text, 0) for token in found[opening:])
    closing = opening + next(number for number, depth in enumerate(depths) if depth == 0)
    rest = found[closing + 1 :]
    return sql[found[opening].end : found[closing].start], sql[rest[0].end :] if rest else ""


def _begins(columns: list[str], beginning: list[str]) -> bool:
    return columns[: len(beginning)] == beginning


def _is_in(item: object, items: list[Any]) -> bool:
    return any(item is other for other in items)


def _escaped(sql: str) -> str:
    return sql.replace("{", "{{").replace("}", "}}")


def _mysql_defaults(context: AutogenContext) -> Mapping[tuple[str, str, str], str]:
    """Return the server defaults by the schema, the name of the table, and the name of the column."""
    cache = context.inspector.info_cache
    if "ampho_defaults" not in cache:
        rows = _connection(context).execute(text(_MYSQL_DEFAULTS)).all()
        literals = not _dialect(context).is_mariadb  # MySQL returns a string without its quotes
        cache["ampho_defaults"] = {
            tuple(key): _mysql_default(sql, extra, literals=literals) for *key, sql, extra in rows
        }
    return cast("Mapping[tuple[str, str, str], str]", cache["ampho_defaults"])


def _mysql_default(sql: str, extra: str, *, literals: bool) -> str:
    if literals and "DEFAULT_GENERATED" not in extra:
        sql = "'" + sql.replace("\\", "\\\\").replace("'", "''") + "'"
    update = re.search(r"on update .*", extra, re.IGNORECASE)
    return f"{sql} {update[0]}" if update else sql


def _definitions(context: AutogenContext) -> Mapping[tuple[str | None, str], Mapping[str, str]]:
    """Return the statement that creates each index, by the schema and the name of its table, then by its name."""
    cache = context.inspector.info_cache
    if "ampho_indexes" not in cache:
        found: dict[tuple[str | None, str], dict[str, str]] = {}
        for schema, table, name, sql in _connection(context).execute(text(_INDEXES[_dialect(context).name])):
            found.setdefault((schema, table), {})[name] = sql
        cache["ampho_indexes"] = found
    return cast("Mapping[tuple[str | None, str], Mapping[str, str]]", cache["ampho_indexes"])


def _printed(context: AutogenContext, table: Table, differences: list[_Difference]) -> dict[int, str]:
    """Return the models' expressions as PostgreSQL prints them, by their numbers, except those that it rejects.

    One statement creates a temporary table and adds each expression, and one reads them. Both are rolled back.
    """
    if _dialect(context).name != "postgresql":
        return {}
    original = _dialect(context).identifier_preparer.format_table(table)
    names = {f"ampho_{number}": number for number in range(len(differences))}
    statements = [
        item.statement.format(name=name, table=f"pg_temp.{_TEMPORARY}")
        for name, item in zip(names, differences, strict=True)
    ]
    body = "".join(f"BEGIN {each}; EXCEPTION WHEN OTHERS THEN NULL; END; " for each in statements)
    make = f"CREATE TEMPORARY TABLE {_TEMPORARY} (LIKE {original}) ON COMMIT DROP"
    connection = _connection(context)
    try:
        with connection.begin_nested() as nested:
            connection.execute(_literal(f"DO $ampho$ BEGIN {make}; {body}END $ampho$"))
            rows: Any = connection.execute(_literal(_PRINTED.format(table=_TEMPORARY))).all()
            nested.rollback()
    except DBAPIError:
        return {}  # for example because the server is read-only
    printed: dict[str, str] = dict(rows)
    return {number: printed[name] for name, number in names.items() if name in printed}


def _literal(sql: str) -> Any:  # noqa: ANN401 (a text that the connection executes)
    return text(sql.replace(":", "\\:"))


Plugin.setup_plugin_from_module(sys.modules[__name__], NAME)
