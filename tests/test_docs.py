"""The documents are true: what they show happens, and what there is to say is said."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
from documents import ROOT, blocks, run_page, script
from project import Project
from servers import Database

import ampho
from ampho import errors
from ampho.cli.commands import cli
from ampho.cli.console import console
from ampho.cli.graph.labels import LOOKS

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

DOCS = ROOT / "docs"
SOURCES = [path for path in (ROOT / "ampho").rglob("*.py") if "templates" not in path.parts]
SETTING = re.compile(r"(AMPHO|FLASK|QUART|SQLALCHEMY)_[A-Z_]+")
ERRORS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.AmphoError)]


def text(page: str) -> str:
    return (DOCS / f"{page}.md").read_text("utf-8")


def section(page: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one of the same rank."""
    rank = heading.partition(" ")[0]
    return text(page).partition(f"\n{heading}\n")[2].partition(f"\n{rank} ")[0]


@pytest.fixture
def shop(tmp_path: Path) -> Project:
    """A copy of the example, in which a command has to say which app it means."""
    folder = tmp_path / "shop"
    shutil.copytree(ROOT / "examples/shop", folder, ignore=shutil.ignore_patterns("instance", "__pycache__"))
    return Project(folder)


PAGES = [path.stem for path in sorted(DOCS.glob("*.md"))]
ON_POSTGRESQL = "tenants"
RUN = [
    page
    for page in PAGES
    if page != ON_POSTGRESQL
    and any(
        block.language in {"console", "python"} and block.note[0] not in {"not run", "release", "revision"}
        for block in blocks(DOCS / f"{page}.md")
    )
]


@pytest.fixture
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder for temporary files, and so for templates, whose name is short enough for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield


@pytest.mark.usefixtures("own_temporary_folder")
@pytest.mark.timeout(300)  # the page about tests starts many processes
@pytest.mark.parametrize("page", RUN)
def test_every_block_runs_and_prints_what_it_shows(page: str, tmp_path: Path) -> None:
    if page == "json" and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    assert run_page(DOCS / f"{page}.md", tmp_path) > 0


@pytest.mark.drivers("postgresql+psycopg")
def test_every_block_about_schemas_runs_on_postgresql(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url.render_as_string(hide_password=False))
    assert run_page(DOCS / f"{ON_POSTGRESQL}.md", tmp_path) > 0


def test_the_quick_starts_begin_in_an_empty_folder_and_show_the_same() -> None:
    flask, quart = (list(blocks(DOCS / f"quickstart-{name}.md")) for name in ("flask", "quart"))

    for page in (flask, quart):
        assert [block.note for block in page if block.note[0] == "project"] == [("project", "an empty folder")]
        assert next(block for block in page if block.note[0] != "not run").note[0] == "project"
    run = [
        [block.text for block in page if block.language == "console" and not block.note[0]] for page in (flask, quart)
    ]
    assert run[0] == run[1]


def test_the_pictures_are_what_db_graph_draws() -> None:
    made = script("pictures")

    for name, drawn in made.pictures().items():
        assert drawn == (made.FOLDER / name).read_text("utf-8"), "run: python docs/pictures.py"


def test_every_sign_of_a_picture_is_explained() -> None:
    signs = section("commands", "## db-graph").partition("| sign | means |")[2]

    assert set(re.findall(r"^\| `(.)` \|", signs, re.MULTILINE)) == {look.sign for look in LOOKS.values()}


def test_the_schema_of_the_json_output_is_that_of_the_classes() -> None:
    made = script("schema")

    assert made.schema() == json.loads(made.SCHEMA.read_text("utf-8")), "run: python docs/schema.py"
    assert made.COMMANDS.keys() <= made.RESULTS.keys()
    assert {f"db-{key}" for key in made.RESULTS.keys() - made.COMMANDS.keys()} <= cli.commands.keys()


def test_the_fields_of_the_json_output_are_those_of_the_schema() -> None:
    made = script("fields")

    assert made.page(text("json")) == text("json"), "run: python docs/fields.py"


def test_the_figures_and_the_charts_are_those_of_the_results() -> None:
    made = script("figures")
    results = made.read()

    assert made.page(text("benchmarks"), results) == text("benchmarks"), "run: python docs/figures.py"
    for path, drawn in made.charts(results).items():
        assert drawn == path.read_text("utf-8"), "run: python docs/figures.py"


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = re.findall(r"^[\w-]+$", text("index"), re.MULTILINE)

    assert sorted(listed) == sorted(set(PAGES) - {"index"})


def test_every_public_name_is_in_the_page_that_is_made_from_the_code() -> None:
    made = set(re.findall(r"^\.\. auto(?:class|function):: ampho\.(\w+)", text("api"), re.MULTILINE))

    assert set(ampho.__all__) - made == {"AmphoError"}  # which comes with the module of errors


def test_every_link_leads_somewhere() -> None:
    done = subprocess.run([sys.executable, DOCS / "check.py"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_is_described_with_its_arguments_and_options(name: str) -> None:
    described = section("commands", f"## {name}")

    assert described
    for parameter in cli.commands[name].params:
        if isinstance(parameter, click.Option):
            for option in set(parameter.opts) - {"--no-color"}:  # which the program has, too
                assert f"`{option}" in described, option
        else:
            assert parameter.human_readable_name in described


def test_every_option_of_the_program_is_described() -> None:
    described = section("commands", "## Finding the app")

    for parameter in [*console.params, *cli.params]:
        assert all(f"`{option}" in described for option in parameter.opts), parameter.opts


def test_every_setting_that_the_code_names_is_described() -> None:
    named = {
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SETTING.fullmatch(node.value)
    }

    assert {"AMPHO_MIGRATION_PACKAGES", "AMPHO_ENV_PACKAGE", "SQLALCHEMY_DATABASE_URI"} <= named
    assert {name for name in named if f"`{name}`" not in text("configuration")} == set()


@pytest.mark.parametrize("kind", [ampho.Ampho, ampho.AsyncAmpho])
def test_every_method_of_the_extensions_is_described_with_its_arguments(kind: type) -> None:
    described = section("configuration", "## Methods")
    # described where they belong, or not for users
    apart = {
        "init_app",
        "add_package",
        "owner",
        "packages",
        "project",
        "engine",
        "dispose",
        "call",
        "migrating_connection",
        "migrating_engine",
        "databases",
        "create_missing",
        "lead",
        "engine_names",
    }

    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if name.startswith("_") or name in apart:
            continue
        (line,) = re.findall(rf"^\| `{name}\((.*)\)` \|", described, re.MULTILINE)
        for argument in set(inspect.signature(method).parameters) - {"self", "x", "observer"}:
            assert re.search(rf"\b{argument}\b", line), f"{name}({argument}=)"


def test_every_public_name_is_described() -> None:
    everything = "".join(page.read_text("utf-8") for page in DOCS.glob("*.md"))

    for name in ampho.__all__:
        assert re.search(rf"`{name}[`(]", everything), name


@pytest.mark.parametrize(
    "name",
    [
        *("Plan", "Step", "Run", "StepRun", "CurrentState", "PackageState", "RevisionRecord", "Drift", "Stamped"),
        *("Deployment", "LintReport", "Violation", "DatabaseStatus", "PackageStatus", "RevisionStatus"),
        *("Picture", "Lane", "Node", "Edge", "FleetStatus", "StateCount", "MemberState"),
    ],
)
def test_every_field_of_what_a_method_returns_is_described(name: str) -> None:
    kind = getattr(ampho, name)
    (line,) = re.findall(rf"^\| `{name}` \|.*", section("configuration", "## Methods"), re.MULTILINE)

    for field in kind.__dataclass_fields__:
        assert f"`{field}`" in line or (name, field) == ("CurrentState", "packages"), field


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_is_described_with_its_attributes(kind: type[errors.AmphoError]) -> None:
    page = text("errors")
    described = page if kind is errors.AmphoError else section("errors", f"### {kind.__name__}")

    assert described
    assert re.search(rf"^[│ ]*[├└]── {kind.__name__}$|^{kind.__name__}$", page, re.MULTILINE), "the tree"
    for attribute in re.findall(r":ivar (\w+):", vars(kind).get("__doc__") or ""):
        assert f"`{attribute}`" in described, attribute


@pytest.mark.parametrize(
    ("contract", "heading"), [("rooms", "## Rooms"), ("autogenerate", "## How autogenerate works")]
)
def test_the_rooms_are_described_in_the_order_that_the_import_contract_holds_them_to(
    contract: str, heading: str
) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each["id"] == contract]

    rows = re.findall(r"^\| (`.+?) \|", section("contributing", heading), re.MULTILINE)

    described = [set(re.findall(r"`(\w+)(?:\.py|/)`", row)) for row in rows]
    assert described == [set(re.findall(r"\w+", layer)) for layer in reversed(layers)]


@pytest.mark.parametrize("found", ["by default", "as the page says"])
def test_setuptools_ships_the_revisions_of_a_plugin(found: str, project: Project) -> None:
    pytest.importorskip("setuptools")
    project.write("plugin/acme/reviews/__init__.py", "")
    project.write("plugin/acme/reviews/migrations/versions/reviews_1.py", "")
    settings = "[project]\nname = 'acme-reviews'\nversion = '1'\n"
    if found == "as the page says":
        (block,) = [block for block in blocks(DOCS / "configuration.md") if block.note[1] == "plugin/pyproject.toml"]
        settings += "[tool.setuptools]\npackages = ['acme.reviews']\n" + block.text
    project.write("plugin/pyproject.toml", settings)

    build = "import os; os.chdir('plugin'); from setuptools import setup; setup()"
    project.run(sys.executable, "-W", "ignore", "-c", build, "-q", "build_py", "-d", "../built")

    assert (project.folder / "built/acme/reviews/migrations/versions/reviews_1.py").exists()


def test_the_version_table_of_a_database_in_use_is_renamed_as_the_page_says(shop: Project) -> None:
    shop.run("ampho", "--app", "flask_app", "db-up", "accounts")
    env = shop.read("accounts/migrations/env.py")
    shop.write(
        "accounts/migrations/env.py",
        env.replace("**environment.options()", 'version_table="schema_version", **environment.options()'),
    )

    empty = shop.run("ampho", "--app", "flask_app", "db-current").stdout
    (rename,) = re.findall(r"`(ALTER\s+TABLE.+?)`", text("configuration"), re.DOTALL)
    with closing(sqlite3.connect(shop.folder / "instance/shop.db")) as connection:
        connection.execute(rename)

    assert "accounts  nothing applied (2 pending)" in empty
    assert "accounts  accounts_1768816800 (head)" in shop.run("ampho", "--app", "flask_app", "db-current").stdout


@pytest.mark.parametrize("framework", ["flask", "quart"])
def test_the_frameworks_own_programs_do_not_read_the_variable_of_ampho(framework: str, shop: Project) -> None:
    app = f"{framework}_app"

    assert shop.run("ampho", "db-heads", env={"AMPHO_APP": app}).stdout
    assert shop.run(framework, "ampho", "db-heads", env={"AMPHO_APP": app}, check=False).exit_code != 0
    assert shop.run(framework, "ampho", "db-heads", env={f"{framework.upper()}_APP": app}).stdout
    assert shop.run("ampho", "db-heads", "--app", app, check=False).exit_code == 2


@pytest.mark.parametrize("command", ["flask --app flask_app db migrate", "alembic -c {} revision --autogenerate"])
def test_plain_tools_put_the_differences_of_all_packages_into_one_file(command: str, shop: Project) -> None:
    shop.run("ampho", "--app", "flask_app", "db-up")
    for package, attribute in (("accounts", "name"), ("catalog", "title")):
        models = f"{package}/models.py"
        added = re.sub(
            rf"^(    {attribute}: .*)$", r"\1\n    more: Mapped[str | None]", shop.read(models), flags=re.MULTILINE
        )
        shop.write(models, added)

    words = command.format("catalog/migrations/alembic.ini").split()
    shop.run(*words, "-m", "both", "--head", "accounts@head", env={"AMPHO_APP": "flask_app"})

    (written,) = (path for path in shop.folder.glob("*/migrations/versions/*.py") if path.stem.endswith("_both"))
    assert written.parts[-4] == "accounts"
    assert re.findall(r"batch_alter_table\('(\w+)'", written.read_text("utf-8").partition("def down")[0]) == [
        "books",
        "customers",
    ]


def test_alembics_commands_without_env_py_see_the_packages_that_its_file_lists(shop: Project) -> None:
    ini = "accounts/migrations/alembic.ini"
    shop.write(ini, shop.read(ini).replace("    orders:migrations/versions\n", ""))

    def heads(command: str) -> set[str]:
        shown = shop.run("alembic", "-c", ini, *command.split(), env={"AMPHO_APP": "flask_app"}).stdout
        return {package for package in ("accounts", "catalog", "orders") if f"{package}_1" in shown}

    for command in ("heads", "history"):
        assert heads(command) == {"accounts", "catalog"}
    shop.run("alembic", "-c", ini, "upgrade", "heads", env={"AMPHO_APP": "flask_app"})
    assert heads("current") == {"accounts", "catalog", "orders"}


@pytest.mark.parametrize("app", ["flask_app", "quart_app"])
def test_methods_need_no_app_context_where_there_is_one_app_only(app: str, shop: Project) -> None:
    call = "ampho.current()" if app == "flask_app" else "asyncio.run(ampho.current())"
    program = f"import asyncio; from {app} import app; ampho = app.extensions['ampho']; print({call})"
    second = f"import {app}, asyncio; first = {app}.app; app = type(first)('second')\n"
    second += f"app.config.update(first.config); ampho = first.extensions['ampho']; ampho.init_app(app)\nprint({call})"

    assert "accounts" in shop.run(sys.executable, "-c", program).stdout
    assert "does not know which app to use" in shop.run(sys.executable, "-c", second, check=False).stderr
