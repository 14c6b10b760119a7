"""What holds for the project as a whole: its metadata, its wheel, and what is not in its files."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points, requires
from pathlib import Path

import pytest
from project import Project

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = sorted((ROOT / "requirements").glob("*"))
# In halves, since this file is searched too.
REGISTRIES = ("pypi" + ".org", "python" + "hosted.org", "registry.npm" + "js.org", "index" + "-url", "find" + "-links")
FRAMEWORKS = ("flask", "quart", "flask_sqlalchemy", "flask_migrate", "alembic", "sqlalchemy")


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys; print(*sys.modules)"
    # -P: what is installed counts, not what lies in the current folder.
    command = [sys.executable, "-P", "-c", code]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in a wheel that is built from the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, capture_output=True, text=True, check=True)
    (built,) = folder.glob("ampho-*.whl")
    return zipfile.ZipFile(built).namelist()


def test_import_ampho_loads_no_framework() -> None:
    assert modules_after("import ampho").isdisjoint(FRAMEWORKS)


def test_flask_ampho_loads_no_framework_before_it_is_used() -> None:
    assert modules_after("import flask_ampho").isdisjoint(FRAMEWORKS)


def test_flask_ampho_is_ampho_for_flask() -> None:
    loaded = modules_after("from flask_ampho import Ampho\nimport ampho\nassert Ampho is ampho.Ampho")

    assert "flask" in loaded
    assert "quart" not in loaded


def test_flask_ampho_has_nothing_else() -> None:
    import flask_ampho

    with pytest.raises(AttributeError, match="nothing_else"):
        _ = flask_ampho.nothing_else


def test_facade_for_quart_loads_nothing_for_flask() -> None:
    assert modules_after("import ampho.aio").isdisjoint({"flask_sqlalchemy", "flask_migrate"})


def test_facade_for_flask_loads_no_quart() -> None:
    assert "quart" not in modules_after("import ampho.sync")


def test_wheel_has_all_that_a_user_needs(wheel: list[str]) -> None:
    tree = [path for path in (ROOT / "ampho").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {str(path.relative_to(ROOT)) for path in tree}

    assert {"ampho/py.typed", "flask_ampho.py", "pytest_ampho.py"} <= set(wheel)
    assert any(name.startswith("ampho/templates/sync/") for name in wheel)
    assert any(name.startswith("ampho/templates/aio/") for name in wheel)
    assert expected <= set(wheel)


def test_wheel_has_nothing_else(wheel: list[str]) -> None:
    roots = {name.split("/")[0] for name in wheel}

    assert {root for root in roots if not root.endswith(".dist-info")} == {"ampho", "flask_ampho.py", "pytest_ampho.py"}
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_commands_are_registered_with_both_frameworks() -> None:
    registered = {point.group: point.value for point in entry_points(name="ampho")}

    assert registered["console_scripts"] == "ampho.cli:main"
    assert registered["flask.commands"] == registered["quart.commands"] == "ampho.cli:cli"


def test_everything_registered_can_be_loaded() -> None:
    for point in entry_points(name="ampho"):
        assert callable(point.load()) or point.group == "pytest11"


def test_all_is_the_sum_of_the_extras() -> None:
    wanted: dict[str, set[str]] = {}
    for line in requires("ampho") or []:
        requirement, _, condition = line.partition(";")
        if extra := re.search(r"extra == ['\"](\w+)['\"]", condition):
            wanted.setdefault(extra[1], set()).add(requirement.strip())
    everything = wanted.pop("all")

    assert set(wanted) == {"flask", "lint", "quart", "postgres", "mysql"}
    assert everything == set().union(*wanted.values())


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_requirements_name_versions_and_no_places(path: Path) -> None:
    lines = [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]

    assert lines
    for line in lines:
        assert "://" not in line
        assert " @ " not in line
        assert not line.startswith(("-i", "--", "-f", "/"))
        if path.suffix == ".txt":
            assert re.fullmatch(r"[\w.-]+==[\w.+-]+(; python_version (<|>=) '3\.\d+')?", line)


def test_lowest_requirements_are_the_lowest_that_are_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name, extra in extras.items() if name != "all" for line in extra)]
    allowed = {re.sub(r"\[.*?\]", "", line) for line in lines}
    pinned = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "requirements" / "lowest.txt").read_text("utf-8").splitlines()
        if "==" in line
    )

    for line in allowed:
        name, lowest = line.lower().split(">=")
        assert f"{pinned[name]}.".startswith(f"{lowest}."), f"{name}: {lowest} is allowed, {pinned[name]} is tested"


def test_no_file_names_a_registry_or_a_place_on_some_machine() -> None:
    home = re.compile(r"(?<![\w./:])/(?:root|work|home/\w+|Users/\w+)/\w")
    found = []
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", "replace")  # a picture may not be text
        found += [f"{path.relative_to(ROOT)}: {word}" for word in (*REGISTRIES, str(ROOT)) if word in text]
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in home.finditer(text)]

    assert found == []


def test_a_project_is_importable_inside_its_block_only(project: Project) -> None:
    """Two tests may each have an `app` of their own."""
    project.package("acme.billing", models="ANSWER = 42\n")

    with project.importing():
        from acme.billing import models  # type: ignore[import-not-found]

        assert models.ANSWER == 42

    assert "acme" not in sys.modules
    assert str(project.folder) not in sys.path


def test_a_revision_by_hand_is_labelled_where_it_is_a_base(project: Project) -> None:
    first = project.revision("acme.billing", "acme_billing_1", upgrade='op.execute("SELECT 1")')
    second = project.revision("acme.billing", "acme_billing_2", "acme_billing_1", depends_on=["auth_1"])

    scopes: list[dict[str, object]] = [{}, {}]
    for scope, path in zip(scopes, (first, second), strict=True):
        exec(compile(path.read_text("utf-8"), path, "exec"), scope)
    assert (scopes[0]["down_revision"], scopes[0]["branch_labels"]) == (None, ("acme.billing",))
    assert (scopes[1]["down_revision"], scopes[1]["branch_labels"]) == ("acme_billing_1", None)
    assert scopes[1]["depends_on"] == ["auth_1"]


def test_a_command_runs_in_the_project_as_a_process(project: Project) -> None:
    project.write(
        "hello.py", "import sys, os; print(os.getcwd()); print(os.environ['X'], file=sys.stderr); sys.exit(3)"
    )

    result = project.run("python", "hello.py", env={"X": "y"}, check=False)

    assert (result.exit_code, result.stdout, result.stderr) == (3, f"{project.folder}\n", "y\n")
    with pytest.raises(AssertionError, match="exit code 3"):
        project.run("python", "hello.py", env={"X": "y"})
