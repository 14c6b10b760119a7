"""The files ``HEADS``: git itself finds that two branches have added revisions to one package."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from servers import Database
from store import MODELS, open_store

from ampho.errors import PackageNotFoundError, RevisionInputError

FIRST = "blog_1000000001"
HEADS = "blog/migrations/HEADS"


class Git:
    """A repository of a project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self("init", "-q", "-b", "main")
        self("config", "user.name", "Ann")
        self("config", "user.email", "ann@example.com")

    def __call__(self, *args: str, check: bool = True) -> str:
        done = subprocess.run(["git", *args], cwd=self.folder, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done
        return done.stdout

    def commit(self, branch: str = "") -> None:
        if branch:
            self("switch", "-qc", branch, "main")
        self("add", "blog", "core")
        self("commit", "-qm", "A commit")


@pytest.fixture(params=FRAMEWORKS)
def blog(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    for package in ("blog", "core"):
        project.package(package)
        project.revision(package, f"{package}_1000000001")
    with facade(project, request.param, ["blog", "core"], URLS[request.param]) as each:
        yield each


def named(project: Project, file: str = HEADS) -> list[str]:
    return [line for line in project.read(file).splitlines() if not line.startswith("#")]


def check(each: Facade, *args: str, exit_code: int = 0) -> str:
    done = each.run("db-check", "--heads", *args)
    assert done.exit_code == exit_code, done.output
    return " ".join(done.stdout.split())


def fork(each: Facade, project: Project) -> Git:
    """Add a revision on each of two branches, and merge them, which is a conflict."""
    each.call("write_heads")
    git = Git(project.folder)
    git.commit()
    for number, branch in ((2, "earlier"), (3, "later")):
        git("switch", "-q", "main")
        git("switch", "-qc", branch)
        assert each.run("db-rev", "blog", f"Number {number}", "--rev-id", f"blog_100000000{number}").exit_code == 0
        assert named(project) == [f"blog_100000000{number}"]
        git.commit()
    assert "CONFLICT (content): Merge conflict in blog/migrations/HEADS" in git("merge", "earlier", check=False)
    return git


@pytest.mark.parametrize(("remedy", "head"), [("db-rebase blog", "blog_1000000003"), ("db-merge blog", "blog_4")])
def test_git_finds_a_conflict_and_the_remedy_ends_it(blog: Facade, project: Project, remedy: str, head: str) -> None:
    git = fork(blog, project)
    said = check(blog, exit_code=1)
    assert "blog/migrations/HEADS has conflict markers of git; the heads in the revision files are " in said
    assert "Merge them with 'ampho db-merge blog', or move the later one on top of the other with" in said
    assert "core core_1000000001" in said

    done = blog.run(*remedy.split(), *(["--rev-id", head] if "merge" in remedy else []))
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"\nUpdated {HEADS}\n")
    assert named(project) == [head]
    assert check(blog) == f"blog {head} core core_1000000001"
    git.commit()
    assert git("status", "--porcelain", "blog") == ""


def test_without_the_files_git_finds_nothing(blog: Facade, project: Project) -> None:
    """What the files are for; and that none is written unless somebody asks for it."""
    git = Git(project.folder)
    git.commit()
    for number in (2, 3):
        git("switch", "-q", "main")
        git("switch", "-qc", f"branch{number}")
        assert blog.run("db-rev", "blog", f"Number {number}", "--rev-id", f"blog_100000000{number}").exit_code == 0
        git.commit()
    git("merge", "-q", "-m", "Merge", "branch2")
    assert not (project.folder / HEADS).exists()
    assert "blog has 2 parallel heads: blog_1000000002 (" in check(blog, exit_code=1)
    assert "1000000003" in check(blog, "blog", exit_code=1)
    assert check(blog, "core") == "core core_1000000001"


def test_a_file_is_kept_by_all_that_writes_revisions(blog: Facade, project: Project) -> None:
    done = blog.run("db-heads", "--write")
    assert done.stdout.startswith("Wrote blog/migrations/HEADS\nWrote core/migrations/HEADS\nblog  blog_1000000001\n")
    assert project.read(HEADS).startswith("# The heads of blog. ")
    assert project.read(HEADS).endswith(f"\n{FIRST}\n")
    assert "Wrote" not in blog.run("db-heads", "--write").stdout, "as they are right"
    (project.folder / "core/migrations/HEADS").unlink()
    project.write("core/migrations/HEADS", "# mine\ncore_1000000001\n")

    # A second line, on purpose; a merge; and all of it in one revision.
    two = blog.run("db-rev", "blog", "Two", "--rev-id", "blog_2")
    assert two.stdout == f"Wrote blog/migrations/versions/blog_2_two.py\nUpdated {HEADS}\n"
    assert blog.run("db-rev", "blog", "Three", "--rev-id", "blog_3", "--head", FIRST, "--splice").exit_code == 0
    assert sorted(named(project)) == ["blog_2", "blog_3"]
    assert "blog_2" in check(blog, exit_code=1)
    merged = json.loads(blog.run("db-merge", "blog", "--rev-id", "blog_4", "--json").stdout)
    assert merged["updated"] == [str(project.folder / HEADS)]
    assert named(project) == ["blog_4"]
    squashed = json.loads(blog.run("db-squash", "blog", "All", "--yes", "--json").stdout)
    assert squashed["updated"] == merged["updated"]
    assert named(project) == [squashed["squashed"]["revisions"][0]["id"]]
    assert project.read("core/migrations/HEADS") == "# mine\ncore_1000000001\n"
    assert blog.call("prune", "blog").is_deleted
    check(blog)


@pytest.mark.drivers("sqlite+pysqlite")
def test_autogenerate_keeps_the_files(project: Project, database: Database) -> None:
    """The first revision of a package gets a file, too, if there are files."""
    store = open_store(project, database, MODELS)
    file = "accounts/migrations/HEADS"
    project.write(file, "")
    store.run("db-rev", "-a", "Dry", "--dry-run")
    assert named(project, file) == []
    updated = [line for line in store.run("db-rev", "-a", "Tables").stdout.splitlines() if line.startswith("Updated")]
    assert updated == [f"Updated {project.migrations(each) / 'HEADS'}" for each in store.packages]
    done = json.loads(store.run("db-check", "--heads", "--json").stdout)["heads_checks"]
    assert [each["package"] for each in done] == [*store.packages]
    for each in done:
        assert each["file"] == str(project.migrations(each["package"]) / "HEADS")
        assert each["heads"] == named(project, each["file"])
        assert each["problem"] is None


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_history_that_is_split_takes_its_files_along(project: Project, database: Database) -> None:
    every = open_store(project, database, {"whole": "".join(MODELS.values())})
    every.auto("whole")
    every.run("db-up")
    every.run("db-heads", "--write")
    project.write("whole/models.py", "")
    store = open_store(project, database, MODELS, packages=["whole", *MODELS])
    store.run("db-adopt", str(project.migrations("whole")), "--into", ",".join(MODELS))
    store.run("db-check", "--heads")
    assert named(project, "whole/migrations/HEADS") == []
    for package in MODELS:
        (head,) = named(project, f"{package}/migrations/HEADS")
        assert head.startswith(f"{package}_")


def test_a_package_of_its_own_may_go_without(blog: Facade, project: Project) -> None:
    blog.call("write_heads")
    (project.folder / "core/migrations/HEADS").unlink()
    assert blog.run("db-rev", "core", "More", "--rev-id", "core_2").exit_code == 0
    assert not (project.folder / "core/migrations/HEADS").exists()
    assert check(blog) == f"blog {FIRST} core core_2"
    assert blog.call("check_heads", "core")[0].file is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "names no head; the heads in the revision files are blog_1000000001."),
        (b"blog_2\n", "names blog_2; the heads in the revision files are blog_1000000001."),
        (b"\xff", "cannot be read: UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff"),
        (b"<<<<<<< main\nblog_1000000001\n=======\nblog_2\n>>>>>>> more\n", "has conflict markers of git; the heads"),
        (b"# Hello\r\n\r\n  blog_1000000001\r\n", ""),
    ],
)
def test_a_file_that_is_wrong_is_named_with_the_remedy(
    blog: Facade, project: Project, content: bytes, words: str
) -> None:
    (project.folder / HEADS).write_bytes(content)
    (found, other) = blog.call("check_heads")
    assert other.problem == ""
    if not words:
        assert found.problem == ""
        assert blog.run("db-heads", "--write").exit_code == 0
        assert (project.folder / HEADS).read_bytes() == content
        return
    assert found.problem.startswith(f"{HEADS} {words}")
    assert found.problem.endswith("If these are right, run 'ampho db-heads --write'.")
    check(blog, exit_code=1)

    assert HEADS in map(str, blog.call("write_heads")) or blog.run("db-heads").exit_code == 0
    assert named(project) == [FIRST]
    check(blog)


def test_a_file_that_a_command_has_to_change_may_be_wrong_before(blog: Facade, project: Project) -> None:
    for content in (b"\xff", b"", b"<<<<<<< main\n"):
        (project.folder / HEADS).write_bytes(content)
        assert blog.run("db-rev", "core", "Of another package").exit_code == 0
        assert (project.folder / HEADS).read_bytes() == content
        assert blog.run("db-rev", "blog", "More").exit_code == 0
        check(blog)


def test_a_file_that_cannot_be_written(blog: Facade, project: Project) -> None:
    blog.call("write_heads")
    (project.folder / HEADS).unlink()
    (project.folder / HEADS).mkdir()
    with pytest.raises(RevisionInputError, match=r"HEADS cannot be written: .* Write it later, with 'ampho db-heads"):
        blog.call("write_heads")
    with pytest.raises(PackageNotFoundError):
        blog.call("check_heads", "shop")


def test_a_revision_whose_hook_fails_is_in_the_file(blog: Facade, project: Project) -> None:
    blog.call("write_heads")
    hook = "[alembic]\n[post_write_hooks]\nhooks = bad\nbad.type = nope\n"
    project.write("blog/migrations/alembic.ini", hook)
    blog.error_line("db-rev", "blog", "More", "--rev-id", "blog_2")
    assert [*project.migrations("blog").glob("versions/blog_2*")], "which is kept"
    assert named(project) == ["blog_2"]


def test_a_history_that_is_broken_is_an_error_like_elsewhere(blog: Facade, project: Project) -> None:
    blog.call("write_heads")
    project.revision("blog", "blog_9", "blog_8")
    assert "blog_8" in blog.error_line("db-check", "--heads")
    assert "blog_8" in blog.error_line("db-rev", "blog", "More")
    assert named(project) == [FIRST]


@pytest.mark.parametrize("others", ["--deploy", "--phases", "--scratch", "-d default", "-x a=b"])
def test_what_reads_a_database_is_another_check(blog: Facade, others: str) -> None:
    done = blog.run("db-check", "--heads", *others.split())
    assert done.exit_code == 2
    assert "--heads cannot be combined with -" in done.stderr


def test_no_database_is_read(project: Project) -> None:
    project.package("blog")
    project.revision("blog", FIRST)
    with facade(project, "flask", ["blog"], "postgresql+psycopg://nobody@nowhere.invalid/nothing") as each:
        assert each.run("db-heads", "--write").exit_code == 0
        check(each)
