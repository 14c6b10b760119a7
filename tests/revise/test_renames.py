"""Renames with ``db-rev -a --rename``: what references the objects, names of constraints, schemas; both directions."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa
from comparing import ONE_EACH, compare, connected
from project import Project
from servers import Database
from store import Store, open_store

from ampho.revise.autogenerate.write.render import body

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

PEOPLE = """
BOTH = "%(table_name)s_%(column_0_name)s"
db.metadata.naming_convention = {{"ix": f"ix_{{BOTH}}", "uq": f"uq_{{BOTH}}"}}


class Person(db.Model):
    __tablename__ = "{table}"
    __table_args__ = (
        sa.UniqueConstraint("{email}"),
        sa.CheckConstraint("{email} <> 'email'", name="{email}_given"),
        sa.Index("by_{email}", "{email}", postgresql_where=sa.text("{email} <> 'email'")),
    )
    id = sa.Column(sa.Integer, primary_key=True)
    {email} = sa.Column(sa.String(50), nullable=False, comment="It's 100 %")
    city = sa.Column(sa.String({length}), index=True, server_default="Rome")
    boss_id = sa.Column(sa.ForeignKey("{table}.id", name="{table}_boss"))
"""
PETS = """
class Pet(db.Model):
    __tablename__ = "pets"
    id = sa.Column(sa.Integer, primary_key=True)
    owner_id = sa.Column(sa.ForeignKey("{table}.id", name="pets_owner"))
    owner_email = sa.Column(sa.ForeignKey("{table}.{email}", name="pets_email"))
"""
OLD = {"table": "people", "email": "email", "length": 100}
NEW = {"table": "persons", "email": "mail", "length": 120}
ROWS = "SELECT id, {email}, city, boss_id FROM {table} ORDER BY id"


def models(shop: Store, values: dict[str, object]) -> None:
    shop.models("people", PEOPLE.format(**values))
    shop.models("pets", PETS.format(**values))


@pytest.mark.measured("pymysql")
@pytest.mark.drivers(
    "sqlite+pysqlite", "sqlite+aiosqlite", "postgresql+psycopg", "postgresql+asyncpg", "mariadb+pymysql"
)
def test_a_renamed_table_with_a_renamed_column_keeps_rows_and_references(project: Project, database: Database) -> None:
    shop = open_store(project, database, {"people": PEOPLE.format(**OLD), "pets": PETS.format(**OLD)})
    shop.run("db-rev", "-a", "Initial")
    shop.run("db-up")
    database.run(
        "INSERT INTO people (id, email, boss_id) VALUES (1, 'a@b', NULL)",
        "INSERT INTO people (id, email, boss_id) VALUES (2, 'c@d', 1)",
        "INSERT INTO pets (id, owner_id, owner_email) VALUES (1, 2, 'c@d')",
    )
    rows, schema = database.query(ROWS.format(**OLD)), database.schema()
    models(shop, NEW)
    assert (
        "Warning: The table people is gone and the table persons is new: a rename?"
        in shop.run("db-rev", "-a", "Change", "--dry-run").stderr
    )
    options = ["--rename", "people=persons", "--rename", "persons.email=mail"]

    done = shop.run("db-rev", "-a", "Change", *options)

    assert "~ table people -> persons\n~ column persons.email -> mail\n" in done.stdout
    assert "Warning" not in done.stderr
    assert re.search("VARCHAR.100.* -> VARCHAR.120", done.stdout)
    assert len(shop.files("pets")) == 1, shop.newest("pets")
    shop.run("db-up")
    assert database.query(ROWS.format(**NEW)) == rows
    assert database.query("SELECT owner_id, owner_email FROM pets") == [(2, "c@d")]
    assert shop.run("db-check").stdout.count("matches its models") == 2, shop.newest("people")
    shop.run("db-down", "people@-1")
    assert database.query(ROWS.format(**OLD)) == rows
    assert database.query("SELECT owner_id, owner_email FROM pets") == [(2, "c@d")]
    assert database.schema() == schema
    database.run("DELETE FROM pets", "DELETE FROM people WHERE id = 2", "DELETE FROM people")
    shop.run("db-down", "base")
    shop.run("db-up")
    assert shop.run("db-check").stdout.count("matches its models") == 2


@pytest.mark.drivers("postgresql+psycopg")
def test_objects_in_a_schema_are_renamed(project: Project, database: Database) -> None:
    source = """
    class Cart(db.Model):
        __tablename__ = "{table}"
        __table_args__ = ({{"schema": "sales"}},)
        {id} = sa.Column(sa.Integer, primary_key=True)
        {total} = sa.Column(sa.Integer, nullable=False)
        note = sa.Column(sa.String(20))
        state = sa.Column(sa.String(20))
    """
    database.run("CREATE SCHEMA sales")
    shop = open_store(project, database, {"carts": source.format(table="carts", total="total", id="id")})
    shop.auto("carts")
    shop.run("db-up")
    database.run("INSERT INTO sales.carts (id, total) VALUES (1, 7)")
    shop.models("carts", source.format(table="bas kets", total="sum", id="cart_id"))

    renames = ["sales.carts=bas kets", "sales.bas kets.total=sum", "sales.carts.id=cart_id"]
    shop.auto("carts", *(f"--rename={each}" for each in renames))
    shop.run("db-up")

    assert database.query('SELECT cart_id, sum FROM sales."bas kets"') == [(1, 7)]
    assert shop.run("db-check").stdout == "carts  matches its models\n"
    shop.run("db-down", "carts@-1")
    assert database.query("SELECT id, total FROM sales.carts") == [(1, 7)]


INDEXED = """
class Note(db.Model):
    __tablename__ = "notes"
    __table_args__ = (sa.Index("{index}", "text"), sa.UniqueConstraint("code", name="{unique}"))
    id = sa.Column(sa.Integer, primary_key=True)
    text = sa.Column(sa.String(20))
    code = sa.Column(sa.String(20))
"""


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_indexes_and_constraints_are_renamed_where_the_database_can(project: Project, database: Database) -> None:
    shop = open_store(project, database, {"notes": INDEXED.format(index="ix_old", unique="uq_old")})
    shop.auto("notes")
    shop.run("db-up")
    schema = database.schema()
    shop.models("notes", INDEXED.format(index="ix_new", unique="uq_new"))
    options = ["--rename", "notes.ix_old=ix_new", "--rename", "notes.uq_old=uq_new"]
    if database.backend == "sqlite":
        assert "sqlite cannot rename ix_old." in shop.refused("db-rev", "notes", "Change", "-a", *options)
        assert "--rename" not in shop.run("db-rev", "notes", "Change", "-a", "--dry-run").stderr
        return
    asked = shop.run("db-rev", "notes", "Change", "-a", "--dry-run").stderr
    assert all(f"If so, add {rename}." in asked for rename in (" ".join(options[:2]), " ".join(options[2:])))

    shop.auto("notes", *options)

    assert "create_index" not in shop.newest("notes")
    assert "create_unique" not in shop.newest("notes")
    shop.run("db-up")
    assert shop.run("db-check").stdout == "notes  matches its models\n"
    shop.run("db-down", "notes@-1")
    assert database.schema() == schema


KEYED = """
class Group(db.Model):
    __tablename__ = "groups"
    id = sa.Column(sa.Integer, primary_key=True)


class User(db.Model):
    __tablename__ = "users"
    id = sa.Column(sa.Integer, primary_key=True)
    {group} = sa.Column(sa.ForeignKey("groups.id"))
    {active} = sa.Column(sa.Boolean, server_default=sa.false(), nullable=False)
    {city} = sa.Column(sa.String(20), server_default="It's 5 %")
"""


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_columns_with_a_default_or_an_unnamed_foreign_key_are_renamed(project: Project, database: Database) -> None:
    shop = open_store(project, database, {"users": KEYED.format(group="team", active="on", city="town")})
    shop.auto("users")
    shop.run("db-up")
    schema = database.schema()
    shop.models("users", KEYED.format(group="group_id", active="is_active", city="city"))

    shop.auto("users", *(f"--rename=users.{each}" for each in ("team=group_id", "on=is_active", "town=city")))

    assert "drop_" not in shop.newest("users")
    shop.run("db-up")
    assert shop.run("db-check").stdout == "users  matches its models\n"
    database.run("INSERT INTO groups (id) VALUES (1)", "INSERT INTO users (id, group_id) VALUES (1, 1)")
    assert database.query("SELECT is_active, city FROM users") == [(False, "It's 5 %")]
    shop.run("db-down", "users@-1")
    assert database.schema() == schema


PERCENT = """
class Deal(db.Model):
    __tablename__ = "{table}"
    __table_args__ = (sa.Index("{index}", "{price}"),)
    id = sa.Column(sa.Integer, primary_key=True)
    price = sa.Column("{price}", sa.String(20){required})
"""
BEFORE = {"table": "100% off", "price": "5%%", "index": "%s", "required": ""}
AFTER = {"table": "%off%%", "price": "a%s", "index": "%%(b)s", "required": ", nullable=False"}


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(
    "sqlite+pysqlite",
    "sqlite+aiosqlite",
    "postgresql+psycopg",
    "postgresql+asyncpg",
    "mariadb+pymysql",
    "mariadb+asyncmy",
)
def test_names_with_percent_signs_are_renamed_and_filled(project: Project, database: Database) -> None:
    if sa.__version__ < "2.1" and database.driver.endswith(("asyncpg", "asyncmy")):
        pytest.skip("with this driver, SQLAlchemy 2.0 takes %(b)s in a statement for a parameter")
    shop = open_store(project, database, {"deals": PERCENT.format(**BEFORE)})
    shop.auto("deals")
    shop.run("db-up")
    with database.connect() as connection:
        old, new = (sa.table(each["table"], sa.column("id"), sa.column(each["price"])) for each in (BEFORE, AFTER))
        connection.execute(old.insert().values(id=1))
    shop.models("deals", PERCENT.format(**AFTER))
    options = [f"--rename={BEFORE['table']}={AFTER['table']}", f"--rename={AFTER['table']}.5%%=a%s"]
    if database.backend != "sqlite":
        options.append(f"--rename={AFTER['table']}.%s=%%(b)s")

    shop.auto("deals", *options, f"--fill={AFTER['table']}.a%s=%d%%")

    if database.backend != "sqlite":
        database.client(shop.run("db-up", "--sql").stdout)
        shop.run("db-down", "deals@-1")
        with database.connect() as connection:
            connection.execute(old.update().values({BEFORE["price"]: None}))
    shop.run("db-up")
    with database.connect() as connection:
        assert connection.execute(sa.select(new)).all() == [(1, "%d%%")]
    assert shop.run("db-check").stdout == "deals  matches its models\n"


def posts(*columns: sa.Column[Any]) -> sa.MetaData:
    metadata = sa.MetaData()
    sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True))
    sa.Table("posts", metadata, sa.Column("id", sa.Integer, primary_key=True), *columns)
    return metadata


@pytest.mark.drivers(*ONE_EACH)
def test_columns_with_a_default_or_a_foreign_key_are_asked_for(database: Database) -> None:
    def models(flag: str, user: str) -> sa.MetaData:
        active = sa.Column(flag, sa.Boolean, default=True, nullable=False)
        return posts(active, sa.Column(user, sa.ForeignKey("users.id")))

    with connected(database) as connection:
        models("active", "author_id").create_all(connection)
        connection.commit()
        new = models("is_active", "owner_id")
        asked = compare(connection, new).questions()["shop"]
        assert {each.answer(*each.choices) for each in asked} == {"posts.active=is_active", "posts.author_id=owner_id"}
        asked = compare(connection, new, fill=["posts.is_active=true"]).questions()["shop"]
        assert [each.answer(*each.choices) for each in asked] == ["posts.author_id=owner_id"]


@pytest.mark.drivers("postgresql+psycopg")
def test_a_foreign_key_that_changes_and_gets_another_name_is_no_rename(database: Database) -> None:
    def models(name: str, **options: Any) -> sa.MetaData:
        return posts(sa.Column("user_id", sa.ForeignKey("users.id", name=name, **options)))

    with connected(database) as connection:
        models("old").create_all(connection)
        connection.commit()
        for options in ({"deferrable": True}, {"initially": "DEFERRED"}, {"ondelete": "CASCADE"}):
            comparison = compare(connection, models("new", **options))
            assert comparison.questions() == {"shop": ()}
            written = body(comparison.packages["shop"]).upgrades
            assert "drop_constraint" in written
            assert repr(next(iter(options.values()))).replace("'", '"') in written
