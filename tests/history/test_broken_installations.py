"""Every command on every kind of broken installation: it does its work, or says in one line what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from facade import facade, one_error_line
from project import Project

import ampho
from ampho.cli.commands import cli

COMMANDS = """
    db-status, db-status --all, db-status shop, db-current, db-current -v, db-show, db-show shop, db-show shop_1,
    db-heads, db-heads --write, db-check --heads,
    db-log, db-graph, db-graph --full, db-graph --no-database, db-check, db-check shop, db-check --deploy,
    db-check --scratch, db-wait --timeout 0, db-up --plan, db-up -s, db-up -s shop --start base, db-lint, db-lint shop,
    db-rev core More, db-rev shop More, db-rev core Tables -a, db-rev shop Tables -a --scratch, db-merge shop,
    db-rebase shop, db-stamp shop, db-up, db-up shop, db-up core, db-down --plan, db-down -s, db-down,
    db-down shop@base, db-down core_1 --cascade, db-forget shop, db-resolve core_1 --applied, db-stamp heads --purge,
    db-init shop, db-adopt core --into shop --plan, db-squash shop --plan, explain JournalError
"""
EVERY = [command.split() for command in COMMANDS.replace("\n", " ").split(",")]
NOT_HERE = {"completion", "shell"}

Break = Callable[[Project], object]


def versions(project: Project, name: str = "shop") -> Path:
    return project.migrations(name) / "versions"


def init(text: str) -> Break:
    return lambda project: project.write("shop/__init__.py", text)


def revision(source: bytes | str, name: str = "shop_2.py") -> Break:
    text = source.encode() if isinstance(source, str) else source
    return lambda project: (versions(project) / name).write_bytes(text)


def host(name: str, source: bytes | str) -> Break:
    text = source.encode() if isinstance(source, str) else source
    return lambda project: (project.migrations("core") / name).write_bytes(text)


def instead(path: str, put: Callable[[Path], object]) -> Break:
    """Put something else where a file or a folder is."""

    def put_instead(project: Project) -> None:
        place = project.folder / path
        if place.exists():
            place.rename(project.folder / "moved away")
        put(place)

    return put_instead


def loop(place: Path) -> None:
    place.symlink_to(place)


def to_nothing(place: Path) -> None:
    place.symlink_to("nowhere at all")


HEADER = "revision = {!r}\ndown_revision = {!r}\n"
BROKEN: dict[str, tuple[Break, str]] = {
    "the package raises": (init("raise RuntimeError('broken')\n"), "RuntimeError: broken"),
    "the package exits": (init("raise SystemExit(3)\n"), "sys.exit(3) was called"),
    "the package is no Python": (init("def f(:\n"), "SyntaxError"),
    "the package has a NUL": (init("x = 1\0\n"), "null bytes"),
    "the package imports itself in a circle": (
        lambda project: (
            project.write("shop/__init__.py", "from shop.models import Item\n"),
            project.write("shop/models.py", "from shop import Item\n"),
        ),
        "ImportError",
    ),
    "the package has an odd path": (init("__path__ = 5\n"), ""),
    "the package takes itself out of sys.modules": (init("import sys\ndel sys.modules[__name__]\n"), ""),
    "the models raise": (lambda project: project.write("shop/models.py", "1 / 0\n"), "ZeroDivisionError"),
    "the models exit": (lambda project: project.write("shop/models.py", "raise SystemExit\n"), "sys.exit() was called"),
    "the models are a pipe": (lambda project: os.mkfifo(project.folder / "shop" / "models.py"), ""),
    "a module": (
        lambda project: (instead("shop", Path.touch)(project), project.write("shop.py", "")),
        "shop has no migrations folder",
    ),
    "a namespace": (lambda project: (project.folder / "shop" / "__init__.py").unlink(), "shop has no __init__.py"),
    "a folder for __init__.py": (instead("shop/__init__.py", Path.mkdir), "shop has no __init__.py"),
    "a file": (instead("shop", Path.touch), "There is no package shop"),
    "gone": (lambda project: (project.folder / "shop").rename(project.folder / "moved away"), "no package shop"),
    "migrations are a file": (instead("shop/migrations", Path.touch), "shop/migrations of shop is not a folder"),
    "migrations lead to nothing": (instead("shop/migrations", to_nothing), "shop/migrations"),
    "migrations are a loop": (instead("shop/migrations", loop), "shop/migrations"),
    "versions are a file": (instead("shop/migrations/versions", Path.touch), "versions of shop cannot be read"),
    "versions lead to nothing": (instead("shop/migrations/versions", to_nothing), "versions of shop cannot be read"),
    "versions are a loop": (instead("shop/migrations/versions", loop), "versions of shop cannot be read"),
    "versions are a pipe": (instead("shop/migrations/versions", os.mkfifo), "versions of shop cannot be read"),
    "a pipe": (lambda project: os.mkfifo(versions(project) / "shop_2.py"), "shop_2.py of shop cannot be read"),
    "a device": (lambda project: (versions(project) / "shop_2.py").symlink_to("/dev/zero"), "it is not a regular file"),
    "a link to nothing": (
        lambda project: to_nothing(versions(project) / "shop_2.py"),
        "shop_2.py of shop cannot be read",
    ),
    "a folder with a file's name": (lambda project: (versions(project) / "shop_2.py").mkdir(), ""),
    "binary": (revision(bytes(range(256))), "shop_2.py of shop cannot be parsed"),
    "Latin-1": (revision('"""größer"""\nrevision = "shop_2"\n'.encode("latin-1")), "cannot be parsed"),
    "an unknown encoding": (revision(b"# coding: klingon\n"), "shop_2.py of shop cannot be parsed"),
    "no Python": (revision("def f(:\n"), "shop_2.py of shop cannot be parsed: line 1"),
    "NULs": (revision(b"\0" * 100), "shop_2.py of shop cannot be parsed"),
    "empty": (revision(""), "shop_2.py of shop has no revision id"),
    "too deep": (revision("x = " + "(" * 5000 + ")" * 5000), "shop_2.py of shop cannot be parsed"),
    "an id of two files": (revision(HEADER.format("shop_1", None)), "Two files have the id shop_1"),
    "a circle": (revision(HEADER.format("shop_2", "shop_2")), "shop_2 -> shop_2"),
    "no parent": (revision(HEADER.format("shop_2", "gone")), "gone, which no revision file defines"),
    "no dependency": (
        revision(HEADER.format("shop_2", "shop_1") + "depends_on = 'gone'\n"),
        "gone, which no revision file defines",
    ),
    "no down_revision": (revision("revision = 'shop_2'\n"), "has no down_revision"),
    "a label of two": (
        revision(HEADER.format("shop_2", "shop_1") + "branch_labels = 'shop'\n"),
        "has the branch label shop",
    ),
    "a head that raises": (revision("revision = str(1 / 0)\n"), "cannot be imported: ZeroDivisionError"),
    "a head that exits": (revision("import sys\nrevision = sys.exit(0)\n"), "sys.exit(0) was called"),
    "no functions": (revision(HEADER.format("shop_2", "shop_1")), "has no function upgrade()"),
    "functions that are none": (revision(HEADER.format("shop_2", "shop_1") + "upgrade = 5\n"), "has no function"),
    "an import that fails": (revision("import nowhere\n" + HEADER.format("shop_2", "shop_1")), "No module named"),
    "what exits when it is run": (
        revision(HEADER.format("shop_2", "shop_1") + "raise SystemExit\ndef upgrade(): pass\n"),
        "sys.exit() was called",
    ),
    "alembic.ini is garbage": (host("alembic.ini", "[alembic\n\0\x01"), "alembic.ini cannot be"),
    "alembic.ini is binary": (host("alembic.ini", bytes(range(256))), "alembic.ini cannot be"),
    "alembic.ini is empty": (host("alembic.ini", ""), ""),
    "alembic.ini is a folder": (instead("core/migrations/alembic.ini", Path.mkdir), ""),
    "alembic.ini is a pipe": (instead("core/migrations/alembic.ini", os.mkfifo), ""),
    "alembic.ini repeats itself": (host("alembic.ini", "[alembic]\nx = 1\nx = 2\n"), "alembic.ini cannot be"),
    "alembic.ini needs what is not there": (host("alembic.ini", "[alembic]\nfile_template = %(x)s\n"), "alembic.ini"),
    "env.py is no Python": (host("env.py", "import ampho.environment\ndef f(:\n"), "env.py failed at"),
    "env.py raises": (host("env.py", "import ampho.environment\n1 / 0\n"), "ZeroDivisionError"),
    "env.py exits": (host("env.py", "import ampho.environment, sys\nsys.exit(0)\n"), "sys.exit(0) was called"),
    "env.py is Latin-1": (
        host("env.py", "import ampho.environment\n'größer'\n".encode("latin-1")),
        "env.py failed at",
    ),
    "env.py is binary": (host("env.py", b"import ampho.environment\n" + bytes(range(256))), "env.py failed at"),
    "env.py is empty": (host("env.py", ""), ""),
    "env.py does nothing": (host("env.py", "import ampho.environment\n"), "never runs the migrations"),
    "env.py is a folder": (instead("core/migrations/env.py", Path.mkdir), ""),
    "env.py is a pipe": (instead("core/migrations/env.py", os.mkfifo), ""),
    "the template is broken": (host("script.py.mako", "${"), "script.py.mako cannot be rendered"),
    "the template is binary": (host("script.py.mako", bytes(range(256))), "script.py.mako cannot be rendered"),
    "the template raises": (host("script.py.mako", "${1/0}"), "script.py.mako cannot be rendered"),
    "the template is a folder": (instead("core/migrations/script.py.mako", Path.mkdir), ""),
    "the template is a pipe": (instead("core/migrations/script.py.mako", os.mkfifo), ""),
}


TEMPLATES = Path(ampho.__file__).parent / "templates"
TEMPLATE = {
    "env.py": (TEMPLATES / "sync" / "env.py").read_bytes(),
    "script.py.mako": (TEMPLATES / "script.py.mako").read_bytes(),
    "alembic.ini": b"[alembic]\nscript_location = %(here)s\n",
}


@pytest.mark.measured("gone", "the models exit", "alembic.ini is binary", "migrations lead to nothing", "a module")
@pytest.mark.parametrize(("break_it", "what"), BROKEN.values(), ids=BROKEN)
def test_every_command_works_or_says_in_one_line_what_is_wrong(project: Project, break_it: Break, what: str) -> None:
    for name in ("core", "shop"):
        project.package(name)
        project.revision(name, f"{name}_1", upgrade=f"op.create_table('{name}', sa.Column('id', sa.Integer))")
    for name in ("env.py", "alembic.ini", "script.py.mako"):
        project.migrations("core").joinpath(name).write_bytes(TEMPLATE[name])
    with facade(project, "flask", ["core"], "sqlite:///app.db") as each:
        assert each.run("db-up").exit_code == 0
    break_it(project)
    said = []
    with facade(project, "flask", ["core", "shop"], "sqlite:///app.db") as each:
        for command in EVERY:
            found = each.run(*command)
            assert isinstance(found.exception, SystemExit | None), (command, found.exception)
            assert "Traceback" not in found.output, (command, found.output)
            if found.exit_code and command[0] != "db-check" and command[0] != "db-lint":
                one_error_line(found.stderr)
            said.append(found.stderr)
    assert what in " ".join(" ".join(said).split())


def test_every_command_is_tried() -> None:
    assert {command[0] for command in EVERY} >= set(cli.commands) - NOT_HERE
