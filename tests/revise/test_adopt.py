"""``db-adopt``: histories that the real tools made, moved into a package."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from facade import FRAMEWORKS, URLS, facade
from project import Project

from ampho.errors import MissingRevisionError, PackageNotFoundError, RevisionInputError

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

FLASK_MIGRATE = """
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = {url!r}
Migrate(app, SQLAlchemy(app))
"""
INCLUDE = '''
import re
from re import compile as pattern

SKIPPED = pattern("tmp_")


def is_ours(name):
    return not SKIPPED.match(name or "") and re.escape("x")


def include_object(thing, name, type_, reflected, compare_to):
    """Leave out what others make."""
    return is_ours(name)


'''


def old_database(url: str) -> str:
    """The URL for a tool that has only a sync driver of SQLite."""
    return url.replace("+aiosqlite", "")


def fill(path: Path, table: str) -> None:
    """Let a new revision create a table."""
    head, upgrade, tail = path.read_text().partition("def upgrade()")
    body, downgrade, rest = tail.partition("def downgrade()")
    create = f"op.create_table({table!r}, sa.Column('id', sa.Integer))"
    path.write_text(head + upgrade + body.replace("    pass\n", f"    {create}\n") + downgrade + rest)


def flask_migrate(project: Project, url: str, *, more: str = "", arguments: str = "") -> None:
    """Make a folder ``migrations`` with two revisions, as Flask-Migrate does, and apply them."""
    project.write("old.py", FLASK_MIGRATE.format(url=old_database(url)))
    run = lambda *words: project.run("flask", "--app", "old", "db", *words)  # noqa: E731
    run("init")
    for name in ("one", "two"):
        run("revision", "-m", name, "--rev-id", name)
        fill(project.folder / "migrations" / "versions" / f"{name}_{name}.py", name)
    env = project.folder / "migrations" / "env.py"
    text = env.read_text().replace("def get_metadata():", f"{more}def get_metadata():")
    # In Flask-Migrate 4.0.0, this is **current_app.extensions['migrate'].configure_args.
    line = re.compile(r"^ {12}\*\*(conf_args|current_app.+)$", re.MULTILINE)
    env.write_text(line.sub(lambda found: arguments + found[0], text))
    run("upgrade")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_folder_of_flask_migrate_goes_on_where_it_was(framework: str, project: Project) -> None:
    project.package("blog")
    flask_migrate(project, URLS[framework])
    before = {path: content for path, content in project.files().items() if "migrations" in path}
    with facade(project, framework, ["blog"], URLS[framework]) as each:
        planned = each.run("db-adopt", "migrations", "--plan")
        assert planned.stdout.startswith("Would move 2 revisions from migrations to blog/migrations: one, two\n")
        assert "not copied" not in planned.stdout, planned.stdout
        assert {path: content for path, content in project.files().items() if "migrations" in path} == before

        done = each.call("adopt", "migrations", "blog")
        assert (done.revisions, done.arguments, done.by_hand) == (("one", "two"), (), ())
        assert [each.target.name for each in done.moved] == ["one_one.py", "two_two.py"]
        assert all(each.target.is_file() and not each.source.exists() for each in done.moved)
        assert [path.name for path in done.left] == ["README", "alembic.ini", "env.py", "script.py.mako"]
        assert each.call("current")["blog"].current == ("two",)
        assert "Nothing to do" in each.run("db-up").stdout
        assert each.run("db-adopt", "migrations").stdout.startswith("Nothing to do: migrations has no revision files")

        assert each.run("db-rev", "blog", "Go on").exit_code == 0
        assert each.run("db-up").exit_code == 0
        assert each.run("db-down", "blog@-1", "--yes").exit_code == 0


def test_a_module_takes_over_the_folder_beside_it(project: Project) -> None:
    project.write("notes.py", "")
    flask_migrate(project, URLS["quart"], arguments="            include_schemas=False,\n")
    old = project.read("migrations/env.py")
    with facade(project, "quart", ["notes"], URLS["quart"]) as each:
        assert "'ampho db-adopt migrations --into notes'" in each.run("db-status").stderr
        planned = each.run("db-adopt", "--plan").stdout
        assert planned.startswith("Would take over 2 revisions of notes in migrations, with a new env.py: one, two\n")
        done = each.run("db-adopt").stdout
        assert "Took over 2 revisions" in done
        assert "Copied to migrations/env.py: include_schemas=False\n" in done
        kept = ("README", "alembic.ini", "env.py", "script.py.mako")
        assert f"No longer used: {', '.join(f'migrations/{name}.old' for name in kept)}. Delete" in done
        assert project.read("migrations/env.py.old") == old
        assert "asyncio" in project.read("migrations/env.py")
        assert each.call("current")["notes"].current == ("two",)
        assert each.run("db-status").stderr == ""
        assert each.run("db-adopt").stdout.startswith("Nothing to do: migrations has no revision files")


def test_a_package_takes_over_its_own_folder_and_keeps_what_its_revisions_may_use(project: Project) -> None:
    project.package("blog")
    project.package("core")
    flask_migrate(project, URLS["flask"])
    shutil.move(project.folder / "migrations", project.folder / "blog")
    project.write("blog/migrations/helpers.py", "")
    with facade(project, "flask", ["core", "blog"], URLS["flask"]) as each:
        done = each.run("db-adopt")
        assert "Took over 2 revisions of blog in blog/migrations, with a new env.py: one, two\n" in done.stdout
        assert "  blog/migrations/helpers.py: it stays where it is, because revisions may use it\n" in done.stdout
        unused = done.stdout.partition("No longer used: ")[2].partition(". Delete")[0]
        assert "env.py.old" in unused
        assert "helpers" not in unused
        assert (project.folder / "blog" / "migrations" / "helpers.py").exists()
        assert each.call("current")["blog"].current == ("two",)
        assert "There is no history here" in each.run("db-adopt").stderr


def test_arguments_are_copied_with_what_they_use_and_the_rest_is_listed(project: Project) -> None:
    project.package("blog")
    arguments = (
        "            include_schemas=False,\n            version_table='versions',\n"
        "            include_object=include_object,\n"
        "            render_item=lambda *words: config.render(words),\n"
    )
    flask_migrate(project, URLS["flask"], more=INCLUDE, arguments=arguments)
    env = project.folder / "migrations" / "env.py"
    text = env.read_text().replace(
        "        with context.begin_transaction():\n            context.run_migrations()\n\n\nif",
        "        connection.exec_driver_sql('PRAGMA foreign_keys = ON')\n"
        "        with context.begin_transaction():\n            context.run_migrations()\n\n\nif",
    )
    env.write_text(text)
    ini = project.folder / "migrations" / "alembic.ini"
    ini.write_text(ini.read_text().replace("[alembic]\n", "[alembic]\ntimezone = UTC\n", 1))
    mako = project.folder / "migrations" / "script.py.mako"
    mako.write_text("## ours\n" + mako.read_text())
    lines = env.read_text().splitlines()
    with facade(project, "flask", ["blog"], URLS["flask"]) as each:
        done = each.call("adopt", "migrations")
        assert done.arguments == ("include_schemas=False", "version_table='versions'", "include_object=include_object")
        render, pragma = _line(lines, "render_item"), _line(lines, "exec_driver_sql")
        assert done.by_hand == (
            f"migrations/env.py:{render}: render_item=lambda *words: config.render(words)",
            f"migrations/env.py:{pragma}: connection.exec_driver_sql('PRAGMA foreign_keys = ON')",
            f"migrations/alembic.ini:{_line(ini.read_text().splitlines(), 'timezone')}: timezone = UTC",
            "migrations/script.py.mako: it is not the template of the tool",
        )
        new = (project.migrations("blog") / "env.py").read_text()
        assert new.index("from re import compile as pattern") < new.index("SKIPPED =") < new.index("def is_ours")
        assert new.index("def include_object") < new.index("def run_migrations")
        assert each.call("current")["blog"].current == ("two",), "the version table has its old name"
        assert each.run("db-rev", "blog", "Go on", "-a").exit_code == 0


def _line(lines: list[str], word: str) -> int:
    return next(number for number, line in enumerate(lines, 1) if word in line)


@pytest.mark.parametrize("template", ["generic", "async", "pyproject"])
def test_a_history_of_alembic_is_found_by_its_settings(template: str, project: Project) -> None:
    project.package("blog")
    if template == "pyproject":
        project.write("pyproject.toml", "")
    project.run("alembic", "init", "-t", template, "history")
    for name, down in (("one", "base"), ("two", "one")):
        project.run("alembic", "revision", "-m", name, "--rev-id", name, "--head", down)
        fill(project.folder / "history" / "versions" / f"{name}_{name}.py", name)
    source = "history" if template == "pyproject" else "alembic.ini"
    with facade(project, "flask", ["blog"], URLS["flask"]) as each:
        done = each.call("adopt", source, "blog")
        assert (done.revisions, done.by_hand) == (("one", "two"), ())
        assert [step.revision.id for step in each.call("upgrade").steps] == ["one", "two"]


def test_folders_of_several_branches_go_into_several_packages(project: Project) -> None:
    for package in ("blog", "shop"):
        project.package(package)
    project.run("alembic", "init", "history")
    ini = project.folder / "alembic.ini"
    places = os.pathsep.join(["%(here)s/lines/blog", "%(here)s/lines/shop"])
    ini.write_text(ini.read_text().replace("[alembic]\n", f"[alembic]\nversion_locations = {places}\n", 1))
    base = ("revision", "--head", "base", "--version-path")
    project.run("alembic", *base, "lines/blog", "-m", "b", "--rev-id", "b1", "--branch-label", "blog")
    project.run("alembic", *base, "lines/shop", "-m", "s", "--rev-id", "s1", "--depends-on", "b1")
    with facade(project, "flask", ["blog", "shop"], URLS["flask"]) as each:
        with pytest.raises(MissingRevisionError, match=r"s1 of shop .* depends on b1"):
            each.call("adopt", "lines/shop", "shop")
        assert each.call("adopt", "lines/blog", "blog").revisions == ("b1",)
        assert each.call("adopt", "lines/shop", "shop").revisions == ("s1",)
        assert [step.revision.id for step in each.call("upgrade").steps] == ["b1", "s1"]


@pytest.mark.filterwarnings("ignore:The declarative_mixin decorator")
def test_a_history_of_advanced_alchemy_moves_with_its_version_table(project: Project) -> None:
    project.package("blog")
    project.write(
        "config.py",
        "from advanced_alchemy.config import AlembicAsyncConfig, SQLAlchemyAsyncConfig\n"
        "config = SQLAlchemyAsyncConfig(connection_string='sqlite+aiosqlite:///app.db',"
        " alembic_config=AlembicAsyncConfig(script_location='history'))\n",
    )
    run = lambda *words: project.run("alchemy", "--config", "config.config", *words, env={"PYTHONPATH": "."})  # noqa: E731
    run("init", "history", "--no-prompt")
    run("make-migrations", "-m", "one", "--no-prompt", "--no-autogenerate")
    with facade(project, "quart", ["blog"], URLS["quart"]) as each:
        done = each.call("adopt", "history", "blog")
        assert len(done.revisions) == 1
        assert [step.revision.id for step in each.call("upgrade").steps] == list(done.revisions)


def test_what_cannot_be_adopted_is_told_and_stays(project: Project) -> None:
    for package in ("blog", "shop"):
        project.package(package)
    project.revision("shop", "shop_1")
    flask_migrate(project, URLS["flask"])
    with facade(project, "flask", ["blog", "shop"], URLS["flask"]) as each:
        before = project.files()
        cases = {
            ("nowhere", "blog"): (RevisionInputError, "nowhere does not exist. Name the folder"),
            ("shop", "blog"): (RevisionInputError, "shop contains neither an env.py nor revision files"),
            ("migrations", "shop"): (RevisionInputError, "shop already has revisions"),
            ("migrations", None): (PackageNotFoundError, "--into PACKAGE: 2 packages are configured"),
        }
        for (source, package), (kind, words) in cases.items():
            with pytest.raises(kind, match=words):
                each.call("adopt", source, package)
        assert project.files() == before


@pytest.mark.parametrize("fails_at", ["write", "move"])
def test_a_failure_leaves_everything_where_it_was(
    fails_at: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.package("blog")
    flask_migrate(project, URLS["flask"])
    project.write(
        "migrations/more/three.py", "revision = 'three'\ndown_revision = 'two'\n\n\ndef upgrade():\n    pass\n"
    )
    ini = project.folder / "migrations" / "alembic.ini"
    places = os.pathsep.join(["%(here)s/versions", "%(here)s/more"])
    ini.write_text(
        ini.read_text().replace("[alembic]\n", f"[alembic]\npath_separator = os\nversion_locations = {places}\n", 1)
    )
    before = project.files()
    if fails_at == "move":
        (project.folder / "migrations" / "more" / "one_one.py").write_text("# not a revision of the line\n")
        before = project.files()
    with facade(project, "flask", ["blog"], URLS["flask"]) as each:
        if fails_at == "move":
            line = each.error_line("db-adopt", "migrations")
            assert line
        else:
            monkeypatch.setattr("shutil.move", _interrupted("three.py"))
            assert each.run("db-adopt", "migrations").exit_code != 0
            monkeypatch.undo()
        assert project.files() == before
        assert not project.migrations("blog").exists()
        (project.folder / "migrations" / "more" / "one_one.py").unlink(missing_ok=True)
        assert each.call("adopt", "migrations").revisions == ("one", "two", "three")
        assert [step.revision.id for step in each.call("upgrade").steps] == ["three"]


def _interrupted(name: str) -> Callable[[Path, Path], object]:
    """Stand in for a person who types Ctrl-C just before a file moves."""
    import shutil

    real = shutil.move

    def move(source: Path, target: Path) -> object:
        if Path(source).name == name:
            raise KeyboardInterrupt
        return real(source, target)

    return move
