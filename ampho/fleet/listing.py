"""The databases of a group, as a function of the app lists them."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ampho._text import describe, is_of_database, location
from ampho.errors import AmphoError, ConfigurationError
from ampho.settings import DEFAULT_DATABASE

if TYPE_CHECKING:
    from sqlalchemy import URL

    from ampho.migrate.project import Member

_RESERVED = frozenset("/*")
_NO_TABLE = re.compile(r"no such table|(relation|table) .*(does not|doesn't) exist", re.IGNORECASE)
_UPGRADE_FIRST = " If a revision creates the table, first run 'ampho db-up --database default'."


@dataclass(frozen=True, slots=True)
class Database:
    """A database of a group, which has a URL, or is a schema of a PostgreSQL database.

    :ivar name: its name, which is unique in the group.
    :ivar url: its URL; by default, that of the app's database ``default``. A URL without a driver uses that of the app.
    :ivar schema: the PostgreSQL schema that is the database.
    """

    name: str
    url: str | URL | None = field(default=None, kw_only=True, repr=False)
    schema: str | None = field(default=None, kw_only=True)


Listing: TypeAlias = Iterable[Database] | AsyncIterable[Database] | Awaitable[Iterable[Database]]
"""What the function of a group returns. On Flask, it is an iterable."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of databases.

    :ivar name: its name.
    :ivar entries: the packages that live in each of its databases, each a name or ``package:folder``.
    :ivar function: lists the databases.
    """

    name: str
    entries: Sequence[str]
    function: Callable[[], Listing]


def check_group(name: object, entries: Sequence[str]) -> None:
    """Check the name of a group, and that packages live in its databases.

    :raises ConfigurationError: if another thing has the name, or if the command line could not select it.
    """
    if why := _fault(name):
        raise ConfigurationError(f"The group {name!a} {why}.")
    if name == DEFAULT_DATABASE:
        raise ConfigurationError(
            f"A group cannot be named {DEFAULT_DATABASE}, because that is the database of SQLALCHEMY_DATABASE_URI. Use"
            " another name."
        )
    if not entries:
        raise ConfigurationError(f'The group {name} has no packages. List them, such as packages=["shop.orders"].')


def _fault(name: object) -> str:
    if not isinstance(name, str):
        return f"has a name of type {type(name).__name__}. Use a string"
    if not name or not name.isprintable() or not _RESERVED.isdisjoint(name) or any(map(str.isspace, name)):
        return "has a name that is empty, or that contains '/', '*', or whitespace. Use another name"
    return ""


def members(group: Group, listed: Generator[object]) -> Generator[Member]:
    """Yield the databases of a group, one by one.

    :param listed: what the function of the group yields, and what it raises.
    :raises ConfigurationError: if the function raises an error, or yields something that is not a database of its own.
    """
    from ampho.migrate.project import Member  # imported late, because an app that only serves requests needs no project

    seen: set[int] = set()  # hashes, because these need little memory for many databases
    with closing(listed):
        for found in _guarded(group, listed):
            if not isinstance(found, Database):
                raise ConfigurationError(
                    f"{_function(group)} listed an object of type {type(found).__name__}. List ampho.Database objects."
                )
            if why := _fault(found.name):
                raise ConfigurationError(f"{_function(group)} listed a database, {found.name!a}, that {why}.")
            if hash(found.name) in seen:
                raise ConfigurationError(
                    f"{_function(group)} listed two databases with the name {found.name}. Give each its own name."
                )
            seen.add(hash(found.name))
            yield Member(f"{group.name}/{found.name}", found.url, found.schema)


def _guarded(group: Group, listed: Iterator[object]) -> Iterator[object]:
    """Yield what a function lists. Turn its error into one that names the function and the place."""
    try:
        yield from listed
    except AmphoError:  # such as that of check_is_iterable()
        raise
    except Exception as exc:  # noqa: BLE001 (the app may raise anything)
        code = getattr(group.function, "__code__", None)
        where = location(exc, Path(code.co_filename)) if code else None
        why = describe(exc).rstrip(".:")
        remedy = _UPGRADE_FIRST if is_of_database(exc) and _NO_TABLE.search(why) else ""
        what = f"failed at {where}" if where else "failed"
        raise ConfigurationError(f"{_function(group)} {what}: {why}.{remedy}") from None


def _function(group: Group) -> str:
    return f"The function {group.function.__name__}, which lists the group {group.name},"


def check_is_iterable(found: object, group: Group) -> None:
    """Check that a sync function returned an iterable.

    :raises ConfigurationError: if the function is async, or returned nothing.
    """
    if isinstance(found, AsyncIterable | Awaitable):
        if inspect.iscoroutine(found):
            found.close()
        raise ConfigurationError(f"{_function(group)} is async. On Flask, write a plain function or generator.")
    if not isinstance(found, Iterable):
        raise ConfigurationError(
            f"{_function(group)} returned an object of type {type(found).__name__}. Return a list of ampho.Database"
            " objects, or yield them."
        )
