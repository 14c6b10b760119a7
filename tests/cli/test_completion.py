"""The shell completes packages, revisions and specifiers, and says nothing where it cannot."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import forks
import pexpect
import pytest
from click.shell_completion import ShellComplete
from facade import FRAMEWORKS, URLS, Facade, facade
from project import FOREIGN, PROGRAMS, Project

from ampho.cli.completion import join_words
from ampho.cli.console import console

IDS = {"accounts_1700000001": "Make a table, or two", "accounts_1700000002": "Second", "orders_1700000003": "Third"}
PACKAGES = ["accounts", "orders"]


def write(project: Project) -> None:
    for package in (*PACKAGES, "blog"):
        project.package(package)
    down = None
    for revision, message in IDS.items():
        package = revision.partition("_")[0]
        project.revision(package, revision, down if package == "accounts" else None, message=message)
        down = revision


@dataclass(frozen=True)
class Loader:
    app: Any

    def load_app(self) -> Any:
        return self.app


@pytest.fixture(params=FRAMEWORKS)
def opened(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    write(project)
    with facade(project, request.param, PACKAGES, URLS[request.param]) as each:
        yield each


def completed(each: Facade, line: str) -> dict[str, str | None]:
    *words, incomplete = line.split(" ")
    shell = ShellComplete(console, {"obj": Loader(each.app)}, "ampho", "_AMPHO_COMPLETE")
    return {item.value: item.help for item in shell.get_completions(words, incomplete)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("db-up ", ["heads", *PACKAGES]),
        ("db-up h", ["heads"]),
        ("db-up ord", ["orders", "orders@head", "orders@+1", "orders_1700000003"]),
        ("db-up orders@", ["orders@head", "orders@+1"]),
        ("db-up accounts_17", ["accounts_1700000001", "accounts_1700000002"]),
        ("db-up nothing", []),
        ("db-lint ", PACKAGES),
        ("db-up --start accounts_1", ["accounts_1700000001", "accounts_1700000002"]),
        ("db-up --start b", ["base"]),
        ("db-down ", ["base", "accounts@-1", "accounts@base", "orders@-1", "orders@base"]),
        ("db-down orders@b", ["orders@base"]),
        ("db-show orders@", ["orders@head"]),
        ("db-stamp b", ["base"]),
        ("db-stamp orders@", ["orders@head", "orders@base"]),
        ("db-init ", ["blog"]),
        ("db-rev ", PACKAGES),
        ("db-rev orders Message --depends-on acc", ["accounts", "accounts_1700000001", "accounts_1700000002"]),
        ("db-rev orders Message --head ord", ["orders_1700000003"]),
        ("db-merge o", ["orders"]),
        ("db-rebase o", ["orders"]),
        ("db-squash o", ["orders"]),
        ("db-squash orders --keep ord", ["orders_1700000003"]),
        ("db-check accounts o", ["orders"]),
        ("db-lint o", ["orders", "orders_1700000003"]),
        ("db-resolve o", ["orders_1700000003"]),
        ("db-w", ["db-wait"]),
        ("w", ["wait"]),
        ("down orders@b", ["orders@base"]),
        ("explain Dep", ["DependentsError"]),
        ("db-up --sq", ["--sql"]),
        ("db-up --no-c", ["--no-color"]),
    ],
)
def test_what_can_be_typed_next(line: str, expected: list[str], opened: Facade) -> None:
    assert list(completed(opened, line)) == expected


def test_revisions_come_with_their_messages(opened: Facade) -> None:
    assert completed(opened, "db-up accounts_") == {name: IDS[name] for name in IDS if name.startswith("accounts")}


def test_a_revision_that_cannot_be_read_is_left_out(opened: Facade, project: Project) -> None:
    next(project.folder.rglob("accounts_1700000001_*.py")).write_text("revision = (", "utf-8")

    assert list(completed(opened, "db-up accounts_")) == ["accounts_1700000002"]


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        (["db-up", "orders", "@", "he"], ["db-up", "orders@he"]),
        (["db-up", "orders", "@", ""], ["db-up", "orders@"]),
        (["db-up", "orders", "@"], ["db-up", "orders@"]),
        (["--app", "=", "shop", ":", "app", "db-up", ""], ["--app=shop:app", "db-up", ""]),
        ([""], [""]),
    ],
)
def test_what_bash_takes_apart_is_put_together(words: list[str], whole: list[str]) -> None:
    assert join_words(words) == whole


# ---- real processes ----

NOISE = """
import atexit, sys
sys.stdout.reconfigure(line_buffering=True)
sys.stderr.buffer.write(b"hello")
atexit.register(print, "bye", file=sys.stderr)
"""
ASK = {"_AMPHO_COMPLETE": "bash_complete", "COMP_WORDS": "ampho db-rev o", "COMP_CWORD": "2"}


@pytest.mark.parametrize("app", ["", "import nowhere", "raise SystemExit('no')", "app = (", "app = 1\nprint('hi')"])
def test_an_app_that_cannot_be_loaded_is_no_reason_to_print(app: str, project: Project) -> None:
    if app:
        project.write("app.py", app)

    done = project.run("ampho", env=ASK)

    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_neither_the_database_nor_alembic_is_needed(project: Project) -> None:
    write(project)
    project.app("flask", PACKAGES, "postgresql+psycopg://ann:secret@127.0.0.1:1/shop", body=NOISE)
    program = "import sys\nfrom ampho.cli import main\nsys.argv = ['ampho']\ntry: main()\n"
    program += "except SystemExit: print(sorted({'alembic', 'rich'} & {*sys.modules}))"

    done = project.run(sys.executable, "-c", program, env=ASK | {"COMP_WORDS": "ampho db-up orders_"})

    assert (done.stdout, done.stderr) == ("plain,orders_1700000003\n[]\n", "")
    assert not (project.folder / "instance").exists()


# ---- real shells ----

SHELLS = {
    "bash": (["--norc", "--noprofile", "-i"], "bind 'set bell-style none'; bind 'set show-all-if-ambiguous on'"),
    "zsh": (["-f", "-i"], "autoload -Uz compinit; compinit -u -D"),
    "fish": (["--no-config", "--private", "-i"], "set -g fish_greeting"),
}
INSTALL = {
    "bash": 'eval "$(_AMPHO_COMPLETE=bash_source ampho)"',
    "zsh": 'eval "$(_AMPHO_COMPLETE=zsh_source ampho)"',
    "fish": "_AMPHO_COMPLETE=fish_source ampho | source",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_completes(shell: str, project: Project) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    write(project)
    project.app("flask", PACKAGES, URLS["flask"])
    environment = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    environment |= {
        "PATH": f"{forks.stubs(forks.MEASURED in environment)}:{PROGRAMS}:{os.environ['PATH']}",
        "HOME": str(project.folder),
        "TERM": "dumb" if shell == "zsh" else "xterm",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    arguments, settings = SHELLS[shell]
    child = pexpect.spawn(
        shell,
        arguments,
        cwd=str(project.folder),
        env=environment,  # type: ignore[arg-type]  # the stubs want os.environ's own type
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 200),
    )
    try:
        child.sendline(settings)
        child.sendline(f"{INSTALL[shell]}; echo is''ready")
        child.expect("isready")
        for typed in ("ampho db-sh\torders_17\t\r", "ampho db-show orders@h\t\r"):
            child.send(typed)
            child.expect("orders_1700000003_Third.py")  # its file, which the command shows of what was completed
        child.send("ampho db-show accounts_1700000\t\t")
        child.expect("0002" if shell == "bash" else "Second")
    finally:
        child.close(force=True)
