"""``db-status``: where a database is, counted."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import _NamedTextIOWrapper
from facade import FRAMEWORKS, URLS, facade
from project import Project
from revisions import graph
from screen import spawn

from ampho import Status
from ampho.database.journal import Entry, Journal, Outcome
from ampho.database.version_rows import Applied
from ampho.errors import PackageNotFoundError, SpecifierError
from ampho.history.graph import Graph
from ampho.history.phases import Phases
from ampho.status.deployment import assess
from ampho.status.summary import DatabaseStatus, database_status

WHOLE = """
    core: core_1
    core: core_2 < core_1
    core: core_3 < core_2
    shop: shop_1 & core_1
    shop: shop_2 < shop_1
    fork: fork_1
    fork: fork_2 < fork_1
    fork: fork_3 < fork_1
    plug: plug_1 & shop_1
    plug: plug_2 < plug_1
"""
ALL = graph(WHOLE)
HERE = graph("\n".join(line for line in WHOLE.splitlines() if "plug" not in line))
NOON = datetime(2026, 1, 27, 12, 0, tzinfo=UTC)


def status_of(graph: Graph, rows: Sequence[str], journal: Journal | None = None, **options: Any) -> DatabaseStatus:
    record = journal or Journal()
    return database_status(graph, Applied.from_rows(graph, rows, record), record, **options)


def journal(*ids: str, of: Graph = ALL, **values: object) -> Journal:
    """What the journal says after these revisions were applied, in this order, a minute each."""
    entries = [
        Entry(
            *(number, rid, of[rid].package, "upgrade", Outcome.DONE, of.parents(rid)),
            finished=NOON + timedelta(minutes=number),
            **values,  # type: ignore[arg-type]
        )
        for number, rid in enumerate(ids)
    ]
    return Journal(lambda: entries)


def numbers(status: DatabaseStatus) -> dict[str, tuple[int, int, int, int]]:
    return {one.package: (one.applied, one.implied, one.pending, one.missing) for one in status}


def marks(status: DatabaseStatus) -> dict[str, str]:
    return {revision.id: revision.mark.value for package in status for revision in package.revisions}


def test_each_package_is_counted() -> None:
    status = status_of(ALL, ["core_2", "shop_1"])
    assert numbers(status) == {"core": (2, 1, 1, 0), "shop": (1, 0, 1, 0), "fork": (0, 0, 3, 0), "plug": (0, 0, 2, 0)}
    assert [package.heads for package in status] == [("core_3",), ("shop_2",), ("fork_2", "fork_3"), ("plug_2",)]
    assert [package.is_in_conflict for package in status] == [False, False, True, False]
    assert (status.pending, status.status) == (7, Status.BEHIND)
    assert all(package.revisions == () for package in status)


def test_implied_is_what_goes_only_with_other_packages() -> None:
    """At whatever distance, and not what stands on its own package alone."""
    status = status_of(ALL, ["core_3", "shop_2", "plug_2", "fork_2"])
    assert {one.package: one.implied for one in status} == {"core": 1, "shop": 1, "fork": 0, "plug": 0}
    assert {one.package: one.implied for one in status_of(ALL, ["core_3"])}["core"] == 0


def test_what_was_applied_last_is_from_the_graph_and_when_from_the_journal() -> None:
    status = status_of(ALL, ["core_2", "fork_2", "fork_3"], journal("core_1", "core_2", "fork_1", "fork_3"))
    assert (status["core"].last, status["core"].when) == ("core_2", NOON + timedelta(minutes=1))
    assert (status["fork"].last, status["fork"].when) == (None, None)  # of two, and one has no entry
    assert (status["shop"].last, status["shop"].when) == (None, None)
    status = status_of(ALL, ["fork_2", "fork_3"], journal("fork_1", "fork_3", "fork_2"))
    assert (status["fork"].last, status["fork"].when) == ("fork_2", NOON + timedelta(minutes=2))
    assert status_of(ALL, ["core_2"])["core"].last == "core_2"
    assert status_of(ALL, ["core_2"])["core"].when is None
    with pytest.raises(KeyError):
        status["nope"]


def test_a_package_that_is_gone_has_a_row_of_its_own() -> None:
    status = status_of(HERE, ["plug_2"], journal("core_1", "shop_1", "plug_1", "plug_2"), all=True)
    assert numbers(status)["plug"] == (0, 0, 0, 2)
    assert numbers(status)["shop"] == (1, 1, 1, 0)
    assert (status["plug"].heads, status["plug"].last) == ((), "plug_2")
    assert marks(status)["plug_1"] == "missing"
    assert status.status is Status.MISSING
    (unknown,) = [one for one in status_of(HERE, ["who_knows"], all=True) if one.missing]
    assert (unknown.package, unknown.missing, unknown.last) == ("", 1, "who_knows")
    assert marks(status_of(HERE, ["who_knows"], all=True))["core_1"] == "uncertain"


def test_each_revision_has_its_mark_if_that_is_asked_for() -> None:
    known = [*journal("core_1", "core_2", "shop_1", checksum="edited").entries]
    known[0] = Entry(0, "core_1", "core", "upgrade", Outcome.DONE)
    half = Entry(9, "shop_2", "shop", "upgrade", Outcome.PARTIAL)
    status = status_of(ALL, ["core_2", "shop_1"], Journal(lambda: [*known, half]), all=True)
    shown = marks(status)
    assert {rid: shown[rid] for rid in ("core_1", "core_2", "core_3", "shop_1", "shop_2")} == {
        "core_1": "applied",
        "core_2": "edited",
        "core_3": "pending",
        "shop_1": "edited",
        "shop_2": "unfinished",
    }
    revision = status["core"].revisions[1]
    assert (revision.package, revision.message, revision.is_head) == ("core", "make core_2", False)
    assert revision.when == NOON + timedelta(minutes=1)
    assert status["core"].revisions[2].when is None
    assert status["core"].revisions[2].is_head
    assert status.edited == ("core_2", "shop_1")
    assert status.status is Status.INTERRUPTED


def test_what_was_edited_and_what_has_diverged_is_looked_for_once() -> None:
    """Both look at all that is applied, so the marks of ``--all`` take what was found of them already."""
    looked: list[str] = []

    def called(frame: Any, kind: str, argument: object) -> None:
        if kind == "call" and frame.f_code in (Applied.edited.__code__, Applied.diverged.__code__):
            looked.append(frame.f_code.co_name)

    sys.setprofile(called)
    try:
        status_of(ALL, ["core_2", "shop_1"], journal("core_1", checksum="edited"), all=True)
    finally:
        sys.setprofile(None)
    assert sorted(looked) == ["diverged", "edited"]


def test_it_may_be_about_some_packages_only() -> None:
    known = journal("core_1", "shop_1", "plug_1", checksum="edited")
    status = status_of(HERE, ["plug_1"], known, packages=["core", "fork", "core"])
    assert numbers(status) == {"core": (1, 1, 2, 0), "fork": (0, 0, 3, 0)}
    assert status.edited == ("core_1",)
    assert status.missing == ()
    assert status_of(HERE, ["plug_1"], known, packages=["plug"]).missing[0].revisions == ("plug_1",)
    with pytest.raises(SpecifierError, match=r"Did you mean core\?"):
        status_of(HERE, [], packages=["cor"])


GONE_BELOW = Journal(lambda: [Entry(0, "core_3", "core", "upgrade", Outcome.DONE, ())])
CASES: dict[str, tuple[Graph, Sequence[str], Journal, Status]] = {
    "behind": (ALL, ["core_2"], Journal(), Status.BEHIND),
    "up to date": (graph("a: a_1"), ["a_1"], Journal(), Status.UP_TO_DATE),
    "corrupt": (ALL, ["head", "core_1"], Journal(), Status.CORRUPT),
    "repeated": (ALL, ["core_1", "core_1"], Journal(), Status.CORRUPT),
    "missing": (HERE, ["plug_1"], Journal(), Status.MISSING),
    "ahead": (graph("core: core_1"), ["core_2"], Journal(), Status.AHEAD),
    "edited": (ALL, ["core_1"], journal("core_1", checksum="other"), Status.EDITED),
    "diverged": (ALL, ["core_3"], GONE_BELOW, Status.DIVERGED),
    "interrupted": (
        *(ALL, [], Journal(lambda: [Entry(0, "core_1", "core", "upgrade", Outcome.STARTED)])),
        Status.INTERRUPTED,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_worst_is_what_check_deploy_finds(case: str) -> None:
    of, rows, known, expected = CASES[case]
    assert assess(Applied.from_rows(of, rows, known), known, Phases({})).status is expected
    assert status_of(of, rows, known).status is expected


# ---- as it is shown ----


def write(project: Project) -> list[str]:
    for package in ("accounts", "fork"):
        project.package(package)
    project.revision("accounts", "accounts_1700000000", message="Make customers")
    project.revision("accounts", "accounts_1700000100", "accounts_1700000000", message="Index customers")
    project.revision("fork", "fork_1700000001", None, "accounts_1700000000", message="Make forks")
    project.revision("fork", "fork_1700000002", "fork_1700000001", message="Make knives")
    project.revision("fork", "fork_1700000003", "fork_1700000001", message="Make spoons")
    return ["accounts", "fork"]


def without_dates(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", lambda found: "#" * len(found[0]), text)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_in_a_pipe_it_is_one_line_per_package(project: Project, framework: str) -> None:
    with facade(project, framework, write(project), URLS[framework]) as each:
        each.call("upgrade", "fork_1700000001")
        result = each.run("db-status")
        assert result.exit_code == 0
        lines = without_dates(result.stdout).splitlines()
        assert all(line == line.rstrip() for line in lines)
        assert [re.split("  +", line) for line in lines] == [
            ["Package", "Applied", "Implied", "Pending", "Missing", "Heads", "Last applied", "When (UTC)"],
            ["accounts", "1", "1", "1", "0", "accounts_1700000100", "accounts_1700000000", "#" * 19],
            [
                *("fork", "1", "0", "2", "0", "fork_1700000002, fork_1700000003 (conflict)"),
                *("fork_1700000001", "#" * 19),
            ],
            [""],
            ["Pending: 3 revisions of 2 packages."],
        ]
        assert without_dates(each.run("db-status", "fork", "--all").stdout).splitlines() == [
            "fork  1 applied, 2 pending",
            " [X] fork_1700000001  ###################  Make forks",
            " [ ] fork_1700000002                       Make knives  (head)",
            " [ ] fork_1700000003                       Make spoons  (head)",
            "",
            "Pending: 2 revisions of 1 package.",
        ]
        assert "Did you mean accounts?" in each.error_line("db-status", "acounts")
        assert each.call("status", "fork")["fork"].pending == 2


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_check_gives_the_exit_codes_of_db_check_deploy(project: Project, framework: str) -> None:
    with facade(project, framework, write(project), URLS[framework]) as each:
        assert each.run("db-status", "--check").exit_code == 10
        each.call("upgrade")
        done = each.run("db-status", "--check")
        assert done.exit_code == 0
        assert done.stdout.endswith("\nThe database is up to date with the code.\n")
        path = project.folder / "accounts/migrations/versions/accounts_1700000000_Make_customers.py"
        path.write_text(path.read_text("utf-8") + "# edited\n", "utf-8")
        done = each.run("db-status", "--check")
        assert done.exit_code == each.run("db-check", "--deploy").exit_code == 11
        remedy = "if the edit makes no difference, accept it with 'ampho db-stamp accounts_1700000100'"
        for command in (["db-status"], ["db-status", "--all"], ["db-current", "-v"]):
            told = each.run(*command).stdout
            assert f"\naccounts_1700000000 was edited after it ran; {remedy}.\n" in told, command
        assert remedy in each.run("db-check", "--deploy").stdout
        assert each.run("db-status", "--check", "fork").exit_code == 0
        assert "(edited)" in each.run("db-status", "--all").stdout
        path.unlink()
        (project.folder / "accounts/migrations/versions/accounts_1700000100_Index_customers.py").unlink()
        for path in (project.folder / "fork/migrations/versions").glob("fork_*"):
            path.unlink()
        each.app.config["AMPHO_MIGRATION_PACKAGES"] = ["accounts"]
        done = each.run("db-status", "--all", "--check")
        assert done.exit_code == 13
        assert " [!] fork_1700000001" in done.stdout
        told = each.run("db-current").stdout.splitlines()
        assert all(line in done.stdout for line in told if "missing:" in line or "ahead of" in line)
        assert any("missing:" in line for line in told)
        assert "1 missing" not in each.run("db-status").stdout


def test_a_listed_package_without_folder_is_an_error_where_it_is_named(project: Project) -> None:
    with facade(project, "flask", ["gone", *write(project)], URLS["flask"]) as each:
        assert "gone" not in each.run("db-status").stdout
        with pytest.raises(PackageNotFoundError):
            each.call("status", "gone")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_package_without_revisions_is_told_what_comes_next(project: Project, framework: str) -> None:
    """It is told what comes next: a folder where there is none, else a revision. Nothing is wrong with the database."""
    for name in ("blog", "new"):
        project.package(name)
    (project.migrations("blog") / "versions").mkdir(parents=True)
    empty = "{0} has no revisions yet: {1}.\n"
    said = [
        empty.format("blog", "write the first with 'ampho db-rev blog MESSAGE'"),
        empty.format("new", "create its migrations folder with 'ampho db-init new'"),
    ]
    with facade(project, framework, ["blog", "new"], URLS[framework]) as each:
        for command in (["db-status"], ["db-status", "--all"]):
            shown = each.run(*command).stdout
            assert shown.endswith("".join(said)), command
            assert "up to date" not in shown
        assert "blog  no revisions yet\n" in shown
        assert each.call("status").status is Status.UP_TO_DATE
    with facade(project, framework, ["blog", *write(project)], URLS[framework]) as each:
        each.call("upgrade")
        shown = each.run("db-status").stdout
        assert said[0] in shown
        assert shown.endswith("up to date with the code.\n")
        assert [one.is_empty for one in each.call("status")] == [True, False, False]


def test_a_package_that_is_installed_gets_its_first_revision_elsewhere(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.package("site-packages.plug")
    monkeypatch.syspath_prepend(project.folder / "site-packages")
    with facade(project, "flask", ["plug"], URLS["flask"]) as each:
        assert "it is installed, so its own project has to write them" in each.run("db-status").stdout


def test_a_package_that_only_a_dependency_names_has_no_status(project: Project) -> None:
    """Of it nothing is here and nothing is applied, so it would be told to be up to date."""
    project.package("blog")
    project.revision("blog", "blog_1", None, "nowhere_7")
    with facade(project, "flask", ["blog"], URLS["flask"]) as each:
        assert "nowhere" in each.error_line("db-status", "nowhere")
        assert "nowhere_7" in each.run("db-graph", "nowhere").stdout


@pytest.mark.parametrize("width", [80, 200])
def test_a_terminal_shows_all_of_each_id_at_its_width(
    project: Project, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"a_package_with_number_{number}" for number in range(50)]
    for name in names:
        project.package(name)
        project.revision(name, f"pkg_{name[-2:]}_1700000000")
        project.revision(name, f"pkg_{name[-2:]}_1700000001", f"pkg_{name[-2:]}_1700000000")
    with facade(project, "flask", names, URLS["flask"]) as each:
        each.call("upgrade", f"{names[7]}@+1")
        monkeypatch.setattr(_NamedTextIOWrapper, "isatty", lambda stream: True)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", str(width))
        shown = each.run("db-status").stdout
        assert "\x1b[" in shown
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        assert max(map(len, plain.splitlines())) <= width
        for name in names:
            assert f"\n{name} " in plain
            assert f"pkg_{name[-2:]}_1700000001" in plain
        assert len(plain.splitlines()) < (110 if width == 80 else 56)
        monkeypatch.setenv("NO_COLOR", "1")
        assert not re.search(r"\x1b\[[0-9;]*3\d", each.run("db-status").stdout)


@pytest.mark.parametrize("width", [80, 200])
def test_a_real_terminal(project: Project, width: int) -> None:
    project.app("flask", write(project), URLS["flask"])
    project.run("ampho", "db-up", "accounts")
    environment = {"TERM": "xterm-256color", "NO_COLOR": "1", "COLUMNS": ""}
    child, process = spawn(project, "ampho", "db-status", env=environment, size=(50, width))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", child.read()).replace("\r\n", "\n")
    assert process.wait(30) == 0
    lines = [line.rstrip() for line in without_dates(shown).splitlines()]
    row = next(line for line in lines if line.startswith("accounts"))
    assert ("Heads" in shown) is (width == 200)
    assert row.split() == (
        ["accounts", "2", "0", "0", "accounts_1700000100", *["#" * 16]]
        if width == 80
        else ["accounts", "2", "0", "0", "0", "accounts_1700000100", "accounts_1700000100", "#" * 19]
    )
    assert max(map(len, lines[lines.index(row) - 1 :])) <= width


def test_a_package_without_a_folder_is_reported_once(project: Project) -> None:
    project.package("blog")
    with facade(project, "flask", ["blog"], URLS["flask"]) as each:
        output = each.run("db-status").output

    assert output.count("migrations folder") == 1
    assert "blog has no revisions yet: create its migrations folder with 'ampho db-init blog'." in output


@pytest.mark.parametrize("command", ["db-status", "db-graph", "db-check --deploy"])
def test_a_pending_revision_with_a_syntax_error_is_reported(project: Project, command: str) -> None:
    project.package("blog")
    project.revision("blog", "blog_1")
    path = project.revision("blog", "blog_2", "blog_1", upgrade="op.execute('x'")
    with facade(project, "flask", ["blog"], URLS["flask"]) as each:
        result = each.run(*command.split())

    assert result.exit_code == (10 if "deploy" in command else 0)
    assert f"{path.name} of blog cannot be parsed" in result.stderr
