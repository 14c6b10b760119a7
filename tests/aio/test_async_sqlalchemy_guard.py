"""AsyncSQLAlchemy's errors for a query without await, and for two tasks that use one session."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import warnings
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from async_shop import MEMORY, Shop
from quart import Quart, render_template_string
from sqlalchemy import ForeignKey, func, select, text
from sqlalchemy.exc import InvalidRequestError, MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

from ampho.aio.sqlalchemy.extension import AsyncSQLAlchemy

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers import Database

pytestmark = pytest.mark.asyncio


class Base(DeclarativeBase): ...


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    note: Mapped[int] = mapped_column(deferred=True)
    lines: Mapped[list[Line]] = relationship(back_populates="order")


class Line(AsyncAttrs, Base):
    __tablename__ = "line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    order: Mapped[Order] = relationship(back_populates="lines")


def make(url: Any, **options: Any) -> tuple[Quart, AsyncSQLAlchemy]:
    app = Quart(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    return app, AsyncSQLAlchemy(app, model_class=Base, **options)


async def fill(db: AsyncSQLAlchemy) -> None:
    await db.create_all()
    db.session.add(Order(total=3, note=1, lines=[Line()]))
    await db.session.commit()
    db.session.expunge_all()


def error_of(access: Callable[[], object]) -> tuple[str, int]:
    """Return the message of the error, and the number of the line that causes it."""
    with pytest.raises(MissingGreenlet) as caught:
        access()
    return str(caught.value), inspect.getsourcelines(access)[1]


async def test_an_attribute_that_needs_a_query_is_named_with_the_remedy_and_the_line(async_database: Database) -> None:
    app, db = make(async_database.url)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with app.app_context():
            await fill(db)
            line = (await db.session.scalars(select(Line))).one()
            message, number = error_of(lambda: line.order)
            assert re.match(
                r"Line\.order is not loaded.*selectinload\(Line\.order\).*await obj\.awaitable_attrs", message
            )
            assert f'File "{__file__}", line {number}, in' in message
            order = await line.awaitable_attrs.order
            for access, words in (
                (
                    lambda: order.lines,
                    r"Order\.lines is not loaded.*selectinload\(Order\.lines\).*refresh\(obj, \['lines'\]\)",
                ),
                (lambda: setattr(order, "lines", []), r"Order\.lines is not loaded"),
                (lambda: order.note, r"Order\.note is deferred.*undefer\(Order\.note\).*refresh\(obj, \['note'\]\)"),
            ):
                assert re.match(words, error_of(access)[0])
            await db.session.rollback()
            assert re.match(r"Order\.total is expired.*refresh\(obj\)", error_of(lambda: order.total)[0])
            message, number = error_of(lambda: db.session.sync_session.scalars(select(Order)))
            assert message.startswith("A query needs 'await'.")
            assert f'File "{__file__}", line {number}' in message
            # No driver received a statement, so the session is as it was.
            loaded = (await db.session.scalars(select(Order).options(selectinload(Order.lines)))).one()
            assert [line.id for line in loaded.lines] == [1]
        gc.collect()
        await db.dispose(app)


async def test_a_query_in_a_template_names_the_line_of_the_template() -> None:
    app, db = make(MEMORY)
    async with app.app_context():
        await fill(db)
        order = (await db.session.scalars(select(Order))).one()
        with pytest.raises(MissingGreenlet, match=r'Order\.lines is not loaded.*\n  File "<template>", line 3, in'):
            await render_template_string("a\nb\n{{ order.lines }}\n", order=order)
        await db.dispose()


async def test_attributes_stay_loaded_after_a_commit_but_not_after_a_rollback() -> None:
    app, db = make(MEMORY)
    async with app.app_context():
        await db.create_all()
        order = Order(total=3, note=1)
        db.session.add(order)
        await db.session.commit()
        assert (order.id, order.total) == (1, 3)
        await db.session.rollback()
        await db.session.refresh(order)
        assert order.total == 3
        await db.dispose()


@pytest.mark.parametrize(
    "base", [None, DeclarativeBase, Base, AsyncAttrs, type("Own", (AsyncAttrs, DeclarativeBase), {})]
)
async def test_models_have_awaitable_attributes(base: type | None) -> None:
    assert issubclass(AsyncSQLAlchemy(model_class=base).Model, AsyncAttrs)


# Two tasks


async def test_two_tasks_that_use_one_session_get_the_same_error_on_each_driver(async_database: Database) -> None:
    shop = Shop(async_database.url)
    await shop.create()
    async with shop.app.app_context():
        session = shop.db.session
        for begun in (False, True):
            calls = [session.execute(text("SELECT 1")), session.execute(text("SELECT 2"))]
            first, second = await asyncio.gather(*calls, return_exceptions=True)
            assert not isinstance(first, BaseException), begun
            assert isinstance(second, InvalidRequestError)
            assert re.match(
                r"Another task is using this database session.*async with app\.app_context\(\)", str(second)
            )
        session.add(shop.Note(number=1))
        _, *others = await asyncio.gather(
            session.commit(), session.flush(), session.rollback(), session.scalar(text("SELECT 1")),
            session.begin_nested(), session.connection(), return_exceptions=True,
        )  # fmt: skip
        assert [type(other) for other in others] == [InvalidRequestError] * 5
    assert await shop.in_use() == 0
    assert await shop.numbers() == [1]
    await shop.db.dispose(shop.app)


async def test_tasks_of_one_request_with_contexts_of_their_own_work_at_once(async_database: Database) -> None:
    shop = Shop(async_database.url)
    await shop.create()

    async def note(number: int) -> None:
        async with shop.app.app_context():
            shop.db.session.add(shop.Note(number=number))
            await shop.db.session.commit()

    @shop.app.post("/several")
    async def several() -> str:
        await shop.db.session.scalar(text("SELECT 1"))
        if async_database.backend == "sqlite":
            await shop.db.session.rollback()
        await asyncio.gather(*map(note, range(5)))
        return str(await shop.db.session.scalar(text("SELECT count(*) FROM note")))

    response = await shop.app.test_client().post("/several")
    assert response.status_code == 200
    assert await shop.numbers() == [0, 1, 2, 3, 4]
    assert await shop.in_use() == 0
    await shop.db.dispose(shop.app)


async def test_one_task_after_the_other_may_use_a_session() -> None:
    shop = Shop(MEMORY)
    async with shop.app.app_context():
        session = shop.db.session
        for _ in range(2):
            assert await asyncio.create_task(session.scalar(text("SELECT 1"))) == 1  # type: ignore[arg-type]
            assert await asyncio.wait_for(session.scalar(text("SELECT 1")), 5) == 1
        cancelled = asyncio.create_task(session.execute(text("SELECT 1")))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        await session.rollback()
        assert await session.scalar(text("SELECT 1")) == 1
        await shop.db.dispose()


async def test_for_a_new_object_the_remedy_is_no_option_of_a_query() -> None:
    app, db = make(MEMORY)
    async with app.app_context():
        await db.create_all()
        order, line = Order(total=1, note=1), Line(order_id=7)
        db.session.add_all([order, line])
        await db.session.commit()
        said, _ = error_of(lambda: order.lines)
        assert said.startswith(
            "Order.lines is not loaded, and it cannot be loaded without 'await'. Use 'await db.session.refresh(obj,"
            " ['lines'])'.\n"
        )
        said, _ = error_of(lambda: line.order)
        assert said.startswith(
            "Line.order is not loaded, and it cannot be loaded without 'await'. Use 'await obj.awaitable_attrs.order'."
        )
        await db.dispose()


async def test_a_value_that_the_database_computes_is_expired_unless_it_is_fetched_eagerly(
    async_database: Database,
) -> None:
    app = Quart(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = async_database.url
    db = AsyncSQLAlchemy(app)

    class Plain(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int]
        updated: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    class Eager(db.Model):  # type: ignore[name-defined, misc]
        __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 (SQLAlchemy's own attribute)
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int]
        updated: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    async with app.app_context():
        await db.create_all()
        plain, eager = Plain(number=1), Eager(number=1)
        db.session.add_all([plain, eager])
        await db.session.commit()
        plain.number = eager.number = 2
        await db.session.commit()
        said, _ = error_of(lambda: plain.updated)
        assert said.startswith("Plain.updated is expired")
        assert "await db.session.refresh(obj)" in said
        await db.session.refresh(plain)
        assert isinstance(plain.updated, datetime)
        assert isinstance(eager.updated, datetime)
        await db.dispose()
