"""What a git branch adds, and how its findings are annotated."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from facade import FRAMEWORKS, URLS, facade
from jsonschema import Draft7Validator
from project import Project

from ampho.cli.show.annotations import annotate
from ampho.errors import LinterError
from ampho.revise.lint.report import LintReport, Violation

DROP = 'op.drop_column("author", "age")'
BACK = 'op.add_column("author", sa.Column("age", sa.Integer))'


def git(folder: Path, *command: str) -> str:
    program = [
        "git",
        "-C",
        str(folder),
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "protocol.file.allow=always",
    ]
    return subprocess.run([*program, *command], check=True, capture_output=True, text=True).stdout


def commit(folder: Path, message: str = "a") -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


@pytest.fixture
def repository(project: Project) -> Project:
    """Two packages with a revision each on the branch main, and the branch work with nothing yet."""
    git(project.folder, "init", "-q", "-b", "main")
    project.write(".gitignore", "*.db\n__pycache__\n")
    for package in ("core", "shop"):
        project.package(package)
        project.revision(package, f"{package}_1", upgrade=DROP, downgrade=BACK)
    commit(project.folder)
    git(project.folder, "checkout", "-q", "-b", "work")
    return project


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_revisions_that_a_branch_adds_or_changes_are_checked(repository: Project, framework: str) -> None:
    project, folder = repository, repository.folder
    with facade(project, framework, ["core", "shop"], URLS[framework]) as each:

        def checked(*names: str, base: str = "main") -> tuple[str, ...]:
            return each.call("lint", *names, diff_base=base).revisions  # type: ignore[no-any-return]

        assert checked() == ()
        result = each.run("db-lint", "--diff-base", "main")
        assert (result.exit_code, result.stdout) == (
            0,
            "Nothing to check: the branch adds or changes no revision.\n",
        )
        project.revision("core", "core_2", "core_1", upgrade=DROP, downgrade=BACK)
        assert checked() == ("core_2",)  # not known to git yet
        git(folder, "add", "-A")
        assert checked() == ("core_2",)  # staged
        commit(folder)
        path = project.revision("shop", "shop_2", "shop_1", message="Größe, mit Leerzeichen")
        assert checked() == ("core_2", "shop_2")
        assert checked("shop") == ("shop_2",)
        assert checked("core_2", "shop_1") == ("core_2",)
        commit(folder)
        git(folder, "mv", "shop/migrations/versions/shop_1_by_hand.py", "shop/migrations/versions/shop_1_renamed.py")
        assert checked() == ("core_2", "shop_2")  # a file that is only renamed
        renamed = folder / "shop/migrations/versions/shop_1_renamed.py"
        renamed.write_text(
            renamed.read_text("utf-8").replace("pass", "op.execute('SELECT 1')") + "\n# edited\n", "utf-8"
        )
        assert checked() == ("core_2", "shop_1", "shop_2")
        path.unlink()
        assert checked() == ("core_2", "shop_1")
        git(folder, "checkout", "-q", "main", "--force")
        project.revision("core", "core_3", "core_1", upgrade="pass")
        commit(folder)
        git(folder, "checkout", "-q", "work")
        assert checked() == ("core_2", "shop_2")  # not what main has added since
        assert checked(base="HEAD") == ()
        assert checked(base=git(folder, "rev-parse", "main~1").strip()) == ("core_2", "shop_2")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_applied_revision_and_a_sub_folder_make_no_difference(
    repository: Project, framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = repository
    project.revision("core", "core_2", "core_1", upgrade="op.execute('DELETE FROM ampho_journal WHERE id < 0')")
    git(project.folder, "config", "diff.relative", "true")
    git(project.folder, "config", "diff.renames", "false")
    with facade(project, framework, ["core"], URLS[framework].replace("app.db", f"{project.folder}/a.db")) as each:
        each.call("stamp", "core_2")
        monkeypatch.chdir(project.folder / "core" / "migrations")
        result = each.run("db-lint", "--diff-base", "main", "--format", "github")
        assert result.exit_code == 1
        assert result.stdout.startswith("::warning file=core/migrations/versions/core_2_by_hand.py,line=16,")
        found = json.loads(each.run("db-lint", "--diff-base", "main", "--json").stdout)["lint"]
        assert [(one["rule"], one["line"]) for one in found["violations"]] == [("irreversible", 16)]


def test_a_package_outside_of_the_repository_is_left_out(project: Project) -> None:
    git(project.write("inner/.gitignore", "*.db\n").parent, "init", "-q", "-b", "main")
    inner = project.folder / "inner"
    git(inner, "commit", "-q", "--allow-empty", "-m", "a")
    for package in ("core", "inner.shop"):
        project.package(package)
        project.revision(package, f"{package.rpartition('.')[2]}_1", labels=(package,))
    with facade(project, "flask", ["core", "inner.shop"], f"sqlite:///{project.folder}/a.db") as each:
        assert each.call("lint").revisions == ("core_1", "shop_1")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(inner)
            assert each.call("lint", diff_base="main").revisions == ("shop_1",)


def test_what_git_cannot_find_is_explained(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project.package("core")
    project.revision("core", "core_1")
    with facade(project, "flask", ["core"], URLS["flask"]) as each:
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.folder.parent))
        assert "needs a git repository. git says: not a git repository" in each.error_line(
            "db-lint", "--diff-base", "main"
        )
        assert each.run("db-lint", "--format", "sarif").exit_code == 0  # which needs none
        git(project.folder, "init", "-q", "-b", "main")
        assert "git has no branch, tag, or commit 'origin/main'" in each.error_line(
            "db-lint", "--diff-base", "origin/main"
        )
        commit(project.folder)
        line = each.error_line("db-lint", "--diff-base", "origin/main", "--format", "gitlab")
        assert line.endswith("fetch it with 'git fetch origin main:refs/remotes/origin/main'.")
        assert "git has no branch, tag, or commit '--all'" in each.error_line("db-lint", "--diff-base", "--all")
        git(project.folder, "checkout", "-q", "--orphan", "alone")
        commit(project.folder, "another first commit")
        assert "have no common commit" in each.error_line("db-lint", "--diff-base", "main")
        monkeypatch.setenv("PATH", "")
        with pytest.raises(LinterError, match="Install git"):
            each.call("lint", diff_base="main")


def test_a_shallow_clone_is_told_how_to_fetch_the_history(repository: Project, tmp_path: Path) -> None:
    folder = repository.folder
    repository.app("flask", ["core", "shop"], "sqlite:///a.db")
    repository.revision("core", "core_2", "core_1", upgrade=DROP, downgrade=BACK)
    commit(folder)
    git(folder, "checkout", "-q", "main")
    repository.write("other.txt", "")
    commit(folder)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth", "1", "--no-single-branch", "-b", "work", f"file://{folder}", str(clone))
    command = ("ampho", "db-lint", "--diff-base", "origin/main", "--format", "gitlab")
    done = Project(clone).run(*command, check=False)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "This clone is shallow" in done.stderr
    assert "'git fetch --unshallow'" in done.stderr
    git(clone, "fetch", "-q", "--unshallow")
    done = Project(clone).run(*command, check=False)
    assert (done.exit_code, [one["check_name"] for one in json.loads(done.stdout)]) == (1, ["data-loss"])


@pytest.mark.parametrize("base", ["origin/main", "v1"])
def test_what_the_error_tells_to_fetch_is_found(base: str, repository: Project, tmp_path: Path) -> None:
    folder = repository.folder
    repository.app("flask", ["core", "shop"], "sqlite:///a.db")
    git(folder, "tag", "v1")
    repository.revision("core", "core_2", "core_1", upgrade=DROP, downgrade=BACK)
    commit(folder)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--no-tags", "--single-branch", "-b", "work", f"file://{folder}", str(clone))
    command = ("ampho", "db-check", "--phases", "--diff-base", base)
    told = Project(clone).run(*command, check=False).stderr
    git(clone, *told.partition("'git ")[2].partition("'")[0].split())
    assert Project(clone).run(*command).exit_code == 0


def test_several_databases_are_checked_and_a_finding_is_printed_once(repository: Project) -> None:
    project = repository
    project.revision("core", "core_2", "core_1", upgrade=DROP, downgrade=BACK)
    project.revision("shop", "shop_2", "shop_1", upgrade=DROP, downgrade=BACK)
    databases = {"AMPHO_DATABASES": {"default": ["core"], "more": ["core", "shop"]}}
    config = {**databases, "SQLALCHEMY_BINDS": {"more": "sqlite:///more.db"}}
    with facade(project, "flask", ["core", "shop"], URLS["flask"], **config) as each:
        report = each.call("lint", diff_base="main")
        assert {name: one.revisions for name, one in report.databases.items()} == {
            "default": ("core_2",),
            "more": ("core_2", "shop_2"),
        }
        result = each.run("db-lint", "--diff-base", "main", "--format", "github")
        assert [line.split(",")[0].rpartition("/")[2] for line in result.stdout.splitlines()] == [
            "core_2_by_hand.py",
            "shop_2_by_hand.py",
        ]


def _object(required: str, optional: str = "", **properties: Any) -> dict[str, Any]:
    """The schema of an object with these properties and no others; an undescribed property is a string."""
    names = [*required.split(), *optional.split()]
    return {
        "type": "object",
        "required": required.split(),
        "additionalProperties": False,
        "properties": {name: {"type": "string", "minLength": 1} for name in names} | properties,
    }


def _array(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


LINE = {"type": "integer", "minimum": 1}
# The parts of the official schemas for what db-lint prints. In SARIF 2.1.0, additionalProperties is false everywhere.
SCHEMAS = {
    "gitlab": _array(
        _object(
            "description check_name fingerprint severity location",
            severity={"enum": ["info", "minor", "major", "critical", "blocker"]},
            fingerprint={"type": "string", "pattern": "^[0-9a-f]{64}$"},
            location=_object("path lines", lines=_object("begin", begin=LINE)),
        ),
    ),
    "sarif": _object(
        "version runs $schema",
        version={"const": "2.1.0"},
        runs=_array(
            _object(
                "tool results",
                tool=_object(
                    "driver",
                    driver=_object("name version rules", rules=_array(_object("id", "helpUri"), uniqueItems=True)),
                ),
                results=_array(
                    _object(
                        "ruleId ruleIndex level message locations partialFingerprints",
                        ruleIndex={"type": "integer", "minimum": -1},
                        level={"enum": ["none", "note", "warning", "error"]},
                        message=_object("text"),
                        partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
                        locations=_array(
                            _object(
                                "physicalLocation",
                                physicalLocation=_object(
                                    "artifactLocation region",
                                    artifactLocation=_object("uri", "uriBaseId"),
                                    region=_object("startLine", startLine=LINE),
                                ),
                            )
                        ),
                    )
                ),
            )
        ),
    ),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_annotations_fit_their_schemas_and_name_the_lines(project: Project, framework: str) -> None:
    git(project.folder, "init", "-q")
    project.package("core")
    project.revision("core", "core_1")
    upgrade = f"{DROP}\nfor name in ['a', 'b']:\n    op.drop_table(\n        name\n    )"
    path = project.revision("core", "core_2", "core_1", upgrade=upgrade, message="100%, really: ü")
    path = path.rename(path.with_name("core 2, 100%.py"))
    lines = path.read_text("utf-8").splitlines()
    with facade(project, framework, ["core"], URLS[framework]) as each:

        def printed(format_: str) -> str:
            result = each.run("db-lint", "core_2", "--format", format_)
            assert (result.exit_code, result.stderr) == (1, "")
            return result.stdout

        found = each.call("lint", "core_2").violations
        assert [(one.rule, lines[one.line - 1].strip()) for one in found] == [
            ("data-loss", DROP),
            ("data-loss", "op.drop_table("),
            ("data-loss", "op.drop_table("),
            ("irreversible", "def downgrade():"),
        ]
        commands = printed("github").splitlines()
        assert len(commands) == 4
        head = f"::warning file=core/migrations/versions/core 2%2C 100%25.py,line={found[0].line},"
        assert commands[0] == (
            f"{head}title=db-lint%3A data-loss::It drops the column age, and the data in it is lost."
            " Release code that does not use it first, and back up the data that you may need."
        )
        quality = json.loads(printed("gitlab"))
        sarif = json.loads(printed("sarif"))
        Draft7Validator(SCHEMAS["gitlab"]).validate(quality)
        Draft7Validator(SCHEMAS["sarif"]).validate(sarif)
        assert [(one["check_name"], one["location"]["lines"]["begin"]) for one in quality] == [
            (one.rule, one.line) for one in found
        ]
        results = sarif["runs"][0]["results"]
        places = [one["locations"][0]["physicalLocation"] for one in results]
        assert [place["region"]["startLine"] for place in places] == [one.line for one in found]
        assert {unquote(place["artifactLocation"]["uri"]) for place in places} == {quality[0]["location"]["path"]}
        rules = sarif["runs"][0]["tool"]["driver"]["rules"]
        assert [rules[one["ruleIndex"]]["id"] for one in results] == [one.rule for one in found]
        assert quality[0]["location"]["path"] == "core/migrations/versions/core 2, 100%.py"

        prints = [one["fingerprint"] for one in quality]
        assert len(set(prints)) == 4
        path.write_text("# A comment.\n\n" + path.read_text("utf-8"), "utf-8")
        moved = json.loads(printed("gitlab"))
        assert [one["fingerprint"] for one in moved] == prints
        assert [one["location"]["lines"]["begin"] for one in moved] == [one.line + 2 for one in found]

        for format_, nothing in (("github", ""), ("gitlab", "[]\n")):
            result = each.run("db-lint", "core_1", "--format", format_)
            assert (result.exit_code, result.stdout) == (0, nothing)
        error = each.error_line("db-lint", "--json", "--format", "sarif", exit_code=2)
        assert error == "--json and --format are mutually exclusive."


def test_a_file_outside_of_the_repository_and_a_message_with_signs_of_the_formats(tmp_path: Path) -> None:
    """Such as the file of an installed package, which on Windows may be on another drive."""
    root, installed = (tmp_path / name for name in ("repository", "site packages"))
    message = "It drops {name}, 100%::really, of [a](1)\r\nand\x85b"
    places = [(root / "a" / "a.py", "a/a.py"), (installed / "ü.py", f"{installed.as_posix()}/ü.py")]
    found = tuple(Violation("a_1", "a", path, "data-loss", message, line=3) for path, _ in places)
    report = LintReport(("a_1",), found, has_squawk=False)
    paths = [path for _, path in places]

    head = "title=db-lint%3A data-loss::It drops {name}, 100%25::really, of [a](1) %0Aand b."
    assert annotate(report, "github", root).splitlines() == [f"::warning file={path},line=3,{head}" for path in paths]

    quality = json.loads(annotate(report, "gitlab", root))
    Draft7Validator(SCHEMAS["gitlab"]).validate(quality)
    assert [one["location"]["path"] for one in quality] == paths

    log = json.loads(annotate(report, "sarif", root))
    Draft7Validator(SCHEMAS["sarif"]).validate(log)
    results = log["runs"][0]["results"]
    assert results[0]["message"]["text"].startswith("It drops {{name}}, 100%::really")
    assert [one["locations"][0]["physicalLocation"]["artifactLocation"] for one in results] == [
        {"uri": "a/a.py", "uriBaseId": "%SRCROOT%"},
        {"uri": f"file://{quote(installed.as_posix())}/%C3%BC.py"},
    ]

    empty = json.loads(annotate(LintReport((), (), has_squawk=False), "sarif", root))
    Draft7Validator(SCHEMAS["sarif"]).validate(empty)
    assert empty["runs"][0]["results"] == []


def test_machine_formats_print_nothing_else(project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade="print('hello')\nop.execute('DELETE FROM a')", downgrade=BACK)
    project.app("flask", ["core"], URLS["flask"])
    done = project.run("ampho", "db-lint", "--format", "gitlab", check=False)
    assert [one["check_name"] for one in json.loads(done.stdout)] == ["data-loss"]
    assert "hello" in done.stderr
