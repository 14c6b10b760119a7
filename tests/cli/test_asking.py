"""What ``db-rev -a`` prints and asks, on a real terminal and in a pipe."""

from __future__ import annotations

import json
import re

import pytest
from project import Project
from screen import Screen
from servers import Database
from store import Store, open_store

USERS = """
class User(db.Model):
    __tablename__ = "users"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(50))
    city = sa.Column(sa.String(30))
"""
RENAMED = USERS.replace("name =", "full_name =")
FILLED = USERS + "    age = sa.Column(sa.Integer, nullable=False)\n"
RENAME = "users.name is gone and users.full_name is new: a rename? [y/N]"
VALUE = "The value, or Enter for no value:"


@pytest.fixture
def shop(project: Project, database: Database) -> Store:
    """A package with a table that has a row."""
    shop = open_store(project, database, {"people": USERS})
    shop.auto("people")
    shop.run("db-up")
    database.run("INSERT INTO users (id, name, city) VALUES (1, 'Ada', 'London')")
    return shop


def screen(shop: Store, *options: str, **env: str) -> Screen:
    return Screen(shop.project, "ampho", "db-rev", "people", "Change", "-a", *options, columns=100, env=env)


def body(shop: Store) -> str:
    return shop.newest("people").partition("def upgrade")[2]


@pytest.mark.measured("pysqlite")
@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
@pytest.mark.parametrize("answer", ["y", "n", "", "\x03", "\x04"], ids=["y", "n", "Enter", "Ctrl-C", "Ctrl-D"])
def test_a_rename_is_asked_for(shop: Store, database: Database, answer: str) -> None:
    shop.models("people", RENAMED)
    before = shop.files("people")
    seen = screen(shop)
    seen.wait(lambda shown: RENAME in shown)
    if answer == "\x03":
        seen.interrupt()
    else:
        seen.type(answer if answer == "\x04" else f"{answer}\r")
    code = seen.end()

    if answer in ("\x03", "\x04"):
        assert (code, shop.files("people")) == (130 if answer == "\x03" else 1, before)
        assert "Traceback" not in seen.shown
        return
    assert code == 0, seen.shown
    assert ("rename" in body(shop) or 'new_column_name="full_name"' in body(shop)) == (answer == "y")
    assert ("~ column users.name -> full_name" in seen.shown) == (answer == "y")
    assert ("- column users.name  loses its values" in seen.shown) == (answer != "y")
    assert "--rename" not in seen.shown
    shop.run("db-up")
    assert database.query("SELECT full_name, city FROM users") == [("Ada" if answer == "y" else None, "London")]
    assert "matches its models" in shop.run("db-check").stdout
    shop.run("db-down", "people@-1")
    assert database.query("SELECT name, city FROM users") == [("Ada" if answer == "y" else None, "London")]


@pytest.mark.measured("pysqlite")
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_a_value_is_asked_for_until_it_is_one(shop: Store, database: Database) -> None:
    shop.models("people", FILLED)
    seen = screen(shop)
    seen.wait(lambda shown: VALUE in shown)
    seen.type("many\r")
    seen.wait(lambda shown: "'many' is not a value of the type INTEGER" in " ".join(shown.split()))
    seen.wait(lambda shown: " ".join(shown.split()).count(VALUE) == 2)
    seen.type("7\r")
    assert seen.end() == 0, seen.shown
    assert "existing rows get 7" in seen.shown
    shop.run("db-up")
    assert database.query("SELECT id, age FROM users") == [(1, 7)]
    assert "matches its models" in shop.run("db-check").stdout
    shop.run("db-down", "people@-2")
    assert database.columns("users") == ["id", "name", "city"]


@pytest.mark.drivers("sqlite+pysqlite")
def test_no_value_leaves_the_warning(shop: Store) -> None:
    shop.models("people", FILLED)
    seen = screen(shop)
    seen.wait(lambda shown: VALUE in shown)
    seen.type("\r")
    assert seen.end() == 0, seen.shown
    assert "--fill users.age=VALUE" in " ".join(seen.shown.split())
    assert "UPDATE" not in body(shop)


@pytest.mark.drivers("sqlite+pysqlite")
def test_of_several_new_names_one_is_chosen(shop: Store) -> None:
    several = RENAMED.replace("    city", "    alias = sa.Column(sa.String(50))\n    city")
    shop.models("people", several.replace("full_name", "moniker"))
    seen = screen(shop)
    seen.wait(lambda shown: "The new name, or Enter if it was not renamed:" in shown)
    seen.type("city\r")
    seen.wait(lambda shown: "city is not one of" in shown)
    seen.type("moniker\r")
    assert seen.end() == 0, seen.shown
    assert "~ column users.name -> moniker" in seen.shown
    assert "+ column users.alias  VARCHAR(50)" in seen.shown


@pytest.mark.drivers("sqlite+pysqlite")
@pytest.mark.parametrize("why", ["pipe", "--json", "CI", "--dry-run"])
def test_nothing_is_asked_where_nobody_can_answer(shop: Store, why: str) -> None:
    shop.models("people", RENAMED)
    if why == "pipe":
        done = shop.project.run("ampho", "db-rev", "people", "Change", "-a")
        said = done.stderr
        assert "[y/N]" not in done.output
        assert done.stdout.startswith(
            "+ column users.full_name  VARCHAR(50)\n- column users.name  loses its values\nWrote "
        )
    else:
        seen = screen(shop, "--no-split", *([why] if why != "CI" else []), **({"CI": "true"} if why == "CI" else {}))
        assert seen.end() == 0, seen.shown
        said = seen.shown
        assert "[y/N]" not in said
    words = " ".join(said.split())
    assert "a rename? If so, add --rename users.name=full_name." in words
    assert (re.search("To add such an option, delete the new files? of people", words) is not None) is (
        why != "--dry-run"
    )


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_dry_run_writes_nothing_and_shows_everything(shop: Store) -> None:
    shop.models("people", RENAMED)
    before = shop.project.files()
    done = shop.run("db-rev", "people", "Change", "-a", "--dry-run", "--rename", "users.name=full_name")
    assert done.stdout.splitlines()[0] == "~ column users.name -> full_name"
    assert done.stdout.splitlines()[1].startswith("Would write ")
    printed = shop.run("db-rev", "people", "Change", "-a", "--dry-run", "--json").stdout
    (generated,) = json.loads(printed)["generated"]
    assert [change["text"] for change in generated["changes"]] == [
        "+ column users.full_name  VARCHAR(50)",
        "- column users.name  loses its values",
    ]
    assert generated["questions"][0]["choices"] == ["full_name"]
    assert generated["revisions"] == []
    assert shop.project.files() == before
    assert shop.run("db-rev", "people", "Change", "--dry-run", exit_code=2).stderr.count("--dry-run requires") == 1


HAS_FORM = "A rename has the form TABLE.COLUMN=NEW, or TABLE=NEW for a table."
REFUSED = {
    "users.nam=full_name": "The table users in the database has no column, index, or constraint nam. These columns are"
    " only in the database: name, age.",
    "users.nam=": "The table users in the database has no column, index, or constraint nam.",
    "users.name=fullname": "users.fullname is not a new column of the models. New in the models: full_name, years.",
    "users.name=city": "users.city is not a new column of the models. New in the models: full_name, years.",
    "users.city=full_name": "The models still have the column users.city.",
    "user.name=full_name": "The database has no table user. Did you mean users?",
    "users=people": "The models still have the table users.",
    "people=teams": "The database has no table people. These tables are only in the database: groups.",
    "groups=team": "The models have no table team. Did you mean teams?",
    "groups.name=title": "The models have no table groups. If it was renamed, too, add --rename groups=NEW.",
    "users.name": HAS_FORM,
    "users.=full_name": HAS_FORM,
    "users.name=full_name users.name=years": "--rename users.name=full_name has the same old name.",
    "users.name=years users.age=years": "--rename users.name=years has the same new name.",
    "users.name=full_name users.name=": "--rename users.name=full_name gives users.name a new name.",
    "users.name=full_name users.full_name=years": "The table users in the database has no column, index, or constraint"
    " full_name.",
    "users.name=city users.city=name": "users.city is not a new column of the models.",
}
NO_VALUES = {
    "groups.id=1": "groups.id needs no value for existing rows. These columns need one: users.years.",
    "users.year=1": "users.year needs no value for existing rows. Did you mean users.years?",
    "users.years": "A value has the form TABLE.COLUMN=VALUE",
    "users.years=": "'' is not a value of the type INTEGER.",
    "users.years=sql:": "The SQL expression is missing.",
    "users.years=1 users.years=2": "--fill users.years=1 is for the same column. Pass only one of them.",
}


@pytest.mark.drivers("sqlite+pysqlite")
def test_an_answer_to_nothing_is_refused(project: Project, database: Database) -> None:
    groups = USERS.replace("User", "Group").replace("users", "groups")
    age = "    age = sa.Column(sa.Integer, nullable=False)\n"
    shop = open_store(project, database, {"people": f"{USERS}{age}{groups}"})
    shop.auto("people")
    shop.run("db-up")
    teams = groups.replace("Group", "Team").replace("groups", "teams")
    shop.models("people", f"{RENAMED}{age.replace('age', 'years')}{teams}")
    files = shop.files("people")

    for option, cases in (("--rename", REFUSED), ("--fill", NO_VALUES)):
        for values, error in cases.items():
            said = shop.refused("db-rev", "people", "Change", "-a", *(f"{option}={each}" for each in values.split()))
            assert said.startswith(f"{option} {values.split()[-1]}:") or " " in values, values
            assert error in said

    assert shop.files("people") == files


@pytest.mark.drivers("sqlite+pysqlite")
def test_what_loses_data_is_warned_of(shop: Store, database: Database) -> None:
    shop.models(
        "people",
        USERS.replace("50", "20").replace("    city = sa.Column(sa.String(30)", "    town = sa.Column(sa.String(30)"),
    )
    said = shop.run("db-rev", "people", "Change", "-a", "--rename", "users.city=").stderr
    assert "Warning: The revision drops the column users.city. The data in it is lost." in said
    assert (
        "users.name changes from VARCHAR(50) to VARCHAR(20). Values that do not fit are rejected, or cut off." in said
    )
    assert "a rename?" not in said
