"""Help: each command has a purpose and examples, which run; and what is said to somebody whose app is not found."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import pytest
from click.testing import CliRunner
from facade import URLS, Facade, facade
from project import Project

from ampho import AmphoError
from ampho.cli.commands import cli
from ampho.cli.console import console
from ampho.cli.help import EXAMPLES, PURPOSES, examples_of

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

Prepare: TypeAlias = Callable[[Project, Facade], None]


def help_of(*command: str) -> str:
    result = CliRunner().invoke(console, [*command, "--help"], prog_name="ampho", terminal_width=80)
    assert result.exit_code == 0
    return result.output


def test_every_command_has_an_example_and_a_purpose() -> None:
    assert {shlex.split(line)[0] for line in EXAMPLES} == cli.commands.keys()
    assert {name for names in PURPOSES.values() for name in names} >= cli.commands.keys()
    assert examples_of("ampho")


def test_help_of_the_group_says_what_each_command_is_for() -> None:
    text = help_of()
    described = {line.split()[0]: line for line in text.splitlines() if line.startswith(("  db-", "  explain "))}

    assert described.keys() == cli.commands.keys()
    assert not any(line.endswith("...") for line in described.values())
    assert len({line.index(line.split(maxsplit=1)[1]) for line in described.values()}) == 1
    assert text.index("Write migrations:") < text.index("  db-init") < text.index("Change the database:")


@pytest.mark.parametrize("name", ["ampho", *sorted(cli.commands)])
def test_help_fits_a_terminal(name: str) -> None:
    text = help_of(*([] if name == "ampho" else [name]))

    assert max(map(len, text.splitlines())) <= 80
    for line, does in examples_of(name).items():
        assert f"  ampho {line}" in text
        assert f"  {does}\n" in text


@pytest.mark.parametrize(
    ("program", "way"),
    [
        ("ampho", "ampho {} IMPORT db-up"),
        ("flask ampho", "flask {} IMPORT ampho db-up"),
        ("quart ampho", "quart {} IMPORT ampho db-up"),
    ],
)
def test_an_option_that_stands_after_the_command_is_told_where_it_belongs(
    program: str, way: str, project: Project
) -> None:
    framework = program.split(maxsplit=1)[0].replace("ampho", "flask")
    project.package("blog")
    project.migrations("blog").mkdir()
    project.app(framework, ["blog"], URLS[framework])
    for option in ("--app", *(["-A"] if framework == "flask" else [])):
        done = project.run(*program.split(), "db-up", option, "app", check=False)
        said = f"Error: {option} goes before the command, as in '{way.format(option)}'.\n"
        assert (done.exit_code, done.stderr.endswith(said)) == (2, True), done
    assert "Error: No such option" in project.run(*program.split(), "db-up", "--version", check=False).stderr
    assert project.run(*program.split(), "db-up", "--no-color").stdout == "Nothing to do: there are no revisions yet.\n"


def test_examples_are_typed_as_the_command_is() -> None:
    result = CliRunner().invoke(cli, ["db-up", "--help"], prog_name="flask ampho")

    assert "  flask ampho db-up blog@+1  " in result.output


def nothing(project: Project, each: Facade) -> None:
    """The project as it is: nothing is applied."""


def apply_all(project: Project, each: Facade) -> None:
    each.call("upgrade")


def take_back(project: Project, each: Facade) -> None:
    each.call("stamp", "base")


def unwritten(project: Project, each: Facade) -> None:
    """Let there be packages without migrations."""
    project.package("acme.billing")
    if not (project.migrations("blog") / "env.py").exists():
        for path in sorted(project.migrations("blog").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        project.migrations("blog").rmdir()
        each.app.config["AMPHO_MIGRATION_PACKAGES"] = ["blog"]


def fork(project: Project, each: Facade) -> None:
    number = len(list(project.folder.rglob("blog_*.py")))
    head = each.call("show", "blog@head")[0].id
    for branch in ("0", "1"):
        project.revision("blog", f"blog_18{number:07}{branch}", head)


def alone(project: Project, each: Facade) -> None:
    """Let no other package depend on the middle of the line."""
    for path in project.migrations("shop").rglob("shop_*.py"):
        path.unlink()


def uninstalled(project: Project, each: Facade) -> None:
    project.package("reviews")
    project.revision("reviews", "reviews_1")
    each.app.config["AMPHO_MIGRATION_PACKAGES"] = ["blog", "reviews"]
    each.call("upgrade", "reviews")
    each.app.config["AMPHO_MIGRATION_PACKAGES"] = ["blog"]


def half_done(project: Project, each: Facade) -> None:
    code = "with op.get_context().autocommit_block():\n    op.execute('SELECT 1')\n    op.execute('nonsense')"
    project.revision("blog", "blog_1767607200", upgrade=code, message="first")
    each.call("stamp", "base")
    with suppress(AmphoError):
        each.call("upgrade")


def other_tool(project: Project, each: Facade) -> None:
    """Let there be a folder of Flask-Migrate, and a package without migrations."""
    for path in sorted(project.migrations("blog").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    shutil.rmtree(project.migrations("shop"), ignore_errors=True)
    project.write("migrations/env.py", "")
    project.write(
        "migrations/versions/one.py", "revision = 'one'\ndown_revision = None\n\n\ndef upgrade():\n    pass\n"
    )


def branch(project: Project, facade: Facade) -> None:
    git = ["git", "-C", str(project.folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "a"], ["branch", "-f", "origin/main"]):
        subprocess.run([*git, *command], check=True)


PREPARE: Mapping[str, Prepare] = {
    **dict.fromkeys(("ampho", "db-init"), unwritten),
    **dict.fromkeys(("db-rev", "db-down", "db-check", "db-wait", "db-status"), apply_all),
    **dict.fromkeys(("db-merge", "db-rebase"), fork),
    "db-lint": branch,
    "db-squash": alone,
    "db-up": take_back,
    "db-adopt": other_tool,
    "db-forget": uninstalled,
    "db-resolve": half_done,
}


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("name", ["ampho", *sorted(cli.commands)])
def test_examples_run(name: str, project: Project) -> None:
    project.package("blog")
    project.package("shop")
    project.revision("blog", "blog_1767607200", message="first")
    project.revision("blog", "blog_1767607201", "blog_1767607200", message="second")
    project.revision("shop", "shop_1767607200", None, "blog_1767607200")
    with facade(project, "flask", ["blog", "shop"], URLS["flask"]) as each:
        for line in examples_of(name):
            PREPARE.get(name, nothing)(project, each)
            result = each.run(*shlex.split(line.partition(" >")[0]))
            assert result.exit_code == 0, f"{line}: {result.output}"


def test_a_folder_without_an_app_is_told_what_was_tried_and_how_to_name_one(project: Project) -> None:
    done = project.run("ampho", "db-rev", "blog", "Add posts", check=False)

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "Error: No app found. Ampho tried the following, in this order:",
        "  --app was not given",
        "  AMPHO_APP, FLASK_APP and QUART_APP are not set, nor in .env, .flaskenv or .quartenv",
        f"  wsgi.py, app.py and asgi.py are not in {Path(project.folder).resolve()}",
        "Name the app; NAME is module, module:name, path/to/file.py, or module:create_app():",
        "  ampho --app NAME db-rev blog 'Add posts'",
        "  AMPHO_APP=NAME ampho db-rev blog 'Add posts'  or set the variable in a .flaskenv file",
    ]


def test_a_module_that_is_misspelt_is_asked_about(project: Project) -> None:
    project.package("shop")
    project.app("flask", ["shop"], URLS["flask"], path="web.py")

    for name, meant in {"shpo": "shop", "wbe:app": "web:app", "wen.py": "web.py"}.items():
        assert f"Did you mean {meant}?" in project.run("ampho", "--app", name, "db-up", check=False).stderr


def test_python_runs_the_package_as_the_console_script(project: Project) -> None:
    done = project.run("python", "-m", "ampho", "--version")
    assert done.stdout == project.run("ampho", "--version").stdout


def test_every_command_is_there_without_its_prefix(project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1")
    project.revision("core", "core_2", "core_1")
    with facade(project, "flask", ["core"], URLS["flask"]) as each:
        assert "\nApplied 2 revisions in " in each.run("up").stdout
        assert json.loads(each.run("down", "-1", "--json").stdout)["command"] == "db-down"
        assert each.run("status").stdout == each.run("db-status").stdout
        for name in cli.commands:
            short = each.run(name.removeprefix("db-"), "--help")
            assert (short.exit_code, short.stdout) == (0, each.run(name, "--help").stdout)
        for typed, meant in {
            "upp": "db-up",
            "explian": "explain",
            "migrate": "db-rev",
            "db-stauts": "db-status",
        }.items():
            said = each.run(typed)
            assert (said.exit_code, said.stderr.splitlines()[-1]) == (
                2,
                f"Error: No such command '{typed}'. Did you mean {meant}?",
            )
