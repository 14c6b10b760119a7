"""A database that is protected: what takes something out of it wants to be told its name."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import PROGRAMS, Project
from servers import Database
from tenants import Fleet

from ampho.errors import ConfigurationError, ProtectedError
from ampho.settings import CONFIRM, PROTECTED

COMMAND = re.compile(rf"'({CONFIRM}=\S+:[0-9a-f]{{8}}) (ampho [^']*)'")


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


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Typing:
    return Typing(monkeypatch)


class Typing:
    """Someone who runs the command that an error shows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def set(self, value: str) -> str:
        name, _, given = value.partition("=")
        self._monkeypatch.setenv(name, *shlex.split(given))
        return given

    def confirm(self, each: Facade, *args: str) -> str:
        """Run a command that is refused, and then the one that confirms it; return the error."""
        line = each.error_line(*args)
        found = COMMAND.search(line)
        assert found, line
        self.set(found[1])
        done = each.run(*shlex.split(found[2])[1:])
        assert done.exit_code == 0, done.output
        return line


def test_a_downgrade_wants_the_name_of_the_database(protected: Facade, typing: Typing) -> None:
    line = protected.error_line("db-down", "base", "--confirm", "shop.db")
    assert "shop.db is not the name of the database app.db." in line
    assert len(protected.call("current")["shop"].applied) == 1

    line = typing.confirm(protected, "db-down", "base")
    assert re.sub("[0-9a-f]{8}", "...", line) == (
        "'ampho db-down base' reverts 2 revisions of shop, core. AMPHO_PROTECTED protects the database app.db, and"
        " without a terminal, AMPHO_CONFIRM must also name the database and the plan. Review the plan with 'ampho"
        " db-down base --plan', and to confirm it, run 'AMPHO_CONFIRM=app.db:... ampho db-down base --confirm app.db';"
        " nothing was changed."
    )
    assert protected.call("current")["core"].applied == ()
    assert "Nothing to do" in protected.run("db-down", "base").stdout
    assert "Nothing to do" in protected.run("db-down", "base", "--confirm", "app.db").stdout
    assert "reverts nothing." in protected.error_line("db-down", "base", "--confirm", "shop.db")


def test_a_purge_wants_it_too(protected: Facade, typing: Typing) -> None:
    line = typing.confirm(protected, "db-stamp", "core", "--purge")
    assert line.startswith(
        "'ampho db-stamp core --purge' deletes all version rows: shop_1. AMPHO_PROTECTED protects the database"
    )
    assert "Review this, and to confirm it, run" in line
    assert protected.call("current")["shop"].applied == ()
    assert protected.run("db-stamp", "shop").exit_code == 0
    line = typing.confirm(protected, "db-stamp", "shop@base")
    assert "'ampho db-stamp shop@base' removes applied revisions from the version table: shop_1." in line
    assert protected.run("db-stamp", "shop").exit_code == 0
    assert protected.run("db-stamp", "shop", "--confirm", "app.db").exit_code == 0
    assert "shop.db is not the name" in protected.error_line("db-stamp", "core", "--confirm", "shop.db")


def test_one_without_a_terminal_has_to_name_the_plan(project: Project, protected: Facade, typing: Typing) -> None:
    """The name alone is typed by habit, by scripts and by assistants."""

    def plan() -> str:
        (found,) = re.findall(rf"Without a terminal, also set ({CONFIRM}=\S+)", run("--plan").stdout)
        return str(found)

    def run(*args: str) -> Any:
        return protected.run("db-down", "shop@base", *args)

    refused = ("db-down", "shop@base", "--confirm", "app.db")
    assert f"without a terminal, {CONFIRM} must also name" in protected.error_line(*refused)
    first = plan()
    typing.set(first)
    line = protected.error_line("db-down", "shop@base")
    assert f"{CONFIRM} is right, but --confirm is missing" in line
    assert f"run '{first} ampho db-down shop@base --confirm app.db'" in line

    # The file of a step, the plan, and the database.
    project.revision("shop", "shop_1", None, "core_1", downgrade="op.execute('SELECT 1')")
    assert "AMPHO_CONFIRM has a different fingerprint" in protected.error_line(*refused)
    second = plan()
    typing.set(second)
    assert "different fingerprint" in protected.error_line("db-down", "base", "--confirm", "app.db")
    project.revision("core", "core_2", "core_1")
    assert run("--plan").stdout.endswith(f"{second}\n"), "which other files do not change"
    protected.call("upgrade")
    assert "different fingerprint" in protected.error_line(*refused)
    assert len({first, second, plan()}) == 3
    assert len(protected.call("current")["shop"].applied) == 1

    typing.set(plan())
    assert run("--confirm", "app.db").exit_code == 0
    protected.call("upgrade")
    assert "different fingerprint" in protected.error_line(*refused), "as it confirms one downgrade, not each"


SECRET = "postgresql://ada:s3cret@db.example.com/shop"
MISTAKES = {
    "": "without a terminal, AMPHO_CONFIRM must also name the database and the plan",
    " ": "without a terminal, AMPHO_CONFIRM must also name the database and the plan",
    "app.db": "does not begin with the name of the database and a colon",
    "{}": "does not begin with the name of the database and a colon",
    "app.db:": "does not end with a fingerprint",
    "app.db:yes": "does not end with a fingerprint",
    "shop.db:{}": "names a different database",
    f"{SECRET}:{{}}": "names a different database",
    "app.db:00000000": "has a different fingerprint: the plan, the file of a step, or the database has changed since",
    "app.db:{0},app.db:{0}": "has several values, but confirms a single plan of a single database",
    "shop.db:00000000 app.db:{}": "has several values, but confirms a single plan of a single database",
}


@pytest.mark.parametrize("command", [("db-down", "base"), ("db-stamp", "base")], ids=" ".join)
def test_each_mistake_is_named_with_the_value_to_set(
    protected: Facade, typing: Typing, monkeypatch: pytest.MonkeyPatch, command: tuple[str, str]
) -> None:
    right = json.loads(protected.run(*command, "--json").stdout)["error"]["fingerprint"]
    remedy = f"run '{CONFIRM}=app.db:{right} ampho {' '.join(command)} --confirm app.db'; nothing was changed."
    for wrong, mistake in MISTAKES.items():
        monkeypatch.setenv(CONFIRM, wrong.format(right))
        for confirm in ((), ("--confirm", "app.db")):
            line = protected.error_line(*command, *confirm)
            assert mistake in line, wrong
            assert line.endswith(remedy)
            assert "s3cret" not in line
    monkeypatch.setenv(CONFIRM, f"app.db:{right}")
    line = protected.error_line(*command, "--confirm", SECRET)
    assert "://***@db.example.com/shop is not the name of the database app.db." in line
    assert line.endswith(remedy)
    monkeypatch.setenv(CONFIRM, f" app.db:{right}\n")
    assert protected.run(*command, "--confirm", "app.db").exit_code == 0, "as spaces around it do no harm"


def test_scripts_read_the_fingerprint(protected: Facade, typing: Typing) -> None:
    plan = json.loads(protected.run("db-down", "base", "--plan", "--json").stdout)["plan"]
    error = json.loads(protected.run("db-down", "base", "--json").stdout)["error"]
    assert plan["protected"] == error["database"] == "app.db"
    assert plan["fingerprint"] == error["fingerprint"]
    error = json.loads(protected.run("db-down", "base", "--confirm", "shop.db", "--json").stdout)["error"]
    assert error["fingerprint"] == plan["fingerprint"]
    upgrade = json.loads(protected.run("db-up", "--plan", "--json").stdout)["plan"]
    assert upgrade["fingerprint"] is None

    typing.set(f"{CONFIRM}=app.db:{plan['fingerprint']}")
    assert protected.run("db-down", "base", "--confirm", "app.db").exit_code == 0


def test_the_command_to_type_has_the_options_of_the_other(project: Project, protected: Facade, typing: Typing) -> None:
    line = typing.confirm(protected, "db-down", "core@base", "--cascade", "-x", "password=secret")
    assert "ampho db-down core@base --cascade -x ... --confirm app.db'" in line
    assert "secret" not in line
    assert protected.run("db-stamp", "heads").exit_code == 0
    line = protected.error_line("db-stamp", "core", "--purge", "--verify", "-x", "password=secret")
    assert "ampho db-stamp core --verify --purge -x ... --confirm app.db'" in line
    assert "secret" not in line


def test_a_tenant_is_named_like_any_database(project: Project, typing: Typing) -> None:
    fleet = Fleet(project, 2)
    fleet.write("flask", "sqlite:///app.db", place={"url": "sqlite:///{}.db"}, AMPHO_PROTECTED=True)
    assert project.run("ampho", "db-up", "--all").exit_code == 0
    refused = project.run("ampho", "db-down", "base", "-d", "tenants/t001", check=False)
    found = COMMAND.search(refused.stderr)
    assert found, refused
    assert found[2] == "ampho db-down base --confirm t001.db --database tenants/t001"
    project.run(*shlex.split(found[2]), env=dict([found[1].split("=")]))
    assert "Nothing to do" in project.run("ampho", "db-down", "base", "-d", "tenants/t001").stdout
    assert "1 revision" in project.run("ampho", "db-down", "base", "-d", "tenants/t000", "--plan").stdout


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
    assert str(caught.value).endswith("To confirm, add --confirm app.db; nothing was changed.")
    assert len(protected.call("downgrade", "shop@base", confirm=caught.value.database).steps) == 1
    with pytest.raises(ProtectedError):
        protected.call("stamp", "heads", purge=True)
    protected.call("stamp", "heads", purge=True, confirm="app.db")


def test_a_method_takes_the_fingerprint_that_its_caller_has_seen(protected: Facade) -> None:
    plan = protected.call("plan", "shop@base", direction="downgrade")
    right = {"confirm": "app.db", "fingerprint": plan.fingerprint}
    for arguments in ({**right, "fingerprint": "0" * 8}, {**right, "fingerprint": ""}, {**right, "confirm": "shop.db"}):
        with pytest.raises(ProtectedError) as caught:
            protected.call("downgrade", "shop@base", **arguments)
        assert caught.value.fingerprint == plan.fingerprint
    assert len(protected.call("downgrade", "shop@base", **right).steps) == 1
    with pytest.raises(ProtectedError) as caught:
        protected.call("stamp", "base", **right)
    protected.call("stamp", "base", confirm="app.db", fingerprint=caught.value.fingerprint)
    assert protected.call("current")["core"].applied == ()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_wrong_name_is_an_error_of_an_unprotected_database_too(project: Project, framework: str) -> None:
    write(project)
    with facade(project, framework, ["core", "shop"], URLS[framework]) as each:
        each.call("upgrade")
        assert "production is not the name of" in each.error_line("db-down", "--confirm", "production")
        assert each.call("plan", direction="downgrade").fingerprint == ""
        assert each.run("db-down", "--confirm", "app.db").exit_code == 0
        assert each.run("db-down").exit_code == 0


@pytest.mark.drivers("postgresql+asyncpg", "mariadb+asyncmy")
def test_the_name_of_a_servers_database(project: Project, database: Database, typing: Typing) -> None:
    write(project)
    with facade(project, "flask", ["core", "shop"], database.sync_url, AMPHO_PROTECTED=True) as seen:
        seen.call("upgrade")
        plan = seen.call("plan", direction="downgrade")
        assert plan.protected == database.name
    with facade(project, "quart", ["core", "shop"], database.url, AMPHO_PROTECTED=True) as each:
        with pytest.raises(ProtectedError) as caught:
            each.call("downgrade")
        assert caught.value.database == database.name
        assert caught.value.fingerprint == plan.fingerprint, "whichever driver looks"
        typing.confirm(each, "db-down")


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


def test_who_sits_at_a_terminal_needs_no_fingerprint(project: Project) -> None:
    write(project)
    project.app("flask", ["core", "shop"], "sqlite:///app.db")
    stale = {"AMPHO_PROTECTED": "1", CONFIRM: "app.db:00000000"}
    project.run("ampho", "db-up", env=stale)
    shown = project.type("ampho", "db-down", "base", answer="", env=stale)
    assert CONFIRM not in shown.stdout
    assert project.type("ampho", "db-down", "shop@base", "--confirm", "app.db", answer="", env=stale).exit_code == 0
    # What is shown may go to a file.
    command = f"import os; os._exit(os.system('{PROGRAMS}/ampho db-stamp base --confirm app.db >out 2>&1'))"
    assert project.type("python", "-c", command, answer="", env=stale).exit_code == 0, project.read("out")


@pytest.mark.parametrize("stdin", ["</dev/null", "<&-"])
def test_a_script_is_refused_until_it_names_the_plan(project: Project, stdin: str) -> None:
    write(project)
    project.app("flask", ["core", "shop"], "sqlite:///app.db")
    env = {**os.environ, "AMPHO_PROTECTED": "1", "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}

    def shell(command: str) -> subprocess.CompletedProcess[str]:
        typed = ["sh", "-c", f"{command} {stdin}"]
        return subprocess.run(typed, cwd=project.folder, env=env, capture_output=True, text=True, check=False)

    project.run("ampho", "db-up")
    refused = shell("ampho db-down base --confirm app.db")
    assert refused.returncode == 1, refused
    found = COMMAND.search(refused.stderr)
    assert found, refused
    assert "reverts 2 revisions" in refused.stderr
    assert "2 revisions" in project.run("ampho", "db-down", "base", "--plan").stdout
    done = shell(f"{found[1]} {found[2]}")
    assert "Reverted 2 revisions" in done.stdout, done


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
