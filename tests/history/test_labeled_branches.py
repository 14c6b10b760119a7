"""Packages that have several branches on purpose, such as ``expand`` and ``contract``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project

pytestmark = pytest.mark.usefixtures("unmeasured_processes")


@pytest.fixture(params=FRAMEWORKS)
def branched(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    """A package whose branch ``contract`` depends on its branch ``expand``."""
    project.package("app")
    project.revision("app", "first")
    project.revision("app", "expand_1", "first", labels="expand")
    project.revision("app", "contract_1", "first", labels="contract", depends_on="expand_1")
    with facade(project, request.param, ["app"], URLS[request.param]) as each:
        yield each


def test_heads_of_labeled_branches_are_no_conflict(branched: Facade) -> None:
    assert "expand_1 (expand), contract_1 (contract)" in branched.run("db-status").stdout
    assert branched.run("db-heads").stdout == "app  expand_1 (expand), contract_1 (contract)\n"
    shown = branched.run("db-show").stdout
    assert "(head of expand)" in shown
    assert "(head of contract; depends on expand_1)" in shown
    assert branched.run("db-show", "contract_1").stdout.startswith("Revision:    contract_1 (head of contract)\n")
    (status,) = branched.call("status")
    assert (status.branches, status.is_in_conflict) == (("expand", "contract"), False)
    assert branched.run("db-up").stderr == ""


def test_label_stands_for_its_branch_and_what_that_depends_on(branched: Facade) -> None:
    assert [each.revision.id for each in branched.call("upgrade", "expand@head").steps] == ["first", "expand_1"]
    assert [each.revision.id for each in branched.call("upgrade", "contract@head").steps] == ["contract_1"]
    assert [each.revision.id for each in branched.call("downgrade", "contract@base").steps] == ["contract_1"]


def test_new_revision_names_the_branch_that_it_continues(branched: Facade) -> None:
    error = branched.error_line("db-rev", "app", "More")
    assert "app has several branches: expand (expand_1), contract (contract_1)." in error
    assert "--head expand@head" in error
    assert branched.run("db-rev", "app", "More", "--head", "expand@head", "--rev-id", "expand_2").exit_code == 0
    assert branched.run("db-heads").stdout == "app  contract_1 (contract), expand_2 (expand)\n"
    error = branched.error_line("db-squash", "app")
    assert "app has several branches. Squash one after the other, as in --to contract@head." in error


def test_only_the_heads_of_one_branch_are_merged(branched: Facade, project: Project) -> None:
    for name in ("expand_2", "expand_3"):
        project.revision("app", name, "expand_1")
    assert "app has 2 parallel heads: expand_2" in branched.run("db-up").stderr
    assert "(conflict)" in branched.run("db-status").stdout
    assert "app has 2 heads: expand_2, expand_3. Merge them" in branched.error_line("db-rev", "app", "More")
    assert branched.run("db-merge", "app", "--rev-id", "joined").exit_code == 0
    assert branched.run("db-heads").stdout == "app  contract_1 (contract), joined (expand)\n"
    assert branched.run("db-up").stderr == ""
