"""AsyncSQLAlchemy: the names of SQLAlchemy, tables, 404s, pages, recorded queries, and what the shell offers."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import sqlalchemy
import sqlalchemy.orm
from documents import ROOT, blocks
from flask_sqlalchemy.pagination import Pagination as FlaskPagination
from hypothesis import assume, given
from hypothesis import strategies as st
from quart import Quart
from sqlalchemy import Column, ForeignKey, Integer, MetaData, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import (
    DeclarativeBase,
    DeclarativeBaseNoMeta,
    Mapped,
    MappedAsDataclass,
    joinedload,
    mapped_column,
    relationship,
)
from werkzeug.exceptions import NotFound

from ampho.aio.sqlalchemy import AsyncSQLAlchemy, Pagination, RecordedQuery, get_recorded_queries
from ampho.errors import ConfigurationError

if TYPE_CHECKING:
    from servers import Database

MEMORY = "sqlite+aiosqlite://"


def make_app(**config: object) -> Quart:
    app = Quart(__name__)
    app.config.update({"SQLALCHEMY_DATABASE_URI": MEMORY, "SQLALCHEMY_RECORD_QUERIES": True, **config})
    return app


class Shop:
    """An app with 45 users, each with one order."""

    def __init__(self) -> None:
        self.app = make_app()
        self.db = db = AsyncSQLAlchemy(self.app)

        class User(db.Model):  # type: ignore[name-defined, misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]
            orders: Mapped[list[Any]] = relationship("Order", lazy="joined")

        class Order(db.Model):  # type: ignore[name-defined, misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))

        self.User, self.Order = User, Order

        @self.app.get("/users")
        async def users() -> dict[str, object]:
            page = await db.paginate(select(User).order_by(User.id))
            return {"page": page.page, "per_page": page.per_page, "total": page.total, "ids": [u.id for u in page]}


@pytest_asyncio.fixture
async def shop() -> AsyncIterator[Shop]:
    shop = Shop()
    async with shop.app.app_context():
        await shop.db.create_all()
        shop.db.session.add_all(
            [shop.User(name="even" if n % 2 == 0 else f"user {n}", orders=[shop.Order()]) for n in range(1, 46)]
        )
        await shop.db.session.commit()
    async with shop.app.app_context():
        yield shop
        await shop.db.dispose()


# Names, tables and models


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_every_name_of_sqlalchemy_is_an_attribute() -> None:
    db = AsyncSQLAlchemy()
    for module in (sqlalchemy.orm, sqlalchemy):
        for name in dir(module):
            if not name.startswith("_") and name not in dir(AsyncSQLAlchemy):
                expected = getattr(sqlalchemy, name, None) or getattr(module, name)
                assert getattr(db, name) is expected, name
    assert {"Table", "engine", "session"} == {*dir(sqlalchemy), *dir(sqlalchemy.orm)} & public(AsyncSQLAlchemy)
    with pytest.raises(AttributeError, match="AsyncSQLAlchemy has no attribute 'selct'"):
        _ = db.selct
    assert not hasattr(db, "_private")


def test_a_table_has_the_metadata_of_its_bind_key_or_its_own() -> None:
    db = AsyncSQLAlchemy(metadata=MetaData(naming_convention={"pk": "pk_%(table_name)s"}))
    entry = db.Table("entry", db.Column("id", db.Integer, primary_key=True), bind_key="audit")
    assert entry.metadata is db.metadatas["audit"]
    assert entry.primary_key.name == "pk_entry"
    assert isinstance(entry, db.Table)
    assert db.Table("user", Column("id", Integer)).metadata is db.metadata
    other = MetaData()
    assert db.Table("user", other, Column("id", Integer)).metadata is other
    assert list(db.Table("user", db.metadata, extend_existing=True).columns.keys()) == ["id"]
    assert db.Table("empty").metadata is db.metadata


def test_the_repr_of_an_object_is_its_key_or_its_state() -> None:
    db = AsyncSQLAlchemy()

    class Line(db.Model):  # type: ignore[name-defined, misc]
        order: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True)

    line = Line(order=3, number=1)
    assert repr(line) == f"<Line (transient {id(line)})>"
    sqlalchemy.orm.make_transient_to_detached(line)
    assert repr(line) == "<Line 3, 1>"

    class Word(db.Model):  # type: ignore[name-defined, misc]
        text: Mapped[str] = mapped_column(primary_key=True)

    empty = Word(text="")
    sqlalchemy.orm.make_transient_to_detached(empty)
    assert repr(empty) == "<Word >"


@pytest.mark.parametrize("root", [DeclarativeBase, DeclarativeBaseNoMeta])
def test_a_repr_of_your_base_is_kept(root: type) -> None:
    class Base(root):  # type: ignore[misc]
        def __repr__(self) -> str:
            return "mine"

    db = AsyncSQLAlchemy(model_class=Base)

    class User(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    assert repr(User()) == "mine"


@pytest.mark.parametrize("model_class", [DeclarativeBase, DeclarativeBaseNoMeta, MappedAsDataclass])
def test_a_plain_root_of_sqlalchemy_is_taken(model_class: type) -> None:
    db = AsyncSQLAlchemy(model_class=model_class)

    class BigUser(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    assert issubclass(BigUser, model_class)
    assert BigUser.__table__ is db.metadata.tables["big_user"]


def test_two_declarative_bases_are_refused() -> None:
    class Base(DeclarativeBase, DeclarativeBaseNoMeta):  # type: ignore[misc]
        pass

    with pytest.raises(ConfigurationError, match="model_class Base has two declarative bases"):
        AsyncSQLAlchemy(model_class=Base)


def test_without_autonaming_a_model_needs_a_name_and_keeps_its_bind_key() -> None:
    db = AsyncSQLAlchemy(disable_autonaming=True)

    class User(db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"
        __bind_key__ = "auth"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert User.metadata is db.metadatas["auth"]
    with pytest.raises(InvalidRequestError, match="__tablename__"):

        class Nameless(db.Model):  # type: ignore[name-defined, misc]
            id: Mapped[int] = mapped_column(primary_key=True)


@pytest.mark.asyncio
async def test_the_repr_of_the_extension_has_no_password() -> None:
    url = "postgresql+asyncpg://me:secret@host/shop"
    app = make_app(SQLALCHEMY_DATABASE_URI=url, SQLALCHEMY_BINDS={"audit": MEMORY, "old": MEMORY})
    db = AsyncSQLAlchemy(app)
    assert repr(db) == "<AsyncSQLAlchemy>"
    async with app.app_context():
        assert repr(db) == "<AsyncSQLAlchemy postgresql+asyncpg://me:***@host/shop +2>"
    async with make_app().app_context():
        assert repr(db) == "<AsyncSQLAlchemy>"


def test_the_shell_has_the_models_unless_it_should_not(shop: Shop) -> None:
    found = shop.app.make_shell_context()
    assert (found["db"], found["User"], found["Order"]) == (shop.db, shop.User, shop.Order)
    app = make_app()
    AsyncSQLAlchemy(app, add_models_to_shell=False)
    assert "db" not in app.make_shell_context()


@pytest.mark.asyncio
async def test_tables_in_memory_can_be_dropped_while_a_session_only_reads(shop: Shop) -> None:
    assert len((await shop.db.session.scalars(select(shop.User.id))).all()) == 45
    async with shop.app.app_context():
        await shop.db.drop_all()
        await shop.db.create_all()
    assert (await shop.db.session.scalars(select(shop.User.id))).all() == []
    shop.db.session.add(shop.User(name="new"))
    await shop.db.session.flush()
    with pytest.raises(InvalidRequestError, match="Commit, roll back, or close"):
        await shop.db.drop_all()
    await shop.db.session.commit()
    assert await shop.db.session.scalar(select(shop.User.name)) == "new"


# 404


@pytest.mark.asyncio
async def test_get_or_404(shop: Shop) -> None:
    user = await shop.db.get_or_404(shop.User, 7, options=[joinedload(shop.User.orders)])
    assert user.name == "user 7"
    with pytest.raises(NotFound) as caught:
        await shop.db.get_or_404(shop.User, 99, description="No such user.")
    assert caught.value.description == "No such user."
    with pytest.raises(NotFound) as caught:
        await shop.db.get_or_404(shop.User, 99)
    assert caught.value.description == NotFound.description


@pytest.mark.asyncio
async def test_first_or_404_and_one_or_404(shop: Shop) -> None:
    db, name = shop.db, shop.User.name
    orders = db.select(shop.Order.id).join_from(shop.Order, shop.User)
    assert await db.first_or_404(orders.where(name == "even").order_by(shop.Order.id)) == 2
    assert await db.one_or_404(orders.where(name == "user 7")) == 7
    for failing in (
        db.first_or_404(orders.where(name == "nobody"), description="none"),
        db.one_or_404(orders.where(name == "nobody"), description="none"),
        db.one_or_404(orders.where(name == "even"), description="none"),
    ):
        with pytest.raises(NotFound, match="none"):
            await failing


# Pages


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (1, 20, list(range(1, 21)))),
        ("page=3", (3, 20, list(range(41, 46)))),
        ("page=2&per_page=5", (2, 5, list(range(6, 11)))),
        ("per_page=300", (1, 300, list(range(1, 46)))),
    ],
)
@pytest.mark.asyncio
async def test_the_page_comes_from_the_request(shop: Shop, query: str, expected: tuple[int, int, list[int]]) -> None:
    answer = await (await shop.app.test_client().get(f"/users?{query}")).get_json()
    assert (answer["page"], answer["per_page"], answer["ids"]) == expected
    assert answer["total"] == 45


@pytest.mark.parametrize(
    "query",
    ["page=x", "per_page=x", "page=0", "per_page=-1", "page=4", "page=1.5", f"page={2**63}", f"per_page={2**63}"],
)
@pytest.mark.asyncio
async def test_a_page_that_does_not_exist_is_404_unless_it_should_not(shop: Shop, query: str) -> None:
    assert (await shop.app.test_client().get(f"/users?{query}")).status_code == 404
    async with shop.app.test_request_context(f"/?{query}"):
        page = await shop.db.paginate(select(shop.User), error_out=False)
        assert (page.page, len(page.items)) == ((4, 0) if query == "page=4" else (1, 20))


@pytest.mark.asyncio
async def test_a_page_has_numbers_and_neighbors(shop: Shop) -> None:
    statement = select(shop.User).order_by(shop.User.name.desc(), shop.User.id)
    page = await shop.db.paginate(statement, per_page=30, max_per_page=20)
    assert isinstance(page, Pagination)
    assert (page.first, page.last, page.pages, page.prev_num, page.next_num) == (1, 20, 3, None, 2)
    assert list(page) == page.items
    last = await (await page.next()).next()
    assert (last.first, last.last, last.total, last.max_per_page) == (41, 45, 45, 20)
    assert (last.has_next, last.next_num, last.has_prev, last.prev_num) == (False, None, True, 2)
    assert (await last.prev()).items == (await page.next()).items
    beyond = await last.next()
    assert (beyond.items, beyond.first, beyond.last) == ([], 0, 0)
    with pytest.raises(NotFound):
        await last.next(error_out=True)
    with pytest.raises(NotFound):
        await page.prev(error_out=True)
    uncounted = await shop.db.paginate(statement, count=False)
    assert (uncounted.total, uncounted.pages, list(uncounted.iter_pages())) == (None, 0, [])


@pytest.mark.asyncio
async def test_a_page_of_one_column_keeps_equal_values(shop: Shop) -> None:
    page = await shop.db.paginate(select(shop.User.name).order_by(shop.User.name))
    assert (page.items, page.last) == (["even"] * 20, 20)
    ids: Any = select(shop.User.id).union_all(select(shop.Order.id)).order_by("id")
    assert (await shop.db.paginate(ids, per_page=4)).items == [1, 1, 2, 2]
    both: Any = select(shop.User.id, shop.User).order_by(shop.User.id)
    assert (await shop.db.paginate(both, per_page=2)).items == [1, 2]


@pytest.mark.asyncio
async def test_a_page_takes_two_queries_one_after_the_other(shop: Shop) -> None:
    await shop.db.paginate(select(shop.User))
    items, count = get_recorded_queries()
    assert "JOIN" in str(items.statement)
    assert "JOIN" not in str(count.statement)
    assert items.end_time <= count.start_time


class Numbers(FlaskPagination):
    def _query_items(self) -> list[int]:
        return [1]

    def _query_count(self) -> int:
        return int(self._query_args["total"])


@given(st.data())
def test_the_numbers_to_link_to_are_those_of_flask_sqlalchemy(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 30))
    number = data.draw(st.integers(1, total))
    names = ("left_edge", "left_current", "right_current", "right_edge")
    edges = {name: data.draw(st.integers(0, 5), name) for name in names}
    # Otherwise, Flask-SQLAlchemy yields a gap where no page is left out.
    assume(number + edges["right_current"] >= edges["left_edge"])
    theirs = Numbers(page=number, per_page=1, total=total)
    ours: Pagination[object] = Pagination(AsyncSQLAlchemy(), select(), page=number, per_page=1, max_per_page=None)
    ours.total = total
    assert list(ours.iter_pages(**edges)) == list(theirs.iter_pages(**edges))


# What is not available


def test_the_setting_for_signals_has_no_effect_and_a_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    AsyncSQLAlchemy(make_app(SQLALCHEMY_TRACK_MODIFICATIONS=False))
    assert caplog.messages == []
    AsyncSQLAlchemy(make_app(SQLALCHEMY_TRACK_MODIFICATIONS=True))
    assert [message.partition(",")[0] for message in caplog.messages] == [
        "SQLALCHEMY_TRACK_MODIFICATIONS has no effect"
    ]


def test_a_scope_of_sessions_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Remove 'scopefunc'"):
        AsyncSQLAlchemy(session_options={"scopefunc": lambda: 1})


# Recorded queries


@pytest.mark.asyncio
async def test_a_query_is_recorded_with_its_parameters_its_time_and_its_place(shop: Shop) -> None:
    assert get_recorded_queries() == []

    async def find() -> None:
        await shop.db.session.get(shop.User, 5)

    await asyncio.gather(find())
    (query,) = get_recorded_queries()
    assert isinstance(query, RecordedQuery)
    assert "FROM user" in str(query.statement)
    assert query.parameters == [(5,)]
    assert 0 < query.duration == query.end_time - query.start_time < 60
    file, line, function = query.location.replace(":", " ").split()
    assert (file, function) == (__file__, "(find)")
    assert int(line) > find.__code__.co_firstlineno


@pytest.mark.asyncio
async def test_each_context_has_its_own_queries_and_a_failed_one_is_not_recorded(shop: Shop) -> None:
    async with shop.app.app_context():
        await shop.db.session.scalar(text("SELECT 1"))
        with pytest.raises(sqlalchemy.exc.OperationalError):
            await shop.db.session.scalar(text("SELECT wrong"))
        await shop.db.session.rollback()
        assert [query.statement for query in get_recorded_queries()] == ["SELECT 1"]
        await shop.db.session.rollback()
    assert get_recorded_queries() == []
    async with shop.db.engine.connect() as connection:
        await connection.execute(text("SELECT 2"))
    assert [query.statement for query in get_recorded_queries()] == ["SELECT 2"]


@pytest.mark.asyncio
async def test_nothing_is_recorded_unless_the_app_says_so() -> None:
    app = make_app(SQLALCHEMY_RECORD_QUERIES=False)
    db = AsyncSQLAlchemy(app)
    async with app.app_context():
        await db.session.scalar(text("SELECT 1"))
        assert get_recorded_queries() == []
        await db.dispose()
    with pytest.raises(RuntimeError, match=r"async with app\.app_context\(\)"):
        get_recorded_queries()


# The shell

READERS = """
from quart import Quart
from sqlalchemy.orm import Mapped, mapped_column
from ampho import AsyncSQLAlchemy

app = Quart(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite+aiosqlite:///readers.db"
db = AsyncSQLAlchemy(app)

class Reader(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
"""


def test_the_shell_awaits_in_one_app_context_and_goes_on_after_an_error(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(READERS)
    (shown,) = [block.text for block in blocks(ROOT / "docs/async-sqlalchemy.md") if block.language == "pycon"]
    typed = [
        "await db.create_all()",
        *re.findall(">>> (.*)", shown),
        "1 / 0",
        "await db.session.rollback()",
        "nonsense",
    ]
    typed += ["async def name():", "    return await db.session.scalar(db.select(Reader.name))", "", "await name()", ""]
    command = [sys.executable, "-m", "quart", "async-shell"]
    done = subprocess.run(
        command, input="\n".join(typed), cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert [word for word in done.stdout.split() if word not in {">>>", "..."}] == ["1", "'ada'"], done.stderr
    assert re.findall(r"^\w+Error: .*", done.stderr, re.MULTILINE) == [
        "ZeroDivisionError: division by zero",
        "NameError: name 'nonsense' is not defined",
    ]


# On every driver


@pytest.mark.asyncio
async def test_pages_404s_and_recorded_queries_work_on_every_driver(async_database: Database) -> None:
    app = make_app(SQLALCHEMY_DATABASE_URI=async_database.url)
    db = AsyncSQLAlchemy(app)
    numbers = db.Table("number", db.Column("value", db.Integer, primary_key=True))

    class Number(db.Model):  # type: ignore[name-defined, misc]
        __table__ = numbers

    async with app.app_context():
        await db.create_all()
        db.session.add_all([Number(value=value) for value in range(1, 31)])
        await db.session.commit()
    async with app.app_context():
        page = await db.paginate(db.select(Number).order_by(Number.value), page=2)
        assert [number.value for number in page] == [*range(21, 31)]
        assert page.total == 30
        assert (await db.get_or_404(Number, 7)).value == 7
        with pytest.raises(NotFound):
            await db.get_or_404(Number, 31)
        assert [query.location.partition(":")[0] for query in get_recorded_queries()] == [__file__] * 4
        await db.session.commit()
        await db.drop_all()
        await db.dispose()
