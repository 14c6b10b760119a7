"""Corrections to what Alembic's comparison finds, and comparisons that it does not make.

This module is an Alembic plug-in that the configuration of ``env.py`` names, so plain Alembic uses it, too. Alembic
calls its functions for each column and each table that exists both in the database and in the models:

- Types and server defaults are compared in a uniform spelling.
- Expressions of computed columns, check constraints with a name, and definitions of indexes are compared as well.
- PostgreSQL prints expressions in its own form. If an expression differs from the model's, a temporary table is created
  with the model's expression, to see how PostgreSQL prints it. This happens at most once per table, and is rolled back.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from alembic.runtime.plugins import Plugin
from alembic.util import PriorityDispatchResult
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
)
from sqlalchemy.types import NullType

from ampho.revise.autogenerate.compare import column_types
from ampho.revise.autogenerate.compare.catalog import dialect_of
from ampho.revise.autogenerate.compare.defaults import compare_default
from ampho.revise.autogenerate.compare.tables import compare_table

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

    from ampho.revise.autogenerate.operations.changes import Changes

NAME = "ampho.comparators"
"""The name of the plug-in, for ``autogenerate_plugins``."""

_CONTINUE, _STOP = PriorityDispatchResult.CONTINUE, PriorityDispatchResult.STOP
_COMPUTED = ("sqlite", "postgresql", "mysql", "mariadb")


def setup(plugin: Plugin) -> None:
    """Register the functions of this plug-in, for Alembic."""
    plugin.add_autogenerate_comparator(_compare_type, "column", "types")
    plugin.add_autogenerate_comparator(compare_default, "column", "server_default")
    for database in _COMPUTED:  # runs before Alembic's general function, which only warns
        plugin.add_autogenerate_comparator(_skip_computed, "column", "server_default", qualifier=database)
    plugin.add_autogenerate_comparator(compare_table, "table", "ampho")


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
    found = column_types.differs(present, declared, dialect_of(context))
    if found:
        operation.modify_type = declared.type
    elif isinstance(present.type, NullType):
        operation.existing_type = declared.type
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


Plugin.setup_plugin_from_module(sys.modules[__name__], NAME)
