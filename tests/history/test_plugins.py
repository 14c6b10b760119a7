"""Plug-ins in real wheels, which are found by their entry points and enabled by a setting."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from documents import ROOT, blocks
from facade import FRAMEWORKS, URLS
from project import Project, Result

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-{name}"
version = "1.2"

[project.entry-points."ampho.packages"]
{name} = "{value}"

[project.entry-points."ampho.models"]
{name} = "{models}"
{more}
[tool.hatch.build]
dev-mode-dirs = ["."]

[tool.hatch.build.targets.wheel]
packages = ["{name}"]
"""
MODELS = """
from sqlalchemy import Column, Integer, String, Table


def register(app):
    Table(
        "{name}",
        metadata_of(app),
        Column("id", Integer, primary_key=True),
        Column("text", String(20)),
        info={{"ampho_package": "{name}"}},
    )


def metadata_of(app):
    db = app.extensions["sqlalchemy"]
    return db.metadata
"""
CREATE = 'op.create_table("{name}", sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.String(20)))'


def project_of(folder: Path, name: str, value: str = "", models: str = "", database: str = "") -> Project:
    """Write the project of a plug-in with one revision."""
    source = Project(folder / name)
    source.package(name, MODELS.format(name=name))
    source.write(
        "pyproject.toml",
        PYPROJECT.format(
            name=name,
            value=value or name,
            models=models or f"{name}.models:register",
            more=f'[project.entry-points."ampho.databases"]\n{name} = "{database}"\n' if database else "",
        ),
    )
    source.revision(name, f"{name}_1700000001", upgrade=CREATE.format(name=name), downgrade=f'op.drop_table("{name}")')
    return source


def wheel(folder: Path, name: str, **entry_points: str) -> Path:
    """Build the wheel of a plug-in."""
    source = project_of(folder, name, **entry_points)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", source.folder]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = (folder / "dist").glob(f"acme_{name}-*.whl")
    return built


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    return {
        "reviews": wheel(folder, "reviews"),
        "wishes": wheel(folder, "wishes"),
        "broken": wheel(folder, "broken", models="broken.nothing"),
        "elsewhere": wheel(folder, "elsewhere", value="other.package"),
        "stats": wheel(folder, "stats", models="stats.models", database="reports"),
    }


@pytest.fixture
def site(project: Project) -> Path:
    """The folder in which the plug-ins are installed, beside the app."""
    return project.folder


def install(built: Path, site: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        archive.extractall(site)


def uninstall(name: str, site: Path) -> None:
    shutil.rmtree(site / name)
    shutil.rmtree(site / f"acme_{name}-1.2.dist-info")


def ampho(project: Project, *command: str, plugins: str | None = None, check: bool = True) -> Result:
    env = {} if plugins is None else {"AMPHO_PLUGINS": plugins}
    return project.run("ampho", *command, env=env, check=check)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_plug_ins_are_found_and_enabled_and_uninstalled(
    framework: str, project: Project, site: Path, wheels: dict[str, Path]
) -> None:
    project.app(framework, url=URLS[framework])
    for name in ("reviews", "wishes", "broken"):
        install(wheels[name], site)

    found = ampho(project, "db-status", plugins="reviews")
    assert "Installed but not enabled: broken (acme-broken 1.2), wishes (acme-wishes 1.2)." in found.stdout
    assert found.stdout.count("To enable them, add broken,wishes to AMPHO_PLUGINS.") == 1
    assert "reviews" in found.stdout.splitlines()[1]
    as_json = json.loads(ampho(project, "db-status", "--json", plugins="reviews").stdout)["status"]
    assert as_json["plugins"] == ["broken (acme-broken 1.2)", "wishes (acme-wishes 1.2)"]

    assert "reviews_1700000001" in ampho(project, "db-up", plugins="reviews").stdout
    assert ampho(project, "db-check", plugins="reviews").stdout == "reviews  matches its models\n"
    assert "wishes_1700000001" in ampho(project, "db-up", plugins="reviews, wishes").stdout

    refused = ampho(project, "db-up", plugins="True", check=False)
    assert refused.exit_code == 1
    assert "Error: " in refused.stderr
    assert (
        "The models of the plug-in broken (acme-broken 1.2) cannot be loaded from 'broken.nothing':"
        " ModuleNotFoundError: No module named 'broken.nothing'. Correct the plug-in, uninstall it, or leave it out"
        " of AMPHO_PLUGINS"
    ) in refused.stderr
    assert "Traceback" not in refused.stderr

    uninstall("broken", site)
    uninstall("wishes", site)
    gone = ampho(project, "db-status", plugins="reviews,wishes")
    assert "wishes" in gone.stdout
    assert "There is no package wishes. Check the spelling in AMPHO_PLUGINS" in gone.stderr
    assert "Nothing to do" in ampho(project, "db-up", plugins="true").stdout
    assert "wishes_1700000001" in ampho(project, "db-current", plugins="true").stdout


def test_a_plug_in_that_is_listed_otherwise_is_enabled(project: Project, site: Path, wheels: dict[str, Path]) -> None:
    project.app("flask", ["reviews"], URLS["flask"])
    install(wheels["reviews"], site)
    assert "not enabled" not in ampho(project, "db-status").stdout
    assert ampho(project, "db-up", plugins="reviews").stdout.count("reviews_1700000001") == 1


def test_an_entry_point_with_the_name_of_another_package_is_refused(
    project: Project, site: Path, wheels: dict[str, Path]
) -> None:
    project.app("flask", url=URLS["flask"])
    install(wheels["elsewhere"], site)
    assert "elsewhere (acme-elsewhere 1.2)" in ampho(project, "db-status").stdout
    refused = ampho(project, "db-status", plugins="elsewhere", check=False)
    assert refused.exit_code == 1
    assert "The entry point elsewhere = 'other.package' of acme-elsewhere 1.2, in the group ampho.packages, must" in (
        refused.stderr
    )


def test_two_distributions_with_one_plug_in_are_named(project: Project, site: Path, wheels: dict[str, Path]) -> None:
    project.app("flask", url=URLS["flask"])
    install(wheels["reviews"], site)
    copy = shutil.copytree(site / "acme_reviews-1.2.dist-info", site / "acme_copies-1.3.dist-info")
    (copy / "METADATA").write_text("Metadata-Version: 2.3\nName: acme-copies\nVersion: 1.3\n", "utf-8")
    refused = ampho(project, "db-up", plugins="reviews", check=False)
    assert refused.exit_code == 1
    assert (
        "The plug-in reviews is provided by acme-copies 1.3 and by acme-reviews 1.2. Uninstall one of them"
        in refused.stderr
    )


def test_a_plug_in_that_nobody_knows_is_named(project: Project) -> None:
    project.app("flask", url=URLS["flask"])
    refused = ampho(project, "db-up", plugins="nowhere", check=False)
    assert refused.exit_code == 1
    assert "Error: There is no package nowhere. Check the spelling in AMPHO_PLUGINS" in refused.stderr


def test_a_plug_in_may_name_its_database(project: Project, site: Path, wheels: dict[str, Path]) -> None:
    install(wheels["stats"], site)
    project.app("flask", url=URLS["flask"])
    refused = ampho(project, "db-up", plugins="stats", check=False)
    assert refused.exit_code == 1
    assert "The plug-in stats (acme-stats 1.2) names the database 'reports', which has no URL." in refused.stderr
    assert "not installed" not in ampho(project, "db-status").stderr  # it is not enabled

    binds: dict[str, object] = {"SQLALCHEMY_BINDS": {"reports": "sqlite:///reports.db"}}
    project.app("flask", url=URLS["flask"], extra_config=binds)
    ampho(project, "db-up", plugins="stats")
    assert (project.folder / "instance" / "reports.db").exists()

    project.app("flask", url=URLS["flask"], extra_config={**binds, "AMPHO_DATABASES": {"default": ["stats"]}})
    assert "Nothing to do" not in ampho(project, "db-up", plugins="stats").stdout


def test_a_class_is_only_imported(project: Project, site: Path, tmp_path: Path) -> None:
    install(wheel(tmp_path, "things", models="things.models:Table"), site)
    project.app("flask", url=URLS["flask"])
    assert "things_1700000001" in ampho(project, "db-up", plugins="things").stdout


def test_pip_installs_and_removes_plug_ins(project: Project, wheels: dict[str, Path], tmp_path: Path) -> None:
    """In an environment of its own, with the libraries of this one: a wheel, and an editable project."""
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    (libraries,) = environment.glob("lib/python*/site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (libraries / "libraries.pth").write_text("\n".join(f"import site; site.addsitedir({path!r})" for path in ours))
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet"]
    install = [*pip, "install", "--no-index", "--no-deps", "--no-build-isolation"]
    project.app("flask", url=URLS["flask"])

    def run(*command: str, plugins: str = "reviews,wishes") -> Result:
        return project.run(str(python), "-m", "ampho", *command, env={"AMPHO_PLUGINS": plugins}, check=False)

    source = project_of(tmp_path, "wishes")
    subprocess.run([*install, wheels["reviews"]], check=True)
    subprocess.run([*install, "--editable", source.folder], check=True)
    done = run("db-up")
    assert "reviews_1700000001" in done.stdout
    assert "wishes_1700000001" in done.stdout
    source.revision("wishes", "wishes_1700000002", "wishes_1700000001")
    assert "wishes_1700000002" in run("db-up").stdout

    subprocess.run([*pip, "uninstall", "--yes", "acme-reviews"], check=True)
    status = run("db-status")
    assert "There is no package reviews. Check the spelling in AMPHO_PLUGINS" in status.stderr
    assert "Nothing to do" in run("db-up", plugins="True").stdout


def test_the_project_in_the_documentation_can_be_built(tmp_path: Path) -> None:
    source = project_of(tmp_path, "reviews")
    (block,) = [
        block
        for block in blocks(ROOT / "docs" / "configuration.md")
        if block.note[1] == "reviews-plugin/pyproject.toml"
    ]
    source.write("pyproject.toml", block.text)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source.folder]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("shop_reviews-*.whl"))) as built:
        assert "reviews/migrations/versions/reviews_1700000001_by_hand.py" in built.namelist()
        points = built.read("shop_reviews-1.0.dist-info/entry_points.txt").decode()
    assert "[ampho.packages]\nreviews = reviews\n" in points
    assert "[ampho.models]\nreviews = reviews.models:register\n" in points


def test_the_wheel_contains_the_revisions(wheels: dict[str, Path]) -> None:
    names = zipfile.ZipFile(wheels["reviews"]).namelist()
    assert "reviews/migrations/versions/reviews_1700000001_by_hand.py" in names
    assert "acme_reviews-1.2.dist-info/entry_points.txt" in names
