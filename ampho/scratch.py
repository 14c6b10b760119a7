"""A throw-away database beside the app's: on the same server, or in memory for SQLite. Pure; the facades open it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from ampho.errors import ConfigurationError, DatabaseError
from ampho.url import describe_without

_PREFIX = "ampho_scratch_"


@dataclass(frozen=True, slots=True)
class Scratch:
    """How to make, reach and drop a throw-away database.

    :ivar url: its address.
    :ivar create: the statement that makes it, on a connection of the app's database; None if it makes itself.
    :ivar drop: the statement that drops it, likewise.
    """

    url: URL
    create: str | None = None
    drop: str | None = None


def scratch_of(url: URL) -> Scratch:
    """Return a throw-away database of the kind of ``url``'s, under a name that nobody has.

    :raises ConfigurationError: if Ampho knows no way to make one there.
    """
    backend = url.get_backend_name()
    if backend == "sqlite":
        return Scratch(URL.create(url.drivername))
    name = f"{_PREFIX}{secrets.token_hex(6)}"
    if backend == "postgresql":
        drop = f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'
        return Scratch(url.set(database=name), f'CREATE DATABASE "{name}"', drop)
    if backend in ("mysql", "mariadb"):
        return Scratch(
            url.set(database=name),
            f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4",
            f"DROP DATABASE IF EXISTS `{name}`",
        )
    raise ConfigurationError(
        f"Ampho knows no throw-away database for {backend}. Compare with the app's, without --scratch."
    )


@contextmanager
def managing(scratch: Scratch) -> Iterator[None]:
    """Turn what the server says to the making or dropping of a throw-away database into one clear error.

    :raises DatabaseError: if the server refuses.
    """
    try:
        yield
    except DBAPIError as exc:
        why = describe_without(exc, scratch.url).rstrip(".")
        raise DatabaseError(
            f"The throw-away database {scratch.url.database} cannot be made or dropped: {why}."
            " --scratch needs a user that may do both."
        ) from None
