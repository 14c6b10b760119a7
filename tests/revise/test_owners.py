"""Who owns tables and columns of models that are not plain classes in a module, and objects that are no tables."""

from __future__ import annotations

import shutil

import pytest
from project import Project
from servers import Database
from store import BOOKS, CUSTOMERS, Store, open_store

pytestmark = pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")

TAGS = """
from sqlalchemy.orm import declared_attr, relationship


def table(name, **columns):
    return sa.Table(name, db.metadata, sa.Column("id", sa.Integer, primary_key=True))


def model(name):
    return type(name.title(), (db.Model,), {"__tablename__": name, "id": sa.Column(sa.Integer, primary_key=True)})


class Tag(db.Model):
    __tablename__ = "tags"
    id = sa.Column(sa.Integer, primary_key=True)


class Taggable:
    @declared_attr
    def tags(cls):
        name = cls.__tablename__
        columns = (sa.Column("tag", sa.ForeignKey("tags.id")), sa.Column("item", sa.ForeignKey(name + ".id")))
        return relationship(Tag, secondary=sa.Table(name + "_tags", db.metadata, *columns))


class Versioned:
    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if "__tablename__" in vars(cls) and not hasattr(cls, "history"):
            cls.history = None
            cls.history = model(cls.__tablename__ + "_history")


class Commented:
    @declared_attr
    def comments(cls):
        name = cls.__tablename__
        key = sa.Column(sa.ForeignKey(name + ".id"), primary_key=True)
        content = {"__tablename__": name + "_comments", "of": key}
        return relationship(type(name.title() + "Comment", (db.Model,), content))


own = table("own")
shared = table("shared")
if True:
    try:
        conditional = table("conditional")
    finally:
        pass


class Holder:
    inside = table("inside")

    class Inner(db.Model):
        __tablename__ = "inners"
        id = sa.Column(sa.Integer, primary_key=True)


def init_app():
    class Made(db.Model):
        __tablename__ = "made_in_function"
        id = sa.Column(sa.Integer, primary_key=True)

    Holder.made = Made


init_app()
globals()["dynamic"] = table("dynamic")


@sa.event.listens_for(Tag, "mapper_configured")
def configured(mapper, cls):
    Holder.version = model("tag_versions")
"""
POSTS = """
import core.models
from core.models import *
from core.models import shared as borrowed
from sqlalchemy.orm import relationship

again = core.models.own
ours = core.models.table("ours")
Model = core.models.model("model")
TABLES = {}
for name in ("first", "second"):
    TABLES[name] = core.models.table(name)
LISTED = [core.models.table("listed")]
LENT = [core.models.own, core.models.shared]
with_walrus = [value := core.models.table("walrus")]


class Post(core.models.Taggable, core.models.Versioned, core.models.Commented, db.Model):
    __tablename__ = "posts"
    id = sa.Column(sa.Integer, primary_key=True)
    labels = relationship(core.models.Tag, backref="posts", secondary=sa.Table("labels", db.metadata,
        sa.Column("post_id", sa.ForeignKey("posts.id")), sa.Column("tag_id", sa.ForeignKey("tags.id"))))


class Slim(db.Model):
    __table__ = core.models.Tag.__table__


def later():
    sa.Table("literal", db.metadata, sa.Column("id", sa.Integer, primary_key=True))


later()
"""


def test_tables_belong_to_the_package_that_declares_them_however_that_is_done(
    project: Project, database: Database
) -> None:
    shop = open_store(project, database, {"blog": POSTS, "core": TAGS})

    core, blog = shop.tables_in(shop.auto("core")), shop.tables_in(shop.auto("blog"))
    shop.run("db-up")
    checked = shop.run("db-check")

    assert core == {
        *("tags", "own", "shared", "conditional", "inside", "dynamic", "inners", "made_in_function", "tag_versions")
    }
    assert blog == {
        *("posts", "posts_tags", "posts_history", "posts_comments", "labels", "literal"),
        *("ours", "model", "first", "second", "listed", "walrus"),
    }
    assert checked.stderr == ""


UNOWNED = """
def hidden():
    for name in ("a", "b"):
        sa.Table(f"hidden_{name}", db.metadata, sa.Column("id", sa.Integer, primary_key=True))


hidden()
"""


@pytest.mark.usefixtures("unmeasured")
def test_db_check_fails_while_a_table_of_the_models_has_no_owner(project: Project, database: Database) -> None:
    shop = open_store(project, database, {"accounts": CUSTOMERS + UNOWNED, "catalog": BOOKS})
    assert "No package owns the tables hidden_a, hidden_b in the models. Name the package in" in (
        shop.run("db-rev", "accounts", "Tables", "-a").stderr
    )
    shop.auto("catalog")
    shop.run("db-up")

    found = shop.run("db-check", "catalog", exit_code=1)

    assert found.stdout.splitlines() == [
        "catalog       matches its models",
        "(no package)  2 differences",
        "    ~ table hidden_a  belongs to no package",
        "    ~ table hidden_b  belongs to no package",
    ]
    assert '"package": ""' in shop.run("db-check", "--json", exit_code=1).stdout


@pytest.mark.parametrize(
    "remedy",
    [
        {"extra": {"AMPHO_OWNERS": {"hidden_*": None}}},
        {"options": "dict(include_object=lambda item, name, *_: not str(name).startswith('hidden'))"},
        {"options": "dict(include_name=lambda name, *_: not str(name).startswith('hidden'))"},
    ],
)
def test_a_table_that_is_ignored_on_purpose_is_not_reported(
    project: Project, database: Database, remedy: dict[str, object]
) -> None:
    shop = with_hidden(project, database, **remedy)
    database.run("CREATE TABLE hidden_c (id INTEGER PRIMARY KEY)")
    shop.auto("accounts")
    shop.run("db-up")

    assert shop.run("db-check").stderr == ""


def with_hidden(project: Project, database: Database, options: str = "{}", extra: object = None) -> Store:
    config = extra if isinstance(extra, dict) else {}
    return open_store(project, database, {"accounts": CUSTOMERS + UNOWNED}, options=options, **config)


def test_the_setting_and_the_function_name_owners(project: Project, database: Database) -> None:
    owners = {"hidden_*": "accounts", "hidden_b": "catalog", "books": "accounts"}
    shop = open_store(project, database, {"accounts": CUSTOMERS + UNOWNED, "catalog": BOOKS}, AMPHO_OWNERS=owners)
    wsgi = project.folder / "wsgi.py"
    hook = "    app.extensions['ampho'].owner(lambda item, type_, name: {'books': 'catalog'}.get(name))\n    return app"
    wsgi.write_text(wsgi.read_text("utf-8").replace("    return app", hook), "utf-8")

    assert shop.tables_in(shop.auto("accounts")) == {"customers", "hidden_a"}
    assert shop.tables_in(shop.auto("catalog")) == {"books", "hidden_b"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"hidden_a": "acounts"},
            "AMPHO_OWNERS names 'acounts' for hidden_a, which is not a listed package. Did",
        ),
        ({"hidden_a": 1}, "AMPHO_OWNERS is {'hidden_a': 1}. Set it to a dictionary that maps names, or patterns"),
        (["hidden_a"], "AMPHO_OWNERS is ['hidden_a']. Set it to a dictionary"),
    ],
)
def test_a_setting_that_is_wrong_is_named(project: Project, database: Database, setting: object, message: str) -> None:
    shop = with_hidden(project, database, extra={"AMPHO_OWNERS": setting})

    assert shop.refused("db-rev", "accounts", "Tables", "-a").startswith(message)


ANIMALS = """
class Animal(db.Model):
    __tablename__ = "animals"
    id = sa.Column(sa.Integer, primary_key=True)
    kind = sa.Column(sa.String(9))
    __mapper_args__ = {"polymorphic_on": kind}
"""
DOGS = """
from zoo.models import Animal


class Dog(Animal):
    __mapper_args__ = {"polymorphic_identity": "dog"}
    breed = sa.Column(sa.String(20))
    owner_id = sa.Column(sa.ForeignKey("customers.id", name="dogs_owner"))
"""


def test_a_column_of_a_subclass_belongs_to_the_package_of_the_subclass(project: Project, database: Database) -> None:
    shop = open_store(project, database, {"accounts": CUSTOMERS, "kennel": DOGS, "zoo": ANIMALS})

    zoo, accounts, kennel = shop.auto("zoo"), shop.auto("accounts"), shop.auto("kennel", "--scratch")
    assert "breed" not in zoo.path.read_text("utf-8")
    assert "breed" in kennel.path.read_text("utf-8")
    assert set(kennel.depends_on) == {zoo.id, accounts.id}
    shop.run("db-up")
    assert shop.run("db-check").stderr == ""

    shop.models("kennel", DOGS.replace("    breed = sa.Column(sa.String(20))\n", ""))
    shop.nothing_to_do("zoo")
    gone = shop.auto("kennel").path.read_text("utf-8")
    assert 'drop_column("breed")' in gone
    shop.run("db-up")
    shop.run("db-check")


ELSEWHERE = """
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id = sa.Column(sa.Integer, primary_key=True)
"""


def test_models_whose_metadata_is_not_compared_are_reported(project: Project, database: Database) -> None:
    shop = open_store(project, database, {"notes": ELSEWHERE})

    found = shop.run("db-check", exit_code=1)

    assert found.stdout.splitlines()[1:] == ["    ~ table notes  is in metadata that is not compared"]
    assert "The models of notes for the table notes use metadata that is not compared. Pass the base" in found.stderr
    assert "found no models" not in found.stderr
    shop = open_store(project, database, {"notes": ELSEWHERE}, AMPHO_OWNERS={"notes": None})
    shop.run("db-check")


def test_the_tables_of_binds_are_of_other_databases(project: Project, database: Database) -> None:
    bound = CUSTOMERS.replace("Customer", "Event").replace("customers", "events") + "    __bind_key__ = 'events'\n"
    binds = {"events": str(database.url).partition(":")[0] + "://"}
    shop = open_store(
        project,
        database,
        {"accounts": CUSTOMERS + "\n\n" + bound},
        SQLALCHEMY_BINDS=binds,
        AMPHO_DATABASES={"events": []},
    )

    assert shop.tables_in(shop.auto("accounts")) == {"customers"}
    shop.run("db-up")
    assert shop.run("db-check").stderr == ""


def test_two_models_of_one_name_are_named_with_their_modules(project: Project, database: Database) -> None:
    shop = open_store(project, database, {"accounts": CUSTOMERS, "people": CUSTOMERS.replace("Customer", "Person")})

    error = shop.refused("db-check")

    assert error.startswith(
        "Two models have a table with the name customers: those in accounts.models and people.models. Rename one of"
    )


def test_two_models_of_one_name_that_the_app_imports(project: Project, database: Database) -> None:
    open_store(project, database, {"accounts": CUSTOMERS, "people": CUSTOMERS})
    app = project.folder / "wsgi.py"
    app.write_text("import accounts.models, people.models\n" + app.read_text("utf-8"), "utf-8")

    error = project.run("ampho", "--app", "wsgi", "db-check", check=False).stderr

    assert "customers: those in accounts.models and people.models. Rename one" in error
    assert "extend_existing" not in error


def test_two_metadata_with_a_table_of_one_name_are_refused(project: Project, database: Database) -> None:
    second = ELSEWHERE.replace("notes", "customers")
    options = "dict(target_metadata=[db.metadata, __import__('notes.models').models.Base.metadata])"
    shop = open_store(project, database, {"accounts": CUSTOMERS, "notes": second}, options=options)
    app = project.folder / "wsgi.py"
    app.write_text(app.read_text("utf-8").replace("    app.config", "    import notes.models\n    app.config"), "utf-8")

    assert "customers: those in accounts.models and notes.models" in shop.refused("db-check")


def test_a_table_that_a_pending_revision_drops_is_not_reported(project: Project, database: Database) -> None:
    shop = open_store(project, database, {"accounts": CUSTOMERS, "catalog": BOOKS})
    shop.auto("accounts")
    shop.auto("catalog")
    shop.run("db-up")
    shop.models("catalog", "")
    shop.auto("catalog")

    assert shop.run("db-check", "accounts").stderr == ""


PLACES = "class Place(db.Model):\n    __tablename__ = 'places'\n    id = sa.Column(sa.Integer, primary_key=True)\n"
SHOPS = PLACES.replace("Place", "Shop").replace("places", "shops") + (
    "    place_id = sa.Column(sa.ForeignKey('places.id', name='shops_place'))\n"
)


@pytest.mark.parametrize("options", [("--scratch", "--depends-on", "geo"), ("--scratch",), ("--depends-on", "geo")])
def test_a_table_that_sql_creates_can_be_referenced(project: Project, database: Database, options: list[str]) -> None:
    shop = open_store(project, database, {"geo": PLACES, "shops": SHOPS})
    project.revision("geo", "geo_1", upgrade="op.execute('CREATE TABLE places (id INTEGER NOT NULL PRIMARY KEY)')")

    assert "creates the table in another way, add --depends-on geo." in shop.refused("db-rev", "shops", "New", "-a")
    assert shop.auto("shops", *options).depends_on == ("geo_1",)
    shop.run("db-up")
    shop.run("db-check")


def test_plain_alembic_compares_models_that_the_app_does_not_import(project: Project, database: Database) -> None:
    shop = open_store(project, database, {"accounts": CUSTOMERS, "catalog": BOOKS})
    for package in shop.packages:
        shutil.rmtree(project.migrations(package))
        shop.run("db-init", package)
        shop.auto(package)
    shop.run("db-up")

    ini = ("-c", "accounts/migrations/alembic.ini")
    assert "No new upgrade operations" in project.run("alembic", *ini, "check", env={"AMPHO_APP": "wsgi"}).output
    project.run("alembic", *ini, "revision", "--autogenerate", "-m", "x", "--head", "accounts@head")
    assert "drop_table" not in shop.newest("accounts").partition("def downgrade")[0]
    shop.models("catalog", "raise RuntimeError('not imported')")
    project.run("alembic", *ini, "current")
    assert "The models of catalog cannot be imported" in project.run("alembic", *ini, "check", check=False).output
