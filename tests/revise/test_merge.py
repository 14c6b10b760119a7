"""Parallel revisions of one package: every command names them, and ``db-merge`` joins them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from servers import Database

pytestmark = pytest.mark.usefixtures("unmeasured_processes")


def table(name: str) -> dict[str, str]:
    return {
        "upgrade": f"op.create_table('{name}', sa.Column('id', sa.Integer, primary_key=True))",
        "downgrade": f"op.drop_table('{name}')",
    }


def write_parallel(project: Project, *ids: str) -> list[Path]:
    """A package ``blog`` with a first revision, and one more for each id, side by side."""
    project.package("blog")
    project.revision("blog", "blog_1000000000", message="posts", **table("posts"))
    return [project.revision("blog", one, "blog_1000000000", message=f"make {one}", **table(f"t_{one}")) for one in ids]


def literal(path: Path, name: str) -> Any:
    """What a revision file assigns to a name."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            assert node.value
            return ast.literal_eval(node.value)
    raise AssertionError(f"no {name}")


@pytest.fixture(params=FRAMEWORKS)
def blog(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    """An app whose package ``blog`` has two parallel revisions, not applied."""
    write_parallel(project, "blog_1000000001", "blog_1000000002")
    with facade(project, request.param, ["blog"], URLS[request.param]) as each:
        yield each


@pytest.mark.parametrize("command", ["db-up", "db-current", "db-check", "db-stamp heads", "db-up -s --start base"])
def test_a_command_warns_of_parallel_heads_by_ids_files_and_both_ways_out(
    blog: Facade, project: Project, command: str
) -> None:
    if command == "db-check":
        blog.call("upgrade")

    result = blog.run(*command.split())

    warning, *others = result.stderr.splitlines()
    assert [other.partition(".")[0] for other in others] == (
        ["Warning: Ampho found no models in blog"] if command == "db-check" else []
    )
    assert warning.startswith("Warning: blog has 2 parallel heads: blog_1000000001 (")
    for path in project.migrations("blog").glob("versions/blog_100000000[12]*"):
        assert f"({path.relative_to(project.folder)})" in warning
    assert "'ampho db-merge blog'" in warning
    assert "'ampho db-rebase blog'" in warning


def test_an_upgrade_applies_both_parallel_revisions(blog: Facade) -> None:
    assert blog.run("db-up").exit_code == 0
    assert blog.call("current")["blog"].current == ("blog_1000000001", "blog_1000000002")


def test_one_head_in_each_of_several_packages_is_no_conflict(project: Project) -> None:
    for name in ("app", "blog"):
        project.package(name)
        project.revision(name, f"{name}_1")
    with facade(project, "flask", ["app", "blog"], URLS["flask"]) as each:
        assert each.run("db-up").stderr == ""
        result = each.run("db-heads")

    assert result.stdout == (
        "app   app_1\nblog  blog_1\nOne head in each package is normal: there is nothing to merge.\n"
    )
    assert result.stderr == ""


def test_db_heads_tells_the_conflict_from_what_is_normal(blog: Facade, project: Project) -> None:
    project.package("app")
    project.revision("app", "app_1")
    blog.app.config["AMPHO_MIGRATION_PACKAGES"] = ["app", "blog"]

    lines = blog.run("db-heads").stdout.splitlines()

    assert lines[:2] == ["app   app_1", "blog  blog_1000000001, blog_1000000002"]
    assert "blog/migrations/versions/blog_1000000001_make_blog_1000000001.py" in lines[2]
    assert "blog/migrations/versions/blog_1000000002_make_blog_1000000002.py" in lines[3]
    assert "ampho db-merge blog" in lines[4]
    assert "ampho db-rebase blog" in lines[4]
    assert len(lines) == 5


def test_db_heads_without_revisions_says_so(project: Project) -> None:
    project.package("blog")
    with facade(project, "flask", ["blog"], URLS["flask"]) as each:
        result = each.run("db-heads")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "There are no revisions yet." in result.stderr


def test_three_heads_can_only_be_merged_and_the_warning_says_so(project: Project) -> None:
    write_parallel(project, "blog_1000000001", "blog_1000000002", "blog_1000000003")
    with facade(project, "flask", ["blog"], URLS["flask"]) as each:
        warned = each.run("db-up").stderr
        listed = each.run("db-heads").stdout

    for text in (warned, listed):
        assert "db-merge blog" in text
        assert "db-rebase" not in text


@pytest.mark.parametrize("ids", [(1, 2), (1, 2, 3)], ids=["two", "three"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_merge_makes_one_head_of_several(project: Project, framework: str, ids: tuple[int, ...]) -> None:
    heads = tuple(f"blog_100000000{number}" for number in ids)
    write_parallel(project, *heads)
    with facade(project, framework, ["blog"], URLS[framework]) as each:
        merged = each.call("merge", "blog", "Join the lines", rev_id="blog_joined")
        up = each.run("db-up")
        state = each.call("current")
        rows = each.call("plan").rows

    assert merged.down_revisions == heads
    assert literal(merged.path, "down_revision") == heads
    assert literal(merged.path, "branch_labels") is None
    assert literal(merged.path, "depends_on") is None
    assert merged.path.name == "blog_joined_join_the_lines.py"
    assert up.stderr == ""
    assert state["blog"].is_up_to_date
    assert rows == ("blog_joined",)


def test_the_command_says_which_file_it_wrote(blog: Facade, project: Project) -> None:
    result = blog.run("db-merge", "blog")

    (path,) = project.migrations("blog").glob("versions/*_merge_heads.py")
    assert result.stdout == f"Wrote {path.relative_to(project.folder)}\n"
    assert result.stderr == ""


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_with_one_head_or_none_there_is_nothing_to_merge(project: Project, framework: str) -> None:
    project.package("app")
    project.migrations("app").mkdir()
    project.package("blog")
    project.revision("blog", "blog_1")
    files = project.files()
    with facade(project, framework, ["app", "blog"], URLS[framework]) as each:
        one = each.error_line("db-merge", "blog")
        none = each.error_line("db-merge", "app")
        unknown = each.error_line("db-merge", "nothing")

    assert one == "blog has one head, blog_1: there is nothing to merge."
    assert none == "app has no revisions: there is nothing to merge."
    assert "nothing" in unknown
    assert project.files() == files


def test_an_id_that_is_taken_or_an_empty_message_writes_nothing(blog: Facade, project: Project) -> None:
    files = project.files()

    assert "is already used" in blog.error_line("db-merge", "blog", "--rev-id", "blog_1000000001")
    assert "empty" in blog.error_line("db-merge", "blog", "")
    assert project.files() == files


@pytest.mark.drivers("sqlite", "postgresql+psycopg", "mariadb+asyncmy", "postgresql+asyncpg")
def test_databases_of_either_side_converge_after_a_merge(
    database: Database, project: Project, make_database: Any
) -> None:
    write_parallel(project, "blog_1000000001", "blog_1000000002")
    framework = "quart" if database.is_async else "flask"
    found = []
    databases = (database, make_database(database.driver))
    for side, each_database in zip(("blog_1000000002", "blog_1000000001"), databases, strict=True):
        with facade(project, framework, ["blog"], each_database.url) as each:
            each.call("upgrade", side)
            if len(each.call("show", "heads")) > 1:
                each.call("merge", "blog", rev_id="blog_merged")
            each.call("upgrade")
            found.append((each.call("plan").rows, tuple(each_database.tables())))
            each.call("downgrade", "blog@base")
            assert each.call("plan").rows == ()

    schema = ("alembic_version", "posts", "t_blog_1000000001", "t_blog_1000000002")
    assert found == [(("blog_merged",), schema)] * 2


def test_what_either_side_depends_on_is_applied_before_a_merge(project: Project) -> None:
    for name in ("app", "acme"):
        project.package(name)
        project.revision(name, f"{name}_1")
        project.revision(name, f"{name}_2", f"{name}_1")
    project.package("blog")
    project.revision("blog", "blog_1")
    project.revision("blog", "blog_2", "blog_1", "app_2")
    project.revision("blog", "blog_3", "blog_1", "acme_1")
    with facade(project, "flask", ["blog", "app", "acme"], URLS["flask"]) as each:
        each.call("merge", "blog", rev_id="blog_4")
        run = each.call("upgrade", "blog")
        rows = each.call("plan").rows
        each.call("upgrade")

        assert {step.step.revision.id for step in run.steps} == {
            *("app_1", "app_2", "acme_1", "blog_1", "blog_2", "blog_3", "blog_4")
        }
        assert rows == ("blog_4",)
        assert each.call("plan").rows == ("acme_2", "blog_4")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_plain_alembic_reads_and_applies_a_merge(project: Project, framework: str) -> None:
    project.package("blog")
    project.app(framework, ["blog"], URLS[framework])
    project.run("ampho", "db-init", "blog")
    write_parallel(project, "blog_1000000001", "blog_1000000002")
    project.run("ampho", "db-merge", "blog", "--rev-id", "blog_merged")
    alembic = ("alembic", "-c", "blog/migrations/alembic.ini")

    assert project.run(*alembic, "heads").stdout.split() == ["blog_merged", "(blog)", "(head)"]
    project.run(*alembic, "upgrade", "head")
    assert "blog_merged (head) (mergepoint)" in project.run(*alembic, "current").stdout
    assert project.run("ampho", "db-current").stdout == "blog  blog_merged (head)\n"
