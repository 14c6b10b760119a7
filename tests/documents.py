"""The pages as tests see them: the fenced blocks of a Markdown file, run in the order in which a reader meets them.

A comment before a block says what is done with it; the reader does not see it.

=========================== ==========================================================================
``<!-- project: ... -->``   from here on in another, empty folder
``<!-- continue: NAME -->`` from here on in the folder of the heading that NAME ends
``<!-- shop: APP -->``      from here on in a copy of the example, with this app
``<!-- section: PAGE#HEADING -->`` from here on in another folder, after what that section shows
``<!-- unchanged: PATH -->`` nothing changes this file from here on to the end of the page
``<!-- file: PATH -->``     the block is the file's content
``<!-- functions: GLOB -->`` the block takes the place of ``upgrade`` and ``downgrade`` in that file
``<!-- revision: NAME -->`` the block is a revision, which ``test_guide.py`` or ``test_zero_downtime.py`` runs
``<!-- release: NAME -->``  the block is a part of a release of an app, which ``test_zero_downtime.py`` runs
``<!-- serve: PATH gives TEXT -->`` the block's command is a server, which answers a request so
``<!-- not run: WHY -->``   the block is for the reader only
=========================== ==========================================================================

Without one, a ``console`` block is run, and prints what it shows; a ``python`` block is run as a program.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.request import urlopen

import forks
from project import FOREIGN, PROGRAMS, Project

ROOT = Path(__file__).parent.parent
SHOP = ROOT / "examples" / "shop"
# The comments that stand alone.
ALONE = ("project", "shop", "continue", "section", "unchanged")
COMMENT = re.compile(r"<!-- ([a-z ]+): (.+?) -->")
# What takes a shell.
SHELL = re.compile(r"[|&;<>$`*?()]")
# Of what a command prints, everything but these is shown as it is.
FINGERPRINT = re.compile(r"(?<=AMPHO_CONFIRM=shop\.db:)[0-9a-f]{8}")
VARIABLE = (
    (FINGERPRINT, "<fingerprint>"),
    (re.compile(r"_\d{10}(?!\d)"), "_<seconds>"),
    (re.compile(r"\b\d+ ms\b|\b\d+\.\d+ ?s\b"), "<duration>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?"), "<date>"),
)


@dataclass(frozen=True)
class Block:
    """A fenced block, or a comment that stands alone.

    :ivar language: of the fence; empty for a comment.
    :ivar note: what the comment before it says to do, and with what.
    """

    language: str
    text: str
    note: tuple[str, str]
    heading: str
    line: int


def script(name: str, folder: str = "docs") -> ModuleType:
    """Import a program of ``docs/``, or of another folder."""
    spec = importlib.util.spec_from_file_location(f"{folder}_{name}", ROOT / folder / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for it
    spec.loader.exec_module(module)
    return module


def blocks(page: Path) -> Iterator[Block]:
    """Find the fenced blocks of a page, each with the comment before it."""
    note, heading, fence, lines = ("", ""), "", None, []
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        if fence is not None and line == "```":
            yield Block(fence, "".join(f"{text}\n" for text in lines), note, heading, number - len(lines))
            note, fence = ("", ""), None
        elif fence is not None:
            lines.append(line)
        elif line.startswith("```"):
            fence, lines = line[3:], []
        elif comment := COMMENT.fullmatch(line):
            note = (comment[1], comment[2])
            if comment[1] in ALONE:
                yield Block("", "", note, heading, number)
                note = ("", "")
        elif line.startswith("#"):
            heading = line.lstrip("# ")


def run_page(page: Path, folder: Path) -> int:
    """Do what a page shows, and check that it happens; return how many blocks that were."""
    projects = {"": Project(folder / "start")}
    project = projects[""]
    project.folder.mkdir()
    count = 0
    kept: dict[Path, bytes] = {}
    for block in blocks(page):
        word, argument = block.note
        if word == "unchanged":
            kept[project.folder / argument] = (project.folder / argument).read_bytes()
        elif word in ("project", "section"):
            project = projects[block.heading] = Project(folder / f"project{len(projects)}")
            project.folder.mkdir()
            if word == "section":
                _run_section(argument, page, project)
        elif word == "shop":
            project = projects[block.heading] = Project(folder / f"project{len(projects)}")
            shutil.copytree(SHOP, project.folder, ignore=shutil.ignore_patterns("instance", "__pycache__"))
            project.write(".env", f"AMPHO_APP={argument}\n")
        elif word == "continue":
            project = next(project for heading, project in projects.items() if heading.endswith(argument))
        elif word not in ("not run", "release", "revision"):
            _do(block, project, word, argument)
            count += 1
    assert all(path.read_bytes() == content for path, content in kept.items())
    return count


def _run_section(name: str, page: Path, project: Project) -> None:
    """Do what a section of another page shows."""
    other, _, heading = name.partition("#")
    for block in blocks(page.with_name(other)):
        if block.heading == heading and block.language and block.note[0] != "not run":
            _do(block, project, *block.note)


def _do(block: Block, project: Project, word: str, argument: str) -> None:
    if word == "file":
        project.write(argument, block.text)
    elif word == "functions":
        (path,) = project.folder.glob(argument)
        path.write_text(path.read_text("utf-8").partition("def upgrade")[0] + block.text, "utf-8")
    elif word == "serve":
        path, _, answer = argument.partition(" gives ")
        assert served(project, shlex.split(block.text.removeprefix("$ ")), path) == answer
    elif block.language == "console":
        shown = ""
        for command, expected in commands(block):
            printed = output(project, FINGERPRINT.sub(shown, command))
            shown = next(iter(FINGERPRINT.findall(printed)), shown)
            where = f"line {block.line}: $ {command}\n{printed}"
            assert normalised(printed) == normalised(expected), where
    elif block.language == "python":
        project.run("python", "-c", f"import warnings; warnings.simplefilter('error')\n{block.text}", fresh=False)
    elif not block.language.startswith("{"):  # which Sphinx makes something of
        raise AssertionError(f"a block of {block.language or 'nothing'} in line {block.line}")


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Take a console block apart into commands and what each prints."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def output(project: Project, command: str) -> str:
    """Run a line of a shell, and return what a person would see."""
    environment = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)} | {"NO_COLOR": "1"}
    program = command.partition(" ")[0]
    if program in forks.SCRIPTS and not SHELL.search(command) and forks.can_run(program, environment):
        return forks.run(*shlex.split(command), cwd=project.folder, env=environment, merged=True)[1]
    programs = shlex.quote(str(PROGRAMS))
    if forks.can_run("ampho", environment):
        programs = f"{shlex.quote(str(forks.stubs(forks.MEASURED in environment)))}:{programs}"
    path = f"export PATH={programs}:$PATH"
    done = project.run("sh", "-c", f"{path}; exec 2>&1; {command}", check=False)
    return done.stdout


def normalised(text: str) -> str:
    for pattern, name in VARIABLE:
        text = pattern.sub(name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def served(project: Project, command: list[str], path: str) -> str:
    """Start a server, and return what it answers to a request."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    server = subprocess.Popen(
        [PROGRAMS / command[0], *command[1:], "--port", str(port)],
        cwd=project.folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return _answer(f"http://127.0.0.1:{port}{path}")
    finally:
        server.terminate()
        server.wait(10)


def _answer(url: str, patience: float = 20) -> str:
    deadline = time.monotonic() + patience
    while True:
        try:
            with urlopen(url, timeout=5) as response:
                return str(response.read().decode()).strip()
        except ConnectionError:
            pass
        except OSError as error:
            if not isinstance(getattr(error, "reason", None), ConnectionError):
                raise
        assert time.monotonic() < deadline, f"{url} does not answer"
        time.sleep(0.1)
