"""Letting one package create what the tables of several use: the enum types, domains, and sequences of a database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from sqlalchemy.dialects.postgresql import ENUM

from ampho.revise.autogenerate.operations.domains import DomainOp
from ampho.revise.autogenerate.operations.enum_catalog import catalog_of, renders_enums
from ampho.revise.autogenerate.operations.enums import EnumOp
from ampho.revise.autogenerate.owners.keys import split_key

if TYPE_CHECKING:
    from ampho.database.catalog import Catalog, Object
    from ampho.revise.autogenerate.operations.changes import Changes

_OF_TABLES = frozenset(["table", "column", "constraint", "index", "identity", "comment", "trigger", "rule", "policy"])


def owner_of(key: Object, owners: Mapping[str, str]) -> str | None:
    """Return the package that owns the table to which an object of a database belongs; None if it belongs to none."""
    kind, name = key
    prefixes = [*accumulate(name.split("."), "{}.{}".format)] if kind in _OF_TABLES else []
    return next((owners[each] for each in reversed(prefixes) if each in owners), None)


def share(
    changes: Mapping[str, Changes], owners: Mapping[str, str], before: Catalog, after: Catalog
) -> dict[Object, str]:
    """Let one package create each enum type, domain, and sequence, and the others depend on it.

    :param changes: the changes of the packages, which create the schema.
    :param owners: the owners of the tables.
    :return: the packages that create the sequences.
    """
    for name, each in changes.items():
        each.needs |= each.objects.owners_of_types(name, each.operations()) & changes.keys()
    new = {key: sql for key, sql in after.items() if key not in before}
    _share_enums(changes, [name for kind, name in new if kind == "enum type"])
    _share_domains(changes)
    return {key: _share_sequence(changes, owners, key[1], sql, new) for key, sql in new.items() if key[0] == "sequence"}


def _owner_of_type(changes: Mapping[str, Changes], name: str, schema: str | None) -> str:
    """Return the package that creates a type; the first one if nothing uses it."""
    first = next(iter(changes))
    owner = changes[first].objects.owner_of_type(name, schema)
    return owner if owner is not None and owner in changes else first


def _share_enums(changes: Mapping[str, Changes], keys: list[str]) -> None:
    """Create the types that several packages use, or none, which no package drops alone."""
    autogen = next(iter(changes.values())).autogen
    if not renders_enums(autogen):
        return
    catalog = catalog_of(autogen)
    made = {catalog.key(each.enum.schema, each.enum.name) for part in changes.values() for each in part.only(EnumOp)}
    for key in keys:
        schema, name = split_key(key)
        if catalog.key(schema, name) not in made:
            enum = ENUM(*catalog.labels[catalog.key(schema, name)], name=name, schema=schema)
            owner = changes[_owner_of_type(changes, name, schema)]
            owner.upgrade.ops.insert(0, EnumOp(enum, creates=True))
            owner.downgrade.ops.append(EnumOp(enum, creates=False))


def _share_domains(changes: Mapping[str, Changes]) -> None:
    for package, part in changes.items():
        for each in part.only(DomainOp):
            name, schema = str(each.domain.name), each.domain.schema
            owner = _owner_of_type(changes, name, schema)
            if owner != package:
                part.needs.add(owner)
                for container in (part.upgrade, part.downgrade):
                    container.ops[:] = [
                        one
                        for one in container.ops
                        if not (
                            isinstance(one, DomainOp) and (str(one.domain.name), one.domain.schema) == (name, schema)
                        )
                    ]


def _share_sequence(
    changes: Mapping[str, Changes], owners: Mapping[str, str], name: str, sql: str, new: Catalog
) -> str:
    """Return the package that creates a sequence, on which the others that use it depend."""
    table = sql.partition(" OWNED BY ")[2].replace('"', "")
    word = re.compile(rf"nextval\(.*\b{re.escape(split_key(name)[1])}\b", re.IGNORECASE)
    users = {owner_of(key, owners) for key, text in new.items() if key[0] == "column" and word.search(text)}
    found = [package for package in changes if package in users]
    of_all = next(iter(changes.values())).objects.owners.first_of(found)
    owner = owner_of(("table", table), owners) or of_all or next(iter(changes))
    for package in found:
        changes[package].needs.update({owner} - {package})
    return owner
