"""One page of the results of a statement."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Generic, TypeVar

from quart import abort, has_request_context, request
from sqlalchemy import Select, func, select
from sqlalchemy.orm import lazyload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ampho.aio.sqlalchemy.extension import AsyncSQLAlchemy

T = TypeVar("T")

_PER_PAGE = 20
_LARGEST = 2**63 - 1
"""The largest number that databases accept as a limit or an offset."""


class Pagination(Generic[T]):
    """One page of the results of a statement, which :meth:`.AsyncSQLAlchemy.paginate` returns.

    Iterating over it yields its items.

    :ivar page: the number of the page, starting at 1.
    :ivar per_page: the largest number of items on a page.
    :ivar max_per_page: the limit of ``per_page``; None if there is none.
    :ivar items: the items on the page.
    :ivar total: the number of items on all pages; None if they were not counted.
    """

    page: int
    per_page: int
    max_per_page: int | None
    items: list[T]
    total: int | None

    def __init__(
        self, db: AsyncSQLAlchemy, statement: Select[Any], *, page: int, per_page: int, max_per_page: int | None
    ) -> None:
        self._db = db
        self._statement = statement
        self.page = page
        self.per_page = per_page
        self.max_per_page = max_per_page
        self.items = []
        self.total = None

    @property
    def first(self) -> int:
        """The number of the first item on the page, starting at 1; 0 if the page is empty."""
        return (self.page - 1) * self.per_page + 1 if self.items else 0

    @property
    def last(self) -> int:
        """The number of the last item on the page; 0 if the page is empty."""
        return self.first + len(self.items) - 1 if self.items else 0

    @property
    def pages(self) -> int:
        """The number of pages; 0 if the items were not counted."""
        return ceil(self.total / self.per_page) if self.total else 0

    @property
    def has_prev(self) -> bool:
        """Whether there is a page before this one."""
        return self.page > 1

    @property
    def prev_num(self) -> int | None:
        """The number of the page before this one; None if there is none."""
        return self.page - 1 if self.has_prev else None

    @property
    def has_next(self) -> bool:
        """Whether there is a page after this one."""
        return self.page < self.pages

    @property
    def next_num(self) -> int | None:
        """The number of the page after this one; None if there is none."""
        return self.page + 1 if self.has_next else None

    async def prev(self, *, error_out: bool = False) -> Pagination[T]:
        """Return the page before this one.

        :param error_out: answer with 404 if the page does not exist.
        """
        return await self._turn(-1, error_out)

    async def next(self, *, error_out: bool = False) -> Pagination[T]:
        """Return the page after this one.

        :param error_out: answer with 404 if the page does not exist.
        """
        return await self._turn(1, error_out)

    async def _turn(self, pages: int, error_out: bool) -> Pagination[T]:  # noqa: FBT001 (private)
        page, per_page = _valid(self.page + pages, self.per_page, error_out)
        turned = Pagination[T](self._db, self._statement, page=page, per_page=per_page, max_per_page=self.max_per_page)
        await turned.load(error_out=error_out, count=False)
        turned.total = self.total
        return turned

    def iter_pages(
        self, *, left_edge: int = 2, left_current: int = 2, right_current: int = 4, right_edge: int = 2
    ) -> Iterator[int | None]:
        """Yield the numbers of the pages to link to, with a None in place of each gap.

        :param left_edge: how many of the first pages to include.
        :param left_current: how many pages before this one to include.
        :param right_current: how many pages after this one to include.
        :param right_edge: how many of the last pages to include.
        """
        last, start = self.pages, max(1, self.page - left_current)
        shown = {
            *range(1, min(left_edge, last) + 1),
            *range(start, min(self.page + right_current, last) + 1),
            *range(max(start, last - right_edge + 1), last + 1),
        }
        previous = 0
        for number in sorted(shown):
            if number > previous + 1:
                yield None
            yield number
            previous = number
        if previous < last:
            yield None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    async def load(self, *, error_out: bool, count: bool) -> None:
        """Query the items, and then their number, because a session runs one statement at a time."""
        session = self._db.session
        page = self._statement.limit(self.per_page).offset((self.page - 1) * self.per_page)
        result = await session.execute(page)
        # Joined loading repeats an object. The values of a column can be equal, and may not be hashable.
        self.items = list((result.unique() if _selects_a_model(page) else result).scalars())
        if not self.items and self.page != 1 and error_out:
            abort(404)
        if count:
            rows = self._statement.options(lazyload("*")).order_by(None).subquery()
            self.total = await session.scalar(select(func.count()).select_from(rows))


def _selects_a_model(statement: object) -> bool:
    if not isinstance(statement, Select):
        return False  # A union selects columns.
    return any(column.get("entity") is column["expr"] for column in statement.column_descriptions)


def page_arguments(
    page: int | None, per_page: int | None, max_per_page: int | None, *, error_out: bool
) -> tuple[int, int]:
    """Return the number of the page and the number of items on it, which by default come from the request.

    :param error_out: answer with 404 if one of them is not a positive number, or is too large for a database, instead
        of using its default.
    """
    page = _from_request("page", 1, error_out) if page is None else page
    per_page = _from_request("per_page", _PER_PAGE, error_out) if per_page is None else per_page
    return _valid(page, per_page if max_per_page is None else min(per_page, max_per_page), error_out)


def _from_request(name: str, default: int, error_out: bool) -> int:  # noqa: FBT001 (private)
    if not has_request_context():
        return default
    try:
        return int(request.args.get(name, default))
    except ValueError:
        if error_out:
            abort(404)
        return default


def _valid(page: int, per_page: int, error_out: bool) -> tuple[int, int]:  # noqa: FBT001 (private)
    has_size = 1 <= per_page <= _LARGEST
    size = per_page if has_size else _PER_PAGE
    has_page = page >= 1 and (page - 1) * size <= _LARGEST
    if error_out and not (has_page and has_size):
        abort(404)
    return page if has_page else 1, size
