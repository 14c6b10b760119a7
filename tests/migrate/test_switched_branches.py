"""Revisions of another git branch, which the database has and the working tree has not."""

from __future__ import annotations

import json
import subprocess

import pytest
from facade import FRAMEWORKS
from project import Project
from servers import Database

from ampho.history.revision import digest_of

ON = {"AMPHO_JOURNAL_SOURCE": "1"}


def git(project: Project, *command: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=project.folder, check=True)


def revision(project: Project, number: int, table: str, down: int | None = None, package: str = "core") -> str:
    """Write a revision that creates a table, commit it, and return its id."""
    name = f"{package}_170000000{number}"
    project.revision(
        package,
        name,
        None if down is None else f"{package}_170000000{down}",
        upgrade=f'op.create_table("{table}", sa.Column("id", sa.Integer, primary_key=True))',
        downgrade=f'op.drop_table("{table}")',
        message=f"Create {table}",
    )
    git(project, "add", ".")
    git(project, "commit", "-qm", f"Create {table}")
    return name


@pytest.fixture
def switched(project: Project, database: Database) -> Project:
    """A database that has two revisions of the branch ``mine``, in the working tree of ``main``, which has others."""
    for package in ("core", "plug"):
        project.package(package)
        (project.migrations(package) / "versions").mkdir(parents=True)
    project.app(FRAMEWORKS[database.is_async], ["core", "plug"], database.url, extra_config={"AMPHO_ENV_PACKAGE": ""})
    git(project, "init", "-q", "-b", "main")
    revision(project, 1, "first")
    git(project, "checkout", "-q", "-b", "mine")
    revision(project, 2, "mine", 1)
    revision(project, 9, "plugged", package="plug")
    project.run("ampho", "db-up", env=ON)
    git(project, "checkout", "-q", "main")
    revision(project, 3, "other", 1)
    return project


def test_what_another_branch_applied_is_reverted_with_its_source(switched: Project, database: Database) -> None:
    refused = switched.run("ampho", "db-up", env=ON, check=False)
    assert refused.exit_code == 1
    assert "core_1700000002 of core is applied but missing: another branch of the code applied it, " in refused.stderr
    assert "Revert it with 'ampho db-down missing', restore" in refused.stderr
    assert "Revert it with 'ampho db-down missing'" in switched.run("ampho", "db-status", env=ON).stdout

    plan = switched.run("ampho", "db-down", "missing", "--plan", env=ON).stdout
    assert "Plan (db-down missing): 2 revisions of plug, core\n" in plan
    assert "The file of core_1700000002 is missing. This is its source in the journal:\n" in plan
    assert '    """Create mine"""\n\n    from alembic import op\n' in plan
    assert '        op.drop_table("mine")\n' in plan
    steps = json.loads(switched.run("ampho", "db-down", "missing", "--plan", "--json", env=ON).stdout)["plan"]["steps"]
    assert [step["losses"] for step in steps] == [["drops the table plugged"], ["drops the table mine"]]
    assert steps[1]["source"].startswith('"""Create mine"""\n')

    refused = switched.run("ampho", "db-down", "missing", env=ON, check=False)
    assert refused.exit_code == 1
    assert "Review them with 'ampho db-down missing --plan', and then add --yes." in refused.stderr
    assert {"mine", "plugged"} < set(database.tables())

    done = switched.run("ampho", "db-down", "missing", "--yes", env=ON)
    assert "Reverted 2 revisions" in done.stdout
    switched.run("ampho", "db-up", env=ON)
    assert {*database.tables()} - {"alembic_version", "ampho_journal_source"} == {"first", "other"}
    assert database.query("SELECT revision FROM ampho_journal_source ORDER BY revision") == [
        ("core_1700000001",),
        ("core_1700000003",),
    ]
    again = switched.run("ampho", "db-down", "missing", env=ON, check=False)
    assert "missing: no applied revision is missing. See 'ampho db-current'." in again.stderr
    assert switched.run("ampho", "db-check", env=ON, check=False).stdout.count("ampho_journal_source") == 0


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
@pytest.mark.parametrize("answer", ["y", "n"])
def test_the_sources_are_shown_before_the_question(switched: Project, database: Database, answer: str) -> None:
    typed = switched.type("ampho", "db-down", "core_1700000001", answer=answer, env=ON)

    shown, _, _ = typed.stdout.partition("Revert these revisions? [y/N]")
    assert 'op.drop_table("mine")' in shown
    assert "plugged" not in shown
    assert typed.exit_code == (0 if answer == "y" else 1)
    assert ("mine" in database.tables()) is (answer == "n")
    assert "plugged" in database.tables()


@pytest.mark.drivers("sqlite+pysqlite")
def test_without_the_setting_nothing_is_kept_and_nothing_is_read(switched: Project, database: Database) -> None:
    off = switched.run("ampho", "db-down", "missing", "--yes", check=False)
    assert off.exit_code == 1
    assert "are applied but missing: files were deleted, or an older release" in off.stderr
    assert "db-down missing'." not in off.stderr
    switched.run("ampho", "db-down", "missing", "--yes", env={"FLASK_DEBUG": "1"})
    switched.run("ampho", "db-up")
    kept = database.query("SELECT revision FROM ampho_journal_source")
    assert kept == [("core_1700000001",)]


@pytest.mark.drivers("sqlite+pysqlite")
@pytest.mark.parametrize("fault", ["another text", "no json", "no entry", "must be executed"])
def test_a_source_that_did_not_run_is_not_used(switched: Project, database: Database, fault: str) -> None:
    source = "raise SystemExit('executed')\n"
    match fault:
        case "another text":
            database.run(f"UPDATE ampho_journal_source SET source = '{json.dumps('revision = 1')}'")
        case "no json":
            database.run("UPDATE ampho_journal_source SET source = 'def'")
        case "no entry":
            database.run("DELETE FROM ampho_journal WHERE revision != 'core_1700000001'")
        case "must be executed":
            checksum = digest_of(source.encode()).hex()
            database.run(f"UPDATE ampho_journal SET checksum = '{checksum}'")
            database.run("UPDATE ampho_journal_source SET source = '\"raise SystemExit(''executed'')\\n\"'")
    before = database.tables()

    refused = switched.run("ampho", "db-down", "missing", "--yes", env=ON, check=False)

    assert refused.exit_code == 1
    assert "are applied but missing" in refused.stderr
    assert "executed" not in refused.output
    assert database.tables() == before


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_file_that_is_not_utf_8_is_applied_without_its_source(project: Project, database: Database) -> None:
    project.package("core")
    project.app("flask", ["core"], database.url, extra_config={"AMPHO_ENV_PACKAGE": ""})
    file = project.revision("core", "core_1700000001", message="caf\u00e9")
    file.write_bytes(b"# coding: latin-1\n" + file.read_text("utf-8").encode("latin-1"))

    project.run("ampho", "db-up", env=ON)

    assert database.query("SELECT count(*) FROM ampho_journal_source") == [(0,)]
