"""``db-graph``: the history as a picture, from the command line and from both facades."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pyte
import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from screen import spawn

from ampho import Mark
from ampho.cli.graph.lanes import plain

PACKAGES = ["core", "app", "empty"]
TEXT = """\
╷     core  2 applied, 2 pending
●     core_1  Begin
●┄╮   core_2  Write things down that need a good many words, and then <some> & more
○ ┆   core_3  Change
○ ┆   core_4  Change  (head)
┆ ┆ ╷ app  1 applied, 2 pending
┆ ╰┄● app_1   Begin  (depends on core_2)
┆   ○ app_2   Change
╰┄┄┄○ app_3   Change  (head; depends on core_4)
      empty  no revisions

● applied   ○ pending   ┆ is needed by a revision in another package
"""


def write(project: Project) -> None:
    for name in PACKAGES:
        project.package(name)
        (project.migrations(name) / "versions").mkdir(parents=True)
    long = "Write things down that need a good many words, and then <some> & more"
    project.revision("core", "core_1", message="Begin")
    project.revision("core", "core_2", "core_1", message=long)
    project.revision("core", "core_3", "core_2", message="Change")
    project.revision("core", "core_4", "core_3", message="Change")
    project.revision("app", "app_1", depends_on="core_2", message="Begin")
    project.revision("app", "app_2", "app_1", message="Change")
    project.revision("app", "app_3", "app_2", "core_4", message="Change")


@pytest.fixture(params=FRAMEWORKS)
def each(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    """An app whose database has the first revision of ``app``, and what that needs."""
    write(project)
    with facade(project, request.param, PACKAGES, URLS[request.param]) as made:
        made.call("upgrade", "app_1")
        yield made


def shown(each: Facade, *args: str) -> str:
    result = each.run("db-graph", *args)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_in_a_pipe_nothing_is_cut_or_coloured(each: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in tables, also where the environment wants colours in a pipe."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert shown(each, "--full") == TEXT
    assert shown(each) == TEXT
    assert each.run("db-graph").stderr == ""


def test_the_method_returns_what_the_command_draws(each: Facade) -> None:
    assert plain(each.call("graph")) == TEXT
    picture = each.call("graph", "app", database=False)
    assert picture.marks == (Mark.UNKNOWN,)
    assert [node.first for node in picture.nodes if node.is_stub] == ["core_2", "core_4"]


def test_formats(each: Facade) -> None:
    assert shown(each, "--mermaid") == shown(each, "--format", "mermaid")
    assert shown(each, "--mermaid").startswith("flowchart TB\n")
    assert shown(each, "--format", "dot").startswith("digraph ")
    root = ET.fromstring(shown(each, "--format", "svg"))
    assert "core_2  Write things down that need a good many words, and then <some> & more\n(applied)" in [
        title.text for title in root.iter("{http://www.w3.org/2000/svg}title")
    ]


@pytest.mark.parametrize(("name", "begins"), [("a.svg", "<svg"), ("a.gv", "digraph"), ("a.mmd", "flow"), ("a", "╷  ")])
def test_a_file_gets_the_format_that_its_name_says(name: str, begins: str, each: Facade) -> None:
    assert shown(each, "-o", name) == f"Wrote {name}\n"
    assert Path(name).read_text("utf-8").startswith(begins)
    assert shown(each, "-o", name, "--format", "dot") == f"Wrote {name}\n"
    assert Path(name).read_text("utf-8").startswith("digraph")


def test_a_file_stays_as_it_is_where_the_command_fails(each: Facade) -> None:
    Path("a.svg").write_text("before", "utf-8")
    assert "nope" in each.error_line("db-graph", "nope", "-o", "a.svg")
    assert Path("a.svg").read_text("utf-8") == "before"
    assert "no/a.svg" in each.error_line("db-graph", "-o", "no/a.svg")
    assert "mutually exclusive" in each.error_line("db-graph", "--mermaid", "--format", "svg", exit_code=2)
    assert shown(each, "-o", "-") == TEXT
    assert "is a directory" in each.error_line("db-graph", "-o", ".", exit_code=2)
    assert "Unknown file extension in a.png" in each.error_line("db-graph", "-o", "a.png", exit_code=2)
    assert not Path("a.png").exists()
    assert shown(each, "-o", "a.png", "--format", "svg") == "Wrote a.png\n"


def test_packages_with_what_they_touch(each: Facade) -> None:
    assert shown(each, "app").splitlines()[:8] == [
        "╷     core",
        "●     core_2  Write things down that need a good many words, and then <some> & more",
        "┆ ○   core_4  Change  (head)",
        "┆ ┆ ╷ app  1 applied, 2 pending",
        "╰┄┆┄● app_1   Begin  (depends on core_2)",
        "  ┆ ○ app_2   Change",
        "  ╰┄○ app_3   Change  (head; depends on core_4)",
        "",
    ]
    assert shown(each, "empty") == "empty  no revisions\n"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_without_a_database_none_is_needed(framework: str, project: Project) -> None:
    write(project)
    nowhere = URLS[framework].replace("app.db", "no/such/folder/app.db")
    with facade(project, framework, PACKAGES, nowhere) as each:
        assert "Cannot connect" in each.error_line("db-graph") or "unable to open" in each.run("db-graph").stderr
        lines = shown(each, "--no-database").splitlines()
        assert lines[0] == "╷     core  4 revisions"
        assert lines[1] == "•     core_1  Begin"
        assert not {"applied", "pending"} & set(re.findall(r"\w+", "\n".join(lines)))


def test_a_package_that_is_gone_is_drawn_and_may_be_asked_for(each: Facade) -> None:
    each.app.config["AMPHO_MIGRATION_PACKAGES"] = ["core"]
    assert re.search(r"app_1 +\(missing; depends on core_2\)", shown(each))
    assert "(missing" in shown(each, "app")
    assert "Set app.config" in each.error_line("db-graph", "app", "--no-database")


def test_the_picture_after_a_failure_half_way_is_what_the_database_has(each: Facade, project: Project) -> None:
    project.revision("core", "core_4", "core_3", message="Change", upgrade='op.execute("nonsense")')
    each.run("db-up")
    text = shown(each)
    assert "core  3 applied, 1 pending" in text
    assert next(line for line in text.splitlines() if "core_4  " in line).startswith("○")


def test_more_than_mermaid_draws_is_warned_of(project: Project) -> None:
    names = [f"p{number}" for number in range(110)]
    for number, name in enumerate(names):
        project.package(name)
        needed = [f"{other}_1" for other in names[:5]] if number > 5 else None
        project.revision(name, f"{name}_1", depends_on=needed)
    with facade(project, "flask", names, URLS["flask"]) as each:
        result = each.run("db-graph", "--no-database", "--mermaid")
        assert result.exit_code == 0
        assert result.stderr.startswith("Warning: The picture exceeds Mermaid")
        assert each.run("db-graph", "p7", "--no-database", "--mermaid").stderr == ""


def test_where_the_output_is_ascii_so_is_the_picture(project: Project) -> None:
    write(project)
    project.revision("core", "core_5", "core_4", message="Größe")
    project.app("flask", PACKAGES, "sqlite:///app.db", path="wsgi.py", import_name="wsgi")
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    text = project.run("ampho", "db-graph", "core", "--no-database", env=ascii_only).stdout
    assert text.splitlines()[:3] == [
        ".     core  5 revisions",
        "*     core_1  Begin",
        "*-.   core_2  Write things down that need a good many words, and then <some> & more",
    ]
    assert "core_5  Gr\\xf6\\xdfe" in text
    mermaid = project.run("ampho", "db-graph", "core", "--no-database", "--mermaid", env=ascii_only).stdout
    assert '"#8226; core_5 (head)<br/>Gr#246;#223;e"' in mermaid


def test_on_a_terminal_it_is_as_wide_as_that(project: Project) -> None:
    write(project)
    project.app("flask", PACKAGES, "sqlite:///app.db", path="wsgi.py", import_name="wsgi")
    environment = {"TERM": "xterm-256color", "NO_COLOR": "", "COLUMNS": ""}
    before, after = ["--no-color", "db-graph", "--no-database"], ["db-graph", "--no-database", "--no-color"]
    for columns, command in ((50, ["db-graph", "--no-database"]), (200, before), (200, after)):
        child, process = spawn(project, "ampho", *command, env=environment, size=(40, columns))
        written = child.read()
        assert process.wait(30) == 0
        assert ("\x1b[1;34m" in written) == ("--no-color" not in command)
        screen = pyte.Screen(columns, 40)
        pyte.Stream(screen).feed(written)
        lines = [line.rstrip() for line in screen.display]
        assert lines[0] == "╷     core  4 revisions"
        assert lines[2].startswith("•┄╮   core_2  Write things down")
        assert lines[2].endswith("…" if columns < 80 else "& more")
        assert lines[7] == "┆   • app_2   Change"
