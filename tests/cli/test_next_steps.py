"""What ``ampho`` alone prints: what to do next for the app, or the help if there is none."""

from __future__ import annotations

import pytest
from facade import FRAMEWORKS, URLS
from project import Project

ALL = "'ampho --help' lists all commands."


def lines(project: Project, *command: str) -> list[str]:
    result = project.run(*(command or ("ampho",)))
    assert result.stdout.endswith(f"{' '.join(command or ('ampho',))} --help' lists all commands.\n")
    return result.stdout.splitlines()[:-1]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_way_from_nothing_to_an_upgraded_database(framework: str, project: Project) -> None:
    project.package("core", models="import sqlalchemy as sa\n")
    project.app(framework, [], URLS[framework], extra_config={"AMPHO_MIGRATION_PACKAGES": []})
    assert lines(project) == ["Next: ampho db-init PACKAGE  create the migrations folder of a package"]

    project.app(framework, ["core"], URLS[framework], extra_config={"AMPHO_ENV_PACKAGE": ""})
    assert lines(project) == ["Next: ampho db-init core  create the migrations folder of core"]

    project.run("ampho", "db-init", "core")
    first = 'Next: ampho db-rev core "Initial" -a  create the first revision from the models of core'
    assert lines(project) == [first]

    project.revision("core", "core_1700000001")
    project.revision("core", "core_1700000002", "core_1700000001")
    assert lines(project) == [
        "2 revisions of core are pending.",
        "Next: ampho db-up --plan  show the pending revisions, and which may lose data",
        "      ampho db-up         apply them",
    ]
    assert lines(project, framework, "ampho")[1].startswith(f"Next: {framework} ampho db-up --plan  show")

    project.run("ampho", "db-up")
    assert lines(project) == [
        "All revisions are applied.",
        "Next: ampho db-check             compare the models with the database",
        '      ampho db-rev -a "MESSAGE"  write revisions for the changes in the models',
    ]

    next(project.folder.glob("core/migrations/versions/core_1700000002*")).unlink()
    found = lines(project)
    assert found[0].startswith("core  ahead of its files: core_1700000002 is applied but has no file")
    assert len(found) == 1  # which says what to do


def test_several_databases_and_groups(project: Project) -> None:
    for package in ("core", "stats", "orders"):
        project.package(package)
        project.revision(package, f"{package}_1700000001")
    project.app(
        "flask",
        ["core", "stats"],
        URLS["flask"],
        extra_config={
            "SQLALCHEMY_BINDS": {"reports": "sqlite:///reports.db"},
            "AMPHO_DATABASES": {"default": ["core"], "reports": ["stats"]},
            "AMPHO_ENV_PACKAGE": "",
        },
        body="""
        from ampho import Database

        @app.extensions["ampho"].databases("tenants", packages=["orders"])
        def tenants():
            return [Database("acme", url="sqlite:///acme.db")]
        """,
    )
    assert lines(project)[0] == "2 revisions of core, stats are pending."
    project.run("ampho", "db-up")
    assert lines(project) == [
        "All revisions are applied.",
        "Next: ampho db-check                      compare the models with the database",
        '      ampho db-rev -a "MESSAGE"           write revisions for the changes in the models',
        "      ampho db-status --database tenants  count the databases of tenants by status",
    ]


@pytest.mark.parametrize("command", [("ampho",), ("flask", "ampho"), ("quart", "ampho")])
def test_without_an_app_there_is_the_help(command: tuple[str, ...], project: Project) -> None:
    result = project.run(*command, check=False)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Usage: {' '.join(command)} ")
    assert "db-init" in result.stderr
    assert "No app was found here." in result.stderr


def test_an_app_that_was_named_and_does_not_exist_is_an_error(project: Project) -> None:
    result = project.run("ampho", "--app", "nowhere", check=False)
    assert result.exit_code == 1
    assert "there is no module 'nowhere'" in result.stderr


def test_a_history_that_cannot_be_read_is_an_error_in_one_line(project: Project) -> None:
    project.package("core")
    project.write("core/migrations/versions/core_1700000001_x.py", "revision = 'core_1700000001'\ndef (")
    project.app("flask", ["core"], URLS["flask"])
    result = project.run("ampho", check=False)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "core_1700000001_x.py" in result.stderr


def test_parallel_heads_and_revisions_of_another_branch(project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1700000001")
    project.app("flask", ["core"], URLS["flask"], extra_config={"AMPHO_JOURNAL_SOURCE": True})
    project.revision("core", "core_1700000002", "core_1700000001")
    project.run("ampho", "db-up")
    next(project.folder.glob("core/migrations/versions/core_1700000002*")).unlink()
    assert lines(project)[-1] == "Next: ampho db-down missing  revert the revisions of another branch of the code"

    project.run("ampho", "db-down", "missing", "--yes")
    for number in (3, 4):
        project.revision("core", f"core_170000000{number}", "core_1700000001")
    assert lines(project)[1].startswith("Next: ampho db-merge core  merge the heads of core; or use db-rebase, if one")
