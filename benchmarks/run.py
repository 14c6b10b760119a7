"""Ampho beside other tools: what their commands cost on synthetic projects, as whole processes.

    python benchmarks/run.py
    python benchmarks/run.py --only noop --sizes 50x20 --backends sqlite --rounds 1

All tools run in turns, several times, and the medians count. A figure counts if the tool did its work: what is in the
database, what was printed and what was written is looked at after every single process. A tool that did not is listed
with its error. One process that takes long is not repeated as often: see ``--budget``. ``tools.py`` says what each tool
gets, and ``report.py`` the shape of ``results.json``.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import musts
import report
from databases import BACKENDS, DRIVERS, Databases, databases_of
from measure import Usage, run
from projects import Shape
from report import Failure, Figure, Results, Worker
from servers import ServerMissingError
from sqlalchemy.exc import SQLAlchemyError
from tools import HERE, OPERATIONS, TOOLS, AmphoOnFlask, Bare, NoWorkError, Project, Tool

T = TypeVar("T")
SIZES = ("50x20", "50x20+deps", "200x50", "200x50+deps", "1x5000", "50x100+deps")
DISTRIBUTIONS = (
    *("ampho", "alembic", "sqlalchemy", "flask", "quart", "flask-sqlalchemy", "flask-migrate", "flask-alembic"),
    *("advanced-alchemy", "django", "psycopg", "asyncpg", "aiosqlite"),
)
MEMORY, MEMORY_NEEDED = Path("/dev/shm"), 2 * 1024**3  # what is written there has a name of its own
WORKER_ROUNDS = 2
"""How often what Ampho adds to a worker is measured, for each round of the rest: it is quick, and small."""


@dataclass
class Case:
    """A tool with a driver, and what it took so far."""

    tool: Tool
    driver: str
    samples: list[Usage] = field(default_factory=list)
    error: str = ""

    def wants_more(self, rounds: int, budget: float) -> bool:
        """Whether to run it again: one that takes long uses the budget up in fewer rounds."""
        if self.error or len(self.samples) >= rounds:
            return False
        spent = sum(sample.wall for sample in self.samples)
        return not self.samples or spent + self.samples[-1].wall <= budget


class Stage:
    """A project and the databases of one backend, on which everything is measured."""

    def __init__(self, project: Project, databases: Databases, limit: int) -> None:
        self.project = project
        self.databases = databases
        self.limit = limit
        self._states: dict[str, str] = {}
        self._errors: dict[str, str] = {}

    def state(self, kind: str) -> str:
        """Return the database in which everything is applied, as Ampho, Alembic or Django leaves it.

        :raises NoWorkError: if it cannot be made; that is tried once.
        """
        if kind not in self._states:
            self._states[kind] = self.databases.create()
            try:
                self._fill(self._states[kind], kind)
            except NoWorkError as error:
                self._errors[kind] = f"no database to start from: {error}"
        if kind in self._errors:
            raise NoWorkError(self._errors[kind])
        return self._states[kind]

    def _fill(self, name: str, kind: str) -> None:
        if kind != "ampho":
            self.databases.fill(name, self.project.shape, django=kind == "django")
            return
        tool = AmphoOnFlask()
        tool.write(self.project, "")  # it may not have been chosen
        driver = DRIVERS[self.databases.backend][0]
        tool.run("upgrade", self.project, driver, self.databases.url(name), self.limit)

    def sample(self, case: Case, operation: str) -> Usage:
        """Run one command, and see that it did its work.

        :raises NoWorkError: if it failed or did not.
        """
        tool, project, databases = case.tool, self.project, self.databases
        state = "" if operation == "upgrade" else self.state(tool.state)
        is_own = operation in ("upgrade", "downgrade")
        name = databases.create(state) if is_own else state
        files = tool.files(project)
        try:
            finished = tool.run(operation, project, case.driver, databases.url(name, case.driver), self.limit)
            written = tool.files(project) - files
            tool.check(operation, project, finished, databases.contents(name), written)
        finally:
            for file in tool.files(project) - files:
                file.unlink()
            if is_own:
                databases.drop(name)
        return finished.usage

    def close(self) -> None:
        for name in self._states.values():
            self.databases.drop(name)
        shutil.rmtree(self.project.folder)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    results = Results(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        machine={
            "system": platform.platform(),
            "python": platform.python_version(),
            "processors": os.cpu_count() or 0,
            "in_memory": MEMORY in options.folder.parents or options.folder == MEMORY,
        },
        versions=installed(),
        rounds=options.rounds,
    )
    missing = [tool.name for tool in options.tools if not tool.is_installed]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
    options.tools = [tool for tool in options.tools if tool.is_installed]
    results.earlier = Results.read(options.output) if options.add and options.output.exists() else None
    with scratch_folder(options.folder) as folder:
        for size in options.sizes:
            for backend in options.backends:
                try:
                    with databases_of(backend, folder) as databases:
                        measure(results, size, databases, folder, options)
                except ServerMissingError as error:
                    print(f"no {backend}: {error}", file=sys.stderr)
                    results.failures.append(Failure(str(size), backend, "", "", "", str(error)))
        if not options.no_worker:
            measure_worker(results, folder, options)
    results = results.whole()
    results.musts = musts.judge(results)
    results.write(options.output)
    report.write_plots(results, options.output)
    print(report.as_text(results))
    return 1 if results.failures and options.strict else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--sizes", type=listed(Shape.parse), default=",".join(SIZES), help="PxR or PxR+deps (default: %(default)s)")
    add("--only", type=listed(one_of(OPERATIONS)), default=",".join(OPERATIONS), help="operations (%(default)s)")
    add("--tools", type=listed(tools_like), default="", help="names, or parts of them (default: all)")
    add("--backends", type=listed(one_of(BACKENDS)), default=",".join(BACKENDS), help="(default: %(default)s)")
    add("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS", "5")), help="(default: %(default)s)")
    add("--budget", type=float, default=60, help="seconds after which a command is not repeated (%(default)s)")
    add("--limit", type=int, default=600, help="seconds after which one process is ended (%(default)s)")
    add("--no-worker", action="store_true", help="leave out what Ampho adds to a web worker")
    add("--strict", action="store_true", help="exit with 1 if a tool failed")
    add("--add", action="store_true", help="keep what --output has of sizes, backends and operations left out now")
    add("--output", type=Path, default=HERE / "results.json", help="the plots are written beside it")
    add("--folder", type=Path, default=default_folder(), help="for projects and SQLite files (%(default)s)")
    options = parser.parse_args(arguments)
    chosen = [tool for tools in options.tools for tool in tools] or TOOLS
    options.tools = [tool for tool in TOOLS if tool in chosen]
    return options


def default_folder() -> Path:
    """Return a folder in memory if there is one: waiting for a disk takes CPU, too, and never twice the same."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED:
        return MEMORY
    return Path(tempfile.gettempdir())


def listed(convert: Callable[[str], T]) -> Callable[[str], list[T]]:
    def parse_list(text: str) -> list[T]:
        try:
            return [convert(part.strip()) for part in text.split(",") if part.strip()]
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_list


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    def convert(name: str) -> str:
        if name not in names:
            raise ValueError(f"{name!r} is none of {', '.join(names)}")
        return name

    return convert


def tools_like(part: str) -> list[Tool]:
    """Return the tool of that name, else those with that in their names."""
    names = {tool.name.lower(): tool for tool in TOOLS}
    wanted = part.lower()
    found = [names[wanted]] if wanted in names else [tool for name, tool in names.items() if wanted in name]
    if not found:
        raise ValueError(f"no tool is called {part!r}, but {', '.join(tool.name for tool in TOOLS)}")
    return found


def installed() -> dict[str, str]:
    found = {}
    for name in DISTRIBUTIONS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@contextmanager
def scratch_folder(given: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ampho-bench-", dir=given) as folder:
        yield Path(folder)


def measure(results: Results, shape: Shape, databases: Databases, folder: Path, options: argparse.Namespace) -> None:
    """Measure all operations of all tools on one project and one backend."""
    project = Project(shape, folder / f"{shape}-{databases.backend}")
    nothing = databases.create()
    project.write(options.tools, databases.url(nothing))
    databases.drop(nothing)
    stage = Stage(project, databases, options.limit)
    for operation in OPERATIONS:
        cases = [
            Case(tool, driver)
            for tool in options.tools
            for driver in DRIVERS[databases.backend]
            if operation in tool.operations and driver in tool.drivers
            if operation in options.only or isinstance(tool, Bare)
        ]
        project.set_bytecode(present=operation != "fresh")
        while waiting := [case for case in cases if case.wants_more(options.rounds, options.budget)]:
            for case in waiting:
                progress(f"{shape}  {databases.backend}  {operation}  {case.tool.name}, {case.driver}")
                try:
                    case.samples.append(stage.sample(case, operation))
                except (NoWorkError, SQLAlchemyError) as error:
                    case.error = str(error).partition("\n")[0]
        for case in cases:
            where = (str(shape), databases.backend, case.driver, case.tool.name, operation)
            if case.error:
                results.failures.append(Failure(*where, case.error))
            else:
                results.figures.append(Figure.of(where, case.samples))
        results.write(options.output)
    stage.close()
    progress("")


def measure_worker(results: Results, folder: Path, options: argparse.Namespace) -> None:
    """Measure what Ampho adds to a process that serves an app, and ``import ampho`` alone."""
    program = [sys.executable, str(HERE / "worker.py")]
    for what in ("flask", "quart", "import", "alone"):
        progress(f"worker  {what}")
        samples = []
        for _ in range(options.rounds * WORKER_ROUNDS + 1):
            finished = run([*program, what], folder, {}, options.limit)
            if finished.exit_code:
                results.failures.append(Failure("", "", "", "worker", what, finished.output.strip()[-200:]))
                break
            samples.append([float(word) for word in finished.output.split()])
        else:
            # The first one may have had to compile.
            cpu, memory = (statistics.median(values) for values in zip(*samples[1:], strict=True))
            results.worker[what] = Worker(cpu, memory)
    progress("")


def progress(text: str) -> None:
    """Say on a terminal what runs now."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that it clears up
    sys.exit(main())
