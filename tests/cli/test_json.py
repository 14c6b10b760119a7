"""``--json``: one object on standard output, as the schema that is shipped describes it, and nothing else there."""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from jsonschema import Draft202012Validator, FormatChecker
from project import Project

from ampho.cli.commands import cli
from ampho.cli.json import FLAG, SCHEMA, VERSION, key_of
from ampho.cli.show import print_text
from ampho.errors import AmphoError

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

# Commands that print what has a form of its own, each with the reason.
WITHOUT: dict[str, str] = {"explain": "a page of the documentation"}
TABLE = "op.create_table('{0}', sa.Column('id', sa.Integer, primary_key=True))"
LISTED = ["core", "shop"]

Change: TypeAlias = Callable[[Project, Facade], None]


def strict(schema: Any) -> Any:
    """The schema without room for fields that it does not describe: none of ours is left out."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(each) for name, each in schema.items()}
    return closed | ({"additionalProperties": False} if "properties" in schema and "type" in schema else {})


SCHEMA_TEXT = json.loads(SCHEMA.read_text("utf-8"))
VALIDATOR = Draft202012Validator(strict(SCHEMA_TEXT), format_checker=FormatChecker())


def checked(stdout: str, line: str) -> dict[str, Any]:
    """Return the one object that a command printed, without its envelope."""
    assert stdout.count("\n") == 1, stdout
    printed = json.loads(stdout)
    VALIDATOR.validate(printed)
    words = [word for word in shlex.split(line) if not word.startswith("-")]
    assert (printed.pop("version"), printed.pop("command")) == (VERSION, words[0])
    return printed  # type: ignore[no-any-return]


def said(each: Facade, line: str, exit_code: int = 0) -> dict[str, Any]:
    result = each.run(*shlex.split(line), FLAG)
    assert result.exit_code == exit_code, f"{line}: {result.output}"
    return checked(result.stdout, line)


def error(each: Facade, line: str, exit_code: int = 1) -> dict[str, Any]:
    """Return the error of a command that fails, which says on standard error what it always says."""
    result = each.run(*shlex.split(line), FLAG)
    assert result.exit_code == exit_code, f"{line}: {result.output}"
    found: dict[str, Any] = checked(result.stdout, line)["error"]
    assert result.stderr.endswith(f"Error: {found['message']}\n")
    assert found["exit_code"] == exit_code
    return found


@pytest.fixture(params=FRAMEWORKS)
def opened(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    for package in LISTED:
        project.package(package)
    project.revision("core", "core_1", upgrade=TABLE.format("a"), downgrade="op.drop_table('a')", message="Füße first")
    project.revision("core", "core_2", "core_1", upgrade=TABLE.format("b"), downgrade="op.drop_table('b')")
    project.revision("shop", "shop_1", None, "core_1", upgrade="print('said by a revision')")
    with facade(project, request.param, LISTED, URLS[request.param]) as each:
        yield each


def test_every_command_has_it() -> None:
    assert WITHOUT.keys() >= {
        name
        for name, command in cli.commands.items()
        if not any(FLAG in parameter.opts for parameter in command.params)
    }


def test_every_result_has_a_text() -> None:
    for room in ("fleet", "lists", "migrate", "revise", "status"):
        import_module(f"ampho.cli.show.{room}")
    keys = json.loads(SCHEMA.read_text("utf-8"))["properties"].keys() - {
        "version",
        "command",
        "databases",
        "error",
        "updated",
    }

    # The commands that write a revision print a line of their own.
    assert keys - {key_of(kind) for kind in print_text.registry} == {"revision"}


# ---- each command, and what it is about at that moment ----


def enlist(project: Project, each: Facade) -> None:
    each.app.config["AMPHO_MIGRATION_PACKAGES"] = [*LISTED, "extra"]


def lose(project: Project, each: Facade) -> None:
    """Let the files of an applied revision and of an applied package be gone."""
    (path,) = project.folder.rglob("core_2_*.py")
    path.unlink()
    each.app.config["AMPHO_MIGRATION_PACKAGES"] = ["core", "extra"]


def other_tool(project: Project, each: Facade) -> None:
    project.package("later")
    project.write("other/env.py", "")
    project.write("other/versions/one.py", "revision = 'one'\ndown_revision = None\n")


def fork(project: Project, each: Facade) -> None:
    project.revision("core", "core_1700000001", "core_1", message="one")
    project.revision("core", "core_1700000002", "core_1", message="the other")


def fork_again(project: Project, each: Facade) -> None:
    project.revision("core", "core_4", "core_1700000002", message="one more")
    project.revision("core", "core_5", "core_1700000002", message="the other one more")


def spoil(project: Project, each: Facade) -> None:
    """Let a revision stop in the middle of what cannot be rolled back."""
    code = "with op.get_context().autocommit_block():\n    op.create_table('c')\n    raise ValueError('enough')"
    project.revision("core", "core_6", "core_merged", upgrade=code, downgrade="pass")


STORY: Sequence[tuple[str | Change, str, int]] = [
    ("db-init extra", "initialized", 0),
    (enlist, "", 0),
    ("db-init", "all_initialized", 0),
    ("db-rev extra First --rev-id extra_1", "revision", 0),
    ("db-current -v", "current", 0),
    ("db-log", "log", 0),
    ("db-show", "revisions", 0),
    ("db-show core", "revisions", 0),
    ("db-show core_2", "revisions", 0),
    ("db-heads", "heads", 0),
    ("db-graph --no-database", "graph", 0),
    ("db-graph -o history.svg", "error", 2),
    ("db-check --deploy", "deployment", 10),
    ("db-status --all", "status", 0),
    ("db-status --check", "status", 10),
    ("db-up --plan shop", "plan", 0),
    ("db-lint", "lint", 1),
    (other_tool, "", 0),
    ("db-adopt other --into later --plan", "adopted", 0),
    ("db-wait --timeout 0", "error", 3),
    ("db-up -s", "error", 2),
    ("db-check", "error", 1),
    ("db-up core", "run", 0),
    ("db-up", "run", 0),
    ("db-up", "run", 0),
    ("db-wait", "deployment", 0),
    ("db-lint", "lint", 0),
    ("db-log -n 2", "log", 0),
    ("db-check core", "drifts", 1),
    ("db-check shop", "drifts", 0),
    ("db-status", "status", 0),
    ("db-down core@base --plan --cascade", "plan", 0),
    ("db-down shop@-1", "run", 0),
    ("db-down core@base --cascade", "run", 0),
    ("db-stamp heads", "stamped", 0),
    ("db-stamp heads --verify", "error", 1),
    (lose, "", 0),
    ("db-status --all --check", "status", 13),
    ("db-graph", "graph", 0),
    ("db-current -v", "current", 0),
    ("db-check --deploy", "deployment", 13),
    ("db-forget shop", "error", 2),
    ("db-forget shop --yes", "stamped", 0),
    ("db-forget core_2 --yes", "stamped", 0),
    ("db-stamp base --purge", "stamped", 0),
    (fork, "", 0),
    ("db-heads", "heads", 0),
    ("db-heads --write", "heads", 0),
    ("db-check --heads", "heads_checks", 1),
    ("db-current", "current", 0),
    ("db-up core@head", "error", 1),
    ("db-rebase core", "revision updated", 0),
    (fork_again, "", 0),
    ("db-merge core --rev-id core_merged", "revision updated", 0),
    ("db-up core_merged", "run", 0),
    ("db-squash core --yes", "squashed updated", 0),
    ("db-squash core --prune --yes", "pruned", 0),
    (spoil, "", 0),
    ("db-up", "error", 1),
    ("db-status --all", "status", 0),
    ("db-current", "current", 0),
    ("db-check --deploy", "deployment", 15),
    ("db-resolve core_6 --not-applied", "stamped", 0),
    ("db-log", "log", 0),
]


def test_every_command_is_in_the_story() -> None:
    told = {shlex.split(line)[0] for line, _, _ in STORY if isinstance(line, str)}
    assert cli.commands.keys() - WITHOUT.keys() <= told


def test_what_each_command_prints_is_described(opened: Facade, project: Project) -> None:
    project.package("extra")
    for line, payload, exit_code in STORY:
        if isinstance(line, str):
            assert list(said(opened, line, exit_code)) == payload.split(), line
        else:
            line(project, opened)


# ---- what is in it ----


def test_a_run_tells_its_plan_and_how_long_each_step_took(opened: Facade, project: Project) -> None:
    result = opened.run("db-up", FLAG)

    run = checked(result.stdout, "db-up")["run"]
    assert [step["revision"] for step in run["steps"]] == ["core_1", "core_2", "shop_1"]
    assert run["duration"] == pytest.approx(sum(step["duration"] for step in run["steps"]))
    assert run["plan"]["packages"] == LISTED
    assert run["plan"]["steps"][0]["message"] == "Füße first"
    assert run["plan"]["steps"][0]["path"] == str(next(project.folder.rglob("core_1_*.py")))
    assert "Upgrading (heads): 3 revisions" in result.stderr
    assert "said by a revision" in result.stderr


def test_where_the_database_is_tells_what_is_missing(opened: Facade, project: Project) -> None:
    said(opened, "db-up")
    lose(project, opened)
    current = said(opened, "db-current -v")["current"]

    assert [each["package"] for each in current["packages"]] == ["core"]
    assert [each["id"] for each in current["packages"][0]["applied"]] == ["core_1"]
    ahead = {"package": "core", "revisions": ["core_2"], "is_ahead": True}
    assert ahead in [{name: one[name] for name in ahead} for one in current["missing"]]
    assert {one["package"]: one["means"].partition(". ")[0] for one in current["missing"]} == {
        "core": "the file was deleted, or an older release or another branch of the code is running",
        "shop": "a package is not installed or not listed",
    }
    assert current["edited"] == []
    assert said(opened, "db-current")["current"]["edited"] is None


def test_moments_have_their_zone(opened: Facade) -> None:
    said(opened, "db-up core_1")
    (entry,) = said(opened, "db-log")["log"]

    assert entry["started"].endswith("+00:00")
    assert (entry["outcome"], entry["direction"], entry["package"]) == ("done", "upgrade", "core")


def test_a_failure_tells_which_revision_and_what_was_done_before(opened: Facade, project: Project) -> None:
    path = project.revision("core", "core_3", "core_2", upgrade="op.execute('nonsense')")

    found = error(opened, "db-up core")

    assert (found["type"], found["revision"], found["package"]) == ("RevisionFailedError", "core_3", "core")
    assert (found["path"], found["applied"]) == (str(path), ["core_1", "core_2"])


def test_a_path_is_absolute_beside_a_message_that_has_it_from_here(opened: Facade, project: Project) -> None:
    path = project.revision("core", "core_3", "core_2", upgrade="op.drop_table(")

    found = error(opened, "db-up")

    assert found["path"] == str(path)
    assert found["message"].startswith(f"The revision file {path.relative_to(project.folder)} of core ")


def test_a_command_line_that_is_wrong_is_an_error_like_others(opened: Facade) -> None:
    for line in ("db-up --nonsense", "db-rev core", "db-log -n many", "db-upp"):
        result = opened.run(*shlex.split(line), FLAG)
        found = checked(result.stdout, line)["error"]
        assert (found["type"], found["exit_code"], result.exit_code) == ("UsageError", 2, 2), line
        assert found["message"] in result.stderr


@pytest.mark.parametrize("listed", [[], ["bare"], ["gone"]])
def test_a_project_without_revisions(listed: list[str], project: Project) -> None:
    """Nothing listed, a package without its folder, and one that is not there."""
    project.package("bare")
    with facade(project, "flask", listed, URLS["flask"]) as each:
        packages = said(each, "db-current")["current"]["packages"]
        assert [found["package"] for found in packages] == [name for name in listed if name == "bare"]
        for line in ("db-show", "db-heads", "db-log"):
            assert list(said(each, line).values()) == [[]]
        assert said(each, "db-lint")["lint"]["revisions"] == []
        assert said(each, "db-status")["status"]["status"] == "up to date"
        if listed == ["bare"]:
            assert said(each, "db-up")["run"]["steps"] == []
            assert said(each, "db-check --deploy")["deployment"]["status"] == "up to date"
            assert said(each, "db-status --check")["status"]["status"] == "up to date"
        else:
            for line in ("db-up", "db-check --deploy", "db-status --check"):
                assert error(each, line)["type"] in ("ConfigurationError", "PackageNotFoundError")


def test_every_attribute_of_an_error_is_described() -> None:
    described = SCHEMA_TEXT["$defs"]["Error"]["properties"].keys()
    kinds = AmphoError.__subclasses__()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if "__init__" in vars(kind):
            assert inspect.signature(kind).parameters.keys() - {"message"} <= described, kind


# ---- real processes ----


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_the_app_and_sqlalchemy_print_is_not_on_standard_output(framework: str, project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=TABLE.format("a"))
    project.app(framework, ["core"], URLS[framework], extra_config={"SQLALCHEMY_ECHO": True}, body="print('hello')")

    done = project.run("ampho", "db-up", FLAG)

    assert checked(done.stdout, "db-up")["run"]["steps"]
    assert "hello" in done.stderr
    assert "CREATE TABLE a" in done.stderr


def test_no_app_is_an_error_like_others(project: Project) -> None:
    done = project.run("ampho", "db-current", FLAG, check=False)

    assert done.exit_code == 1
    assert checked(done.stdout, "db-current")["error"]["type"] == "AppNotFoundError"


def test_a_question_is_asked_on_standard_error(project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1")
    project.app("flask", ["core"], URLS["flask"], extra_config={"AMPHO_PROTECTED": True})
    project.run("ampho", "db-up")

    command = f"import os; os.system('{Path(sys.executable).parent}/ampho db-down --json >out.json')"
    shown = project.type("python", "-c", command, answer="app.db")

    assert "Type its name to continue" in shown.stdout
    assert checked(project.read("out.json"), "db-down")["run"]["steps"]
