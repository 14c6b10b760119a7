"""Finding the packages that own the tables of the models."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, groupby
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from sqlalchemy import MetaData, Table, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper

from ampho.errors import ConfigurationError
from ampho.revise.autogenerate.owners.declared import Claim, Modules, Place, only, package_of

if TYPE_CHECKING:
    from sqlalchemy.orm import RelationshipProperty

_LIBRARIES = ("ampho", "flask_sqlalchemy", "importlib", "sqlalchemy")
_SAME_NAME = re.compile(r"Table '(.+)' is already defined for this MetaData instance")


class Models:
    """The tables of the models, and the packages that own them.

    A table belongs to the package with the module that declares its mapped class, or the table itself. If no module
    declares either, because a function creates them, these decide, in this order: a container in a module; the class
    with a relationship or an attribute that leads to them; the module of the function; and the module that contains the
    name of the table.

    :ivar tables: the tables in the metadata.
    :ivar owners: the known owners of tables.
    :ivar columns: for each table, the columns that subclasses in other packages add to it, each with the package.
    :ivar elsewhere: the tables of mapped classes that are in none of the metadata, each with its package.
    """

    def __init__(self, names: Sequence[str], metadata: Sequence[MetaData]) -> None:
        self._names = names
        self._modules = Modules(names)
        mappers = _configured(metadata)
        self.tables: list[Table] = [table for each in metadata for table in each.tables.values()]
        self._places: dict[int, list[Place]] = self._modules.places([*self.tables, *(each.class_ for each in mappers)])
        self.elsewhere: dict[Table, str] = self._elsewhere(mappers, metadata)
        tables = set(map(id, self.tables))
        self._mappers: list[Mapper[Any]] = [mapper for mapper in mappers if id(mapper.local_table) in tables]
        self._mapped: dict[int, list[Mapper[Any]]] = {}  # the mappers of a table, except single-table subclasses
        for mapper in self._mappers:
            if not _is_of_single_table(mapper):
                self._mapped.setdefault(id(mapper.local_table), []).append(mapper)
        self.owners: dict[Table, str] = {}
        self._foreign: set[Table] = set()  # the tables that are declared outside the listed packages
        self._find()
        self.columns: dict[Table, dict[str, str]] = self._columns_of_subclasses()

    def check_names(self, tables: Iterable[Table]) -> None:
        """Raise an error if two of the tables, which are in different ``MetaData`` objects, have the same name."""
        seen: dict[str, Table] = {}
        for table in tables:
            if (other := seen.setdefault(table.key, table)) is not table:
                raise ConfigurationError(_two_tables(table.key, [self._module(other), self._module(table)]))

    def _module(self, table: Table) -> str | None:
        """Return the name of the module that declares a table, if it is known."""
        places = [place for mapper in self._mapped_to(table) for place in self._of_class(mapper)]
        return next((place.module for place in places or self._declaring(table)), None)

    def _elsewhere(self, mappers: Iterable[Mapper[Any]], metadata: Sequence[MetaData]) -> dict[Table, str]:
        found: dict[Table, str] = {}
        for mapper in mappers:
            table = mapper.local_table
            package = only(self._declarers(mapper.class_))
            if package is not None and isinstance(table, Table) and not _is_in(table, metadata):
                found.setdefault(table, package)
        return found

    def _find(self) -> None:
        for table in self.tables:
            self._settle(table)
        steps: Sequence[Callable[[Table], Iterable[str | None]]] = (
            lambda table: self._claimants(table, Claim.HELD),
            self._makers,
            lambda table: self._claimants(table, Claim.RENAMED),
            lambda table: [self._modules.writing("Table", table.name)],
        )
        for step in steps:
            for table in self._loose():
                if owner := only(step(table)):
                    self.owners[table] = owner
            self._follow()

    def _settle(self, table: Table) -> None:
        """Record the owner of a table: the package that declares its class or, if there is none, the table itself."""
        places = [place for mapper in self._mapped_to(table) for place in self._of_class(mapper)]
        best = _strongest(places) or self._declaring(table)
        if only(place.package for place in best) is None:  # the classes are in several packages, or there is none
            best = self._declaring(table) or best
        if owner := only(place.package for place in best):
            self.owners[table] = owner
        elif best:
            self._foreign.add(table)

    def _mapped_to(self, table: object) -> Sequence[Mapper[Any]]:
        return self._mapped.get(id(table), ())

    def _of_class(self, mapper: Mapper[Any]) -> list[Place]:
        """Return the modules that declare a mapped class, which may be inside another class."""
        cls = mapper.class_
        found = self._declaring(cls)
        if not found and "." in cls.__qualname__ and "<locals>" not in cls.__qualname__:
            found = [Place(cls.__module__, package_of(cls.__module__, self._names), Claim.DEFINED)]
        return found

    def _declaring(self, item: object) -> list[Place]:
        return _strongest(place for place in self._places.get(id(item), ()) if place.claim >= Claim.MAPPED)

    def _declarers(self, cls: type) -> set[str | None]:
        return {place.package for place in self._declaring(cls)}

    def _loose(self) -> list[Table]:
        return [table for table in self.tables if table not in self.owners and table not in self._foreign]

    def _claimants(self, table: Table, claim: Claim) -> Iterator[str | None]:
        """Yield the packages whose modules have a certain claim to a table or its class."""
        for item in (table, *(mapper.class_ for mapper in self._mapped_to(table))):
            yield from (place.package for place in self._places.get(id(item), ()) if place.claim == claim)

    def _makers(self, table: Table) -> Iterator[str | None]:
        """Yield the packages with the functions that create the classes of a table."""
        for mapper in self._mapped_to(table):
            yield package_of(mapper.class_.__module__, self._names)

    def _follow(self) -> None:
        """Record the owners of tables to which relationships and attributes of the classes of only one package lead."""
        while True:
            loose: dict[int, Table] = {id(table): table for table in self._loose()}
            for mapper in self._mappers:
                if (table := loose.get(id(mapper.local_table))) is not None:
                    loose |= {id(mapper): table, id(mapper.class_): table}
            found: dict[Table, set[str]] = {}
            for mapper in self._mappers if loose else ():
                owner = self._owner_of_class(mapper)
                for item in _belongings(mapper, self._is_made_for) if owner else ():
                    if owner and id(item) in loose:
                        found.setdefault(loose[id(item)], set()).add(owner)
            new = {table: owner for table, owners in found.items() if (owner := only(owners))}
            if not new:
                return
            self.owners |= new

    def _owner_of_class(self, mapper: Mapper[Any]) -> str | None:
        table = mapper.local_table
        of_table = self.owners.get(table) if isinstance(table, Table) else None
        return (only(self._declarers(mapper.class_)) or of_table) if _is_of_single_table(mapper) else of_table

    def _is_made_for(self, cls: type, relationship: RelationshipProperty[Any]) -> bool:
        """Return whether a relationship leads to a class that was created together with the relationship.

        That is the case if no listed package created the class, or if a mixin of the same package created both.
        """
        maker = package_of(relationship.mapper.class_.__module__, self._names)
        mixins = [base for base in cls.__mro__[1:] if relationship.key in vars(base)]
        return maker is None or any(package_of(base.__module__, self._names) == maker for base in mixins)

    def _columns_of_subclasses(self) -> dict[Table, dict[str, str]]:
        found: dict[Table, dict[str, str]] = {}
        for mapper in self._mappers:
            owner, table = self._owner_of_class(mapper), mapper.local_table
            if owner and isinstance(table, Table) and owner != self.owners.get(table) and mapper.inherits:
                added = _columns(mapper, table) - _columns(mapper.inherits, table)
                found[table] = {**dict.fromkeys(added, owner), **found.get(table, {})}
        return found


def two_models(exc: BaseException) -> str | None:
    """Return what to do if an error says that two models have tables of the same name; otherwise, None."""
    found = _SAME_NAME.match(str(exc))
    if found is None:
        return None
    frames = [frame for frame, _ in walk_tb(exc.__traceback__)]
    modules = [str(frame.f_globals.get("__name__", "")) for frame in frames]
    second = [module for module in modules if module.partition(".")[0] not in _LIBRARIES]
    metadata = frames[-1].f_locals.get("metadata")
    table = metadata.tables.get(found[1]) if isinstance(metadata, MetaData) else None
    items = [table, *(mapper.class_ for mapper in all_mappers() if mapper.local_table is table)]
    places = [place for held in Modules(()).places(items).values() for place in held] if table is not None else []
    first = [place.module for place in _strongest(places)]
    return _two_tables(found[1], [*first[:1], *second[-1:]])


def _two_tables(key: str, modules: Iterable[str | None]) -> str:
    places = " and ".join(dict.fromkeys(filter(None, modules)))
    return (
        f"Two models have a table with the name {key}{places and f': those in {places}'}. Rename one of the tables. If"
        " they are the same table, define it in one package, and import its model in the other."
    )


def _strongest(places: Iterable[Place]) -> list[Place]:
    _, best = next(groupby(sorted(places, key=lambda place: -place.claim), lambda place: place.claim), (0, ()))
    return list(best)


def _configured(metadata: Sequence[MetaData]) -> list[Mapper[Any]]:
    """Configure the mappers of the metadata, and return the mappers of all classes.

    Extensions may create further tables when mappers are configured. Mappers with errors are skipped: their tables can
    be compared, but their relationships lead nowhere.
    """
    mappers = all_mappers()
    registries = {id(mapper.registry): mapper.registry for mapper in mappers if _is_in(mapper.local_table, metadata)}

    def add(mapper: Mapper[Any], _: type[Any]) -> None:
        mappers.append(mapper)

    event.listen(Mapper, "after_mapper_constructed", add)
    try:
        for registry in registries.values():
            with suppress(SQLAlchemyError):
                registry.configure(cascade=True)
    finally:
        event.remove(Mapper, "after_mapper_constructed", add)
    return _sorted(mappers)


def all_mappers() -> list[Mapper[Any]]:
    """Return the mappers of all classes, sorted by the names of the classes."""
    found: dict[int, type] = {}
    level: dict[int, type] = {id(object): object}
    while level:
        found |= level
        below: Iterator[type] = chain.from_iterable(map(type.__subclasses__, level.values()))
        level = {id(cls): cls for cls in below if id(cls) not in found}
    mapped = [vars(cls)["__mapper__"] for cls in found.values() if "__mapper__" in vars(cls)]
    return _sorted(mapper for mapper in mapped if isinstance(mapper, Mapper))


def _sorted(mappers: Iterable[Mapper[Any]]) -> list[Mapper[Any]]:
    return sorted(mappers, key=lambda mapper: (mapper.class_.__module__, mapper.class_.__qualname__))


def _is_in(table: object, metadata: Sequence[MetaData]) -> bool:
    return isinstance(table, Table) and any(table.metadata is each for each in metadata)


def _is_of_single_table(mapper: Mapper[Any]) -> bool:
    """Return whether a mapper shares the table of its base class."""
    return mapper.inherits is not None and mapper.inherits.local_table is mapper.local_table


def _columns(mapper: Mapper[Any], table: Table) -> set[str]:
    return {column.name for column in mapper.columns if getattr(column, "table", None) is table}


def _belongings(
    mapper: Mapper[Any], is_made_for: Callable[[type, RelationshipProperty[Any]], bool]
) -> Iterator[object]:
    """Yield what the attributes and relationships of a mapped class lead to."""
    yield from list(vars(mapper.class_).values())
    with suppress(SQLAlchemyError):
        generated = {_backref(other) for end in mapper.relationships for other in end.mapper.relationships}
        for relationship in mapper.relationships:
            if relationship.key not in generated and relationship.parent is mapper:
                yield relationship.secondary
                if is_made_for(mapper.class_, relationship):
                    yield relationship.mapper


def _backref(relationship: RelationshipProperty[Any]) -> object:
    """Return the name of the relationship that ``backref`` adds to the other class."""
    backref = relationship.backref
    return backref[0] if isinstance(backref, tuple) else backref
