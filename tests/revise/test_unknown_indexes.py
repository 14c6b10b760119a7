"""Indexes that no model and no revision names: ``db-rev -a`` keeps them, and drops those that revisions created."""

from __future__ import annotations

import pytest
from comparing import ONE_EACH
from project import Project
from servers import Database
from store import Store, open_store

pytestmark = [pytest.mark.usefixtures("unmeasured_processes"), pytest.mark.drivers(*ONE_EACH)]

BOOKS = """
class Book(db.Model):
    __tablename__ = "books"
    id = sa.Column(sa.Integer, primary_key=True)
    title = sa.Column(sa.String(200))
    pages = sa.Column(sa.Integer)
    price = sa.Column(sa.Integer)
"""
UPGRADE = """
op.create_table(
    "books",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("title", sa.String(200), index=True),
    sa.Column("pages", sa.Integer),
    sa.Column("price", sa.Integer),
)
op.execute("CREATE INDEX in_sql ON books (pages)")
op.create_index("removed", "books", ["price", "pages"])
"""
OF_REVISIONS = {"ix_books_title", "in_sql", "removed"}
BY_HAND = {
    "sqlite": ["desc ON books (id DESC, title)", "nocase ON books (title COLLATE NOCASE)"],
    "postgresql": ["desc ON books (id DESC, title)", "hash ON books USING hash (title)"],
    "mariadb": ["desc ON books (id DESC, title)", "prefix ON books (title(10))"],
}
LOWER = "lower ON books (lower(title)) WHERE pages > 1"


@pytest.fixture
def shop(project: Project, database: Database) -> Store:
    """A table with three indexes of a revision, one of which has no name of its own, and others created by hand."""
    shop = open_store(project, database, {"catalog": BOOKS})
    project.revision("catalog", "catalog_1", upgrade=UPGRADE, downgrade="op.drop_table('books')")
    shop.run("db-up")
    items = BY_HAND[database.backend] + ([LOWER] if database.backend != "mariadb" else [])
    database.run(*(f"CREATE INDEX by_hand_{each}" for each in items))
    return shop


def definitions(database: Database) -> dict[str, object]:
    if database.backend == "sqlite":
        return dict(database.query("SELECT name, sql FROM sqlite_master WHERE type = 'index'"))
    if database.backend == "postgresql":
        return dict(database.query("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'books'"))
    columns = database.query(
        "SELECT index_name, column_name, collation, sub_part FROM information_schema.statistics"
        " WHERE table_schema = DATABASE() AND table_name = 'books' ORDER BY index_name, seq_in_index"
    )
    return {name: [each for each in columns if each[0] == name] for name, *_ in columns}


def test_indexes_created_by_hand_are_kept_and_those_of_revisions_are_dropped(shop: Store, database: Database) -> None:
    before = definitions(database)
    by_hand = {name: sql for name, sql in before.items() if name.startswith("by_hand_")}
    shop.models("catalog", BOOKS.replace("200", "300"))

    shop.auto("catalog")
    written = shop.newest("catalog")
    assert "by_hand" not in written
    for _ in range(2):
        shop.run("db-up")
        assert {name: sql for name, sql in definitions(database).items() if name.startswith("by_hand_")} == by_hand
        assert not definitions(database).keys() & OF_REVISIONS
        shop.run("db-down")
        assert definitions(database) == before
    shop.run("db-up")

    checked = shop.run("db-check")
    assert checked.stdout == "catalog  matches its models\n"
    names = ", ".join(f"books.{name}" for name in sorted(by_hand))
    (warning,) = [line for line in checked.stderr.splitlines() if "by_hand" in line]
    assert sorted(warning.split("indexes ")[1].split(" are")[0].split(", ")) == names.split(", ")
    assert warning.endswith("op.drop_index() in a revision.")


def test_an_index_created_by_hand_is_dropped_with_its_column(shop: Store, database: Database) -> None:
    shop.models("catalog", BOOKS.replace("    title = sa.Column(sa.String(200))\n", ""))
    shop.auto("catalog")
    for _ in range(2):
        shop.run("db-up")
        assert "title" not in database.columns("books")
        shop.run("db-down")
        assert "title" in database.columns("books")
