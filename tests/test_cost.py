"""What a command costs, in counts that are the same on every machine: files, modules, statements and function calls."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from cProfile import Profile
from pathlib import Path

import pytest
import sqlalchemy
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from servers import listening
from sqlalchemy import make_url
from store import Store, opened_app

pytestmark = pytest.mark.usefixtures("unmeasured")

TABLE = 'op.create_table("{0}", sa.Column("id", sa.Integer, primary_key=True))'


def write(project: Project, packages: int, revisions: int) -> list[str]:
    """Write packages of which every third revision needs one of the package before."""
    names = [f"pkg{number}" for number in range(packages)]
    for number, name in enumerate(names):
        project.package(name)
        below = None
        for count in range(revisions):
            revision = f"{name}_{count}"
            needed = f"pkg{number - 1}_{count}" if number and count % 3 == 0 else None
            drop = f'op.drop_table("{revision}")'
            project.revision(name, revision, below, needed, upgrade=TABLE.format(revision), downgrade=drop)
            below = revision
    return names


# Runs a command in a process that writes down what it opened, what it imported and what it sent.
WATCHED = """
import json, sys
opened = []
def watch(name, arguments):
    if name == "open" and isinstance(arguments[0], (str, bytes)) and "versions" in str(arguments[0]):
        opened.append(str(arguments[0]))
sys.addaudithook(watch)
from ampho.cli import main
sys.argv[0] = "ampho"
try:
    main()
except SystemExit as exc:
    assert not exc.code, exc.code
finally:
    print(json.dumps({"opened": opened, "modules": sorted(sys.modules)}))
"""


def watched(project: Project, *command: str) -> tuple[list[str], set[str]]:
    """Run a command; return the revision files that it opened, and the modules that it imported."""
    path = project.write("watched.py", WATCHED)
    done = project.run("python", str(path), *command)
    told = json.loads(done.stdout.splitlines()[-1])
    return told["opened"], set(told["modules"])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_nothing_to_do_reads_each_file_once_and_imports_no_alembic(project: Project, framework: str) -> None:
    names = write(project, 3, 4)
    project.app(framework, names, URLS[framework])
    assert "rich" not in watched(project, "db-up")[1]
    for typed in ("db-up", "db-up --plan", "db-current", "db-status", "db-check --deploy", "db-wait", "db-log"):
        command = typed.split()
        opened, modules = watched(project, *command)
        assert not {"alembic", "mako", "flask_migrate"} & modules, command
        assert "ampho.revise.autogenerate" not in modules, command
        assert ("ampho.migrate.explain" in modules) is ("--plan" in command), command
        assert "rich" not in modules, command
        sources = [path for path in opened if path.endswith(".py")]
        assert len(sources) == len(set(sources)) == 12, command


def test_the_help_imports_neither_a_framework_nor_sqlalchemy(project: Project) -> None:
    for command in ("--help", "db-up --help"):
        assert not {"alembic", "flask", "quart", "sqlalchemy"} & watched(project, *command.split())[1], command


def test_a_run_executes_the_modules_of_its_plan_and_no_others(project: Project) -> None:
    names = write(project, 3, 4)
    for path in project.folder.glob("pkg*/migrations/versions/*.py"):
        path.write_text(f"{path.read_text('utf-8')}\nprint('executed', revision)\n", "utf-8")
    project.app("flask", names, URLS["flask"])

    assert project.run("ampho", "db-up", "pkg0_1").stdout.count("executed") == 2
    assert project.run("ampho", "db-up", "pkg1_0").stdout.count("executed") == 1
    assert project.run("ampho", "db-up").stdout.count("executed") == 9
    assert project.run("ampho", "db-up").stdout.count("executed") == 0
    for command in ("db-current -v", "db-check --deploy"):
        assert "executed" not in project.run("ampho", *command.split()).stdout


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_app_that_serves_imports_what_it_needs(project: Project, framework: str) -> None:
    project.app(framework, ["pkg0"], URLS[framework])
    code = (
        "import sys, app\n"
        "mine = {name for name in sys.modules if name.partition('.')[0] in ('ampho', 'alembic', 'mako', 'rich')}\n"
        "rooms = {name for name in mine if name.startswith(('ampho.migrate.', 'ampho.revise.', 'ampho.status.'))}\n"
        "print(*sorted(mine & {'alembic', 'mako', 'ampho.cli', 'ampho.signals', 'rich'} | rooms))\n"
    )
    assert project.run("python", "-c", code).stdout.strip() == ""


@contextmanager
def counting(calls: bool = False) -> Iterator[dict[str, int]]:
    """Count statements, and calls of Python's functions if that is asked for."""
    counts = {"statements": 0, "calls": 0}
    profile = Profile(builtins=False)

    def count(*args: object) -> None:
        counts["statements"] += 1

    with listening("before_cursor_execute", count):
        gc.collect()
        gc.disable()  # or what it calls would count, and it comes when it likes
        if calls:
            profile.enable()
        try:
            yield counts
        finally:
            profile.disable()
            gc.enable()
    counts["calls"] = sum(entry.callcount for entry in profile.getstats())


def costs(folder: Path, packages: int, revisions: int) -> dict[str, dict[str, int]]:
    """What a few commands cost on a project of some size, in Flask, with all modules imported."""
    folder.mkdir()
    project = Project(folder)
    names = write(project, packages, revisions)
    with facade(project, "flask", names, URLS["flask"]) as each:
        return {name: cost(each, *call) for name, call in COMMANDS.items()}


COMMANDS = {
    "up": ("upgrade",),
    "nothing": ("upgrade",),
    "plan": ("plan",),
    "status": ("status",),
    "current": ("current",),
    "back": ("downgrade", "-1"),
    "one": ("upgrade",),
    "down": ("downgrade", "base"),
}
CALLS = {"up": 900, "nothing": 75, "plan": 75, "status": 130, "current": 100, "back": 120, "one": 92, "down": 740}
"""The calls of Python functions for each revision that there is, at most: a quarter more than when this was written."""
MORE = (
    1.1 if sys.version_info >= (3, 12) or sqlalchemy.__version__ < "2.1" else 1
)  # their calls differ by a few for each step


def cost(each: Facade, method: str, *args: str) -> dict[str, int]:
    with counting(calls=True) as counts:
        each.call(method, *args)
    return counts


def test_the_cost_of_a_revision_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    costs(tmp_path / "first", 2, 3)  # which imports what is imported once
    small, middle, large = (costs(tmp_path / f"of{packages}", packages, 6) for packages in (4, 8, 16))
    for name in COMMANDS:
        more = middle[name]["statements"] - small[name]["statements"]
        assert large[name]["statements"] - middle[name]["statements"] == 2 * more, name
        assert more == {"up": 24 * 4, "down": 24 * 4}.get(name, 0), name  # BEGIN, the DDL, the version row, the journal

        calls = [each[name]["calls"] for each in (small, middle, large)]
        assert calls[2] - calls[1] < 2.1 * (calls[1] - calls[0]), (name, calls)
        assert calls[2] - calls[1] < CALLS[name] * MORE * 48, (name, calls)


PRINTED = {"db-up --plan": 200, "db-status --all": 160, "db-show": 120, "db-log": 125, "db-graph --full": 215}
"""The calls for each revision that a command prints to a pipe, what it reads included, at most, in the same way."""


@pytest.mark.parametrize("typed", PRINTED)
def test_what_is_printed_for_each_revision_costs_little(typed: str, tmp_path: Path) -> None:
    calls = []
    for packages in (2, 4, 8):  # the first of which imports what is imported once
        folder = tmp_path / f"of{packages}"
        folder.mkdir()
        project = Project(folder)
        names = write(project, packages, 6)
        with facade(project, "flask", names, URLS["flask"]) as each:
            if typed == "db-log":
                each.call("upgrade")
            with counting(calls=True) as counts:
                result = each.run(*typed.split())
            assert result.exit_code == 0, result.output
            assert len(result.stdout.splitlines()) >= 6 * packages
            calls.append(counts["calls"])
    assert calls[2] - calls[1] < PRINTED[typed] * MORE * 24, (typed, calls)


MODEL = """
class {0}(db.Model):
    __tablename__ = "{0}"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(50), nullable=False, index=True)
    below = sa.Column(sa.ForeignKey("{1}.id"))
"""
CORE = """
{0} = sa.Table(
    "{0}", db.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("below", sa.ForeignKey("{1}.id"))
)
"""


def cost_of_check(folder: Path, tables: int) -> dict[str, int]:
    """Return what ``db-check`` costs with a number of tables, half of which have no model."""
    folder.mkdir()
    project = Project(folder)
    store = Store(project, "flask", ("core",), make_url(f"sqlite:///{folder}/site.db"))
    store.write_app()
    sources = [(CORE if number % 2 else MODEL).format(f"t{number}", f"t{number // 2}") for number in range(tables)]
    store.models("core", "".join(sources))
    store.auto("core")
    store.run("db-up")
    with opened_app(store) as app, counting(calls=True) as counts:
        result = app.test_cli_runner().invoke(args=["ampho", "db-check"])
    assert result.exit_code == 0, result.output
    return counts


def test_the_cost_of_a_comparison_grows_with_the_tables(tmp_path: Path) -> None:
    cost_of_check(tmp_path / "first", 2)  # which imports what is imported once
    small, middle, large = (cost_of_check(tmp_path / f"of{tables}", tables) for tables in (30, 60, 120))
    for counted in ("statements", "calls"):
        more = middle[counted] - small[counted]
        assert large[counted] - middle[counted] < 2.1 * more, (counted, small, middle, large)
