"""A throwaway project on disk: packages, revisions and an app, and the real commands run in it as real processes."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import forks
from sqlalchemy import URL

PROGRAMS = Path(sys.executable).parent
# What a developer's own shell may set, and a test must not see.
FOREIGN = re.compile(r"(AMPHO|FLASK|QUART|SQLALCHEMY|ALEMBIC|SHOP)_|CI$")

_APP = """\
from {module} import {app_class}

from ampho import {extension_class}
{imports}
CONFIG = {config!r}


def create_app():
    app = {app_class}({import_name!r})
    app.config.update(CONFIG)
    {extension_class}(app)
    return app


app = create_app()
"""

_REVISION = '''\
"""{message}"""

from alembic import op
import sqlalchemy as sa

revision = {revision!r}
down_revision = {down!r}
branch_labels = {labels!r}
depends_on = {depends_on!r}


def upgrade():
{upgrade}


def downgrade():
{downgrade}
'''


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    command: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr

    def __str__(self) -> str:
        return f"$ {' '.join(self.command)}\n{self.stdout}{self.stderr}(exit code {self.exit_code})"


@dataclass(frozen=True)
class Project:
    """A folder with packages, an ``app.py`` and a command line in it."""

    folder: Path

    def write(self, path: str | Path, text: str) -> Path:
        """Write a file, and the folders that it needs; common indentation is removed."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(dedent(text), "utf-8")
        return target

    def read(self, path: str | Path) -> str:
        return (self.folder / path).read_text("utf-8")

    def files(self) -> dict[str, bytes]:
        """Every file of the project and its content, to show that a command left the disk alone."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }

    def package(self, name: str, models: str | None = None, init: str = "", *, namespace: bool = False) -> Path:
        """Make a package, and return its folder; its parents are packages too, unless they are namespaces."""
        folder = self.folder.joinpath(*name.split("."))
        folder.mkdir(parents=True, exist_ok=True)
        for parent in folder.parents:
            if parent == self.folder or namespace:
                break
            (parent / "__init__.py").touch()
        self.write(folder / "__init__.py", init)
        if models is not None:
            self.write(folder / "models.py", models)
        return folder

    def migrations(self, package: str) -> Path:
        return self.folder.joinpath(*package.split("."), "migrations")

    def revision(
        self,
        package: str,
        revision: str,
        down: str | Sequence[str] | None = None,
        depends_on: str | Sequence[str] | None = None,
        *,
        labels: str | Sequence[str] | None = "",
        upgrade: str = "pass",
        downgrade: str = "pass",
        message: str = "by hand",
    ) -> Path:
        """Write a revision file by hand, and return its path.

        :param labels: its branch labels; the package's name on a revision without a parent, unless given.
        :param upgrade: statements, in which ``op`` and ``sa`` are at hand.
        """
        if labels == "":
            labels = None if down else (package,)
        text = _REVISION.format(
            message=message,
            revision=revision,
            down=down,
            labels=labels,
            depends_on=depends_on,
            upgrade=indent(dedent(upgrade).strip(), "    "),
            downgrade=indent(dedent(downgrade).strip(), "    "),
        )
        slug = re.sub(r"\W+", "_", message).strip("_")
        return self.write(self.migrations(package) / "versions" / f"{revision}_{slug}.py", text)

    def app(
        self,
        framework: str = "flask",
        packages: Sequence[str] = (),
        url: URL | str | None = None,
        *,
        extra_config: Mapping[str, Any] | None = None,
        imports: Sequence[str] = (),
        body: str = "",
        import_name: str = "app",
        path: str = "app.py",
    ) -> Path:
        """Write an ``app.py`` with an app, a factory ``create_app`` and ``Ampho`` or ``AsyncAmpho``.

        :param imports: modules that it imports, such as models.
        :param body: what follows at the end, such as routes; ``app`` is at hand.
        """
        config: dict[str, Any] = {"SQLALCHEMY_DATABASE_URI": _text(url)} if url is not None else {}
        if packages:
            config["AMPHO_MIGRATION_PACKAGES"] = list(packages)
        config |= extra_config or {}
        text = _APP.format(
            module=framework,
            app_class={"flask": "Flask", "quart": "Quart"}[framework],
            extension_class={"flask": "Ampho", "quart": "AsyncAmpho"}[framework],
            imports="".join(f"import {module}\n" for module in imports),
            config=config,
            import_name=import_name,
        )
        return self.write(path, text + dedent(body))

    def run(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        stdin: str = "",
        cwd: str | Path = ".",
        timeout: float = 60,
        fresh: bool | None = None,
    ) -> Result:
        """Run a program of the virtual environment in the project's folder, as a person would.

        :param env: what its environment has on top of the present one.
        :param check: whether an exit code other than 0 fails the test.
        :param fresh: whether a program starts anew, where all it does before its first line matters, or is forked from
            one that has; the latter for console scripts, and the former for others, unless given.
        """
        environment = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        # Files that change twice in a second would be taken from the bytecode cache.
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1", **(env or {})}
        fresh = command[0] not in forks.SCRIPTS if fresh is None else fresh
        result = self._run(command, environment, cwd, stdin, timeout, fresh=fresh)
        assert not check or result.exit_code == 0, str(result)
        return result

    def _run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        cwd: str | Path,
        stdin: str,
        timeout: float,
        *,
        fresh: bool,
    ) -> Result:
        if not fresh and forks.can_run(command[0], environment):
            folder = self.folder / cwd
            return Result(
                tuple(command), *forks.run(*command, cwd=folder, env=environment, stdin=stdin, timeout=timeout)
            )
        program = PROGRAMS / command[0]
        done = subprocess.run(
            [str(program) if program.exists() else command[0], *command[1:]],
            cwd=self.folder / cwd,
            env=environment,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )
        return Result(tuple(command), done.returncode, done.stdout, done.stderr)

    def type(self, *command: str, answer: str, env: Mapping[str, str] | None = None) -> Result:
        """Run a program on a terminal, and type an answer to what it asks; the terminal shows what was typed, too."""
        process, mine = self.start_on_terminal(*command, env={"NO_COLOR": "1", **(env or {})})
        os.write(mine, f"{answer}\n".encode())
        shown = b""
        with contextlib.suppress(OSError):  # which is how a terminal says that nobody is at the other end any more
            while block := os.read(mine, 4096):
                shown += block
        os.close(mine)
        return Result(command, process.wait(30), shown.decode("utf-8").replace("\r\n", "\n"), "")

    def start_on_terminal(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        size: tuple[int, int] | None = None,
    ) -> tuple[subprocess.Popen[str] | forks.Process, int]:
        """Start a program on a terminal of its own, and return it with the other end of the terminal.

        :param size: lines and columns.
        """
        mine, its = pty.openpty()
        if size:
            termios.tcsetwinsize(its, size)
        environment = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        environment.pop("COLUMNS", None)  # which pytest-xdist sets
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8", **(env or {})}
        process = self._start(command, environment, [its] * 3, fresh=False)
        os.close(its)
        return process, mine

    def start(
        self, *command: str, env: Mapping[str, str] | None = None, fresh: bool = False
    ) -> subprocess.Popen[str] | forks.Process:
        """Start a program of the virtual environment in the project's folder, and do not wait for it.

        :param env: what its environment has on top of the present one.
        :param fresh: as for :meth:`run`.
        """
        environment = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **(env or {})}
        return self._start(command, environment, None, fresh=fresh)

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str], streams: Sequence[int] | None, *, fresh: bool
    ) -> subprocess.Popen[str] | forks.Process:
        if not fresh and forks.can_run(command[0], environment):
            return forks.Process(*command, cwd=self.folder, env=environment, streams=streams)
        given, out, err = streams or (None, subprocess.PIPE, subprocess.PIPE)
        return subprocess.Popen(
            [str(PROGRAMS / command[0]), *command[1:]],
            cwd=self.folder,
            env=environment,
            stdin=given,
            stdout=out,
            stderr=err,
            encoding="utf-8",
            start_new_session=streams is not None,
            # No thread of the tests holds a lock then.
            preexec_fn=control_terminal if streams else hear_interruptions,  # noqa: PLW1509
        )

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Make the project importable here and now, and forget its modules afterwards."""
        before, write_bytecode = set(sys.modules), sys.dont_write_bytecode
        sys.path.insert(0, str(self.folder))
        sys.dont_write_bytecode = True
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(str(self.folder))
            sys.dont_write_bytecode = write_bytecode
            for name in set(sys.modules) - before:
                if self._owns(sys.modules[name]):
                    del sys.modules[name]
            importlib.invalidate_caches()

    def _owns(self, module: Any) -> bool:
        path = getattr(module, "__path__", ())
        places = [getattr(module, "__file__", None), *(path if isinstance(path, Iterable) else ())]
        return any(isinstance(place, str) and Path(place).is_relative_to(self.folder) for place in places)


def control_terminal() -> None:
    """Let Ctrl-C on the terminal of a new session interrupt what runs on it."""
    hear_interruptions()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def hear_interruptions() -> None:
    """Let Ctrl-C be heard, which what runs in the background ignores, and hands down to what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _text(url: URL | str) -> str:
    return url if isinstance(url, str) else url.render_as_string(hide_password=False)
