"""Creating and dropping the domains of PostgreSQL that columns use, as SQLAlchemy does only with a whole table."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect, text
from sqlalchemy.dialects.postgresql import DOMAIN

from ampho.revise.autogenerate.operations.changes import Changes
from ampho.revise.autogenerate.operations.describe import Change
from ampho.revise.autogenerate.operations.enum_catalog import Name
from ampho.revise.autogenerate.operations.enums import types_of
from ampho.revise.autogenerate.operations.statements import Statement
from ampho.revise.autogenerate.owners.keys import join_key

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy.types import TypeEngine


class DomainOp(Statement):
    """Creates or drops a domain, and does the opposite in the downgrade.

    :ivar creates: whether the domain is created.
    """

    def __init__(self, domain: DOMAIN, *, creates: bool) -> None:
        name = join_key(domain.schema, str(domain.name))
        super().__init__("", Change("+" if creates else "-", "domain", name))
        self.domain: DOMAIN = domain
        self.creates = creates

    def reverse(self) -> DomainOp:
        """Return the operation of the downgrade."""
        return DomainOp(self.domain, creates=not self.creates)


def change_domains(changes: Changes) -> None:
    """Create the domains of new columns that do not exist, and drop those that no model uses any more."""
    autogen = changes.autogen
    if autogen.dialect.name != "postgresql":
        return
    new = _domains(types_of(changes), autogen)
    gone = _domains(types_of(changes, dropped=True), autogen)
    if not new and not gone:
        return
    for domain in gone.values():
        _correct(domain)
    tables = autogen.table_key_to_table.values()
    used = _domains((column.type for table in tables for column in table.columns), autogen)
    found: Any = inspect(autogen.connection)
    present = {(each["schema"], each["name"]) for each in found.get_domains(schema="*")}
    created = {name: domain for name, domain in new.items() if domain.create_type and name not in present}
    dropped = {name: domain for name, domain in gone.items() if name in present and name not in used}
    before = [DomainOp(domain, creates=True) for domain in created.values()]
    after = [DomainOp(domain, creates=False) for domain in dropped.values()]
    changes.upgrade.ops[:] = [*before, *changes.upgrade.ops, *after]


def _correct(domain: DOMAIN) -> None:
    """Change a reflected domain, in which SQLAlchemy writes the default as text and names even the usual collation."""
    type_: Any = domain.data_type
    if isinstance(domain.default, str):
        domain.default = text(domain.default.replace(":", "\\:"))
    if domain.collation == "default":
        domain.collation = type_.collation = None


def _domains(types: Iterable[TypeEngine[Any]], autogen: AutogenContext) -> dict[Name, DOMAIN]:
    """Return the domains among types, by their names."""
    # Before SQLAlchemy 2.0.56, dialect_impl() returned a domain without its check and its default.
    used = [copy(each) if isinstance(each, DOMAIN) else each.dialect_impl(autogen.dialect) for each in types]
    found = [each for each in used if isinstance(each, DOMAIN)]
    return {(str(each.schema or autogen.dialect.default_schema_name), str(each.name)): each for each in found}
