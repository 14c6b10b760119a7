"""The class of tables whose bind key selects their metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import MetaData, Table

if TYPE_CHECKING:
    from typing import ClassVar, Self, overload

    from sqlalchemy.sql.schema import SchemaItem

    from ampho.aio.sqlalchemy.model import Metadatas


class BindTable(Table):
    """A table of the metadata for ``bind_key``, unless its second argument is metadata.

    Otherwise, it is like :class:`sqlalchemy.Table`, and accepts the same arguments.
    """

    __metadatas__: ClassVar[Metadatas]

    if TYPE_CHECKING:

        @overload
        def __init__(self, name: str, metadata: MetaData, /, *items: SchemaItem, **options: object) -> None: ...

        @overload
        def __init__(
            self, name: str, /, *items: SchemaItem, bind_key: str | None = None, **options: object
        ) -> None: ...

        def __init__(self, name: str, /, *items: object, **options: object) -> None: ...

    else:

        def __new__(cls, *items: object, bind_key: str | None = None, **options: object) -> Self:
            """Return the table, which may already exist in the metadata."""
            has_metadata = len(items) > 1 and isinstance(items[1], MetaData)
            if items and not has_metadata:
                items = (items[0], cls.__metadatas__[bind_key], *items[1:])
            return super().__new__(cls, *items, **options)

        def __init__(self, name: str, *items: object, **options: object) -> None:
            # Python passes the arguments of __new__ again, without the metadata. SQLAlchemy then ignores them.
            if items:
                super().__init__(name, *items, **options)


def make_table_class(metadatas: Metadatas) -> type[BindTable]:
    """Return the class of tables for the metadata of an extension."""
    return type("Table", (BindTable,), {"__metadatas__": metadatas})
