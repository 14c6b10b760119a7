"""``AsyncTemplate`` and ``AsyncClone``, the templates and clones of :mod:`ampho.migrate.template` for Quart."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from sqlalchemy import URL
    from sqlalchemy.engine import Engine

    from ampho.extension import AsyncExtension
    from ampho.migrate.template import Clone, Template

R = TypeVar("R")


class AsyncTemplate:
    """A database at a given point of the histories, from which clones are made.

    Use it in the event loop in which it was made, as an async context manager, or await :meth:`close` at the end.

    :ivar key: a fingerprint of all that makes the template.
    """

    def __init__(self, template: Template, extension: AsyncExtension) -> None:
        self.key: str = template.key
        self._template = template
        self._extension = extension

    def clone(self, name: str | None = None) -> Cloning:
        """Return a new database, a copy of the template: ``await`` it, or use ``async with`` to drop it at the end.

        :param name: the name of the database; by default, a new one. A database with this name must not exist.
        :raises DatabaseError: if the database cannot be created.
        """
        return Cloning(self._clone, name)

    async def _clone(self, name: str | None) -> AsyncClone:
        return AsyncClone(await self._call(lambda: self._template.clone(name)), self)

    def engine(self, clone: AsyncClone) -> Engine:
        """Return the sync face of an engine like that of the app, without a pool, for a clone."""
        return self._template.engine(clone.clone)

    async def drop(self, clones: Sequence[AsyncClone]) -> None:
        """Drop several clones together, which is faster than one after the other."""
        await self._call(lambda: self._template.drop([each.clone for each in clones]))

    async def close(self) -> None:
        """Drop the clones that are left, and close the connection with which they were made."""
        await self._call(self._template.close)

    async def _call(self, function: Callable[[], R]) -> R:
        return await self._extension.call(lambda commands: function())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


class AsyncClone:
    """A copy of a template: a database of its own. As an async context manager, it is dropped at the end.

    :ivar name: the name of the database.
    :ivar url: its URL.
    """

    def __init__(self, clone: Clone, template: AsyncTemplate) -> None:
        self.clone = clone
        self.name: str = clone.name
        self.url: URL = clone.url
        self._template = template

    async def drop(self) -> None:
        """Drop the database, unless it was dropped before."""
        await self._template.drop([self])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.drop()


class Cloning:
    """A clone that is being made: ``await`` it, or use it as an async context manager."""

    def __init__(self, clone: Callable[[str | None], Coroutine[Any, Any, AsyncClone]], name: str | None) -> None:
        self._clone = clone
        self._name = name
        self._made: AsyncClone | None = None

    def __await__(self) -> Generator[Any, Any, AsyncClone]:
        return self._clone(self._name).__await__()

    async def __aenter__(self) -> AsyncClone:
        self._made = await self
        return self._made

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._made is not None:
            await self._made.drop()
