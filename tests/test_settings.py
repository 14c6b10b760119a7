"""The settings are what the registry says of them: their defaults, and whether the environment has a say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from documents import script
from facade import facade
from project import Project

from ampho.settings import SETTINGS, Setting

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
}
# Where the value ends up, in the project of an app.
READ = {
    "AMPHO_MIGRATION_PACKAGES": lambda project: [package.name for package in project.packages] or None,
    "AMPHO_ENV_PACKAGE": lambda project: project.host_name,
    "AMPHO_DATABASE_URI": lambda project: project.url.database.endswith("direct.db") or None,
    "AMPHO_STATEMENT_LOCK_TIMEOUT": lambda project: project.lock.statement_timeout,
    "AMPHO_LOCK_TIMEOUT": lambda project: project.lock.timeout,
    "AMPHO_PROTECTED": lambda project: project.protection.enabled,
    "AMPHO_LOCK": lambda project: project.lock.enabled,
    "AMPHO_JOURNAL_TABLE": lambda project: project.journal,
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


def test_the_page_has_the_table_that_is_made_from_the_code() -> None:
    made = script("settings")
    text = Path(made.PAGE).read_text("utf-8")

    assert made.page(text) == text, "run: python docs/settings.py"
