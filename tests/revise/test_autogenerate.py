"""``db-rev -a``: a package's own tables only, with the dependencies that their foreign keys imply."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest
from project import PROGRAMS, Project
from servers import Database
from store import TABLES, Store, open_store

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

ORDERS_OF_PACKAGES = [order for order in itertools.permutations(TABLES) if order[2] == "orders"]
IMPOSSIBLE = [order for order in itertools.permutations(TABLES) if order[2] != "orders"]


@pytest.fixture
def bookshop(project: Project, database: Database) -> Store:
    """Accounts, catalog, and orders with foreign keys to both; models only."""
    return open_store(project, database)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("order", ORDERS_OF_PACKAGES, ids="-".join)
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "postgresql+psycopg_async", "mariadb+pymysql")
def test_models_become_a_history_in_every_order_that_is_possible(
    bookshop: Store, database: Database, order: tuple[str, ...]
) -> None:
    written = {package: bookshop.auto(package) for package in order}

    assert {package: bookshop.tables_in(revision) for package, revision in written.items()} == TABLES
    assert written["accounts"].depends_on == written["catalog"].depends_on == ()
    assert set(written["orders"].depends_on) == {written["accounts"].id, written["catalog"].id}
    bookshop.run("db-up")
    assert database.tables() == sorted(["alembic_version", *set().union(*TABLES.values())])
    for package in order:
        bookshop.nothing_to_do(package)
    checked = bookshop.run("db-check").stdout
    assert [line.split(maxsplit=1)[1] for line in checked.splitlines()] == ["matches its models"] * 3
    assert bookshop.run("db-check", "--scratch").stdout == checked


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("order", IMPOSSIBLE, ids="-".join)
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_what_has_to_be_written_first_is_named(bookshop: Store, order: tuple[str, ...]) -> None:
    missing = [package for package in ("catalog", "accounts") if package not in order[: order.index("orders")]]
    for package in order[: order.index("orders")]:
        bookshop.auto(package)

    error = bookshop.refused("db-rev", "orders", "Too early", "-a")

    assert re.search(
        "orders has a foreign key to the table (books of catalog|customers of accounts), which no revision", error
    )
    assert f"'ampho db-rev {missing[0]} MESSAGE --autogenerate'." in error


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+psycopg", "mariadb+asyncmy")
def test_three_real_commands_and_an_upgrade(project: Project, database: Database) -> None:
    """The same in real processes, with the files of ``db-init``, and each package's ``-a`` after an upgrade."""
    bookshop = open_store(project, database)
    for package in TABLES:
        (project.migrations(package) / "versions").rmdir()
        project.migrations(package).rmdir()
        bookshop.run("db-init", package)
        written = project.run("ampho", "db-rev", package, "Tables", "--autogenerate").stdout
        assert re.fullmatch(
            rf"(\+ (table|index|foreign key) .*\n)+Wrote {package}/migrations/versions/{package}_\d+_tables.py\n",
            written,
        )
    project.run("ampho", "db-up")
    assert set().union(*TABLES.values()) < set(database.tables())
    for package in TABLES:
        again = project.run("ampho", "db-rev", package, "Tables", "-a")
        assert again.stdout == f"Nothing to do: the tables of {package} match its models.\n"
        assert again.stderr == ""
        assert len(list((project.migrations(package) / "versions").glob("*.py"))) == 1
    assert project.run("ampho", "db-check").exit_code == 0


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_without_the_inferred_dependency_an_empty_database_fails(bookshop: Store, database: Database) -> None:
    """Renamed so that only ``depends_on`` tells the order: without it, the tables that it needs are not there."""
    for package in ("accounts", "catalog"):
        bookshop.auto(package)
    path = bookshop.auto("orders", "--rev-id", "a_first").path
    source = path.read_text("utf-8")
    path.write_text(re.sub(r"^depends_on = .*$", "depends_on = None", source, flags=re.MULTILINE), "utf-8")

    error = bookshop.run("db-up", "orders", exit_code=1).stderr

    assert 'relation "' in error
    assert "does not exist" in error
    assert "orders" not in database.tables()
    path.write_text(source, "utf-8")
    bookshop.run("db-up", "orders")
    assert "orders" in database.tables()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_a_dependency_that_is_implied_is_not_repeated(project: Project, database: Database) -> None:
    parts = """
    class {class_}(db.Model):
        __tablename__ = "{name}"
        id = sa.Column(sa.Integer, primary_key=True)
    """
    point = "    {0}_id = sa.Column(sa.ForeignKey('{0}.id'))\n"
    first = dedent(parts).format(class_="First", name="one")
    second = dedent(parts).format(class_="Second", name="two") + point.format("one")
    third = dedent(parts).format(class_="Third", name="three") + point.format("one") + point.format("two")
    shop = open_store(project, database, {"third": third, "second": second, "first": first})

    one, two, three = shop.auto("first"), shop.auto("second"), shop.auto("third")

    assert two.depends_on == (one.id,)
    assert three.depends_on == (two.id,)
    shop.run("db-up")
    shop.models("third", third + "    again_id = sa.Column(sa.ForeignKey('one.id', name='again'))\n")
    four = shop.auto("third")
    assert (four.down_revisions, four.depends_on) == ((three.id,), ())


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_dependencies_given_by_hand_stay(bookshop: Store) -> None:
    accounts, catalog = bookshop.auto("accounts"), bookshop.auto("catalog", "--depends-on", "accounts")

    assert catalog.depends_on == (accounts.id,)
    assert bookshop.auto("orders").depends_on == (catalog.id,)


OTHERS = """
class Plain(db.Model):
    __tablename__ = "plain"
    id = sa.Column(sa.Integer, primary_key=True)


class Other(db.Model):
    __tablename__ = "others"
    id = sa.Column(sa.Integer, primary_key=True)
"""
THINGS = """
class Thing(db.Model):
    __tablename__ = "things"
    __table_args__ = ({args})
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column({name})
    other_id = sa.Column({other})
    {more}
"""
BEFORE = {"args": "", "name": "sa.String(20)", "other": "sa.Integer", "more": ""}
CHANGES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "column": ({}, {"more": "added = sa.Column(sa.Date)"}),
    "column, not null": ({}, {"more": "added = sa.Column(sa.Integer, nullable=False, server_default='0')"}),
    "nullable": ({}, {"name": "sa.String(20), nullable=False"}),
    "index": ({}, {"args": "sa.Index('things_name', 'name'),"}),
    "unique index": ({}, {"args": "sa.Index('things_name', 'name', 'other_id', unique=True),"}),
    "unique constraint": ({}, {"args": "sa.UniqueConstraint('name', name='things_unique'),"}),
    "foreign key": ({}, {"other": "sa.ForeignKey('others.id', name='things_other')"}),
    "foreign key, otherwise": (
        {"other": "sa.ForeignKey('others.id', name='things_other')"},
        {"other": "sa.ForeignKey('others.id', name='things_other', ondelete='CASCADE')"},
    ),
    "length": ({}, {"name": "sa.String(50)"}),
    "type": ({}, {"name": "sa.Text"}),
    "number": ({"name": "sa.Integer"}, {"name": "sa.Numeric(10, 2)"}),
    "server default": ({"name": "sa.String(20), server_default='-'"}, {"name": "sa.String(20), server_default='+'"}),
    "first server default": ({}, {"name": "sa.String(20), server_default='so it is'"}),
    # Without a foreign key: MariaDB drops no index that one needs, and Alembic drops indexes first.
    "everything": (
        {},
        {
            "args": "sa.Index('things_name', 'name'), sa.UniqueConstraint('other_id', name='things_unique'),",
            "name": "sa.String(50), nullable=False, server_default='-'",
            "more": "added = sa.Column(sa.Date)",
        },
    ),
}
COMMENTS = {
    "table's comment": ({}, {"args": "{'comment': 'It\\'s a \"thing\", 100 %'}"}),
    "column's comment": ({}, {"name": "sa.String(20), comment='What it is'"}),
}


def things(**parts: str) -> str:
    return THINGS.format(**(BEFORE | parts))


def by_name(changes: dict[str, tuple[dict[str, str], dict[str, str]]]) -> list[object]:
    return [pytest.param(old, new, id=name) for name, (old, new) in changes.items()]


def comments(database: Database) -> list[tuple[object, ...]]:
    if database.backend != "postgresql":
        return []
    return database.query(
        "SELECT objoid::regclass::text, objsubid, description FROM pg_description"
        " WHERE classoid = 'pg_class'::regclass AND objoid >= 16384 ORDER BY 1, 2"
    )


def check_a_change(project: Project, database: Database, old: dict[str, str], new: dict[str, str]) -> None:
    """Make a change to a model, and take it away again: each is followed from the model to the database and back."""
    models = {"others": OTHERS, "things": things(**old)}
    shop = open_store(project, database, models, options="dict(compare_server_default=True)")
    for package in models:
        shop.auto(package)
    shop.run("db-up")
    follow_a_change(shop, database, new)
    shop.run("db-up")
    follow_a_change(shop, database, old)


def follow_a_change(shop: Store, database: Database, parts: dict[str, str]) -> None:
    """Change the model: that is seen by its owner alone, applied, seen no more, and taken back."""
    before = (database.schema(), comments(database))
    shop.models("things", things(**parts))
    shop.nothing_to_do("others")
    drift = shop.run("db-check", exit_code=1).stdout.splitlines()
    assert drift[0] == "others  matches its models"
    assert drift[1].startswith("things  ")
    assert all(re.match(r"    [-+~] (table|column|index|foreign key|unique) ?", line) for line in drift[2:])
    path = shop.auto("things").path
    assert imports_what_it_uses(path)
    shop.run("db-up")
    assert shop.run("db-check").stdout.count("matches its models") == 2
    shop.run("db-down", "things@-1")
    assert (database.schema(), comments(database)) == before


def imports_what_it_uses(path: Path) -> bool:
    command = [PROGRAMS / "ruff", "check", "--isolated", "--select", "E9,F821", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return True


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(("old", "new"), by_name(CHANGES))
@pytest.mark.drivers("sqlite+pysqlite")
def test_each_kind_of_change_is_its_owner_s(
    project: Project, database: Database, old: dict[str, str], new: dict[str, str]
) -> None:
    check_a_change(project, database, old, new)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(("old", "new"), by_name(COMMENTS))
@pytest.mark.drivers("postgresql+psycopg")
def test_a_comment_is_its_owner_s(
    project: Project, database: Database, old: dict[str, str], new: dict[str, str]
) -> None:
    check_a_change(project, database, old, new)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(("old", "new"), [CHANGES["everything"]])
@pytest.mark.drivers("mariadb", "sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg")
def test_everything_at_once_on_the_other_drivers(
    project: Project, database: Database, old: dict[str, str], new: dict[str, str]
) -> None:
    check_a_change(project, database, old, new)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg")
def test_a_table_is_made_and_dropped_again(project: Project, database: Database) -> None:
    more = things() + things().replace("things", "more").replace("Thing", "More")
    shop = open_store(project, database, {"others": OTHERS, "things": more})
    for package in shop.packages:
        shop.auto(package)
    shop.run("db-up")
    before = database.schema()

    shop.models("things", things())
    shop.nothing_to_do("others")
    shop.auto("things")
    shop.run("db-up")
    assert "more" not in database.tables()
    shop.nothing_to_do("things")
    shop.run("db-down", "things@-1")
    assert database.schema() == before


FAMILY = """
class Author(db.Model):
    __tablename__ = "authors"
    id = sa.Column(sa.Integer, primary_key=True)

class Thing(db.Model):
    __tablename__ = "things"
    id = sa.Column(sa.Integer, primary_key=True)
    title = sa.Column(sa.String(20))
    author_id = sa.Column(sa.ForeignKey("authors.id", name="thing_author"), index=True)

class Chapter(db.Model):
    __tablename__ = "a_chapters"
    id = sa.Column(sa.Integer, primary_key=True)
    thing_id = sa.Column(sa.ForeignKey("things.id", name="chapter_thing"), index=True)
    author_id = sa.Column(sa.ForeignKey("authors.id", name="chapter_author"), index=True)

class Page(db.Model):
    __tablename__ = "z_pages"
    id = sa.Column(sa.Integer, primary_key=True)
    chapter_id = sa.Column(sa.ForeignKey("a_chapters.id", name="page_chapter"), index=True)
"""
ALONE = """
class Thing(db.Model):
    __tablename__ = "things"
    id = sa.Column(sa.Integer, primary_key=True)
    title = sa.Column(sa.String(20))
"""
CIRCLE = """
class Customer(db.Model):
    __tablename__ = "customers"
    id = sa.Column(sa.Integer, primary_key=True)
    address_id = sa.Column(sa.ForeignKey("addresses.id", name="customer_address", use_alter=True))

class Address(db.Model):
    __tablename__ = "addresses"
    id = sa.Column(sa.Integer, primary_key=True)
    customer_id = sa.Column(sa.ForeignKey("customers.id", name="address_customer"))
"""
OLD = """
class Old(db.Model):
    __tablename__ = "old"
    id = sa.Column(sa.Integer, primary_key=True)
    title = sa.Column(sa.String(20))
    __table_args__ = (sa.Index("by_title", "title"),)
"""
INDEXED = """    __table_args__ = (sa.Index("by_title", "title"),)
"""


@pytest.mark.measured("pysqlite-in a row", "pymysql-in a circle")
@pytest.mark.parametrize(
    ("first", "second"),
    [(FAMILY, ALONE), (ALONE + CIRCLE, ALONE), (ALONE + OLD, ALONE + INDEXED)],
    ids=["in a row", "in a circle", "with a name that is used anew"],
)
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_tables_are_dropped_after_all_that_points_at_them(
    first: str, second: str, project: Project, database: Database
) -> None:
    """Alembic drops them first, in the order of a set, which no server accepts."""
    shop = open_store(project, database, {"things": first})
    shop.auto("things")
    shop.run("db-up")
    before = database.schema()

    shop.models("things", second)
    shop.auto("things")
    shop.run("db-up")

    assert database.tables() == ["alembic_version", "things"]
    shop.nothing_to_do("things")
    shop.run("db-down", "things@-1")
    assert database.schema() == before
    shop.run("db-down", "base")
    assert database.tables() == ["alembic_version"]


TYPES = """
import enum
from sqlalchemy.dialects import postgresql
from {package}.kinds import Money

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

class Typed(db.Model):
    __tablename__ = "typed"
    id = sa.Column(sa.Integer, primary_key=True)
    price = sa.Column(Money(12))
    colour = sa.Column(sa.Enum(Colour, name="colour"))
    {more}
"""
OWN_TYPE = """
from sqlalchemy.types import TypeDecorator, Integer

class Money(TypeDecorator):
    impl = Integer
    cache_ok = True

    def __init__(self, digits=10):
        self.digits = digits
        super().__init__()

    def __repr__(self):
        return f"Money(digits={self.digits})"
"""
OF_POSTGRES = """
    data = sa.Column(postgresql.JSONB, server_default=sa.text("'{}'::jsonb"))
    tags = sa.Column(postgresql.ARRAY(sa.String(20)))
    address = sa.Column(postgresql.INET)
"""


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+asyncmy")
def test_the_app_s_own_types_and_those_of_a_dialect_are_imported(project: Project, database: Database) -> None:
    more = OF_POSTGRES.strip() if database.backend == "postgresql" else ""
    shop = open_store(
        project, database, {"acme.things": TYPES.replace("{package}", "acme.things").replace("{more}", more)}
    )
    project.write("acme/things/kinds.py", OWN_TYPE)

    path = shop.auto("acme.things").path

    source = path.read_text("utf-8")
    assert "\nimport acme.things.kinds\n" in source
    assert "acme.things.kinds.Money(digits=12)" in source
    assert imports_what_it_uses(path)
    shop.run("db-up")
    shop.nothing_to_do("acme.things")
    shop.run("db-check", "--scratch")
    shop.models("acme.things", "")
    dropping = shop.auto("acme.things").path
    assert imports_what_it_uses(dropping)
    shop.run("db-up")
    assert "typed" not in database.tables()
    if database.backend != "postgresql":  # where Alembic drops a table without its enum's type, and makes both again
        shop.run("db-down", "acme.things@-1")
        assert "typed" in database.tables()


ENV_PY = """
def include_object(item, name, type_, reflected, compare_to):
    return name != "secret"


def include_name(name, type_, parents):
    return name != "gone"


def process_revision_directives(context, rows, directives):
    (script,) = directives
    if script.upgrade_ops.ops:
        script.upgrade_ops.ops.insert(0, ops.ExecuteSQLOp("SELECT 1"))


def run_migrations"""


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_what_env_py_configures_applies(project: Project, database: Database) -> None:
    shop = open_store(project, database, {"things": things(more="secret = sa.Column(sa.Integer)")})
    (project.migrations("things") / "versions").rmdir()
    project.migrations("things").rmdir()
    shop.run("db-init", "things")
    env_py = project.migrations("things") / "env.py"
    source = env_py.read_text("utf-8").replace("\ndef run_migrations", ENV_PY, 1)
    source = source.replace(
        "from alembic import context", "from alembic import context\nfrom alembic.operations import ops"
    )
    options = "include_object=include_object, include_name=include_name, process_revision_directives"
    call = f"{options}=process_revision_directives, **environment.options()"
    env_py.write_text(source.replace("**environment.options()", call), "utf-8")

    source = shop.auto("things").path.read_text("utf-8")

    assert 'op.execute("SELECT 1")' in source
    shop.run("db-up")
    shop.nothing_to_do("things")
    shop.models("things", things(more="secret = sa.Column(sa.String(9))\n    seen = sa.Column(sa.Integer)"))
    drift = shop.run("db-check", exit_code=1).stdout
    assert "seen" in drift
    assert "secret" not in drift


TWO = """
one, two = sa.MetaData(), sa.MetaData()
first = sa.Table("first", one, sa.Column("id", sa.Integer, primary_key=True))
second = sa.Table("second", two, sa.Column("id", sa.Integer, primary_key=True))
"""


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("given", ["to the extension", "in env.py"])
@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_the_tables_of_several_metadata_have_owners(project: Project, database: Database, given: str) -> None:
    shop = open_store(project, database, {"things": TWO})
    metadata = "[__import__('things.models').models.one, __import__('things.models').models.two]"
    if given == "in env.py":
        (project.migrations("things") / "versions").rmdir()
        project.migrations("things").rmdir()
        shop.run("db-init", "things")
        env_py = project.migrations("things") / "env.py"
        source = env_py.read_text("utf-8")
        env_py.write_text(source.replace(".options(),", f".options(), target_metadata={metadata},"), "utf-8")
    else:
        text = project.read("wsgi.py")
        project.write("wsgi.py", text.replace("**{}", f"target_metadata={metadata}"))

    assert shop.tables_in(shop.auto("things")) == {"first", "second"}
    shop.run("db-up")
    shop.nothing_to_do("things")
    shop.models("things", TWO.replace("two, sa.Col", "two, sa.Column('more', sa.Integer), sa.Col"))
    drift = shop.run("db-check", exit_code=1)
    assert "+ column second.more  INTEGER" in drift.stdout
    assert "No package owns" not in drift.stderr


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_env_py_may_say_that_there_are_no_models(bookshop: Store, project: Project) -> None:
    (project.migrations("accounts") / "versions").rmdir()
    project.migrations("accounts").rmdir()
    bookshop.run("db-init", "accounts")
    env_py = project.migrations("accounts") / "env.py"
    env_py.write_text(env_py.read_text("utf-8").replace(".options(),", ".options(target_metadata=None),"), "utf-8")

    bookshop.run("db-up")
    for command in (("db-rev", "accounts", "x", "-a"), ("db-check",)):
        error = bookshop.refused(*command)
        assert error.startswith(f"{env_py} passes target_metadata=None, so there are no models to compare with.")


TEMPLATE = """
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}
# by ${who}
from alembic import op
import sqlalchemy as sa

def upgrade():
    ${ups or "pass"}

def downgrade():
    ${downs or "pass"}
"""


@pytest.mark.parametrize("given", ["to the extension", "in env.py"])
@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_a_template_gets_its_arguments_and_the_names_that_it_uses(
    project: Project, database: Database, given: str
) -> None:
    """A revision that is not made from the models gets them too, unless ``env.py`` has them, which does not run."""
    arguments = "upgrade_token='ups', downgrade_token='downs', template_args={'who': 'Ann'}"
    options = f"dict({arguments})" if given == "to the extension" else "{}"
    shop = open_store(project, database, {"things": things()}, options=options)
    (project.migrations("things") / "versions").rmdir()
    project.migrations("things").rmdir()
    shop.run("db-init", "things")
    project.write(project.migrations("things") / "script.py.mako", TEMPLATE)
    if given == "in env.py":
        env_py = project.migrations("things") / "env.py"
        env_py.write_text(env_py.read_text("utf-8").replace(".options(),", f".options(), {arguments},"), "utf-8")

    source = shop.auto("things").path.read_text("utf-8")

    assert "# by Ann" in source
    assert "op.create_table(" in source
    assert "op.drop_table(" in source
    if given == "to the extension":
        shop.run("db-rev", "things", "By hand")
        assert "# by Ann" in shop.newest("things")
