"""What a database contains, as a list of items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

Key: TypeAlias = tuple[str, str, str]
Traits: TypeAlias = tuple[tuple[str, str], ...]

TABLE = "table"
COLUMN = "column"
UNIQUE = "unique constraint"
CHECK = "check constraint"
FOREIGN_KEY = "foreign key"
PRIMARY_KEY = "primary key"
INDEX = "index"
BY_MEANING = frozenset([UNIQUE, CHECK, FOREIGN_KEY, PRIMARY_KEY, INDEX, "exclusion constraint"])
"""The kinds of items that are the same if they do the same, whatever their names are."""

COLLATION = "collation"
NULLABLE = ("", "NULL")
NOT_NULL = ("", "NOT NULL")


@dataclass(frozen=True, slots=True)
class Item:
    """A table, a part of a table, or another object of a database.

    :ivar table: the name of the table that the item is a part of; empty for the table itself and for other objects.
    :ivar name: its name; empty if it has none.
    :ivar traits: what it is, such as the type of a column, each with a name.
    :ivar is_generated: whether the database generated the name.
    """

    kind: str
    table: str
    name: str
    traits: Traits = ()
    is_generated: bool = False

    @property
    def label(self) -> str:
        """The kind and the name."""
        if not self.table:
            return f"{self.kind} {self.name}"
        return f"{self.kind} {self.table}.{self.name}" if self.name else f"{self.kind} of {self.table}"

    def __str__(self) -> str:
        words = ", ".join(filter(None, (f"{name} {text}".strip() if text else "" for name, text in self.traits)))
        return f"{self.label}: {words}" if words and self.table else self.label


@dataclass(frozen=True)
class Inventory:
    """What a database contains, without the tables of Ampho and Alembic if :meth:`without` has removed them.

    :ivar items: the tables with their parts, and other objects.
    :ivar schemas: the schemas that were read besides the default one.
    :ivar collation: the default collation; empty if the database has none that matters.
    :ivar folds: whether upper and lower case are the same in names.
    """

    items: tuple[Item, ...]
    schemas: frozenset[str] = frozenset()
    collation: str = ""
    folds: bool = False

    def fold(self, name: str) -> str:
        """Return a name in the form in which names are compared."""
        return name.lower() if self.folds else name

    def key(self, item: Item) -> Key:
        """Return a value that is equal for items with the same name."""
        return item.kind, self.fold(item.table), self.fold(item.name)

    @cached_property
    def tables(self) -> dict[str, Item]:
        """The tables by the names with which they are compared."""
        return {self.fold(item.name): item for item in self.items if item.kind == TABLE}

    def without(self, tables: Iterable[str]) -> Inventory:
        """Return the inventory without some tables."""
        names = {self.fold(name) for name in tables}
        kept = (
            item
            for item in self.items
            if self.fold(item.table) not in names and not (item.kind == TABLE and self.fold(item.name) in names)
        )
        return Inventory(tuple(kept), self.schemas, self.collation, self.folds)


def qualified(schema: str | None, name: str, default: str | None) -> str:
    """Return the name of an object, with its schema unless it is the default one."""
    return name if schema in (None, default) else f"{schema}.{name}"
