"""Finding the packages that own objects other than tables, such as types, views, and functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ampho.revise.autogenerate.owners.declared import Claim, Modules, only
from ampho.revise.autogenerate.owners.keys import split_key
from ampho.revise.autogenerate.owners.ownership import IGNORED, Ownership

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import MigrateOperation

_NAMES = ("name", "signature", "object_name")
"""The attributes in which plug-ins for Alembic keep the name of an object."""


@dataclass
class ObjectOwners:
    """The packages that own objects other than tables, such as the views that plug-ins for Alembic compare.

    An object belongs to the package that the app names for it, to the package whose module declares it, or to the
    package whose revision was the first to name it. A type belongs to one of the packages with tables that use it: to
    the one that created it or declares it, or otherwise to the one on which the others depend.

    :ivar owners: the owners of tables.
    :ivar autogen: the context of the comparison.
    :ivar packages: the packages that are compared.
    :ivar seen: the keys of the tables in the database, which the comparison adds.
    :ivar unowned: the kinds and names of the objects in the models for which :meth:`of` found no owner.
    :ivar unowned_in_database: the kinds and names of the objects without an owner that are only in the database.
    """

    owners: Ownership
    autogen: AutogenContext
    packages: Collection[str]
    seen: Sequence[str]

    def __post_init__(self) -> None:
        self._modules = Modules(self.owners.rules.names)
        # Plug-ins may replace the types during the comparison, so the types are read before it.
        self._in_models = list(self._used_in_models())
        self._types = {name: type_ for _, name, type_ in self._in_models}
        self.unowned: list[tuple[str, str]] = []
        self.unowned_in_database: list[tuple[str, str]] = []

    def of(self, operation: MigrateOperation) -> Collection[str]:
        """Return the packages that need an operation, which is at most one if the operation names an object."""
        item = getattr(operation, "target", operation)  # alembic_utils keeps the view in its operation
        name = next(filter(None, (getattr(item, each, None) for each in _NAMES)), None)
        if name is None or type(operation).__module__.startswith("alembic."):
            return self.packages
        schema = getattr(item, "schema", None)
        if name in self.users_of_types:
            owner = self.owner_of_type(str(name), schema)
        else:
            owner = self._owner_of_object(item, str(name), schema)
        if owner is None:
            drops = "drop" in type(operation).__name__.lower()
            (self.unowned_in_database if drops else self.unowned).append((_kind(item), str(name)))
        return [owner] if owner else ()

    def owner_of_type(self, name: str, schema: str | None = None) -> str | None:
        """Return the package that owns a type, ``IGNORED`` if Ampho ignores the type, or None if no package uses it."""
        users = self.users_of_types.get(name, ())
        if (stated := self.owners.rules.owner(self._types.get(name), "type", name, schema)) is not None:
            return stated
        created = self.owners.created.objects.get(name)
        if created in users or not users:
            return created
        declared = self._declarer(getattr(self._types.get(name), "enum_class", None), self._types.get(name))
        return declared if declared in users else self.owners.first_of(users)

    def owners_of_types(self, package: str, operations: Iterable[MigrateOperation]) -> set[str]:
        """Return the owners of the types that new or altered columns use; empty if the database has no named types."""
        if self.autogen.dialect.name != "postgresql":
            return set()
        used = [type_ for operation in operations for type_ in _types_in(operation)]
        names = {name for type_ in used for _, name, _ in _named(package, type_)}
        return {owner for name in names if (owner := self.owner_of_type(name))}

    def _owner_of_object(self, item: object, name: str, schema: str | None) -> str | None:
        stated = self.owners.rules.owner(item, _kind(item), name, schema)
        if stated is not None:
            return stated
        declared = self._declarer(item) or self._modules.writing(type(item).__name__, name)
        return declared or self.owners.created.objects.get(name)

    def _declarer(self, *items: object) -> str | None:
        """Return the only package that declares the first of the objects that modules declare; None if several do."""
        places = self._modules.places([item for item in items if item is not None])
        for item in items:
            found = [place for place in places.get(id(item), ()) if place.claim > Claim.RENAMED]
            if found:
                return only(place.package for place in found if place.claim == found[0].claim)
        return None

    @cached_property
    def users_of_types(self) -> Mapping[str, Collection[str]]:
        """The packages that use each named type, in the models or in the database."""
        users: dict[str, set[str]] = {}
        for package, name, _ in (*self._in_models, *self._used_in_database()):
            users.setdefault(name, set()).add(package)
        return users

    def _used_in_models(self) -> Iterator[tuple[str, str, object]]:
        for table in self.autogen.table_key_to_table.values():
            for column in table.columns:
                owner = self.owners.owner_of_column(table.key, column.name)
                yield from _named(owner, column.type)

    def _used_in_database(self) -> Iterator[tuple[str, str, object]]:
        for key in self.seen:
            if self.owners.owners_in(key).isdisjoint(self.packages):
                continue
            schema, name = split_key(key)
            for column in self.autogen.inspector.get_columns(name, schema):
                yield from _named(self.owners.owner_of_column(key, column["name"]), column["type"])


def _types_in(operation: MigrateOperation) -> Iterator[object]:
    """Yield the types of the columns that an operation creates or changes."""
    items = [*getattr(operation, "columns", ()), getattr(operation, "column", None)]
    yield from (type_ for item in items if (type_ := getattr(item, "type", None)) is not None)
    yield getattr(operation, "modify_type", None)


def _kind(item: object) -> str:
    """Return the kind of an object, such as ``view``, which alembic_utils calls its type."""
    return str(getattr(item, "type_", type(item).__name__)).lower()


def _named(owner: str | None, type_: object) -> Iterator[tuple[str, str, object]]:
    """Yield an owner, the name of a type, and the type, if the owner and the name exist."""
    item = getattr(type_, "item_type", type_)  # an array has an item type
    name = getattr(item, "name", None)
    if name and owner not in (None, IGNORED):
        yield str(owner), str(name), item
