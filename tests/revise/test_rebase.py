"""``db-rebase``: the later of two parallel lines of a package is put after the other, in one line of one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from servers import Database

from ampho.errors import PackageNotFoundError, RevisionInputError

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

FIRST, EARLIER, LATER, LAST = (f"blog_100000000{number}" for number in range(1, 5))


def table(name: str) -> dict[str, str]:
    return {
        "upgrade": f"op.create_table('{name}', sa.Column('id', sa.Integer, primary_key=True))",
        "downgrade": f"op.drop_table('{name}')",
    }


def write_parallel(project: Project, *, last: bool = False) -> Path:
    """Two revisions on one, and perhaps one more on the later; return the later one's file."""
    project.package("blog")
    project.revision("blog", FIRST, message="posts", **table("posts"))
    project.revision("blog", EARLIER, FIRST, message="earlier", **table("earlier"))
    if last:
        project.revision("blog", LAST, LATER, message="last", **table("last"))
    return project.revision("blog", LATER, FIRST, message="later", **table("later"))


@pytest.fixture(params=FRAMEWORKS)
def blog(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    project.package("blog")
    with facade(project, request.param, ["blog"], URLS[request.param]) as each:
        yield each


@pytest.mark.parametrize("last", [False, True], ids=["one", "two"])
def test_the_later_line_stands_on_the_other_and_no_other_byte_changes(
    blog: Facade, project: Project, last: bool
) -> None:
    path = write_parallel(project, last=last)
    before = project.files()

    moved = blog.call("rebase", "blog")

    after = project.files()
    name = str(path.relative_to(project.folder))
    old_line, new_line = f"down_revision = '{FIRST}'\n".encode(), f"down_revision = '{EARLIER}'\n".encode()
    assert after.pop(name) == before.pop(name).replace(old_line, new_line)
    assert {**after, "instance/app.db": b""} == {**before, "instance/app.db": b""}
    assert (moved.id, moved.down_revisions, moved.path) == (LATER, (EARLIER,), path)
    blog.call("upgrade")
    assert blog.call("plan").rows == (LAST if last else LATER,)
    assert blog.run("db-current").stderr == ""


def test_the_command_says_what_it_did_and_does_not_warn_of_what_it_mends(blog: Facade, project: Project) -> None:
    path = write_parallel(project)

    result = blog.run("db-rebase", "blog")

    assert result.stdout == f"{LATER} now revises {EARLIER}: {path.relative_to(project.folder)}\n"
    assert result.stderr == ""


def test_the_earlier_line_may_be_applied(blog: Facade, project: Project) -> None:
    write_parallel(project)
    blog.call("upgrade", EARLIER)

    assert blog.call("rebase", "blog").down_revisions == (EARLIER,)
    assert [step.step.revision.id for step in blog.call("upgrade").steps] == [LATER]


@pytest.mark.parametrize("applied", [LATER, LAST, "heads"])
def test_what_is_applied_is_not_moved_but_merged(blog: Facade, project: Project, applied: str) -> None:
    write_parallel(project, last=True)
    blog.call("upgrade", applied)
    files = project.files()

    line = blog.error_line("db-rebase", "blog")

    assert line.startswith(f"Revisions of the later line are already applied: {LATER}")
    assert line.endswith(". Merge the lines instead, with 'ampho db-merge blog'.")
    assert project.files() == files


def test_of_many_that_are_applied_the_first_are_named(blog: Facade, project: Project) -> None:
    write_parallel(project)
    line = [LATER, *(f"{LATER}_{number}" for number in range(1, 8))]
    for down, revision in pairwise(line):
        project.revision("blog", revision, down)
    blog.call("upgrade")

    assert f" already applied: {', '.join(line[:5])} and 3 more. Merge" in blog.error_line("db-rebase", "blog")


def test_it_is_applied_too_where_only_another_package_stands_on_it(project: Project) -> None:
    write_parallel(project)
    project.package("app")
    project.revision("app", "app_1", depends_on=LATER)
    with facade(project, "flask", ["blog", "app"], URLS["flask"]) as each:
        each.call("upgrade", "app")
        assert each.call("plan").rows == ("app_1",)

        assert "ampho db-merge blog" in each.error_line("db-rebase", "blog")


def test_parallel_first_revisions_become_a_line(blog: Facade, project: Project) -> None:
    project.revision("blog", FIRST, message="posts", **table("posts"))
    later = project.revision("blog", LATER, labels=None, message="later", **table("later"))
    before = later.read_text("utf-8")

    blog.call("rebase", "blog")

    assert later.read_text("utf-8") == before.replace("down_revision = None", f"down_revision = '{FIRST}'")
    assert len(blog.call("upgrade").steps) == 2
    assert blog.call("plan").rows == (LATER,)


HEADER = f'''\
"""later

Revision ID: {LATER}
Revises: {FIRST}
Create Date: 2026-01-01 00:00:00
"""

revision = "{LATER}"
{{down}}
branch_labels = None
depends_on = None


def upgrade():
    """
Revises: {FIRST}
    """


def downgrade():
    pass
'''


@pytest.mark.parametrize(
    ("down", "expected"),
    [
        (f'down_revision = "{FIRST}"', f'down_revision = "{EARLIER}"'),
        (f"down_revision = '{FIRST}'", f"down_revision = '{EARLIER}'"),
        (f'down_revision: str | None = "{FIRST}"', f'down_revision: str | None = "{EARLIER}"'),
        (f'down_revision: "str | None" = "{FIRST}"', f'down_revision: "str | None" = "{EARLIER}"'),
        (f"down_revision = '{FIRST}'  # '{FIRST}' é 漢", f"down_revision = '{EARLIER}'  # '{FIRST}' é 漢"),
        (f'down_revision   ="{FIRST}"; é = "{FIRST}"', f'down_revision   ="{EARLIER}"; é = "{FIRST}"'),
        (f'é = "漢"; down_revision = "{FIRST}"', f'é = "漢"; down_revision = "{EARLIER}"'),
        (f'down_revision = ("{FIRST}",)', f'down_revision = "{EARLIER}"'),
        (f'down_revision = (  # one\n    "{FIRST}"\n)', f'down_revision = (  # one\n    "{EARLIER}"\n)'),
        (f'down_revision = \\\n"{FIRST}"', f'down_revision = \\\n"{EARLIER}"'),
        (f"down_revision = '''{FIRST}'''", f"down_revision = '{EARLIER}'"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_the_line_is_changed_however_it_is_written(
    blog: Facade, project: Project, newline: str, down: str, expected: str
) -> None:
    path = write_parallel(project)
    text = HEADER.format(down=down).replace("later", "später \x0c \u2028 漢字", 1)
    path.write_bytes(text.replace("\n", newline).encode())
    wanted = text.replace(down, expected).replace(f"Revises: {FIRST}", f"Revises: {EARLIER}", 1)

    blog.call("rebase", "blog")

    assert path.read_bytes() == wanted.replace("\n", newline).encode()


@pytest.mark.parametrize(
    ("encoding", "cookie"), [("utf-8-sig", ""), ("latin-1", "# -*- coding: latin-1 -*-\n")], ids=["bom", "latin-1"]
)
def test_a_file_keeps_its_encoding(blog: Facade, project: Project, encoding: str, cookie: str) -> None:
    path = write_parallel(project)
    text = cookie + HEADER.format(down=f'down_revision = "{FIRST}"').replace("later", "später", 1)
    path.write_bytes(text.encode(encoding))

    blog.call("rebase", "blog")

    wanted = text.replace(f'down_revision = "{FIRST}"', f'down_revision = "{EARLIER}"')
    assert path.read_bytes() == wanted.replace(f"Revises: {FIRST}", f"Revises: {EARLIER}", 1).encode(encoding)


def test_an_empty_revises_line_of_a_first_revision_is_filled(blog: Facade, project: Project) -> None:
    project.revision("blog", FIRST, message="posts")
    text = HEADER.format(down="down_revision = None").replace(f"Revises: {FIRST}", "Revises:")
    path = project.write(project.migrations("blog") / "versions" / "later.py", text)

    blog.call("rebase", "blog")

    assert f'down_revision = "{FIRST}"\n' in path.read_text("utf-8")
    assert path.read_text("utf-8").count(f"Revises: {FIRST}\n") == 1


def test_a_file_keeps_its_mode_and_a_link_stays_one(blog: Facade, project: Project) -> None:
    path = write_parallel(project)
    target = project.folder / "elsewhere.py"
    path.rename(target)
    target.chmod(0o640)
    path.symlink_to(target)

    blog.call("rebase", "blog")

    assert path.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert f"down_revision = '{EARLIER}'" in target.read_text("utf-8")


@pytest.mark.parametrize(
    "down", [f'down_revision = "blog" + "_{FIRST[5:]}"', f'PARENT = "{FIRST}"\ndown_revision = PARENT']
)
def test_a_computed_down_revision_is_left_to_its_author(blog: Facade, project: Project, down: str) -> None:
    path = write_parallel(project)
    path.write_text(HEADER.format(down=down), "utf-8")
    files = project.files()

    line = blog.error_line("db-rebase", "blog")

    assert line.startswith(f"{path.relative_to(project.folder)} ")
    assert "computes" in line
    assert f"'{EARLIER}'" in line
    assert {**project.files(), "instance/app.db": b""} == {**files, "instance/app.db": b""}


def several_beginnings(project: Project) -> None:
    """Two bases that a merge joins, beside another line."""
    project.revision("blog", "blog_1000000011", labels=None)
    project.revision("blog", "blog_1000000012", labels=None)
    project.revision("blog", "blog_1000000013", ("blog_1000000011", "blog_1000000012"))
    project.revision("blog", FIRST)


def merge_at_the_beginning(project: Project) -> None:
    project.revision("blog", FIRST)
    project.revision("blog", EARLIER, FIRST)
    project.revision("blog", LATER, FIRST)
    project.revision("blog", "blog_1000000011", (EARLIER, LATER))
    project.revision("blog", "blog_1000000012", (EARLIER, LATER))


def three_heads(project: Project) -> None:
    write_parallel(project)
    project.revision("blog", LAST, FIRST)


def without_a_date(project: Project) -> None:
    project.revision("blog", "a1")
    project.revision("blog", "b2", "a1")
    project.revision("blog", "c3", "a1")


@pytest.mark.parametrize("write", [several_beginnings, merge_at_the_beginning, three_heads, without_a_date])
def test_what_is_no_two_simple_lines_is_to_be_merged(
    blog: Facade, project: Project, write: Callable[[Project], None]
) -> None:
    write(project)
    files = project.files()

    line = blog.error_line("db-rebase", "blog")

    assert line.endswith("'ampho db-merge blog'.")
    assert {**project.files(), "instance/app.db": b""} == {**files, "instance/app.db": b""}


def test_a_move_that_would_close_a_circle_is_refused(project: Project) -> None:
    write_parallel(project, last=True)
    project.package("app")
    project.revision("app", "app_1", depends_on=LATER)
    project.revision("blog", "blog_1000000009", EARLIER, "app_1")
    files = project.files()
    with facade(project, "flask", ["blog", "app"], URLS["flask"]) as each:
        line = each.error_line("db-rebase", "blog")

    assert line.endswith(
        "because of the dependencies between them. Merge the lines instead, with 'ampho db-merge blog'."
    )
    assert {**project.files(), "instance/app.db": b""} == {**files, "instance/app.db": b""}


def test_ids_without_a_time_are_told_apart_by_the_date_in_their_files(blog: Facade, project: Project) -> None:
    project.revision("blog", "a1")
    project.revision("blog", "c3", "a1", message="by hand\n\nCreate Date: 2026-01-01 10:00:00.123456\n")
    project.revision("blog", "b2", "a1", message="by hand\n\nCreate Date: 2026-01-02 10:00:00+02:00\n")

    moved = blog.call("rebase", "blog")

    assert (moved.id, moved.down_revisions) == ("b2", ("c3",))


@pytest.mark.parametrize("ids", [(), (FIRST,)], ids=["none", "one"])
def test_with_one_head_or_none_there_is_nothing_to_rebase(blog: Facade, project: Project, ids: tuple[str, ...]) -> None:
    project.migrations("blog").mkdir()
    for one in ids:
        project.revision("blog", one)

    with pytest.raises(RevisionInputError, match="there is nothing to rebase") as caught:
        blog.call("rebase", "blog")

    assert caught.value.package == "blog"


def test_an_unknown_package_is_an_error(blog: Facade) -> None:
    with pytest.raises(PackageNotFoundError):
        blog.call("rebase", "nothing")


def test_a_file_that_cannot_be_written_is_one_line_and_stays(blog: Facade, project: Project) -> None:
    path = write_parallel(project)
    path.with_name(f".{path.name}.ampho").mkdir()  # in the way of what is written before it takes the file's place
    files = project.files()

    line = blog.error_line("db-rebase", "blog")

    assert line.startswith(f"{path.relative_to(project.folder)} cannot be rewritten: ")
    assert {**project.files(), "instance/app.db": b""} == {**files, "instance/app.db": b""}


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql", "postgresql+asyncpg")
def test_databases_of_either_side_converge_after_a_rebase(
    database: Database, project: Project, make_database: Callable[[str], Database]
) -> None:
    write_parallel(project, last=True)
    framework = "quart" if database.is_async else "flask"
    found = []
    for side, each_database in ((EARLIER, database), (FIRST, make_database(database.driver))):
        with facade(project, framework, ["blog"], each_database.url) as each:
            each.call("upgrade", side)
            if len(each.call("show", "heads")) > 1:
                each.call("rebase", "blog")
            each.call("upgrade")
            found.append((each.call("plan").rows, each_database.tables()))
            each.call("downgrade", "blog@base")
            assert each.call("plan").rows == ()

    assert found == [((LAST,), ["alembic_version", "earlier", "last", "later", "posts"])] * 2


def test_a_revision_that_would_wait_for_the_next_phase_is_warned_of(blog: Facade, project: Project) -> None:
    write_parallel(project)
    project.revision("blog", EARLIER, FIRST, message="earlier", upgrade="op.drop_column('posts', 'old')")
    said = " ".join(blog.run("db-rebase", "blog").stderr.split())
    assert said.startswith(f"Warning: {LATER} is in phase pre, and now depends on {EARLIER}, which is in phase post")
    assert "restore the file of blog_1000000003, and run 'ampho db-merge blog'." in said
    write_parallel(project)
    assert not blog.run("db-rebase", "blog").stderr


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_the_template_writes_is_rebased_and_plain_alembic_reads_it(project: Project, framework: str) -> None:
    project.package("blog")
    project.app(framework, ["blog"], URLS[framework])
    parallel = ("--head", "blog_100000000", "--splice", "--rev-id", "blog_300000000")
    with facade(project, framework, ["blog"], URLS[framework]) as each:
        for command in (
            ("db-init", "blog"),
            ("db-rev", "blog", "one", "--rev-id", "blog_100000000"),
            ("db-rev", "blog", "two", "--rev-id", "blog_200000000"),
            ("db-rev", "blog", "three", *parallel),
        ):
            assert each.run(*command).exit_code == 0

    done = project.run("ampho", "db-rebase", "blog")

    assert done.stdout.startswith("blog_300000000 now revises blog_200000000: blog/migrations/versions/")
    text = next(project.migrations("blog").glob("versions/*_three.py")).read_text("utf-8")
    assert 'down_revision = "blog_200000000"\n' in text
    assert "Revises: blog_200000000\n" in text
    alembic = ("alembic", "-c", "blog/migrations/alembic.ini")
    assert project.run(*alembic, "heads").stdout == "blog_300000000 (blog) (head)\n"
    project.run(*alembic, "upgrade", "head")
    assert project.run("ampho", "db-current").stdout == "blog  blog_300000000 (head)\n"
