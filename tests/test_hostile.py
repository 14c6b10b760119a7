"""Hostile names, broken histories and databases that do not answer: one line, an exit code, and nothing is touched."""

from __future__ import annotations

import ast
import re
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from facade import Facade, facade, one_error_line
from project import Project
from servers import Database
from sqlalchemy import URL

FRAMEWORKS = {"flask": "sqlite+pysqlite", "quart": "sqlite+aiosqlite"}
AUTHOR = """
op.create_table("author", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(50)))
op.execute("INSERT INTO author VALUES (1, 'Ann')")
"""
TITLE = 'op.add_column("author", sa.Column("title", sa.String(50)))'


@dataclass(frozen=True)
class Witness:
    """A project and its database as they were, to show that a command left both alone."""

    project: Project
    database: Database

    def state(self) -> tuple[object, ...]:
        links = {path: path.readlink() for path in self.project.folder.rglob("*") if path.is_symlink()}
        around = sorted(path.name for path in self.project.folder.parent.iterdir())
        return self.project.files(), links, around, self.database.schema(), self.database.data()

    @contextmanager
    def untouched(self, why: object = "") -> Iterator[None]:
        before = self.state()
        yield
        assert self.state() == before, why


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def on_disk(framework: str, make_database: Callable[[str], Database]) -> Database:
    return make_database(FRAMEWORKS[framework])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a project with its database, which is made once for each framework."""

    @cache
    def made(framework: str) -> Path:
        project = Project(tmp_path_factory.mktemp(framework))
        project.package("core")
        url = URL.create(FRAMEWORKS[framework], database=str(project.folder / "app.db"))
        with facade(project, framework, ["core"], url) as each:
            each.call("init", "core")
            project.revision("core", "core_1", upgrade=AUTHOR, downgrade='op.drop_table("author")')
            each.call("upgrade")
        project.revision("core", "core_2", "core_1", upgrade=TITLE, downgrade='op.drop_column("author", "title")')
        project.package("bare")
        project.package("Core")
        project.write("only_namespace/thing.py", "raise SystemExit('it was imported')")
        return project.folder

    return made


@pytest.fixture
def shop(project: Project, framework: str, on_disk: Database, original: Callable[[str], Path]) -> Project:
    """A project with a revision that is applied and one that is not, and with packages that can have no migrations."""
    shutil.copytree(original(framework), project.folder, dirs_exist_ok=True)
    (project.folder / "app.db").rename(on_disk.name)
    return project


@pytest.fixture
def witness(shop: Project, on_disk: Database) -> Witness:
    return Witness(shop, on_disk)


@contextmanager
def app(witness: Witness, framework: str, packages: Any = ("core",), **config: object) -> Iterator[Facade]:
    listed = packages if isinstance(packages, str) or packages is None else list(packages)
    with facade(witness.project, framework, listed, witness.database.url, **config) as each:
        yield each


# ---- names of packages ----

HOSTILE = {
    "../x": "is not the name of a package",
    "..": "is not the name of a package",
    "/etc": "is not the name of a package",
    " ": "is not the name of a package",
    "a b": "is not the name of a package",
    "core.": "is not the name of a package",
    ".core": "is not the name of a package",
    "core..models": "is not the name of a package",
    "é\0": "is not the name of a package",
    "é": "is not the name of a package",
    "a'b": "is not the name of a package",
    "a;b": "is not the name of a package",
    "core\n": "is not the name of a package",
    "{core}": "is not the name of a package",
    "--sql": "is not the name of a package",
    "class": "is not the name of a package",
    "heads": "has a special meaning in specifiers",
    "json:../..": "does not name a folder inside json",
    "core:..": "does not name a folder inside core",
    "core:/etc": "does not name a folder inside core",
    "core:versions/../../x": "does not name a folder inside core",
    "core:": "does not name a folder inside core",
    "core:a:b": "does not name a folder inside core",
    "n" * 300: "has 300 characters",
    "colorsys": "is a single module in",
    "only_namespace": "has no __init__.py",
}
ABSENT = ("not_installed", "core.not_there")
COMMANDS = [
    ("db-up",),
    ("db-up", "-s"),
    ("db-up", "-s", "--start", "base"),
    ("db-down",),
    ("db-down", "-s"),
    ("db-current", "-v"),
    ("db-show",),
    ("db-init", "bare"),
    ("db-rev", "core", "more"),
]


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_in_the_configuration(witness: Witness, framework: str, name: str) -> None:
    with witness.untouched(), app(witness, framework, ["core", name]) as each:
        for command in COMMANDS:
            assert HOSTILE[name] in each.error_line(*command), command


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("name", [name for name in HOSTILE if "\0" not in name])
def test_a_hostile_name_in_the_environment(
    witness: Witness, framework: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMPHO_MIGRATION_PACKAGES", f"core,{name},bare")
    with witness.untouched(), app(witness, framework, None) as each:
        if name in ("core\n",):
            assert each.run("db-current").exit_code == 0  # white space around a name in a list is none of it
            return
        words = "is not the name of a package" if name == " " else HOSTILE[name]
        for command in COMMANDS[:3]:
            assert words in each.error_line(*command), command


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("name", ABSENT)
def test_a_package_that_is_not_there_stops_what_is_for_all_and_is_named_by_the_others(
    witness: Witness, framework: str, name: str
) -> None:
    with app(witness, framework, ["core", name]) as each:
        for command in (*COMMANDS[:3], ("db-up", name), ("db-rev", name, "more"), ("db-show", name), ("db-init", name)):
            with witness.untouched(command):
                result = each.run(*command)
            assert result.exit_code == 1
            assert f"Error: There is no package {name}" in result.stderr.splitlines()[-1], command
        for command in (("db-current", "-v"), ("db-show",), ("db-up", "core")):
            result = each.run(*command)
            assert result.exit_code == 0, result.output
            assert command[0] == "db-show" or f"Warning: There is no package {name}" in result.stderr


ENTRIES = {
    "core,,bare": "'' is not the name of a package",
    "core;bare": "is not the name of a package",
    "core bare": "is not the name of a package",
    "core,core:alembic": "lists core twice, as core and core:alembic",
    "core,Core": "which only differ in case",
    "core:migrations,core": "lists core twice",
    "core:nowhere": "but that folder does not exist",
}


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("entries", ENTRIES)
def test_entries_that_contradict_each_other(
    witness: Witness, framework: str, entries: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMPHO_MIGRATION_PACKAGES", entries)
    for packages in (None, entries, entries.split(",")):
        with witness.untouched(), app(witness, framework, packages) as each:
            assert ENTRIES[entries] in each.error_line("db-up")
            assert ENTRIES[entries] in each.error_line("db-show")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("value", [7, {"core": 1}, b"core", ["core", 7], [["core"]], object()])
def test_a_setting_that_is_no_list_of_names(witness: Witness, framework: str, value: object) -> None:
    with witness.untouched(), app(witness, framework, None, AMPHO_MIGRATION_PACKAGES=value) as each:
        line = each.error_line("db-up")
        assert line.startswith("AMPHO_MIGRATION_PACKAGES is ")
        assert line.endswith(". Set it to a list of names, or a comma-separated string.")


def test_the_same_entry_twice_counts_once(witness: Witness, framework: str) -> None:
    with app(witness, framework, "core, core,") as each:
        assert [state.package for state in each.call("current")] == ["core"]


def test_a_folder_that_is_a_link_out_of_its_package(witness: Witness, framework: str) -> None:
    outside = witness.project.folder / "elsewhere"
    outside.mkdir()
    (witness.project.folder / "bare" / "migrations").symlink_to(outside)
    with witness.untouched(), app(witness, framework, ["core", "bare"]) as each:
        for command in COMMANDS:
            assert "leads outside the package" in each.error_line(*command)
    with witness.untouched(), app(witness, framework) as each:
        assert each.error_line("db-init", "bare")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("name", ["", *HOSTILE])
def test_a_hostile_name_as_package_of_db_init_and_db_rev(witness: Witness, framework: str, name: str) -> None:
    words = HOSTILE.get(name, "is not the name of a package")
    with witness.untouched(), app(witness, framework) as each:
        assert words in each.error_line("db-init", "--", name)
        assert words in each.error_line("db-rev", "--", name, "A message") or ":" in name


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("name", ["", *HOSTILE])
def test_a_hostile_name_as_specifier(witness: Witness, framework: str, name: str) -> None:
    with witness.untouched(), app(witness, framework) as each:
        for command in ("db-show", "db-up", "db-down"):
            if name == "heads" and command != "db-down":
                continue
            assert each.error_line(command, "--", name)
            assert each.error_line(command, "--", f"{name}@head" if name != "heads" else "a@b@head")


def test_what_looks_like_an_option_is_one(witness: Witness, framework: str) -> None:
    with witness.untouched(), app(witness, framework) as each:
        for command in ("db-init", "db-rev", "db-show", "db-current"):
            assert "No such option" in each.error_line(command, "--sql", exit_code=2)
        for option in ("--cascad", "--revid", "-9x", "--start"):
            assert "option" in each.error_line("db-down", option, exit_code=2).lower()
        assert "--start requires --sql" in each.error_line("db-up", "--start", "base", exit_code=2)
        assert "Missing argument" in each.error_line("db-merge", exit_code=2)
        assert "No such command" in each.error_line("db-nonsense", exit_code=2)


def test_packages_of_others_are_not_written_to(witness: Witness, framework: str) -> None:
    with app(witness, framework) as each:
        for name in ("json", "alembic", "flask"):
            assert "where Ampho does not write" in each.error_line("db-init", name)
            folder = Path(__import__(name).__file__ or "").parent / "migrations"
            assert not folder.exists()
    with app(witness, framework, ["core", "flask"]) as each, witness.untouched():
        assert "where Ampho does not write" in each.error_line("db-rev", "flask", "more")


def test_what_is_there_already_is_not_overwritten(witness: Witness, framework: str) -> None:
    project = witness.project
    project.write("bare/migrations", "a file")
    with witness.untouched(), app(witness, framework) as each:
        assert "already exists" in each.error_line("db-init", "core")
        assert "already exists" in each.error_line("db-init", "bare")
        assert "There is no package" in each.error_line("db-rev", "nowhere", "more")
        assert "not a configured package" in each.error_line("db-rev", "bare", "more")


# ---- what is typed for a revision ----

MESSAGES = [
    'three """ quotes',
    "three ''' quotes",
    'ends in a quote"',
    "ends in a backslash\\",
    "C:\\users\\new",
    "\\N{BULLET} \\x41 \\u0041",
    "100 % %(here)s %%",
    "braces {0} {message} ${message} ${1/0}",
    "<% raise SystemExit %> <%doc> ## not a comment",
    "# not a comment",
    "two\nlines",
    "a\n\nb",
    "a tab\there",
    "../../outside",
    "/etc/passwd",
    "é ü 漢字 😀",
    "'; DROP TABLE author; --",
    "-s",
    "x" * 1000,
    "\\",
    '"',
    "...",
]
REFUSED_MESSAGES = ["", "  ", "\n", "nul \0", "bell \a", "escape \x1b[31m", "\udcff", "x" * 1001, "\u202e reversed"]


@pytest.mark.usefixtures("unmeasured")
def test_a_message_is_written_as_it_was_typed(witness: Witness, framework: str) -> None:
    versions = witness.project.migrations("core") / "versions"
    with app(witness, framework) as each:
        for message in MESSAGES:
            before = witness.project.files()
            result = each.run("db-rev", "core", "--", message)
            assert result.exit_code == 0, (message, result.output)

            after = witness.project.files()
            (written,) = set(after) - set(before)
            path = witness.project.folder / written
            assert path.parent == versions
            assert {name: after[name] for name in before} == before
            tree = ast.parse(path.read_text("utf-8"))
            assert [type(node).__name__ for node in tree.body if not isinstance(node, (ast.Assign, ast.AnnAssign))] == [
                *("Expr", "Import", "ImportFrom", "FunctionDef", "FunctionDef")
            ] or tree.body, message
            doc = ast.get_docstring(tree, clean=False) or ""
            assert doc.split("\n\nRevision ID:")[0].rstrip("\n") == message.rstrip("\n"), message
            (record,) = each.call("show", path.name.split(".")[0][: len("core_1234567890")])
            assert record.message == " ".join(message.split("\n\n")[0].split())
            path.unlink()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("message", REFUSED_MESSAGES)
def test_a_message_that_cannot_be_shown_is_refused(witness: Witness, framework: str, message: str) -> None:
    with witness.untouched(), app(witness, framework) as each:
        assert "message" in each.error_line("db-rev", "core", "--", message).lower()


REVISION_IDS = [
    *("", " ", "../x", "a/b", "a b", "head", "heads", "base", "core", "core_1", "CORE_2", "x" * 33, "é", "-1", "+1"),
    *("a@b", "a:b", "a+1", "a-1", "a'b", 'a"b', "a\\b", "a\nb", "nul\0", "%s", "{x}", "${x}", ".", "..", ".hidden"),
]


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("rev_id", REVISION_IDS)
def test_an_id_that_cannot_be_one_is_refused(witness: Witness, framework: str, rev_id: str) -> None:
    with witness.untouched(), app(witness, framework) as each:
        assert each.error_line("db-rev", "core", "more", f"--rev-id={rev_id}").startswith("--rev-id")


REVISIONS = [
    *(
        "",
        " ",
        "nope",
        "../x",
        "core@base",
        "core@-1",
        "core@+1",
        "heads",
        "head",
        "-1",
        "base",
        "core_1:core_2",
        "a'b",
    ),
    *("nul\0", "x" * 400, "@", "core@", "@head", "%s", "{x}", "core_", "bare", "--sql", "core_1@core"),
]


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("revision", REVISIONS)
def test_a_head_or_dependency_that_is_none_is_refused(witness: Witness, framework: str, revision: str) -> None:
    with witness.untouched(), app(witness, framework) as each:
        assert each.error_line("db-rev", "core", "more", f"--depends-on={revision}")
        if revision != "base":
            assert each.error_line("db-rev", "core", "more", f"--head={revision}")


def test_a_head_that_has_a_successor_or_another_owner_is_refused(witness: Witness, framework: str) -> None:
    witness.project.revision("bare", "bare_1")
    with witness.untouched(), app(witness, framework, ["core", "bare"]) as each:
        assert "Add --splice" in each.error_line("db-rev", "core", "more", "--head", "core_1")
        assert "belongs to bare" in each.error_line("db-rev", "core", "more", "--head", "bare_1")
        assert "belongs to bare" in each.error_line("db-rev", "core", "more", "--head", "bare")


SPECIFIERS = [
    *("", " ", "../x", "/etc/passwd", "core@", "@head", "@", "core@@head", "core@+0", "core@+99", "core@+99999999999"),
    *("+99", "+0", "head", "core:head", "core_1:core_2", "é\0", "x" * 400, "heads heads", "core_1@core", "core@nope"),
    *("'; DROP TABLE author; --", "%s", "%(here)s", "{0}", "${x}", "core_", "nope", "nope@head", "core_1+1", "a\nb"),
    *("core@heads@head", "\\", "*", "--", "--sql=1x"),
]


@pytest.mark.measured("flask-nope@head", "flask-core_1@core", "flask-+0")
@pytest.mark.parametrize("specifier", SPECIFIERS)
def test_a_specifier_that_means_nothing_is_refused(witness: Witness, framework: str, specifier: str) -> None:
    with witness.untouched(), app(witness, framework) as each:
        for command in (("db-up",), ("db-up", "-s"), ("db-down",), ("db-down", "-s"), ("db-show",)):
            assert each.error_line(*command, "--", specifier)
        assert each.error_line("db-up", "-s", f"--start={specifier}")


# ---- broken histories ----

READING = [("db-up",), ("db-up", "-s"), ("db-down",), ("db-current",), ("db-show",), ("db-rev", "core", "more")]
RUNNING = [("db-up",), ("db-up", "-s")]
VERSIONS = "core/migrations/versions"


def second(**header: Any) -> Callable[[Project], object]:
    return lambda project: project.revision("core", **{"revision": "core_2", "down": "core_1", **header})


def text_of(name: str, text: str) -> Callable[[Project], object]:
    return lambda project: project.write(f"{VERSIONS}/{name}", text)


def bytes_of(name: str, content: bytes) -> Callable[[Project], object]:
    return lambda project: (project.folder / VERSIONS / name).write_bytes(content)


def _bare(project: Project, **header: Any) -> None:
    project.revision("bare", **{"revision": "bare_1", **header})


BROKEN: dict[str, tuple[Callable[[Project], object], list[str], list[tuple[str, ...]]]] = {
    "an id twice in one package": (
        second(message="again"),
        ["Two files have the id core_2", "core_2_again.py", "core_2_by_hand.py"],
        READING,
    ),
    "an id in two packages": (
        lambda project: _bare(project, revision="core_1"),
        ["Two files have the id core_1", "of core and", "of bare"],
        READING,
    ),
    "a label in two packages": (
        lambda project: _bare(project, labels=("core",)),
        ["branch label core", "bare_1 of bare"],
        READING,
    ),
    "a label on two revisions": (
        lambda project: [_bare(project, labels=("x",)), project.revision("bare", "bare_2", "bare_1", labels=("x",))],
        ["branch label x", "bare_2"],
        READING,
    ),
    "a missing parent": (second(revision="core_3", down="gone"), ["core_3 of core", "depends on gone"], READING),
    "a missing dependency": (second(depends_on="core_9"), ["core_2 of core", "depends on core_9"], READING),
    "a dependency on a package that is gone": (
        second(depends_on="gone"),
        ["core_2 of core", "depends on gone"],
        RUNNING,
    ),
    "a circle of two": (
        lambda project: project.revision("core", "core_1", "core_2"),
        ["in a cycle", "core_1", "core_2", "core_1_by_hand.py"],
        READING,
    ),
    "a revision that stands on itself": (second(down="core_2"), ["in a cycle: core_2 -> core_2"], READING),
    "a circle through two packages": (
        lambda project: [_bare(project, depends_on="core_2"), second(depends_on="bare_1")(project)],
        ["in a cycle", "core_2", "bare_1"],
        READING,
    ),
    "a file that cannot be parsed": (
        text_of("core_2_by_hand.py", "revision = 'core_2'\ndown_revision = 'core_1'\ndef upgrade(:\n"),
        ["core_2_by_hand.py of core cannot be parsed: line 3"],
        RUNNING,
    ),
    "merge conflict markers": (
        text_of("core_2_by_hand.py", "<<<<<<< HEAD\nrevision = 'core_2'\n=======\n"),
        ["core_2_by_hand.py of core cannot be parsed: line 1"],
        READING,
    ),
    "an empty file": (text_of("core_3.py", ""), ["core_3.py of core has no revision id"], READING),
    "a file without a parent": (text_of("core_3.py", "revision = 'core_3'"), ["has no down_revision"], READING),
    "a file of another encoding": (bytes_of("core_3.py", b"revision = '\xff\xfe'"), ["core_3.py of core"], READING),
    "a file with a nul": (bytes_of("core_3.py", b"revision = 'core\x003'"), ["core_3.py of core cannot be"], READING),
    "an id of another type": (
        text_of("core_3.py", "revision = 3\ndown_revision = None"),
        ["has the invalid id 3"],
        READING,
    ),
    "an id with a colon": (
        text_of("core_3.py", "revision = 'a:b'\ndown_revision = None"),
        ["has the invalid id 'a:b'"],
        READING,
    ),
    "a parent of another type": (
        text_of("core_3.py", "revision = 'core_3'\ndown_revision = 3"),
        ["core_3.py of core has a down_revision that is neither"],
        READING,
    ),
    "a header that exits": (
        text_of("core_3.py", "import sys\nrevision = str(sys.exit(0))\ndown_revision = 'core_2'"),
        ["core_3.py of core cannot be imported: sys.exit(0) was called"],
        READING,
    ),
    "a link that leads nowhere": (
        lambda project: (project.folder / VERSIONS / "core_3.py").symlink_to("gone.py"),
        ["core_3.py of core cannot be read: FileNotFoundError"],
        READING,
    ),
    "a link to itself": (
        lambda project: (project.folder / VERSIONS / "core_3.py").symlink_to("core_3.py"),
        ["core_3.py of core cannot be read: OSError"],
        READING,
    ),
    "a missing module at the top of a file": (
        lambda project: (project.folder / VERSIONS / "core_2_by_hand.py").write_text(
            "import gone\nrevision = 'core_2'\ndown_revision = 'core_1'\ndef upgrade():\n    pass\n"
        ),
        ["core_2_by_hand.py of core cannot be imported: ModuleNotFoundError: No module named 'gone'"],
        RUNNING,
    ),
    "an applied file that was deleted": (
        lambda project: [path.unlink() for path in (project.folder / VERSIONS).glob("*.py")],
        ["core_1 of core is applied but missing"],
        [("db-down", "base"), ("db-down",)],
    ),
    "migrations that are a file": (
        lambda project: [
            shutil.rmtree(project.migrations("core")),
            project.migrations("core").write_text("a file"),
        ],
        ["core"],
        [("db-rev", "core", "more"), ("db-up", "core"), ("db-show", "core"), ("db-init", "core")],
    ),
}


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("defect", BROKEN)
def test_a_broken_history_is_named_and_nothing_runs(witness: Witness, framework: str, defect: str) -> None:
    breaking, words, commands = BROKEN[defect]
    breaking(witness.project)
    with witness.untouched(), app(witness, framework, ["core", "bare"]) as each:
        for command in commands:
            line = each.error_line(*command)
            for word in words:
                assert word in line, command


def test_what_no_file_explains_is_shown_all_the_same(witness: Witness, framework: str) -> None:
    for path in (witness.project.folder / VERSIONS).glob("*.py"):
        path.unlink()
    with witness.untouched(), app(witness, framework) as each:
        result = each.run("db-current")

        assert result.exit_code == 0
        assert "core  ahead of its files: core_1 is applied but has no file" in result.stdout
        assert each.call("current").unknown == ("core_1",)
        assert each.run("db-show").exit_code == 0


def test_a_folder_among_the_revisions_is_none(witness: Witness, framework: str) -> None:
    (witness.project.folder / VERSIONS / "core_3.py").mkdir()
    with app(witness, framework) as each:
        assert each.run("db-up").exit_code == 0
    assert witness.database.rows() == ["core_2"]


INIS = {
    "no section": "script_location = .",
    "garbage": "[alembic\n\x00\x01",
    "interpolation": "[alembic]\nscript_location = %(nowhere)s\nfile_template = %(nowhere)s",
    "a lone percent": "[alembic]\nscript_location = .\nfile_template = 100%",
    "an option twice": "[alembic]\nscript_location = .\nscript_location = .",
    "a number that is none": "[alembic]\ntruncate_slug_length = many",
    "a time zone that is none": "[alembic]\ntimezone = Mars/Olympus",
    "a name that leads out": "[alembic]\nfile_template = ../../../%%(rev)s",
    "an absolute name": "[alembic]\nfile_template = /tmp/%%(rev)s",
}


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("defect", INIS)
def test_a_broken_ini_file_is_named(witness: Witness, framework: str, defect: str) -> None:
    (witness.project.migrations("core") / "alembic.ini").write_text(INIS[defect], "utf-8")
    with witness.untouched(), app(witness, framework) as each:
        result = each.run("db-rev", "core", "more")
        if defect == "no section":
            return
        assert result.exit_code == 1, result.output
        assert "alembic.ini" in one_error_line(result.stderr)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_an_ini_file_is_utf_8_in_every_locale(project: Project, encoding: str) -> None:
    project.app("flask", ["core"], "sqlite:///app.db")
    project.package("core")
    assert project.run("ampho", "db-init", "core").exit_code == 0
    ini = project.migrations("core") / "alembic.ini"
    ini.write_text(ini.read_text("utf-8").replace("[alembic]", "[alembic]\n# Für Müller"), encoding)
    for command in (("db-rev", "core", "First"), ("db-up",)):
        found = project.run("ampho", *command, env={"LC_ALL": "C"}, fresh=True)
        assert found.stderr == ""


def test_an_ini_file_in_another_encoding_is_named(witness: Witness, framework: str) -> None:
    ini = witness.project.migrations("core") / "alembic.ini"
    ini.write_bytes("[alembic]\n# Für Müller\n".encode("latin-1"))
    with witness.untouched(), app(witness, framework) as each:
        for command in (("db-rev", "core", "more"), ("db-up",)):
            assert "core/migrations/alembic.ini cannot be " in each.error_line(*command)


TEMPLATES = {
    "a syntax error": "revision = ${repr(up_revision)\n",
    "an exception": "${1/0}",
    "an exit": "<% import sys; sys.exit(0) %>",
    "no revision": "# ${message}",
    "another id": "revision = 'core_9'\ndown_revision = None\n",
    "a lost parent": "revision = ${repr(up_revision)}\ndown_revision = None\n",
    "no Python": "revision = (\n",
}


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("defect", TEMPLATES)
def test_a_broken_template_is_named(witness: Witness, framework: str, defect: str) -> None:
    (witness.project.migrations("core") / "script.py.mako").write_text(TEMPLATES[defect], "utf-8")
    with witness.untouched(), app(witness, framework) as each:
        assert "script.py.mako" in each.error_line("db-rev", "core", "more")


ENVIRONMENTS = {
    "a syntax error": "from ampho import environment\ndef f(:\n",
    "an exception": "from ampho import environment\nraise ValueError('no')\n",
    "an exit": "from ampho import environment\nimport sys\nsys.exit(0)\n",
    "no run": "from ampho import environment\n",
    "no configure": "from ampho import environment\nfrom alembic import context\ncontext.run_migrations()\n",
    "a missing module": "from ampho import environment\nimport gone\n",
}


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("defect", ENVIRONMENTS)
def test_a_broken_env_py_is_named(witness: Witness, framework: str, defect: str) -> None:
    (witness.project.migrations("core") / "env.py").write_text(ENVIRONMENTS[defect], "utf-8")
    with witness.untouched(), app(witness, framework) as each:
        for command in (("db-up",), ("db-down",), ("db-current",), ("db-up", "-s"), ("db-up", "-s", "--start=base")):
            assert "core/migrations/env.py" in each.error_line(*command), command
        assert each.run("db-show").exit_code == 0


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("name", ["env.py", "script.py.mako", "alembic.ini", "README"])
def test_what_is_missing_of_a_migrations_folder_is_built_in(witness: Witness, framework: str, name: str) -> None:
    (witness.project.migrations("core") / name).unlink()
    with app(witness, framework) as each:
        assert each.run("db-rev", "core", "more").exit_code == 0
        assert each.run("db-up").exit_code == 0
        assert witness.database.columns("author") == ["id", "name", "title"]


# ---- databases that do not answer ----

NEEDING_THE_DATABASE = [("db-up",), ("db-up", "-s"), ("db-down",), ("db-current",)]


def free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def elsewhere(url: URL) -> dict[str, URL]:
    return {
        "a server that is down": url.set(port=free_port()),
        "a wrong password": url.set(password="wrong"),
        "a user that does not exist": url.set(username="nobody_here"),
        "a database that does not exist": url.set(database="nowhere_at_all"),
    }


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_database_that_cannot_be_reached(
    project: Project, kind: str, make_database: Callable[[str], Database]
) -> None:
    drivers = {
        "sync": ("postgresql+psycopg", "mariadb+pymysql"),
        "async": ("postgresql+asyncpg", "postgresql+psycopg_async", "mariadb+asyncmy"),
    }[kind]
    project.package("core")
    project.revision("core", "core_1", upgrade=AUTHOR)
    for driver in drivers:
        url = make_database(driver).url
        for reason, broken in elsewhere(url).items():
            with facade(project, "flask" if kind == "sync" else "quart", ["core"], broken) as each:
                for command in NEEDING_THE_DATABASE[:2] if reason != "a server that is down" else NEEDING_THE_DATABASE:
                    line = each.error_line(*command)
                    place = rf"{re.escape(broken.drivername)}://\S+:\*\*\*@{broken.host}:{broken.port}/\S+"
                    remedy = r"\. Check SQLALCHEMY_DATABASE_URI, and that the database is up\."
                    assert re.fullmatch(rf"Cannot connect to {place}: \w+: .*\w.*{remedy}", line), (driver, reason)
                    assert "wrong" not in line
                assert each.run("db-show").exit_code == 0
                assert each.run("db-up", "-s", "--start", "base").exit_code == 0


def test_a_database_that_someone_else_writes_to(witness: Witness, framework: str) -> None:
    with closing(sqlite3.connect(witness.database.name, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO author VALUES (2, 'Bo')")
        with app(witness, framework, AMPHO_LOCK_TIMEOUT=0.2) as each:
            assert each.run("db-current").exit_code == 0
            line = each.error_line("db-up", exit_code=3)
        other.execute("ROLLBACK")

    assert "Timed out after 0.2 s waiting for another process that writes to this database." in line
    assert "AMPHO_LOCK_TIMEOUT" in line
    assert witness.database.rows() == ["core_1"]


def test_a_database_that_is_read_only(witness: Witness, framework: str) -> None:
    url = witness.database.url
    read_only = url.set(database=f"file:{url.database}", query={"mode": "ro", "uri": "true"})
    with witness.untouched(), facade(witness.project, framework, ["core"], read_only) as each:
        assert each.run("db-current").exit_code == 0
        line = each.error_line("db-up")

    assert "attempt to write a readonly database" in line
    assert "(give this user write access to the file and its folder)" in line


def test_a_folder_that_does_not_exist(witness: Witness, framework: str) -> None:
    url = witness.database.url.set(database="/nowhere/at/all/app.db")
    with witness.untouched(), facade(witness.project, framework, ["core"], url) as each:
        for command in NEEDING_THE_DATABASE:
            assert "the folder /nowhere/at/all does not exist. Create it" in each.error_line(*command)


def test_a_file_that_is_no_database(witness: Witness, framework: str) -> None:
    witness.project.write("notes.db", "These are notes, and no database at all; so nothing may be written here. " * 20)
    url = witness.database.url.set(database=str(witness.project.folder / "notes.db"))
    with witness.untouched(), facade(witness.project, framework, ["core"], url) as each:
        for command in NEEDING_THE_DATABASE:
            assert "file is not a database" in each.error_line(*command)


MISSING = {
    "flask": ("postgresql+pg8000://ann@127.0.0.1/shop", "No module named 'pg8000'"),
    "quart": ("mssql+aioodbc://ann@127.0.0.1/shop", "No module named 'aioodbc'"),
}


def test_a_driver_that_is_not_installed(project: Project, framework: str) -> None:
    url, words = MISSING[framework]
    project.package("core")
    project.app(framework, ["core"], url)
    before = project.files()

    result = project.run("ampho", "db-up", check=False)

    assert result.exit_code == 1
    line = one_error_line(result.stderr)
    assert "SQLALCHEMY_DATABASE_URI" in line
    assert words in line
    assert "Install it" in line
    assert project.files() == before


# ---- the same in real processes ----

TYPED = {
    "a hostile package": (["ampho", "db-init", "../x"], 1, "is not the name of a package"),
    "a newline in a name": (["ampho", "db-init", "core\n"], 1, "is not the name of a package"),
    "bytes that are no UTF-8": (["ampho", "db-rev", "core", "\udcff"], 1, "cannot be printed"),
    "an option that is none": (["ampho", "db-up", "--nonsense"], 2, "No such option"),
    "a specifier that is none": (["ampho", "db-up", "core@+99"], 1, "There is only 1 revision to apply in core"),
    "flask": (["flask", "ampho", "db-up", "../x"], 1, "is neither a package, a revision id"),
    "an app that is not there": (["ampho", "--app", "nowhere", "db-up"], 1, "nowhere"),
    "an app outside": (["ampho", "--app", "../../etc/passwd", "db-up"], 1, "passwd"),
}


@pytest.mark.parametrize("case", TYPED)
def test_real_processes_say_one_line_too(case: str, project: Project, make_database: Callable[[str], Database]) -> None:
    command, exit_code, words = TYPED[case]
    database = make_database("sqlite+pysqlite")
    project.package("core")
    project.revision("core", "core_1", upgrade=AUTHOR)
    project.app("flask", ["core"], database.url)
    database.run("CREATE TABLE visitor (id INTEGER PRIMARY KEY)", "INSERT INTO visitor VALUES (1)")
    with Witness(project, database).untouched():
        result = project.run(*command, check=False)

    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert words in one_error_line(result.stderr)


BROKEN_FOR_REAL = ["a circle of two", "a missing module at the top of a file", "an applied file that was deleted"]


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("defect", BROKEN_FOR_REAL)
def test_real_processes_name_a_broken_history(witness: Witness, framework: str, defect: str) -> None:
    breaking, words, commands = BROKEN[defect]
    breaking(witness.project)
    witness.project.app(framework, ["core"], witness.database.url)
    with witness.untouched():
        result = witness.project.run(framework, "ampho", *commands[0], check=False)

    assert result.exit_code == 1
    assert result.stdout == ""
    line = one_error_line(result.stderr)
    assert all(word in line for word in words)
