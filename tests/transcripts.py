"""What every command shows, in a pipe and on terminals of two widths, of two projects: ``make transcripts``.

One is the shop in ``examples/shop``, the other a synthetic one of 50 packages with 20 revisions each. What a terminal
shows is drawn, what a pipe gets is written as text, and ``index.html`` in the output folder leads to all of it. It is
there to be looked at; ``test_transcripts.py`` holds what can be stated.
"""

from __future__ import annotations

import argparse
import fcntl
import html
import os
import pty
import re
import shlex
import shutil
import struct
import tempfile
import termios
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forks
from documents import SHOP, script
from project import FOREIGN, Project
from rich.text import Text

LINES = 50  # of a terminal
MOST = 100  # lines that are drawn
COLOUR = re.compile(r"\x1b\[[\d;]*m")
BAR = re.compile(r".*━.*?\x1b8", re.DOTALL)
"""Up to the last time that the live display was drawn."""

READING = re.compile(
    r"^explain|^db-(check|current|graph|heads|lint|log|show|status|wait)\b|--(help|plan|sql|version)\b"
)


@dataclass(frozen=True)
class Look:
    """How a command is looked at.

    :ivar columns: of the terminal; 0 for a pipe.
    """

    name: str
    columns: int = 0
    env: Mapping[str, str] = field(default_factory=dict)


PIPE = Look("pipe")
NARROW, PLAIN = Look("80", 80), Look("80-plain", 80, {"NO_COLOR": "1"})
LOOKS = (NARROW, PLAIN, Look("200", 200), Look("200-plain", 200, {"NO_COLOR": "1"}), PIPE)


@dataclass(frozen=True)
class Site:
    """A project, and what there is to be named in it.

    :ivar names: stand in the commands in braces: ``package``, on which the last revision of ``other`` depends, its
        revisions ``first``, ``second`` and ``last``, and ``half``, where a database is when half of it is applied.
    """

    project: Project
    app: str
    names: Mapping[str, str]

    def run(self, command: str, look: Look = PIPE, answer: str = "", *, check: bool = True) -> Shown:
        """Run a command; fail if it does, unless that is what is to be seen."""
        shown = show(self.project, self.typed(command), {"AMPHO_APP": self.app, **look.env}, look.columns, answer)
        assert not check or shown.exit_code == 0, shown.written
        return shown

    def typed(self, command: str) -> str:
        return command.format(**self.names)

    def copied(self, folder: Path) -> Site:
        shutil.copytree(self.project.folder, folder)
        return Site(Project(folder), self.app, self.names)

    def edit(self, old: str, new: str) -> None:
        """Replace something in the module of the app."""
        text = self.project.read(f"{self.app}.py")
        assert old in text, old
        self.project.write(f"{self.app}.py", text.replace(old, new))

    def add(self, name: str, down: str, upgrade: str, message: str) -> None:
        self.project.revision(self.names["package"], name, self.names[down], upgrade=upgrade, message=message)


@dataclass(frozen=True)
class Shown:
    """What a command wrote: to a terminal, or to both pipes, one after the other."""

    written: str
    exit_code: int


def show(project: Project, command: str, env: Mapping[str, str], columns: int = 0, answer: str = "") -> Shown:
    """Run ``ampho`` on a terminal or in a pipe.

    :param columns: of the terminal; 0 for a pipe.
    :param answer: what is typed when it asks.
    """
    unset = FOREIGN.pattern + "|NO_COLOR|FORCE_COLOR|COLUMNS|LINES"
    environment = {name: value for name, value in os.environ.items() if not re.match(unset, name)}
    environment |= {**forks.FIXED, "TERM": "xterm-256color", **env}
    args = shlex.split(command)
    if columns:
        return _on_a_terminal(args, project.folder, environment, columns, answer)
    exit_code, out, err = forks.run("ampho", *args, cwd=project.folder, env=environment)
    return Shown(out + err, exit_code)


def _on_a_terminal(args: Sequence[str], cwd: Path, env: Mapping[str, str], columns: int, answer: str) -> Shown:
    mine, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    chunks: list[bytes] = []
    reader = threading.Thread(target=_read, args=[mine, chunks, answer])
    reader.start()
    exit_code = forks.Process("ampho", *args, cwd=cwd, env=env, streams=[its] * 3).wait(60)
    os.close(its)
    reader.join()
    os.close(mine)
    return Shown(b"".join(chunks).decode(), exit_code)


def _read(terminal: int, chunks: list[bytes], answer: str) -> None:
    with suppress(OSError):  # which is how a terminal says that nobody is at the other end any more
        while chunk := os.read(terminal, 65536):
            chunks.append(chunk)
            if answer and b"".join(chunks[-9:]).endswith(b"[y/N]: "):
                os.write(terminal, f"{answer}\n".encode())


def shop(folder: Path) -> Site:
    """Copy the example."""
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns("instance", "__pycache__"))
    ids = {
        "first": "catalog_1767610800",
        "second": "catalog_1767690000",
        "last": "catalog_1768298400",
        "half": "orders_1767693600",
    }
    return Site(Project(folder), "flask_app", {"package": "catalog", "other": "orders", **ids})


def large(folder: Path) -> Site:
    """Write a project of 50 packages with 20 revisions each."""
    projects = script("projects", "benchmarks")
    shape = projects.Shape.parse("50x20+deps")
    folder.mkdir()
    projects.write_alembic(shape, folder)
    project = Project(folder)
    project.app("flask", shape.package_names, "sqlite:///site.db", path="site_app.py")
    ids = {"first": "p020_0001", "second": "p020_0002", "last": "p020_0020", "half": "p025_0010"}
    return Site(project, "site_app", {"package": "p020", "other": "p021", **ids})


SITES: Mapping[str, Callable[[Path], Site]] = {"shop": shop, "50x20": large}


def nothing(site: Site) -> None:
    """Nothing is applied."""


def half(site: Site) -> None:
    site.run("db-up {half}")


def everything(site: Site) -> None:
    site.run("db-up")


def fork(site: Site) -> None:
    """The last revision of a package is one of two, which are not applied."""
    half(site)
    last = site.names["last"]
    site.add(f"{last}b", "second", "pass", "Say in which language a book is written")


def failing(site: Site) -> None:
    """A revision fails, after what is pending before it."""
    code = "import time; time.sleep(0.6)\nop.execute('UPDATE shelves SET number = number + 1')"
    half(site)
    site.add(
        "shelves", "last", code, "Number the shelves anew, as the new building has more of them than the old one had"
    )


def half_done(site: Site) -> None:
    """A revision fails where nothing can roll it back."""
    code = "with op.get_context().autocommit_block():\n    op.execute('SELECT 1')\n    op.execute('nonsense')"
    everything(site)
    site.add("shelves", "last", code, "Number the shelves")
    site.run("db-up", check=False)


def gone(site: Site) -> None:
    """A package is applied, and was uninstalled."""
    site.project.package("reviews")
    site.project.revision("reviews", "reviews_1767607200", upgrade="pass")
    site.project.revision("reviews", "reviews_1767607201", "reviews_1767607200", upgrade="pass")
    before = site.project.read(f"{site.app}.py")
    (listed,) = re.findall(r"AMPHO_MIGRATION_PACKAGES.*?\[.", before)
    site.edit(listed, f"{listed[:-1]}'reviews', {listed[-1]}")
    everything(site)
    site.project.write(f"{site.app}.py", before)


def edited(site: Site) -> None:
    """A file was edited after it was applied."""
    everything(site)
    (path,) = site.project.folder.rglob(f"{site.names['second']}*.py")
    path.write_text(f"{path.read_text('utf-8')}\n# Edited.\n", "utf-8")


def drifted(site: Site) -> None:
    """The models have something that the database has not."""
    everything(site)
    package = site.names["package"]
    models = site.project.folder / package / "models.py"
    column = "\n    language: Mapped[str | None]\n"
    if models.exists():
        models.write_text(models.read_text("utf-8").replace("\n    stock:", f"{column}    stock:"), "utf-8")


@dataclass(frozen=True)
class Scene:
    """A command, and the state of the project in which it is shown.

    :ivar answer: what is typed on a terminal, when it asks.
    :ivar only: the name of the one project of which it is shown, if it says the same of all.
    """

    command: str
    state: Callable[[Site], None] = nothing
    answer: str = ""
    only: str = ""

    @property
    def is_changing(self) -> bool:
        return re.search(READING, self.command) is None or " --write" in self.command

    @property
    def title(self) -> str:
        return f"{self.command} ({self.state.__name__.replace('_', ' ')})"


SCENES: Sequence[Scene] = (
    Scene("db-init {package}"),
    Scene("db-init brand_new"),
    Scene('db-rev {package} "Keep the language of a book" --depends-on {other}'),
    Scene('db-rev {package} "Keep the language of a book" --autogenerate', drifted),
    Scene('db-rev {other} "Find out what is missing" --autogenerate', everything),
    Scene('db-rev {package} "Keep the language of a book"', fork),
    Scene("db-heads"),
    Scene("db-heads", fork),
    Scene("db-heads --write", fork),
    Scene("db-check --heads", fork),
    Scene("db-merge {package}", fork),
    Scene("db-merge {package}", half),
    Scene("db-rebase {package}", fork),
    Scene("db-rebase {package}", half),
    Scene("db-adopt --help"),
    Scene("db-adopt elsewhere --into {package}"),
    Scene("db-squash {package} --plan"),
    Scene("db-squash {package} --plan", fork),
    Scene("db-up --plan"),
    Scene("db-up --plan {other}", half),
    Scene("db-up --plan", everything),
    Scene("db-up --sql {first}"),
    Scene("db-up"),
    Scene("db-up {half}"),
    Scene("db-up", everything),
    Scene("db-up", failing),
    Scene("db-up", half_done),
    Scene("db-up", gone),
    Scene("db-up", fork),
    Scene("db-down --plan", half),
    Scene("db-down --plan base", everything),
    Scene("db-down --plan {first} --cascade", everything),
    Scene("db-down", half, "y"),
    Scene("db-down", failing, "n"),
    Scene("db-down", nothing),
    Scene("db-down {package}@base", everything),
    Scene("db-down {package}@base --cascade", everything, "y"),
    Scene("db-down {package}@base --cascade", everything, "n"),
    Scene("db-down --sql", half),
    Scene("db-status"),
    Scene("db-status", half),
    Scene("db-status", everything),
    Scene("db-status", fork),
    Scene("db-status", half_done),
    Scene("db-status", gone),
    Scene("db-status", edited),
    Scene("db-status --all", half),
    Scene("db-status --all", gone),
    Scene("db-status --all", edited),
    Scene("db-status --all", half_done),
    Scene("db-status --check", half),
    Scene("db-status {package} {other}", half),
    Scene("db-current"),
    Scene("db-current", half),
    Scene("db-current", gone),
    Scene("db-current -v", half),
    Scene("db-current -v", edited),
    Scene("db-show"),
    Scene("db-show {package}"),
    Scene("db-show {half}"),
    Scene("db-graph", half),
    Scene("db-graph --full {package}", gone),
    Scene("db-graph", fork),
    Scene("db-graph --format mermaid {package}", half),
    Scene("db-graph --format dot {package}", half),
    Scene("db-graph --format svg -o history.svg", half),
    Scene("db-graph --no-database", nothing),
    Scene("db-log", nothing),
    Scene("db-log", half),
    Scene("db-log -n 3", half_done),
    Scene("db-log -v -n 2", half_done),
    Scene("db-check", everything),
    Scene("db-check", drifted),
    Scene("db-check {package} --scratch"),
    Scene("db-check", half),
    Scene("db-check --deploy", half),
    Scene("db-check --deploy", everything),
    Scene("db-check --deploy", gone),
    Scene("db-check --deploy", edited),
    Scene("db-check --deploy", half_done),
    Scene("db-lint", nothing),
    Scene("db-lint", everything),
    Scene("db-lint {package}", failing),
    Scene("db-stamp {package}"),
    Scene("db-stamp {package}", everything),
    Scene("db-stamp base", everything),
    Scene("db-forget reviews", gone, "y"),
    Scene("db-forget reviews --yes", gone),
    Scene("db-forget {package} --yes", everything),
    Scene("db-resolve shelves --applied", half_done),
    Scene("db-resolve shelves --not-applied", half_done),
    Scene("db-resolve shelves", half_done),
    Scene("db-resolve {last} --applied", everything),
    Scene("db-wait", everything),
    Scene("db-wait --timeout 0", half),
    Scene("db-upp"),
    Scene("migrate"),
    Scene("db-up nowhere"),
    Scene("db-up {package}_9"),
    Scene("db-up {package}@nowhere"),
    Scene("db-up -1"),
    Scene("db-down +1"),
    Scene("db-down {package}", everything),
    Scene("db-down {last}", half),
    Scene("db-down -500", half),
    Scene("db-up --cascad"),
    Scene("db-rev {package}"),
    Scene("db-show {package}@+1"),
    Scene("--app nowhere db-up", only="shop"),
    Scene("--app nowhere:app db-up", only="shop"),
    Scene("explain", only="shop"),
    Scene("explain UnknownRevisionsError", only="shop"),
    Scene("explain Dependents", only="shop"),
    Scene("explain --help", only="shop"),
    Scene("--version", only="shop"),
    Scene("--help", only="shop"),
    *(
        Scene(f"db-{name} --help", only="shop")
        for name in (
            *(
                "init",
                "rev",
                "merge",
                "rebase",
                "squash",
                "up",
                "down",
                "stamp",
                "forget",
                "resolve",
                "status",
                "current",
            ),
            *("show", "graph", "heads", "log", "check", "lint", "wait"),
        )
    ),
)
"""What is shown."""


class States:
    """Projects in each state, of which a command that changes something gets a copy."""

    def __init__(self, make: Callable[[Path], Site], folder: Path) -> None:
        self._folder = folder
        self._made = {nothing: make(folder / "nothing")}

    def typed(self, command: str) -> str:
        return self._made[nothing].typed(command)

    @contextmanager
    def of(self, scene: Scene) -> Iterator[Site]:
        """Give the project of a scene, whose state is made once."""
        state = scene.state
        if state not in self._made:
            self._made[state] = self._made[nothing].copied(self._folder / state.__name__)
            state(self._made[state])
        if not scene.is_changing:
            yield self._made[state]
            return
        with tempfile.TemporaryDirectory() as temporary:
            yield self._made[state].copied(Path(temporary) / "project")


def _picture(screenshot: Any, title: str, written: str, columns: int) -> str:
    """Draw what a terminal shows, and of very much its beginning and its end."""
    height = sum(1 + len(COLOUR.sub("", line)) // columns for line in written.split("\n"))
    lines = screenshot.shown(written, columns, height + LINES, MOST)
    drawing: str = screenshot.picture(Text("\n").join(lines), title, columns)
    return drawing


def write(scene: Scene, look: Look, states: States, folder: Path, name: str) -> Iterator[str]:
    """Write what one command shows, and give the names of the files."""
    with states.of(scene) as site:
        shown = site.run(scene.command, look, scene.answer, check=False)
        title = f"ampho {site.typed(scene.command)}  (exit code {shown.exit_code})"
    begun = BAR.match(shown.written)
    pictures = {"": shown.written, **({"-while": begun[0]} if begun else {})}
    (folder / f"{name}.txt").write_text(f"$ {title}\n{shown.written}", "utf-8", newline="")
    yield f"{name}.txt"
    if not look.columns:
        return
    screenshot = script("screenshot")
    for suffix, written in pictures.items():
        (folder / f"{name}{suffix}.svg").write_text(_picture(screenshot, title, written, look.columns), "utf-8")
        yield f"{name}{suffix}.svg"


def _page(rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    body = "\n".join(
        f"<h2>{html.escape(title)}</h2>\n"
        "<p>"
        + " ".join(f'<a href="{name}">{name}</a>' for name in names)
        + "</p>"
        + "\n".join(f'<img loading="lazy" src="{name}">' for name in names if name.endswith("-80.svg"))
        for title, names in rows
    )
    return f'<!DOCTYPE html>\n<meta charset="utf-8">\n<title>What every command shows</title>\n{body}\n'


def main(arguments: Sequence[str] | None = None) -> None:
    """Write all, and the page that leads to it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="a regular expression that the titles match")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for site, make in SITES.items():
        with tempfile.TemporaryDirectory() as temporary:
            states = States(make, Path(temporary))
            for number, scene in enumerate(SCENES):
                if scene.only in ("", site) and re.search(options.only, f"{site} {scene.title}"):
                    names: list[str] = []
                    for look in LOOKS:
                        names += write(scene, look, states, options.folder, f"{site}-{number:03}-{look.name}")
                    rows.append((f"{site}: {states.typed(scene.title)}", names))
    (options.folder / "index.html").write_text(_page(rows), "utf-8")


if __name__ == "__main__":
    main()
