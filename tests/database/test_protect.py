"""A database that is protected: what takes something out of it wants to be told its name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from servers import Database

from ampho.errors import ConfigurationError, ProtectedError
from ampho.settings import PROTECTED


def write(project: Project) -> None:
    for package in ("core", "shop"):
        project.package(package)
    project.revision("core", "core_1")
    project.revision("shop", "shop_1", None, "core_1")


@pytest.fixture(params=FRAMEWORKS)
def protected(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    write(project)
    with facade(project, request.param, ["core", "shop"], URLS[request.param], AMPHO_PROTECTED=True) as each:
        each.call("upgrade")
        yield each


def test_a_downgrade_wants_the_name_of_the_database(protected: Facade) -> None:
    line = protected.error_line("db-down", "base")
    assert line == (
        "'ampho db-down base' reverts 2 revisions of shop, core. AMPHO_PROTECTED protects the database app.db. To"
        " confirm, add --confirm app.db; nothing was changed."
    )
    line = protected.error_line("db-down", "base", "--confirm", "shop.db")
    assert "shop.db is not the name of the database app.db." in line
    assert len(protected.call("current")["shop"].applied) == 1

    assert protected.run("db-down", "base", "--confirm", "app.db").exit_code == 0
    assert protected.call("current")["core"].applied == ()
    assert "Nothing to do" in protected.run("db-down", "base").stdout
    assert "reverts nothing." in protected.error_line("db-down", "base", "--confirm", "shop.db")


def test_a_purge_wants_it_too(protected: Facade) -> None:
    line = protected.error_line("db-stamp", "core", "--purge")
    assert line.startswith(
        "'ampho db-stamp core --purge' deletes all version rows. AMPHO_PROTECTED protects the database"
    )
    assert len(protected.call("current")["shop"].applied) == 1

    assert protected.run("db-stamp", "core", "--purge", "--confirm", "app.db").exit_code == 0
    assert protected.call("current")["shop"].applied == ()
    assert protected.run("db-stamp", "shop").exit_code == 0
    assert "removes applied revisions from the version table." in protected.error_line("db-stamp", "shop@base")
    assert protected.run("db-stamp", "shop@base", "--confirm", "app.db").exit_code == 0
    assert protected.run("db-stamp", "shop").exit_code == 0
    assert "shop.db is not the name" in protected.error_line("db-stamp", "core", "--confirm", "shop.db")


def test_what_takes_nothing_out_is_not_asked(protected: Facade) -> None:
    assert protected.run("db-down", "-s", "base", "--confirm", "app.db").exit_code == 2
    for command in ("db-up", "db-current", "db-down -s base", "db-check --deploy", "db-stamp heads", "db-log"):
        assert protected.run(*command.split()).exit_code == 0, command
    assert len(protected.call("plan", "base", direction="downgrade").steps) == 2


def test_the_methods_take_the_name_as_an_argument(protected: Facade) -> None:
    with pytest.raises(ProtectedError) as caught:
        protected.call("downgrade", "shop@base")
    assert (caught.value.database, caught.value.deed) == (
        "app.db",
        "'ampho db-down shop@base' reverts 1 revision of shop.",
    )
    assert len(protected.call("downgrade", "shop@base", confirm=caught.value.database).steps) == 1
    with pytest.raises(ProtectedError):
        protected.call("stamp", "heads", purge=True)
    protected.call("stamp", "heads", purge=True, confirm="app.db")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_wrong_name_is_an_error_of_an_unprotected_database_too(project: Project, framework: str) -> None:
    write(project)
    with facade(project, framework, ["core", "shop"], URLS[framework]) as each:
        each.call("upgrade")
        assert "production is not the name of" in each.error_line("db-down", "--confirm", "production")
        assert each.run("db-down", "--confirm", "app.db").exit_code == 0
        assert each.run("db-down").exit_code == 0


@pytest.mark.drivers("postgresql+psycopg", "mariadb+asyncmy")
def test_the_name_of_a_servers_database(project: Project, database: Database) -> None:
    write(project)
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["core", "shop"], database.url, AMPHO_PROTECTED=True) as each:
        each.call("upgrade")
        with pytest.raises(ProtectedError) as caught:
            each.call("downgrade")
        assert caught.value.database == database.name
        assert each.run("db-down", "--confirm", database.name).exit_code == 0


def test_who_sits_at_a_terminal_is_asked(project: Project) -> None:
    write(project)
    project.app("flask", ["core", "shop"], "sqlite:///app.db")
    protected = {"AMPHO_PROTECTED": "1"}
    project.run("ampho", "db-up", env=protected)
    command = ("ampho", "db-down", "shop@base")
    for answer, words in (("shop.db", "shop.db is not the name of the database app.db."), ("", "AMPHO_PROTECTED")):
        refused = project.type(*command, answer=answer, env=protected)
        assert refused.exit_code == 1
        assert words in " ".join(refused.stdout.split())
    done = project.type(*command, answer="app.db", env=protected)
    assert done.exit_code == 0, done
    said = " ".join(done.stdout.split())
    assert "'ampho db-down shop@base' reverts 1 revision of shop. The database app.db is protected." in said
    assert "\n  - shop_1  by hand ... " in done.stdout, "a terminal that does not say how wide it is has 80 columns"
    assert "Type its name to continue: " in done.stdout
    assert "Reverted 1 revision" in done.stdout


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (False, False),
        (1, True),
        (0, False),
        ("1", True),
        ("true", True),
        ("Yes", True),
        ("0", False),
        ("", False),
        ("off", False),
    ],
)
def test_the_setting_may_be_said_in_several_ways(value: object, expected: bool) -> None:
    assert PROTECTED.read({"AMPHO_PROTECTED": value}, {}) is expected
    assert PROTECTED.read({}, {"AMPHO_PROTECTED": str(value)}) is expected


@pytest.mark.parametrize("value", ["production", 2, None, ["app.db"]])
def test_a_setting_that_means_nothing_protects_by_an_error(value: object) -> None:
    with pytest.raises(ConfigurationError, match="AMPHO_PROTECTED is"):
        PROTECTED.read({"AMPHO_PROTECTED": value}, {})


def test_the_app_has_the_last_word() -> None:
    assert PROTECTED.read({"AMPHO_PROTECTED": False}, {"AMPHO_PROTECTED": "1"}) is False
    assert PROTECTED.read({}, {}) is False
