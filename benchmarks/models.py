"""Ampho beside Flask-Migrate: what the comparison of the models with the database costs, as whole processes.

    python benchmarks/models.py
    python benchmarks/models.py --sizes 1x125,1x250,1x500,1x1000 --backends sqlite --rounds 1

A size is P packages with T tables each, in the database and in the models. ``check`` finds no difference, and
``revision`` finds a new column in every table. The tools take turns, and the least CPU time of each counts.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from databases import BACKENDS, DRIVERS, databases_of
from measure import run
from tools import checked

_LIMIT = 600
_DATABASE = """\
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData

NAMES = {"ix": "ix_%(column_0_label)s", "uq": "uq_%(table_name)s_%(column_0_name)s"}
NAMES |= {"fk": "fk_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s"}
db = SQLAlchemy(metadata=MetaData(naming_convention=NAMES))
"""
_IMPORTS = """\
import os

import sqlalchemy as sa
from database import db
"""
_MODEL = """

class {name}(db.Model):
    __tablename__ = "{table}"
    id = sa.Column(sa.Integer, primary_key=True)
    parent_id = sa.Column(sa.ForeignKey("{parent}.id"))
    name = sa.Column(sa.String(50), nullable=False, index=True)
    code = sa.Column(sa.String(20), unique=True)
    amount = sa.Column(sa.Numeric(10, 2), server_default="0")
    is_active = sa.Column(sa.Boolean, nullable=False)
    at = sa.Column(sa.DateTime)
    note = sa.Column(sa.Text)
    if "BENCH_MORE" in os.environ:
        more = sa.Column(sa.Integer)
"""
_APP = """\
import os

from flask import Flask
from database import db
{imports}

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["BENCH_URL"]
"""
_AMPHO = """
from ampho import Ampho

app.config["AMPHO_MIGRATION_PACKAGES"] = {packages!r}
Ampho(app, db)
"""
_FLASK_MIGRATE = """
from flask_migrate import Migrate

db.init_app(app)
Migrate(app, db)
"""
_TOOLS = {
    "Ampho": {
        "set up": (("db-rev", "-a", "Tables"), ("db-up",)),
        "check": ("db-check",),
        "revision": ("db-rev", "-a", "More"),
    },
    "Flask-Migrate": {
        "set up": (("init",), ("migrate", "-m", "Tables"), ("upgrade",)),
        "check": ("check",),
        "revision": ("migrate", "-m", "More"),
    },
}
_BASE = {"Ampho": ("ampho", "--app", "ampho_app"), "Flask-Migrate": ("flask", "--app", "flask_migrate_app", "db")}


def write(folder: Path, packages: int, tables: int) -> None:
    """Write a project of packages with models, and an app for each tool."""
    names = [f"p{number:03}" for number in range(packages)]
    (folder / "database.py").write_text(_DATABASE, "utf-8")
    for package in names:
        (folder / package / "migrations" / "versions").mkdir(parents=True)
        (folder / package / "__init__.py").touch()
        models = (
            _MODEL.format(
                name=f"{package.title()}T{each}", table=f"{package}_t{each}", parent=f"{package}_t{each // 2}"
            )
            for each in range(tables)
        )
        (folder / package / "models.py").write_text(_IMPORTS + "".join(models), "utf-8")
    app = _APP.format(imports="\n".join(f"import {package}.models" for package in names))
    (folder / "ampho_app.py").write_text(app + _AMPHO.format(packages=names), "utf-8")
    (folder / "flask_migrate_app.py").write_text(app + _FLASK_MIGRATE, "utf-8")


def seconds(folder: Path, tool: str, command: tuple[str, ...], environment: Mapping[str, str]) -> float:
    """Run a command of a tool; return its CPU time, and remove the files that it wrote."""
    before = set(folder.rglob("versions/*.py"))
    usage = checked(run([*_BASE[tool], *command], folder, environment, _LIMIT), _LIMIT).usage
    written = set(folder.rglob("versions/*.py")) - before
    assert bool(written) is ("BENCH_MORE" in environment), (tool, command)
    for path in written:
        path.unlink()
    return usage.cpu


@contextmanager
def project(backend: str, size: str, scratch: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield the folder of a project, and the address of a database for each tool, in which the tables are."""
    packages, tables = map(int, size.split("x"))
    with databases_of(backend, scratch) as databases, tempfile.TemporaryDirectory(dir=scratch) as made_in:
        folder = Path(made_in)
        write(folder, packages, tables)
        made = {tool: databases.create() for tool in _TOOLS}
        urls = {tool: databases.url(name, DRIVERS[backend][0]) for tool, name in made.items()}
        try:
            for tool, commands in _TOOLS.items():
                for command in commands["set up"]:
                    checked(run([*_BASE[tool], *command], folder, {"BENCH_URL": urls[tool]}, _LIMIT), _LIMIT)
            yield folder, urls
        finally:
            for name in made.values():
                databases.drop(name)


def compare(backend: str, size: str, rounds: int, scratch: Path) -> dict[tuple[str, str], float]:
    """Return the least CPU time of each operation of each tool."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    with project(backend, size, scratch) as (folder, urls):
        for _ in range(rounds):
            for operation in ("check", "revision"):
                for tool, commands in _TOOLS.items():
                    more = {"BENCH_MORE": "1"} if operation == "revision" else {}
                    time = seconds(folder, tool, commands[operation], {"BENCH_URL": urls[tool], **more})
                    found[tool, operation].append(time)
    return {case: min(times) for case, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1x500,20x25", help="packages x tables, separated by commas")
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("size    backend     operation  Ampho   Flask-Migrate  ratio")
    with tempfile.TemporaryDirectory() as scratch:
        for backend in options.backends.split(","):
            for size in options.sizes.split(","):
                found = compare(backend, size, options.rounds, Path(scratch))
                for operation in ("check", "revision"):
                    own, other = found["Ampho", operation], found["Flask-Migrate", operation]
                    print(
                        f"{size:7} {backend:11} {operation:10} {own:5.2f} s {other:8.2f} s {own / other:11.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
