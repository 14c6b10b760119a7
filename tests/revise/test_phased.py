"""What ``db-rev -a`` writes if the changes of a package belong to both phases."""

from __future__ import annotations

import pytest
from project import Project
from servers import Database
from store import Store, open_store

from ampho.history.revision import Phase, Revision
from ampho.revise.autogenerate.operations.describe import Change, briefly

BEFORE = """
class Author(db.Model):
    __tablename__ = "authors"
    id = sa.Column(sa.Integer, primary_key=True)


class Post(db.Model):
    __tablename__ = "posts"
    id = sa.Column(sa.Integer, primary_key=True)
    title = sa.Column(sa.String(50))
    kind = sa.Column(sa.Enum("new", "old", name="kinds"))
    old = sa.Column(sa.String(50), index=True)
    fax = sa.Column(sa.String(50), nullable=False)
"""
AFTER = """
class Writer(db.Model):
    __tablename__ = "writers"
    id = sa.Column(sa.Integer, primary_key=True)


class Post(db.Model):
    __tablename__ = "posts"
    id = sa.Column(sa.Integer, primary_key=True)
    title = sa.Column(sa.String(20), nullable=False)
    stars = sa.Column(sa.Integer, nullable=False)
    writer_id = sa.Column(sa.ForeignKey("writers.id", name="fk_writer"))
    body = sa.Column(sa.Text)
"""
FILLS = ("--fill", "posts.stars=0", "--fill", "posts.title=none")


@pytest.fixture
def blog(project: Project, database: Database) -> Store:
    store = open_store(project, database, {"blog": BEFORE})
    store.auto("blog")
    store.run("db-up")
    store.models("blog", AFTER)
    return store


def revisions(store: Store) -> list[Revision]:
    """Return the revisions after the first one."""
    return [store.read("blog", path) for path in store.files("blog")[1:]]


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_two_revisions_for_two_phases(blog: Store, database: Database) -> None:
    database.run("INSERT INTO posts (id, title, fax) VALUES (1, NULL, '1')")
    written = blog.run("db-rev", "blog", "Go on", "-a", *FILLS)
    assert "There are two phases: the new release of the app needs the first part" in written.stdout
    pre, post = revisions(blog)
    assert (pre.phase, post.phase, post.down_revisions) == (Phase.PRE, Phase.POST, (pre.id,))
    messages = [each.message.partition(" and ")[0] for each in (pre, post)]
    assert messages == ["Go on: add table writers", "Go on: drop table authors"]
    assert blog.run("db-check", "--phases").stdout.startswith("The phases are in order: 1 revision in phase pre, 1")

    blog.run("db-up", "--phase", "pre")
    assert {"authors", "posts", "writers"} <= set(database.tables())
    assert {"title", "old", "stars", "writer_id", "body"} <= set(database.columns("posts"))
    # as the old release writes it, and as the new one does
    database.run("INSERT INTO posts (id, old, fax) VALUES (2, 'x', '2')")
    database.run("INSERT INTO posts (id, title, stars) VALUES (4, 'new', 5)")

    blog.run("db-up", "--phase", "post")
    assert "matches its models" in blog.run("db-check").stdout
    assert database.query("SELECT id, title, stars FROM posts ORDER BY id") == [
        (1, "none", 0),
        (2, "none", 0),
        (4, "new", 5),
    ]
    assert "old" not in database.columns("posts")

    blog.run("db-down", "blog@-1", "--yes")
    database.run("INSERT INTO posts (id, old) VALUES (3, 'y')")
    database.run("UPDATE posts SET fax = '0'")  # which must not be NULL before phase pre
    blog.run("db-down", "blog@-1", "--yes")
    assert set(database.columns("posts")) == {"id", "title", "kind", "old", "fax"}
    blog.run("db-up")
    assert "matches its models" in blog.run("db-check").stdout


@pytest.mark.drivers("sqlite+pysqlite")
def test_one_revision_if_it_is_asked_for(blog: Store) -> None:
    blog.run("db-rev", "blog", "Go on", "-a", "--no-split", "--dry-run", *FILLS)
    for options, phase in ((("--phase", "post"), Phase.POST), (("--no-split",), None), (("--rev-id", "blog_x"), None)):
        written = blog.run("db-rev", "blog", "Go on", "-a", *options, *FILLS)
        assert "two phases" not in written.stdout
        (new,) = revisions(blog)
        assert new.phase is phase
        new.path.unlink()
    assert "--no-split requires --autogenerate" in blog.run("db-rev", "blog", "x", "--no-split", exit_code=2).stderr
    blog.run("db-rev", "blog", "By hand", "--phase", "post")
    assert revisions(blog)[0].phase is Phase.POST


@pytest.mark.drivers("sqlite+pysqlite")
@pytest.mark.parametrize(
    ("more", "options"),
    [
        (BEFORE.replace("old = sa", "new = sa").replace(", index=True", ""), ["--rename", "posts.old=new"]),
        (BEFORE.replace("sa.Column(sa.String(50))", "sa.Column(sa.String(50), nullable=False)"), FILLS[2:]),
        (f"{BEFORE}    body = sa.Column(sa.Text)\n", []),
        (BEFORE.replace("    title = sa.Column(sa.String(50))\n", ""), []),
    ],
    ids=["a rename", "one that only restricts", "one that only adds", "one that only drops"],
)
def test_one_revision_if_one_phase_is_enough(more: str, options: list[str], blog: Store) -> None:
    blog.models("blog", more)
    assert "two phases" not in blog.run("db-rev", "blog", "Go on", "-a", *options).stdout
    (new,) = revisions(blog)
    assert new.phase is None


@pytest.mark.drivers("sqlite+pysqlite")
def test_no_revision_in_phase_pre_depends_on_one_in_phase_post(project: Project, database: Database) -> None:
    cart = "class Cart(db.Model):\n    id = sa.Column(sa.Integer, primary_key=True)\n"
    store = open_store(project, database, {"blog": BEFORE, "shop": cart})
    store.run("db-rev", "Begin", "-a")
    store.run("db-up")
    store.models("blog", AFTER)
    store.models("shop", f'{cart}    writer_id = sa.Column(sa.ForeignKey("writers.id", name="fk_carts"))\n')
    store.run("db-rev", "Go on", "-a", *FILLS)
    assert "2 revisions in phase pre, 1 held back for phase post" in store.run("db-check", "--phases").stdout
    store.run("db-up", "--phase", "pre")
    store.run("db-up", "--phase", "post")
    assert store.run("db-check").stdout.count("matches its models") == 2


TABLE = """
class Post(db.Model):
    __tablename__ = "posts"
    id = sa.Column(sa.Integer, primary_key=True)
    size = sa.Column({size})
    author_id = sa.Column(sa.ForeignKey("posts.id", name="fk_author"{more}))
    slug = sa.Column(sa.String(20)){unique}
    {last}
"""


def one(size: str, last: str, *, more: str = "", unique: bool = False) -> str:
    args = '\n    __table_args__ = (sa.UniqueConstraint("slug", name="uq_slug"),)' if unique else ""
    return TABLE.format(size=size, last=f"{last} = sa.Column(sa.Integer)", more=more, unique=args)


def changed(project: Project, database: Database, before: str, after: str, *options: str) -> list[str]:
    """Write revisions for a change, and return their sources, without the downgrades."""
    store = open_store(project, database, {"blog": before})
    store.auto("blog")
    store.run("db-up")
    store.models("blog", after)
    store.run("db-rev", "blog", "Go on", "-a", *options)
    sources = [path.read_text("utf-8").partition("def downgrade")[0] for path in store.files("blog")[1:]]
    store.run("db-up", "--phase", "pre")
    store.run("db-up", "--phase", "post")
    assert "matches its models" in store.run("db-check").stdout
    store.run("db-down", f"blog@-{len(sources)}", "--yes")
    for path in store.files("blog")[1:]:
        path.unlink()
    store.models("blog", before)
    assert "matches its models" in store.run("db-check").stdout
    return sources


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_only_what_belongs_to_the_dropped_column_waits_with_it(project: Project, database: Database) -> None:
    before = one("sa.Integer, nullable=False, server_default='1'", "old", unique=True)
    after = one("sa.Integer, nullable=False", "new", more=', ondelete="CASCADE"')
    pre, post = changed(project, database, before, after)
    assert "fk_author" in pre
    assert "CASCADE" in pre, "a foreign key is replaced at once"
    assert "uq_slug" in pre, "the new release may write equal values"
    assert "nulls_not_distinct" not in pre, "the downgrade would fail before PostgreSQL 15"
    assert "fk_author" not in post
    assert "uq_slug" not in post
    assert "server_default=None" in post, "the old release relies on the default"


@pytest.mark.drivers("sqlite+pysqlite")
@pytest.mark.parametrize(
    ("old", "new", "options"),
    [
        ("sa.String(10)", "sa.String(90), nullable=False", ["--fill", "posts.size=x"]),
        ("sa.String(90), nullable=False", "sa.String(10)", []),
        ("sa.Integer", "sa.String(20)", []),
    ],
    ids=["wider and NOT NULL", "narrower and nullable", "another kind of type"],
)
def test_what_belongs_to_both_phases_is_not_split(
    old: str, new: str, options: list[str], project: Project, database: Database
) -> None:
    (source,) = changed(project, database, one(old, "old"), one(new, "new"), *options)
    assert "phase" not in source


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_required_column_without_a_value_is_not_for_the_old_release(project: Project, database: Database) -> None:
    last = "new = sa.Column(sa.Integer, nullable=False)"
    before, after = (TABLE.format(size="sa.Integer", more="", unique="", last=each) for each in ("", last))
    (source,) = changed(project, database, f"{before}old = sa.Column(sa.Integer)\n", after)
    assert "phase" not in source


@pytest.mark.drivers("postgresql+psycopg")
def test_removing_labels_can_wait(project: Project, database: Database) -> None:
    before, after = (one(f'sa.Enum({labels}, name="sizes")', "old") for labels in ('"s", "m"', '"m"'))
    (source,) = changed(project, database, before, after)
    assert 'phase = "post"' in source


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_checks_of_a_dropped_column_and_of_another_one(project: Project, database: Database) -> None:
    checks = 'sa.CheckConstraint("size > 0", name="ck_size"), sa.CheckConstraint("old > 0", name="ck_old")'
    before = f"{one('sa.Integer', 'old')}\n    __table_args__ = ({checks})\n"
    pre, post = changed(project, database, before, one("sa.Integer", "new"))
    assert "ck_size" in pre
    assert "ck_old" not in pre
    assert "ck_size" not in post
    assert "ck_old" in post


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
@pytest.mark.parametrize("fill", [[], ["--fill", "posts.fax=0"]], ids=["no value", "a value for the downgrade"])
def test_a_column_that_must_not_be_null_is_let_be_null_before_it_is_dropped(
    fill: list[str], project: Project, database: Database
) -> None:
    store = open_store(project, database, {"blog": BEFORE})
    store.auto("blog")
    store.run("db-up")
    database.run("INSERT INTO posts (id, fax) VALUES (1, '1')")
    store.models("blog", "".join(line for line in BEFORE.splitlines(keepends=True) if "fax" not in line))
    assert "two phases" in store.run("db-rev", "blog", "Go on", "-a", *fill).stdout
    store.run("db-up", "--phase", "pre")
    database.run("INSERT INTO posts (id) VALUES (2)")
    store.run("db-up", "--phase", "post")
    assert "matches its models" in store.run("db-check").stdout
    store.run("db-down", "blog@-1", "--yes")
    database.run("INSERT INTO posts (id) VALUES (3)")
    if not fill:
        database.run("UPDATE posts SET fax = '0'")
    store.run("db-down", "blog@-1", "--yes")
    assert database.query("SELECT DISTINCT fax FROM posts") == [("0",)]
    store.models("blog", BEFORE)
    for path in store.files("blog")[1:]:
        path.unlink()
    assert "matches its models" in store.run("db-check").stdout


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_column_that_replaces_another_misses_what_the_old_release_writes_later(
    project: Project, database: Database
) -> None:
    store = open_store(project, database, {"blog": BEFORE})
    store.auto("blog")
    store.run("db-up")
    store.models("blog", BEFORE.replace("    fax =", "    phone ="))
    fill = ("--rename", "posts.fax=", "--fill", "posts.phone=sql:fax", "--fill", "posts.fax=sql:phone")
    said = " ".join(store.run("db-rev", "blog", "Go on", "-a", "--dry-run", *fill).stderr.split())
    assert "Phase pre copies posts.fax to posts.phone. What the old release writes to posts.fax after that is" in said
    assert "Phase pre" not in store.run("db-rev", "blog", "Go on", "-a", "--dry-run", "--no-split", *fill).stderr


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_later_revision_depends_on_the_part_in_phase_pre(project: Project, database: Database) -> None:
    cart = "class Cart(db.Model):\n    id = sa.Column(sa.Integer, primary_key=True)\n"
    store = open_store(project, database, {"blog": BEFORE, "shop": cart})
    store.run("db-rev", "Begin", "-a")
    store.run("db-up")
    store.models("blog", AFTER)
    store.run("db-rev", "blog", "Go on", "-a", *FILLS)
    pre, post = revisions(store)
    store.run("db-up")
    store.models("shop", f'{cart}    writer_id = sa.Column(sa.ForeignKey("writers.id", name="fk_carts"))\n')
    store.run("db-rev", "shop", "Go on, too", "-a")
    new = store.read("shop", store.files("shop")[1])
    assert new.depends_on == (pre.id,)
    store.run("db-down", "base", "--yes")
    store.run("db-up", "--phase", "pre")
    assert post.id in store.run("db-status", "--all").stdout


def test_a_few_words_about_changes() -> None:
    fill = Change("~", "column", "users.age", "existing rows get 0")
    said = {
        "": [],
        "fill users.age": [fill],
        "make users.age NOT NULL and 1 more": [fill, Change("~", "column", "users.age", "NOT NULL")],
        "change users.age": [Change("~", "column", "users.age", "INTEGER -> BIGINT")],
        "rename users.age -> years": [Change("~", "column", "users.age -> years")],
        "drop index users.ix_age and 1 more": [Change("-", "index", "users.ix_age"), fill],
        "CREATE EXTENSION citext": [Change("~", "SQL", "CREATE EXTENSION citext")],
    }
    assert {words: briefly(changes) for words, changes in said.items()} == {words: words for words in said}
