"""The settings are what the registry says of them: their defaults, and whether the environment has a say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from documents import script
from facade import facade
from project import Project

from ampho.settings import SETTINGS, Setting, misspelled

# A value that is not the default, as the environment can hold it.
OTHER = {
    "AMPHO_MIGRATION_PACKAGES": "core",
    "AMPHO_ENV_PACKAGE": "core",
    "AMPHO_DATABASE_URI": "sqlite:///direct.db",
    "AMPHO_STATEMENT_LOCK_TIMEOUT": "5",
    "AMPHO_LOCK_TIMEOUT": "7",
    "AMPHO_PROTECTED": "1",
    "AMPHO_LOCK": "False",
    "AMPHO_JOURNAL_TABLE": "log",
    "AMPHO_JOURNAL_SOURCE": "1",
    "AMPHO_READINESS_PATH": "/-/ready",
    "AMPHO_READINESS_DETAILS": "1",
    "AMPHO_PENDING_PAGE": "0",
    "AMPHO_PHASES": "{}",
    "AMPHO_PLUGINS": "core",
    "AMPHO_OWNERS": "{}",
    "AMPHO_DATABASES": "{}",
    "AMPHO_VERSION_TABLES": "{}",
}
# Where the value ends up, in the project of an app.
READ = {
    "AMPHO_MIGRATION_PACKAGES": lambda project: [package.name for package in project.packages] or None,
    "AMPHO_ENV_PACKAGE": lambda project: project.settings.env_package,
    "AMPHO_DATABASE_URI": lambda project: project.url.database.endswith("direct.db") or None,
    "AMPHO_STATEMENT_LOCK_TIMEOUT": lambda project: project.settings.statement_lock_timeout,
    "AMPHO_LOCK_TIMEOUT": lambda project: project.settings.lock_timeout,
    "AMPHO_PROTECTED": lambda project: project.settings.protected,
    "AMPHO_LOCK": lambda project: project.settings.lock,
    "AMPHO_JOURNAL_TABLE": lambda project: project.settings.journal_table,
    "AMPHO_JOURNAL_SOURCE": lambda project: project.settings.journal_source,
    "AMPHO_READINESS_PATH": lambda project: project.settings.readiness_path,
    "AMPHO_READINESS_DETAILS": lambda project: project.settings.readiness_details,
    "AMPHO_PENDING_PAGE": lambda project: project.settings.pending_page,
    "AMPHO_PHASES": lambda project: project.settings.phases,
    "AMPHO_PLUGINS": lambda project: project.settings.plugins,
    "AMPHO_OWNERS": lambda project: project.settings.owners,
    "AMPHO_DATABASES": lambda project: project.settings.databases,
    "AMPHO_VERSION_TABLES": lambda project: project.settings.version_tables,
}


@pytest.fixture
def core(project: Project) -> Project:
    project.package("core")
    project.revision("core", "core_1")
    return project


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_setting_has_the_default_and_the_sources_that_the_registry_says(
    setting: Setting[object], core: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> Any:
        with facade(core, "flask", None, "sqlite:///app.db") as each:
            return READ[setting.name](each.ampho.project(each.app))

    assert read() == setting.default
    monkeypatch.setenv(setting.name, OTHER[setting.name])
    assert (read() != setting.default) == setting.in_environment


CLOSE = {
    "AMPHO_MIGRATION_PACKAGE": "AMPHO_MIGRATION_PACKAGES",
    "AMPHO_MIGRATIONS": "AMPHO_MIGRATION_PACKAGES",
    "AMPHO_PACKAGES": "AMPHO_MIGRATION_PACKAGES",
    "AMPHO_PROTECTD": "AMPHO_PROTECTED",
    "AMPHO_PROTECT": "AMPHO_PROTECTED",
    "AMPHO_DATABASE_URL": "AMPHO_DATABASE_URI",
    "AMPHO_LOCK_TIMOUT": "AMPHO_LOCK_TIMEOUT",
    "AMPHO_AP": "AMPHO_APP",
}


@pytest.mark.parametrize(("name", "meant"), CLOSE.items())
def test_a_setting_that_is_misspelt_is_asked_about_wherever_it_stands(name: str, meant: str) -> None:
    said = f"it is ignored. Did you mean {meant}?"

    assert list(misspelled({name: 1}, {})) == [f"Unknown setting {name} in app.config; {said}"]
    assert list(misspelled({}, {name: "1"})) == [f"Unknown setting {name} in the environment; {said}"]


def test_a_name_that_is_close_to_no_setting_is_told_of_in_the_configuration_alone() -> None:
    (said,) = misspelled({"AMPHO_COLOUR": 1, "SQLALCHEMY_ECHO": True, "PROTECTD": 1}, {})
    assert said.startswith("Unknown setting AMPHO_COLOUR in app.config; it is ignored. The settings are AMPHO_")
    assert all(setting.name in said for setting in SETTINGS)
    assert list(misspelled({}, {"AMPHO_COLOUR": "1"})) == []
    assert list(misspelled({"AMPHO_COLOUR": "1"}, {"AMPHO_COLOUR": "1"})) == []  # which holds the environment


def test_no_name_that_is_set_for_ampho_is_taken_for_a_mistake() -> None:
    here = Path(__file__).parent.parent
    files = [here / "Makefile", here / "README.md"]
    files += [path for folder in ("ampho", "benchmarks", "docs", "tests") for path in (here / folder).rglob("*.*")]
    texts = [path.read_text("utf-8") for path in files if path.suffix in {".py", ".md", ""} and path != Path(__file__)]
    names = {name for text in texts for name in re.findall(r"\bAMPHO_[A-Z_]+\b", text)}

    assert {"AMPHO_REQUIRE_SERVERS", "AMPHO_APP", "AMPHO_LOCK"} <= names
    assert list(misspelled({}, dict.fromkeys(names, "1"))) == []


@pytest.mark.usefixtures("unmeasured")
def test_every_command_tells_once_of_a_setting_that_is_misspelt(core: Project) -> None:
    core.app("flask", ["core"], "sqlite:///app.db", extra_config={"AMPHO_PROTECTD": True})
    said = "it is ignored. Did you mean"
    told = [
        f"Warning: Unknown setting AMPHO_LOCK_TIMOUT in the environment; {said} AMPHO_LOCK_TIMEOUT?",
        f"Warning: Unknown setting AMPHO_PROTECTD in app.config; {said} AMPHO_PROTECTED?",
    ]
    for command in ("db-up", "db-show", "db-up --json", "db-forget core --yes"):
        done = core.run("ampho", *command.split(), env={"AMPHO_LOCK_TIMOUT": "5"}, check=False)
        assert [line for line in done.stderr.splitlines() if line.startswith("Warning: ")] == told, command
        assert "TIMOUT" not in done.stdout
    assert core.run("python", "-c", "import app; app.create_app()", env={"AMPHO_LOCK_TIMOUT": "5"}).output == ""


def test_the_page_has_the_table_that_is_made_from_the_code() -> None:
    made = script("settings")
    text = Path(made.PAGE).read_text("utf-8")

    assert made.page(text) == text, "run: python docs/settings.py"
