"""What plain Alembic's version rows do on histories of several packages, beside Ampho's on the same ones.

    python benchmarks/plain_alembic_rows.py --graphs 200

Each random history gets 12 random commands that both understand: ``upgrade heads``, ``upgrade ID``, ``downgrade ID``
and ``downgrade base``. It fails when a command crashes, or when afterwards the rows are not the applied revisions that
no other applied one stands on. Plain Alembic runs through its own ``alembic.command`` and an ``env.py`` as from its
own template.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, make_url

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from graphs import History, log_engine, logged, random_history, version_rows

from ampho.history.package import MigrationPackage
from ampho.migrate import executor as execute
from ampho.migrate.project import Project

COMMANDS = 12

_ENV = """\
from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
"""

Runner = Callable[[str, str], None]
"""Runs a command, ``upgrade`` or ``downgrade``, to a target."""


@dataclass(frozen=True)
class Kind:
    """A kind of history."""

    name: str
    most_dependencies: int
    layered: bool = False


KINDS = (
    Kind("no dependencies between packages", 0),
    Kind("at most 1 a revision, in layers", 1, layered=True),
    Kind("at most 2 a revision, in layers", 2, layered=True),
    Kind("at most 1 a revision, to and fro", 1),
    Kind("at most 3 a revision, to and fro", 3),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graphs", type=int, default=200, help="histories of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first history (default: %(default)s)")
    arguments = parser.parse_args()
    sys.dont_write_bytecode = True
    failures: Counter[str] = Counter()
    print(f"{arguments.graphs} histories of each kind, {COMMANDS} commands each; failed histories:\n")
    print(f"{'dependencies':<34}{'plain Alembic':>16}{'Ampho':>10}")
    for kind in KINDS:
        plain, ampho = count(kind, range(arguments.seed, arguments.seed + arguments.graphs))
        failures += plain
        print(f"{kind.name:<34}{plain.total():>16}{ampho.total():>10}", flush=True)
        failures += Counter({f"Ampho: {error}": number for error, number in ampho.items()})
    print("\nerrors:" if failures else "\nno errors")
    for error, number in failures.most_common():
        print(f"{number:>6}  {error}")


def count(kind: Kind, seeds: range) -> tuple[Counter[str], Counter[str]]:
    """Count the failures of plain Alembic and of Ampho, by error."""
    plain: Counter[str] = Counter()
    ampho: Counter[str] = Counter()
    for seed in seeds:
        history = random_history(random.Random(seed), most_dependencies=kind.most_dependencies, layered=kind.layered)
        with tempfile.TemporaryDirectory(prefix="ampho-rows-") as folder:
            packages = history.write(Path(folder))
            for counter, make_runner in ((plain, plain_runner), (ampho, ampho_runner)):
                engine = log_engine()
                error = first_error(history, make_runner(engine, packages), engine, seed)
                engine.dispose()
                if error is not None:
                    counter[error] += 1
    return plain, ampho


def plain_runner(engine: Engine, packages: tuple[MigrationPackage, ...]) -> Runner:
    """Run commands as ``alembic upgrade`` and ``alembic downgrade`` do."""
    folder = packages[0].root.parent / "plain"
    folder.mkdir()
    (folder / "env.py").write_text(_ENV, "utf-8")
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(str(package.versions) for package in packages))

    def run(direction: str, target: str) -> None:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            getattr(command, direction)(config, target)

    return run


def ampho_runner(engine: Engine, packages: tuple[MigrationPackage, ...]) -> Runner:
    """Run commands as ``ampho db-up`` and ``ampho db-down --cascade`` do."""
    project = Project(packages, make_url("sqlite://"), "sync")

    def run(direction: str, target: str) -> None:
        connection: Connection
        with engine.connect() as connection:
            if direction == "upgrade":
                execute.upgrade(project, connection, target)
            else:
                execute.downgrade(project, connection, target, cascade=True)

    return run


def first_error(history: History, run: Runner, engine: Engine, seed: int) -> str | None:
    """Run random commands until one fails, and say how."""
    rng = random.Random(seed)
    for direction, target in random_commands(history, rng, engine):
        try:
            run(direction, target)
        except Exception as exc:  # noqa: BLE001  # whatever it is, it is what is counted here
            return summary(exc)
        if version_rows(engine) != history.tips(logged(engine)):
            return "no error, but wrong version rows"
    return None


def random_commands(history: History, rng: random.Random, engine: Engine) -> Iterator[tuple[str, str]]:
    for _ in range(COMMANDS):
        applied = logged(engine)
        # Plain Alembic refuses to go down to the last revision of a package where one of another stands on it; that
        # costs nobody's rows, so only revisions with an applied successor are gone down to.
        below = sorted({parent for revision in applied for parent in history.revisions[revision].down})
        chance = rng.random()
        if below and chance < 0.45:
            yield "downgrade", rng.choice(below)
        elif applied and chance < 0.5:
            yield "downgrade", "base"
        elif chance < 0.65:
            yield "upgrade", "heads"
        else:
            yield "upgrade", rng.choice(list(history.revisions))


def summary(exc: Exception) -> str:
    """Return an error without what differs from history to history."""
    text = re.sub(r"\b[a-z_]+_[0-9]+\b", "ID", str(exc).splitlines()[0])
    return f"{type(exc).__name__}: {re.sub(r'ID(, *ID)+', 'IDs', text)}"[:100]


if __name__ == "__main__":
    main()
