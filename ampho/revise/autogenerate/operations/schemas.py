"""Creating the schemas of new tables and types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.operations import ops

from ampho.revise.autogenerate.operations.describe import Change
from ampho.revise.autogenerate.operations.enums import EnumOp
from ampho.revise.autogenerate.operations.statements import Statement, quoted

if TYPE_CHECKING:
    from ampho.revise.autogenerate.operations.changes import Changes


def create_schemas(changes: Changes) -> None:
    """Create the missing schemas of new tables, or warn about them where a schema is a database of its own."""
    autogen = changes.autogen
    wanted = {str(each.schema) for each in changes.only(ops.CreateTableOp) if each.schema}
    wanted -= {str(autogen.dialect.default_schema_name)}
    if autogen.dialect.name == "postgresql":
        wanted |= {str(each.enum.schema) for each in changes.only(EnumOp) if each.enum.schema}
    if not wanted:
        return
    missing = sorted(wanted.difference(autogen.inspector.get_schema_names()))
    if autogen.dialect.name == "postgresql":
        changes.upgrade.ops[:0] = [
            Statement(f"CREATE SCHEMA IF NOT EXISTS {quoted(name, autogen.dialect)}", Change("+", "schema", name))
            for name in missing
        ]
        return
    how = "Attach it before the revision runs" if autogen.dialect.name == "sqlite" else "Create it first"
    changes.warnings += [
        f"The models of {changes.package} have tables in the schema {name}, which is a database of its own on"
        f" {autogen.dialect.name}, and does not exist. {how}."
        for name in missing
    ]
