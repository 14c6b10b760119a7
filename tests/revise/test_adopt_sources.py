"""``db-adopt``: histories of several lines, of modules, and of installed packages, made by the real tools."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from facade import FRAMEWORKS, URLS, Facade, facade
from flask import Flask
from flask_alembic import Alembic
from flask_sqlalchemy import SQLAlchemy
from project import Project

from ampho.errors import DuplicateRevisionError, MissingRevisionError, PackageNotFoundError, RevisionInputError
from ampho.revise.adopt.env_py import read_own

FILTERS = "def include_object(*words):\n    return True\n"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep the handlers of the loggers that Flask-Alembic changes."""
    loggers = [logging.getLogger(name) for name in ("alembic", "sqlalchemy")]
    before = [(each, each.handlers[:], each.level) for each in loggers]
    yield
    for each, handlers, level in before:
        each.handlers[:] = handlers
        each.setLevel(level)


def filled(path: str | Path, table: str) -> None:
    """Let a new revision create a table."""
    text = Path(path).read_text()
    create = f"op.create_table({table!r}, sa.Column('id', sa.Integer))"
    Path(path).write_text(text.replace("    pass\n", f"    {create}\n", 1))


def flask_alembic(project: Project, settings: dict[str, Any], context: dict[str, Any], **branches: str) -> None:
    """Make a history with Flask-Alembic, and apply it.

    :param branches: for each branch, the id of its revision, which depends on that of the branch before.
    """
    app = Flask("old", root_path=str(project.folder), instance_path=str(project.folder / "instance"))
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite:///app.db", ALEMBIC=settings, ALEMBIC_CONTEXT=context)
    db, alembic = SQLAlchemy(app), Alembic(app)
    with app.app_context():
        depend = None
        for branch, name in branches.items():
            alembic.rev_id = lambda name=name: name  # type: ignore[method-assign,misc]
            made = alembic.revision(branch, empty=True, branch=branch, depend=depend)
            filled(made[0].path, branch)  # type: ignore[union-attr]
            depend = name
            alembic._get_cache().clear()
        alembic.upgrade()
        db.engine.dispose()


def alembic(project: Project, *, settings: str = "", template: str = "generic") -> Config:
    """Make a folder ``history`` with Alembic."""
    ini = project.folder / "alembic.ini"
    toml = project.folder / "pyproject.toml"
    command.init(Config(ini, toml_file=toml), str(project.folder / "history"), template=template)
    ini.write_text(ini.read_text().replace("[alembic]\n", f"[alembic]\n{settings}", 1))
    return Config(ini, toml_file=toml if template == "pyproject" else None)


def revise(config: Config, name: str, **how: Any) -> None:
    made = command.revision(config, name, rev_id=name, **{"head": "base", **how})
    filled(made.path, name)  # type: ignore[union-attr]


def packages(project: Project, *names: str) -> None:
    for name in names:
        project.package(name)


def steps(each: Facade) -> list[str]:
    return [step.revision.id for step in each.call("upgrade").steps]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_each_branch_of_flask_alembic_goes_into_the_package_of_its_label(framework: str, project: Project) -> None:
    packages(project, "blog", "acme.shop")
    project.write("filters.py", FILTERS)
    with project.importing():
        import filters  # type: ignore[import-not-found]

        context = {
            "include_object": filters.include_object,
            "version_table": "versions",
            "render_item": lambda *_: False,
            "compare_server_default": True,
        }
        settings = {
            "version_locations": [("blog", "lines/blog"), ("shop", "acme/shop/migrations")],
            "timezone": "UTC",
        }
        flask_alembic(project, settings, context, default="d1", blog="b1", shop="s1")
        config = {"ALEMBIC": settings, "ALEMBIC_CONTEXT": context}
        with facade(project, framework, ["core", "blog", "acme.shop"], URLS[framework], **config) as each:
            packages(project, "core")
            assert "No listed package has a label of d1 in migrations" in each.error_line("db-adopt")
            before = project.files()
            planned = each.call("adopt", package="core", plan=True)
            assert (planned.is_planned, project.files()) == (True, before)

            done = each.call("adopt", package="core")
            moved = {part.package: part.revisions for part in (done, *done.others)}
            assert moved == {"core": ("d1",), "blog": ("b1",), "acme.shop": ("s1",)}
            assert done.arguments == ("include_object=include_object", "version_table='versions'")
            assert done.by_hand == (
                'app.config["ALEMBIC_CONTEXT"]: render_item=<lambda>',
                'app.config["ALEMBIC"]: timezone = UTC',
            )
            for name in ("core", "blog", "acme.shop"):
                env = (project.migrations(name) / "env.py").read_text()
                assert "from filters import include_object\n" in env
            current = each.call("current")
            assert [current[name].current for name in moved] == [*moved.values()]
            assert steps(each) == []
            assert each.call("adopt", package="core").revisions == ()
            assert each.run("db-rev", "blog", "Go on").exit_code == 0
            assert len(steps(each)) == 1


def test_flask_alembic_s_own_folder_is_taken_over_by_a_module(project: Project) -> None:
    project.write("site_.py", "")
    flask_alembic(project, {}, {"include_name": print}, default="d1")
    config = {"ALEMBIC": {"script_location": "migrations"}, "ALEMBIC_CONTEXT": {"include_name": print}}
    with facade(project, "flask", ["site_"], URLS["flask"], **config) as each:
        assert each.run("db-adopt", "--plan").stdout.startswith(
            "Would move 1 revision from migrations to migrations: d1"
        )
        done = each.call("adopt", "migrations")
        assert (done.revisions, done.is_in_place) == (("d1",), False)
        assert [path.name for path in done.left] == ["script.py.mako.old"]
        assert done.by_hand == ('app.config["ALEMBIC_CONTEXT"]: include_name=<built-in function print>',)
        assert (project.folder / "migrations" / "versions" / "d1_default.py").exists()
        assert steps(each) == []


def test_the_files_of_installed_packages_stay_where_they_are(project: Project) -> None:
    """As those that Invenio-DB finds by the entry points of distributions."""
    packages(project, "blog")
    site = project.folder / "site-packages"
    packages(project, "site-packages.inv.files")
    (site / "__init__.py").unlink()
    settings = {
        "script_location": "site-packages/inv/files/alembic",
        "version_locations": [("blog", "blog/alembic")],
    }
    flask_alembic(project, settings, {}, default="f1", blog="b1")
    listed = {"AMPHO_MIGRATION_PACKAGES": ["blog"], "ALEMBIC": settings}
    sys.path.insert(0, str(site))
    try:
        with facade(project, "flask", None, URLS["flask"], **listed) as each:
            before = sorted(site.rglob("*.py"))
            done = each.call("adopt")
            assert (done.package, done.revisions, done.installed) == ("blog", ("b1",), ("inv.files:alembic",))
            assert sorted(site.rglob("*.py")) == before
            shown = each.run("db-adopt").stdout
            assert "Add to AMPHO_MIGRATION_PACKAGES: inv.files:alembic" in shown
        with facade(project, "flask", ["blog", *done.installed], URLS["flask"]) as each:
            assert steps(each) == []
            assert each.call("current")["inv.files"].current == ("f1",)
    finally:
        sys.path.remove(str(site))


def test_labelled_lines_of_alembic_go_into_their_packages(project: Project) -> None:
    packages(project, "blog", "shop", "core")
    places = "\n".join(f"    %(here)s/lines/{name}" for name in ("all", "more"))
    settings = f"version_locations =\n{places}\nrecursive_version_locations = true\n"
    config = alembic(project, settings=settings)
    config.set_main_option("path_separator", "newline")
    ini = project.folder / "alembic.ini"
    ini.write_text(ini.read_text().replace("path_separator = os", "path_separator = newline"))
    revise(config, "b1", version_path=str(project.folder / "lines/all"), branch_label="blog")
    revise(config, "s1", version_path=str(project.folder / "lines/all"), branch_label="shop", depends_on="b1")
    revise(config, "b2", head="b1", version_path=str(project.folder / "lines/more"))
    deep = project.folder / "lines" / "more" / "2026" / "b2_b2.py"
    deep.parent.mkdir()
    (project.folder / "lines" / "more" / "b2_b2.py").rename(deep)
    project.write("lines/more/helper.sql", "SELECT 1")
    with facade(project, "flask", ["core", "blog", "shop"], URLS["flask"]) as each:
        done = each.call("adopt")
        assert {part.package: part.revisions for part in (done, *done.others)} == {
            "blog": ("b1", "b2"),
            "shop": ("s1",),
        }
        assert [path.name for path in done.left] == ["README", "env.py", "script.py.mako", "versions", "alembic.ini"]
        assert (project.migrations("blog") / "versions" / "2026" / "b2_b2.py").exists()
        assert (project.migrations("blog") / "versions" / "helper.sql").exists()
        assert not (project.folder / "lines" / "all").exists()
        assert sorted(steps(each)) == ["b1", "b2", "s1"]
        assert "Nothing to do" in each.run("db-adopt", "--into", "core").stdout


def test_lines_that_are_merged_or_have_no_label_need_a_package(project: Project) -> None:
    packages(project, "blog", "shop", "core")
    config = alembic(project)
    revise(config, "b1", branch_label="blog")
    revise(config, "s1", branch_label="shop")
    command.merge(config, ["b1", "s1"], rev_id="m1")
    with facade(project, "flask", ["core", "blog", "shop"], URLS["flask"]) as each:
        with pytest.raises(PackageNotFoundError, match="--into PACKAGE: 3 packages are configured"):
            each.call("adopt", "history")
        with pytest.raises(
            DuplicateRevisionError, match=r"b1 of core .* has the branch label blog, .* Remove the label"
        ):
            each.call("adopt", "history", "core")
        for path in project.folder.glob("history/versions/*.py"):
            path.write_text(re.sub("^branch_labels.*", "branch_labels = None", path.read_text(), flags=re.MULTILINE))
        assert each.call("adopt", "history", "core").revisions == ("b1", "s1", "m1")
        assert steps(each) == ["b1", "s1", "m1"]


def test_settings_in_pyproject_toml_are_read_and_listed(project: Project) -> None:
    packages(project, "blog")
    project.write("pyproject.toml", '[project]\nname = "blog"\n')
    config = alembic(project, template="pyproject")
    toml = project.folder / "pyproject.toml"
    text = toml.read_text().replace("[tool.alembic]\n", '[tool.alembic]\ntimezone = "UTC"\n', 1)
    revise(config, "one")
    toml.write_text(text + '\n[[tool.alembic.post_write_hooks]]\nname = "ruff"\n')
    with facade(project, "flask", ["blog"], URLS["flask"]) as each:
        done = each.call("adopt", "pyproject.toml")
        lines = toml.read_text().splitlines()
        found = [f"pyproject.toml:{lines.index(text) + 1}: {text}" for text in ('timezone = "UTC"', 'name = "ruff"')]
        assert (done.revisions, list(done.by_hand)) == (("one",), found)
        assert toml.name not in [path.name for path in done.left]
        assert steps(each) == ["one"]


AGAIN = "  (add this before you migrate, or every revision will run again)"
ENV = {
    "advanced_alchemy": (
        "",
        "",
        [
            "compare_type=config.compare_type",
            f"version_table=config.version_table_name{AGAIN}",
            f"version_table_schema=config.version_table_schema{AGAIN}",
            "render_as_batch=config.render_as_batch",
        ],
    ),
    "alembic": (
        "fileConfig(config.config_file_name)",
        "fileConfig(config.config_file_name, disable_existing_loggers=False)\n    tenant = context.get_x_argument()",
        [
            "fileConfig(config.config_file_name, disable_existing_loggers=False)",
            "tenant = context.get_x_argument()",
        ],
    ),
}


@pytest.mark.parametrize("tool", ENV)
def test_what_an_env_py_does_is_copied_or_listed_with_its_line(tool: str) -> None:
    from importlib.util import find_spec

    spec = find_spec(tool)
    assert spec
    assert spec.origin
    before, after, expected = ENV[tool]
    root = Path(spec.origin).parent
    for path in [*root.glob("templates/generic/env.py"), *root.glob("alembic/templates/*/env.py")]:
        text = path.read_text().replace(before, after, 1) if before else path.read_text()
        assert not read_own(path.read_text()).arguments
        lines = text.splitlines()
        found = read_own(text).notes
        assert [note for _, note in found] == expected
        assert all(note.partition("  (")[0] in lines[line - 1] for line, note in found)


def test_a_rewriter_is_copied_with_its_functions() -> None:
    source = (
        "from alembic import context, operations\nfrom alembic.autogenerate import rewriter\n\n"
        "writer = rewriter.Rewriter()\n\n\n"
        "@writer.rewrites(operations.ops.AddColumnOp)\ndef add(context, revision, op):\n    return op\n\n\n"
        "context.configure(connection=None, process_revision_directives=writer, version_table='v')\n"
    )
    own = read_own(source)
    assert own.arguments == {"process_revision_directives": "writer", "version_table": "'v'"}
    assert own.notes == ()
    assert [each.partition("\n")[0] for each in own.definitions][-2:] == [
        "writer = rewriter.Rewriter()",
        "def add(context, revision, op):",
    ]


def test_an_env_py_of_ampho_keeps_its_own_arguments(project: Project) -> None:
    packages(project, "blog")
    config = alembic(project)
    revise(config, "one")
    env = project.folder / "history" / "env.py"
    call = "connection=connection, target_metadata=target_metadata"
    env.write_text(env.read_text().replace(call, f"{call}, version_table='old', include_schemas=False"))
    with facade(project, "flask", ["blog"], URLS["flask"]) as each:
        each.call("init", "blog")
        new = project.migrations("blog") / "env.py"
        new.write_text(new.read_text().replace("connection=connection,", "connection=connection, version_table='new',"))
        done = each.call("adopt", "alembic.ini")
        assert (done.arguments, done.by_hand) == (
            ("include_schemas=False",),
            ("version_table='old': env.py has a different one",),
        )
        assert steps(each) == ["one"]


def test_what_has_no_history_leads_to_the_commands_for_tables(project: Project) -> None:
    packages(project, "blog")
    with facade(project, "flask", ["blog"], URLS["flask"]) as each:
        for line in (each.error_line("db-adopt"), each.error_line("db-adopt", "--into", "blog")):
            assert "There is no history here: no folder migrations, no alembic.ini" in line
            assert "--scratch', and record it with 'ampho db-stamp" in line
        alembic(project)
        found = each.run("db-adopt", "history").stdout
        assert found.startswith("Nothing to do: history has no revision files")
        assert "'ampho db-rev blog Initial -a --scratch'" in found
        project.write("broken/pyproject.toml", "[tool.alembic\n")
        project.write("here/pyproject.toml", "[tool.alembic]\nscript_location = 'nowhere'\n")
        for name in ("broken", "here"):
            with pytest.raises(RevisionInputError, match=f"{name}/pyproject.toml cannot be read"):
                each.call("adopt", f"{name}/pyproject.toml")
        revise(Config(project.folder / "alembic.ini"), "one")
        path = next(project.folder.glob("history/versions/*.py"))
        path.write_text(re.sub("^depends_on.*", "depends_on = 'x'", path.read_text(), flags=re.MULTILINE))
        with pytest.raises(MissingRevisionError, match="depends on x"):
            each.call("adopt", "history")


KILLED = """
import os
import signal
import sys


def kill(event, args):
    if event in ("os.rename", "os.remove") and os.environ.get("KILL_AT") == " ".join(
        os.path.basename(str(each)) for each in args if isinstance(each, (str, os.PathLike))
    ):
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(kill)
from flask import Flask
from ampho import Ampho
app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///app.db"
app.config["AMPHO_MIGRATION_PACKAGES"] = os.environ["PACKAGE"]
Ampho(app)
"""


@pytest.mark.parametrize("package", ["app", "blog"])
def test_a_second_run_completes_what_a_kill_interrupted(package: str, project: Project) -> None:
    """SIGKILL, which no process hears, at each step; the command is run again each time."""
    packages(project, "blog")
    project.write("app.py", KILLED)
    config = alembic(project)
    (project.folder / "history").rename(project.folder / "migrations")
    config.set_main_option("script_location", str(project.folder / "migrations"))
    for name, head in (("one", "base"), ("two", "one")):
        revise(config, name, head=head)
    (project.folder / "alembic.ini").rename(project.folder / "migrations" / "alembic.ini")
    env = project.folder / "migrations" / "env.py"
    env.write_text(env.read_text().replace("connection=connection,", "connection=connection, version_table='old',"))
    before = project.files()

    def run(kill_at: str, *options: str) -> Any:
        return project.run(
            "ampho", "db-adopt", "migrations", *options, env={"KILL_AT": kill_at, "PACKAGE": package}, check=False
        )

    points = [".ampho-adopt.new .ampho-adopt", ".ampho-adopt.new env.py", ".ampho-adopt.new README", ".ampho-adopt"]
    points[1:1] = (
        ["env.py env.py.old", "script.py.mako script.py.mako.old"]
        if package == "app"
        else ["one_one.py one_one.py", "two_two.py two_two.py"]
    )
    for number, point in enumerate(points):
        killed = run(point)
        assert killed.exit_code not in (0, 1), (point, killed)
        assert {path for path in before if "versions" not in path} <= {
            path.removesuffix(".old") for path in project.files()
        }
        assert sum("versions" in path for path in project.files()) == 2
        if number:
            assert "Complete it by running it again" in run("", "--plan").stderr
    done = run("")
    assert done.exit_code == 0, done
    folder = "migrations" if package == "app" else "blog/migrations"
    files = project.files()
    assert {f"{folder}/versions/one_one.py", f"{folder}/versions/two_two.py"} <= files.keys()
    assert not [path for path in files if ".ampho" in path]
    assert files["migrations/env.py.old" if package == "app" else "migrations/env.py"] == before["migrations/env.py"]
    assert project.read(f"{folder}/env.py").count("version_table='old',") == 1
    assert "Nothing to do" in run("").stdout
