"""The documents are true: what they show happens, and what there is to say is said."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import click
import pytest
from documents import ROOT, blocks, run_page
from project import Project

import ampho
from ampho import errors
from ampho.cli.commands import cli
from ampho.cli.console import console

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


@pytest.mark.parametrize("page", ["adopting", "async", "commands", "configuration", "errors"])
def test_every_block_runs_and_prints_what_it_shows(page: str, tmp_path: Path) -> None:
    assert run_page(DOCS / f"{page}.md", tmp_path) > 0


def test_every_link_leads_somewhere() -> None:
    done = subprocess.run([sys.executable, DOCS / "check.py"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_is_described_with_its_arguments_and_options(name: str) -> None:
    described = section("commands", f"## {name}")

    assert described
    for parameter in cli.commands[name].params:
        if isinstance(parameter, click.Option):
            for option in parameter.opts:
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
    apart = {"init_app", "add_package", "project", "engine", "dispose"}  # described where they belong, or not for users

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
    ["Plan", "Step", "Run", "StepRun", "CurrentState", "PackageState", "RevisionRecord", "Drift", "Stamped"],
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


def test_the_modules_are_described_in_the_order_that_the_import_contract_holds_them_to() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["id"] == "order"]
    order = [name for layer in reversed(layers) for name in sorted(re.findall(r"\w+", layer), reverse=True)]

    rows = re.findall(r"^\| (`.+?) \|", section("design", "## Modules in reading order"), re.MULTILINE)
    described = re.findall(r"`(\w+)(?:\.py|/)`", " ".join(rows))

    assert [name for name in described if name != "templates"] == order


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


def test_the_version_table_of_a_database_in_use_is_renamed_as_the_page_says(tmp_path: Path) -> None:
    shop = Project(tmp_path / "shop")
    shutil.copytree(ROOT / "examples/shop", shop.folder, ignore=shutil.ignore_patterns("instance", "__pycache__"))
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
