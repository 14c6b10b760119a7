"""What reaches whoever reads the output: hostile texts, warnings, and what streams and encodings make of it."""

from __future__ import annotations

import ast
import io
import logging
import os
import re
import shlex
import sqlite3
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alembic.autogenerate
import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import PROGRAMS, Project
from screen import Screen
from servers import Database
from sqlalchemy import text
from sqlalchemy.exc import SAWarning
from transcripts import show

from ampho._text import describe_warning, escaped
from ampho.cli.commands import cli
from ampho.errors import RevisionFailedError
from ampho.settings import ENV_PACKAGE

EVIL = (
    "\x1b]0;owned\x07 \x1b[8mhidden \x1b[7;7Hmoved \x9b2J \u202egpj.exe \u2066 \u200b \x08 \x85Error: forged"
    " \rError: forged [red]red[/red] [link=http:x]link[/link]"
)
"""Sets a title, hides, moves the cursor, reorders, begins a line; and what Rich could take for markup."""
ACTED_UPON = re.compile("\x1b\\]|\x07|\x1b\\[8m|\x1b\\[7;7H|[\x9b\u202e\u2066\u200b\x08\x85]|[\n\r]Error: forged")
LINE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\xa0\u200b\u202e\u2066\u2028]|\nError: forged")

MISSPELT = f"{ENV_PACKAGE.name}S"  # put together, since a test looks for names that are spelled like this

SCENES: Mapping[str, Sequence[str]] = {
    "db-init": ("db-init bare", "db-init {evil}"),
    "db-show": ("db-show", "db-show blog_2", "db-show {evil}"),
    "db-heads": ("db-heads",),
    "db-status": ("db-status", "db-status --all", "db-status --json"),
    "db-current": ("db-current -v",),
    "db-log": ("db-log -v",),
    "db-graph": ("db-graph", "db-graph --full", "db-graph --format svg", "db-graph --format dot", "db-graph --mermaid"),
    "db-lint": (
        "db-lint",
        "db-lint blog_2",
        *(f"db-lint blog_2 --format {each}" for each in ("github", "gitlab", "sarif")),
    ),
    "db-wait": ("db-wait --timeout 0",),
    "db-check": ("db-check", "db-check --deploy", "db-check --heads", "db-check --scratch"),
    "db-rev": ("db-rev blog More", "db-rev blog More -a --head blog_2"),
    "db-up": ("db-up --plan", "db-up --plan --json", "db-up blog_2", "db-up"),
    "db-down": ("db-down --plan blog@-1", "db-down {evil}", "db-down -y blog@-1"),
    "db-rebase": ("db-rebase blog",),
    "db-adopt": ("db-adopt {evil} --into blog", "db-adopt blog/migrations/versions --into {evil}"),
    "db-squash": ("db-squash blog --plan", "db-squash {evil}", "db-squash blog --keep {evil}"),
    "db-merge": ("db-merge blog",),
    "db-stamp": ("db-stamp blog_2", "db-stamp {evil}", "db-stamp blog_2 --verify"),
    "db-resolve": ("db-resolve blog_2 --applied",),
    "db-forget": ("db-forget {evil}", "db-forget gone_1 --yes"),
    "explain": ("explain {evil}", "explain"),
    "nonsense": ("{evil}", "db-up --{evil}", "db-wait --timeout {evil}"),
}
"""What is run of each command, one after the other."""
COMMANDS = [
    [part.format(evil=EVIL) for part in command.split()] for commands in SCENES.values() for command in commands
]

APP = f"""
import warnings
from sqlalchemy import Column, Integer
app.config[{MISSPELT + EVIL!r}] = 1
warnings.warn({EVIL!r}, stacklevel=1)
"""


def spoil(project: Project) -> None:
    """Write hostile text to each place Ampho reads from: files, their names, the configuration and the database."""
    project.package("bare")
    project.package("gone")
    project.package("blog")
    project.app("flask", ["blog"], "sqlite:///app.db", body=APP)
    project.revision("blog", "blog_1", message=f"One {EVIL}")
    project.revision("gone", "gone_1")
    with facade(project, "flask", ["blog", "gone"], "sqlite:///app.db") as each:
        each.call("upgrade")
        tamper = "UPDATE ampho_journal SET db_user = :evil, host = :evil, versions = :evil, error = :evil"
        with each.app.app_context(), each.ampho.db.engine.begin() as connection:
            connection.execute(text(tamper), {"evil": EVIL})
            connection.execute(
                text("UPDATE ampho_journal SET package = :evil WHERE revision = 'gone_1'"), {"evil": EVIL}
            )
    for name, code in {
        "blog_2": f"op.execute({'SELECT 1 -- ' + EVIL!r})",
        "blog_3": f"raise ValueError({EVIL!r})",
    }.items():
        path = project.revision("blog", name, "blog_1", labels=[f"{name}{EVIL}"], upgrade=code, message=f"Two {EVIL}")
        path.rename(path.with_name(f"{name}_{EVIL.replace('/', '')}.py"))


def test_there_is_a_scene_of_each_command() -> None:
    assert SCENES.keys() - {"nonsense"} == {name for name, command in cli.commands.items() if not command.hidden}


def test_no_command_writes_what_a_terminal_acts_upon(project: Project) -> None:
    spoil(project)
    for command in COMMANDS:
        shown = show(project, shlex.join(command), {}, 80, "n")
        assert ACTED_UPON.search(shown.written) is None, (command, shown.written)
        assert "Traceback" not in shown.written, (command, shown.written)


def test_no_command_writes_such_things_into_a_pipe(project: Project) -> None:
    spoil(project)
    with facade(project, "flask", ["blog"], "sqlite:///app.db", **{f"{MISSPELT}{EVIL}": 1}) as each:
        for command in COMMANDS:
            result = each.run(*command)
            assert LINE.search(result.stdout) is None, (command, result.stdout)
            assert LINE.search(result.stderr) is None, (command, result.stderr)
            assert result.exception is None or isinstance(result.exception, SystemExit), command
            warned = [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]
            assert len(warned) == len(set(warned)), command


def test_records_of_the_log_are_whole_lines(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    spoil(project)
    caplog.set_level(logging.DEBUG, "ampho")
    with facade(project, "flask", ["blog"], "sqlite:///app.db") as each, pytest.raises(RevisionFailedError):
        each.call("upgrade")

    messages = [record.getMessage() for record in caplog.records if record.name == "ampho"]
    assert [message for message in messages if LINE.search(message)] == []
    assert any(message.startswith("Upgrade of blog_3 of blog failed: ") for message in messages)
    assert any(escaped("blog_3_\x1b]0;owned\x07") in message for message in messages)


def test_the_live_display_shows_them_as_they_are_written(project: Project) -> None:
    project.package("blog")
    project.app("flask", ["blog"], "sqlite:///app.db")
    project.revision("blog", "blog_1", upgrade="import time; time.sleep(0.6)", message=EVIL)

    screen = Screen(project, "ampho", "db-up", columns=300)
    screen.wait(lambda shown: "blog_1 of blog  \\x1b]0;owned\\x07 \\x1b[8mhidden" in shown)
    assert screen.end() == 0

    assert r"\x08 Error: forged Error: forged [red]red[/red] [link=http:x]link[/link] ... " in " ".join(
        screen.shown.split()
    )
    assert ACTED_UPON.search(screen.raw.decode()) is None


def test_completion_offers_them_escaped(project: Project) -> None:
    project.package("blog")
    project.app("flask", ["blog"], "sqlite:///app.db")
    project.revision("blog", "blog_1", message=EVIL)

    env = {"_AMPHO_COMPLETE": "zsh_complete", "COMP_WORDS": "ampho db-show blog_", "COMP_CWORD": "2"}
    shown = project.run("ampho", env=env).stdout

    assert LINE.search(shown) is None
    assert shown.startswith("plain\nblog_1\n\\x1b]0;owned\\x07")


def test_sql_is_written_as_it_is_but_not_to_a_terminal(project: Project) -> None:
    project.package("blog")
    project.app("flask", ["blog"], "sqlite:///app.db")
    project.revision("blog", "blog_1", upgrade="op.execute(\"INSERT INTO t VALUES ('\\x1b[8m\\u202e\\u00a0')\")")

    assert "INSERT INTO t VALUES ('\x1b[8m\u202e\u00a0');" in show(project, "db-up -s", {}).written
    assert r"INSERT INTO t VALUES ('\x1b[8m\u202e ');" in show(project, "db-up -s", {}, 80).written


# ---- streams and encodings ----

CHANGES = (["db-rev", "blog", "Größe — 日本"], ["db-up"], ["db-down", "-y"])
READS = (["db-show"], ["db-up", "--plan"], ["db-up", "-s"], ["db-status", "--all"], ["db-current", "-v"], ["db-graph"])


PRINTING = "if not op.get_context().as_sql: print('Größe — 日本', flush=True)"


@pytest.fixture(params=FRAMEWORKS)
def blog(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    """An app with two revisions: one that is applied, and one that prints."""
    project.package("blog")
    project.revision("blog", "blog_1", message="Größe — 日本")
    with facade(project, request.param, ["blog"], URLS[request.param]) as each:
        each.call("upgrade")
        project.revision("blog", "blog_2", "blog_1", upgrade=PRINTING, message="Größe — 日本")
        yield each


FULL = Path("/dev/full")
LOST = "Cannot write to standard output: No space left on device."
Stream = io.TextIOWrapper | None
"""A standard stream; Python has None for one that was closed before it started."""


def run(each: Facade, *args: str, out: Stream, err: Stream) -> object:
    """Run a command on such streams, and return its exit code."""
    given = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err  # type: ignore[assignment]
    try:
        with pytest.raises(SystemExit) as exit_:
            cli.main(args, "ampho", obj=Loader(each.app))
        assert (sys.stdout, sys.stderr) == (out, err) or None in (out, err)
    finally:
        sys.stdout, sys.stderr = given
    return exit_.value.code


@dataclass
class Loader:
    """What the commands need of a framework."""

    app: Any

    def load_app(self) -> Any:
        return self.app


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_what_an_encoding_lacks_is_an_escape(blog: Facade, encoding: str, tmp_path: Path) -> None:
    for command in (*READS, *CHANGES):
        with (
            (tmp_path / "out").open("w", encoding=encoding) as out,
            (tmp_path / "err").open("w", encoding=encoding) as err,
        ):
            assert run(blog, *command, out=out, err=err) == 0, command
        written = (tmp_path / "out").read_text(encoding)
        assert not (tmp_path / "err").read_text(encoding), command
        assert "\\u65e5\\u672c" in written or "-s" in command or "db-rev" in command, command
        assert ("größe" in written.lower()) == ("\\u65e5" in written and encoding != "ascii"), command


def test_a_lenient_choice_of_an_encoding_is_kept(blog: Facade, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="ascii", errors="replace") as out:
        assert run(blog, "db-show", out=out, err=None) == 0
    assert "Gr??e ? ??" in (tmp_path / "out").read_text("ascii")


def pending(each: Facade) -> list[str]:
    return [record.id for state in each.call("current") for record in state.pending]


def test_a_migration_is_done_where_its_report_cannot_be_written(blog: Facade, tmp_path: Path) -> None:
    with FULL.open("w", encoding="utf-8") as out, (tmp_path / "err").open("w+", encoding="utf-8") as err:
        assert run(blog, "db-up", out=out, err=err) == 0
        said = (tmp_path / "err").read_text("utf-8")
        assert said == f"Warning: {LOST} The command itself succeeded.\n"
        assert pending(blog) == []

        assert run(blog, "db-down", "-y", out=out, err=out) == 0
        assert pending(blog) == ["blog_2"]


@pytest.mark.parametrize("command", [*READS, ["db-up", "--plan", "--json"], ["db-status", "--check", "--json"]])
def test_what_was_asked_for_and_cannot_be_written_is_an_error(blog: Facade, command: list[str], tmp_path: Path) -> None:
    with FULL.open("w", encoding="utf-8") as out, (tmp_path / "err").open("w+", encoding="utf-8") as err:
        code = run(blog, *command, out=out, err=err)
    if "--check" in command:
        assert code == 10  # which says enough
    else:
        assert code == 1
        assert (tmp_path / "err").read_text("utf-8") == f"Error: {LOST}\n"


def test_a_reader_that_has_seen_enough_ends_nothing(blog: Facade, tmp_path: Path) -> None:
    for command in (*READS, *CHANGES[1:]):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w", encoding="utf-8") as out, (tmp_path / "err").open("w+", encoding="utf-8") as err:
            assert run(blog, *command, out=out, err=err) == 0, command
        assert not (tmp_path / "err").read_text("utf-8"), command
        assert pending(blog) == ([] if command == ["db-up"] else ["blog_2"])


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_it_all(blog: Facade) -> None:
    blog_3 = Path("blog/migrations/versions/blog_3.py")
    blog_3.write_text(f"'{'x' * 300_000}'\nrevision = 'blog_3'\ndown_revision = 'blog_2'\n", "utf-8")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    read: list[bytes] = []

    def read_slowly() -> None:
        with os.fdopen(reading, "rb") as pipe:
            while chunk := pipe.read1():
                time.sleep(0.01)
                read.append(chunk)

    reader = threading.Thread(target=read_slowly)
    reader.start()
    with os.fdopen(writing, "w", encoding="utf-8") as out:
        assert run(blog, "db-show", out=out, err=None) == 0
    reader.join()
    assert b"".join(read).endswith(b"x" * 300_000 + b"  (head)\n")


@pytest.mark.parametrize("closed", ["<&-", ">&- 2>&- <&-"])
def test_streams_that_are_closed_when_python_starts(project: Project, closed: str) -> None:
    """In real processes, where the next file that is opened gets the descriptor: it must not be the database."""
    project.package("blog")
    project.app("flask", ["blog"], "sqlite:///app.db")
    project.revision("blog", "blog_1", upgrade="import os; os.write(1, b'by hand'); print('printed')")

    result = project.run("bash", "-c", f"{PROGRAMS}/ampho db-up {closed} && {PROGRAMS}/ampho db-down {closed}")

    assert "Traceback" not in result.output
    assert result.stderr == ""
    assert ("Reverted 1 revision in" in result.stdout) == (closed == "<&-")
    with closing(sqlite3.connect(project.folder / "instance" / "app.db")) as database:
        assert database.execute("SELECT outcome FROM ampho_journal").fetchall() == [("done",)] * 2


# ---- warnings ----


def test_a_warning_of_pythons_is_a_sentence_and_said_once(project: Project) -> None:
    project.package("blog")
    project.revision("blog", "blog_1", upgrade="import warnings; warnings.warn('This is slow', stacklevel=1)")
    own = "for _ in range(2): warnings.warn_explicit('Own\\nwords', UserWarning, __file__, 7 + _, registry={})"
    library = "for _ in range(2): warnings.warn_explicit('Theirs', UserWarning, sqlalchemy.orm.__file__, 7)"
    project.revision("blog", "blog_2", "blog_1", upgrade="sa.util.warn('Here')")
    quiet = "warnings.warn('Nobody needs this', DeprecationWarning)"
    project.app("flask", ["blog"], "sqlite:///app.db", imports=["warnings", "sqlalchemy.orm"])
    project.write("app.py", project.read("app.py") + f"\n{own}\n{library}\n{quiet}\n")

    first, second = (
        project.run("ampho", "db-up"),
        project.run("ampho", "db-status", env={"PYTHONWARNINGS": "error"}, check=False),
    )

    assert first.stderr.splitlines() == [
        "Warning: app.py:7: Own words",
        "Warning: app.py:8: Own words",
        "Warning: app.py:20: Theirs",
        "Warning: blog/migrations/versions/blog_1_by_hand.py:13: This is slow",
        "Warning: blog/migrations/versions/blog_2_by_hand.py:13: Here",
    ]
    assert second.exit_code == 1
    assert "UserWarning: Own (at app.py:19)" in second.stderr


@pytest.mark.parametrize(
    ("category", "file", "library"),
    [
        (SAWarning, warnings.__file__, "sqlalchemy"),
        (UserWarning, alembic.autogenerate.__file__, "alembic"),
        (UserWarning, ast.__file__, "ast"),
    ],
)
def test_a_warning_of_a_library_names_it(category: type[Warning], file: str, library: str) -> None:
    code = compile(
        "found = describe(category('Words (Background on this warning at: https://x)'), category, file, 1)",
        "<x>",
        "exec",
    )
    names: dict[str, Any] = {"describe": describe_warning, "category": category, "file": file}
    with ThreadPoolExecutor(1) as pool:  # where no line of the project is running
        pool.submit(exec, code, names).result()
    assert names["found"] == f"{library}: Words"


def test_an_app_that_handles_warnings_itself_goes_on_doing_so(project: Project) -> None:
    project.package("blog")
    project.app("flask", ["blog"], "sqlite:///app.db", imports=["logging", "warnings"])
    handles = "logging.basicConfig(format='LOG %(message)s')\nlogging.captureWarnings(True)\nwarnings.warn('Words')"
    project.write("app.py", f"{project.read('app.py')}\n{handles}\n")

    stderr = project.run("ampho", "db-status").stderr

    assert "Warning: app" not in stderr
    assert re.search(r"^LOG \S+app.py:\d+: UserWarning: Words$", stderr, re.MULTILINE)


def test_what_is_logged_without_a_handler_is_a_sentence_and_said_once(project: Project) -> None:
    said = """
        import logging
        for _ in range(2):
            logging.getLogger("library.part").warning("Two\\nlines of %s", "\\x1b[31m")
        logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=ValueError("no"))
        logging.getLogger("sqlalchemy.pool.impl").error("Exception during reset or similar", exc_info=ValueError())
    """
    project.package("blog")
    project.revision("blog", "blog_1", upgrade=said)
    project.app("flask", ["blog"], "sqlite:///app.db")

    assert project.run("ampho", "db-up").stderr.splitlines() == [
        r"Warning: library.part: Two lines of \x1b[31m",
        "Warning: asyncio: Task exception was never retrieved: ValueError: no",
    ]


@pytest.mark.drivers("mariadb+asyncmy", "mariadb+pymysql")
def test_what_mariadb_only_notes_is_not_said(project: Project, database: Database) -> None:
    project.package("blog")
    key = 'sa.Column("id", sa.Integer), sa.PrimaryKeyConstraint("id", name="named")'
    up = f"""
        op.execute("DROP TABLE IF EXISTS post")
        for _ in range(2):
            op.create_table("post", {key}, if_not_exists=True)
        op.execute("CREATE TABLE IF NOT EXISTS post (id INTEGER)")
        op.execute("SELECT 1 / 0")
    """
    project.revision("blog", "blog_1", upgrade=up)
    project.app("quart" if database.is_async else "flask", ["blog"], database.url)

    said = project.run("ampho", "db-up").stderr

    assert said == ("Warning: asyncmy: Division by 0\n" if database.is_async else "")


def test_the_library_leaves_the_warnings_of_python_alone(blog: Facade) -> None:
    before = warnings.showwarning, logging.lastResort
    blog.run("db-up")
    blog.call("downgrade")
    assert (warnings.showwarning, logging.lastResort) == before


def test_ampho_warns_once_of_what_several_parts_find(blog: Facade) -> None:
    versions = Path("blog/migrations/versions")
    (versions / "blog_2b.py").write_text("revision = 'blog_2b'\ndown_revision = 'blog_1'\n", "utf-8")
    blog.app.config[MISSPELT] = "blog"
    for command in (["db-up"], ["db-down", "-y", "blog@base"], ["db-forget", "blog"], ["db-status", "--json"]):
        said = [line for line in blog.run(*command).stderr.splitlines() if line.startswith("Warning: ")]
        assert len(said) == len(set(said)) == 2, command


def test_lines_are_whole_where_a_revision_writes_too(blog: Facade) -> None:
    lines = blog.run("db-up").stdout.splitlines()
    assert lines[1] == "Größe — 日本"
    assert re.fullmatch(r"  \+ blog_2  Größe — 日本 \.\.\. \d+ ms", lines[2])


# ---- a folder that cannot be written to ----


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_relative_path_in_a_read_only_folder_is_an_error_in_one_line(project: Project, framework: str) -> None:
    """What needs no file works all the same, such as a throwaway database."""
    project.package("blog")
    project.revision("blog", "blog_1")
    project.write("instance", "No folder can be made where this file is.")
    with facade(project, framework, ["blog"], URLS[framework]) as each:
        for command in (["db-up"], ["db-status"], ["db-up", "-s"], ["db-lint"]):
            line = each.error_line(*command)
            assert line.startswith("Cannot connect to sqlite"), line
            assert "Error: [Errno " in line, line  # which says why, and of which folder
        assert each.run("db-check", "--scratch").exit_code == 0
        assert each.run("db-show").exit_code == 0
