"""Every error, as somebody at the command line meets it; and where its entry in the index is."""

from __future__ import annotations

import ast
import inspect
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from documents import ROOT
from facade import Facade, facade, one_error_line
from project import Project
from servers import Database
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from ampho import errors
from ampho.cli.commands import cli
from ampho.cli.console import console
from ampho.cli.group import INPUT_ERRORS, Failure

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

URL = "sqlite:///app.db"
KINDS = {
    name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and kind.__module__ == "ampho.errors"
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
NOT_WHOLE = re.compile(r"'db-[a-z]|(?<!')\bampho db-[a-z]")
BASES = {"AmphoError", "PackageError", "HistoryError"}
"""What is caught, and never raised itself."""

ELSEWHERE = {
    *("DatabasesError", "LinterError", "NestedRunError", "OperationError", "PlanChangedError", "PoolerError"),
    "VerificationError",
}
"""What takes a server, comes inside another error, or has several lines: each has a test of its own."""


class NoLock(SQLiteDialect_pysqlite):
    """SQLite by another name, as a third party's database whose lock Ampho does not know."""

    name = "nolock"
    supports_statement_cache = True


registry.register("nolock", __name__, "NoLock")


@dataclass(frozen=True)
class Case:
    """A way to an error: what is on the disk and in the database before, and the command.

    :ivar config: settings of the app.
    :ivar before: commands that run before.
    :ivar meddle: is done after those.
    :ivar during: what goes on meanwhile.
    """

    command: tuple[str, ...]
    write: Callable[[Project], object] = lambda project: None
    config: dict[str, Any] = field(default_factory=dict)
    before: tuple[tuple[str, ...], ...] = ()
    meddle: Callable[[Project], object] = lambda project: None
    during: Callable[[Project], AbstractContextManager[object]] = nullcontext
    url: str = URL


def core(project: Project, number: int, down: int | None = None, **more: Any) -> Path:
    return project.revision("core", f"core_{number}", f"core_{down}" if down else None, **more)


def line(project: Project) -> None:
    """Write two revisions of core, and one of blog that needs the first."""
    core(project, 1)
    core(project, 2, 1)
    project.package("blog")
    project.revision("blog", "blog_1", depends_on="core_1")


def put_one_below(project: Project) -> None:
    """Put a new revision between two that are applied, and one on top that needs it."""
    core(project, 3, 1)
    core(project, 2, 3)
    core(project, 4, 2)


def database(statement: str) -> Callable[[Project], None]:
    def execute(project: Project) -> None:
        with closing(sqlite3.connect(project.folder / "instance/app.db")) as connection, connection:
            connection.execute(statement)

    return execute


def circle(project: Project) -> None:
    project.package("blog")
    core(project, 1, depends_on="blog_1")
    project.revision("blog", "blog_1", depends_on="core_1")


@contextmanager
def another_process(project: Project) -> Iterator[None]:
    """Hold SQLite's lock, as a program does that writes."""
    (project.folder / "instance").mkdir()
    with closing(sqlite3.connect(project.folder / "instance/app.db")) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


NESTED = "from flask import current_app\ncurrent_app.extensions['ampho'].upgrade()"
HALF = "with op.get_context().autocommit_block():\n    op.execute('CREATE TABLE t (x INT)')\n    op.execute('no SQL')"
UP = ("db-up",)
BOTH = {"AMPHO_MIGRATION_PACKAGES": ["core", "blog"]}
CASES = {
    "ConfigurationError": Case(UP, config={"AMPHO_LOCK": "perhaps"}),
    "AppNotFoundError": Case(("--app", "nothing_here", "db-up")),
    "DriverError": Case(UP, config={"AMPHO_DATABASE_URI": "sqlite+aiosqlite:///app.db"}),
    "EnvironmentFileError": Case(
        UP, lambda project: (core(project, 1), project.write("core/migrations/env.py", "import ampho.environment\n"))
    ),
    "PackageNameError": Case(("db-init", "heads")),
    "PackageNotFoundError": Case(("db-init", "nothing_here")),
    "MigrationsFolderError": Case(("db-init", "core"), lambda project: core(project, 1)),
    "RevisionFileError": Case(
        UP, lambda project: project.write("core/migrations/versions/core_1.py", "revision = 'core_1'\n)")
    ),
    "DuplicateRevisionError": Case(UP, lambda project: (core(project, 1), core(project, 1, message="a copy"))),
    "MissingRevisionError": Case(UP, lambda project: core(project, 2, 1)),
    "CycleError": Case(UP, circle, BOTH),
    "RevisionInputError": Case(("db-rev", "core", "Message", "--rev-id", "core-1"), lambda project: core(project, 1)),
    "SpecifierError": Case(("db-up", "cor@"), lambda project: core(project, 1)),
    "NotUpToDateError": Case(("db-check", "core"), lambda project: core(project, 1)),
    "DependentsError": Case(("db-down", "core@base"), line, BOTH, (UP,)),
    "PhaseError": Case(
        ("db-up", "--phase", "pre"),
        lambda project: core(project, 1),
        before=(UP,),
        meddle=lambda project: (
            core(project, 2, 1, upgrade="op.drop_table('t')"),
            core(project, 3, 2, upgrade="op.create_table('t')"),
        ),
    ),
    "UnknownRevisionsError": Case(
        ("db-down", "core@base"),
        line,
        before=(("db-up", "core"),),
        meddle=lambda project: next(project.migrations("core").glob("*/core_2*")).unlink(),
    ),
    "DivergedError": Case(UP, line, before=(("db-up", "core"),), meddle=put_one_below),
    "VersionTableError": Case(
        UP, line, before=(("db-up", "core_1"),), meddle=database("UPDATE alembic_version SET version_num = 'head'")
    ),
    "JournalError": Case(
        ("db-log",), line, before=(UP,), meddle=database("UPDATE ampho_journal SET parents = 'core_1' WHERE id = 2")
    ),
    "RenderError": Case(
        ("db-up", "-s"), lambda project: core(project, 1, upgrade="op.get_bind().scalar(sa.text('1'))")
    ),
    "LockError": Case(UP, lambda project: core(project, 1), url="nolock:///app.db"),
    "LockTimeoutError": Case(UP, lambda project: core(project, 1), {"AMPHO_LOCK_TIMEOUT": 0}, during=another_process),
    "ProtectedError": Case(("db-down",), lambda project: core(project, 1), {"AMPHO_PROTECTED": True}, (UP,)),
    "WaitTimeoutError": Case(("db-wait", "--timeout", "0"), lambda project: core(project, 1)),
    "UnfinishedRevisionError": Case(UP, lambda project: core(project, 1, upgrade=HALF), before=(UP,)),
    "DatabaseNameError": Case(("db-up", "--database", "reports"), lambda project: core(project, 1)),
    "DatabaseError": Case(UP, lambda project: core(project, 1), url="sqlite:////nowhere/at/all/app.db"),
    "RevisionFailedError": Case(UP, lambda project: core(project, 1, upgrade="op.execute('no SQL')")),
}


def run(each: Facade, command: tuple[str, ...]) -> Failure:
    """Run a command that must fail, and return what Click is about to show of it."""
    program: Any = console if command[0] == "--app" else cli
    result = each.app.test_cli_runner().invoke(program, command, standalone_mode=False)
    assert isinstance(result.exception, Failure), result.output
    return result.exception


@pytest.mark.parametrize("name", CASES)
def test_the_command_line_meets_it(name: str, project: Project) -> None:
    case = CASES[name]
    project.package("core", init="")
    case.write(project)
    with facade(project, "flask", None, case.url, **{"AMPHO_MIGRATION_PACKAGES": ["core"], **case.config}) as each:
        for command in case.before:
            each.run(*command)
        case.meddle(project)
        with case.during(project):
            shown = run(each, case.command)

    check(shown, KINDS[name])


def check(shown: Failure, kind: type[errors.AmphoError]) -> None:
    assert type(shown.__cause__) is kind, shown
    assert shown.exit_code == kind.exit_code
    assert shown.format_message().isprintable()
    assert shown.entry == ("" if issubclass(kind, INPUT_ERRORS) else kind.__name__)
    assert shown.__cause__.page == f"errors.md#{kind.__name__.lower()}"


def test_the_command_line_meets_a_nested_run_as_the_failure_of_its_revision(project: Project) -> None:
    project.package("core")
    core(project, 1, upgrade=NESTED)
    with facade(project, "flask", ["core"], URL) as each:
        shown = run(each, UP)

    check(shown, errors.RevisionFailedError)
    assert "A migration was started inside" in shown.message


@pytest.mark.drivers("postgresql+psycopg")
def test_the_command_line_meets_a_linter_that_does_not_work(project: Project, database: Database) -> None:
    project.package("core")
    core(project, 1)
    project.write(".squawk.toml", "excluded_rules = 1\n")
    with facade(project, "flask", ["core"], database.url) as each:
        check(run(each, ("db-lint",)), errors.LinterError)


def test_a_terminal_is_told_where_there_is_more_and_a_pipe_is_not(project: Project) -> None:
    project.package("core")
    core(project, 1, upgrade="raise ValueError('no')")
    project.app("flask", ["core"], URL)

    shown = " ".join(project.type("ampho", "db-up", answer="").stdout.split())

    assert shown.endswith(". More: ampho explain RevisionFailedError")
    assert one_error_line(project.run("ampho", "db-up", check=False).stderr).startswith(
        "Revision core_1 of core failed"
    )
    for typed in ("db-up nowhere", "db-init heads", "db-rev core 'again' --head nowhere", "db-up --nothing"):
        assert "More:" not in project.type("ampho", *typed.split(), answer="").stdout, typed


@pytest.mark.parametrize("kind", [kind for name, kind in KINDS.items() if name != "AmphoError"])
def test_every_error_is_explained_as_its_page_does(kind: type[errors.AmphoError]) -> None:
    said = CliRunner().invoke(cli, ["explain", kind.__name__.upper()])
    assert said.exit_code == 0
    name, _, *paragraphs = said.stdout.splitlines()
    assert name == kind.__name__
    page = (ROOT / "docs/errors.md").read_text("utf-8")
    entry = page.partition(f"\n### {name}\n")[2].partition("\n#")[0]
    bare = " ".join(re.sub(r"\]\([^)]*\)|[*[`]", "", entry).split())
    shown = re.sub(r" \(\w+\.md\)|\[", "", " ".join(" ".join(paragraphs).split()))
    assert shown.replace("'", "") == bare.replace("'", "")  # around commands
    assert not re.search(r"\]\(|\*|###|`", said.stdout)
    assert not re.search(r"\bnext (two|three|four)\b", said.stdout)


def test_explain_lists_all_errors_and_asks_about_a_name_that_is_none() -> None:
    runner = CliRunner()
    listed = {line.split()[0]: line for line in runner.invoke(cli, ["explain"]).stdout.splitlines()}
    assert set(listed) == set(KINDS) - {"AmphoError"}
    assert listed["CycleError"].endswith("  Revisions depend on each other in a cycle.")
    for typed, meant in {
        "Dependents": "Did you mean DependentsError?",
        "locktimeout": "Did you mean LockTimeoutError?",
        "x": "'ampho explain' lists all errors.",
    }.items():
        result = runner.invoke(cli, ["explain", typed])
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.endswith(f"Error: No such error '{typed}'. {meant}\n")


def test_explain_fits_a_terminal_and_needs_no_app(project: Project) -> None:
    shown = project.type("ampho", "explain", "DependentsError", answer="", env={"COLUMNS": "60"}).stdout
    lines = shown.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert "DependentsError" in lines
    assert max(map(len, lines)) <= 60


def test_a_minus_that_is_no_specifier_stays_one(project: Project) -> None:
    project.package("core")
    core(project, 1)
    with facade(project, "flask", ["core"], URL) as each:
        each.run("db-rev", "core", "Release 2024-1")
        assert "--rev-id 'core-2'" in str(run(each, ("db-rev", "core", "More", "--rev-id", "core-2")))

    (written,) = project.migrations("core").glob("versions/*_release_2024_1.py")
    assert "Release 2024-1" in written.read_text("utf-8")


def test_a_command_in_a_message_is_quoted_and_whole() -> None:
    """``'ampho db-up blog'`` is what may be typed, wherever Ampho is mounted; ``db-up`` alone names the command."""
    found = []
    for path in (ROOT / "ampho").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        docs = [node.body[0] for node in ast.walk(tree) if isinstance(node, DOCUMENTED) and node.body]
        words = {id(node.value) for node in docs if isinstance(node, ast.Expr)}
        texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in words)
        found += [text.value for text in texts if isinstance(text.value, str) and NOT_WHOLE.search(text.value)]
    of_the_page = {"ampho db-up", "ampho db-status", " ampho db-down ", "ampho db-up --database "}
    of_the_page |= {"Check only whether 'db-up --phase pre' can run on this database."}
    stand_alone = {"Next: ampho db-rev ", 'Next: ampho db-rev -a "Initial"', *of_the_page}
    assert set(found) == stand_alone


def test_no_error_is_left_out() -> None:
    assert {*CASES, *ELSEWHERE, *BASES} == set(KINDS)
    source = "".join(path.read_text("utf-8") for path in (ROOT / "ampho").rglob("*.py"))
    assert not re.search(rf"raise ({'|'.join(BASES)})\(", source)
