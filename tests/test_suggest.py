"""What was meant is asked, wherever a name is misspelt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from facade import URLS, Facade, facade
from project import Project

from ampho._text import did_you_mean, sentences
from ampho.history.package import packages_in

IDS = ["accounts_1767607200", "accounts_1768816800", "catalog_1767610800", "orders_1767693600"]


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("acounts_1767607200", "Did you mean accounts_1767607200?"),
        ("acounts_17676", "Did you mean accounts_1767607200?"),
        ("acounts_17", "Did you mean accounts_1767607200 or accounts_1768816800?"),
        ("reviews", ""),
        ("ac", ""),
        ("", ""),
    ],
)
def test_a_name_is_close_to_what_it_may_be_the_beginning_of(name: str, guess: str) -> None:
    assert did_you_mean(name, IDS) == guess


def test_what_is_much_closer_is_named_alone() -> None:
    assert did_you_mean("core_22", ["core_1", "core_2", "core_3"]) == "Did you mean core_2?"
    assert did_you_mean("core_9", [f"core_{number}" for number in range(9)]) == ""
    assert did_you_mean("core_4", ["core_1", "core_2", "core_3"]) == "Did you mean core_1, core_2 or core_3?"


def test_sentences_end_before_others_begin() -> None:
    assert sentences("It is so", "", "Is it? ", "Yes!") == "It is so. Is it? Yes!"


def test_the_packages_of_a_folder_and_of_a_namespace_in_it(tmp_path: Path) -> None:
    for name in (
        "blog/__init__.py",
        "blog/api/__init__.py",
        "blog/migrations/x/__init__.py",
        "acme/billing/__init__.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in (".venv/lib/__init__.py", "a/b/c/__init__.py", "no-name/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    assert list(packages_in(tmp_path)) == ["acme.billing", "blog", "blog.api"]
    assert list(packages_in(tmp_path / "nowhere")) == []


@pytest.fixture
def opened(project: Project) -> Iterator[Facade]:
    for package in ("accounts", "orders"):
        project.package(package)
        project.revision(package, f"{package}_1700000001")
    with facade(project, "flask", ["accounts", "orders"], URLS["flask"]) as each:
        yield each


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("db-upp", "db-up"),
        ("upp", "db-up"),
        ("migrate", "db-rev"),
        ("db-upgrade", "db-up"),
        ("showmigrations", "db-status"),
        ("db-curent", "db-current"),
        ("db-up --sqlx", "--sql"),
        ("db upgrade", "db-up"),
        ("db up --sql", "db-up"),
        ("db migrate -m First", "db-rev"),
        ("db-rev accounts -m First", "ampho db-rev PACKAGE MESSAGE"),
        ("db-rev accounts --message=First", "ampho db-rev PACKAGE MESSAGE"),
        ("db-up --dry-run", "--plan"),
        ("db-down --dry-run", "--plan"),
        ("db-up --fake", "ampho db-stamp"),
        ("db-up ordrs", "orders"),
        ("db-up ordrs@head", "orders"),
        ("db-up orders@haed", "orders@head"),
        ("db-up haeds", "heads"),
        ("db-up acounts_17000", "accounts_1700000001"),
        ("db-down orders_1700000002", "orders_1700000001"),
        ("db-up 1", "+1"),
        ("db-up orders@2", "orders@+2"),
        ("db-down 1", "-1"),
        ("db-down 2 --cascade", "-2"),
        ("db-down orders@1", "orders@-1"),
        ("db-down 1700000009", "orders_1700000001"),
        ("db-stamp bsae", "base"),
        ("db-show acounts", "accounts"),
        ("db-lint acounts", "accounts"),
        ("db-check acounts", "accounts"),
        ("db-init acounts", "accounts"),
        ("db-rev acounts First", "accounts"),
        ("db-rev accounts Second --depends-on ordrs", "orders"),
        ("db-rev accounts Second --head acounts_1700000001", "accounts_1700000001"),
        ("db-merge acounts", "accounts"),
        ("db-rebase acounts", "accounts"),
    ],
)
def test_commands_ask_what_was_meant(line: str, meant: str, opened: Facade) -> None:
    result = opened.run(*line.split())

    assert result.exit_code in (1, 2)
    assert result.stderr.rstrip().endswith((f" Did you mean {meant}?", f" Did you mean '{meant}'?"))


@pytest.mark.parametrize("line", ["db-stamp 1", "db-show 1", "db-down 0"])
def test_a_number_where_no_steps_are_taken_is_not_asked_about(line: str, opened: Facade) -> None:
    assert opened.error_line(*line.split()).endswith("'ampho db-show' lists the packages and their revisions.")


def test_a_listed_package_that_is_misspelt_is_asked_about(project: Project) -> None:
    project.package("accounts")
    with facade(project, "flask", ["acounts"], URLS["flask"]) as each:
        assert each.error_line("db-up").endswith("Did you mean accounts?")
