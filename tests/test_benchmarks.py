"""The benchmark suite runs, counts no figure without work, and writes what its documentation says."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
OPERATIONS = ("noop", "fresh", "current", "show", "new", "upgrade", "downgrade")

pytestmark = pytest.mark.usefixtures("unmeasured_processes")


def run(output: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--backends", "sqlite", "--rounds", "1", "--strict"]
    done = subprocess.run(
        [*command, "--output", str(output), *arguments], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(output.read_text("utf-8")) | {"printed": done.stdout}
    return found


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The suite's own modules, which are scripts with short names, imported here and forgotten afterwards."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == BENCHMARKS:
            del sys.modules[name]


def test_every_operation_has_a_figure_in_the_table_the_json_and_the_plot(tmp_path: Path) -> None:
    tools = {"Ampho on Flask", "Alembic"}
    found = run(tmp_path / "out.json", "--sizes", "2x10+deps", "--tools", ",".join(tools), "--no-worker")
    keys = {"made", "machine", "versions", "rounds", "figures", "failures", "worker", "musts", "printed"}
    assert set(found) == keys
    assert found["failures"] == []
    assert found["versions"]["alembic"]
    figures = found["figures"]
    assert {(figure["tool"], figure["operation"]) for figure in figures} == set(product(tools, OPERATIONS))
    for figure in figures:
        assert set(figure) == {"size", "backend", "driver", "tool", "operation", "cpu", "wall", "memory", "samples"}
        assert (figure["size"], figure["backend"], figure["driver"]) == ("2x10+deps", "sqlite", "sqlite")
        assert figure["samples"] == [[figure["cpu"], figure["wall"], figure["memory"]]]
        assert 0.01 < figure["cpu"] < 60
        assert 10 < figure["memory"] < 500
    assert all(set(must) == {"number", "claim", "bound", "value", "passed"} for must in found["musts"])
    assert {must["number"] for must in found["musts"]} == {1, 2, 3, 4, 5, 6}
    assert "2x10+deps, sqlite: full upgrade" in found["printed"]
    chart = ElementTree.fromstring((tmp_path / "out-sqlite.svg").read_text("utf-8"))
    assert len([bar for bar in chart.iter("{http://www.w3.org/2000/svg}rect") if bar.get("class")]) == len(figures)


ONCE = ("--sizes", "2x3", "--tools", "Ampho on Flask,bare")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run with the figures of a worker wrote."""
    output = tmp_path_factory.mktemp("first") / "out.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        run(output, *ONCE, "--only", "noop")
    return output


def test_parts_of_it_add_up(first: Path, tmp_path: Path) -> None:
    shutil.copy(first, tmp_path)
    found = run(tmp_path / "out.json", *ONCE, "--only", "current", "--no-worker", "--add")
    done = [(figure["tool"], figure["operation"]) for figure in found["figures"]]
    assert sorted(done) == [("Ampho on Flask", "current"), ("Ampho on Flask", "noop"), *[("bare app", "noop")] * 2]
    assert set(found["worker"]) == {"flask", "quart", "import", "alone"}


def test_what_ampho_adds_to_a_worker_is_measured(first: Path) -> None:
    found = json.loads(first.read_text("utf-8"))
    assert set(found["worker"]) == {"flask", "quart", "import", "alone"}
    assert all(0 < added["cpu"] < 5 for added in found["worker"].values())
    assert len([must for must in found["musts"] if must["number"] == 5 and must["value"] is not None]) == 5


def test_each_way_to_test_with_a_database_works(tmp_path: Path) -> None:
    few = ("--tests", "3", "--rounds", "1", "--copies", "2", "--revisions", "6", "--tables", "3")
    command = [sys.executable, str(BENCHMARKS / "suites.py"), "--drivers", "sqlite", "--ways", "create_all"]
    done = subprocess.run([*command, "clone", *few], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^\| .+ ms \| +\d.+ ms \| +\d.+ s \|", done.stdout, re.MULTILINE)) == 2
    assert re.search(r"a clone takes .+ ms, the bare copy .+ times as long", done.stdout)


def test_floor_makes_the_same_as_the_tools_on_every_driver(tmp_path: Path) -> None:
    arguments = (
        "--sizes",
        "2x10+deps",
        "--tools",
        "floor with,bare",
        "--only",
        "upgrade,downgrade",
        "--no-worker",
    )
    found = run(tmp_path / "out.json", *arguments)
    done = {(figure["tool"], figure["operation"], figure["driver"]) for figure in found["figures"]}
    drivers = ("sqlite", "aiosqlite")
    floor = product(["floor with a journal", "floor with Alembic"], ["upgrade", "downgrade"], drivers)
    assert done == {*floor, *product(["bare app"], ["noop"], drivers)}


@pytest.mark.parametrize(
    ("tool", "module"),
    [
        ("Flask-Migrate", "flask_migrate"),
        ("Flask-Alembic", "flask_alembic"),
        ("advanced-alchemy", "advanced_alchemy"),
        ("Django", "django"),
    ],
)
def test_each_other_tool_does_its_work(tool: str, module: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("django") is None or importlib.util.find_spec(module) is None:
        pytest.skip("'make bench' installs what Ampho is compared with")
    # The others are the same commands, or print only.
    operations = ("new", "upgrade", "downgrade")
    arguments = ("--sizes", "2x2", "--tools", tool, "--only", ",".join(operations), "--no-worker")
    found = run(tmp_path / "out.json", *arguments)
    assert {figure["operation"] for figure in found["figures"]} == set(operations)


@pytest.mark.drivers("postgresql")
def test_suite_runs_on_postgresql(postgres_server: object, tmp_path: Path) -> None:
    arguments = ("--backends", "postgresql", "--sizes", "2x2", "--tools", "Ampho", "--only", "upgrade")
    found = run(tmp_path / "out.json", *arguments, "--no-worker")
    assert {figure["driver"] for figure in found["figures"]} == {"psycopg", "asyncpg"}
    assert (tmp_path / "out-postgresql.svg").exists()


@pytest.mark.parametrize("operation", OPERATIONS if "AMPHO_BENCHMARKS" in os.environ else ("noop", "upgrade"))
def test_tool_that_does_nothing_has_no_figure(operation: str, modules: Any, tmp_path: Path) -> None:
    tools, measuring, projects = modules("tools"), modules("run"), modules("projects")

    class Idle(tools.PlainAlembic):  # type: ignore[misc]
        name = "idle"

        def command(self, operation: str, project: object, driver: str) -> list[str]:
            return [sys.executable, "-c", "pass"]

    with modules("databases").databases_of("sqlite", tmp_path) as databases:
        project = tools.Project(projects.Shape.parse("2x2"), tmp_path / "project")
        project.write([], "")
        stage = measuring.Stage(project, databases, 60)
        case = measuring.Case(Idle(), "sqlite")
        if operation in ("noop", "fresh"):
            stage.sample(case, operation)  # which is what it should do
            return
        with pytest.raises(tools.NoWorkError):
            stage.sample(case, operation)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit('no such table')", "exit code 1: no such table"),
        ("import time; time.sleep(60)", "not done after 1 s"),
    ],
)
def test_tool_that_fails_says_how(code: str, message: str, modules: Any, tmp_path: Path) -> None:
    tools = modules("tools")
    finished = modules("measure").run([sys.executable, "-c", code], tmp_path, {}, 1)
    with pytest.raises(tools.NoWorkError, match=message):
        tools.checked(finished, 1)


def test_promises_are_judged_by_the_ratios_of_medians(modules: Any) -> None:
    report, musts, measure = modules("report"), modules("musts"), modules("measure")
    results = report.Results(made="", machine={}, versions={}, rounds=3)

    def add(size: str, driver: str, tool: str, operation: str, *cpu: float) -> None:
        samples = [measure.Usage(seconds, seconds, 50) for seconds in cpu]
        results.figures.append(report.Figure.of((size, "sqlite", driver, tool, operation), samples))

    add("50x20", "sqlite", "Ampho on Flask", "noop", 0.4, 0.5, 9.0)
    add("50x20", "sqlite", "Flask-Migrate", "noop", 1.0, 1.25, 9.0)
    add("50x20", "sqlite", "bare app", "noop", 0.3)
    add("50x20", "sqlite", "Ampho on Flask", "upgrade", 1.8)
    add("50x20", "sqlite", "floor", "upgrade", 1.3)
    judged = {must.claim: (must.value, must.passed) for must in musts.judge(results)}
    assert judged["50x20: nothing to do, Ampho on Flask, sqlite, compared with Flask-Migrate"] == (0.4, True)
    assert judged["200x50: nothing to do, Ampho on Flask, sqlite, compared with Flask-Migrate"] == (None, None)
    assert judged["50x20: upgrade, sqlite, without start-up, compared with the floor"] == (1.5, False)
